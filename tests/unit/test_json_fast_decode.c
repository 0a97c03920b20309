/* test_json_fast_decode.c: proto/json_fast_decode.c beside jansson. Both must decode a body to equal bits, and the fast
 * decoder must leave every body that is wrong or rare. Bodies are written by hand, made at random and damaged at
 * random.
 */
#include "proto/json_decode.h"
#include "proto/json_fast_decode.h"
#include "tests/support/random_bits.h"
#include "tests/support/same_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { RANDOM_BODIES = 20000, DAMAGED_EACH = 4 };

static struct arena scanned_arena, tree_arena;

static int start(void **state) {
    (void)state;
    json_decode_init();
    arena_init(&scanned_arena, 0, 1 << 20);
    arena_init(&tree_arena, 0, 1 << 20);
    return 0;
}

static int stop(void **state) {
    (void)state;
    arena_free(&scanned_arena);
    arena_free(&tree_arena);
    return 0;
}

/* Decodes a body both ways, the fast one from an allocation of exactly `size` bytes that is freed at once. Returns
 * whether the fast decoder took it; then jansson must take it too. */
static bool scan_bytes(const char *body, size_t size) {
    struct proto_request scanned, tree;
    struct problem problem;
    char *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, body, size);
    arena_reset(&scanned_arena);
    arena_reset(&tree_arena);
    memset(&scanned, 0xA5, sizeof scanned);
    bool taken = json_fast_decode_request(exact, size, &scanned_arena, &scanned);
    free(exact);
    if (!taken)
        return false;
    if (!json_decode_request_tree(body, size, &tree_arena, &tree, &problem))
        fail_msg("taken, though %s at '%s': %.*s", problem.detail, problem.pointer, (int)size, body);
    if (!same_request(&scanned, &tree))
        fail_msg("not the same: %.*s", (int)size, body);
    return true;
}

static void assert_taken(const char *body) {
    if (!scan_bytes(body, strlen(body)))
        fail_msg("left: %s", body);
}

static void assert_left(const char *body) {
    if (scan_bytes(body, strlen(body)))
        fail_msg("taken: %s", body);
}

/* A request with one candidate value, given as JSON. */
static const char *with_value(const char *value) {
    static char body[4096];
    snprintf(body, sizeof body, "{\"candidates\":{\"x\":[%s]}}", value);
    return body;
}

static const char everything[] =
    "{\"user_id\": \"u42\", \"user\": {\"country\": 29, \"taste\": [0.5, -1, 2e3]}, \"context\": {\"month\": 8, "
    "\"page\": \"home\"}, \"history\": {\"item\": [\"A13\", \"A16\"], \"category\": [1, 1, 2]}, \"candidates\": "
    "{\"item\": [\"B10\", \"C5\"], \"look\": [[1, 2], [3.5, 4], []]}, \"top_k\": 10, \"explain\": true}";

static void common_requests_are_taken(void **state) {
    (void)state;
    static const char *const bodies[] = {
        everything,
        " {\r\n\t\"candidates\" : { \"item\" : [ 1 , 2 ] } } \n",
        "{\"candidates\":[{\"item\":\"a\",\"price\":1.5},{\"price\":2,\"item\":\"b\"},{\"item\":\"c\"}]}",
        "{\"candidates\":[{},{\"a\":1},{\"b\":[1,2.5]},{}],\"history\":[]}",
        "{\"history\":{},\"user\":{},\"context\":{},\"candidates\":{\"a\":[1],\"b\":[]}}",
        "{\"user_id\":\"u\",\"history_token\":\"t\",\"history_append\":[{\"a\":1}],\"candidates\":{\"a\":[1]}}",
        "{\"explain\":false,\"top_k\":9223372036854775807,\"candidates\":{\"\":[1]}}",
        "{\"top_k\":10.0,\"candidates\":{\"a\":[1]}}",
        "{\"top_k\":1e1,\"candidates\":{\"a\":[1]}}",
        "\xEF\xBB\xBF{\"candidates\":{\"a\":[1]}}",
        "{\"user_id\":null,\"user\":null,\"context\":null,\"history\":null,\"candidates\":{\"a\":[1]}}",
        "{\"history_token\":null,\"history_append\":null,\"candidates\":{\"a\":[1]},\"history\":null}",
        "{\"top_k\":null,\"explain\": null ,\"candidates\":{\"a\":[1]}}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        assert_taken(bodies[i]);
}

static void numbers_have_equal_bits(void **state) {
    (void)state;
    static const char *const taken[] = {
        "0",
        "-0",
        "7",
        "-1",
        "9223372036854775807",
        "-9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551615",
        "18446744073709551616",
        "1e17",
        "-1e18",
        "1e19",
        "539024333136291647.000",
        "0.00539024333136291647e20",
        "5390243331362916470e-1",
        "900719925474099e4",
        "9007199254740991.0",
        "9007199254740991.4",
        "9007199254740991.6",
        "9007199254740993.5",
        "18446744073709551615e0",
        "184467440737095516150e-1",
        "[18446744073709551615,1e19,-1e19]",
        "null",
        "1,null",
        "1000000000000000000",
        "0.0",
        "-0.0",
        "1e0",
        "0e5",
        "-0e-400",
        "1E+2",
        "1e-2",
        "0.1",
        "1.5",
        "123456789.123456789",
        "9007199254740992.0",
        "9007199254740993.0",
        "9007199254740991e22",
        "1e22",
        "1e23",
        "123e-22",
        "123e-23",
        "4.9e-324",
        "2e-324",
        "1e-400",
        "1.7976931348623157e308",
        "2.2250738585072011e-308",
        "0.00000000000000000000000000001",
        "1234567890123456789012345678901234567890.5",
        "8.41e21",
        "5e-20",
        "9214843084008499.0",
        "0.500000000000000166533453693773481063544750213623046875",
        "179769313486231580793e287",
        "[]",
        "[1]",
        "[ -0.0 , 9007199254740993 , 1e3 ]",
    };
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        assert_taken(with_value(taken[i]));
}

static void strings_have_equal_bytes(void **state) {
    (void)state;
    static const char *const taken[] = {
        "\"\"",
        "\"A13\"",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
        "\"\\u0041\\u00e9\\u20AC\\uD83D\\uDE00 after\"",
        "\"\xC3\xA9\"",
        "\"\xE2\x82\xAC\"",
        "\"\xF0\x9F\x98\x80\"",
        "\"\xF4\x8F\xBF\xBF\"",
        "\"\xEF\xBF\xBF\"",
        "\"\xED\x9F\xBF\"",
        "\"\x7F\"",
        "\"\\uFFFF\\u0001\"",
        "\"\\n\xC3\xA9\\u0041\xE2\x82\xAC plain \\\\\",\"next\"",
    };
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        assert_taken(with_value(taken[i]));
}

static void wrong_or_rare_bodies_are_left(void **state) {
    (void)state;
    static const char *const values[] = {
        "",
        "1,",
        ",1",
        "01",
        "-",
        "-01",
        "+1",
        "1.",
        ".5",
        "1e",
        "1e+",
        "1.e5",
        "0x10",
        "NaN",
        "Infinity",
        "1e400",
        "-1e400",
        "nul",
        "nulls",
        "[null]",
        "[1,null",
        "true",
        "{}",
        "{\"a\":1}",
        "[[1]]",
        "[\"a\"]",
        "[1,]",
        "[,1]",
        "[1",
        "\"",
        "\"\\x\"",
        "\"\\\"",
        "\"\\u12\"",
        "\"\\u0000\"",
        "\"\\uD83D\"",
        "\"\\uDE00\"",
        "\"\\uD83D\\u0041\"",
        "\"\\uD83Dx\"",
        "\"\t\"",
        "\"\xC3\"",
        "\"\xC0\xAF\"",
        "\"\xC1\xBF\"",
        "\"\xE0\x80\xAF\"",
        "\"\xED\xA0\x80\"",
        "\"\xF0\x80\x80\x80\"",
        "\"\xF4\x90\x80\x80\"",
        "\"\xF5\x80\x80\x80\"",
        "\"\x80\"",
        "\"\xE2\x82\"",
        "\"\xFF\"",
        "1 2",
        "1]",
    };
    for (size_t i = 1; i < sizeof values / sizeof *values; i++)
        assert_left(with_value(values[i]));
    static const char *const bodies[] = {
        "",
        " ",
        "[]",
        "{}",
        "1",
        "{\"candidates\":{}}",
        "{\"candidates\":[]}",
        "{\"candidates\":[{}]}",
        "{\"candidates\":{\"a\":[]}}",
        "{\"candidates\":{\"a\":[1]}} x",
        "{\"candidates\":{\"a\":[1]},}",
        "{\"candidates\":{\"a\":[1],}}",
        "{\"candidates\":{\"a\":1}}",
        "{\"candidates\":{\"a\":[1],\"a\":[2]}}",
        "{\"candidates\":{\"a\":[1],\"\\u0061\":[2]}}",
        "{\"candidates\":[{\"a\":1,\"a\":2}]}",
        "{\"candidates\":[{\"a\":1},]}",
        "{\"candidates\":[1]}",
        "{\"candidates\":{\"a\":[1]},\"other\":1}",
        "{\"candidates\":{\"a\":[1]},\"candidates\":{\"a\":[1]}}",
        "{\"candidates\":{\"a\":[1]},\"user_id\":\"\"}",
        "{\"candidates\":{\"a\":[1]},\"user_id\":1}",
        "{\"candidates\":{\"a\":[1]},\"top_k\":0}",
        "{\"candidates\":{\"a\":[1]},\"top_k\":1.5}",
        "{\"candidates\":{\"a\":[1]},\"top_k\":9223372036854775808}",
        "{\"candidates\":{\"a\":[1]},\"explain\":nulll}",
        "{\"candidates\":{\"a\":[1]},\"explain\":null,\"explain\":true}",
        "{\"candidates\":{\"a\":[1]},\"other\":null}",
        "{\"candidates\":null}",
        "{\"candidates\":{\"a\":null}}",
        "{\"candidates\":[{\"a\":1},{\"a\":null}]}",
        "{\"candidates\":{\"a\":[1]},\"user\":{\"a\":null}}",
        "{\"candidates\":{\"a\":[1]},\"explain\":1}",
        "{\"candidates\":{\"a\":[1]},\"explain\":truer}",
        "{\"candidates\":{\"a\":[1]},\"explain\":fals}",
        "{\"candidates\":{\"a\":[1]},\"history\":1}",
        "{\"candidates\":{\"a\":[1]},\"history_token\":\"t\"}",
        "{\"candidates\":{\"a\":[1]},\"user\":[]}",
        "{\"candidates\":{\"a\":[1]},\"history_append\":[]}",
        "{\"candidates\":{\"a\":[1]},\"user_id\":\"u\",\"history_token\":\"t\",\"history\":[]}",
        "{\"user_id\":\"u\",\"history\":{\"a\":[1]}}",
        "\xEF\xBB{\"candidates\":{\"a\":[1]}}",
        "\xEF\xBB\xBF",
        "{\"candidates\":{\"a\":[1]}}\xEF\xBB\xBF",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        assert_left(bodies[i]);
}

static void a_nul_byte_is_left(void **state) {
    (void)state;
    static const char body[] = "{\"candidates\":{\"a\":[1]}}\0";
    assert_false(scan_bytes(body, sizeof body - 1));
    static const char within[] = "{\"candidates\":{\"a\":[\"\0\"]}}";
    assert_false(scan_bytes(within, sizeof within - 1));
}

static void a_body_may_end_anywhere(void **state) {
    (void)state;
    for (size_t size = 0; size < strlen(everything); size++)
        assert_false(scan_bytes(everything, size));
}

/* A group with the largest number of fields, and with one more. */
static void fields_are_bounded(void **state) {
    (void)state;
    for (size_t rows = 0; rows < 2; rows++)
        for (size_t fields = 256; fields <= 257; fields++) {
            char *body;
            size_t size;
            FILE *out = open_memstream(&body, &size);
            assert_non_null(out);
            fprintf(out, "{\"candidates\":%s", rows ? "[{" : "{");
            for (size_t i = 0; i < fields; i++)
                fprintf(out, rows ? "%s\"f%zu\":1" : "%s\"f%zu\":[1]", i > 0 ? "," : "", i);
            fprintf(out, "}%s}", rows ? "]" : "");
            fclose(out);
            assert_int_equal(scan_bytes(body, size), fields == 256);
            free(body);
        }
}

/* ---- at random ---- */

static uint64_t random_state;

static size_t below(size_t bound) {
    return (size_t)(random_bits(&random_state) % bound);
}

static void put_space(FILE *out) {
    if (below(4) == 0)
        fputc(" \t\r\n"[below(4)], out);
}

static void put_random_string(FILE *out) {
    static const char *const pieces[] = {
        "a", "B7", "\\n", "\\\\", "\\u00e9", "\\uD83D\\uDE00", "\xC3\xA9", "\xF0\x9F\x98\x80",
        " ", "{",  "]",   ",",    "\\\"",    "\\u0007",        "\x7F"};
    fputc('"', out);
    for (size_t i = below(6); i > 0; i--)
        fputs(pieces[below(below(2) ? 2 : sizeof pieces / sizeof *pieces)], out);
    fputc('"', out);
}

static void put_random_number(FILE *out) {
    union {
        uint64_t bits;
        double real;
    } any = {random_bits(&random_state)};
    switch (below(6)) {
    case 0:
        fprintf(out, "%lld", (long long)any.bits);
        return;
    case 1:
        fprintf(out, "%.*e", (int)below(20), any.real - any.real == 0 ? any.real : 1.0);
        return;
    case 2:
        fprintf(out, "%.*f", (int)below(12) + 1, (double)(int64_t)any.bits * 1e-9);
        return;
    case 3:
        fprintf(out, "%u.%0*ue%d", (unsigned int)below(1000), (int)below(18) + 1, (unsigned int)below(10),
                (int)below(80) - 40);
        return;
    default:
        fprintf(out, "%d", (int)below(2000) - 1000);
        return;
    }
}

static void put_random_value(FILE *out) {
    size_t kind = below(8);
    if (kind < 3) {
        put_random_string(out);
    } else if (kind < 7) {
        put_random_number(out);
    } else {
        fputc('[', out);
        for (size_t i = 0, count = below(4); i < count; i++) {
            fputs(i > 0 ? "," : "", out);
            put_space(out);
            put_random_number(out);
        }
        fputc(']', out);
    }
}

static void put_random_values(FILE *out) {
    fputc('[', out);
    for (size_t i = 0, count = below(6); i < count; i++) {
        fputs(i > 0 ? "," : "", out);
        put_space(out);
        put_random_value(out);
        put_space(out);
    }
    fputc(']', out);
}

/* Fields in random order, rarely with a duplicate name. */
static void put_random_fields(FILE *out, void (*put)(FILE *)) {
    static const char *const names[] = {"item", "category", "a", "\\u0062", "", "price"};
    size_t first = below(6), step = below(30) == 0 ? 0 : 1;
    fputc('{', out);
    for (size_t i = 0, count = below(4) + (below(4) > 0); i < count; i++) {
        fprintf(out, "%s\"%s\"", i > 0 ? "," : "", names[(first + i * step) % 6]);
        put_space(out);
        fputc(':', out);
        put_space(out);
        put(out);
    }
    fputc('}', out);
}

static void put_random_table(FILE *out) {
    if (below(2)) {
        put_random_fields(out, put_random_values);
        return;
    }
    fputc('[', out);
    for (size_t i = 0, count = below(5) + 1; i < count; i++) {
        fputs(i > 0 ? "," : "", out);
        put_space(out);
        put_random_fields(out, put_random_value);
    }
    fputc(']', out);
}

static void put_random_member(FILE *out, size_t member) {
    static const char *const names[] = {"history", "history_append", "user",  "context",
                                        "user_id", "history_token",  "top_k", "explain"};
    fprintf(out, ",\"%s\":", names[member]);
    put_space(out);
    if (member < 2)
        put_random_table(out);
    else if (member < 4)
        put_random_fields(out, put_random_value);
    else if (member < 6)
        fputs(below(8) > 0 ? "\"u42\"" : "\"\"", out);
    else if (member == 6)
        fprintf(out, "%d", (int)below(40));
    else
        fputs(below(2) ? "true" : "false", out);
}

static char *random_body(size_t *size) {
    char *body;
    FILE *out = open_memstream(&body, size);
    assert_non_null(out);
    put_space(out);
    fputs("{\"candidates\":", out);
    put_random_table(out);
    size_t members = below(256);
    if (below(8) > 0) /* mostly members that are allowed together: a token with a user_id, or a history */
        members = (members & 1) != 0 ? members & ~0x22U : members | 0x30;
    for (size_t member = 0; member < 8; member++)
        if (members & 1U << member)
            put_random_member(out, member);
    fputc('}', out);
    put_space(out);
    fclose(out);
    return body;
}

static void damage(char *body, size_t size, size_t at) {
    static const char bytes[] = "\"\\,:[]{}0-.eE1 \x80\xC3\xED\xF4nu";
    switch (below(3)) {
    case 0:
        body[at] = bytes[below(sizeof bytes)]; /* the NUL at its end is one of them */
        return;
    case 1:
        body[at] = (char)random_bits(&random_state);
        return;
    default:
        body[at] = body[below(size)];
        return;
    }
}

static void bodies_at_random(void **state) {
    (void)state;
    random_state = 1;
    size_t taken = 0, damaged_taken = 0;
    for (size_t i = 0; i < RANDOM_BODIES; i++) {
        size_t size;
        char *body = random_body(&size);
        taken += scan_bytes(body, size);
        for (size_t j = 0; j < DAMAGED_EACH; j++) {
            size_t at = below(size);
            char whole = body[at];
            damage(body, size, at);
            damaged_taken += scan_bytes(body, size);
            body[at] = whole;
        }
        free(body);
    }
    print_message("taken: %zu of %d as made, %zu of %d damaged\n", taken, RANDOM_BODIES, damaged_taken,
                  RANDOM_BODIES * DAMAGED_EACH);
    assert_true(taken > RANDOM_BODIES / 4);
    assert_true(damaged_taken > RANDOM_BODIES / 10);
}

/* Texts of numbers of every length: those that take one multiplication, and those left to strtod. */
static void numbers_at_random(void **state) {
    (void)state;
    random_state = 2;
    size_t taken = 0;
    for (size_t i = 0; i < RANDOM_BODIES; i++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(out);
        put_random_number(out);
        fclose(out);
        const char *body = with_value(text);
        taken += scan_bytes(body, strlen(body));
        free(text);
    }
    assert_true(taken > RANDOM_BODIES * 9 / 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(common_requests_are_taken), cmocka_unit_test(numbers_have_equal_bits),
        cmocka_unit_test(strings_have_equal_bytes),  cmocka_unit_test(wrong_or_rare_bodies_are_left),
        cmocka_unit_test(a_nul_byte_is_left),        cmocka_unit_test(a_body_may_end_anywhere),
        cmocka_unit_test(fields_are_bounded),        cmocka_unit_test(bodies_at_random),
        cmocka_unit_test(numbers_at_random),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
