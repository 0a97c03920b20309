/* test_json_decode.c: good and bad bodies through proto/json_decode.c. */
#include "proto/json_decode.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;
static struct proto_request request;
static struct problem problem;

static int start(void **state) {
    (void)state;
    json_decode_init();
    arena_init(&arena, 0, 1 << 20);
    return 0;
}

static int stop(void **state) {
    (void)state;
    arena_free(&arena);
    return 0;
}

typedef bool decoder(const char *body, size_t size, struct arena *to, struct proto_request *decoded,
                     struct problem *why);

/* Decodes from an allocation of exactly `size` bytes and frees it at once. So AddressSanitizer and valgrind see a read
 * past its end, and a string that still points into it. */
static bool decode_by(decoder *decode_body, const char *body, size_t size) {
    char *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, body, size);
    arena_reset(&arena);
    memset(&request, 0xA5, sizeof request);
    memset(&problem, 0xA5, sizeof problem);
    bool decoded = decode_body(exact, size, &arena, &request, &problem);
    free(exact);
    return decoded;
}

static bool decode_bytes(const char *body, size_t size) {
    return decode_by(json_decode_request, body, size);
}

static bool decode_history_bytes(const char *body, size_t size) {
    return decode_by(json_decode_history, body, size);
}

static void decode_history(const char *body) {
    if (!decode_history_bytes(body, strlen(body)))
        fail_msg("%s: %s at '%s'", body, problem.detail, problem.pointer);
}

static void decode(const char *body) {
    if (!decode_bytes(body, strlen(body)))
        fail_msg("%s: %s at '%s'", body, problem.detail, problem.pointer);
}

static void assert_text(struct proto_string string, const char *expected) {
    assert_int_equal(string.length, strlen(expected));
    assert_memory_equal(string.data, expected, string.length);
}

static const struct proto_column *column(const struct proto_table *table, const char *name) {
    for (size_t i = 0; i < table->columns; i++) {
        const struct proto_column *found = &table->column[i];
        if (found->name.length == strlen(name) && memcmp(found->name.data, name, found->name.length) == 0)
            return found;
    }
    fail_msg("there is no column %s", name);
    return NULL;
}

static const struct proto_value *value(const struct proto_table *table, const char *name, size_t row) {
    const struct proto_column *found = column(table, name);
    assert_true(row < found->count);
    return &found->values[row];
}

static void assert_string(const struct proto_value *found, const char *expected) {
    assert_int_equal(found->kind, PROTO_STRING);
    assert_text((struct proto_string){found->string, found->length}, expected);
}

static void assert_integer(const struct proto_value *found, int64_t expected) {
    assert_int_equal(found->kind, PROTO_INTEGER);
    assert_int_equal(found->integer, expected);
}

/* ---- good bodies ---- */

static const char everything[] =
    "{\"user_id\": \"u42\", \"user\": {\"country\": 29, \"taste\": [0.5, -1, 2e3]}, \"context\": {\"month\": 8, "
    "\"hour\": 17.25, \"page\": \"home\"}, \"history\": {\"item\": [\"A13\", \"A16\", \"B4\"], \"category\": [1, 1, "
    "2]}, \"candidates\": {\"item\": [\"B10\", \"C5\"], \"price\": [28.0, 33.5], \"look\": [[1, 2], [3.5, 4]]}, "
    "\"top_k\": 10, \"explain\": true}";

static void a_request_with_everything(void **state) {
    (void)state;
    decode(everything);
    assert_true(request.has_user_id);
    assert_text(request.user_id, "u42");
    assert_int_equal(request.top_k, 10);
    assert_true(request.explain);

    assert_int_equal(request.user.columns, 2);
    assert_int_equal(request.user.rows, 1);
    assert_integer(value(&request.user, "country", 0), 29);
    const struct proto_value *taste = value(&request.user, "taste", 0);
    assert_int_equal(taste->kind, PROTO_VECTOR);
    assert_int_equal(taste->length, 3);
    assert_true(taste->vector[0] == 0.5 && taste->vector[1] == -1.0 && taste->vector[2] == 2000.0);
    assert_integer(value(&request.context, "month", 0), 8);
    assert_int_equal(value(&request.context, "hour", 0)->kind, PROTO_REAL);
    assert_true(value(&request.context, "hour", 0)->real == 17.25);
    assert_string(value(&request.context, "page", 0), "home");

    assert_true(request.history.present);
    assert_int_equal(request.history.form, PROTO_COLUMNS);
    assert_int_equal(request.history.rows, 3);
    assert_string(value(&request.history, "item", 2), "B4");
    assert_integer(value(&request.history, "category", 2), 2);
    assert_int_equal(request.candidates.rows, 2);
    assert_true(value(&request.candidates, "price", 0)->real == 28.0);
    assert_true(value(&request.candidates, "look", 1)->vector[0] == 3.5);
}

static void the_least_request(void **state) {
    (void)state;
    decode("{\"candidates\":{\"item\":[\"A1\"]}}");
    assert_false(request.has_user_id);
    assert_false(request.user.present);
    assert_false(request.context.present);
    assert_false(request.history.present);
    assert_int_equal(request.history.rows, 0);
    assert_int_equal(request.history.columns, 0);
    assert_true(request.candidates.present);
    assert_int_equal(request.top_k, 0);
    assert_false(request.explain);
}

static void an_empty_history_is_present(void **state) {
    (void)state;
    static const char *const histories[] = {"{}", "[]", "{\"item\":[]}"};
    for (size_t i = 0; i < 3; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"history\":%s,\"candidates\":{\"item\":[1]}}", histories[i]);
        decode(body);
        assert_true(request.history.present);
        assert_int_equal(request.history.rows, 0);
        assert_int_equal(request.history.columns, i == 2);
        assert_int_equal(request.history.form, i == 1 ? PROTO_ROWS : PROTO_COLUMNS);
    }
}

static void columns_may_differ_in_length(void **state) {
    (void)state;
    decode("{\"candidates\":{\"a\":[1],\"b\":[1,2,3],\"c\":[1,2]}}");
    assert_int_equal(request.candidates.rows, 3);
    assert_int_equal(column(&request.candidates, "a")->count, 1);
    assert_int_equal(column(&request.candidates, "c")->count, 2);
}

static void every_kind_of_value(void **state) {
    (void)state;
    decode("{\"candidates\":{\"x\":[0,-9223372036854775808,9223372036854775807,1.0,\"\",[],[1],[1,\"a\"],[[1]],"
           "true,false,{},\"a\\u0000\",null,1e-999,[\"a\",\"\",\"29\"],[\"a\",\"\\u0000\"],[null],[\"a\",null]]}}");
    const struct proto_value *values = column(&request.candidates, "x")->values;
    assert_integer(&values[0], 0);
    assert_integer(&values[1], INT64_MIN);
    assert_integer(&values[2], INT64_MAX);
    assert_int_equal(values[3].kind, PROTO_REAL);
    assert_string(&values[4], "");
    assert_int_equal(values[5].kind, PROTO_VECTOR);
    assert_int_equal(values[5].length, 0);
    assert_int_equal(values[6].kind, PROTO_VECTOR);
    for (size_t i = 7; i < 13; i++)
        assert_int_equal(values[i].kind, PROTO_OTHER);
    assert_int_equal(values[13].kind, PROTO_ABSENT);
    assert_true(values[14].kind == PROTO_REAL && values[14].real == 0.0);
    assert_int_equal(values[15].kind, PROTO_STRINGS);
    assert_int_equal(values[15].length, 3);
    assert_true(proto_string_is(&values[15].strings[0], "a", 1) && values[15].strings[1].length == 0 &&
                proto_string_is(&values[15].strings[2], "29", 2));
    for (size_t i = 16; i < 19; i++)
        assert_int_equal(values[i].kind, PROTO_OTHER);
}

static void strings_are_utf8_and_unescaped(void **state) {
    (void)state;
    decode("{\"candidates\":{\"n\xC3\xA4me\":[\"caf\xC3\xA9\",\"caf\\u00e9\",\"\\ud83d\\ude00\",\"\\\"\\\\\\/\\b\\n\","
           "\"\xF0\x9F\x98\x80\"]}}");
    const struct proto_table *table = &request.candidates;
    assert_string(value(table, "n\xC3\xA4me", 0), "caf\xC3\xA9");
    assert_string(value(table, "n\xC3\xA4me", 1), "caf\xC3\xA9");
    assert_string(value(table, "n\xC3\xA4me", 2), "\xF0\x9F\x98\x80");
    assert_string(value(table, "n\xC3\xA4me", 3), "\"\\/\b\n");
    assert_string(value(table, "n\xC3\xA4me", 4), "\xF0\x9F\x98\x80");
}

static void user_id_up_to_its_limit(void **state) {
    (void)state;
    for (int length = 1; length <= 300; length++) {
        char body[400];
        snprintf(body, sizeof body, "{\"user_id\":\"%0*d\",\"candidates\":{\"i\":[1]}}", length, 7);
        assert_int_equal(decode_bytes(body, strlen(body)), length <= 256);
    }
    assert_string_equal(problem.pointer, "/user_id");
}

/* A token, with or without an append, replaces the history. */
static void a_token_in_place_of_the_history(void **state) {
    (void)state;
    decode("{\"user_id\":\"u\",\"history_token\":\"0f\\u0061\",\"candidates\":{\"i\":[1]}}");
    assert_true(request.has_history_token);
    assert_text(request.history_token, "0fa");
    assert_false(request.history.present);
    assert_false(request.history_append.present);
    decode("{\"history_append\":{\"i\":[5,6]},\"user_id\":\"u\",\"history_token\":\"t\",\"candidates\":{\"i\":[1]}}");
    assert_true(request.history_append.present);
    assert_int_equal(request.history_append.rows, 2);
    assert_integer(value(&request.history_append, "i", 1), 6);
    decode("{\"user_id\":\"u\",\"candidates\":{\"i\":[1]}}");
    assert_false(request.has_history_token);
}

static void token_up_to_its_limit(void **state) {
    (void)state;
    char body[400];
    snprintf(body, sizeof body, "{\"user_id\":\"u\",\"candidates\":[{\"i\":1}],\"history_token\":\"%0256d\"}", 0);
    decode(body);
    assert_int_equal(request.history_token.length, 256);
    snprintf(body, sizeof body, "{\"user_id\":\"u\",\"candidates\":[{\"i\":1}],\"history_token\":\"%0257d\"}", 0);
    assert_false(decode_bytes(body, strlen(body)));
    assert_string_equal(problem.pointer, "/history_token");
}

static void histories_alone(void **state) {
    (void)state;
    decode_history("{\"history\":{\"i\":[1,2]}}");
    assert_true(request.history.present);
    assert_int_equal(request.history.rows, 2);
    assert_false(request.has_user_id || request.has_history_token || request.candidates.present);
    decode_history("{\"history\":[]}");
    assert_true(request.history.present);
    decode_history("{\"history_append\":[{\"i\":7}]}");
    assert_integer(value(&request.history_append, "i", 0), 7);
    assert_false(request.has_history_token);
    decode_history("{\"history_token\":\"t\",\"history_append\":[]}");
    assert_true(request.has_history_token && request.history_append.present);
}

static const struct {
    const char *body;
    const char *pointer;
    const char *detail; /* part of it */
} not_histories[] = {
    {"[]", "", "must be an object"},
    {"{}", "", "a history or a history_append"},
    {"{\"history_token\":\"t\"}", "", "a history or a history_append"},
    {"{\"history\":[],\"history_token\":\"t\"}", "/history_token", "not both"},
    {"{\"history\":[],\"history_append\":[]}", "/history_append", "cannot have a history_append"},
    {"{\"history\":5}", "/history", "object of columns or an array of row objects"},
    {"{\"history\":[],\"user_id\":\"u\"}", "/user_id", "no such member"},
    {"{\"history\":[],\"candidates\":[{\"i\":1}]}", "/candidates", "no such member"},
    {"{\"history\":[],\"top_k\":1}", "/top_k", "no such member"},
};

static void wrong_histories_point_at_the_fault(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof not_histories / sizeof *not_histories; i++) {
        const char *body = not_histories[i].body;
        if (decode_history_bytes(body, strlen(body)))
            fail_msg("%s was taken", body);
        assert_int_equal(problem.kind, PROBLEM_INVALID_REQUEST);
        assert_string_equal(problem.pointer, not_histories[i].pointer);
        if (strstr(problem.detail, not_histories[i].detail) == NULL)
            fail_msg("%s: %s", body, problem.detail);
    }
    assert_false(decode_history_bytes("{", 1));
    assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
}

static void brackets_in_strings_do_not_nest(void **state) {
    (void)state;
    decode("{\"candidates\":{\"i\":[\"[[[[[[[[[[[[[[[[[[[[[[{{{{{{{\\\"[[[[\\\\\"]}}");
    assert_string(value(&request.candidates, "i", 0), "[[[[[[[[[[[[[[[[[[[[[[{{{{{{{\"[[[[\\");
}

/* ---- rows ---- */

static void rows_take_the_union_of_their_keys(void **state) {
    (void)state;
    decode("{\"candidates\":[{\"a\":1,\"b\":\"x\"},{},{\"b\":\"y\",\"c\":2.5,\"a\":3},{\"c\":[1,2]}]}");
    const struct proto_table *table = &request.candidates;
    assert_int_equal(table->form, PROTO_ROWS);
    assert_int_equal(table->rows, 4);
    assert_int_equal(table->columns, 3);
    assert_text(table->column[0].name, "a");
    assert_text(table->column[1].name, "b");
    assert_text(table->column[2].name, "c");
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(table->column[i].count, 4);
    static const enum proto_value_kind kinds[4][3] = {{PROTO_INTEGER, PROTO_STRING, PROTO_ABSENT},
                                                      {PROTO_ABSENT, PROTO_ABSENT, PROTO_ABSENT},
                                                      {PROTO_INTEGER, PROTO_STRING, PROTO_REAL},
                                                      {PROTO_ABSENT, PROTO_ABSENT, PROTO_VECTOR}};
    for (size_t row = 0; row < 4; row++) {
        for (size_t i = 0; i < 3; i++)
            assert_int_equal(table->column[i].values[row].kind, kinds[row][i]);
    }
    assert_integer(value(table, "a", 2), 3);
    assert_string(value(table, "b", 2), "y");
}

static void assert_same_value(const struct proto_value *a, const struct proto_value *b) {
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->length, b->length);
    if (a->kind == PROTO_STRING)
        assert_memory_equal(a->string, b->string, a->length);
    else if (a->kind == PROTO_VECTOR)
        assert_memory_equal(a->vector, b->vector, a->length * sizeof *a->vector);
    else
        assert_int_equal(a->integer, b->integer);
}

static void assert_same_table(const struct proto_table *a, const struct proto_table *b) {
    assert_int_equal(a->present, b->present);
    assert_int_equal(a->rows, b->rows);
    assert_int_equal(a->columns, b->columns);
    for (size_t i = 0; i < a->columns; i++) {
        assert_int_equal(a->column[i].name.length, b->column[i].name.length);
        assert_memory_equal(a->column[i].name.data, b->column[i].name.data, a->column[i].name.length);
        assert_int_equal(a->column[i].count, b->column[i].count);
        for (size_t row = 0; row < a->column[i].count; row++)
            assert_same_value(&a->column[i].values[row], &b->column[i].values[row]);
    }
}

/* Field `field` of candidate i. The fields cover each valid kind of value. */
static const char *const field_names[] = {"item", "category", "price", "look"};

static void write_value(FILE *out, size_t field, size_t i) {
    if (field == 0)
        fprintf(out, "\"A%zu\"", i);
    else if (field == 1)
        fprintf(out, "%zu", i % 5);
    else if (field == 2)
        fprintf(out, "%zu.5", i);
    else
        fprintf(out, "[%zu,0.25]", i);
}

static void write_rows(FILE *out, size_t count) {
    for (size_t i = 0; i < count; i++) {
        for (size_t field = 0; field < 4; field++) {
            fprintf(out, "%s\"%s\":", field > 0 ? "," : i > 0 ? "},{" : "[{", field_names[field]);
            write_value(out, field, i);
        }
    }
    fputs("}]", out);
}

static void write_columns(FILE *out, size_t count) {
    for (size_t field = 0; field < 4; field++) {
        fprintf(out, "%s\"%s\":", field > 0 ? "]," : "{", field_names[field]);
        for (size_t i = 0; i < count; i++) {
            fputc(i > 0 ? ',' : '[', out);
            write_value(out, field, i);
        }
    }
    fputs("]}", out);
}

/* A body with `count` behaviours and as many candidates. */
static char *long_body(size_t count, enum proto_form form) {
    void (*write_table)(FILE *, size_t) = form == PROTO_ROWS ? write_rows : write_columns;
    char *body;
    size_t size;
    FILE *out = open_memstream(&body, &size);
    assert_non_null(out);
    fputs("{\"history\":", out);
    write_table(out, count);
    fputs(",\"candidates\":", out);
    write_table(out, count);
    fputc('}', out);
    fclose(out);
    return body;
}

static void both_forms_decode_alike(void **state) {
    (void)state;
    static const size_t counts[] = {1, 2, 1000, 4000};
    for (size_t i = 0; i < 4; i++) {
        char *columns = long_body(counts[i], PROTO_COLUMNS);
        char *rows = long_body(counts[i], PROTO_ROWS);
        struct arena other;
        arena_init(&other, 0, 0);
        struct proto_request from_columns;
        assert_true(json_decode_request(columns, strlen(columns), &other, &from_columns, &problem));
        decode(rows);
        assert_int_equal(request.candidates.rows, counts[i]);
        assert_same_table(&request.candidates, &from_columns.candidates);
        assert_same_table(&request.history, &from_columns.history);
        arena_free(&other);
        free(columns);
        free(rows);
    }
}

/* ---- bad bodies ---- */

static const struct {
    const char *body;
    const char *pointer;
    const char *detail; /* part of it */
} not_requests[] = {
    {"42", "", "must be an object"},
    {"null", "", "must be an object"},
    {"\"text\"", "", "must be an object"},
    {"[]", "", "must be an object"},
    {"{}", "/candidates", "must have candidates"},
    {"{\"foo\":1}", "/foo", "no such member"},
    {"{\"token\":\"x\"}", "/token", "no such member"},
    {"{\"a/b~c\":1}", "/a~1b~0c", "no such member"},
    {"{\"\":1}", "/", "no such member"},
    {"{\"sch\xC3\xB6n\":1}", "/sch\xC3\xB6n", "no such member"},
    {"{\"scores\":[1],\"candidates\":{\"i\":[1]}}", "/scores", "no such member"},
    {"{\"user_id\":42}", "/user_id", "must be a string"},
    {"{\"user_id\":18446744073709551616}", "/user_id", "must be a string"},
    {"{\"foo\":null}", "/foo", "no such member"},
    {"{\"user\":[]}", "/user", "must be an object"},
    {"{\"context\":\"x\"}", "/context", "must be an object"},
    {"{\"history\":\"A13\"}", "/history", "object of columns or an array of row objects"},
    {"{\"history\":{\"item\":\"A13\"}}", "/history/item", "must be an array"},
    {"{\"history\":{\"a\":[],\"x/y~\":{}}}", "/history/x~1y~0", "must be an array"},
    {"{\"history\":[{\"item\":1},{},{},\"A13\"]}", "/history/3", "must be an object"},
    {"{\"history\":[[]]}", "/history/0", "must be an object"},
    {"{\"candidates\":7}", "/candidates", "object of columns or an array of row objects"},
    {"{\"candidates\":{}}", "/candidates", "at least one candidate"},
    {"{\"candidates\":[]}", "/candidates", "at least one candidate"},
    {"{\"candidates\":[{},{}]}", "/candidates", "at least one candidate"},
    {"{\"candidates\":{\"item\":[]}}", "/candidates", "at least one candidate"},
    {"{\"candidates\":null}", "/candidates", "must have candidates"},
    {"{\"candidates\":{\"item\":null}}", "/candidates", "at least one candidate"},
    {"{\"candidates\":[{\"item\":null}]}", "/candidates", "at least one candidate"},
    {"{\"candidates\":[null]}", "/candidates/0", "must be an object"},
    {"{\"top_k\":0}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"top_k\":-3}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"top_k\":1.5}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"top_k\":1e999}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"top_k\":9223372036854775808}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"top_k\":-9223372036854775809}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"top_k\":\"3\"}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"top_k\":true}", "/top_k", "integer from 1 to 9223372036854775807"},
    {"{\"explain\":1}", "/explain", "true or false"},
    {"{\"history_token\":5}", "/history_token", "string of 1 to 256 characters"},
    {"{\"history_token\":\"\"}", "/history_token", "string of 1 to 256 characters"},
    {"{\"history_token\":\"\\u0000\"}", "/history_token", "string of 1 to 256 characters"},
    {"{\"history_token\":1e400}", "/history_token", "string of 1 to 256 characters"},
    {"{\"history_append\":\"A13\"}", "/history_append", "object of columns or an array of row objects"},
    {"{\"history_append\":[1]}", "/history_append/0", "must be an object"},
    {"{\"user_id\":\"u\",\"history_token\":\"t\"}", "/candidates", "must have candidates"},
    {"{\"history_token\":\"t\",\"candidates\":[{\"i\":1}]}", "/history_token", "needs the user_id"},
    {"{\"history_append\":[],\"candidates\":[{\"i\":1}]}", "/history_append", "needs the user_id"},
    {"{\"event_id\":\"e\",\"candidates\":[{\"i\":1}]}", "/event_id", "belongs to a history_append"},
    {"{\"event_id\":\"a b\",\"candidates\":[{\"i\":1}]}", "/event_id", "visible characters"},
    {"{\"user_id\":\"u\",\"history_token\":\"t\",\"history\":[],\"candidates\":[{\"i\":1}]}", "/history_token",
     "not both"},
};

static void wrong_requests_point_at_the_fault(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof not_requests / sizeof *not_requests; i++) {
        const char *body = not_requests[i].body;
        if (decode_bytes(body, strlen(body)))
            fail_msg("%s was taken", body);
        assert_int_equal(problem.kind, PROBLEM_INVALID_REQUEST);
        assert_string_equal(problem.pointer, not_requests[i].pointer);
        if (strstr(problem.detail, not_requests[i].detail) == NULL)
            fail_msg("%s: %s", body, problem.detail);
    }
}

static const struct {
    const char *body;
    const char *detail; /* all of it */
} not_json[] = {
    {"", "The text ends too soon, at byte 0 (line 1, column 0)."},
    {"   ", "The text ends too soon, at byte 3 (line 1, column 3)."},
    {"{\"a\":", "The text ends too soon, at byte 5 (line 1, column 5)."},
    {"nul", "Bad syntax: invalid token, at byte 3 (line 1, column 3)."},
    {"{\"top_k\":NaN}", "Bad syntax: invalid token, at byte 12 (line 1, column 12)."},
    {"{\"top_k\":Infinity}", "Bad syntax: invalid token, at byte 17 (line 1, column 17)."},
    {"{\"top_k\":-}", "Bad syntax: invalid token, at byte 10 (line 1, column 10)."},
    {"{\"top_k\":01}", "Bad syntax: invalid token, at byte 10 (line 1, column 10)."},
    {"{\"top_k\":1e999,}", "Bad syntax: string or '}' expected, at byte 16 (line 1, column 16)."},
    {"[1e19,\n9223372036854775808 x", "Bad syntax: ']' expected, at byte 28 (line 2, column 21)."},
    {"{\"top_k\":1e19.}", "Bad syntax: '}' expected, at byte 14 (line 1, column 14)."},
    {"{\"a\":1,}", "Bad syntax: string or '}' expected, at byte 8 (line 1, column 8)."},
    {"{\"a\" 1}", "Bad syntax: ':' expected, at byte 6 (line 1, column 6)."},
    {"{a:1}", "Bad syntax: string or '}' expected, at byte 2 (line 1, column 2)."},
    {"{'a':1}", "Bad syntax: string or '}' expected, at byte 2 (line 1, column 2)."},
    {"{\n\"a\":1,\n\"a\":2}", "An object has the same name twice, at byte 12 (line 3, column 3)."},
    {"{\"candidates\":[{\"i\":1,\"i\":1}]}", "An object has the same name twice, at byte 25 (line 1, column 25)."},
    {"{} {}", "There is more text after the value, at byte 4 (line 1, column 4)."},
    {"{\"a\":\"\xFF\"}", "The text is not valid UTF-8, at byte 6 (line 1, column 6)."},
    {"{\"a\":\"\xC0\x80\"}", "The text is not valid UTF-8, at byte 6 (line 1, column 6)."},
    {"{\"a\":\"\xED\xA0\x80\"}", "The text is not valid UTF-8, at byte 6 (line 1, column 6)."},
    {"{\"a\":\"\xE2\x82\"}", "The text is not valid UTF-8, at byte 6 (line 1, column 6)."},
    {"\xFF", "The text is not valid UTF-8, at byte 0 (line 1, column 0)."},
    {"{\"\\u0000\":1}", "U+0000 is not allowed in a name, at byte 9 (line 1, column 9)."},
    {"{\"a\":\"\\ud800\"}", "Bad syntax: invalid Unicode '\\uD800', at byte 13 (line 1, column 13)."},
    {"{\"a\":\"\\x\"}", "Bad syntax: invalid escape, at byte 8 (line 1, column 8)."},
    {"{\"a\":\"b\nc\"}", "Bad syntax: unexpected newline, at byte 7 (line 1, column 7)."},
    {"{\"a\":\"\t\"}", "Bad syntax: control character 0x9, at byte 6 (line 1, column 6)."},
    {"[[[[[[[[[[[[[[[[[", "Arrays and objects nest deeper than 16 levels, at byte 16."},
};

static void text_that_is_not_json_says_where(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof not_json / sizeof *not_json; i++) {
        const char *body = not_json[i].body;
        if (decode_bytes(body, strlen(body)))
            fail_msg("%s was taken", body);
        assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
        assert_string_equal(problem.pointer, "");
        assert_string_equal(problem.detail, not_json[i].detail);
    }
}

static void a_nul_byte_is_not_json(void **state) {
    (void)state;
    static const char inside[] = "{\"a\":\"b\0c\"}";
    assert_false(decode_bytes(inside, sizeof inside - 1));
    assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
    static const char after[] = "{\"candidates\":{\"i\":[1]}}\0";
    assert_false(decode_bytes(after, sizeof after - 1));
    assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
    static const char numbers[][40] = {"{\"candidates\":{\"i\":[1#]}}", "{\"candidates\":{\"i\":[1.5#]}}",
                                       "{\"candidates\":{\"i\":[1#,2]}}", "{\"top_k\":5#,\"candidates\":{\"i\":[1]}}"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char body[sizeof *numbers];
        size_t size = strlen(numbers[i]);
        memcpy(body, numbers[i], size + 1);
        *strchr(body, '#') = '\0';
        assert_false(decode_bytes(body, size));
        assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
        assert_non_null(strstr(problem.detail, "zero byte"));
    }
}

/* Every number that is whole and fits in 64 bits keeps its digits, in each form of JSON; others are the nearest double.
 */
static void numbers_of_64_bits_are_exact(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t magnitude; /* of a PROTO_INTEGER or PROTO_UNSIGNED */
        bool negative;
        double real; /* if magnitude is 0 */
    } numbers[] = {
        {"9223372036854775808", (uint64_t)1 << 63, false, 0},
        {"18446744073709551615", UINT64_MAX, false, 0},
        {"18446744073709551616", 0, false, 18446744073709551616.0},
        {"-9223372036854775808", (uint64_t)1 << 63, true, 0},
        {"-9223372036854775809", 0, false, -9223372036854775808.0},
        {"123456789012345678901234567890", 0, false, 123456789012345678901234567890.0},
        {"1e19", 10000000000000000000U, false, 0},
        {"1E+17", 100000000000000000U, false, 0},
        {"-1e18", 1000000000000000000U, true, 0},
        {"9007199254740993.0", 9007199254740993U, false, 0},
        {"9007199254740993.50", 0, false, 9007199254740993.5},
        {"539024333136291647.000", 539024333136291647U, false, 0},
        {"0.00539024333136291647e20", 539024333136291647U, false, 0},
        {"5390243331362916470e-1", 539024333136291647U, false, 0},
        {"900719925474099e4", 9007199254740990000U, false, 0},
        {"9007199254740991.0", 0, false, 9007199254740991.0},
        {"29.0", 0, false, 29.0},
        {"1e1", 0, false, 10.0},
        {"-0.0", 0, false, -0.0},
        {"1e400", 0, false, (double)INFINITY},
        {"-1e400", 0, false, -(double)INFINITY},
        {"1e99999999999999999999", 0, false, (double)INFINITY},
        {"1e-99999999999999999999", 0, false, 0.0},
        {"0e99999999999999999999", 0, false, 0.0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char body[128];
        snprintf(body, sizeof body, "{\"candidates\":{\"i\":[7,%s,[%s]],\"j\":[\"a\"]}}", numbers[i].text,
                 numbers[i].text);
        decode(body);
        const struct proto_value *value = &request.candidates.column[0].values[1];
        bool is_unsigned = !numbers[i].negative && numbers[i].magnitude > (uint64_t)INT64_MAX;
        double nearest = numbers[i].magnitude == 0 ? numbers[i].real
                         : numbers[i].negative     ? -(double)numbers[i].magnitude
                                                   : (double)numbers[i].magnitude;
        assert_int_equal(value->kind, numbers[i].magnitude == 0 ? PROTO_REAL
                                      : is_unsigned             ? PROTO_UNSIGNED
                                                                : PROTO_INTEGER);
        if (numbers[i].magnitude == 0)
            assert_true(value->real == nearest && !signbit(value->real) == !signbit(nearest));
        else
            assert_true(value->unsigned_integer ==
                        (numbers[i].negative ? 0 - numbers[i].magnitude : numbers[i].magnitude));
        assert_int_equal(value[1].kind, PROTO_VECTOR);
        assert_true(value[1].vector[0] == nearest);
    }
}

/* Strings of a text with wide numbers are read as ever; none of the client's is taken for a mark. */
static void strings_beside_wide_numbers(void **state) {
    (void)state;
    decode("{\"candidates\":{\"i\":[1e19,\"\\u00000\",\"1e19\",\"\\\\u0000\",\"\\\"1e19\",\"\"],\"1e19\":[1]}}");
    const struct proto_value *values = request.candidates.column[0].values;
    assert_int_equal(values[0].kind, PROTO_UNSIGNED);
    assert_int_equal(values[1].kind, PROTO_OTHER);
    assert_string(&values[2], "1e19");
    assert_string(&values[3], "\\u0000");
    assert_string(&values[4], "\"1e19");
    assert_string(&values[5], "");
    assert_true(proto_string_is(&request.candidates.column[1].name, "1e19", 4));
}

static void null_is_absence(void **state) {
    (void)state;
    decode("{\"user_id\":null,\"user\":null,\"context\":null,\"history\":null,\"history_token\":null,"
           "\"history_append\":null,\"top_k\":null,\"explain\":null,\"candidates\":[{\"a\":1,\"b\":null},{\"b\":2}]}");
    assert_false(request.has_user_id || request.user.present || request.context.present || request.history.present ||
                 request.has_history_token || request.history_append.present || request.explain);
    assert_int_equal(request.top_k, 0);
    assert_int_equal(request.candidates.columns, 2);
    assert_int_equal(value(&request.candidates, "b", 0)->kind, PROTO_ABSENT);
    assert_int_equal(value(&request.candidates, "a", 1)->kind, PROTO_ABSENT);
    decode("{\"user\":{\"a\":null,\"b\":1},\"history\":{\"a\":null,\"b\":[1,null]},\"candidates\":[{\"a\":1}]}");
    assert_int_equal(request.user.columns, 1);
    assert_integer(value(&request.user, "b", 0), 1);
    assert_int_equal(request.history.columns, 1);
    assert_int_equal(value(&request.history, "b", 1)->kind, PROTO_ABSENT);
    decode_history("{\"history\":null,\"history_token\":null,\"history_append\":[]}");
    assert_true(request.history_append.present);
}

static void a_byte_order_mark_is_skipped(void **state) {
    (void)state;
    decode("\xEF\xBB\xBF{\"candidates\":{\"i\":[1]}}");
    decode("\xEF\xBB\xBF{\"candidates\":{\"i\":[1]},\"user\":{\"a\":null}}");
    decode_history("\xEF\xBB\xBF{\"history\":[]}");
    static const char *const bodies[] = {"\xEF\xBB\xBF{]", "\xEF\xBB\xBF\xEF\xBB\xBF{}", "\xEF\xBB{}", "\xEF\xBB\xBF"};
    static const char *const places[] = {"at byte 5", "at byte 6", "at byte 0", "at byte 3"};
    for (size_t i = 0; i < 4; i++) {
        assert_false(decode_bytes(bodies[i], strlen(bodies[i])));
        assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
        if (strstr(problem.detail, places[i]) == NULL)
            fail_msg("%s", problem.detail);
    }
}

/* ---- user ids ---- */

static void check_id(const char *character, size_t count, bool good) {
    char id[4096] = "", body[8192];
    for (size_t i = 0; i < count; i++)
        memcpy(id + i * strlen(character), character, strlen(character) + 1);
    snprintf(body, sizeof body, "{\"candidates\":{\"i\":[1]},\"user_id\":\"%s\"}", id);
    bool taken = decode_bytes(body, strlen(body));
    if (taken != good)
        fail_msg("%zu of %s", count, character);
    if (!good) {
        assert_int_equal(problem.kind, PROBLEM_INVALID_USER_ID);
        assert_string_equal(problem.pointer, "/user_id");
    }
}

static void user_ids_are_counted_in_characters(void **state) {
    (void)state;
    static const struct {
        const char *character;
        size_t most;
    } widths[] = {{"a", 256}, {"\\u0041", 256}, {"\xC3\xA9", 200}, {"\xE7\x94\xA8", 133}, {"\xF0\x9F\x99\x82", 100}};
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) {
        check_id(widths[i].character, 0, false);
        check_id(widths[i].character, 1, true);
        check_id(widths[i].character, widths[i].most, true);
        check_id(widths[i].character, widths[i].most + 1, false);
    }
}

static void user_ids_are_text(void **state) {
    (void)state;
    static const char *const bad[] = {"Zo\xEB",    "\xC0\x80", "\\ud800", "\\ud800\\u0041",
                                      "a\\u0000b", "\\u0000",  "\xFF"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_id(bad[i], 1, false);
    static const char *const elsewhere[] = {"{\"user_id\":\"u\",\"candidates\":{\"i\":[\"\xFF\"]}}",
                                            "{\"user\":{\"user_id\":\"\xFF\"}}", "{\"a\":[\"user_id\",\"\xFF\"]}",
                                            "{\"user_id\xFF\":\"u\"}", "{\"user_id\":[\"\xFF\"]}"};
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        assert_false(decode_bytes(elsewhere[i], strlen(elsewhere[i])));
        assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
    }
}

static void depth_bombs_are_refused_before_parsing(void **state) {
    (void)state;
    enum { SIZE = 1 << 20 };
    char *bomb = malloc(SIZE);
    assert_non_null(bomb);
    memset(bomb, '[', SIZE);
    assert_false(decode_bytes(bomb, SIZE));
    assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
    assert_int_equal(arena.used, 0);
    for (size_t i = 0; i < SIZE; i++)
        bomb[i] = "{\"a\":"[i % 5];
    assert_false(decode_bytes(bomb, SIZE));
    assert_string_equal(problem.detail, "Arrays and objects nest deeper than 16 levels, at byte 80.");
    free(bomb);
}

static void sixteen_levels_are_allowed(void **state) {
    (void)state;
    decode("{\"candidates\":{\"i\":[1,[[[[[[[[[[[[[]]]]]]]]]]]]]]}}");
    assert_int_equal(request.candidates.column[0].values[1].kind, PROTO_OTHER);
    static const char deeper[] = "{\"candidates\":{\"i\":[1,[[[[[[[[[[[[[[]]]]]]]]]]]]]]]}}";
    assert_false(decode_bytes(deeper, sizeof deeper - 1));
    assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
}

static void a_body_cut_at_any_byte_is_refused(void **state) {
    (void)state;
    for (size_t size = 0; size < sizeof everything - 1; size++) {
        if (decode_bytes(everything, size))
            fail_msg("the first %zu bytes were taken", size);
        assert_true(problem.kind == PROBLEM_INVALID_JSON);
        assert_string_equal(problem.pointer, "");
        assert_true(strlen(problem.detail) > 0);
    }
    decode(everything);
}

/* Changes each byte of a body in turn. The decoder must take the body or refuse it with a reason. */
static void a_body_with_a_changed_byte_is_judged(void **state) {
    (void)state;
    static const char others[] = {'\0', '"', '\\', '{', '}', '[', ']', ',', ':', '-', 'e', ' ', '\x80', '\xFF'};
    size_t taken = 0;
    for (size_t i = 0; i < sizeof everything - 1; i++) {
        for (size_t j = 0; j < sizeof others; j++) {
            char body[sizeof everything];
            memcpy(body, everything, sizeof body);
            body[i] = others[j];
            if (decode_bytes(body, sizeof body - 1)) {
                taken++;
                continue;
            }
            assert_true(problem.kind == PROBLEM_INVALID_JSON || problem.kind == PROBLEM_INVALID_REQUEST ||
                        problem.kind == PROBLEM_INVALID_USER_ID);
            assert_in_range(strlen(problem.detail), 1, sizeof problem.detail - 1);
        }
    }
    assert_true(taken > 0);
}

static char *many_fields(size_t count, const char *start_text, const char *format_value, const char *end_text) {
    char *body;
    size_t size;
    FILE *out = open_memstream(&body, &size);
    assert_non_null(out);
    fputs(start_text, out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s\"f%zu\":%s", i ? "," : "", i, format_value);
    fputs(end_text, out);
    fclose(out);
    return body;
}

static void a_group_has_at_most_256_fields(void **state) {
    (void)state;
    static const struct {
        const char *start, *value, *end, *pointer;
    } cases[] = {
        {"{\"candidates\":{\"i\":[1]},\"user\":{", "1", "}}", "/user"},
        {"{\"candidates\":{\"i\":[1]},\"history\":{", "[1]", "}}", "/history"},
        {"{\"candidates\":[{", "1", "}]}", "/candidates"},
        {"{\"candidates\":[{\"f7\":1},{", "1", "},{\"f200\":1}]}", "/candidates"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *most = many_fields(256, cases[i].start, cases[i].value, cases[i].end);
        decode(most);
        free(most);
        char *over = many_fields(257, cases[i].start, cases[i].value, cases[i].end);
        assert_false(decode_bytes(over, strlen(over)));
        assert_int_equal(problem.kind, PROBLEM_INVALID_REQUEST);
        assert_string_equal(problem.pointer, cases[i].pointer);
        assert_string_equal(problem.detail, "A group may have at most 256 fields.");
        free(over);
    }
}

static void long_names_leave_a_valid_pointer(void **state) {
    (void)state;
    char euros[1201] = "";
    for (size_t i = 0; i < 1200; i++)
        euros[i] = "\xE2\x82\xAC"[i % 3];
    char body[1300];
    snprintf(body, sizeof body, "{\"history\":{\"%s\":1}}", euros);
    assert_false(decode_bytes(body, strlen(body)));
    assert_int_equal(problem.kind, PROBLEM_INVALID_REQUEST);
    assert_int_equal(strlen(problem.pointer), strlen("/history/") + 309); /* 103 characters fit in 319 bytes */
}

/* ---- memory ---- */

static void assert_out_of_memory(const struct problem *found) {
    assert_int_equal(found->kind, PROBLEM_OUT_OF_MEMORY);
    assert_string_equal(found->pointer, "");
}

/* Decodes with a limit of `limit` bytes. Returns the bytes handed out before the refusal, or SIZE_MAX if the limit was
 * enough. */
static size_t used_within(const char *body, decoder *decode_body, size_t limit) {
    struct arena tight;
    arena_init(&tight, limit, 0);
    bool decoded = decode_body(body, strlen(body), &tight, &request, &problem);
    size_t used = tight.used;
    assert_true(used <= limit);
    arena_free(&tight);
    if (!decoded)
        assert_out_of_memory(&problem);
    return decoded ? SIZE_MAX : used;
}

/* Counts the allocations that fail for limits between `low` and `high` units. A larger limit never fails earlier, so
 * if equally many bytes are used at both ends, one allocation fails at every limit between them. */
static size_t failures_between(const char *body, decoder *decode_body, size_t low, size_t used_low, size_t high,
                               size_t used_high) {
    if (used_low == used_high || high - low < 2)
        return used_low != used_high && used_high != SIZE_MAX;
    size_t middle = low + (high - low) / 2, used = used_within(body, decode_body, middle * 64);
    assert_true(used_low <= used && used <= used_high);
    return failures_between(body, decode_body, low, used_low, middle, used) +
           failures_between(body, decode_body, middle, used, high, used_high);
}

/* Fails each allocation once, by every limit from 0 to enough in steps of the arena's unit. */
static void assert_survives_limits(const char *body, decoder *decode_body, size_t failures_least) {
    size_t enough = 1;
    while (used_within(body, decode_body, enough * 64) != SIZE_MAX)
        enough *= 2;
    size_t used = used_within(body, decode_body, 64);
    assert_true(used != SIZE_MAX);
    assert_true(1 + failures_between(body, decode_body, 1, used, enough, SIZE_MAX) >= failures_least);
}

/* jansson's tree takes many allocations, the fast decoder few. */
static void assert_survives_every_limit(const char *body, size_t tree_least, size_t scanner_least) {
    assert_survives_limits(body, json_decode_request_tree, tree_least);
    assert_survives_limits(body, json_decode_request, scanner_least);
}

static void each_allocation_may_fail(void **state) {
    (void)state;
    char *rows = long_body(100, PROTO_ROWS);
    assert_survives_every_limit(everything, 15, 1);
    assert_survives_every_limit(rows, 200, 3);
    free(rows);
}

/* jansson collects a token's text in a growing buffer. Memory that runs out there must not end the process. */
static void memory_may_run_out_within_a_token(void **state) {
    (void)state;
    static const char *const starts[] = {"{\"candidates\":{\"i\":[\"", "{\"candidates\":{\"i\":[0.",
                                         "{\"candidates\":{\""};
    static const char *const ends[] = {"\"]}}", "]}}", "\":[1]}}"};
    for (size_t i = 0; i < 3; i++) {
        for (size_t length = 1000; length <= 64000; length *= 4) {
            char *body;
            size_t size;
            FILE *out = open_memstream(&body, &size);
            assert_non_null(out);
            fprintf(out, "%s%0*d%s", starts[i], (int)length, 1, ends[i]);
            fclose(out);
            assert_survives_every_limit(body, 4, 1);
            free(body);
        }
    }
}

static void bad_json_is_told_from_too_little_memory(void **state) {
    (void)state;
    struct arena tight;
    arena_init(&tight, 65536, 0);
    assert_false(json_decode_request("{\"a\":nul}", 9, &tight, &request, &problem));
    assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
    arena_free(&tight);
}

static void the_limit_counts_the_parsed_tree(void **state) {
    (void)state;
    char *body = long_body(1000, PROTO_ROWS);
    struct arena tight;
    arena_init(&tight, strlen(body) * 4, 0);
    assert_false(json_decode_request_tree(body, strlen(body), &tight, &request, &problem));
    assert_out_of_memory(&problem);
    arena_free(&tight);
    free(body);
}

/* The fast decoder gives up at the last value, after it has decoded much. The arena is not empty before: a body that
 * was compressed lies in it. */
static void a_failed_attempt_takes_nothing(void **state) {
    (void)state;
    static const char last[] = ",\"user\":{\"x\":true}}";
    char *body = long_body(1000, PROTO_COLUMNS);
    size_t size = strlen(body);
    body = realloc(body, size + sizeof last);
    assert_non_null(body);
    memcpy(body + size - 1, last, sizeof last); /* in the place of the last brace */
    size_t used[2];
    for (size_t i = 0; i < 2; i++) {
        struct arena own;
        arena_init(&own, 0, 0);
        assert_non_null(arena_alloc(&own, 1000));
        assert_true(
            (i == 0 ? json_decode_request_tree : json_decode_request)(body, strlen(body), &own, &request, &problem));
        used[i] = own.used;
        arena_free(&own);
    }
    assert_int_equal(used[0], used[1]);
    free(body);
}

static void a_warm_arena_is_enough(void **state) {
    (void)state;
    char *body = long_body(100, PROTO_ROWS);
    decode(body);
    const struct arena_block *blocks = arena.blocks;
    for (size_t i = 0; i < 10; i++)
        decode(body);
    assert_ptr_equal(arena.blocks, blocks);
    free(body);
}

/* ---- samples ---- */

static const struct proto_sample *samples;
static size_t sample_count;

static bool decode_samples(const char *text) {
    arena_reset(&arena);
    return json_decode_samples(text, strlen(text), &arena, &samples, &sample_count, &problem);
}

static void samples_are_requests_with_scores(void **state) {
    (void)state;
    assert_true(
        decode_samples("{\"samples\":[{\"user\":{\"country\":29},\"history\":{\"item\":[\"A13\"]},\"candidates\":{"
                       "\"item\":[\"B10\",\"C5\"]},\"scores\":[0.25,1]},{\"scores\":[0.125],\"candidates\":[{"
                       "\"item\":\"P1\"}]}]}"));
    assert_int_equal(sample_count, 2);
    assert_integer(value(&samples[0].request.user, "country", 0), 29);
    assert_string(value(&samples[0].request.candidates, "item", 1), "C5");
    assert_int_equal(samples[0].score_count, 2);
    assert_true(samples[0].scores[0] == 0.25 && samples[0].scores[1] == 1.0);
    assert_int_equal(samples[1].score_count, 1);
    assert_false(samples[1].request.history.present);
}

static const struct {
    const char *text;
    const char *pointer;
} not_samples[] = {
    {"[]", ""},
    {"{}", ""},
    {"{\"samples\":[]}", ""},
    {"{\"samples\":{}}", ""},
    {"{\"samples\":[{\"candidates\":{\"i\":[1]},\"scores\":[1]}],\"more\":1}", ""},
    {"{\"samples\":[7]}", "/samples/0"},
    {"{\"samples\":[{}]}", "/samples/0/candidates"},
    {"{\"samples\":[{\"candidates\":{\"i\":[1]}}]}", "/samples/0/scores"},
    {"{\"samples\":[{\"candidates\":{\"i\":[1]},\"scores\":[\"x\"]}]}", "/samples/0/scores"},
    {"{\"samples\":[{\"candidates\":{\"i\":[1]},\"scores\":[1,2]}]}", "/samples/0/scores"},
    {"{\"samples\":[{\"candidates\":{\"i\":[1]},\"scores\":[1]},{\"history\":[1]}]}", "/samples/1/history/0"},
    {"{\"samples\":[{\"candidates\":{\"i\":[1]},\"scores\":[1]},{\"top\":1}]}", "/samples/1/top"},
};

static void wrong_samples_point_at_the_fault(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof not_samples / sizeof *not_samples; i++) {
        assert_false(decode_samples(not_samples[i].text));
        assert_int_equal(problem.kind, PROBLEM_INVALID_REQUEST);
        assert_string_equal(problem.pointer, not_samples[i].pointer);
    }
    assert_false(decode_samples("{\"samples\":[{]}"));
    assert_int_equal(problem.kind, PROBLEM_INVALID_JSON);
}

static bool decode_call(const char *body, const char *name, struct proto_string *value) {
    arena_reset(&arena);
    problem_clear(&problem);
    return json_decode_call(body, strlen(body), name, &arena, value, &problem);
}

static void calls_have_one_member_or_none(void **state) {
    (void)state;
    struct proto_string value;
    assert_true(decode_call("{\"level\": \"de\\u0062ug\"}", "level", &value));
    assert_string_equal(value.data, "debug");
    assert_int_equal(value.length, 5);
    assert_true(decode_call("", NULL, &value));
    assert_true(decode_call(" {} ", NULL, &value));
    static const struct {
        const char *body, *name, *pointer;
        enum problem_kind kind;
    } bad[] = {{"", "level", "", PROBLEM_INVALID_JSON},
               {"{}", "level", "/level", PROBLEM_INVALID_REQUEST},
               {"{\"level\": null}", "level", "/level", PROBLEM_INVALID_REQUEST},
               {"{\"level\": 1e400}", "level", "/level", PROBLEM_INVALID_REQUEST},
               {"{\"level\": \"\"}", "level", "/level", PROBLEM_INVALID_REQUEST},
               {"{\"level\": \"a\\u0000b\"}", "level", "/level", PROBLEM_INVALID_REQUEST},
               {"{\"level\": \"a\", \"x~\": 1}", "level", "/x~0", PROBLEM_INVALID_REQUEST},
               {"{\"level\": \"a\", \"level\": \"a\"}", "level", "", PROBLEM_INVALID_JSON},
               {"[]", "level", "", PROBLEM_INVALID_REQUEST},
               {"\"level\"", NULL, "", PROBLEM_INVALID_REQUEST},
               {"{\"level\": \"a\"}", NULL, "/level", PROBLEM_INVALID_REQUEST},
               {"{", NULL, "", PROBLEM_INVALID_JSON}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (decode_call(bad[i].body, bad[i].name, &value))
            fail_msg("%s is a call", bad[i].body);
        assert_int_equal(problem.kind, bad[i].kind);
        assert_string_equal(problem.pointer, bad[i].pointer);
    }
}

static void a_member_of_any_object(void **state) {
    (void)state;
    struct proto_string value;
    static const char text[] = "{\"status\": 422, \"detail\": \"It is so.\", \"more\": [1]}";
    assert_true(json_decode_member(text, sizeof text - 1, "detail", &arena, &value));
    assert_string_equal(value.data, "It is so.");
    assert_false(json_decode_member(text, sizeof text - 1, "status", &arena, &value));
    assert_false(json_decode_member(text, sizeof text - 1, "title", &arena, &value));
    assert_false(json_decode_member("<html>", 6, "detail", &arena, &value));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_have_one_member_or_none),
        cmocka_unit_test(a_member_of_any_object),
        cmocka_unit_test(a_request_with_everything),
        cmocka_unit_test(the_least_request),
        cmocka_unit_test(an_empty_history_is_present),
        cmocka_unit_test(columns_may_differ_in_length),
        cmocka_unit_test(every_kind_of_value),
        cmocka_unit_test(strings_are_utf8_and_unescaped),
        cmocka_unit_test(user_id_up_to_its_limit),
        cmocka_unit_test(a_token_in_place_of_the_history),
        cmocka_unit_test(token_up_to_its_limit),
        cmocka_unit_test(histories_alone),
        cmocka_unit_test(wrong_histories_point_at_the_fault),
        cmocka_unit_test(brackets_in_strings_do_not_nest),
        cmocka_unit_test(rows_take_the_union_of_their_keys),
        cmocka_unit_test(both_forms_decode_alike),
        cmocka_unit_test(wrong_requests_point_at_the_fault),
        cmocka_unit_test(text_that_is_not_json_says_where),
        cmocka_unit_test(a_nul_byte_is_not_json),
        cmocka_unit_test(numbers_of_64_bits_are_exact),
        cmocka_unit_test(strings_beside_wide_numbers),
        cmocka_unit_test(null_is_absence),
        cmocka_unit_test(a_byte_order_mark_is_skipped),
        cmocka_unit_test(user_ids_are_counted_in_characters),
        cmocka_unit_test(user_ids_are_text),
        cmocka_unit_test(depth_bombs_are_refused_before_parsing),
        cmocka_unit_test(sixteen_levels_are_allowed),
        cmocka_unit_test(a_body_cut_at_any_byte_is_refused),
        cmocka_unit_test(a_body_with_a_changed_byte_is_judged),
        cmocka_unit_test(a_group_has_at_most_256_fields),
        cmocka_unit_test(long_names_leave_a_valid_pointer),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(memory_may_run_out_within_a_token),
        cmocka_unit_test(bad_json_is_told_from_too_little_memory),
        cmocka_unit_test(the_limit_counts_the_parsed_tree),
        cmocka_unit_test(a_failed_attempt_takes_nothing),
        cmocka_unit_test(a_warm_arena_is_enough),
        cmocka_unit_test(samples_are_requests_with_scores),
        cmocka_unit_test(wrong_samples_point_at_the_fault),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
