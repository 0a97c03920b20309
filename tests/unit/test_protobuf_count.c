/* test_protobuf_count.c: proto/protobuf_count.c on messages written byte by byte, compared with their decoding, and on
 * damaged messages.
 */
#include "proto/json_decode.h"
#include "proto/protobuf.h"
#include "proto/protobuf_count.h"
#include "tests/support/random_bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ITEM   0x0A, 4, 'i', 't', 'e', 'm'  /* Column.name */
#define REALS3 0x22, 24, REAL, REAL, REAL   /* Column.reals, packed */
#define REAL   0, 0, 0, 0, 0, 0, 0xF0, 0x3F /* 1.0 */

/* A history of 2 strings, and candidates of 3 integers and of 3 reals. */
static const uint8_t whole[] = {
    0x22, 14, 0x0A, 12, ITEM, 0x1A, 1,   'a', 0x1A, 1,      'b',        /* history */
    0x3A, 51, 0x0A, 12, ITEM, 0x12, 4,   1,   0xFF, 0x7F,   2,          /* candidates: 1, 16383, 2 */
    0x0A, 35, 0x0A, 5,  'p',  'r',  'i', 'c', 'e',  REALS3, 0x28, 0x00, /* Column.width: 0 */
};

static void assert_counts(const uint8_t *bytes, size_t size, bool has_history, size_t history, size_t candidates) {
    uint8_t *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, size);
    struct protobuf_counts counts = protobuf_count_values((const char *)exact, size);
    free(exact);
    assert_int_equal(counts.has_history, has_history);
    assert_int_equal(counts.history, history);
    assert_int_equal(counts.candidates, candidates);
}

#define ASSERT_COUNTS(has_history, history, candidates, ...)                                                           \
    assert_counts((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}), has_history, history,        \
                  candidates)

static void counts_are_those_of_the_decoder(void **state) {
    (void)state;
    struct arena arena;
    struct proto_request request;
    struct problem problem;
    arena_init(&arena, 0, 0);
    if (!protobuf_decode_request((const char *)whole, sizeof whole, true, &arena, &request, &problem))
        fail_msg("%s: %s", problem.pointer, problem.detail);
    assert_int_equal(request.history.column[0].count, 2);
    assert_int_equal(request.candidates.column[0].count, 3);
    assert_int_equal(request.candidates.column[1].count, 3);
    arena_free(&arena);
    assert_counts(whole, sizeof whole, true, 2, 3 + 3);
}

static void a_message_without_values(void **state) {
    (void)state;
    assert_counts(whole, 0, false, 0, 0);
    ASSERT_COUNTS(true, 0, 0, 0x22, 0);                         /* an empty history */
    ASSERT_COUNTS(true, 0, 0, 0x22, 2, 0x0A, 0);                /* a column without members */
    ASSERT_COUNTS(true, 0, 0, 0x22, 4, 0x0A, 2, 0x12, 0);       /* no packed integers */
    ASSERT_COUNTS(false, 0, 0, 0x0A, 1, 'u', 0x40, 5, 0x48, 1); /* user_id, top_k, explain */
}

/* proto3 allows numbers unpacked, and a group in several parts. */
static void other_encodings_of_values(void **state) {
    (void)state;
    ASSERT_COUNTS(true, 3, 0, 0x22, 9, 0x0A, 7, 0x10, 7, 0x10, 0xFF, 0x01, 0x10, 0);          /* 7, 255, 0 */
    ASSERT_COUNTS(true, 3, 0, 0x22, 7, 0x0A, 5, 0x32, 3, 1, 2, 3);                            /* unsigned, packed */
    ASSERT_COUNTS(false, 0, 2, 0x3A, 20, 0x0A, 18, 0x21, REAL, 0x21, REAL);                   /* 1.0, 1.0 */
    ASSERT_COUNTS(false, 0, 2, 0x3A, 5, 0x0A, 3, 0x12, 1, 7, 0x3A, 5, 0x0A, 3, 0x1A, 1, 'a'); /* two parts */
    ASSERT_COUNTS(false, 0, 1, 0x3A, 14, 0x0A, 12, 0x22, 10, REAL, 0, 0);                     /* 10 bytes: one real */
}

/* Other fields of every wire type do not count. */
static void unknown_fields_are_skipped(void **state) {
    (void)state;
    ASSERT_COUNTS(true, 1, 0, 0x22, 27, 0x0A, 25, 0x38, 0x80, 0x01, 0x3D, 1, 2, 3, 4, 0x39, REAL, 0x3A, 3, 1, 2, 3,
                  0x12, 1, 9);
}

/* The count ends at bytes that are no field, and keeps the values before them. */
static void the_count_ends_at_other_bytes(void **state) {
    (void)state;
    static const uint8_t ends[][12] = {
        {0x23},                                                                /* a group's start, removed in proto3 */
        {0x27},                                                                /* wire type 7 */
        {0x3A, 5, 0x0A},                                                       /* a length beyond the end */
        {0x3A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01},    /* a length of 2^64 - 1 */
        {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1}, /* a varint of 12 bytes */
    };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        uint8_t bytes[7 + sizeof *ends] = {0x3A, 5, 0x0A, 3, 0x12, 1, 7};
        memcpy(bytes + 7, ends[i], sizeof *ends);
        assert_counts(bytes, sizeof bytes, false, 0, 1);
    }
    ASSERT_COUNTS(false, 0, 1, 0x3A, 5, 0x0A, 3, 0x12, 1, 7, 0x80);    /* a tag cut short */
    ASSERT_COUNTS(false, 0, 1, 0x3A, 5, 0x0A, 3, 0x12, 1, 7, 0x40);    /* a varint without its byte */
    ASSERT_COUNTS(false, 0, 1, 0x3A, 5, 0x0A, 3, 0x12, 1, 7, 0x21, 0); /* a fixed64 of one byte */
}

/* No count exceeds the number of bytes, so a damaged message cannot claim more work than its size allows. */
static void damaged_messages(void **state) {
    (void)state;
    uint64_t random_state = 5;
    for (size_t i = 0; i < 200000; i++) {
        uint8_t bytes[sizeof whole];
        memcpy(bytes, whole, sizeof whole);
        size_t size = sizeof whole - random_bits(&random_state) % sizeof whole;
        for (size_t changes = random_bits(&random_state) % 4; changes > 0; changes--)
            bytes[random_bits(&random_state) % size] = (uint8_t)random_bits(&random_state);
        uint8_t *exact = malloc(size);
        assert_non_null(exact);
        memcpy(exact, bytes, size);
        struct protobuf_counts counts = protobuf_count_values((const char *)exact, size);
        free(exact);
        assert_true(counts.history + counts.candidates <= size);
        assert_true(counts.has_history || counts.history == 0);
    }
}

static int start(void **state) {
    (void)state;
    json_decode_init();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counts_are_those_of_the_decoder), cmocka_unit_test(a_message_without_values),
        cmocka_unit_test(other_encodings_of_values),       cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(the_count_ends_at_other_bytes),   cmocka_unit_test(damaged_messages),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
