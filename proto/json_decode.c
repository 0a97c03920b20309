/* json_decode.c: JSON to the structs of score.h, by way of jansson's tree.
 *
 * This file defines which requests are valid. json_fast_decode.c reads most of them without a tree and must yield equal
 * structs. The tree and the structs both live in the request's arena (parse_memory.h), so one limit counts them all.
 *
 * Only the types of the wire are checked here: which members exist, and which are objects, arrays or numbers. Whether a
 * value suits its field depends on the model, so server/scoring/resolve.c checks it. A member that is null is as one
 * that is left out.
 *
 * jansson reads no integer beyond 63 bits. Where a text has numbers that are too wide, the parser gets a copy of it
 * with a mark in place of each. A mark is a string that starts with U+0000 and a digit, which no other string of the
 * copy does.
 */
#include "proto/json_decode.h"

#include "proto/digits.h"
#include "proto/json_fast_decode.h"
#include "proto/number.h"
#include "proto/parse_memory.h"
#include "proto/utf8.h"

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEPTH_MAX = 16, /* levels of nesting; a request has 4, samples.json 6 */
    NUL_SIZE = 6,   /* bytes of the escape of U+0000 */
    MARK_SIZE = 18  /* bytes of a mark at most: two quotes, the escape, ten digits */
};

static const char nul_escape[] = "\\u0000";

/* A number of the text that jansson cannot read, or not exactly. */
struct wide_number {
    const char *begin, *end;
    size_t mark_end; /* in the copy that the parser reads */
};

struct decoder {
    struct arena *arena;
    struct problem *problem;
    char *text;      /* room for the next string */
    char prefix[32]; /* JSON pointer to the request within the body */
    size_t skipped;  /* bytes of a byte order mark */
    size_t wide_count;
    const struct wide_number *wide;
};

void json_decode_init(void) {
    json_set_alloc_funcs(parse_memory_malloc, parse_memory_free);
    json_object_seed(0);
}

/* ---- errors and memory ---- */

/* Reports a mistake in a member, or in the whole request if `member` is NULL. Returns false for `return fail(...)`. */
static bool fail(struct decoder *decoder, const char *member, const char *reason) {
    problem_set(decoder->problem, PROBLEM_INVALID_REQUEST, decoder->prefix, "%s", reason);
    if (member != NULL)
        problem_pointer_name(decoder->problem->pointer, sizeof decoder->problem->pointer, member, strlen(member));
    return false;
}

static bool fail_fields(struct decoder *decoder, const char *group) {
    char reason[64];
    snprintf(reason, sizeof reason, "A group may have at most %d fields.", PROTO_FIELDS_MAX);
    return fail(decoder, group, reason);
}

static void *allocate(struct decoder *decoder, size_t count, size_t size) {
    void *memory = arena_array(decoder->arena, count, size);
    if (memory == NULL)
        problem_out_of_memory(decoder->problem);
    return memory;
}

/* Copies a string out of the tree. parse() took as much room as the body has bytes. That is enough for all strings,
 * because no string is longer than its JSON text. */
static const char *copy_text(struct decoder *decoder, const char *data, size_t length) {
    char *copy = decoder->text;
    memcpy(copy, data, length);
    decoder->text += length;
    return copy;
}

/* ---- values ---- */

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

/* Reads a number, or the number that a mark stands for. False for any other node. */
static bool decode_number(const struct decoder *decoder, const json_t *node, struct proto_value *value) {
    if (json_is_integer(node)) {
        *value = (struct proto_value){.kind = PROTO_INTEGER, .integer = json_integer_value(node)};
    } else if (json_is_real(node)) {
        *value = (struct proto_value){.kind = PROTO_REAL, .real = json_real_value(node)};
    } else {
        const char *text = json_string_value(node);
        if (decoder->wide_count == 0 || json_string_length(node) < 2 || text[0] != '\0' || !is_digit(text[1]))
            return false;
        const struct wide_number *wide = &decoder->wide[strtoul(text + 1, NULL, 10)];
        *value = number_value(wide->begin, wide->end);
    }
    return true;
}

/* The nearest double of a number. */
static double real_of(const struct proto_value *number) {
    return number->kind == PROTO_INTEGER    ? (double)number->integer
           : number->kind == PROTO_UNSIGNED ? (double)number->unsigned_integer
                                            : number->real;
}

static bool all_numbers(const struct decoder *decoder, const json_t *array) {
    struct proto_value number;
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!decode_number(decoder, json_array_get(array, i), &number))
            return false;
    }
    return true;
}

static const double *copy_numbers(struct decoder *decoder, const json_t *array) {
    size_t count = json_array_size(array);
    double *numbers = allocate(decoder, count, sizeof *numbers);
    struct proto_value number = {.kind = PROTO_REAL};
    for (size_t i = 0; i < count && numbers != NULL; i++) {
        decode_number(decoder, json_array_get(array, i), &number);
        numbers[i] = real_of(&number);
    }
    return numbers;
}

static bool has_nul(const json_t *string) {
    return memchr(json_string_value(string), '\0', json_string_length(string)) != NULL;
}

static bool all_strings(const struct decoder *decoder, const json_t *array) {
    struct proto_value number;
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *node = json_array_get(array, i);
        if (!json_is_string(node) || decode_number(decoder, node, &number) || has_nul(node))
            return false;
    }
    return true;
}

static const struct proto_string *copy_strings(struct decoder *decoder, const json_t *array) {
    size_t count = json_array_size(array);
    struct proto_string *strings = allocate(decoder, count, sizeof *strings);
    for (size_t i = 0; i < count && strings != NULL; i++) {
        const json_t *node = json_array_get(array, i);
        strings[i].length = json_string_length(node);
        strings[i].data = copy_text(decoder, json_string_value(node), strings[i].length);
        if (strings[i].data == NULL)
            return NULL;
    }
    return strings;
}

static bool decode_value(struct decoder *decoder, const json_t *node, struct proto_value *value) {
    *value = (struct proto_value){.kind = PROTO_OTHER};
    switch (json_typeof(node)) {
    case JSON_INTEGER:
    case JSON_REAL:
        decode_number(decoder, node, value);
        return true;
    case JSON_NULL:
        value->kind = PROTO_ABSENT;
        return true;
    case JSON_STRING:
        if (decode_number(decoder, node, value) || has_nul(node))
            return true;
        value->kind = PROTO_STRING;
        value->length = (uint32_t)json_string_length(node);
        value->string = copy_text(decoder, json_string_value(node), value->length);
        return true;
    case JSON_ARRAY:
        if (!all_numbers(decoder, node)) {
            if (!all_strings(decoder, node))
                return true;
            value->kind = PROTO_STRINGS;
            value->length = (uint32_t)json_array_size(node);
            value->strings = copy_strings(decoder, node);
            return value->strings != NULL;
        }
        value->kind = PROTO_VECTOR;
        value->length = (uint32_t)json_array_size(node);
        value->vector = copy_numbers(decoder, node);
        return value->vector != NULL;
    default:
        return true;
    }
}

/* ---- groups ---- */

/* {"country": 29}, into columns of one value. */
static bool decode_singles(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    if (!json_is_object(node))
        return fail(decoder, group, "This must be an object of fields, each with one value.");
    size_t count = json_object_size(node);
    if (count > PROTO_FIELDS_MAX)
        return fail_fields(decoder, group);
    struct proto_column *column = allocate(decoder, count, sizeof *column);
    struct proto_value *value = allocate(decoder, count, sizeof *value);
    if (column == NULL || value == NULL)
        return false;
    *table = (struct proto_table){.form = PROTO_COLUMNS, .present = true, .column = column};

    const char *key;
    size_t length;
    json_t *single;
    json_object_keylen_foreach(node, key, length, single) {
        if (json_is_null(single))
            continue;
        table->rows = 1;
        table->columns++;
        *column++ = (struct proto_column){{copy_text(decoder, key, length), length}, 1, value};
        if (!decode_value(decoder, single, value++))
            return false;
    }
    return true;
}

/* {"item": ["A13", "A16"]} */
static bool decode_columns(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    size_t count = json_object_size(node);
    if (count > PROTO_FIELDS_MAX)
        return fail_fields(decoder, group);
    struct proto_column *column = allocate(decoder, count, sizeof *column);
    if (column == NULL)
        return false;
    *table = (struct proto_table){.form = PROTO_COLUMNS, .present = true, .column = column};

    const char *key;
    size_t length;
    json_t *array;
    json_object_keylen_foreach(node, key, length, array) {
        if (json_is_null(array))
            continue;
        table->columns++;
        if (!json_is_array(array)) {
            fail(decoder, group, "A column must be an array.");
            problem_pointer_name(decoder->problem->pointer, sizeof decoder->problem->pointer, key, length);
            return false;
        }
        column->name = (struct proto_string){copy_text(decoder, key, length), length};
        column->count = json_array_size(array);
        struct proto_value *values = allocate(decoder, column->count, sizeof *values);
        if (values == NULL)
            return false;
        column->values = values;
        for (size_t i = 0; i < column->count; i++) {
            if (!decode_value(decoder, json_array_get(array, i), &values[i]))
                return false;
        }
        if (column->count > table->rows)
            table->rows = column->count;
        column++;
    }
    return true;
}

/* The index of a name among the columns, or `count`. Rows mostly have their keys in one order, so callers pass the
 * column after the last one found as `guess`. */
static size_t find_column(const struct proto_column *columns, size_t count, size_t guess, const char *name,
                          size_t length) {
    for (size_t tried = 0; tried < count; tried++) {
        size_t index = guess + tried < count ? guess + tried : guess + tried - count;
        if (proto_string_is(&columns[index].name, name, length))
            return index;
    }
    return count;
}

/* Makes a column of each name that a row has. */
static bool collect_columns(struct decoder *decoder, const char *group, const json_t *rows,
                            struct proto_column *columns, size_t *count) {
    *count = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        if (!json_is_object(row)) {
            fail(decoder, group, "A row must be an object.");
            problem_pointer_index(decoder->problem->pointer, sizeof decoder->problem->pointer, i);
            return false;
        }
        const char *key;
        size_t length, guess = 0;
        json_t *value;
        json_object_keylen_foreach(row, key, length, value) {
            if (json_is_null(value))
                continue;
            size_t index = find_column(columns, *count, guess, key, length);
            if (index == PROTO_FIELDS_MAX)
                return fail_fields(decoder, group);
            if (index == *count)
                columns[(*count)++].name = (struct proto_string){copy_text(decoder, key, length), length};
            guess = index + 1 < *count ? index + 1 : 0;
        }
    }
    return true;
}

/* [{"item": "A13"}, {"item": "A16"}] */
static bool decode_rows(struct decoder *decoder, const char *group, const json_t *node, struct proto_table *table) {
    size_t rows = json_array_size(node), count;
    struct proto_column *columns = allocate(decoder, PROTO_FIELDS_MAX, sizeof *columns);
    if (columns == NULL || !collect_columns(decoder, group, node, columns, &count))
        return false;

    struct proto_value *values = allocate(decoder, rows, count * sizeof *values); /* [columns, rows] */
    if (values == NULL)
        return false;
    for (size_t i = 0; i < rows * count; i++)
        values[i] = (struct proto_value){.kind = PROTO_ABSENT};
    for (size_t i = 0; i < count; i++) {
        columns[i].count = rows;
        columns[i].values = values + i * rows;
    }
    *table = (struct proto_table){PROTO_ROWS, true, rows, count, columns};

    for (size_t i = 0; i < rows; i++) {
        const char *key;
        size_t length, guess = 0;
        json_t *value;
        json_object_keylen_foreach(json_array_get(node, i), key, length, value) {
            if (json_is_null(value))
                continue;
            size_t index = find_column(columns, count, guess, key, length);
            if (!decode_value(decoder, value, &values[index * rows + i]))
                return false;
            guess = index + 1 < count ? index + 1 : 0;
        }
    }
    return true;
}

static bool decode_table(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    if (json_is_object(node))
        return decode_columns(decoder, group, node, table);
    if (json_is_array(node))
        return decode_rows(decoder, group, node, table);
    return fail(decoder, group, "This must be an object of columns or an array of row objects.");
}

/* ---- requests ---- */

static bool decode_user_id(struct decoder *decoder, const char *name, const json_t *node,
                           struct proto_request *request) {
    struct proto_value number;
    const char *text = json_string_value(node);
    size_t length = json_string_length(node);
    if (text == NULL || decode_number(decoder, node, &number))
        return fail(decoder, name, "The user_id must be a string.");
    if (!proto_is_user_id(text, length)) {
        fail(decoder, name, proto_user_id_rule);
        decoder->problem->kind = PROBLEM_INVALID_USER_ID;
        return false;
    }
    request->has_user_id = true;
    request->user_id = (struct proto_string){copy_text(decoder, text, length), length};
    return true;
}

static bool decode_token(struct decoder *decoder, const char *name, const json_t *node, struct proto_request *request) {
    const char *text = json_string_value(node);
    size_t length = json_string_length(node); /* 0 if this is no string */
    if (length == 0 || has_nul(node) || utf8_count(text, length) > PROTO_HISTORY_TOKEN_MAX)
        return fail(decoder, name, "The history_token must be a string of 1 to 256 characters, without U+0000.");
    request->has_history_token = true;
    request->history_token = (struct proto_string){copy_text(decoder, text, length), length};
    return true;
}

static bool decode_event_id(struct decoder *decoder, const char *name, const json_t *node,
                            struct proto_request *request) {
    const char *text = json_string_value(node);
    size_t length = json_string_length(node); /* 0 if this is no string */
    if (!proto_is_event_id(text, length))
        return fail(decoder, name, proto_event_id_rule);
    request->has_event_id = true;
    request->event_id = (struct proto_string){copy_text(decoder, text, length), length};
    return true;
}

/* A number of results, in any form that JSON has for a whole number: 10, 10.0 and 1e1. */
static bool decode_top_k(struct decoder *decoder, const char *name, const json_t *node, struct proto_request *request) {
    struct proto_value number;
    if (!decode_number(decoder, node, &number) || !number_to_integer(&number, &number) ||
        number.kind != PROTO_INTEGER || number.integer < 1)
        return fail(decoder, name, "This must be an integer from 1 to 9223372036854775807.");
    request->top_k = (size_t)number.integer;
    return true;
}

/* A member that both kinds of request can have. */
static bool decode_history_member(struct decoder *decoder, const char *name, json_t *node,
                                  struct proto_request *request) {
    if (strcmp(name, "history") == 0)
        return decode_table(decoder, name, node, &request->history);
    if (strcmp(name, "history_token") == 0)
        return decode_token(decoder, name, node, request);
    if (strcmp(name, "event_id") == 0)
        return decode_event_id(decoder, name, node, request);
    return decode_table(decoder, name, node, &request->history_append);
}

static bool decode_score_member(struct decoder *decoder, const char *name, json_t *node,
                                struct proto_request *request) {
    if (strcmp(name, "user_id") == 0)
        return decode_user_id(decoder, name, node, request);
    if (strcmp(name, "user") == 0)
        return decode_singles(decoder, name, node, &request->user);
    if (strcmp(name, "context") == 0)
        return decode_singles(decoder, name, node, &request->context);
    if (strcmp(name, "candidates") == 0) {
        if (!decode_table(decoder, name, node, &request->candidates))
            return false;
        if (request->candidates.rows == 0 || request->candidates.columns == 0)
            return fail(decoder, name, "A request needs at least one candidate.");
        return true;
    }
    if (strcmp(name, "top_k") == 0)
        return decode_top_k(decoder, name, node, request);
    if (strcmp(name, "timeout_ms") == 0) {
        struct proto_value number;
        if (!decode_number(decoder, node, &number) || !number_to_integer(&number, &number) ||
            number.kind != PROTO_INTEGER || number.integer < 1 || number.integer > PROTO_TIMEOUT_MAX)
            return fail(decoder, name, "This must be an integer from 1 to 86400000.");
        request->timeout_ms = (uint32_t)number.integer;
        return true;
    }
    if (strcmp(name, "explain") == 0 || strcmp(name, "partial") == 0) {
        if (!json_is_boolean(node))
            return fail(decoder, name, "This must be true or false.");
        *(name[0] == 'e' ? &request->explain : &request->partial) = json_is_true(node);
        return true;
    }
    return decode_history_member(decoder, name, node, request);
}

typedef bool member_decoder(struct decoder *decoder, const char *name, json_t *node, struct proto_request *request);

/* The members that a kind of request can have; NULL ends the list. */
struct members {
    member_decoder *decode;
    const char *names[13];
};
static const struct members score_members = {decode_score_member,
                                             {"user_id", "user", "context", "history", "history_token",
                                              "history_append", "candidates", "top_k", "explain", "timeout_ms",
                                              "partial", "event_id"}};
static const struct members history_members = {decode_history_member,
                                               {"history", "history_token", "history_append", "event_id"}};

static const struct members event_members = {decode_score_member, {"user_id", "event_id", "history_append"}};

static bool has_member(const struct members *members, const char *name) {
    size_t i = 0;
    while (members->names[i] != NULL && strcmp(members->names[i], name) != 0)
        i++;
    return members->names[i] != NULL;
}

/* Decodes each member in the order of the text. `skipped` names a member that belongs to the caller, or is NULL. */
static bool decode_members(struct decoder *decoder, json_t *node, const struct members *members, const char *skipped,
                           struct proto_request *request) {
    *request = (struct proto_request){0};
    if (!json_is_object(node))
        return fail(decoder, NULL, "A request must be an object.");
    const char *name;
    json_t *value;
    json_object_foreach(node, name, value) {
        if (skipped != NULL && strcmp(name, skipped) == 0)
            continue;
        if (!has_member(members, name))
            return fail(decoder, name, "A request has no such member.");
        if (!json_is_null(value) && !members->decode(decoder, name, value, request))
            return false;
    }
    return true;
}

/* ---- records of a history store ---- */

/* A whole number that is not negative. */
static bool decode_count(struct decoder *decoder, const json_t *object, const char *name, uint64_t *count) {
    struct proto_value number;
    const json_t *node = json_object_get(object, name);
    if (node == NULL || !decode_number(decoder, node, &number) || !number_to_integer(&number, &number) ||
        (number.kind == PROTO_INTEGER && number.integer < 0))
        return fail(decoder, name, "This must be a whole number that is not negative.");
    *count = number.kind == PROTO_INTEGER ? (uint64_t)number.integer : number.unsigned_integer;
    return true;
}

static bool decode_text(struct decoder *decoder, const json_t *object, const char *name, struct proto_string *text) {
    const json_t *node = json_object_get(object, name);
    struct proto_value value;
    if (node == NULL || !json_is_string(node) || !decode_value(decoder, node, &value) || value.kind != PROTO_STRING)
        return fail(decoder, name, "This must be a string without U+0000.");
    *text = (struct proto_string){value.string, value.length};
    return true;
}

static bool decode_list(struct decoder *decoder, json_t *node, struct history_list *list) {
    uint64_t length;
    struct proto_table table = {0};
    json_t *columns = json_object_get(node, "columns");
    if (json_object_size(node) != 4 || !json_is_object(columns))
        return fail(decoder, NULL, "A list has a name, a count, a length and columns, and no other member.");
    if (!decode_text(decoder, node, "name", &list->name) || !decode_count(decoder, node, "count", &list->count) ||
        !decode_count(decoder, node, "length", &length) || !decode_columns(decoder, "columns", columns, &table))
        return false;
    for (size_t i = 0; i < table.columns; i++)
        if (table.column[i].count != length)
            return fail(decoder, "columns", "A column has as many values as the list is long.");
    list->length = length;
    list->columns = table.columns;
    list->column = table.column;
    return true;
}

static bool decode_lists(struct decoder *decoder, const json_t *array, struct history *history) {
    size_t count = json_array_size(array);
    struct history_list *lists = allocate(decoder, count, sizeof *lists);
    if (!json_is_array(array))
        return fail(decoder, "lists", "This must be an array.");
    if (lists == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        snprintf(decoder->prefix, sizeof decoder->prefix, "/lists/%zu", i);
        if (!decode_list(decoder, json_array_get(array, i), &lists[i]))
            return false;
    }
    decoder->prefix[0] = '\0';
    history->lists = lists;
    history->list_count = count;
    return true;
}

static bool decode_events(struct decoder *decoder, const json_t *root, struct history *history) {
    static const char reason[] = "There must be as many event_ids, strings, as event_counts, whole numbers.";
    const json_t *ids = json_object_get(root, "event_ids"), *counts = json_object_get(root, "event_counts");
    size_t count = json_array_size(ids);
    struct proto_string *texts = allocate(decoder, count, sizeof *texts);
    uint64_t *numbers = allocate(decoder, count, sizeof *numbers);
    if (!json_is_array(ids) || !json_is_array(counts) || json_array_size(counts) != count)
        return fail(decoder, "event_ids", reason);
    for (size_t i = 0; texts != NULL && numbers != NULL && i < count; i++) {
        const json_t *id = json_array_get(ids, i), *number = json_array_get(counts, i);
        if (json_string_length(id) == 0 || has_nul(id) || !json_is_integer(number) || json_integer_value(number) < 0)
            return fail(decoder, "event_ids", reason);
        texts[i].length = json_string_length(id);
        texts[i].data = copy_text(decoder, json_string_value(id), texts[i].length);
        numbers[i] = (uint64_t)json_integer_value(number);
    }
    history->event_count = count;
    history->event_ids = texts;
    history->event_counts = numbers;
    return texts != NULL && numbers != NULL;
}

static bool decode_hex(struct decoder *decoder, const json_t *node, struct proto_string *bytes) {
    const char *text = json_string_value(node);
    size_t length = json_string_length(node);
    char *out = allocate(decoder, length / 2 + 1, 1);
    bool good = text != NULL && length % 2 == 0;
    for (size_t i = 0; good && out != NULL && i < length / 2; i++) {
        int high = digits_hex_value(text[2 * i]), low = digits_hex_value(text[2 * i + 1]);
        good = high >= 0 && low >= 0;
        out[i] = good ? (char)(high << 4 | low) : '\0';
    }
    *bytes = (struct proto_string){out, length / 2};
    return good ? out != NULL : fail(decoder, "record", "This must be a string of hexadecimal digits.");
}

static bool decode_record(struct decoder *decoder, json_t *root, struct proto_string *user, struct history *history,
                          struct proto_string *record) {
    static const char *const names[] = {
        "user_id",   "encoding", "count",       "created_milliseconds", "changed_milliseconds",
        "event_ids", "lists",    "event_counts"};
    uint64_t encoding, created, changed;
    const json_t *hex = json_object_get(root, "record");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (json_object_get(root, names[i]) == NULL)
            return fail(decoder, names[i], "A user's line has this member.");
    if (json_object_size(root) != sizeof names / sizeof *names + (hex != NULL))
        return fail(decoder, NULL, "A user's line has a member that this version does not know.");
    if (!decode_text(decoder, root, "user_id", user) || !decode_count(decoder, root, "encoding", &encoding) ||
        !decode_count(decoder, root, "count", &history->count) ||
        !decode_count(decoder, root, "created_milliseconds", &created) ||
        !decode_count(decoder, root, "changed_milliseconds", &changed))
        return false;
    if (!proto_is_user_id(user->data, user->length))
        return fail(decoder, "user_id", proto_user_id_rule);
    if (encoding != HISTORY_ENCODING)
        return fail(decoder, "encoding", "This version does not know the encoding.");
    history->created_milliseconds = (int64_t)created;
    history->changed_milliseconds = (int64_t)changed;
    return decode_lists(decoder, json_object_get(root, "lists"), history) && decode_events(decoder, root, history) &&
           (hex == NULL || decode_hex(decoder, hex, record));
}

/* ---- text to tree ---- */

/* The facts about a text that the parser must not meet, or would not report. */
struct survey {
    size_t nul;      /* the first zero byte, or `size`: jansson skips one after a number */
    size_t too_deep; /* the byte at which the text first nests deeper than DEPTH_MAX, or `size` */
    size_t escaped_nuls;
    size_t wide_count;
};

/* It is enough to look at brackets and numbers outside strings, because the parser refuses text that is not JSON. */
static struct survey survey_text(const char *text, size_t size) {
    const char *zero = memchr(text, '\0', size);
    struct survey survey = {.nul = zero != NULL ? (size_t)(zero - text) : size, .too_deep = size};
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];
        if (byte == '"') {
            in_string = !in_string;
        } else if (in_string) {
            survey.escaped_nuls += size - i >= NUL_SIZE && memcmp(text + i, nul_escape, NUL_SIZE) == 0;
            i += byte == '\\'; /* the escaped byte may be a quote */
        } else if (byte == '[' || byte == '{') {
            if (++depth > DEPTH_MAX && survey.too_deep == size)
                survey.too_deep = i;
        } else if (byte == ']' || byte == '}') {
            depth -= depth > 0;
        } else if (byte == '-' || is_digit(byte)) {
            const char *end = number_end(text + i, text + size);
            if (end == NULL)
                continue;
            survey.wide_count += number_is_wide(text + i, end);
            i = (size_t)(end - text) - 1;
        }
    }
    return survey;
}

/* Copies the text with a mark in place of each wide number. So that no string of the client's is taken for a mark, an
 * "x" follows each escape of U+0000; such a string is refused in any case. Returns the copy's size. */
static size_t mark_wide_numbers(const char *text, size_t size, char *copy, struct wide_number *wide) {
    char *out = copy;
    size_t count = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];
        const char *end = NULL;
        if (byte == '"') {
            in_string = !in_string;
        } else if (in_string && byte == '\\') {
            bool nul = size - i >= NUL_SIZE && memcmp(text + i, nul_escape, NUL_SIZE) == 0;
            size_t length = nul ? NUL_SIZE : size - i > 1 ? 2 : 1;
            memcpy(out, text + i, length);
            out += length;
            if (nul)
                *out++ = 'x';
            i += length - 1;
            continue;
        } else if (!in_string && (byte == '-' || is_digit(byte))) {
            end = number_end(text + i, text + size);
        }
        if (end == NULL) {
            *out++ = byte;
        } else if (!number_is_wide(text + i, end)) {
            memcpy(out, text + i, (size_t)(end - text) - i);
            out += (size_t)(end - text) - i;
            i = (size_t)(end - text) - 1;
        } else {
            out += sprintf(out, "\"%s%zu\"", nul_escape, count);
            wide[count++] = (struct wide_number){text + i, end, (size_t)(out - copy)};
            i = (size_t)(end - text) - 1;
        }
    }
    return (size_t)(out - copy);
}

/* Whether `place` lies in the string that is the value of the outermost object's user_id. */
static bool lies_in_user_id(const char *text, size_t size, size_t place) {
    static const char name[] = "\"user_id\"";
    size_t depth = 0;
    bool is_value = false, was_name = false; /* of user_id: what comes next, and what came last */
    for (size_t i = 0; i < size && i <= place; i++) {
        if (text[i] == '"') {
            size_t begin = i++;
            while (i < size && text[i] != '"')
                i += text[i] == '\\' ? 2 : 1;
            if (is_value && place > begin && place <= i + 1)
                return true;
            was_name = depth == 1 && i < size && i + 1 - begin == sizeof name - 1 &&
                       memcmp(text + begin, name, sizeof name - 1) == 0;
            is_value = false;
        } else if (text[i] == ':') {
            is_value = was_name;
        } else if (strchr(" \t\r\n", text[i]) == NULL) {
            depth += text[i] == '{' || text[i] == '[';
            depth -= depth > 0 && (text[i] == '}' || text[i] == ']');
            is_value = was_name = false;
        }
    }
    return false;
}

/* The place in the text of a place in the copy that has marks. */
static size_t unmarked(const struct decoder *decoder, const char *text, size_t place) {
    for (size_t i = decoder->wide_count; i > 0; i--) {
        const struct wide_number *wide = &decoder->wide[i - 1];
        if (place >= wide->mark_end)
            return place - wide->mark_end + (size_t)(wide->end - text);
    }
    return place;
}

static void set_parse_problem(struct decoder *decoder, const char *text, size_t size, const json_error_t *error) {
    static const char *const reasons[] = {
        [json_error_invalid_utf8] = "The text is not valid UTF-8",
        [json_error_premature_end_of_input] = "The text ends too soon",
        [json_error_end_of_input_expected] = "There is more text after the value",
        [json_error_null_byte_in_key] = "U+0000 is not allowed in a name",
        [json_error_duplicate_key] = "An object has the same name twice",
    };
    size_t code = json_error_code(error);
    const char *reason = code < sizeof reasons / sizeof *reasons ? reasons[code] : NULL;
    size_t place = unmarked(decoder, text, error->position > 0 ? (size_t)error->position : 0);
    bool bad_text = code == json_error_invalid_utf8 || strstr(error->text, "Unicode") != NULL;
    if (bad_text && lies_in_user_id(text, size, place)) {
        problem_set(decoder->problem, PROBLEM_INVALID_USER_ID, "/user_id", "%s", proto_user_id_rule);
        return;
    }
    char syntax[JSON_ERROR_TEXT_LENGTH + 16];
    if (reason == NULL) {
        /* jansson's own words, without the piece of the client's text that they end with. */
        const char *end = strstr(error->text, " near ");
        int length = end != NULL ? (int)(end - error->text) : (int)strlen(error->text);
        snprintf(syntax, sizeof syntax, "Bad syntax: %.*s", length, error->text);
        reason = syntax;
    }
    size_t line = 1, begin = 0; /* of the place; counted here, since marks have other lengths than their numbers */
    for (size_t i = 0; i < place && i < size; i++)
        if (text[i] == '\n') {
            line++;
            begin = i + 1;
        }
    problem_set(decoder->problem, PROBLEM_INVALID_JSON, "", "%s, at byte %zu (line %zu, column %zu).", reason,
                place + decoder->skipped, line, utf8_count(text + begin, (place < size ? place : size) - begin));
}

struct parse_job {
    const char *text;
    size_t size;
    json_t *root;
    json_error_t error;
};

static void run_parser(void *context) {
    struct parse_job *job = context;
    job->root =
        json_loadb(job->text, job->size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL, &job->error);
}

/* Parses a document into a tree in the arena, and takes room for its strings. Returns NULL on error. */
static json_t *parse(struct decoder *decoder, const char *text, size_t size) {
    struct problem *problem = decoder->problem;
    decoder->skipped = utf8_mark_size(text, size);
    text = size > decoder->skipped ? text + decoder->skipped : "";
    size -= decoder->skipped;
    struct survey survey = survey_text(text, size);
    size_t marked_size = size + survey.escaped_nuls + survey.wide_count * MARK_SIZE;
    if (marked_size > INT_MAX) { /* jansson counts bytes in an int */
        problem_set(problem, PROBLEM_BODY_TOO_LARGE, "", "The text has %zu bytes; at most %d can be read.", size,
                    INT_MAX);
        return NULL;
    }
    if (survey.too_deep < size) { /* jansson's parser is recursive */
        problem_set(problem, PROBLEM_INVALID_JSON, "", "Arrays and objects nest deeper than %d levels, at byte %zu.",
                    DEPTH_MAX, survey.too_deep + decoder->skipped);
        return NULL;
    }
    if (survey.nul < size) {
        problem_set(problem, PROBLEM_INVALID_JSON, "", "The text has a zero byte, at byte %zu.",
                    survey.nul + decoder->skipped);
        return NULL;
    }
    struct parse_job job = {.text = text, .size = size};
    if (survey.wide_count > 0) {
        struct wide_number *wide = allocate(decoder, survey.wide_count, sizeof *wide);
        char *copy = allocate(decoder, marked_size + 1, 1);
        if (wide == NULL || copy == NULL)
            return NULL;
        job.text = copy;
        job.size = mark_wide_numbers(text, size, copy, wide);
        decoder->wide = wide;
        decoder->wide_count = survey.wide_count;
    }
    if (!parse_memory_run(decoder->arena, run_parser, &job)) {
        problem_out_of_memory(problem);
        return NULL;
    }
    if (job.root == NULL) {
        set_parse_problem(decoder, text, size, &job.error);
        return NULL;
    }
    decoder->text = allocate(decoder, size, 1);
    return decoder->text != NULL ? job.root : NULL;
}

/* ---- documents ---- */

bool json_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem) {
    arena_mark(arena);
    if (json_fast_decode_request(body, size, arena, request))
        return true;
    arena_rewind(arena); /* so that the failed attempt takes nothing from the parser's limit */
    return json_decode_request_tree(body, size, arena, request, problem);
}

bool json_decode_request_tree(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                              struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse(&decoder, body, size);
    return root != NULL && decode_members(&decoder, root, &score_members, NULL, request) &&
           proto_check_request(request, "", problem);
}

bool json_decode_history(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse(&decoder, body, size);
    return root != NULL && decode_members(&decoder, root, &history_members, NULL, request) &&
           proto_check_history(request, "", problem);
}

bool json_decode_record(const char *line, size_t size, struct arena *arena, struct proto_string *user,
                        struct history *history, struct proto_string *record, struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse(&decoder, line, size);
    *history = (struct history){0};
    *record = (struct proto_string){NULL, 0};
    return root != NULL && decode_record(&decoder, root, user, history, record);
}

bool json_decode_event(const char *line, size_t size, struct arena *arena, struct proto_request *request,
                       struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse(&decoder, line, size);
    return root != NULL && decode_members(&decoder, root, &event_members, NULL, request) &&
           proto_check_event(request, "", problem);
}

static bool take_text(struct decoder *decoder, const json_t *object, const char *name, struct proto_string *value) {
    const json_t *member = json_object_get(object, name);
    size_t length = json_string_length(member);
    if (!json_is_string(member) || length == 0 || memchr(json_string_value(member), '\0', length) != NULL)
        return fail(decoder, name, "This must be a text that is not empty.");
    char *copy = allocate(decoder, length + 1, 1);
    if (copy == NULL)
        return false;
    memcpy(copy, json_string_value(member), length + 1);
    *value = (struct proto_string){copy, length};
    return true;
}

/* NULL with the problem set: it is no JSON, or no object. */
static json_t *parse_object(struct decoder *decoder, const char *body, size_t size) {
    json_t *root = parse(decoder, body, size);
    if (root == NULL || json_is_object(root))
        return root;
    fail(decoder, NULL, "This must be an object.");
    return NULL;
}

bool json_decode_candidate(const char *body, size_t size, struct arena *arena, struct proto_candidate *candidate,
                           struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    *candidate = (struct proto_candidate){.directory = {NULL, 0}, .canary = -1, .shadow = -1};
    json_t *root = parse_object(&decoder, body, size);
    if (root == NULL)
        return false;
    const char *key;
    json_t *node;
    json_object_foreach(root, key, node) {
        bool is_canary = strcmp(key, "canary") == 0;
        if (strcmp(key, "directory") == 0) {
            if (!take_text(&decoder, root, key, &candidate->directory))
                return false;
            continue;
        }
        if (!is_canary && strcmp(key, "shadow") != 0)
            return fail(&decoder, key, "There is no such member here.");
        double share = json_number_value(node);
        if (!json_is_number(node) || !(share >= 0 && share <= 1))
            return fail(&decoder, key, "A share is a number from 0 to 1.");
        *(is_canary ? &candidate->canary : &candidate->shadow) = share;
    }
    return true;
}

bool json_decode_call(const char *body, size_t size, const char *name, struct arena *arena, struct proto_string *value,
                      struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    if (name == NULL && size == 0)
        return true;
    json_t *root = parse_object(&decoder, body, size);
    if (root == NULL)
        return false;
    const char *key;
    json_t *node;
    json_object_foreach(root, key, node) {
        if (name == NULL || strcmp(key, name) != 0)
            return fail(&decoder, key, "There is no such member here.");
    }
    return name == NULL || take_text(&decoder, root, name, value);
}

bool json_decode_member(const char *text, size_t size, const char *name, struct arena *arena,
                        struct proto_string *value) {
    struct problem problem;
    struct decoder decoder = {.arena = arena, .problem = &problem};
    const json_t *root = parse(&decoder, text, size);
    return root != NULL && take_text(&decoder, root, name, value);
}

/* {"samples": [{..., "scores": [0.5, 0.25]}]}: each sample is a request with one more member. */
bool json_decode_samples(const char *text, size_t size, struct arena *arena, const struct proto_sample **samples,
                         size_t *count, struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    const json_t *root = parse(&decoder, text, size);
    if (root == NULL)
        return false;
    const json_t *array = json_object_get(root, "samples");
    if (json_object_size(root) != 1 || json_array_size(array) == 0)
        return fail(&decoder, NULL, "This must be an object with one member, samples, an array of at least one.");
    struct proto_sample *sample = allocate(&decoder, json_array_size(array), sizeof *sample);
    if (sample == NULL)
        return false;
    *samples = sample;
    *count = json_array_size(array);

    for (size_t i = 0; i < *count; i++, sample++) {
        json_t *node = json_array_get(array, i);
        snprintf(decoder.prefix, sizeof decoder.prefix, "/samples/%zu", i);
        if (!decode_members(&decoder, node, &score_members, "scores", &sample->request) ||
            !proto_check_request(&sample->request, decoder.prefix, problem))
            return false;
        const json_t *scores = json_object_get(node, "scores");
        if (!json_is_array(scores) || !all_numbers(&decoder, scores))
            return fail(&decoder, "scores", "The scores must be an array of numbers.");
        if (json_array_size(scores) != sample->request.candidates.rows)
            return fail(&decoder, "scores", "There must be one score for each candidate.");
        sample->score_count = json_array_size(scores);
        sample->scores = copy_numbers(&decoder, scores);
        if (sample->scores == NULL)
            return false;
    }
    return true;
}
