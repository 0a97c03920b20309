/* test_worker_pool.c: scoring threads on the demo model: every job comes back once, with its answer. */
#include "server/scoring/worker_pool.h"

#include "proto/json_decode.h"
#include "server/base/clock.h"

#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h>

static const char body[] =
    "{\"user\": {\"country\": 1}, \"context\": {\"month\": 4}, \"history\": {\"item\": [\"A13\", \"B4\"]},"
    " \"candidates\": {\"item\": [\"A1\", \"C5\", \"no such item\"]}}";

/* Values of a long list, and bytes of a text. */
enum { LONG = 6000, TEXT = 1 << 17 };

static struct dien_model *model;
static struct served_model *served;
enum { THREADS_MOST = 3 };
static struct scoring_counts counts;
static struct worker_pool *pool;
static sem_t woken;   /* posted by wake() */
static sem_t goes_on; /* lets wake() return, where it is held */
static _Atomic bool holds;

static void wake(void *context) {
    (void)context;
    bool held = holds;
    sem_post(&woken);
    if (held)
        sem_wait(&goes_on);
}

static int open_model(void **state) {
    (void)state;
    struct dien_error error;
    json_decode_init();
    model = dien_open("model/demo", &error);
    served = model != NULL ? served_model_new(model, THREADS_MOST) : NULL;
    return served != NULL ? 0 : -1;
}

static int close_model(void **state) {
    (void)state;
    served_model_release(served);
    return 0;
}

static void start(size_t threads, size_t queue, double deadline, bool hold) {
    memset(&counts, 0, sizeof counts);
    scoring_counts_model(&counts, model);
    sem_init(&woken, 0, 0);
    sem_init(&goes_on, 0, 0);
    holds = hold;
    const struct worker_pool_options options = {
        .served = served_model_hold(served),
        .limits = {.max_candidates = LONG, .max_history = LONG, .max_body = TEXT, .memory = 1 << 24},
        .threads = threads,
        .queue = queue,
        .deadline = clock_from_seconds(deadline),
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
    sem_destroy(&goes_on);
}

static struct job make_job(const char *text) {
    return (struct job){
        .body = text, .size = strlen(text), .request_id = "test", .submitted = clock_now(), .socket = -1};
}

/* Wait for `count` jobs; they are linked through `next`. */
static size_t collect(size_t count, struct job **taken) {
    size_t got = 0;
    while (got < count) {
        sem_wait(&woken);
        for (struct job *job = worker_pool_take_done(pool); job != NULL; job = job->next)
            taken[got++] = job;
    }
    return got;
}

static void every_job_comes_back_once(void **state) {
    (void)state;
    enum { JOBS = 400 };
    static struct job jobs[JOBS];
    static struct job *taken[JOBS];
    start(3, JOBS, 60, false);
    for (size_t i = 0; i < JOBS; i++) {
        jobs[i] = make_job(body);
        assert_true(worker_pool_submit(pool, &jobs[i]));
    }
    assert_int_equal(collect(JOBS, taken), JOBS);
    assert_null(worker_pool_take_done(pool));
    for (size_t i = 0; i < JOBS; i++) {
        assert_int_equal(taken[i]->problem, PROBLEM_NONE);
        assert_int_equal(taken[i]->summary.candidates, 3);
        assert_int_equal(taken[i]->summary.behaviours, 2);
        assert_string_equal(taken[i]->summary.user_state, "computed");
        assert_int_equal(taken[i]->reply_size, taken[0]->reply_size);
        assert_memory_equal(taken[i]->reply, taken[0]->reply, taken[0]->reply_size); /* the same bits from any thread */
        taken[i]->summary.candidates = 0;                                            /* marked as seen */
    }
    for (size_t i = 0; i < JOBS; i++)
        free(jobs[i].reply);
    assert_int_equal(worker_pool_waiting(pool), 0);
    assert_int_equal(counts.candidates, 3 * JOBS);
    finish();
}

/* ---- the learned cost */

static void append(char *text, const char *more) {
    size_t at = strlen(text);
    assert_true((size_t)snprintf(text + at, TEXT - at, "%s", more) < TEXT - at);
}

static void write_list(char *text, const char *name, const char *first, size_t count) {
    size_t at = strlen(text);
    at += (size_t)snprintf(text + at, TEXT - at, "\"%s\": {\"item\": [%s", name, first);
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, TEXT - at, "%s\"%c%zu\"", i > 0 || *first != '\0' ? "," : "",
                               (char)('A' + i % 3), 1 + i * 7 % 40);
    assert_true(at + 8 < TEXT);
    snprintf(text + at, TEXT - at, "]}");
}

/* A request with so many behaviours, and more members. */
static void write_body(char *text, size_t behaviours, size_t candidates, const char *more) {
    snprintf(text, TEXT, "{\"user\": {\"country\": 1}, \"context\": {\"month\": 4}, %s", more);
    if (behaviours > 0)
        write_list(text, "history", "", behaviours);
    append(text, behaviours > 0 ? ", " : "");
    write_list(text, "candidates", "", candidates);
    append(text, "}");
}

static size_t pack(char *text, char *packed) {
    z_stream stream = {.next_in = (Bytef *)text, .avail_in = (uInt)strlen(text)};
    stream.next_out = (Bytef *)packed;
    stream.avail_out = TEXT;
    assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t size = TEXT - stream.avail_out;
    deflateEnd(&stream);
    return size;
}

static void run(struct job *job) {
    struct job *taken = NULL;
    job->submitted = clock_now();
    assert_true(worker_pool_submit(pool, job));
    collect(1, &taken);
    if (job->problem != PROBLEM_NONE)
        fail_msg("%.*s", (int)job->reply_size, job->reply);
    free(job->reply);
}

/* The seconds of a unit, from the wait for a job behind one whose thread is held in wake(). */
static double learned_rate(const char *text) {
    struct job jobs[2] = {make_job(text), make_job(text)}, *taken[2];
    holds = true;
    assert_true(worker_pool_submit(pool, &jobs[0]));
    sem_wait(&woken);
    assert_true(worker_pool_submit(pool, &jobs[1]));
    double rate = worker_pool_wait_seconds(pool) / jobs[1].units;
    holds = false;
    sem_post(&goes_on);
    sem_post(&woken);
    collect(2, taken);
    for (size_t i = 0; i < 2; i++)
        free(jobs[i].reply);
    return rate;
}

/* One request after many usual ones, whose text, or what is known of it, shows more work than is done. */
static void the_rate_is_learned_from_work_that_was_done(void **state) {
    (void)state;
    static char usual[TEXT], text[TEXT], packed[TEXT];
    static const char user[] = "u";
    enum { CUT, COMPRESSED_UPDATE, DECOY, CUT_UPDATE, ABSENT, KINDS, WARM = 200, ATTEMPTS = 4 };
    write_body(usual, 20, 50, "");
    for (int kind = 0; kind < KINDS; kind++) {
        struct job job = make_job(text);
        double before = 0, after = 0;
        *text = '\0';
        if (kind == CUT) {
            write_body(text, LONG, 50, "");
        } else if (kind == ABSENT) {
            write_body(text, 0, LONG, "\"user_id\": \"nobody\", ");
        } else {
            append(text, "{");
            write_list(text, "history", kind == DECOY ? "\"history\",\"candidates\"" : "",
                       kind == CUT_UPDATE ? LONG - 2 : 1000);
            append(text, "}");
            job.user = (struct user_key){user, 1};
        }
        job.size = strlen(text);
        if (kind == COMPRESSED_UPDATE) {
            job.coding = PROTO_GZIP;
            job.size = pack(text, packed);
            job.body = packed;
        }
        /* A busy machine may lengthen one measurement, so that the usual ones correct the rate downwards. */
        for (int attempt = 0; attempt < ATTEMPTS && after <= before / 2; attempt++) {
            start(1, 4, 60, false);
            for (int i = 0; i < WARM; i++) {
                struct job warm = make_job(usual);
                run(&warm);
            }
            before = learned_rate(usual);
            struct job again = job;
            run(&again);
            after = learned_rate(usual);
            finish();
        }
        if (after <= before / 2)
            fail_msg("kind %d: %g s before, %g s after", kind, before, after);
    }
}

static uint64_t histogram_count(const struct histogram *histogram) {
    uint64_t count = 0;
    for (size_t i = 0; i <= HISTOGRAM_BUCKETS; i++)
        count += counter_get(&histogram->buckets[i]);
    return count;
}

/* The first job has an error, so the rate stays as it is at the start. The guess for the compressed body is light.
 * Decoded, it turns out heavy, and lets the light one behind it go first, though the time that it gave stays. */
static void a_compressed_heavy_request_is_heavy(void **state) {
    (void)state;
    static char text[TEXT], packed[TEXT];
    struct job first = make_job("{"), heavy = make_job(packed), light = make_job(body), *taken[3];
    write_body(text, 50, LONG, "\"timeout_ms\": 3600000, ");
    heavy.submitted = light.submitted += clock_from_seconds(10); /* from the future, so that neither has waited */
    heavy.coding = PROTO_GZIP;
    heavy.size = pack(text, packed);
    memset(packed + heavy.size - 4, 0, 4); /* as if there were nothing: the guess is light */
    start(1, 4, 60, true);
    assert_true(worker_pool_submit(pool, &first));
    sem_wait(&woken);
    assert_true(worker_pool_submit(pool, &heavy));
    assert_false(heavy.heavy);
    memcpy(packed + heavy.size - 4, &(uint32_t){(uint32_t)strlen(text)}, 4);
    assert_true(worker_pool_submit(pool, &light));
    for (int i = 0; i < 8; i++)
        sem_post(&goes_on);
    sem_post(&woken);
    collect(3, taken);
    assert_ptr_equal(taken[1], &light);
    assert_ptr_equal(taken[2], &heavy);
    assert_true(heavy.heavy && heavy.weighed);
    assert_int_equal(heavy.problem, PROBLEM_NONE);
    assert_true(heavy.deadline > heavy.submitted + clock_from_seconds(3599));
    assert_int_equal(histogram_count(&counts.phases[PHASE_QUEUE]), 3); /* the one that was put back counts once */
    for (size_t i = 0; i < 3; i++)
        free(taken[i]->reply);
    finish();
}

/* A message with three behaviours and five candidates, of a field that the model does not have. */
static void a_messages_cost_is_estimated_by_its_format(void **state) {
    (void)state;
    static const char message[] = "\x22\x0A\x0A\x08\x0A\x01i\x12\x03\x01\x02\x03"
                                  "\x3A\x0C\x0A\x0A\x0A\x01i\x12\x05\x01\x02\x03\x04\x05";
    struct job job = make_job(message);
    struct job *taken = NULL;
    job.format = PROTO_PROTOBUF;
    start(1, 4, 60, false);
    assert_true(worker_pool_submit(pool, &job));
    collect(1, &taken);
    assert_true(job.units == cost_guess(PROTO_PROTOBUF, message, job.size));
    assert_true(job.units > cost_guess(PROTO_JSON, message, job.size));
    assert_int_equal(problem_status(job.problem), 400);
    assert_non_null(memmem(job.reply, job.reply_size, "/history/i", 10));
    free(job.reply);
    finish();
}

/* Chunks of it were scored, but nobody was answered. */
static void a_departed_client_is_not_counted_as_answered(void **state) {
    (void)state;
    struct scoring_counts own = {0};
    struct request request = {.summary = {.candidates = 3, .behaviours = 2}, .departed = true};
    scoring_counts_request(&own, &request);
    assert_int_equal(own.candidates + own.behaviours + histogram_count(&own.states[USER_COMPUTED]), 0);
    request.departed = false;
    scoring_counts_request(&own, &request);
    assert_int_equal(own.candidates + own.behaviours + histogram_count(&own.states[USER_COMPUTED]), 6);
}

static void a_bad_request_gets_its_problem(void **state) {
    (void)state;
    struct job bad = make_job("{\"user\": 1}");
    struct job *taken = NULL;
    start(1, 4, 60, false);
    assert_true(worker_pool_submit(pool, &bad));
    collect(1, &taken);
    assert_int_equal(problem_status(bad.problem), 400);
    assert_non_null(memmem(bad.reply, bad.reply_size, "urn:dien:request:test", 21));
    free(bad.reply);
    finish();
}

/* The thread is held in wake() while the queue fills up. The jobs come from the future, so that none has waited. */
static void a_full_queue_refuses(void **state) {
    (void)state;
    struct job jobs[4];
    struct job *taken[4];
    start(1, 2, 60, true);
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = make_job(body);
        jobs[i].submitted += clock_from_seconds(3600);
    }
    assert_true(worker_pool_submit(pool, &jobs[0]));
    sem_wait(&woken); /* the first is done, its thread is held */
    assert_true(worker_pool_submit(pool, &jobs[1]));
    assert_true(worker_pool_submit(pool, &jobs[2]));
    assert_int_equal(worker_pool_waiting(pool), 2);
    assert_false(worker_pool_submit(pool, &jobs[3]));
    sem_post(&woken);
    for (int i = 0; i < 4; i++)
        sem_post(&goes_on);
    collect(3, taken);
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(taken[i], &jobs[i]);
        assert_int_equal(jobs[i].problem, PROBLEM_NONE);
        free(jobs[i].reply);
    }
    finish();
}

/* Two jobs have waited for a second when a third finds the queue full: the oldest of them leaves, with an answer. */
static void a_full_queue_answers_the_one_that_leaves(void **state) {
    (void)state;
    struct job jobs[4];
    struct job *taken[4];
    start(1, 2, 60, true);
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = make_job(body);
        jobs[i].submitted -= i == 1 || i == 2 ? clock_from_seconds(1) : 0;
    }
    assert_true(worker_pool_submit(pool, &jobs[0]));
    sem_wait(&woken); /* the first is done, its thread is held; the loop has not looked, so nobody wakes it again */
    assert_true(worker_pool_submit(pool, &jobs[1]));
    assert_true(worker_pool_submit(pool, &jobs[2]));
    assert_true(worker_pool_submit(pool, &jobs[3]));
    assert_int_equal(worker_pool_waiting(pool), 2);
    for (int i = 0; i < 8; i++)
        sem_post(&goes_on);
    sem_post(&woken);
    collect(4, taken);
    assert_ptr_equal(taken[1], &jobs[1]);
    assert_int_equal(jobs[1].problem, PROBLEM_SATURATED);
    assert_int_equal(counts.refusals[JOB_QUEUE_FULL], 1);
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(jobs[i].reply);
        assert_true(i == 1 || jobs[i].problem == PROBLEM_NONE);
        free(jobs[i].reply);
    }
    finish();
}

/* A tick ends jobs whose client has left or whose time is over, while the only thread is busy. */
static void waiting_jobs_are_examined(void **state) {
    (void)state;
    int pair[2];
    struct job jobs[4];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    start(1, 10, 60, true);
    for (size_t i = 0; i < 4; i++)
        jobs[i] = make_job(body);
    assert_true(worker_pool_submit(pool, &jobs[0]));
    sem_wait(&woken);
    assert_ptr_equal(worker_pool_take_done(pool), &jobs[0]);
    jobs[1].socket = pair[0];
    jobs[2].deadline = jobs[2].submitted + clock_from_seconds(0.5);
    for (size_t i = 1; i < 4; i++)
        assert_true(worker_pool_submit(pool, &jobs[i]));
    assert_true(worker_pool_oldest_seconds(pool) < 60);
    close(pair[1]);
    usleep(600000);
    assert_true(worker_pool_oldest_seconds(pool) > 0.5);
    for (int i = 0; i < 2; i++)
        sem_post(&goes_on); /* for the held thread, or for this one */
    worker_pool_examine(pool);
    while (!jobs[1].cancelled || jobs[2].problem == PROBLEM_NONE)
        usleep(1000);
    assert_int_equal(jobs[2].problem, PROBLEM_DEADLINE_PASSED);
    assert_int_equal(counts.departures, 1);
    for (int i = 0; i < 8; i++)
        sem_post(&goes_on);
    worker_pool_stop(pool);
    size_t ended = 0;
    for (struct job *job = worker_pool_take_done(pool); job != NULL; job = job->next)
        ended++;
    assert_int_equal(ended, 3);
    assert_null(jobs[1].reply);
    assert_non_null(memmem(jobs[2].reply, jobs[2].reply_size, "the deadline is 0.500 s", 23));
    for (size_t i = 0; i < 4; i++)
        free(jobs[i].reply);
    close(pair[0]);
    worker_pool_free(pool);
    sem_destroy(&woken);
    sem_destroy(&goes_on);
}

static void a_late_job_is_not_scored(void **state) {
    (void)state;
    struct job late = make_job(body);
    struct job *taken = NULL;
    late.submitted -= clock_from_seconds(0.5);
    start(1, 1, 0.25, false);
    assert_true(worker_pool_submit(pool, &late));
    collect(1, &taken);
    assert_int_equal(late.problem, PROBLEM_DEADLINE_PASSED);
    assert_int_equal(counts.candidates, 0);
    free(late.reply);
    finish();
}

/* A client that closed only its sending side still reads its answer. */
static void a_half_closed_client_is_answered(void **state) {
    (void)state;
    int pair[2];
    struct job job = make_job(body);
    struct job *taken[1];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(shutdown(pair[1], SHUT_WR), 0);
    start(1, 1, 60, false);
    job.socket = pair[0];
    assert_true(worker_pool_submit(pool, &job));
    collect(1, taken);
    assert_false(job.cancelled);
    assert_int_equal(job.problem, PROBLEM_NONE);
    free(job.reply);
    close(pair[0]);
    close(pair[1]);
    finish();
}

static void a_job_without_a_client_is_not_scored(void **state) {
    (void)state;
    const double patience = 20;
    int pair[2];
    struct job jobs[2] = {make_job(body), make_job(body)};
    struct job *taken[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    start(1, 2, 60, true);
    jobs[0].socket = pair[0];
    jobs[1].socket = pair[0];
    assert_true(worker_pool_submit(pool, &jobs[0]));
    sem_wait(&woken);
    close(pair[1]);
    jobs[1].submitted -= clock_from_seconds(patience); /* longer than PATIENT_SHARE of the deadline */
    assert_true(worker_pool_submit(pool, &jobs[1]));
    sem_post(&woken);
    sem_post(&goes_on);
    sem_post(&goes_on);
    collect(2, taken);
    assert_false(jobs[0].cancelled);
    assert_true(jobs[1].cancelled);
    assert_null(jobs[1].reply);
    assert_int_equal(counts.candidates, 3);
    free(jobs[0].reply);
    close(pair[0]);
    finish();
}

static void *stop_pool(void *unused) {
    worker_pool_stop(pool);
    return unused;
}

/* A job whose change the history store has is scored to its end, though the pool stops meanwhile. */
static void an_applied_job_is_done_before_the_end(void **state) {
    (void)state;
    struct stored_history applied = {.want = STORED_APPEND, .answered = true};
    struct job first = make_job(body), second = make_job(body), probe;
    pthread_t helper;
    start(1, 10, 60, true);
    assert_true(worker_pool_submit(pool, &first));
    sem_wait(&woken);
    assert_ptr_equal(worker_pool_take_done(pool), &first);
    free(first.reply);
    second.stored = &applied;
    worker_pool_resume(pool, &second);
    assert_int_equal(pthread_create(&helper, NULL, stop_pool, NULL), 0);
    probe = make_job("");
    probe.deadline = 1; /* over, so that it is never admitted: only a pool that stops leaves it without a reason */
    for (;;) {
        probe.refusal = JOB_QUEUE_FULL;
        assert_false(worker_pool_submit(pool, &probe));
        if (probe.refusal == JOB_QUEUE_FULL)
            break;
        usleep(1000);
    }
    holds = false;
    sem_post(&goes_on);
    pthread_join(helper, NULL);
    assert_ptr_equal(worker_pool_take_done(pool), &second);
    assert_int_equal(second.problem, PROBLEM_NONE);
    assert_true(second.summary.candidates > 0);
    free(second.reply);
    worker_pool_free(pool);
    sem_destroy(&woken);
    sem_destroy(&goes_on);
}

/* The thread is held in wake() until the pool admits no more jobs. */
static void queued_jobs_are_refused_at_the_end(void **state) {
    (void)state;
    enum { JOBS_MAX = 5000 };
    static struct job jobs[JOBS_MAX];
    pthread_t helper;
    start(1, JOBS_MAX, 60, true);
    jobs[0] = make_job(body);
    assert_true(worker_pool_submit(pool, &jobs[0]));
    sem_wait(&woken);
    assert_ptr_equal(worker_pool_take_done(pool), &jobs[0]);
    free(jobs[0].reply);
    assert_int_equal(pthread_create(&helper, NULL, stop_pool, NULL), 0);
    size_t submitted = 0;
    for (size_t i = 1; i < JOBS_MAX; i++) {
        jobs[i] = make_job(body);
        if (!worker_pool_submit(pool, &jobs[i]))
            break;
        submitted++;
        usleep(1000);
    }
    assert_true(submitted + 1 < JOBS_MAX);
    sem_post(&goes_on);
    pthread_join(helper, NULL);
    size_t answered = 0;
    for (struct job *job = worker_pool_take_done(pool); job != NULL; job = job->next) {
        assert_int_equal(job->problem, PROBLEM_DRAINING);
        assert_non_null(job->reply);
        free(job->reply);
        answered++;
    }
    assert_int_equal(answered, submitted);
    assert_int_equal(worker_pool_waiting(pool), 0);
    worker_pool_free(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_comes_back_once),
        cmocka_unit_test(the_rate_is_learned_from_work_that_was_done),
        cmocka_unit_test(a_compressed_heavy_request_is_heavy),
        cmocka_unit_test(a_messages_cost_is_estimated_by_its_format),
        cmocka_unit_test(a_departed_client_is_not_counted_as_answered),
        cmocka_unit_test(a_bad_request_gets_its_problem),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(a_full_queue_answers_the_one_that_leaves),
        cmocka_unit_test(waiting_jobs_are_examined),
        cmocka_unit_test(a_late_job_is_not_scored),
        cmocka_unit_test(a_half_closed_client_is_answered),
        cmocka_unit_test(a_job_without_a_client_is_not_scored),
        cmocka_unit_test(an_applied_job_is_done_before_the_end),
        cmocka_unit_test(queued_jobs_are_refused_at_the_end),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
