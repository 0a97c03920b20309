/* test_routes.c: paths and methods, and the ids of requests. */
#include "server/http/request_id.h"
#include "server/http/routes.h"

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
    assert_int_equal(routes_find("/openapi.json"), ROUTE_OPENAPI);
    assert_int_equal(routes_find("https://example/metrics"), ROUTE_METRICS);
    assert_int_equal(routes_find("HTTPS://[::1]:443/users/a"), ROUTE_USER);
    static const char *const others[] = {"",
                                         "/",
                                         "/scores",
                                         "/score/",
                                         "//score",
                                         "/Score",
                                         "/score%00",
                                         "*",
                                         "other",
                                         "http://score",
                                         "http://example/",
                                         "http:///score",
                                         "https:///score",
                                         "httpss://example/score",
                                         "/health/",
                                         "/users",
                                         "/users/",
                                         "/users//history",
                                         "/users/a/",
                                         "/users/a/b",
                                         "/users/a/history/",
                                         "/users/a/b/history",
                                         "/Users/a"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (routes_find(others[i]) != ROUTE_NONE)
            fail_msg("%s is a route", others[i]);
    assert_int_equal(routes_find("/users/a"), ROUTE_USER);
    assert_int_equal(routes_find("/users/history"), ROUTE_USER);
    assert_int_equal(routes_find("/users/a%2Fb"), ROUTE_USER);
    assert_int_equal(routes_find("http://example/users/a/history"), ROUTE_HISTORY);
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
    assert_true(routes_allow(ROUTE_USER, "GET"));
    assert_true(routes_allow(ROUTE_USER, "HEAD"));
    assert_true(routes_allow(ROUTE_USER, "DELETE"));
    static const char *const others[] = {"POST", "PUT", "ELETE", "DELET", "GET,", "", ","};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (routes_allow(ROUTE_USER, others[i]))
            fail_msg("%s is allowed", others[i]);
    assert_true(routes_allow(ROUTE_HISTORY, "POST"));
    assert_false(routes_allow(ROUTE_HISTORY, "DELETE"));
    assert_string_equal(routes_allowed(ROUTE_SCORE), "POST");
    assert_string_equal(routes_allowed(ROUTE_METRICS), "GET, HEAD");
}

static void bodies_are_where_they_are_due(void **state) {
    (void)state;
    for (enum route route = ROUTE_NONE; route < ROUTES; route++)
        assert_int_equal(routes_has_body(route),
                         route == ROUTE_SCORE || route == ROUTE_HISTORY || route == ROUTE_EVENTS);
}

static void planes_have_their_routes(void **state) {
    (void)state;
    for (enum route route = ROUTE_NONE + 1; route < ROUTES; route++) {
        bool shared = route == ROUTE_METRICS || routes_about_users(route);
        assert_int_equal(routes_on_plane(route, PLANE_PUBLIC), !routes_is_admin_call(route));
        assert_int_equal(routes_on_plane(route, PLANE_ADMIN), shared || routes_is_admin_call(route));
    }
    assert_true(routes_is_admin_call(routes_find("/models/reload")) && routes_is_admin_call(routes_find("/drain")));
    assert_false(routes_is_admin_call(ROUTE_NONE) || routes_is_admin_call(ROUTE_SCORE));
    assert_true(routes_about_users(ROUTE_USER) && routes_about_users(ROUTE_HISTORY) &&
                routes_about_users(ROUTE_EVENTS));
    assert_false(routes_about_users(ROUTE_SCORE));
    assert_false(routes_changes_state("GET") || routes_changes_state("HEAD"));
    assert_true(routes_changes_state("DELETE") && routes_changes_state("head"));
}

static void assert_user(const char *target, const char *expected, size_t expected_length) {
    char id[ROUTES_USER_ID_MAX];
    size_t length = 0;
    if (!routes_user_id(target, id, &length))
        fail_msg("%s has no user id", target);
    assert_int_equal(length, expected_length);
    assert_memory_equal(id, expected, length);
}

static void user_ids_are_decoded(void **state) {
    (void)state;
    assert_user("/users/u42", "u42", 3);
    assert_user("/users/u42/history", "u42", 3);
    assert_user("http://example:80/users/u42/history", "u42", 3);
    assert_user("/users/a%2Fb", "a/b", 3);
    assert_user("/users/a%2fb/history", "a/b", 3);
    assert_user("/users/a+b", "a+b", 3);
    assert_user("/users/%C3%A9", "\xC3\xA9", 2);
    assert_user("/users/%25", "%", 1);
    assert_user("https://example/users/u42", "u42", 3);
    assert_user("/users/%F4%8F%BF%BF", "\xF4\x8F\xBF\xBF", 4);
    assert_user("/users/\xC3\xA9", "\xC3\xA9", 2);
}

static void bad_user_ids_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"/users/",
                                      "/users//history",
                                      "/users/%",
                                      "/users/%4",
                                      "/users/%ZZ",
                                      "/users/%4Z",
                                      "/users/%/history",
                                      "/users/a%2/history",
                                      "/score",
                                      "/",
                                      "/users/a%00b",
                                      "/users/%FF",
                                      "/users/Zo%EB/history",
                                      "/users/%C3",
                                      "/users/%C0%AF",
                                      "/users/%ED%A0%80",
                                      "/users/\xEB"};
    char id[ROUTES_USER_ID_MAX];
    size_t length;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (routes_user_id(bad[i], id, &length))
            fail_msg("%s has a user id", bad[i]);
}

static void user_ids_end_at_their_limit(void **state) {
    (void)state;
    char target[sizeof "/users/" + sizeof "%41" * (ROUTES_USER_ID_MAX + 1)] = "/users/";
    char id[ROUTES_USER_ID_MAX];
    size_t length;
    for (size_t i = 0; i < 256; i++)
        memcpy(target + strlen(target), "%41", sizeof "%41");
    assert_true(routes_user_id(target, id, &length));
    assert_int_equal(length, 256);
    memcpy(target + strlen(target), "A", sizeof "A");
    assert_false(routes_user_id(target, id, &length));
    target[sizeof "/users/" - 1] = '\0';
    for (size_t i = 0; i < 100; i++)
        memcpy(target + strlen(target), "%F0%9F%99%82", sizeof "%F0%9F%99%82");
    assert_true(routes_user_id(target, id, &length));
    assert_int_equal(length, ROUTES_USER_ID_MAX);
    memcpy(target + strlen(target), "%F0%9F%99%82", sizeof "%F0%9F%99%82");
    assert_false(routes_user_id(target, id, &length));
}

static void check_logged(enum route route, const char *target, const char *expected) {
    char logged[64];
    routes_logged(route, target, logged, sizeof logged);
    assert_string_equal(logged, expected);
}

static void user_ids_are_not_logged(void **state) {
    (void)state;
    static const char *const targets[] = {
        "/users/secret",    "/users/secret/history", "/users/secret/other",       "http://example/users/secret",
        "/users/sec%72et/", "//users/secret",        "/api/users/secret/history", "/%75sers/secret",
        "/Users/secret",    "https://h/users/secret"};
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        char logged[64];
        routes_logged(routes_find(targets[i]), targets[i], logged, sizeof logged);
        if (strstr(logged, "sec") != NULL)
            fail_msg("%s is logged as %s", targets[i], logged);
    }
    check_logged(ROUTE_USER, "/users/secret", "/users/{id}");
    check_logged(ROUTE_HISTORY, "/users/secret/history", "/users/{id}/history");
    check_logged(ROUTE_NONE, "/nothing", "/nothing");
}

static void good_ids_are_kept(void **state) {
    (void)state;
    char id[REQUEST_ID_MAX + 1];
    char longest[REQUEST_ID_MAX + 1] = "";
    request_id_choose("a-1:x_Y.~/=+@,;|#", id);
    assert_string_equal(id, "a-1:x_Y.~/=+@,;|#");
    memset(longest, 'x', REQUEST_ID_MAX);
    request_id_choose(longest, id);
    assert_string_equal(id, longest);
}

static void other_ids_are_replaced(void **state) {
    (void)state;
    char too_long[REQUEST_ID_MAX + 2] = "";
    memset(too_long, 'x', REQUEST_ID_MAX + 1);
    const char *const bad[] = {NULL, "", "a b", "a\"b", "<a>", "{a}", "a\n", "\x7f", "\xc3\xa9", too_long};
    enum { IDS = 100 }; /* more than are drawn at once */
    static char ids[IDS][REQUEST_ID_MAX + 1];
    for (size_t i = 0; i < IDS; i++) {
        request_id_choose(bad[i % (sizeof bad / sizeof bad[0])], ids[i]);
        assert_int_equal(strlen(ids[i]), 32);
        assert_int_equal(strspn(ids[i], "0123456789abcdef"), 32);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(ids[i], ids[j]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_match_byte_for_byte),
        cmocka_unit_test(methods_fit_their_paths),
        cmocka_unit_test(bodies_are_where_they_are_due),
        cmocka_unit_test(planes_have_their_routes),
        cmocka_unit_test(user_ids_are_decoded),
        cmocka_unit_test(bad_user_ids_are_refused),
        cmocka_unit_test(user_ids_end_at_their_limit),
        cmocka_unit_test(user_ids_are_not_logged),
        cmocka_unit_test(good_ids_are_kept),
        cmocka_unit_test(other_ids_are_replaced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
