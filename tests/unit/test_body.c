/* test_body.c: bodies that grow part by part, and the budget of all. */
#include "server/http/body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void parts_of_every_size_make_the_body(void **state) {
    (void)state;
    static char text[100000];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7 + i / 251);
    static const size_t parts[] = {1, 7, 4096, 16384, 16385, 50000, sizeof text};
    for (size_t known = 0; known < 2; known++) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            struct body_budget budget = {.most = sizeof text, .small = sizeof text};
            struct body body = {0};
            for (size_t at = 0; at < sizeof text; at += parts[i]) {
                size_t part = sizeof text - at < parts[i] ? sizeof text - at : parts[i];
                size_t expected = known ? sizeof text : 0;
                assert_int_equal(body_append(&body, &budget, text + at, part, expected, 0), BODY_TAKEN);
                assert_int_equal(budget.held, at + part);
            }
            assert_int_equal(body.size, sizeof text);
            assert_memory_equal(body.bytes, text, sizeof text);
            assert_true(body.capacity <= (known ? sizeof text : 2 * sizeof text));
            body_free(&body, &budget);
            assert_int_equal(budget.held, 0);
            assert_null(body.bytes);
            body_free(&body, &budget);
        }
    }
}

static void the_budget_is_for_all_bodies(void **state) {
    (void)state;
    struct body_budget budget = {.most = 10, .small = 10};
    struct body one = {0}, other = {0};
    assert_int_equal(body_append(&one, &budget, "123456", 6, 6, 0), BODY_TAKEN);
    assert_int_equal(body_append(&other, &budget, "12345", 5, 0, 0), BODY_SATURATED);
    assert_int_equal(body_append(&other, &budget, "1234", 4, 0, 0), BODY_TAKEN);
    assert_int_equal(budget.held, 10);
    assert_int_equal(body_append(&other, &budget, "1", 1, 0, 0), BODY_SATURATED);
    body_free(&one, &budget);
    assert_int_equal(body_append(&other, &budget, "123456", 6, 0, 0), BODY_TAKEN);
    assert_memory_equal(other.bytes, "1234123456", 10);
    body_free(&other, &budget);
}

static void no_more_than_expected_is_taken(void **state) {
    (void)state;
    struct body_budget budget = {.most = 10, .small = 10};
    struct body body = {0};
    assert_int_equal(body_append(&body, &budget, "1234", 4, 5, 0), BODY_TAKEN);
    assert_int_equal(body_append(&body, &budget, "56", 2, 5, 0), BODY_NO_MEMORY);
    assert_int_equal(budget.held, 4);
    body_free(&body, &budget);
}

#define SECOND ((uint64_t)1000000000)

static void assert_empty(const struct body_budget *budget) {
    assert_true(budget->held == 0 && budget->held_large == 0);
    assert_true(budget->by_window.first == NULL && budget->by_window.last == NULL);
    for (size_t i = 0; i < BODY_CLASSES; i++)
        assert_true(budget->by_size[i].first == NULL && budget->by_size[i].last == NULL);
}

static struct body *find_slow(struct body_budget *budget, uint64_t now) {
    unsigned looks = 100;
    return body_find_slow(budget, &looks, now);
}

/* Bodies of `size` bytes each that are half of what is expected. */
static void half_arrive(struct body *bodies, size_t count, struct body_budget *budget, size_t size, uint64_t now) {
    static char text[1000];
    for (size_t i = 0; i < count; i++)
        assert_int_equal(body_append(&bodies[i], budget, text, size, 2 * size, now), BODY_TAKEN);
}

static void small_bodies_have_a_reserve(void **state) {
    (void)state;
    struct body_budget budget = {.most = 1000, .reserve = 200, .small = 50};
    struct body large[8] = {{0}}, small[4] = {{0}};
    half_arrive(large, 8, &budget, 100, 0);
    assert_int_equal(budget.held_large, 800);
    assert_int_equal(body_append(&large[0], &budget, "1", 1, 200, 0), BODY_SATURATED);
    assert_int_equal(body_append(&small[0], &budget, "1", 1, 51, 0), BODY_SATURATED); /* it will be large */
    half_arrive(small, 4, &budget, 25, 0);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(body_append(&small[i], &budget, "1234567890123456789012345", 25, 50, 0), BODY_TAKEN);
    assert_int_equal(budget.held, 1000);
    assert_int_equal(budget.held_large, 800);
    for (size_t i = 0; i < 4; i++)
        body_free(&small[i], &budget);
    /* A body whose size nobody knows is small until it is not; then all of it counts. */
    struct body grows = {0};
    assert_int_equal(body_append(&grows, &budget, "12345678901234567890123456789012345678901234567890", 50, 0, 0),
                     BODY_TAKEN);
    assert_false(grows.large);
    assert_int_equal(body_append(&grows, &budget, "1", 1, 0, 0), BODY_SATURATED);
    body_free(&large[7], &budget);
    assert_int_equal(body_append(&grows, &budget, "1", 1, 0, 0), BODY_TAKEN);
    assert_true(grows.large && grows.by_size.listed && grows.by_window.listed);
    assert_int_equal(budget.held_large, 751);
    body_free(&grows, &budget);
    for (size_t i = 0; i < 7; i++)
        body_free(&large[i], &budget);
    assert_empty(&budget);
}

static void the_reserve_is_at_most_half(void **state) {
    (void)state;
    struct body_budget budget = {.most = 1000, .reserve = 5000, .small = 50};
    struct body large[5] = {{0}}, one = {0};
    half_arrive(large, 5, &budget, 100, 0);
    assert_int_equal(body_append(&one, &budget, "1", 1, 51, 0), BODY_SATURATED);
    for (size_t i = 0; i < 5; i++)
        body_free(&large[i], &budget);
}

static void the_victim_is_the_largest_and_slowest(void **state) {
    (void)state;
    struct body_budget budget = {.most = 10000, .small = 50, .patience = SECOND};
    struct body bodies[4] = {{0}}, newcomer = {0}, small = {0};
    assert_null(body_find_victim(&budget, NULL, SECOND));
    half_arrive(&bodies[0], 1, &budget, 100, 0);                 /* 100 bytes, 10 s */
    half_arrive(&bodies[1], 1, &budget, 900, 7 * SECOND);        /* 900 bytes, 3 s: the largest product */
    half_arrive(&bodies[2], 1, &budget, 200, 0);                 /* 200 bytes, 10 s */
    half_arrive(&bodies[3], 1, &budget, 1000, 95 * SECOND / 10); /* 1000 bytes, half a second: it may be fast */
    half_arrive(&newcomer, 1, &budget, 60, 0);
    half_arrive(&small, 1, &budget, 20, 0);
    uint64_t now = 10 * SECOND;
    assert_ptr_equal(body_find_victim(&budget, &newcomer, now), &bodies[1]);
    assert_ptr_equal(body_find_victim(&budget, &bodies[1], now), &bodies[2]);
    body_whole(&bodies[1], &budget); /* whole: it waits to be scored */
    body_whole(&bodies[1], &budget);
    assert_ptr_equal(body_find_victim(&budget, &newcomer, now), &bodies[2]);
    body_free(&bodies[2], &budget);
    assert_ptr_equal(body_find_victim(&budget, &newcomer, now), &bodies[0]);
    body_free(&bodies[0], &budget);
    assert_ptr_equal(body_find_victim(&budget, NULL, now), &newcomer);
    assert_ptr_equal(body_find_victim(&budget, &newcomer, now), &small); /* small ones fill the memory, too */
    body_free(&small, &budget);
    assert_null(body_find_victim(&budget, &newcomer, now));
    body_free(&newcomer, &budget);
    body_free(&bodies[3], &budget);
    body_free(&bodies[1], &budget);
    assert_empty(&budget);
}

/* Of bodies of one size the longest goes, and one that has doubled meanwhile is young again. */
static void the_longest_of_a_size_goes(void **state) {
    (void)state;
    static char text[100];
    struct body_budget budget = {.most = 10000, .small = 5000, .patience = SECOND};
    struct body bodies[3] = {{0}};
    for (unsigned i = 0; i < 3; i++)
        half_arrive(&bodies[i], 1, &budget, 100 - i, i * SECOND);
    assert_ptr_equal(body_find_victim(&budget, NULL, 5 * SECOND), &bodies[0]);
    assert_ptr_equal(body_find_victim(&budget, &bodies[0], 5 * SECOND), &bodies[1]);
    body_append(&bodies[0], &budget, text, 20, 0, 5 * SECOND); /* not doubled */
    assert_ptr_equal(body_find_victim(&budget, NULL, 5 * SECOND), &bodies[0]);
    body_append(&bodies[0], &budget, text, 100, 0, 5 * SECOND);
    assert_ptr_equal(body_find_victim(&budget, NULL, 6 * SECOND - 1), &bodies[1]);
    body_whole(&bodies[2], &budget);
    body_free(&bodies[1], &budget);
    assert_null(body_find_victim(&budget, NULL, 6 * SECOND - 1));
    body_free(&bodies[0], &budget);
    body_free(&bodies[2], &budget);
    assert_empty(&budget);
}

/* Its window begins when it turns large: before, no rate was asked of it. */
static void the_window_begins_when_a_body_turns_large(void **state) {
    (void)state;
    static char text[100];
    struct body_budget budget = {.most = 10000, .small = 50, .rate = 10, .window = 2 * SECOND};
    struct body body = {0};
    body_append(&body, &budget, text, 50, 0, 0);
    assert_null(find_slow(&budget, 100 * SECOND));
    body_append(&body, &budget, text, 1, 0, 100 * SECOND);
    assert_null(find_slow(&budget, 102 * SECOND - 1));
    assert_ptr_equal(find_slow(&budget, 102 * SECOND), &body);
    assert_false(body_keeps_rate(&body, &budget, 19));
    assert_true(body_keeps_rate(&body, &budget, 20));
    body_next_window(&body, &budget, 102 * SECOND);
    assert_null(find_slow(&budget, 104 * SECOND - 1));
    assert_ptr_equal(find_slow(&budget, 104 * SECOND), &body);
    body_free(&body, &budget);
    assert_empty(&budget);
}

static void looks_are_bounded(void **state) {
    (void)state;
    static char text[100];
    struct body_budget budget = {.most = 10000, .small = 50, .rate = 10, .window = 2 * SECOND};
    struct body fast[3] = {{0}}, slow = {0};
    half_arrive(fast, 3, &budget, 100, 0);
    half_arrive(&slow, 1, &budget, 100, 0);
    for (size_t i = 0; i < 3; i++)
        body_append(&fast[i], &budget, text, 50, 200, SECOND);
    unsigned looks = 2;
    assert_null(body_find_slow(&budget, &looks, 2 * SECOND));
    assert_int_equal(looks, 0);
    looks = 2;
    assert_ptr_equal(body_find_slow(&budget, &looks, 2 * SECOND), &slow);
    assert_int_equal(looks, 1);
    body_free(&slow, &budget);
    for (size_t i = 0; i < 3; i++)
        body_free(&fast[i], &budget);
    assert_empty(&budget);
}

static void a_large_body_must_keep_up_the_rate(void **state) {
    (void)state;
    static char text[100];
    struct body_budget budget = {.most = 10000, .small = 50, .rate = 100, .window = 2 * SECOND};
    struct body fast = {0}, slow = {0}, small = {0};
    half_arrive(&fast, 1, &budget, 100, 0);
    half_arrive(&slow, 1, &budget, 100, 0);
    half_arrive(&small, 1, &budget, 20, 0);
    assert_null(find_slow(&budget, 2 * SECOND - 1));
    body_append(&fast, &budget, text, 100, 1000, SECOND);
    body_append(&slow, &budget, text, 99, 1000, SECOND);
    body_append(&slow, &budget, text, 100, 1000, SECOND);
    body_append(&fast, &budget, text, 100, 1000, SECOND);
    assert_ptr_equal(find_slow(&budget, 2 * SECOND), &slow);
    assert_ptr_equal(find_slow(&budget, 2 * SECOND), &slow); /* until the caller has ended it */
    body_free(&slow, &budget);
    assert_null(find_slow(&budget, 2 * SECOND));
    assert_null(find_slow(&budget, 4 * SECOND - 1));
    assert_ptr_equal(find_slow(&budget, 4 * SECOND), &fast);
    budget.rate = 0;
    assert_null(find_slow(&budget, 4 * SECOND));
    body_free(&fast, &budget);
    body_free(&small, &budget);
    assert_empty(&budget);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_every_size_make_the_body),
        cmocka_unit_test(the_budget_is_for_all_bodies),
        cmocka_unit_test(small_bodies_have_a_reserve),
        cmocka_unit_test(the_reserve_is_at_most_half),
        cmocka_unit_test(the_victim_is_the_largest_and_slowest),
        cmocka_unit_test(a_large_body_must_keep_up_the_rate),
        cmocka_unit_test(no_more_than_expected_is_taken),
        cmocka_unit_test(the_longest_of_a_size_goes),
        cmocka_unit_test(the_window_begins_when_a_body_turns_large),
        cmocka_unit_test(looks_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
