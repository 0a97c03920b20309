/* test_comparison.c: differences, overlaps and correlations against numbers by hand, and when the guard speaks. */
#include "server/scoring/comparison.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { ITEMS = 20 };

static struct comparison comparison;
static uint64_t round_number;

static int begin(void **state) {
    (void)state;
    comparison_init(&comparison);
    round_number = comparison_begin(&comparison);
    return 0;
}

static int end(void **state) {
    (void)state;
    comparison_free(&comparison);
    return 0;
}

static struct comparison_counts read_counts(void) {
    struct comparison_counts counts;
    memset(&counts, 0xff, sizeof counts);
    comparison_read(&comparison, &counts);
    return counts;
}

static struct comparison_counts compare(const float *live, const float *candidate, size_t count) {
    struct comparison_place room[2 * ITEMS];
    memset(room, 0xff, sizeof room);
    comparison_add_scores(&comparison, round_number, live, candidate, count, room);
    return read_counts();
}

static uint64_t sum(const uint64_t *counts, size_t count) {
    uint64_t all = 0;
    for (size_t i = 0; i < count; i++)
        all += counts[i];
    return all;
}

static void one_model_twice(void **state) {
    (void)state;
    const float scores[5] = {0.5F, 0.25F, 0.5F, 0.75F, 0.001F};
    struct comparison_counts counts = compare(scores, scores, 5);
    assert_int_equal(counts.differences[0], 5);
    assert_int_equal(sum(counts.differences, COMPARISON_DIFFERENCES + 1), 5);
    assert_true(counts.difference_sum == 0);
    for (size_t i = 0; i < COMPARISON_TOPS; i++)
        assert_true(counts.overlap_sum[i] == 1);
    assert_true(counts.correlation_sum == 1);
    assert_int_equal(counts.requests, 1);
    assert_int_equal(counts.correlations, 1);
    assert_memory_equal(counts.scores[COMPARED_LIVE], counts.scores[COMPARED_CANDIDATE], sizeof counts.scores[0]);
    assert_int_equal(counts.scores[COMPARED_LIVE][14], 2); /* more than 0.4, at most 0.5 */
    assert_true(fabs(counts.score_sum[COMPARED_LIVE] - 2.001) < 1e-7);
}

static void the_reverse_order(void **state) {
    (void)state;
    float live[ITEMS], candidate[ITEMS];
    for (size_t i = 0; i < ITEMS; i++) {
        live[i] = (float)i / 32;
        candidate[i] = (float)(ITEMS - 1 - i) / 32;
    }
    struct comparison_counts counts = compare(live, candidate, ITEMS);
    assert_true(fabs(counts.correlation_sum + 1) < 1e-12);
    assert_true(counts.overlap_sum[0] == 0 && counts.overlap_sum[1] == 0 && counts.overlap_sum[2] == 0);
    assert_true(fabs(counts.difference_sum - 200.0 / 32) < 1e-12); /* twice 19 + 17 + ... + 1 */
}

/* Orders 0 1 2 3 4 5 and 1 0 2 3 5 4: two neighbours change places twice, so that d^2 sums up to 4. */
static void neighbours_that_change_places(void **state) {
    (void)state;
    const float live[6] = {0.9F, 0.8F, 0.7F, 0.6F, 0.5F, 0.4F}, candidate[6] = {0.8F, 0.9F, 0.7F, 0.6F, 0.1F, 0.2F};
    struct comparison_counts counts = compare(live, candidate, 6);
    assert_true(counts.overlap_sum[0] == 0);
    assert_true(counts.overlap_sum[1] == 4.0 / 5);
    assert_true(counts.overlap_sum[2] == 1); /* of all six */
    assert_true(fabs(counts.correlation_sum - (1 - 6 * 4.0 / (6 * 35))) < 1e-12);
    counts = compare(live, live, 6);
    assert_true(counts.overlap_sum[0] == 1 && counts.overlap_sum[1] == 1.8);
    assert_int_equal(counts.requests, 2);
}

/* Ties are in the request's order in both models, as in replies. */
static void equal_scores(void **state) {
    (void)state;
    const float live[3] = {0.5F, 0.5F, 0.5F}, candidate[3] = {0.25F, 0.25F, 0.25F};
    struct comparison_counts counts = compare(live, candidate, 3);
    assert_true(counts.correlation_sum == 1 && counts.overlap_sum[0] == 1);
    assert_true(counts.difference_sum == 0.75);
    assert_int_equal(counts.differences[15], 3); /* more than 0.2, at most 0.5 */
}

static void one_item_has_no_correlation(void **state) {
    (void)state;
    const float live = 0.5F, candidate = 0.25F;
    struct comparison_counts counts = compare(&live, &candidate, 1);
    assert_int_equal(counts.requests, 1);
    assert_int_equal(counts.correlations, 0);
    assert_true(counts.correlation_sum == 0 && counts.overlap_sum[2] == 1);
    counts = compare(&live, &candidate, 0);
    assert_int_equal(counts.requests, 1);
}

static void an_earlier_round_counts_no_more(void **state) {
    (void)state;
    const float scores[2] = {0.5F, 0.25F};
    compare(scores, scores, 2);
    uint64_t before = round_number;
    round_number = comparison_begin(&comparison);
    assert_int_equal(read_counts().requests, 0);
    struct comparison_place room[4];
    comparison_add_scores(&comparison, before, scores, scores, 2, room);
    comparison_add_seconds(&comparison, before, COMPARED_LIVE, 1);
    comparison_add_shadow(&comparison, before, SHADOW_BUSY);
    comparison_add_canary(&comparison, before, true);
    comparison_add_no_number(&comparison, before);
    struct comparison_counts counts = read_counts(), none;
    memset(&none, 0, sizeof none);
    assert_memory_equal(&counts, &none, sizeof counts);
}

static void a_quantile_is_exact_to_five_percent(void **state) {
    (void)state;
    assert_true(comparison_p99(&(struct comparison_counts){.requests = 0}, COMPARED_LIVE) == 0);
    for (int power = -17; power < 4; power++) {
        double seconds = 7 * pow(3, power);
        round_number = comparison_begin(&comparison);
        for (size_t i = 0; i < 1000; i++)
            comparison_add_seconds(&comparison, round_number, COMPARED_CANDIDATE, i < 985 ? 1e-9 : seconds);
        struct comparison_counts counts = read_counts();
        double p99 = comparison_p99(&counts, COMPARED_CANDIDATE);
        double within = seconds < 1e-6 ? 1e-6 : seconds > 9 ? 9 : seconds;
        assert_true(p99 >= within * 0.999 && p99 <= within * 1.06);
        assert_int_equal(sum(counts.seconds[COMPARED_CANDIDATE], HISTOGRAM_BUCKETS + 1), 1000);
        assert_int_equal(sum(counts.time_steps[COMPARED_LIVE], COMPARISON_TIME_STEPS), 0);
    }
}

/* ---- the guard */

static const struct candidate_guard guard = {.on = true, .p99_factor = 2, .difference = 0.1, .after_requests = 10};

/* -1: the candidate may stay. */
static int verdict(const struct candidate_guard *by) {
    struct comparison_counts counts = read_counts();
    enum candidate_drop reason = CANDIDATE_DROPS;
    char text[256] = "";
    bool condemned = comparison_condemns(&counts, by, &reason, text, sizeof text);
    assert_true(condemned == (strlen(text) > 0));
    return condemned ? (int)reason : -1;
}

static void no_number_is_enough(void **state) {
    (void)state;
    const struct candidate_guard off = {.on = false};
    assert_int_equal(verdict(&guard), -1);
    comparison_add_canary(&comparison, round_number, false);
    assert_int_equal(verdict(&guard), -1);
    comparison_add_canary(&comparison, round_number, true);
    assert_int_equal(verdict(&guard), DROP_NO_NUMBER);
    assert_int_equal(verdict(&off), -1);
    round_number = comparison_begin(&comparison);
    comparison_add_no_number(&comparison, round_number);
    assert_int_equal(verdict(&guard), DROP_NO_NUMBER);
}

static void a_difference_needs_requests(void **state) {
    (void)state;
    const float live[2] = {0.5F, 0.5F}, candidate[2] = {0.5F, 0.75F}; /* 0.125 on average */
    struct candidate_guard any = guard, wide = guard;
    any.difference = 0;
    wide.difference = 0.126;
    for (size_t i = 0; i < 9; i++)
        compare(live, candidate, 2);
    assert_int_equal(verdict(&guard), -1);
    compare(live, candidate, 2);
    assert_int_equal(verdict(&guard), DROP_DIFFERENT);
    assert_int_equal(verdict(&any), -1);
    assert_int_equal(verdict(&wide), -1);
}

static void slowness_needs_requests_of_both(void **state) {
    (void)state;
    struct candidate_guard any = guard, wide = guard;
    any.p99_factor = 0;
    wide.p99_factor = 3.5;
    for (size_t i = 0; i < 9; i++) {
        comparison_add_seconds(&comparison, round_number, COMPARED_LIVE, 0.001);
        comparison_add_seconds(&comparison, round_number, COMPARED_CANDIDATE, 0.003);
    }
    comparison_add_seconds(&comparison, round_number, COMPARED_CANDIDATE, 0.003);
    assert_int_equal(verdict(&guard), -1);
    comparison_add_seconds(&comparison, round_number, COMPARED_LIVE, 0.001);
    assert_int_equal(verdict(&guard), DROP_SLOW);
    assert_int_equal(verdict(&any), -1);
    assert_int_equal(verdict(&wide), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(one_model_twice, begin, end),
        cmocka_unit_test_setup_teardown(the_reverse_order, begin, end),
        cmocka_unit_test_setup_teardown(neighbours_that_change_places, begin, end),
        cmocka_unit_test_setup_teardown(equal_scores, begin, end),
        cmocka_unit_test_setup_teardown(one_item_has_no_correlation, begin, end),
        cmocka_unit_test_setup_teardown(an_earlier_round_counts_no_more, begin, end),
        cmocka_unit_test_setup_teardown(a_quantile_is_exact_to_five_percent, begin, end),
        cmocka_unit_test_setup_teardown(no_number_is_enough, begin, end),
        cmocka_unit_test_setup_teardown(a_difference_needs_requests, begin, end),
        cmocka_unit_test_setup_teardown(slowness_needs_requests_of_both, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
