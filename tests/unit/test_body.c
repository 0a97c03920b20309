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
            struct body_budget budget = {.most = sizeof text};
            struct body body = {0};
            for (size_t at = 0; at < sizeof text; at += parts[i]) {
                size_t part = sizeof text - at < parts[i] ? sizeof text - at : parts[i];
                size_t expected = known ? sizeof text : 0;
                assert_int_equal(body_append(&body, &budget, text + at, part, expected), BODY_TAKEN);
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
    struct body_budget budget = {.most = 10};
    struct body one = {0}, other = {0};
    assert_int_equal(body_append(&one, &budget, "123456", 6, 6), BODY_TAKEN);
    assert_int_equal(body_append(&other, &budget, "12345", 5, 0), BODY_SATURATED);
    assert_int_equal(body_append(&other, &budget, "1234", 4, 0), BODY_TAKEN);
    assert_int_equal(budget.held, 10);
    assert_int_equal(body_append(&other, &budget, "1", 1, 0), BODY_SATURATED);
    body_free(&one, &budget);
    assert_int_equal(body_append(&other, &budget, "123456", 6, 0), BODY_TAKEN);
    assert_memory_equal(other.bytes, "1234123456", 10);
    body_free(&other, &budget);
}

static void no_more_than_expected_is_taken(void **state) {
    (void)state;
    struct body_budget budget = {.most = 10};
    struct body body = {0};
    assert_int_equal(body_append(&body, &budget, "1234", 4, 5), BODY_TAKEN);
    assert_int_equal(body_append(&body, &budget, "56", 2, 5), BODY_NO_MEMORY);
    assert_int_equal(budget.held, 4);
    body_free(&body, &budget);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_every_size_make_the_body),
        cmocka_unit_test(the_budget_is_for_all_bodies),
        cmocka_unit_test(no_more_than_expected_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
