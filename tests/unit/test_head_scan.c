/* test_head_scan.c: heads whole, byte by byte and at every cut, and the bytes that libmicrohttpd gets to see. */
#include "server/http/head_scan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LINE  "POST /score HTTP/1.1\r\n"
#define HOST  "Host: a\r\n"
#define START LINE HOST

enum { MEMORY = 1000, LINES = 12 };
static const struct head_limits limits = {.bytes = MEMORY, .lines = LINES};
static struct head_scan scan;
static struct problem problem;
static char seen[4096]; /* the head as the last call left it */

/* The head in two pieces; 0: in one. */
static enum problem_kind judge_cut(const char *text, size_t size, size_t cut) {
    char *head = malloc(size); /* of this very size, for the sanitizers */
    assert_non_null(head);
    scan = (struct head_scan){.lines = 0};
    problem.kind = PROBLEM_NONE;
    memcpy(head, text, cut);
    bool good = cut == 0 || head_scan_take(&scan, head, cut, &limits, &problem);
    memcpy(head + cut, text + cut, size - cut);
    good = good && head_scan_take(&scan, head, size, &limits, &problem);
    assert_true(good == (problem.kind == PROBLEM_NONE));
    assert_true(size < sizeof seen);
    memcpy(seen, head, size);
    seen[size] = '\0';
    free(head);
    return problem.kind;
}

/* In one piece, and cut before each byte: the verdict must be one. */
static enum problem_kind judge_bytes(const char *text, size_t size) {
    enum problem_kind kind = judge_cut(text, size, 0);
    for (size_t cut = 1; cut < size; cut++)
        assert_int_equal(judge_cut(text, size, cut), kind);
    return kind;
}

static enum problem_kind judge(const char *text) {
    return judge_bytes(text, strlen(text));
}

static void good_heads_pass_unchanged(void **state) {
    (void)state;
    static const char *const heads[] = {
        START "\r\n",
        "\r\n\r\n" START "Content-Length: 17\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.9\r\nX:\r\n\r\n",
        START "Content-Length:5\r\nX-Content-Length: x\r\nContent-Lengths: x\r\n\r\nhello",
        START "Content-Length: 999999999999999999\r\n\r\n",
        START "\r\n\n\n body bytes, of any kind \r",
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        if (judge(heads[i]) != PROBLEM_NONE || !scan.complete)
            fail_msg("%s: %s", heads[i], problem.detail);
        assert_string_equal(seen, heads[i]);
    }
    assert_int_equal(judge(START), PROBLEM_NONE);
    assert_false(scan.complete);
    assert_int_equal(judge("\r\n\r\n"), PROBLEM_NONE);
    assert_false(scan.complete);
}

static void other_heads_are_refused(void **state) {
    (void)state;
    static const struct {
        enum problem_kind kind;
        const char *head;
    } heads[] = {
        {PROBLEM_INVALID_HTTP, " GET / HTTP/1.1\r\n"},
        {PROBLEM_INVALID_HTTP, "GET\r\n"},
        {PROBLEM_INVALID_HTTP, "GET /\r\n"},
        {PROBLEM_INVALID_HTTP, "GET HTTP/1.1\r\n"},
        {PROBLEM_INVALID_HTTP, "GET  HTTP/1.1\r\n"},
        {PROBLEM_INVALID_HTTP, "GET / HTTP/1.1 \r\n"},
        {PROBLEM_INVALID_HTTP, "GET / http/1.1\r\n"},
        {PROBLEM_INVALID_HTTP, "GET / HTTP/1\r\n"},
        {PROBLEM_INVALID_HTTP, "GET / HTTP/1.11\r\n"},
        {PROBLEM_INVALID_HTTP, "GET / HTTP/a.1\r\n"},
        {PROBLEM_HTTP_VERSION, "PRI * HTTP/2.0\r\n"},
        {PROBLEM_HTTP_VERSION, "GET / HTTP/0.9\r\n"},
        {PROBLEM_INVALID_HTTP, "GET / HTTP/1.1\n"},
        {PROBLEM_INVALID_HTTP, "\n"},
        {PROBLEM_INVALID_HTTP, START "\n"},
        {PROBLEM_INVALID_HTTP, START "X: y\n"},
        {PROBLEM_INVALID_HTTP, START "X: y\r\n z\r\n"},
        {PROBLEM_INVALID_HTTP, START "\tX: y\r\n"},
        {PROBLEM_INVALID_HTTP, START "X\r\n"},
        {PROBLEM_INVALID_HTTP, START "Content-Length:\r\n"},
        {PROBLEM_INVALID_HTTP, START "content-length: +5\r\n"},
        {PROBLEM_INVALID_HTTP, START "CONTENT-LENGTH: 5x\r\n"},
        {PROBLEM_INVALID_HTTP, START "Content-Length: 5 5\r\n"},
        {PROBLEM_INVALID_HTTP, START "Content-Length: 5,5\r\n"},
        {PROBLEM_BODY_TOO_LARGE, START "Content-Length: 1000000000000000000\r\n"},
    };
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (judge(heads[i].head) != heads[i].kind)
            fail_msg("%s: %d", heads[i].head, (int)problem.kind);
    static const char nuls[][sizeof START "X\0: y\r\n"] = {START "X: \0y\r\n", START "X\0: y\r\n", START "\0X: y\r\n"};
    for (size_t i = 0; i < sizeof nuls / sizeof *nuls; i++)
        assert_int_equal(judge_bytes(nuls[i], sizeof nuls[i] - 1), PROBLEM_INVALID_HTTP);
}

/* libmicrohttpd takes white space before the digits, not behind them. */
static void white_space_moves_before_the_length(void **state) {
    (void)state;
    assert_int_equal(judge(START "Content-Length: 25 \r\nX: y \r\n\r\n"), PROBLEM_NONE);
    assert_string_equal(seen, START "Content-Length:  25\r\nX: y \r\n\r\n");
    assert_int_equal(judge(START "Content-Length:25\t \r\n\r\n"), PROBLEM_NONE);
    assert_string_equal(seen, START "Content-Length:  25\r\n\r\n");
    assert_int_equal(judge(START "Content-Length: \t7\t\r\n\r\n"), PROBLEM_NONE);
    assert_string_equal(seen, START "Content-Length:   7\r\n\r\n");
}

static void heads_end_at_their_limit(void **state) {
    (void)state;
    char head[MEMORY + 2];
    for (unsigned lines = 0; lines < 8; lines++) {
        int size = snprintf(head, sizeof head, "%s", START);
        for (unsigned i = 0; i < lines; i++)
            size += snprintf(head + size, sizeof head - (size_t)size, "X: y\r\n");
        size_t most = MEMORY - (2 + lines) * HEAD_LINE_COST;
        memset(head + size, 'x', most + 1 - (size_t)size);
        assert_int_equal(judge_cut(head, most, 0), PROBLEM_NONE);
        assert_int_equal(judge_cut(head, most + 1, 0), PROBLEM_HEADERS_TOO_LARGE);
    }
}

/* Bytes behind the head are no part of it: the verdict is one, wherever TCP has cut the stream. */
static void a_body_behind_a_head_counts_for_nothing(void **state) {
    (void)state;
    static char text[2 * MEMORY];
    int size = snprintf(text, sizeof text, "%s\r\n", START);
    memset(text + size, 'x', sizeof text - (size_t)size);
    assert_int_equal(judge_bytes(text, sizeof text), PROBLEM_NONE);
    assert_true(scan.complete);
}

static void lines_are_bounded(void **state) {
    (void)state;
    char head[MEMORY];
    for (unsigned headers = LINES - 2; headers <= LINES + 1; headers++) {
        int size = snprintf(head, sizeof head, "%s", LINE);
        for (unsigned i = 0; i < headers; i++)
            size += snprintf(head + size, sizeof head - (size_t)size, "X:\r\n");
        size += snprintf(head + size, sizeof head - (size_t)size, "\r\n");
        assert_int_equal(judge_bytes(head, (size_t)size), headers < LINES ? PROBLEM_NONE : PROBLEM_HEADERS_TOO_LARGE);
    }
}

static void a_head_request_is_known(void **state) {
    (void)state;
    judge("HEAD / HTTP/1.1\r\n");
    assert_true(scan.is_head);
    judge("HEAD / HTTP/3.0\r\n");
    assert_true(scan.is_head);
    judge("HEADS / HTTP/1.1\r\n");
    assert_false(scan.is_head);
    judge(LINE "HEAD : x\r\n");
    assert_false(scan.is_head);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_heads_pass_unchanged),
        cmocka_unit_test(other_heads_are_refused),
        cmocka_unit_test(white_space_moves_before_the_length),
        cmocka_unit_test(heads_end_at_their_limit),
        cmocka_unit_test(a_body_behind_a_head_counts_for_nothing),
        cmocka_unit_test(lines_are_bounded),
        cmocka_unit_test(a_head_request_is_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
