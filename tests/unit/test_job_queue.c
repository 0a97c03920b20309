/* test_job_queue.c: a job's estimated cost, the order in which jobs leave, and which ones are refused. */
#include "server/scoring/job_queue.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- the estimate */

/* The estimate of a JSON body with so many behaviours and candidates, in either order. */
static double guess_json(size_t behaviours, size_t candidates, bool candidates_first) {
    static char text[1 << 16], lists[2][1 << 15];
    size_t counts[2] = {behaviours, candidates};
    for (size_t i = 0; i < 2; i++) {
        size_t at =
            (size_t)snprintf(lists[i], sizeof lists[i], "\"%s\": {\"item\": [", i == 0 ? "history" : "candidates");
        for (size_t j = 0; j < counts[i]; j++)
            at += (size_t)snprintf(lists[i] + at, sizeof lists[i] - at, "%s%zu", j > 0 ? "," : "", j % 10);
        snprintf(lists[i] + at, sizeof lists[i] - at, "]}");
    }
    snprintf(text, sizeof text, "{%s, %s}", lists[candidates_first], lists[!candidates_first]);
    return cost_guess(PROTO_JSON, text, strlen(text));
}

static size_t put_varint(char *to, size_t value) {
    size_t size = 0;
    for (; value >= 0x80; value >>= 7)
        to[size++] = (char)(0x80 | (value & 0x7F));
    to[size++] = (char)value;
    return size;
}

/* A length-delimited field of the wire format. */
static size_t put_field(char *to, size_t number, const char *content, size_t size) {
    enum { LENGTH = 2 };
    size_t at = put_varint(to, number << 3 | LENGTH);
    at += put_varint(to + at, size);
    memcpy(to + at, content, size);
    return at + size;
}

/* A group of a message: one column of integers of one byte each. */
static size_t put_group(char *to, size_t number, size_t values) {
    enum { TABLE_COLUMNS = 1, COLUMN_INTEGERS = 2 };
    static char integers[1 << 14], column[1 << 15], table[1 << 15];
    for (size_t i = 0; i < values; i++)
        integers[i] = (char)(i % 10);
    size_t size = put_field(column, COLUMN_INTEGERS, integers, values);
    size = put_field(table, TABLE_COLUMNS, column, size);
    return put_field(to, number, table, size);
}

/* The estimate of a ScoreRequest with so many behaviours and candidates. */
static double guess_message(size_t behaviours, size_t candidates, bool candidates_first) {
    enum { HISTORY = 4, CANDIDATES = 7 };
    static char text[1 << 16];
    size_t size = candidates_first ? put_group(text, CANDIDATES, candidates) : put_group(text, HISTORY, behaviours);
    size +=
        candidates_first ? put_group(text + size, HISTORY, behaviours) : put_group(text + size, CANDIDATES, candidates);
    return cost_guess(PROTO_PROTOBUF, text, size);
}

static void a_guess_is_about_their_product(void **state) {
    (void)state;
    double (*const guesses[])(size_t, size_t, bool) = {guess_json, guess_message};
    for (int i = 0; i < 4; i++) {
        double (*guess)(size_t, size_t, bool) = guesses[i / 2];
        bool candidates_first = i % 2 != 0;
        double small = guess(100, 100, candidates_first);
        assert_true(small > 1e4 && small < 1.3e4);
        double ratio = guess(1000, 1000, candidates_first) / small;
        assert_true(ratio > 80 && ratio < 110);
        ratio = guess(100, 1000, candidates_first) / small;
        assert_true(ratio > 8 && ratio < 11);
    }
}

static void both_forms_have_about_the_same_guess(void **state) {
    (void)state;
    for (size_t count = 20; count <= 2000; count *= 10) {
        double ratio = guess_message(count, count, false) / guess_json(count, count, false);
        assert_true(ratio > 0.9 && ratio < 1.1);
    }
}

/* A list without a comma has one value, so each behaviour costs its share of one candidate and its two bytes. */
static void a_lone_candidate_is_counted(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++)
        assert_true(guess_json(2000, 1, i != 0) - guess_json(1000, 1, i != 0) > 1900);
}

static void any_bytes_have_a_guess(void **state) {
    (void)state;
    const char *const texts[] = {
        "", "{", "\"candidates\"", "\"history\"", "\"history\"\"candidates\"", "candidates,,,,"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (size_t size = 0; size <= strlen(texts[i]); size++)
            assert_true(cost_guess(PROTO_JSON, texts[i], size) > 0 && cost_guess(PROTO_PROTOBUF, texts[i], size) > 0);
    assert_true(cost_guess(PROTO_JSON, "{\"candidates\":[1,2]}", 20) >
                cost_guess(PROTO_JSON, "{\"candidatez\":[1,2]}", 20));
}

/* A name that is spelt with an escape is no way around the estimate, nor is a decoy. */
static void a_hidden_name_is_no_lighter(void **state) {
    (void)state;
    static const char *const heads[] = {
        "{\"history\":{\"item\":[%s]},\"candidates\":{\"item\":[%s]}}",
        "{\"history\":{\"item\":[%s]},\"c\\u0061ndidates\":{\"item\":[%s]}}",
        "{\"\\u0068istory\":{\"item\":[%s]},\"candidates\":{\"item\":[%s]}}",
        "{\"histor\\u0079\":{\"item\":[%s]},\"\\u0063andidates\":{\"item\":[%s]}}",
        "{\"user\":{\"u\":\"history\"},\"history\":{\"item\":[%s]},\"candidates\":{\"item\":[%s]}}",
        "{\"user\":{\"u\":\"candidates\"},\"history\":{\"item\":[%s]},\"candidates\":{\"item\":[%s]}}",
    };
    static char values[2][4096], text[1 << 14];
    for (size_t i = 0, counts[] = {100, 500}; i < 2; i++)
        for (size_t j = 0, at = 0; j < counts[i]; j++)
            at += (size_t)snprintf(values[i] + at, sizeof values[i] - at, "%s%zu", j > 0 ? "," : "", j % 10);
    double plain = 0;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        snprintf(text, sizeof text, heads[i], values[0], values[1]);
#pragma GCC diagnostic pop
        double guess = cost_guess(PROTO_JSON, text, strlen(text));
        plain = i == 0 ? guess : plain;
        assert_true(guess >= 0.99 * plain);
    }
    /* An escaped letter that is not ASCII, which encoders write, hides nothing. */
    snprintf(text, sizeof text, "{\"user\":{\"u\":\"Zo\\u00eb\\n\"},\"candidates\":{\"item\":[%s]}}", values[1]);
    assert_true(cost_guess(PROTO_JSON, text, strlen(text)) < plain);
}

/* The decoded request has the units of an honest guess. */
static void decoded_units_are_those_of_the_guess(void **state) {
    (void)state;
    static char text[4096];
    size_t at = (size_t)snprintf(text, sizeof text, "{\"history\":{\"item\":[1");
    for (size_t i = 1; i < 100; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ",%zu", i % 10);
    at += (size_t)snprintf(text + at, sizeof text - at, "]},\"candidates\":{\"item\":[1");
    for (size_t i = 1; i < 200; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, ",%zu", i % 10);
    at += (size_t)snprintf(text + at, sizeof text - at, "]}}");
    const struct proto_column history = {.count = 100}, candidates = {.count = 200};
    struct proto_request request = {.history = {.present = true, .columns = 1, .column = &history},
                                    .candidates = {.present = true, .columns = 1, .column = &candidates}};
    const struct cost_work whole = {.length = 100, .scored = 1};
    double ratio = cost_of_work(&request, at, &whole) / cost_guess(PROTO_JSON, text, at);
    assert_true(ratio > 0.97 && ratio < 1.03);
    const struct cost_work usual = {.held = 50, .scored = 1}, longest = {.held = 1000, .scored = 1};
    request.history = (struct proto_table){0};
    assert_true(cost_of_work(&request, at, &longest) - cost_of_work(&request, at, &usual) > 150000);
}

/* ---- the rate */

static void a_rate_is_learned(void **state) {
    (void)state;
    struct cost_rate rate = cost_rate_start();
    for (int i = 0; i < 300; i++)
        cost_learn(&rate, i % 2 == 0 ? 1000 : 50000, i % 2 == 0 ? 1e-3 : 50e-3);
    assert_true(fabs(cost_seconds(&rate, 1) - 1e-6) < 1e-8);
    for (int i = 0; i < 800; i++)
        cost_learn(&rate, 1000, 1e-5);
    assert_true(cost_seconds(&rate, 1) < 1e-6 / 10);
}

static void one_measurement_proves_little(void **state) {
    (void)state;
    struct cost_rate rate = cost_rate_start();
    for (int i = 0; i < 300; i++)
        cost_learn(&rate, 1000, 1e-3);
    cost_learn(&rate, 1000, 3600);
    assert_true(cost_seconds(&rate, 1) < 1.2e-6);
    for (int i = 0; i < 300; i++)
        cost_learn(&rate, 1000, 1e-3);
    cost_learn(&rate, 1e9, 1e-9); /* units that were never work */
    assert_true(cost_seconds(&rate, 1) > 1e-6 / 9);
}

/* ---- the queue */

static const uint64_t millisecond = 1000000;
static struct job_queue queue;
static struct job_list dropped;
static uint64_t now;

/* Empty, at 1 ms a unit. The clock starts late enough for jobs that came before. */
static void make_queue(size_t threads) {
    queue = (struct job_queue){.max_jobs = 100, .threads = threads, .patience = 1, .rate = {1, 1000}};
    dropped = (struct job_list){NULL, NULL};
    now = 3600000 * millisecond;
}

/* A job of client 1 that comes now. */
static struct job make_job(double units) {
    return (struct job){.units = units, .submitted = now, .client_key = 1, .socket = -1};
}

static struct job job_of(uint64_t client, double units) {
    struct job job = make_job(units);
    job.client_key = client;
    return job;
}

static bool add(struct job *job) {
    return job_queue_add(&queue, job, now, &dropped);
}

static struct job *take(void) {
    return job_queue_take(&queue, now);
}

static void jobs_leave_in_order_of_arrival(void **state) {
    (void)state;
    make_queue(1);
    struct job jobs[6];
    for (size_t i = 0; i < 6; i++) {
        jobs[i] = make_job(2);
        assert_true(add(&jobs[i]));
        assert_false(jobs[i].heavy);
        now += millisecond / 2;
    }
    assert_int_equal(job_queue_count(&queue), 6);
    assert_true(fabs(job_queue_seconds(&queue) - 0.012) < 1e-9);
    assert_true(fabs(job_queue_oldest_seconds(&queue, now) - 0.003) < 1e-9);
    for (size_t i = 0; i < 6; i++)
        assert_ptr_equal(take(), &jobs[i]);
    assert_null(take());
    assert_int_equal(job_queue_count(&queue), 0);
    assert_true(job_queue_seconds(&queue) == 0);
    assert_true(job_queue_oldest_seconds(&queue, now) == 0);
}

/* From the moment when a job has waited for too long the newest goes first, and again the oldest once it is gone. */
static void the_newest_goes_first_under_pressure(void **state) {
    (void)state;
    make_queue(1);
    struct job jobs[4];
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = make_job(2);
        assert_true(add(&jobs[i]));
        now += 2 * millisecond;
    }
    const size_t order[] = {3, 2, 1, 0};
    for (size_t i = 0; i < 4; i++)
        assert_ptr_equal(take(), &jobs[order[i]]);
    jobs[0] = make_job(2);
    jobs[1] = make_job(2);
    assert_true(add(&jobs[0]) && add(&jobs[1]));
    assert_ptr_equal(take(), &jobs[0]);
}

/* The oldest is not starved: its turn comes however many are newer. */
static void the_oldest_has_its_turn(void **state) {
    (void)state;
    enum { TURNS = 100 };
    static struct job newer[TURNS];
    make_queue(1);
    struct job oldest = make_job(1), spare = make_job(1);
    assert_true(add(&oldest) && add(&spare));
    size_t turns = 0;
    for (; turns < TURNS; turns++) {
        now += 10 * millisecond;
        newer[turns] = make_job(1);
        assert_true(add(&newer[turns]));
        struct job *taken = take();
        if (taken == &oldest)
            break;
        assert_ptr_equal(taken, &newer[turns]);
    }
    assert_true(turns > 10 && turns < 50);
}

/* A client with a backlog has used more than one that asks now and then. */
static void quiet_clients_go_first(void **state) {
    (void)state;
    make_queue(1);
    struct job flood[20], polite = job_of(2, 2);
    for (size_t i = 0; i < 20; i++) {
        flood[i] = job_of(1, 4);
        assert_true(add(&flood[i]));
    }
    assert_ptr_equal(take(), &flood[0]);
    assert_ptr_equal(take(), &flood[1]);
    assert_true(add(&polite));
    assert_true(polite.wait == 0);
    assert_ptr_equal(take(), &polite);
    now += 60000 * millisecond; /* their use is forgotten: all are equal again */
    polite = job_of(2, 4);
    assert_true(add(&polite));
    assert_true(polite.wait == 0);
    assert_ptr_equal(take(), &polite); /* since it is the newest */
}

/* Cheap requests of a client go before its dear ones. */
static void cheap_jobs_go_first(void **state) {
    (void)state;
    make_queue(1);
    struct job dear = make_job(100), cheap = make_job(1);
    assert_true(add(&dear) && add(&cheap));
    assert_true(dear.heavy && !cheap.heavy);
    assert_ptr_equal(take(), &cheap);
    assert_ptr_equal(take(), &dear);
}

static void high_priority_goes_first(void **state) {
    (void)state;
    make_queue(1);
    struct job low = job_of(1, 1), high = job_of(2, 4), dear = job_of(2, 600);
    low.priority = PRIORITY_LOW;
    assert_true(add(&low) && add(&dear) && add(&high));
    assert_ptr_equal(take(), &high);
    assert_ptr_equal(take(), &dear);
    assert_ptr_equal(take(), &low);
}

/* A job of low priority waits for all of high priority, and is refused when that is too long. */
static void low_priority_waits_for_high(void **state) {
    (void)state;
    make_queue(1);
    struct job high[2] = {job_of(1, 600), job_of(1, 600)}, low = job_of(2, 600);
    low.priority = PRIORITY_LOW;
    assert_true(add(&high[0]) && add(&high[1]));
    assert_false(add(&low));
    assert_true(fabs(low.wait - 1.2) < 1e-9);
    assert_int_equal(low.refusal, JOB_DEADLINE_UNREACHABLE);
}

static void light_jobs_may_leave_first(void **state) {
    (void)state;
    make_queue(1);
    struct job heavy = make_job(50), first = make_job(1), second = make_job(2);
    assert_true(add(&heavy) && add(&first) && add(&second));
    assert_ptr_equal(job_queue_take_light(&queue, now), &first);
    assert_ptr_equal(job_queue_take_light(&queue, now), &second);
    assert_null(job_queue_take_light(&queue, now));
    assert_ptr_equal(take(), &heavy);
}

static void a_full_queue_refuses(void **state) {
    (void)state;
    make_queue(1);
    struct job jobs[3] = {make_job(1), make_job(1), make_job(1)};
    queue.max_jobs = 2;
    assert_true(add(&jobs[0]) && add(&jobs[1]));
    assert_false(add(&jobs[2]));
    assert_int_equal(jobs[2].refusal, JOB_QUEUE_FULL);
    assert_int_equal(job_queue_count(&queue), 2);
    assert_null(dropped.first);
    take();
    assert_true(add(&jobs[2]));
}

static void a_full_queue_drops_its_oldest_under_pressure(void **state) {
    (void)state;
    make_queue(1);
    struct job jobs[3] = {make_job(1), make_job(1), make_job(1)};
    queue.max_jobs = 2;
    assert_true(add(&jobs[0]) && add(&jobs[1]));
    now += 10 * millisecond;
    assert_true(add(&jobs[2]));
    assert_ptr_equal(dropped.first, &jobs[0]);
    assert_ptr_equal(dropped.last, &jobs[0]);
    assert_int_equal(jobs[0].refusal, JOB_QUEUE_FULL);
    assert_int_equal(job_queue_count(&queue), 2);
    assert_ptr_equal(take(), &jobs[2]);
}

/* The one with most work waiting stands back, whoever came first; low priority before high. */
static void a_full_queue_drops_the_largest_clients(void **state) {
    (void)state;
    make_queue(1);
    struct job polite = job_of(2, 1), flood[3] = {job_of(1, 2), job_of(1, 2), job_of(1, 2)}, low = job_of(3, 1);
    low.priority = PRIORITY_LOW;
    queue.max_jobs = 3;
    assert_true(add(&polite) && add(&low) && add(&flood[0]));
    assert_true(add(&flood[1]));
    assert_ptr_equal(dropped.first, &low);
    struct job other = job_of(4, 1);
    assert_true(add(&other));
    assert_ptr_equal(dropped.last, &flood[0]);
    low = job_of(3, 1);
    low.priority = PRIORITY_LOW;
    assert_false(add(&low)); /* nobody of high priority stands back for it */
    assert_int_equal(low.refusal, JOB_QUEUE_FULL);
}

/* A job whose change the history store has is to be told so: others stand back, or the new one is refused. */
static void an_applied_job_is_not_dropped(void **state) {
    (void)state;
    make_queue(1);
    struct stored_history applied = {.want = STORED_APPEND, .answered = true}, read = applied;
    struct job jobs[4] = {make_job(1), make_job(1), make_job(1), make_job(1)};
    read.want = STORED_GET;
    jobs[0].stored = jobs[2].stored = &applied;
    jobs[1].stored = &read;
    queue.max_jobs = 2;
    assert_true(add(&jobs[0]) && add(&jobs[1]));
    now += 10 * millisecond;
    assert_true(add(&jobs[2]));
    assert_ptr_equal(dropped.first, &jobs[1]);
    assert_ptr_equal(dropped.last, &jobs[1]);
    assert_false(add(&jobs[3]));
    assert_int_equal(jobs[3].refusal, JOB_QUEUE_FULL);
    assert_int_equal(job_queue_count(&queue), 2);
}

/* A client that has used much does not push out the jobs of clients that have used little. */
static void a_busy_client_pushes_nobody_out(void **state) {
    (void)state;
    make_queue(1);
    struct job work = job_of(1, 1), quiet[2] = {job_of(2, 1), job_of(3, 1)}, more = job_of(1, 1);
    queue.max_jobs = 2;
    assert_true(add(&work));
    assert_ptr_equal(take(), &work);
    work.seconds = 0.4;
    job_queue_done(&queue, &work, now);
    assert_true(add(&quiet[0]) && add(&quiet[1]));
    assert_false(add(&more));
    assert_int_equal(more.refusal, JOB_QUEUE_FULL);
    assert_null(dropped.first);
    assert_int_equal(job_queue_count(&queue), 2);
}

/* Admission goes by cost, not by count: three heavy jobs are too much, hundreds of light ones are not. */
static void a_job_that_would_be_late_is_refused(void **state) {
    (void)state;
    make_queue(1);
    struct job heavy[4] = {make_job(400), make_job(400), make_job(400), make_job(400)};
    struct job light[3] = {make_job(5), make_job(5), make_job(5)};
    for (size_t i = 0; i < 3; i++)
        assert_true(add(&heavy[i]));
    assert_true(fabs(heavy[2].wait - 0.8) < 1e-9);
    assert_false(add(&heavy[3]));
    assert_int_equal(heavy[3].refusal, JOB_DEADLINE_UNREACHABLE);
    assert_true(fabs(heavy[3].wait - 1.2) < 1e-9);
    assert_true(add(&light[0])); /* threads run it between chunks of heavy jobs */
    queue.lanes[LANE_LIGHT].units = queue.clients.clients[8].chains[PRIORITY_HIGH][LANE_LIGHT].units = 1001;
    assert_false(add(&light[1]));
    assert_int_equal(light[1].refusal, JOB_DEADLINE_UNREACHABLE);
}

/* Under pressure a new job is not late: those that came before are. */
static void work_beyond_the_deadline_drops_the_oldest(void **state) {
    (void)state;
    make_queue(1);
    struct job heavy[4] = {make_job(400), make_job(400), make_job(400), make_job(400)};
    for (size_t i = 0; i < 3; i++)
        assert_true(add(&heavy[i]));
    now += 10 * millisecond;
    assert_true(add(&heavy[3]));
    assert_true(heavy[3].wait == 0);
    assert_ptr_equal(dropped.first, &heavy[0]);
    assert_int_equal(heavy[0].refusal, JOB_DEADLINE_UNREACHABLE);
    assert_true(fabs(heavy[0].wait - 1.2) < 1e-9);
    assert_int_equal(job_queue_count(&queue), 3);
}

/* A job that says how long its client waits is not queued for longer. */
static void a_jobs_own_deadline_counts(void **state) {
    (void)state;
    make_queue(1);
    struct job first = make_job(400), late = make_job(400), patient = make_job(400);
    late.deadline = now + 399 * millisecond;
    patient.deadline = now + 401 * millisecond;
    assert_true(add(&first));
    assert_false(add(&late));
    assert_int_equal(late.refusal, JOB_DEADLINE_UNREACHABLE);
    assert_true(add(&patient));
}

/* A job that is being scored counts for half of its cost until it is done. */
static void a_job_being_scored_counts(void **state) {
    (void)state;
    make_queue(1);
    struct job first = make_job(2400), second = make_job(10);
    assert_true(add(&first));
    assert_ptr_equal(take(), &first);
    assert_false(add(&second));
    assert_true(fabs(second.wait - 1.2) < 1e-9);
    job_queue_done(&queue, &first, now);
    assert_true(add(&second));
    assert_true(second.wait == 0);
}

static void threads_share_the_wait(void **state) {
    (void)state;
    make_queue(4);
    struct job jobs[6];
    for (size_t i = 0; i < 6; i++)
        jobs[i] = make_job(1000);
    for (size_t i = 0; i < 5; i++)
        assert_true(add(&jobs[i]));
    assert_true(fabs(jobs[4].wait - 1) < 1e-9);
    assert_false(add(&jobs[5]));
}

static void finished_jobs_teach_the_rate(void **state) {
    (void)state;
    make_queue(1);
    struct job job = make_job(100);
    for (int i = 0; i < 300; i++) {
        job.seconds = i % 3 == 0 ? 0 : 1e-2; /* a failed job teaches nothing */
        assert_true(add(&job));
        assert_ptr_equal(take(), &job);
        job_queue_done(&queue, &job, now);
    }
    assert_true(fabs(cost_seconds(&queue.rate, 100) - 1e-2) < 1e-3);
    assert_true(queue.working_units == 0);
}

/* The client pays for the measured time, not for the estimate. */
static void a_client_pays_for_its_time(void **state) {
    (void)state;
    make_queue(1);
    struct job hidden = job_of(1, 1), again = job_of(1, 1), other = job_of(2, 1);
    assert_true(add(&hidden));
    assert_ptr_equal(take(), &hidden);
    hidden.seconds = 0.4;
    job_queue_done(&queue, &hidden, now);
    assert_true(add(&again) && add(&other));
    assert_ptr_equal(take(), &other);
}

static void a_job_that_turns_out_heavy_waits_as_such(void **state) {
    (void)state;
    make_queue(1);
    struct job hidden = make_job(1), light = make_job(4);
    assert_true(add(&hidden) && add(&light));
    assert_ptr_equal(take(), &hidden);
    job_queue_put_back(&queue, &hidden, 300, 2e-3, now);
    assert_true(hidden.heavy && hidden.weighed);
    assert_true(fabs(job_queue_seconds(&queue) - 0.304) < 1e-9);
    assert_ptr_equal(job_queue_take_light(&queue, now), &light);
    assert_null(job_queue_take_light(&queue, now));
    assert_ptr_equal(take(), &hidden);
    assert_true(queue.working_units == 304);
}

/* Every job that has waited is examined once a round, in both lanes; a new one is not. */
static void waiting_jobs_are_examined_in_turn(void **state) {
    (void)state;
    make_queue(1);
    struct job old[4] = {make_job(1), make_job(1), make_job(50), make_job(50)}, fresh = make_job(1);
    for (size_t i = 0; i < 4; i++)
        assert_true(add(&old[i]));
    assert_null(job_queue_examine(&queue, now));
    now += 10 * millisecond;
    fresh = make_job(1);
    assert_true(add(&fresh));
    size_t seen[4] = {0};
    for (int i = 0; i < 15; i++) {
        struct job *job = job_queue_examine(&queue, now);
        assert_true(job != &fresh);
        for (size_t j = 0; j < 4; j++)
            seen[j] += job == &old[j];
    }
    for (size_t j = 0; j < 4; j++)
        assert_true(seen[j] >= 2);
    for (int i = 0; i < 15; i++) { /* removal does not lose the place */
        struct job *job = job_queue_examine(&queue, now);
        if (job != NULL)
            job_queue_remove(&queue, job);
    }
    assert_int_equal(job_queue_count(&queue), 1);
    assert_ptr_equal(take(), &fresh);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guess_is_about_their_product),
        cmocka_unit_test(both_forms_have_about_the_same_guess),
        cmocka_unit_test(a_lone_candidate_is_counted),
        cmocka_unit_test(any_bytes_have_a_guess),
        cmocka_unit_test(a_hidden_name_is_no_lighter),
        cmocka_unit_test(decoded_units_are_those_of_the_guess),
        cmocka_unit_test(a_rate_is_learned),
        cmocka_unit_test(one_measurement_proves_little),
        cmocka_unit_test(jobs_leave_in_order_of_arrival),
        cmocka_unit_test(the_newest_goes_first_under_pressure),
        cmocka_unit_test(the_oldest_has_its_turn),
        cmocka_unit_test(quiet_clients_go_first),
        cmocka_unit_test(cheap_jobs_go_first),
        cmocka_unit_test(high_priority_goes_first),
        cmocka_unit_test(low_priority_waits_for_high),
        cmocka_unit_test(light_jobs_may_leave_first),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(a_full_queue_drops_its_oldest_under_pressure),
        cmocka_unit_test(a_full_queue_drops_the_largest_clients),
        cmocka_unit_test(an_applied_job_is_not_dropped),
        cmocka_unit_test(a_busy_client_pushes_nobody_out),
        cmocka_unit_test(a_job_that_would_be_late_is_refused),
        cmocka_unit_test(work_beyond_the_deadline_drops_the_oldest),
        cmocka_unit_test(a_jobs_own_deadline_counts),
        cmocka_unit_test(a_job_being_scored_counts),
        cmocka_unit_test(threads_share_the_wait),
        cmocka_unit_test(finished_jobs_teach_the_rate),
        cmocka_unit_test(a_client_pays_for_its_time),
        cmocka_unit_test(a_job_that_turns_out_heavy_waits_as_such),
        cmocka_unit_test(waiting_jobs_are_examined_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
