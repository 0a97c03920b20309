/* test_work_split.c: a large request split among scoring threads: the bytes are those of one thread, no job starves,
 * none is lost.
 */
#include "server/scoring/work_split.h"

#include "proto/json_decode.h"
#include "server/base/clock.h"
#include "server/scoring/worker_pool.h"

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

enum { CANDIDATES = 4096, BEHAVIOURS = 60, TURNS = 100, JOBS_MAX = 256 };

static struct dien_model *model;
static struct served_model *served;
enum { THREADS_MOST = 4 };
static struct scoring_counts counts;
static struct worker_pool *pool;
static sem_t woken;
static char large[1 << 16], light[1 << 10];

static void write_list(char *text, size_t size, const char *name, size_t count, const char *after) {
    size_t at = strlen(text);
    at += (size_t)snprintf(text + at, size - at, "\"%s\": {\"item\": [", name);
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s\"%c%zu\"", i > 0 ? "," : "", (char)('A' + i % 3),
                               1 + i * 7 % 40);
    snprintf(text + at, size - at, "]}%s", after);
}

static void write_body(char *text, size_t size, size_t behaviours, size_t candidates) {
    snprintf(text, size, "{\"user\": {\"country\": 1}, \"context\": {\"month\": 4}, ");
    write_list(text, size, "history", behaviours, ", ");
    write_list(text, size, "candidates", candidates, ", \"explain\": false}");
}

static int set_up(void **state) {
    (void)state;
    struct dien_error error;
    json_decode_init();
    write_body(large, sizeof large, BEHAVIOURS, CANDIDATES);
    write_body(light, sizeof light, 5, 5);
    model = dien_open("model/demo", &error);
    served = model != NULL ? served_model_new(model, THREADS_MOST) : NULL;
    return served != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    served_model_release(served);
    return 0;
}

static void wake(void *context) {
    (void)context;
    sem_post(&woken);
}

static void start(size_t threads) {
    memset(&counts, 0, sizeof counts);
    scoring_counts_model(&counts, model);
    sem_init(&woken, 0, 0);
    const struct worker_pool_options options = {
        .served = served_model_hold(served),
        .limits = {.max_candidates = CANDIDATES, .max_history = 100, .memory = 1 << 26},
        .threads = threads,
        .queue = JOBS_MAX,
        .deadline = clock_from_seconds(600),
        .counts = &counts,
        .wake = wake,
    };
    pool = worker_pool_start(&options);
    assert_non_null(pool);
}

static void finish(void) {
    worker_pool_stop(pool);
    worker_pool_free(pool);
    sem_destroy(&woken);
}

static void submit(struct job *job, const char *text) {
    *job =
        (struct job){.body = text, .size = strlen(text), .request_id = "test", .submitted = clock_now(), .socket = -1};
    assert_true(worker_pool_submit(pool, job));
}

/* Wait for `count` jobs, in the order in which they were done. */
static void collect(size_t count, struct job **taken) {
    size_t got = 0;
    while (got < count) {
        sem_wait(&woken);
        for (struct job *job = worker_pool_take_done(pool); job != NULL; job = job->next)
            taken[got++] = job;
    }
    assert_int_equal(got, count);
}

/* Wait until a thread scores a job, or has already finished one. */
static void wait_for_start(void) {
    int finished = 0;
    while (worker_pool_busy(pool) == 0 && finished == 0) {
        sched_yield();
        sem_getvalue(&woken, &finished);
    }
}

static struct job score_alone(const char *text) {
    struct job job, *taken;
    start(1);
    submit(&job, text);
    collect(1, &taken);
    assert_int_equal(job.problem, PROBLEM_NONE);
    finish();
    return job;
}

static void assert_same_reply(const struct job *job, const struct job *expected) {
    assert_int_equal(job->problem, PROBLEM_NONE);
    assert_int_equal(job->reply_size, expected->reply_size);
    assert_memory_equal(job->reply, expected->reply, expected->reply_size);
}

/* ---- chunks */

static void chunks_cover_each_candidate_once(void **state) {
    (void)state;
    const size_t candidates[] = {0, 1, 31, 32, 33, 64, 1000, 4096};
    const double sizes[] = {0, 1, 32, 33, 100, 5000, 1e300};
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
            const struct request request = {.candidates = {.candidate_count = candidates[i]}};
            struct work_split split;
            struct range range;
            size_t next = 0, chunks = 0;
            work_split_init(&split, NULL, &request, sizes[j]);
            while (work_split_has_more(&split)) {
                assert_true(work_split_take(&split, &range));
                assert_int_equal(range.first, next);
                assert_int_equal(range.first % DIEN_BATCH, 0);
                assert_true(range.count > 0);
                next += range.count;
                chunks++;
            }
            assert_false(work_split_take(&split, &range));
            assert_int_equal(next, candidates[i]);
            assert_int_equal(chunks, work_split_chunks(&split));
        }
    }
}

/* ---- threads */

static void many_threads_give_the_bytes_of_one(void **state) {
    (void)state;
    struct job expected = score_alone(large), job, *taken;
    start(4);
    for (int turn = 0; turn < TURNS && (turn < 10 || counts.requests_split == 0); turn++) {
        submit(&job, large);
        collect(1, &taken);
        assert_same_reply(&job, &expected);
        free(job.reply);
    }
    assert_true(counts.requests_split > 0);
    assert_true(counts.chunks_helped >= counts.requests_split);
    finish();
    assert_int_equal(counts.requests_interleaved, 0);
    free(expected.reply);
}

/* With one thread, a light request that comes while a heavy one is scored is answered first. */
static void light_requests_do_not_wait_for_a_heavy_one(void **state) {
    (void)state;
    struct job expected[2] = {score_alone(large), score_alone(light)}, jobs[2], *taken[2];
    bool seen = false;
    for (int turn = 0; turn < TURNS && !seen; turn++) {
        start(1);
        submit(&jobs[0], large);
        wait_for_start();
        submit(&jobs[1], light);
        collect(2, taken);
        for (size_t i = 0; i < 2; i++) {
            assert_same_reply(&jobs[i], &expected[i]);
            free(jobs[i].reply);
        }
        seen = taken[0] == &jobs[1];
        assert_int_equal(counts.requests_interleaved, seen);
        finish();
    }
    assert_true(seen);
    for (size_t i = 0; i < 2; i++)
        free(expected[i].reply);
}

/* A job's measured cost is its own: on one thread, the costs of all jobs add up to at most the elapsed time. */
static void interleaved_jobs_cost_the_heavy_one_nothing(void **state) {
    (void)state;
    enum { LIGHT = 100 };
    static struct job jobs[1 + LIGHT], *taken[1 + LIGHT];
    uint64_t interleaved = 0;
    for (int turn = 0; turn < TURNS && interleaved < 500; turn++) {
        start(1);
        uint64_t began = clock_now();
        submit(&jobs[0], large);
        wait_for_start();
        for (size_t i = 1; i <= LIGHT; i++)
            submit(&jobs[i], light);
        collect(1 + LIGHT, taken);
        double elapsed = clock_seconds(clock_now() - began), costs = 0;
        for (size_t i = 0; i <= LIGHT; i++) {
            assert_true(jobs[i].seconds > 0);
            costs += jobs[i].seconds;
            free(jobs[i].reply);
        }
        assert_true(costs <= elapsed);
        interleaved += counts.requests_interleaved;
        finish();
    }
    assert_true(interleaved > 0);
}

static void both_kinds_come_back_once(void **state) {
    (void)state;
    enum { JOBS = 120 };
    static struct job jobs[JOBS], *taken[JOBS];
    struct job expected[2] = {score_alone(light), score_alone(large)};
    start(3);
    for (size_t i = 0; i < JOBS; i++)
        submit(&jobs[i], i % 10 == 3 ? large : light);
    collect(JOBS, taken);
    for (size_t i = 0; i < JOBS; i++) {
        assert_same_reply(&jobs[i], &expected[i % 10 == 3]);
        free(jobs[i].reply);
        jobs[i].reply = NULL;
    }
    for (size_t i = 0; i < JOBS; i++)
        assert_null(taken[i]->reply); /* each was in the list */
    assert_null(worker_pool_take_done(pool));
    assert_int_equal(worker_pool_waiting(pool), 0);
    assert_int_equal(worker_pool_busy(pool), 0);
    assert_true(worker_pool_wait_seconds(pool) == 0);
    finish();
    free(expected[0].reply);
    free(expected[1].reply);
}

/* Jobs being scored are finished, with their helpers; queued jobs are refused. */
static void a_pool_stops_while_a_split_is_open(void **state) {
    (void)state;
    enum { JOBS = 9 };
    struct job expected = score_alone(large), jobs[JOBS];
    for (int turn = 0; turn < 10; turn++) {
        start(3);
        for (size_t i = 0; i < (turn % 2 == 0 ? 1 : JOBS); i++)
            submit(&jobs[i], i % 3 < 2 ? large : light);
        wait_for_start();
        worker_pool_stop(pool);
        size_t answered = 0;
        for (struct job *job = worker_pool_take_done(pool); job != NULL; job = job->next, answered++) {
            if (job->problem != PROBLEM_DRAINING && job->body == large)
                assert_same_reply(job, &expected);
            assert_non_null(job->reply);
            free(job->reply);
        }
        assert_int_equal(answered, turn % 2 == 0 ? 1 : JOBS);
        worker_pool_free(pool);
        sem_destroy(&woken);
    }
    free(expected.reply);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chunks_cover_each_candidate_once),
        cmocka_unit_test(many_threads_give_the_bytes_of_one),
        cmocka_unit_test(light_requests_do_not_wait_for_a_heavy_one),
        cmocka_unit_test(interleaved_jobs_cost_the_heavy_one_nothing),
        cmocka_unit_test(both_kinds_come_back_once),
        cmocka_unit_test(a_pool_stops_while_a_split_is_open),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
