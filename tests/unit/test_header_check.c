/* test_header_check.c: heads of requests as bytes, cut into lines in place as libmicrohttpd does it, and what the guard
 * says.
 */
#include "server/http/header_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct problem problem;
static struct header_check guard;

/* Ends the line at `line` with NULs over its CR LF or LF; returns the next line. */
static char *cut_line(char *line, const char *end) {
    char *feed = memchr(line, '\n', (size_t)(end - line));
    assert_non_null(feed);
    if (feed > line && feed[-1] == '\r')
        feed[-1] = '\0';
    *feed = '\0';
    return feed + 1;
}

static void give_header(char *line) {
    char *colon = strchr(line, ':');
    assert_non_null(colon);
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    header_check_add(&guard, line, (size_t)(colon - line), value, strlen(value));
}

/* What the guard says of a head; `size` because it may hold NULs. */
static enum problem_kind judge_bytes(const char *text, size_t size) {
    char *head = malloc(size);
    assert_non_null(head);
    memcpy(head, text, size);
    const char *end = head + size;
    char *next = cut_line(head, end);
    header_check_begin(&guard, head, size, strrchr(head, ' ') + 1);
    for (char *line = next; line < end && *line != '\r' && *line != '\n'; line = next) {
        next = cut_line(line, end);
        give_header(line);
    }
    memset(&problem, 0, sizeof problem);
    bool good = header_check_end(&guard, &problem);
    free(head);
    assert_true(good == (problem.kind == PROBLEM_NONE));
    return problem.kind;
}

static enum problem_kind judge(const char *text) {
    return judge_bytes(text, strlen(text));
}

#define LINE  "POST /score HTTP/1.1\r\n"
#define HOST  "Host: example\r\n"
#define START LINE HOST

static void good_heads_pass(void **state) {
    (void)state;
    assert_int_equal(judge(START "Content-Length: 17\r\n\r\n"), PROBLEM_NONE);
    assert_int_equal(guard.lengths, 1);
    assert_int_equal(guard.length, 17);
    assert_int_equal(judge(START "content-LENGTH:0\r\nX-A:\r\n\r\n"), PROBLEM_NONE);
    assert_int_equal(guard.length, 0);
    assert_int_equal(judge("GET / HTTP/1.1\r\nHost:\t a \r\n\r\n"), PROBLEM_NONE);
    assert_int_equal(guard.lengths, 0);
    assert_int_equal(judge("GET / HTTP/1.0\r\n\r\n"), PROBLEM_NONE);
    assert_int_equal(judge(START "!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n"), PROBLEM_NONE);
    assert_int_equal(judge(START "Content-Length: 999999999999999999\r\n\r\n"), PROBLEM_NONE);
    assert_true(guard.length == 999999999999999999u);
}

static void two_lengths_are_refused(void **state) {
    (void)state;
    static const char *const heads[] = {
        START "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
        START "Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n\r\n",
        START "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        START "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        START "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        START "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++)
        assert_int_equal(judge(heads[i]), PROBLEM_INVALID_HTTP);
}

static void lengths_are_digits(void **state) {
    (void)state;
    static const char *const lengths[] = {
        "", "+5", "-5", "0x5", "5,5", "5, 5", "5 5", "5.0", "five", "1234567890123456789", "5;"};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char head[256];
        snprintf(head, sizeof head, START "Content-Length: %s\r\n\r\n", lengths[i]);
        if (judge(head) != PROBLEM_INVALID_HTTP)
            fail_msg("Content-Length: %s passed", lengths[i]);
    }
}

static void transfer_encoding_is_chunked_alone(void **state) {
    (void)state;
    static const char *const bad[] = {"",         "identity",      "gzip, chunked", "chunked, chunked", "xchunked",
                                      "chunkedx", "chunked ; q=1", "\"chunked\"",   "chunke",           "chunked\t"};
    assert_int_equal(judge(START "Transfer-Encoding: chunked\r\n\r\n"), PROBLEM_NONE);
    assert_true(guard.chunked && guard.encodings == 1 && guard.lengths == 0);
    assert_int_equal(judge(START "transfer-ENCODING:CHUNKED\r\n\r\n"), PROBLEM_NONE);
    assert_true(guard.chunked);
    assert_int_equal(judge(START "Content-Length: 5\r\n\r\n"), PROBLEM_NONE);
    assert_false(guard.chunked);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char head[256];
        snprintf(head, sizeof head, START "Transfer-Encoding: %s\r\n\r\n", bad[i]);
        if (judge(head) != PROBLEM_INVALID_HTTP)
            fail_msg("Transfer-Encoding: %s passed", bad[i]);
    }
    assert_int_equal(judge("POST /score HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"), PROBLEM_INVALID_HTTP);
}

static void names_are_tokens(void **state) {
    (void)state;
    static const char bad[] = " \t\"(),/;<=>?@[\\]{}\x01\x7f\x80\xff";
    for (size_t i = 0; i + 1 < sizeof bad; i++) {
        char head[256];
        snprintf(head, sizeof head, START "X%cA: y\r\n\r\n", bad[i]);
        if (judge(head) != PROBLEM_INVALID_HTTP)
            fail_msg("a name with byte %u passed", (unsigned char)bad[i]);
    }
    assert_int_equal(judge(START "Content-Length : 5\r\n\r\n"), PROBLEM_INVALID_HTTP);
    assert_int_equal(judge(START ": y\r\n\r\n"), PROBLEM_INVALID_HTTP);
}

/* Every line end of a good head in turn is made a bare LF. */
static void bare_line_feeds_are_refused(void **state) {
    (void)state;
    static const char head[] = START "Content-Length: 5\r\nX-A: b\r\n\r\n";
    unsigned tried = 0;
    for (const char *end = strstr(head, "\r\n"); end != NULL; end = strstr(end + 2, "\r\n")) {
        char changed[sizeof head];
        size_t at = (size_t)(end - head);
        memcpy(changed, head, at);
        memcpy(changed + at, head + at + 1, sizeof head - at - 1);
        if (judge(changed) != PROBLEM_INVALID_HTTP)
            fail_msg("a bare LF at byte %zu passed", at);
        tried++;
    }
    assert_int_equal(tried, 5);
    assert_int_equal(judge("GET / HTTP/1.0\n\n"), PROBLEM_INVALID_HTTP);
    assert_int_equal(judge("GET / HTTP/1.0\n\r\n"), PROBLEM_INVALID_HTTP);
    assert_int_equal(judge("GET / HTTP/1.0\r\n\n"), PROBLEM_INVALID_HTTP);
}

static void nul_is_refused(void **state) {
    (void)state;
    static const char head[] = START "X-A: b\0c\r\nContent-Length: 5\r\n\r\n";
    static const char last[] = START "Content-Length: 5\r\nX-A: b\0c\r\n\r\n";
    assert_int_equal(judge_bytes(head, sizeof head - 1), PROBLEM_INVALID_HTTP);
    assert_int_equal(judge_bytes(last, sizeof last - 1), PROBLEM_INVALID_HTTP);
}

/* libmicrohttpd moves the name of a folded header to new memory and leaves the value where it was. */
static void folding_is_refused(void **state) {
    (void)state;
    char head[] = "GET / HTTP/1.1\0\nHost: a\0\nX-A: b\0\n c\0\nX-B: d\0\n\0\n";
    char moved[] = "X-A\0 bc";
    header_check_begin(&guard, head, sizeof head - 1, strstr(head, "HTTP"));
    char *host = head + 16;
    char *folded = host + 9;
    char *after = folded + 8 + 4;
    assert_string_equal(after, "X-B: d");
    header_check_add(&guard, host, 4, host + 6, 1);
    header_check_add(&guard, moved, 3, folded + 5, 1);
    header_check_add(&guard, after, 3, after + 5, 1);
    assert_false(header_check_end(&guard, &problem));
    assert_int_equal(problem.kind, PROBLEM_INVALID_HTTP);
}

/* A libmicrohttpd that keeps its strings elsewhere must not have every request refused. */
static void strings_elsewhere_are_not_measured(void **state) {
    (void)state;
    static const char head[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    header_check_begin(&guard, head, sizeof head - 1, "HTTP/1.1");
    header_check_add(&guard, "Host", 4, "a", 1);
    header_check_add(&guard, "Content-Length", 14, "5", 1);
    assert_true(header_check_end(&guard, &problem));
    assert_int_equal(guard.length, 5);
}

static void values_have_no_control_characters(void **state) {
    (void)state;
    for (unsigned byte = 1; byte < 256; byte++) {
        char head[256];
        if (byte == '\n')
            continue;
        snprintf(head, sizeof head, START "X-A: a%cb\r\n\r\n", (int)byte);
        bool bad = (byte < ' ' && byte != '\t') || byte == 0x7F;
        if ((judge(head) == PROBLEM_INVALID_HTTP) != bad)
            fail_msg("byte %u in a value", byte);
    }
    assert_int_equal(judge(START "X-A: a\r\r\n\r\n"), PROBLEM_INVALID_HTTP);
}

/* The request line is cut at its two spaces, as libmicrohttpd does: the last and the first. */
static enum problem_kind judge_line(const char *text, size_t size) {
    char line[128];
    static const char rest[] = "\0\0Host: a\r\n\r\n";
    memcpy(line, text, size);
    memcpy(line + size, rest, sizeof rest - 1);
    char *version = memrchr(line, ' ', size), *target = memchr(line, ' ', size);
    assert_true(version > target);
    *version++ = '\0';
    *target++ = '\0';
    target += strspn(target, " ");
    size_t length = header_check_target(target);
    char *query = strchr(target, '?');
    if (query != NULL)
        query[0] = query[1] = '\0';
    char *host = line + size + 2;
    host[4] = host[7] = host[8] = '\0';
    header_check_begin(&guard, line, size + sizeof rest - 1, version);
    header_check_line(&guard, line, target, length, version);
    header_check_add(&guard, host, 4, host + 6, 1);
    memset(&problem, 0, sizeof problem);
    header_check_end(&guard, &problem);
    return problem.kind;
}

static void the_request_line_has_two_spaces(void **state) {
    (void)state;
    static const char *const good[] = {"GET / HTTP/1.1",         "GET /a?b&c?d HTTP/1.1", "GET /a? HTTP/1.1",
                                       "GET http://a/ HTTP/1.1", "M-SEARCH * HTTP/1.1",   "GET /\xC3\xA9 HTTP/1.1",
                                       "DELETE /%00 HTTP/1.1"};
    static const char *const bad[] = {
        "GET  / HTTP/1.1",    "GET /a b HTTP/1.1",  "GET /a?b c HTTP/1.1", "GET /a  HTTP/1.1",   "GET /a\tb HTTP/1.1",
        "GET /\x01 HTTP/1.1", "GET /\x7F HTTP/1.1", "G(T / HTTP/1.1",      "GET /a?\r HTTP/1.1", "\tGET / HTTP/1.1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (judge_line(good[i], strlen(good[i])) != PROBLEM_NONE)
            fail_msg("%s is refused: %s", good[i], problem.detail);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (judge_line(bad[i], strlen(bad[i])) != PROBLEM_INVALID_HTTP)
            fail_msg("%s passed", bad[i]);
    static const char nuls[][sizeof "GET /?\0 HTTP/1.1"] = {"GET /a\0 HTTP/1.1", "GET /\0? HTTP/1.1",
                                                            "GET /?\0 HTTP/1.1"};
    for (size_t i = 0; i < sizeof nuls / sizeof *nuls; i++)
        assert_int_equal(judge_line(nuls[i], sizeof nuls[i] - 1), PROBLEM_INVALID_HTTP);
}

static void a_host_is_one_name_or_address(void **state) {
    (void)state;
    static const char *const good[] = {"", "a", "a.example:80", "[::1]:8080", "a_b-c~d", "a%20b", "a \t"};
    static const char *const bad[] = {"a, b", "a,b",   "a b", "a/b",  "u@a",      "a?b",
                                      "a#b",  "\"a\"", "<a>", "a\\b", "\xC3\xA9", "{a}"};
    char head[128];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(head, sizeof head, LINE "Host: %s\r\n\r\n", good[i]);
        if (judge(head) != PROBLEM_NONE)
            fail_msg("Host: %s is refused", good[i]);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(head, sizeof head, LINE "Host: %s\r\n\r\n", bad[i]);
        if (judge(head) != PROBLEM_INVALID_HTTP)
            fail_msg("Host: %s passed", bad[i]);
    }
}

static void there_is_one_host(void **state) {
    (void)state;
    assert_int_equal(judge("GET / HTTP/1.2\r\nX-A: b\r\n\r\n"), PROBLEM_INVALID_HTTP);
    assert_int_equal(judge("GET / HTTP/1.0\r\nX-A: b\r\n\r\n"), PROBLEM_NONE);
    assert_int_equal(judge(LINE "Content-Length: 5\r\n\r\n"), PROBLEM_INVALID_HTTP);
    assert_int_equal(judge(LINE "Host: a\r\nHost: a\r\n\r\n"), PROBLEM_INVALID_HTTP);
    assert_int_equal(judge("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"), PROBLEM_INVALID_HTTP);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_heads_pass),
        cmocka_unit_test(two_lengths_are_refused),
        cmocka_unit_test(lengths_are_digits),
        cmocka_unit_test(transfer_encoding_is_chunked_alone),
        cmocka_unit_test(names_are_tokens),
        cmocka_unit_test(bare_line_feeds_are_refused),
        cmocka_unit_test(nul_is_refused),
        cmocka_unit_test(folding_is_refused),
        cmocka_unit_test(strings_elsewhere_are_not_measured),
        cmocka_unit_test(values_have_no_control_characters),
        cmocka_unit_test(the_request_line_has_two_spaces),
        cmocka_unit_test(a_host_is_one_name_or_address),
        cmocka_unit_test(there_is_one_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
