/* test_interleaved.c: the time of light requests that a thread does in between is not charged to its heavy one.
 *
 * Admission control learns from a job's time how much work the server does in a second. If a heavy job were charged for
 * the light jobs done during it, the server would refuse requests that it has time for.
 */
#include "server/scoring/worker_pool.h"

#include "proto/json_decode.h"
#include "server/base/clock.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* PAUSE_MILLISECONDS: that the thread loses at the end of each light job, in the pool's call of wake(). */
enum { CANDIDATES = 4096, BEHAVIOURS = 50, LIGHT_JOBS = 2, PAUSE_MILLISECONDS = 150 };

static struct dien_model *model;
static struct scoring_counts counts;
static struct worker_pool *pool;
static struct job jobs[2 + LIGHT_JOBS], *done[2 + LIGHT_JOBS]; /* in the order in which they were done */
static size_t done_count;
static sem_t held;    /* the thread is in wake() for the first time */
static sem_t goes_on; /* it may leave it */
static sem_t ended;   /* a job is done */
static char heavy[1 << 16], light[1 << 10];

static void write_list(char *text, size_t size, const char *name, size_t count, const char *after) {
    size_t at = strlen(text);
    at += (size_t)snprintf(text + at, size - at, "\"%s\": {\"item\": [", name);
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s\"A%zu\"", i > 0 ? "," : "", 1 + i % 40);
    snprintf(text + at, size - at, "]}%s", after);
}

static void write_body(char *text, size_t size, size_t behaviours, size_t candidates) {
    snprintf(text, size, "{\"user\": {\"country\": 1}, \"context\": {\"month\": 4}, ");
    write_list(text, size, "history", behaviours, ", ");
    write_list(text, size, "candidates", candidates, "}");
}

/* On the scoring thread. Takes the job itself, so that the next one wakes again. */
static void wake(void *context) {
    (void)context;
    for (struct job *job = worker_pool_take_done(pool); job != NULL; job = job->next)
        done[done_count++] = job;
    if (done[done_count - 1] == &jobs[0]) {
        sem_post(&held);
        sem_wait(&goes_on);
    } else if (done[done_count - 1] != &jobs[1]) {
        usleep(PAUSE_MILLISECONDS * 1000);
    }
    sem_post(&ended);
}

static void submit(struct job *job, const char *text) {
    *job =
        (struct job){.body = text, .size = strlen(text), .request_id = "test", .submitted = clock_now(), .socket = -1};
    assert_true(worker_pool_submit(pool, job));
}

/* The thread is held at the end of a first job until the heavy one and the light ones are in the queue: so it takes the
 * heavy one first, and the light ones after its first pieces. */
static void light_jobs_are_not_charged_to_the_heavy_one(void **state) {
    (void)state;
    submit(&jobs[0], light);
    sem_wait(&held);
    uint64_t start = clock_now();
    submit(&jobs[1], heavy);
    for (size_t i = 0; i < LIGHT_JOBS; i++)
        submit(&jobs[2 + i], light);
    sem_post(&goes_on);
    for (size_t i = 0; i < 2 + LIGHT_JOBS; i++)
        sem_wait(&ended);
    double elapsed = clock_seconds(clock_now() - start), paused = LIGHT_JOBS * PAUSE_MILLISECONDS / 1000.0;
    assert_int_equal(done_count, 2 + LIGHT_JOBS);
    assert_ptr_equal(done[1 + LIGHT_JOBS], &jobs[1]); /* the light ones were done in between */
    for (size_t i = 0; i < 2 + LIGHT_JOBS; i++) {
        assert_int_equal(jobs[i].problem, PROBLEM_NONE);
        assert_true(jobs[i].seconds > 0);
        free(jobs[i].reply);
    }
    assert_true(elapsed >= paused);
    assert_true(jobs[1].seconds <= elapsed - paused);
}

static int start(void **state) {
    (void)state;
    struct dien_error error;
    json_decode_init();
    write_body(heavy, sizeof heavy, BEHAVIOURS, CANDIDATES);
    write_body(light, sizeof light, 5, 5);
    sem_init(&held, 0, 0);
    sem_init(&goes_on, 0, 0);
    sem_init(&ended, 0, 0);
    model = dien_open("model/demo", &error);
    if (model == NULL)
        return -1;
    scoring_counts_model(&counts, model);
    const struct worker_pool_options options = {
        .served = served_model_new(model, 1),
        .limits = {.max_candidates = CANDIDATES, .max_history = 100, .memory = 1 << 26},
        .threads = 1,
        .queue = 10,
        .deadline = clock_from_seconds(600),
        .counts = &counts,
        .wake = wake,
    };
    pool = worker_pool_start(&options);
    return pool != NULL ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    worker_pool_stop(pool);
    worker_pool_free(pool);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(light_jobs_are_not_charged_to_the_heavy_one),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
