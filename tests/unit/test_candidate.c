/* test_candidate.c: the worker pool with a candidate: its users, shadows of other requests, and changes under load. */
#include "server/scoring/worker_pool.h"

#include "proto/json_decode.h"
#include "server/base/clock.h"

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS_MOST = 3, JOBS = 300, BODY = 512, WAIT_SECONDS = 60 };

static const char history[] = "\"history\": {\"item\": [\"A13\", \"B4\"]},";

static struct served_model *live, *candidate;
static struct scoring_counts counts;
static struct comparison comparison;
static struct user_cache *cache;
static struct worker_pool *pool;
static struct rollout rollout;
static sem_t woken;
static struct job jobs[JOBS];
static char bodies[JOBS][BODY], ids[JOBS][32];

static void wake(void *context) {
    (void)context;
    sem_post(&woken);
}

static struct served_model *open_model(uint64_t version, const char *tag) {
    struct dien_error error;
    struct dien_model *model = dien_open("model/demo", &error);
    struct served_model *served = model != NULL ? served_model_new(model, THREADS_MOST) : NULL;
    if (served == NULL)
        abort();
    served->version = version;
    snprintf(served->tag, sizeof served->tag, "%s", tag);
    return served;
}

static int open_models(void **state) {
    (void)state;
    json_decode_init();
    live = open_model(1, "live");
    candidate = open_model(2, "candidate");
    comparison_init(&comparison);
    return 0;
}

static int close_models(void **state) {
    (void)state;
    served_model_release(live);
    served_model_release(candidate);
    comparison_free(&comparison);
    return 0;
}

static void serve(struct served_model *other, double canary, double shadow) {
    rollout = (struct rollout){.candidate = other,
                               .shares = {.canary = canary, .shadow = shadow},
                               .key = 7,
                               .round = comparison_begin(&comparison)};
    worker_pool_serve(pool, live, &rollout);
}

static void start(size_t threads, size_t shadow_buffer) {
    memset(&counts, 0, sizeof counts);
    sem_init(&woken, 0, 0);
    cache = user_cache_new(USER_CACHE_MIN_BYTES, 0);
    user_cache_serve(cache, 1, 2);
    const struct worker_pool_options options = {
        .served = served_model_hold(live),
        .limits = {.max_candidates = 100, .max_history = 100, .max_body = BODY, .memory = 1 << 24},
        .cache = cache,
        .threads = threads,
        .queue = JOBS,
        .deadline = clock_from_seconds(WAIT_SECONDS),
        .counts = &counts,
        .comparison = &comparison,
        .shadow_buffer = shadow_buffer,
        .wake = wake,
    };
    pool = worker_pool_start(&options);
    assert_non_null(pool);
}

static void finish(void) {
    worker_pool_stop(pool);
    worker_pool_free(pool);
    user_cache_free(cache);
    sem_destroy(&woken);
    assert_int_equal(live->references, 1);
    assert_int_equal(candidate->references, 1);
}

static void submit(size_t i, bool has_user, const char *middle) {
    char user[64] = "";
    snprintf(ids[i], sizeof ids[i], "%zu", i);
    if (has_user)
        snprintf(user, sizeof user, "\"user_id\": \"%s\",", ids[i]);
    snprintf(bodies[i], BODY,
             "{%s \"user\": {\"country\": 1}, \"context\": {\"month\": 4}, %s"
             " \"candidates\": {\"item\": [\"A1\", \"C5\", \"B2\", \"A7\"]}}",
             user, middle);
    jobs[i] = (struct job){
        .body = bodies[i], .size = strlen(bodies[i]), .request_id = ids[i], .submitted = clock_now(), .socket = -1};
    assert_true(worker_pool_submit(pool, &jobs[i]));
}

static void collect(size_t count) {
    for (size_t got = 0; got < count;) {
        sem_wait(&woken);
        for (struct job *job = worker_pool_take_done(pool), *next; job != NULL; job = next, got++) {
            next = job->next;
            assert_int_equal(job->problem, PROBLEM_NONE);
            free(job->reply);
        }
    }
}

static void run(bool has_user, const char *middle) {
    for (size_t i = 0; i < JOBS; i++)
        submit(i, has_user, middle);
    collect(JOBS);
}

static struct comparison_counts read_counts(void) {
    struct comparison_counts read;
    comparison_read(&comparison, &read);
    return read;
}

/* Waits until each of so many requests has been a shadow, or was given up. */
static struct comparison_counts wait_for_shadows(uint64_t all) {
    uint64_t began = clock_now(), ended = 0;
    while (ended < all && clock_seconds(clock_now() - began) < WAIT_SECONDS) {
        struct comparison_counts read = read_counts();
        ended = 0;
        for (size_t i = 0; i < SHADOW_ENDS; i++)
            ended += read.shadows[i];
        sched_yield();
    }
    assert_int_equal(ended, all);
    return read_counts();
}

/* ---- a share of users */

static void assert_sides(double share) {
    size_t canary = 0;
    for (size_t i = 0; i < JOBS; i++) {
        bool is_canary = rollout_place(7, ids[i], strlen(ids[i])) < share;
        assert_string_equal(jobs[i].model_tag, is_canary ? "candidate" : "live");
        canary += is_canary;
    }
    assert_true(canary > 0 && canary < JOBS);
    assert_int_equal(read_counts().canary_requests, canary);
    assert_int_equal(read_counts().canary_rescued, 0);
}

static void a_user_stays_on_its_side(void **state) {
    (void)state;
    start(2, 0);
    serve(candidate, 0.3, 0);
    run(true, history);
    assert_sides(0.3);
    serve(candidate, 0.3, 0);
    run(true, history);
    assert_sides(0.3);
    for (size_t i = 0; i < JOBS; i++) /* by the model that computed it */
        assert_string_equal(jobs[i].summary.user_state, "cached");
    serve(NULL, 0, 0);
    run(true, history);
    for (size_t i = 0; i < JOBS; i++) {
        bool was_canary = rollout_place(7, ids[i], strlen(ids[i])) < 0.3;
        assert_string_equal(jobs[i].model_tag, "live");
        assert_string_equal(jobs[i].summary.user_state, was_canary ? "computed" : "cached");
    }
    finish();
}

static void a_request_without_a_user_goes_by_its_id(void **state) {
    (void)state;
    start(2, 0);
    serve(candidate, 0.6, 0);
    run(false, history);
    assert_sides(0.6);
    struct comparison_counts read = read_counts();
    uint64_t timed[COMPARED] = {0};
    for (size_t m = 0; m < COMPARED; m++)
        for (size_t i = 0; i < COMPARISON_TIME_STEPS; i++)
            timed[m] += read.time_steps[m][i];
    assert_int_equal(timed[COMPARED_CANDIDATE], read.canary_requests);
    assert_int_equal(timed[COMPARED_LIVE], JOBS - read.canary_requests);
    finish();
}

/* ---- shadows */

static void a_shadow_of_one_model_differs_by_nothing(void **state) {
    (void)state;
    for (size_t threads = 1; threads <= THREADS_MOST; threads++) {
        start(threads, 1 << 20);
        serve(candidate, 0, 1);
        uint64_t compared = 0;
        for (size_t i = 0; i < JOBS / 10; i++) {
            submit(i, true, history);
            collect(1);
            struct comparison_counts read = wait_for_shadows(i + 1);
            assert_string_equal(jobs[i].model_tag, "live");
            compared = read.shadows[SHADOW_COMPARED];
            assert_int_equal(read.requests, compared);
            assert_int_equal(read.differences[0], 4 * compared);
            assert_true(read.difference_sum == 0 && read.correlation_sum == (double)compared);
            assert_true(read.overlap_sum[0] == (double)compared && read.overlap_sum[2] == (double)compared);
            assert_int_equal(read.canary_requests, 0);
        }
        assert_true(compared > 0);
        struct user_cache_counts held;
        user_cache_count(cache, &held);
        assert_int_equal(held.entries, JOBS / 10);
        run(true, history); /* at once: most are given up, and each is answered */
        struct comparison_counts read = wait_for_shadows(JOBS / 10 + JOBS);
        assert_int_equal(read.differences[0], 4 * read.shadows[SHADOW_COMPARED]);
        for (size_t i = 0; i < JOBS; i++) /* by the live model, where it had computed it */
            assert_string_equal(jobs[i].summary.user_state, i < JOBS / 10 ? "cached" : "computed");
        finish();
    }
}

static void a_state_has_no_ids_for_a_shadow(void **state) {
    (void)state;
    start(1, 1 << 20);
    serve(candidate, 0, 0);
    run(true, history);
    serve(candidate, 0, 1);
    run(true, "");
    assert_int_equal(wait_for_shadows(JOBS).shadows[SHADOW_NO_HISTORY], JOBS);
    finish();
}

static void a_user_whom_nobody_knows_has_a_shadow(void **state) {
    (void)state;
    start(1, 1 << 20);
    serve(candidate, 0, 1);
    submit(0, true, "");
    collect(1);
    assert_string_equal(jobs[0].summary.user_state, "absent");
    assert_int_equal(wait_for_shadows(1).shadows[SHADOW_COMPARED], 1);
    finish();
}

static void without_room_there_are_no_shadows(void **state) {
    (void)state;
    start(1, 1000);
    serve(candidate, 0, 1);
    run(true, history);
    assert_int_equal(wait_for_shadows(JOBS).shadows[SHADOW_BUSY], JOBS);
    finish();
}

static void a_sample_is_a_share(void **state) {
    (void)state;
    uint64_t ended = 0;
    start(1, 1000);
    serve(candidate, 0, 0.5);
    run(true, history);
    struct comparison_counts read = read_counts();
    for (size_t i = 0; i < SHADOW_ENDS; i++)
        ended += read.shadows[i];
    assert_true(ended > JOBS / 3 && ended < JOBS - JOBS / 3);
    finish();
}

static void shadows_end_with_the_pool(void **state) {
    (void)state;
    start(1, 1 << 20);
    serve(candidate, 0, 1);
    for (size_t i = 0; i < JOBS; i++)
        submit(i, true, history);
    worker_pool_stop(pool);
    for (struct job *job = worker_pool_take_done(pool); job != NULL; job = job->next)
        free(job->reply);
    finish();
}

/* ---- changes */

static _Atomic bool ending;

/* What reloads, candidates, promotions and drops do to the pool, as fast as they can. */
static void *change(void *argument) {
    for (size_t i = 0; !ending; i++) {
        struct served_model *other = i % 3 == 0 ? NULL : candidate;
        struct rollout next = {.candidate = other,
                               .shares = {.canary = 0.25 * (double)(i % 5), .shadow = 0.5},
                               .key = i / 7,
                               .round = comparison_begin(&comparison)};
        worker_pool_serve(pool, i % 4 == 1 ? candidate : live, &next);
        sched_yield();
    }
    return argument;
}

static void models_change_under_load(void **state) {
    (void)state;
    pthread_t thread;
    start(THREADS_MOST, 1 << 20);
    ending = false;
    assert_int_equal(pthread_create(&thread, NULL, change, NULL), 0);
    for (size_t turn = 0; turn < 4; turn++) {
        run(true, history);
        for (size_t i = 0; i < JOBS; i++)
            assert_true(strcmp(jobs[i].model_tag, "live") == 0 || strcmp(jobs[i].model_tag, "candidate") == 0);
    }
    ending = true;
    pthread_join(thread, NULL);
    serve(NULL, 0, 0);
    finish();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_stays_on_its_side),
        cmocka_unit_test(a_request_without_a_user_goes_by_its_id),
        cmocka_unit_test(a_shadow_of_one_model_differs_by_nothing),
        cmocka_unit_test(a_state_has_no_ids_for_a_shadow),
        cmocka_unit_test(a_user_whom_nobody_knows_has_a_shadow),
        cmocka_unit_test(without_room_there_are_no_shadows),
        cmocka_unit_test(a_sample_is_a_share),
        cmocka_unit_test(shadows_end_with_the_pool),
        cmocka_unit_test(models_change_under_load),
    };
    return cmocka_run_group_tests(tests, open_models, close_models);
}
