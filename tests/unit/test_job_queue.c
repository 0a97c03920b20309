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
}

/* ---- the queue */

static struct job_queue make_queue(size_t threads) {
    return (struct job_queue){.max_jobs = 100, .threads = threads, .patience = 1, .rate = {1, 1000}}; /* 1 ms a unit */
}

static struct job make_job(double units) {
    return (struct job){.units = units};
}

static void jobs_leave_in_order_of_arrival(void **state) {
    (void)state;
    struct job_queue queue = make_queue(1);
    const double units[] = {1, 50, 2, 60, 70, 3};
    struct job jobs[6];
    for (size_t i = 0; i < 6; i++) {
        jobs[i] = make_job(units[i]);
        assert_true(job_queue_add(&queue, &jobs[i]));
        assert_int_equal(jobs[i].heavy, units[i] > 5);
    }
    assert_int_equal(job_queue_count(&queue), 6);
    assert_true(fabs(job_queue_seconds(&queue) - 0.186) < 1e-9);
    for (size_t i = 0; i < 6; i++)
        assert_ptr_equal(job_queue_take(&queue), &jobs[i]);
    assert_null(job_queue_take(&queue));
    assert_int_equal(job_queue_count(&queue), 0);
    assert_true(job_queue_seconds(&queue) == 0);
}

static void light_jobs_may_leave_first(void **state) {
    (void)state;
    struct job_queue queue = make_queue(1);
    struct job heavy = make_job(50), first = make_job(1), second = make_job(2);
    assert_true(job_queue_add(&queue, &heavy) && job_queue_add(&queue, &first) && job_queue_add(&queue, &second));
    assert_ptr_equal(job_queue_take_light(&queue), &first);
    assert_ptr_equal(job_queue_take(&queue), &heavy);
    assert_ptr_equal(job_queue_take_light(&queue), &second);
    assert_null(job_queue_take_light(&queue));
}

static void a_full_queue_refuses(void **state) {
    (void)state;
    struct job_queue queue = make_queue(1);
    struct job jobs[3] = {make_job(1), make_job(1), make_job(1)};
    queue.max_jobs = 2;
    assert_true(job_queue_add(&queue, &jobs[0]) && job_queue_add(&queue, &jobs[1]));
    assert_false(job_queue_add(&queue, &jobs[2]));
    assert_int_equal(jobs[2].refusal, JOB_QUEUE_FULL);
    assert_int_equal(job_queue_count(&queue), 2);
    job_queue_take(&queue);
    assert_true(job_queue_add(&queue, &jobs[2]));
}

/* Admission goes by cost, not by count: three heavy jobs are too much, hundreds of light ones are not. */
static void a_job_that_would_be_late_is_refused(void **state) {
    (void)state;
    struct job_queue queue = make_queue(1);
    struct job heavy[4] = {make_job(400), make_job(400), make_job(400), make_job(400)};
    struct job light[3] = {make_job(5), make_job(5), make_job(5)};
    for (size_t i = 0; i < 3; i++)
        assert_true(job_queue_add(&queue, &heavy[i]));
    assert_true(fabs(heavy[2].wait - 0.8) < 1e-9);
    assert_false(job_queue_add(&queue, &heavy[3]));
    assert_int_equal(heavy[3].refusal, JOB_DEADLINE_UNREACHABLE);
    assert_true(fabs(heavy[3].wait - 1.2) < 1e-9);
    assert_true(job_queue_add(&queue, &light[0])); /* threads run it between chunks of heavy jobs */
    queue.light_units = 1001;
    assert_false(job_queue_add(&queue, &light[1]));
    assert_int_equal(light[1].refusal, JOB_DEADLINE_UNREACHABLE);
}

/* A job that is being scored counts for half of its cost until it is done. */
static void a_job_being_scored_counts(void **state) {
    (void)state;
    struct job_queue queue = make_queue(1);
    struct job first = make_job(2400), second = make_job(10);
    assert_true(job_queue_add(&queue, &first));
    assert_ptr_equal(job_queue_take(&queue), &first);
    assert_false(job_queue_add(&queue, &second));
    assert_true(fabs(second.wait - 1.2) < 1e-9);
    job_queue_done(&queue, &first);
    assert_true(job_queue_add(&queue, &second));
    assert_true(second.wait == 0);
}

static void threads_share_the_wait(void **state) {
    (void)state;
    struct job_queue queue = make_queue(4);
    struct job jobs[6];
    for (size_t i = 0; i < 6; i++)
        jobs[i] = make_job(1000);
    for (size_t i = 0; i < 5; i++)
        assert_true(job_queue_add(&queue, &jobs[i]));
    assert_true(fabs(jobs[4].wait - 1) < 1e-9);
    assert_false(job_queue_add(&queue, &jobs[5]));
}

static void finished_jobs_teach_the_rate(void **state) {
    (void)state;
    struct job_queue queue = make_queue(1);
    struct job job = make_job(100);
    for (int i = 0; i < 300; i++) {
        job.seconds = i % 3 == 0 ? 0 : 1e-2; /* a failed job teaches nothing */
        assert_true(job_queue_add(&queue, &job));
        assert_ptr_equal(job_queue_take(&queue), &job);
        job_queue_done(&queue, &job);
    }
    assert_true(fabs(cost_seconds(&queue.rate, 100) - 1e-2) < 1e-3);
    assert_true(queue.working_units == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_guess_is_about_their_product),
        cmocka_unit_test(both_forms_have_about_the_same_guess),
        cmocka_unit_test(any_bytes_have_a_guess),
        cmocka_unit_test(a_rate_is_learned),
        cmocka_unit_test(one_measurement_proves_little),
        cmocka_unit_test(jobs_leave_in_order_of_arrival),
        cmocka_unit_test(light_jobs_may_leave_first),
        cmocka_unit_test(a_full_queue_refuses),
        cmocka_unit_test(a_job_that_would_be_late_is_refused),
        cmocka_unit_test(a_job_being_scored_counts),
        cmocka_unit_test(threads_share_the_wait),
        cmocka_unit_test(finished_jobs_teach_the_rate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
