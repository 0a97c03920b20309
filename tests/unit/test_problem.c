/* test_problem.c: the table of problems, and how JSON pointers are escaped and cut. */
#include "proto/problem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void every_kind_has_its_status(void **state) {
    (void)state;
    static const int statuses[PROBLEM_KINDS] = {
        [PROBLEM_NONE] = 200,
        [PROBLEM_INVALID_JSON] = 400,
        [PROBLEM_INVALID_REQUEST] = 400,
        [PROBLEM_INVALID_USER_ID] = 400,
        [PROBLEM_INVALID_HTTP] = 400,
        [PROBLEM_INVALID_CODING] = 400,
        [PROBLEM_UNAUTHORIZED] = 401,
        [PROBLEM_WRITE_REFUSED] = 403,
        [PROBLEM_EXPLAIN_HELD] = 403,
        [PROBLEM_FOREIGN_CALL] = 403,
        [PROBLEM_NOT_FOUND] = 404,
        [PROBLEM_NO_USER_STATE] = 404,
        [PROBLEM_METHOD_NOT_ALLOWED] = 405,
        [PROBLEM_REQUEST_TIMEOUT] = 408,
        [PROBLEM_UNKNOWN_TOKEN] = 409,
        [PROBLEM_LOAD_UNDER_WAY] = 409,
        [PROBLEM_NO_PREVIOUS_MODEL] = 409,
        [PROBLEM_NO_CANDIDATE] = 409,
        [PROBLEM_LENGTH_REQUIRED] = 411,
        [PROBLEM_BODY_TOO_LARGE] = 413,
        [PROBLEM_UNSUPPORTED_MEDIA] = 415,
        [PROBLEM_UNSUPPORTED_CODING] = 415,
        [PROBLEM_TOO_MANY_CANDIDATES] = 422,
        [PROBLEM_HISTORY_TOO_LONG] = 422,
        [PROBLEM_HISTORY_TOO_LARGE] = 422,
        [PROBLEM_TOO_MANY_EVENTS] = 422,
        [PROBLEM_MODEL_REFUSED] = 422,
        [PROBLEM_HEADERS_TOO_LARGE] = 431,
        [PROBLEM_MODEL_FAULT] = 500,
        [PROBLEM_OUT_OF_MEMORY] = 503,
        [PROBLEM_SATURATED] = 503,
        [PROBLEM_DRAINING] = 503,
        [PROBLEM_NOT_READY] = 503,
        [PROBLEM_HISTORIES_UNAVAILABLE] = 503,
        [PROBLEM_DEADLINE_PASSED] = 504,
        [PROBLEM_HTTP_VERSION] = 505,
        [PROBLEM_HISTORIES_FULL] = 507,
    };
    for (int kind = 0; kind < PROBLEM_KINDS; kind++)
        assert_int_equal(problem_status((enum problem_kind)kind), statuses[kind]);
}

static void slugs_are_distinct_and_fit_a_uri(void **state) {
    (void)state;
    for (int kind = 0; kind < PROBLEM_KINDS; kind++) {
        const char *slug = problem_slug((enum problem_kind)kind);
        assert_true(strlen(slug) > 0);
        assert_int_equal(strspn(slug, "abcdefghijklmnopqrstuvwxyz-"), strlen(slug));
        assert_true(strlen(problem_title((enum problem_kind)kind)) > 0);
        for (int other = 0; other < kind; other++)
            assert_string_not_equal(slug, problem_slug((enum problem_kind)other));
    }
}

static void only_the_body_has_pointers(void **state) {
    (void)state;
    for (int kind = 0; kind < PROBLEM_KINDS; kind++) {
        int status = problem_status((enum problem_kind)kind);
        bool other = kind == PROBLEM_WRITE_REFUSED || kind == PROBLEM_HISTORY_TOO_LARGE || /* of the store */
                     kind == PROBLEM_FOREIGN_CALL || kind == PROBLEM_LOAD_UNDER_WAY ||
                     kind == PROBLEM_NO_PREVIOUS_MODEL || kind == PROBLEM_NO_CANDIDATE || kind == PROBLEM_MODEL_REFUSED;
        bool expected = !other && (status == 403 || status == 409 || status == 422 || kind == PROBLEM_INVALID_JSON ||
                                   kind == PROBLEM_INVALID_REQUEST);
        assert_int_equal(problem_in_body((enum problem_kind)kind), expected);
    }
}

static void set_formats_the_detail(void **state) {
    (void)state;
    struct problem problem;
    problem_set(&problem, PROBLEM_TOO_MANY_CANDIDATES, "/candidates", "%d candidates, at most %d", 5, 4);
    assert_int_equal(problem.kind, PROBLEM_TOO_MANY_CANDIDATES);
    assert_string_equal(problem.pointer, "/candidates");
    assert_string_equal(problem.detail, "5 candidates, at most 4");
}

static void out_of_memory_is_one_problem(void **state) {
    (void)state;
    struct problem problem;
    assert_false(problem_out_of_memory(&problem));
    assert_int_equal(problem.kind, PROBLEM_OUT_OF_MEMORY);
    assert_string_equal(problem.pointer, "");
    assert_true(problem.detail[0] != '\0');
}

static void a_problem_may_keep_its_own_pointer(void **state) {
    (void)state;
    struct problem problem;
    problem_set(&problem, PROBLEM_INVALID_REQUEST, "/history/item", "first");
    problem_set(&problem, PROBLEM_HISTORY_TOO_LONG, problem.pointer, "second");
    assert_string_equal(problem.pointer, "/history/item");
}

/* Each character has three bytes, so 319 bytes hold 106 of them and one byte is left over. */
static void long_texts_are_cut_between_characters(void **state) {
    (void)state;
    char text[601] = "";
    for (size_t i = 0; i < 600; i++)
        text[i] = "\xE2\x82\xAC"[i % 3];
    struct problem problem;
    for (size_t shift = 0; shift < 3; shift++) {
        problem_set(&problem, PROBLEM_INVALID_REQUEST, text + 3 * shift, "%.*s%s", (int)shift, "ab", text);
        assert_int_equal(strlen(problem.pointer), 318);
        assert_int_equal(strlen(problem.detail), shift + (319 - shift) / 3 * 3);
    }
    problem_set(&problem, PROBLEM_INVALID_REQUEST, "", "%s", "\xE2\x82\xAC");
    assert_string_equal(problem.detail, "\xE2\x82\xAC");
}

static void assert_pointer(const char *start, const char *name, const char *expected) {
    char pointer[64];
    snprintf(pointer, sizeof pointer, "%s", start);
    problem_pointer_name(pointer, sizeof pointer, name, strlen(name));
    assert_string_equal(pointer, expected);
}

static void names_are_escaped(void **state) {
    (void)state;
    assert_pointer("", "item", "/item");
    assert_pointer("/history", "item", "/history/item");
    assert_pointer("", "", "/");
    assert_pointer("", "a/b", "/a~1b");
    assert_pointer("", "m~n", "/m~0n");
    assert_pointer("", "~1", "/~01");
    assert_pointer("", "/~", "/~1~0");
    assert_pointer("", "\xC3\xA9/\xF0\x9F\x98\x80", "/\xC3\xA9~1\xF0\x9F\x98\x80");
    assert_pointer("", "a b\"\\", "/a b\"\\");
}

static void indices_are_decimal(void **state) {
    (void)state;
    char pointer[64] = "/history";
    problem_pointer_index(pointer, sizeof pointer, 0);
    problem_pointer_index(pointer, sizeof pointer, SIZE_MAX);
    assert_string_equal(pointer, "/history/0/18446744073709551615");
}

/* For every buffer size, the pointer is a prefix of the full one, cut between characters and escapes. */
static void long_names_are_cut_to_fit(void **state) {
    (void)state;
    const char *name = "a~/\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
    static const size_t ends[] = {0, 1, 2, 4, 6, 8, 11, 15};
    for (size_t size = 1; size <= 20; size++) {
        char pointer[24];
        memset(pointer, 'X', sizeof pointer);
        pointer[0] = '\0';
        problem_pointer_name(pointer, size, name, strlen(name));
        size_t fits = 0;
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
            fits = ends[i] < size ? ends[i] : fits;
        assert_int_equal(strlen(pointer), fits);
        assert_memory_equal(pointer, "/a~0~1\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", fits);
        for (size_t i = size; i < sizeof pointer; i++)
            assert_int_equal(pointer[i], 'X');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_has_its_status),
        cmocka_unit_test(slugs_are_distinct_and_fit_a_uri),
        cmocka_unit_test(only_the_body_has_pointers),
        cmocka_unit_test(set_formats_the_detail),
        cmocka_unit_test(out_of_memory_is_one_problem),
        cmocka_unit_test(a_problem_may_keep_its_own_pointer),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(names_are_escaped),
        cmocka_unit_test(indices_are_decimal),
        cmocka_unit_test(long_names_are_cut_to_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
