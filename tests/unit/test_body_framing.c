/* test_body_framing.c: bodies cut at every byte; each end, each fault and each limit of the chunked coding. */
#include "server/http/body_framing.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 64 };

static struct body_framing framing;

/* Gives a copy of exactly `size` bytes, so that a sanitizer sees a read beyond them. */
static size_t give(const char *data, size_t size) {
    char *copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, data, size);
    size_t taken = body_framing_take(&framing, copy, size);
    free(copy);
    assert_true(taken <= size);
    return taken;
}

/* The state after a stream in two pieces, and in pieces of one byte, which must agree. Returns the bytes taken. */
static size_t take_all(const char *stream, size_t size) {
    body_framing_chunked(&framing, MOST);
    size_t expected = give(stream, size);
    struct body_framing whole = framing;
    for (size_t cut = 0; cut <= size; cut++) {
        body_framing_chunked(&framing, MOST);
        size_t taken = give(stream, cut);
        if (taken == cut)
            taken += give(stream + cut, size - cut);
        if (taken != expected || framing.state != whole.state || framing.bytes != whole.bytes)
            fail_msg("cut at %zu of \"%s\": %zu bytes, state %d", cut, stream, taken, (int)framing.state);
    }
    body_framing_chunked(&framing, MOST);
    size_t taken = 0;
    while (taken < size && give(stream + taken, 1) == 1)
        taken++;
    assert_int_equal(taken, expected);
    assert_int_equal(framing.state, whole.state);
    return expected;
}

static void a_length_counts_down(void **state) {
    (void)state;
    body_framing_length(&framing, 0);
    assert_int_equal(framing.state, FRAMING_END);
    assert_int_equal(give("GET", 3), 0);
    for (size_t cut = 0; cut <= 5; cut++) {
        body_framing_length(&framing, 5);
        assert_int_equal(give("hello", cut), cut);
        assert_int_equal(framing.state == FRAMING_END, cut == 5);
        assert_int_equal(give(&"helloGET"[cut], 8 - cut), 5 - cut);
        assert_int_equal(framing.state, FRAMING_END);
    }
}

static void good_chunks_end(void **state) {
    (void)state;
    static const struct {
        const char *stream;
        uint64_t bytes;
    } good[] = {
        {"0\r\n\r\n", 0},
        {"5\r\nhello\r\n0\r\n\r\n", 5},
        {"00005\r\nhello\r\n0000\r\n\r\n", 5},
        {"A\r\n0123456789\r\na\r\n0123456789\r\n1\r\n\n\r\n0\r\n\r\n", 21},
        {"2\r\n\r\n\r\n3\r\n0\r\n\r\n0\r\n\r\n", 5},
        {"1;a\r\nx\r\n0;b=\"c;d\"\r\n\r\n", 1},
        {"1;\t \x80\xff\r\nx\r\n0;\r\n\r\n", 1},
        {"0\r\na:b\r\n\r\n", 0},
        {"0\r\nA-1: b \t c\r\n!#$%&'*+-.^_`|~: \r\n\r\n", 0},
        {"40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n0\r\n\r\n", MOST},
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        char stream[256];
        int size = snprintf(stream, sizeof stream, "%s", good[i].stream);
        assert_int_equal(take_all(stream, (size_t)size), size);
        assert_int_equal(framing.state, FRAMING_END);
        assert_int_equal(framing.bytes, good[i].bytes);
        size = snprintf(stream, sizeof stream, "%sPOST /", good[i].stream); /* the next request's bytes stay */
        assert_int_equal(take_all(stream, (size_t)size), size - 6);
        body_framing_chunked(&framing, MOST);
        for (size_t cut = 0; cut < strlen(good[i].stream); cut++) { /* no part is the whole */
            body_framing_chunked(&framing, MOST);
            assert_int_equal(give(good[i].stream, cut), cut);
            assert_int_not_equal(framing.state, FRAMING_END);
            assert_false(body_framing_failed(&framing));
        }
    }
}

static void bad_chunks_are_malformed(void **state) {
    (void)state;
    static const char *const bad[] = {
        "\r\n",
        "\n",
        ";a\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\n",
        "g\r\n",
        "`\r\n",
        "@\r\n",
        "/\r\n",
        ":\r\n",
        "5,\r\n",
        "0000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\rX0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5;\x01\r\n",
        "5;\x7f\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\r\n\rX",
        "0\r\n: b\r\n\r\n",
        "0\r\n a: b\r\n\r\n",
        "0\r\na\r\n\r\n",
        "0\r\na : b\r\n\r\n",
        "0\r\na: b\nc: d\r\n\r\n",
        "0\r\na: b\r\n c\r\n\r\n",
        "0\r\na: b\rc\r\n\r\n",
        "0\r\na: \x7f\r\n\r\n",
        "0\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        take_all(bad[i], strlen(bad[i]));
        if (framing.state != FRAMING_MALFORMED || framing.fault == NULL)
            fail_msg("\"%s\" is in state %d", bad[i], (int)framing.state);
    }
    take_all("5;a\0b\r\n", 7); /* a NUL */
    assert_int_equal(framing.state, FRAMING_MALFORMED);
    take_all("0\r\na\0: b\r\n", 10);
    assert_int_equal(framing.state, FRAMING_MALFORMED);
}

static void the_size_of_a_chunk_is_too_large_before_its_bytes(void **state) {
    (void)state;
    static const char *const large[] = {
        "41\r\n", "fffffffffffffff\r\n",
        "40\r\n0123456789012345678901234567890123456789012345678901234567890123\r\n1\r\n"};
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        assert_int_equal(take_all(large[i], strlen(large[i])), strlen(large[i]));
        assert_int_equal(framing.state, FRAMING_TOO_LARGE);
    }
    assert_int_equal(give("x", 1), 0);
}

/* `count` times `text` between a beginning and an end. */
static enum framing_state repeated(const char *before, const char *text, size_t count, const char *after) {
    static char stream[4096];
    size_t size = (size_t)snprintf(stream, sizeof stream, "%s", before);
    for (size_t i = 0; i < count; i++)
        size += (size_t)snprintf(stream + size, sizeof stream - size, "%s", text);
    size += (size_t)snprintf(stream + size, sizeof stream - size, "%s", after);
    body_framing_chunked(&framing, MOST);
    give(stream, size);
    return framing.state;
}

static void lines_and_trailers_have_limits(void **state) {
    (void)state;
    assert_int_equal(repeated("0;", "x", FRAMING_LINE_MOST - 2, "\r\n\r\n"), FRAMING_END);
    assert_int_equal(repeated("0;", "x", FRAMING_LINE_MOST - 1, "\r\n\r\n"), FRAMING_MALFORMED);
    assert_int_equal(repeated("1;", "x", FRAMING_LINE_MOST - 2, "\r\ny\r\n0;z\r\n\r\n"), FRAMING_END);
    assert_int_equal(repeated("0\r\na:", "x", FRAMING_TRAILER_MOST - 2, "\r\n\r\n"), FRAMING_END);
    assert_int_equal(repeated("0\r\na:", "x", FRAMING_TRAILER_MOST - 1, "\r\n\r\n"), FRAMING_MALFORMED);
    assert_int_equal(repeated("0\r\n", "a:b\r\n", FRAMING_TRAILER_FIELDS, "\r\n"), FRAMING_END);
    assert_int_equal(repeated("0\r\n", "a:b\r\n", FRAMING_TRAILER_FIELDS + 1, "\r\n"), FRAMING_MALFORMED);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_length_counts_down),
        cmocka_unit_test(good_chunks_end),
        cmocka_unit_test(bad_chunks_are_malformed),
        cmocka_unit_test(the_size_of_a_chunk_is_too_large_before_its_bytes),
        cmocka_unit_test(lines_and_trailers_have_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
