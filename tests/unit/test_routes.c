/* test_routes.c: paths and methods, and the ids of requests. */
#include "server/request_id.h"
#include "server/routes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void paths_match_byte_for_byte(void **state) {
    (void)state;
    assert_int_equal(routes_find("/score"), ROUTE_SCORE);
    assert_int_equal(routes_find("/health/live"), ROUTE_LIVE);
    assert_int_equal(routes_find("http://example:80/metrics"), ROUTE_METRICS);
    static const char *const others[] = {"",          "/", "/scores", "/score/",      "//score",         "/Score",
                                         "/score%00", "*", "other",   "http://score", "http://example/", "/health/"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (routes_find(others[i]) != ROUTE_NONE)
            fail_msg("%s is a route", others[i]);
    for (enum route route = ROUTE_NONE + 1; route < ROUTES; route++)
        assert_int_equal(routes_find(routes_label(route)), route);
}

static void methods_fit_their_paths(void **state) {
    (void)state;
    assert_true(routes_allow(ROUTE_SCORE, "POST"));
    assert_false(routes_allow(ROUTE_SCORE, "GET"));
    assert_false(routes_allow(ROUTE_SCORE, "post"));
    assert_true(routes_allow(ROUTE_HEALTH, "GET"));
    assert_true(routes_allow(ROUTE_HEALTH, "HEAD"));
    assert_false(routes_allow(ROUTE_HEALTH, "POST"));
    assert_string_equal(routes_allowed(ROUTE_SCORE), "POST");
    assert_string_equal(routes_allowed(ROUTE_METRICS), "GET, HEAD");
}

static void good_ids_are_kept(void **state) {
    (void)state;
    char id[REQUEST_ID_MOST + 1];
    char longest[REQUEST_ID_MOST + 1] = "";
    request_id_choose("a-1:x_Y.~/=+@,;|#", id);
    assert_string_equal(id, "a-1:x_Y.~/=+@,;|#");
    memset(longest, 'x', REQUEST_ID_MOST);
    request_id_choose(longest, id);
    assert_string_equal(id, longest);
}

static void other_ids_are_replaced(void **state) {
    (void)state;
    char too_long[REQUEST_ID_MOST + 2] = "";
    memset(too_long, 'x', REQUEST_ID_MOST + 1);
    const char *const bad[] = {NULL, "", "a b", "a\"b", "<a>", "{a}", "a\n", "\x7f", "\xc3\xa9", too_long};
    char before[REQUEST_ID_MOST + 1] = "";
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char id[REQUEST_ID_MOST + 1];
        request_id_choose(bad[i], id);
        assert_int_equal(strlen(id), 32);
        assert_int_equal(strspn(id, "0123456789abcdef"), 32);
        assert_string_not_equal(id, before);
        memcpy(before, id, sizeof id);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_match_byte_for_byte),
        cmocka_unit_test(methods_fit_their_paths),
        cmocka_unit_test(good_ids_are_kept),
        cmocka_unit_test(other_ids_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
