/* test_trace_context.c: headers of W3C Trace Context, good and malformed. */
#include "server/http/trace_context.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define TRACE  "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT "00f067aa0ba902b7"

static void good_headers(void **state) {
    (void)state;
    static const struct {
        const char *text;
        bool sampled;
    } good[] = {
        {"00-" TRACE "-" PARENT "-00", false}, {"00-" TRACE "-" PARENT "-01", true},
        {"00-" TRACE "-" PARENT "-03", true},  {"00-" TRACE "-" PARENT "-fe", false},
        {"cc-" TRACE "-" PARENT "-01", true},  {"cc-" TRACE "-" PARENT "-01-more to come", true},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct trace_context trace;
        memset(&trace, '?', sizeof trace);
        trace_context_read(good[i].text, &trace);
        assert_string_equal(trace.trace_id, TRACE);
        assert_true(trace.sampled == good[i].sampled);
        assert_int_equal(strspn(trace.span_id, "0123456789abcdef"), 16);
        assert_int_equal(strlen(trace.span_id), 16);
        assert_string_not_equal(trace.span_id, PARENT);
    }
}

static void malformed_headers_are_as_none(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "00",
        "00-" TRACE "-" PARENT "-",
        "00-" TRACE "-" PARENT "-0",
        "00-" TRACE "-" PARENT "-010",
        "00-" TRACE "-" PARENT "-01-more",
        "cc-" TRACE "-" PARENT "-01more",
        "ff-" TRACE "-" PARENT "-01",
        "0g-" TRACE "-" PARENT "-01",
        "00_" TRACE "-" PARENT "-01",
        "00-" TRACE "_" PARENT "-01",
        "00-" TRACE "-" PARENT "_01",
        "00-" TRACE "-" PARENT "-0x",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01",
        "00-00000000000000000000000000000000-" PARENT "-01",
        "00-" TRACE "-0000000000000000-01",
        "00-" TRACE "-00F067AA0BA902B7-01",
        " 00-" TRACE "-" PARENT "-01",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct trace_context trace;
        memset(&trace, '?', sizeof trace);
        trace_context_read(bad[i], &trace);
        assert_string_equal(trace.trace_id, "");
        assert_string_equal(trace.span_id, "");
        assert_false(trace.sampled);
    }
    struct trace_context none;
    trace_context_read(NULL, &none);
    assert_string_equal(none.trace_id, "");
}

static void spans_differ_and_the_header_is_read_again(void **state) {
    (void)state;
    struct trace_context first, second, again;
    char text[TRACEPARENT_TEXT];
    trace_context_read("00-" TRACE "-" PARENT "-01", &first);
    trace_context_read("00-" TRACE "-" PARENT "-01", &second);
    assert_string_not_equal(first.span_id, second.span_id);
    trace_context_write(&first, text);
    assert_int_equal(strlen(text), TRACEPARENT_TEXT - 1);
    assert_non_null(strstr(text, first.span_id));
    trace_context_read(text, &again);
    assert_string_equal(again.trace_id, TRACE);
    assert_true(again.sampled);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_headers),
        cmocka_unit_test(malformed_headers_are_as_none),
        cmocka_unit_test(spans_differ_and_the_header_is_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
