/* test_action_memory.c: actions of scoring threads while one allocation after another fails.
 *
 * The linker puts the functions below in the place of malloc, calloc, realloc and aligned_alloc (see the Makefile), for
 * our own code. The first, the second, the third ... allocation of a request fails, alone or with all that follow.
 * Whatever fails, behaviours are appended if and only if the answer is a success.
 */
#include "proto/json_decode.h"
#include "server/base/clock.h"
#include "server/scoring/worker_pool.h"
#include "tests/unit/small_model.h"

#include <semaphore.h>

#define HISTORY    "{'item': ['i0', 'i3'], 'dwell': [1, 2.5], 'shop': [0, 1, 2], 'page': [2, 1, 0]}"
#define CANDIDATES "{'item': ['i4', '\\u00e9\\u0001'], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}"
#define BY_TOKEN   "'user_id': 'u', 'history_token': '%s', "
#define SHARED     "'user': {'country': 1, 'age': 0.5}, 'context': {'month': -7, 'weather': [1, 0.5, -1]}"

/* ---- the failing allocator */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);

static _Atomic size_t allocations;
static _Atomic bool counting;
static size_t first_failing, last_failing; /* of allocations, from 1 on */

static bool fails(void) {
    if (!counting)
        return false;
    size_t number = ++allocations;
    return number >= first_failing && number <= last_failing;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return fails() ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size) {
    return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

/* ---- one action */

static char directory[64];
static struct served_model *served;
static struct user_cache *cache;
static struct scoring_counts counts;
static sem_t woken;

static void wake(void *context) {
    (void)context;
    sem_post(&woken);
}

/* A pool of its own, whose thread has no memory yet. */
static struct worker_pool *start(void) {
    const struct worker_pool_options options = {
        .served = served_model_hold(served),
        .limits = {.max_candidates = 100, .max_history = 100, .memory = 1 << 24, .explain_held = true},
        .threads = 1,
        .queue = 4,
        .deadline = clock_from_seconds(60),
        .cache = cache,
        .counts = &counts,
        .wake = wake,
    };
    struct worker_pool *pool = worker_pool_start(&options);
    assert_non_null(pool);
    return pool;
}

static void run(struct worker_pool *pool, struct job *job) {
    job->submitted = clock_now();
    assert_true(worker_pool_submit(pool, job));
    sem_wait(&woken);
    assert_ptr_equal(worker_pool_take_done(pool), job);
}

static struct job make_job(bool scores, const char *text, char *quoted) {
    small_quotes(text, quoted);
    struct job job = {.body = quoted, .size = strlen(quoted), .request_id = "test", .socket = -1};
    if (!scores)
        job.user = (struct user_key){"u", 1};
    return job;
}

static struct user_token held_token(void) {
    struct arena arena;
    struct user_copy copy = {0};
    arena_init(&arena, 0, 0);
    enum user_answer held = user_cache_peek(cache, (struct user_key){"u", 1}, 1, &arena, &copy);
    arena_free(&arena);
    assert_int_equal(held, USER_HELD);
    return copy.token;
}

static void give_history(void) {
    char quoted[1024];
    struct job job = make_job(false, "{'history': " HISTORY "}", quoted);
    struct worker_pool *pool = start();
    run(pool, &job);
    assert_int_equal(job.problem, PROBLEM_NONE);
    free(job.reply);
    worker_pool_stop(pool);
    worker_pool_free(pool);
}

/* False when no allocation was left to fail. */
static bool try_with_failures(bool scores, const char *text, size_t first, size_t last) {
    char whole[4096], quoted[4096], token[USER_TOKEN_TEXT + 1] = "";
    give_history();
    struct user_token before = held_token();
    user_token_write(&before, token);
    snprintf(whole, sizeof whole, text, token);
    struct job job = make_job(scores, whole, quoted);
    struct worker_pool *pool = start();
    first_failing = first;
    last_failing = last;
    allocations = 0;
    counting = true;
    run(pool, &job);
    counting = false;
    struct user_token after = held_token();
    bool applied = !user_token_equal(&before, &after), succeeded = job.problem == PROBLEM_NONE;
    if (applied != succeeded)
        fail_msg("%s: allocation %zu to %zu fails: applied %d, problem %d", text, first, last, applied, job.problem);
    assert_true(!succeeded || (job.reply != NULL && job.reply_size > 0));
    free(job.reply);
    worker_pool_stop(pool);
    worker_pool_free(pool);
    return allocations >= first;
}

static void try_all(bool scores, const char *text) {
    size_t first = 1;
    while (try_with_failures(scores, text, first, SIZE_MAX))
        first++;
    assert_true(first > 2);
    first = 1;
    while (try_with_failures(scores, text, first, first))
        first++;
}

static void an_append_is_applied_if_it_is_answered(void **state) {
    (void)state;
    try_all(false, "{'history_append': " HISTORY "}");
    try_all(true, "{" BY_TOKEN SHARED ", 'history_append': " HISTORY ", 'candidates': " CANDIDATES "}");
    try_all(true,
            "{" BY_TOKEN "'explain': true, " SHARED ", 'history_append': " HISTORY ", 'candidates': " CANDIDATES "}");
}

static void a_whole_history_is_taken_if_it_is_answered(void **state) {
    (void)state;
    try_all(false, "{'history': {'item': ['i1'], 'dwell': [1], 'shop': [0], 'page': [2]}}");
}

static int open_model(void **state) {
    (void)state;
    struct dien_error error;
    json_decode_init();
    small_make(directory);
    struct dien_model *model = dien_open(directory, &error);
    served = model != NULL ? served_model_new(model, 1) : NULL;
    cache = user_cache_new(1 << 21, 0);
    sem_init(&woken, 0, 0);
    if (served != NULL)
        served->version = 1;
    return served != NULL && cache != NULL ? 0 : -1;
}

static int close_model(void **state) {
    (void)state;
    user_cache_free(cache);
    served_model_release(served);
    small_remove(directory);
    sem_destroy(&woken);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_append_is_applied_if_it_is_answered),
        cmocka_unit_test(a_whole_history_is_taken_if_it_is_answered),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
