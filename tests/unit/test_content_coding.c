/* test_content_coding.c: gzip bodies of every size, cut, changed, lying about their size, and their memory. */
#include "proto/content_coding.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

enum { MOST = 300000, ROOM = 400000 };

static struct arena arena;
static struct problem problem;
static char text[MOST], packed[ROOM];

/* A gzip member of the first `size` bytes of the text. Returns its size. */
static size_t pack(size_t size, int level) {
    z_stream stream = {.next_in = (Bytef *)text, .avail_in = (uInt)size};
    stream.next_out = (Bytef *)packed;
    stream.avail_out = sizeof packed;
    assert_int_equal(deflateInit2(&stream, level, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    size_t written = sizeof packed - stream.avail_out;
    deflateEnd(&stream);
    return written;
}

/* Decodes a copy of exactly `size` bytes, so that a sanitizer sees a read beyond them. */
static bool decode(const char *bytes, size_t size, size_t most, struct proto_string *body) {
    static char *copy;
    free(copy);
    copy = malloc(size > 0 ? size : 1);
    assert_non_null(copy);
    memcpy(copy, bytes, size);
    arena_reset(&arena);
    problem.kind = PROBLEM_NONE;
    *body = (struct proto_string){copy, size};
    bool good = content_decode(PROTO_GZIP, most, &arena, body, &problem);
    assert_true(good == (problem.kind == PROBLEM_NONE));
    return good;
}

static int set_up(void **state) {
    (void)state;
    arena_init(&arena, 0, 0);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i % 251 * (i / 1000));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    arena_free(&arena);
    return 0;
}

static void names_have_no_case(void **state) {
    (void)state;
    static const char *const others[] = {"br", "zstd", "deflate", "compress", "gzip, gzip", "gzip ", "x-gzip2", "*"};
    enum proto_coding coding = PROTO_IDENTITY;
    assert_true(content_coding_named("GZip", &coding) && coding == PROTO_GZIP);
    assert_true(content_coding_named("identity", &coding) && coding == PROTO_IDENTITY);
    assert_true(content_coding_named("x-gzip", &coding) && coding == PROTO_GZIP);
    assert_true(content_coding_named("", &coding) && coding == PROTO_IDENTITY);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(content_coding_named(others[i], &coding));
}

static void a_body_that_is_not_coded_stays(void **state) {
    (void)state;
    struct proto_string body = {text, 5};
    assert_true(content_decode(PROTO_IDENTITY, 1, &arena, &body, &problem));
    assert_true(body.data == text && body.length == 5);
    assert_int_equal(content_claimed_size(PROTO_IDENTITY, text, 5), 5);
}

static void bodies_of_every_size_come_back(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 17, 18, 255, 256, 257, 32767, 32768, 65536, 100000, MOST};
    for (int level = 0; level <= 9; level += 3) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
            struct proto_string body;
            size_t size = pack(sizes[i], level);
            assert_int_equal(content_claimed_size(PROTO_GZIP, packed, size), sizes[i]);
            assert_true(decode(packed, size, sizes[i], &body));
            assert_int_equal(body.length, sizes[i]);
            assert_memory_equal(body.data, text, sizes[i]);
            assert_true(sizes[i] == 0 || !decode(packed, size, sizes[i] - 1, &body));
            assert_true(sizes[i] == 0 || problem.kind == PROBLEM_BODY_TOO_LARGE);
        }
    }
}

static void headers_with_names_and_comments_are_skipped(void **state) {
    (void)state;
    struct proto_string body;
    char named[256] = "\x1f\x8b\x08\x1c\0\0\0\0\0\xff\x03\0abcname\0comment"; /* FEXTRA, FNAME, FCOMMENT */
    size_t size = pack(5, 6), head = 10 + 2 + 3 + 5 + 8;
    memcpy(named + head, packed + 10, size - 10);
    assert_true(decode(named, head + size - 10, MOST, &body));
    assert_memory_equal(body.data, text, 5);
}

static void what_is_cut_or_changed_is_refused(void **state) {
    (void)state;
    struct proto_string body;
    size_t size = pack(3000, 6);
    for (size_t cut = 0; cut < size; cut++) {
        assert_false(decode(packed, cut, MOST, &body));
        assert_true(problem.kind == PROBLEM_INVALID_CODING || problem.kind == PROBLEM_BODY_TOO_LARGE);
    }
    for (size_t at = 0; at < size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            packed[at] ^= (char)(1 << bit);
            if (decode(packed, size, MOST, &body)) { /* a flag or the time of the header, or another way to say it */
                assert_true(at >= 3 && at < size - 8);
                assert_memory_equal(body.data, text, 3000);
            }
            packed[at] ^= (char)(1 << bit);
        }
    }
}

static void nothing_follows_the_member(void **state) {
    (void)state;
    struct proto_string body;
    size_t size = pack(100, 6);
    memmove(packed + size, packed, size); /* another member of the same size */
    assert_false(decode(packed, 2 * size, MOST, &body));
    assert_int_equal(problem.kind, PROBLEM_INVALID_CODING);
    assert_non_null(strstr(problem.detail, "first member"));
}

/* A bomb that claims to be small is decoded no further than it claims. */
static void a_false_claim_is_refused(void **state) {
    (void)state;
    struct proto_string body;
    size_t size = pack(MOST, 9);
    for (size_t claim = 0; claim < MOST; claim = 3 * claim + 1) {
        for (size_t i = 0; i < 4; i++)
            packed[size - 4 + i] = (char)(claim >> 8 * i);
        arena_reset(&arena);
        assert_false(decode(packed, size, MOST, &body));
        assert_int_equal(problem.kind, PROBLEM_INVALID_CODING);
        assert_true(arena.used <= claim + 65536);
    }
    memset(packed + size - 4, 0xff, 4);
    assert_false(decode(packed, size, MOST, &body));
    assert_int_equal(problem.kind, PROBLEM_BODY_TOO_LARGE);
    assert_true(arena.used == 0);
}

static void memory_is_the_arenas(void **state) {
    (void)state;
    struct proto_string body;
    size_t size = pack(100000, 6);
    for (size_t limit = 64; limit < 400000; limit += 4096) {
        arena_free(&arena);
        arena_init(&arena, limit, 0);
        bool good = decode(packed, size, MOST, &body);
        assert_true(good || problem.kind == PROBLEM_OUT_OF_MEMORY);
        assert_true(arena.used <= limit);
        assert_true(!good || limit > 100000);
        assert_true(good || limit < 100000 + 65536);
    }
    arena_free(&arena);
    arena_init(&arena, 0, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_have_no_case),
        cmocka_unit_test(a_body_that_is_not_coded_stays),
        cmocka_unit_test(bodies_of_every_size_come_back),
        cmocka_unit_test(headers_with_names_and_comments_are_skipped),
        cmocka_unit_test(what_is_cut_or_changed_is_refused),
        cmocka_unit_test(nothing_follows_the_member),
        cmocka_unit_test(a_false_claim_is_refused),
        cmocka_unit_test(memory_is_the_arenas),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
