/* test_json_line.c: members of a log line as text, which jansson reads back, in no more room than was promised. */
#include "proto/json_line.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 4096 };

/* The members in memory of just the promised size, so that sanitizers see a byte too many; the caller's. */
static char *put(const struct proto_member *members, size_t count) {
    size_t most = json_line_most(members, count);
    char *exact = malloc(most + 1), *text = malloc(most + 1);
    assert_non_null(exact);
    assert_non_null(text);
    char *room = exact + 1; /* the end of the memory is the end of the room */
    size_t length = (size_t)(json_line_put(members, count, room) - room);
    assert_true(length <= most);
    memcpy(text, room, length);
    text[length] = '\0';
    free(exact);
    return text;
}

static void assert_text(const struct proto_member *members, size_t count, const char *expected) {
    char *text = put(members, count);
    assert_string_equal(text, expected);
    free(text);
}

/* The one member, as jansson reads it; the caller's. */
static json_t *read_back(struct proto_member member) {
    char line[MOST], *text = put(&member, 1);
    int length = snprintf(line, sizeof line, "{%s}", text);
    assert_in_range(length, 1, sizeof line - 1);
    json_t *object = json_loads(line, JSON_ALLOW_NUL, NULL);
    if (object == NULL)
        fail_msg("%s is no JSON", line);
    json_t *value = json_incref(json_object_get(object, member.name));
    assert_non_null(value);
    json_decref(object);
    free(text);
    return value;
}

static void whole_numbers_stay_whole(void **state) {
    (void)state;
    const struct proto_member members[] = {
        {"event", "say \"hi\"\n", 0}, {"zero", NULL, 0},       {"status", NULL, 200},       {"bytes", NULL, 1e15},
        {"minus", NULL, -3},          {"huge", NULL, 1e300},   {"seconds", NULL, 0.000125}, {"exact", NULL, 0.1},
        {"nan", NULL, (double)NAN},   {"inf", NULL, INFINITY}, {"empty", "", 0.5},
    };
    assert_text(members, sizeof members / sizeof *members,
                "\"event\":\"say \\\"hi\\\"\\n\",\"zero\":0,\"status\":200,\"bytes\":1000000000000000,\"minus\":-3,"
                "\"huge\":1e+300,\"seconds\":0.000125,\"exact\":0.1,\"inf\":null,\"empty\":\"\"");
    assert_text(members, 0, "");
}

/* Wherever they stand, no comma is left over. */
static void members_without_a_value_are_left_out(void **state) {
    (void)state;
    const struct proto_member first[] = {{"a", NULL, (double)NAN}, {"b", NULL, 1}, {"c", NULL, (double)NAN}};
    assert_text(first, 3, "\"b\":1");
    assert_text(first, 1, "");
}

/* A duration has at most nine decimals, without an exponent; any double is given back exactly. */
static void numbers_come_back_exactly(void **state) {
    (void)state;
    static const struct {
        double number;
        const char *text;
    } cases[] = {{1e-9, "0.000000001"},
                 {45123e-9, "0.000045123"},
                 {0.25, "0.25"},
                 {12.000000001, "12.000000001"},
                 {1.5, "1.5"},
                 {999999.999999999, NULL},
                 {-0.25, "-0.25"},
                 {1. / 3, NULL},
                 {1e-300, NULL},
                 {4.9406564584124654e-324, NULL},
                 {1.7976931348623157e308, NULL},
                 {1e-10, NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct proto_member member = {"n", NULL, cases[i].number};
        json_t *value = read_back(member);
        assert_true(json_number_value(value) == cases[i].number);
        json_decref(value);
        char text[64];
        snprintf(text, sizeof text, "\"n\":%s", cases[i].text != NULL ? cases[i].text : "");
        if (cases[i].text != NULL)
            assert_text(&member, 1, text);
    }
    for (uint64_t nano = 1; nano < 2000000000; nano = nano * 3 / 2 + 1) {
        json_t *value = read_back((struct proto_member){"n", NULL, (double)nano / 1e9});
        assert_true(json_number_value(value) == (double)nano / 1e9);
        json_decref(value);
    }
}

static void every_byte_can_be_written(void **state) {
    (void)state;
    for (int byte = 1; byte < 0x80; byte++) {
        const char text[] = {'a', (char)byte, 'z', '\0'};
        json_t *value = read_back((struct proto_member){"s", text, 0});
        assert_string_equal(json_string_value(value), text);
        json_decref(value);
    }
}

/* Text in UTF-8 stays; one wrong byte, wherever it is, turns all that is not ASCII into question marks. */
static void bytes_that_are_not_utf8_become_question_marks(void **state) {
    (void)state;
    static const struct {
        const char *text, *expected;
    } cases[] = {{"caf\xC3\xA9", "caf\xC3\xA9"},      {"\xE2\x82\xAC\xF0\x9F\x98\x80", "\xE2\x82\xAC\xF0\x9F\x98\x80"},
                 {"/\xFF\x80z\xC3\"", "/??z?\""},     {"\xC3\xA9\xC3", "???"},
                 {"\xC3\xA9 then \xFF", "?? then ?"}, {"\xED\xA0\x80", "???"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *value = read_back((struct proto_member){"s", cases[i].text, 0});
        assert_string_equal(json_string_value(value), cases[i].expected);
        json_decref(value);
    }
}

/* Six bytes for each of a string's, and the longest numbers there are. */
static void the_longest_members_fit(void **state) {
    (void)state;
    char text[301];
    memset(text, 1, sizeof text - 1);
    text[sizeof text - 1] = '\0';
    const struct proto_member members[] = {
        {"s", text, 0}, {"n", NULL, -2.2250738585072014e-308}, {"i", NULL, -9007199254740991.0}, {"t", text, 0}};
    char *line = put(members, 4);
    assert_true(strlen(line) > (size_t)2 * 6 * 300);
    free(line);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_stay_whole),
        cmocka_unit_test(members_without_a_value_are_left_out),
        cmocka_unit_test(numbers_come_back_exactly),
        cmocka_unit_test(every_byte_can_be_written),
        cmocka_unit_test(bytes_that_are_not_utf8_become_question_marks),
        cmocka_unit_test(the_longest_members_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
