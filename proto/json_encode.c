/* json_encode.c: JSON out, written front to back into one buffer of the arena.
 *
 * Strings that need escaping are jansson's to write; plain ASCII and numbers are written here, as a reply is mostly
 * those. Numbers that digits.c does not take go through printf, whose decimal point is the C locale's: the server never
 * calls setlocale().
 */
#include "proto/json_encode.h"

#include "proto/digits.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URN "urn:dien:"

enum {
    FIRST_ROOM = 1024,
    RESULT_BYTES = 64, /* about what one result takes */
    FLOAT_DIGITS = 9,  /* enough to give back every float */
    DOUBLE_DIGITS = 17,
    DOUBLE_SAFE_DIGITS = 15 /* a decimal of so many digits survives being a double */
};

/* Whole numbers below this are exact in a double. */
static const double whole_limit = 9007199254740992.0;

struct writer {
    struct arena *arena;
    char *data;
    size_t used;
    size_t room;
    bool comma;   /* a value was written at this level: the next one is set off from it */
    bool failed;  /* memory is out: nothing more is written */
    bool lenient; /* a string may be something else than UTF-8 */
};

static struct writer writer_new(struct arena *arena, size_t room) {
    struct writer writer = {.arena = arena, .data = arena_alloc(arena, room), .room = room};
    writer.failed = writer.data == NULL;
    return writer;
}

static struct proto_string writer_end(const struct writer *writer) {
    if (writer->failed)
        return (struct proto_string){NULL, 0};
    return (struct proto_string){writer->data, writer->used};
}

/* Twice the room. The old buffer stays in the arena until its reset. */
static void writer_grow(struct writer *writer, size_t more) {
    size_t room = 2 * writer->room + more;
    char *data = arena_alloc(writer->arena, room);
    if (data == NULL) {
        writer->failed = true;
        return;
    }
    memcpy(data, writer->data, writer->used);
    writer->data = data;
    writer->room = room;
}

static void put_bytes(struct writer *writer, const char *bytes, size_t size) {
    if (!writer->failed && size > writer->room - writer->used)
        writer_grow(writer, size);
    if (writer->failed)
        return;
    memcpy(writer->data + writer->used, bytes, size);
    writer->used += size;
}

static void put_text(struct writer *writer, const char *text) {
    put_bytes(writer, text, strlen(text));
}

/* Every value starts here: a comma where one is due. */
static void begin_value(struct writer *writer) {
    if (writer->comma)
        put_bytes(writer, ",", 1);
    writer->comma = true;
}

static void open_with(struct writer *writer, const char *bracket) {
    begin_value(writer);
    put_text(writer, bracket);
    writer->comma = false;
}

static void close_with(struct writer *writer, const char *bracket) {
    put_text(writer, bracket);
    writer->comma = true;
}

/* Strings. */

static bool is_plain(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte < 0x20 || byte > 0x7E || byte == '"' || byte == '\\')
            return false;
    }
    return true;
}

/* A path or a header need not be UTF-8: a '?' for every byte that is not ASCII, rather than no line in the log. Not for
 * replies: jansson says no more than that it has no string, and what is out may be memory. */
static json_t *ascii_string(struct writer *writer, const char *text, size_t length) {
    char *copy = arena_alloc(writer->arena, length);
    if (copy == NULL)
        return NULL;
    for (size_t i = 0; i < length; i++)
        copy[i] = (unsigned char)text[i] < 0x80 ? text[i] : '?';
    return json_stringn(copy, length);
}

static int put_dumped(const char *bytes, size_t size, void *writer) {
    put_bytes(writer, bytes, size);
    return 0;
}

static void put_escaped(struct writer *writer, const char *text, size_t length) {
    json_t *node = json_stringn(text, length);
    if (node == NULL && writer->lenient)
        node = ascii_string(writer, text, length);
    if (node == NULL || json_dump_callback(node, put_dumped, writer, JSON_ENCODE_ANY) != 0)
        writer->failed = true;
    json_decref(node);
}

static void put_quoted(struct writer *writer, const char *text, size_t length) {
    if (!is_plain(text, length)) {
        put_escaped(writer, text, length);
        return;
    }
    put_bytes(writer, "\"", 1);
    put_bytes(writer, text, length);
    put_bytes(writer, "\"", 1);
}

static void put_string(struct writer *writer, const char *text, size_t length) {
    begin_value(writer);
    put_quoted(writer, text, length);
}

/* A member's name: what comes next is its value. */
static void put_name(struct writer *writer, const char *name, size_t length) {
    put_string(writer, name, length);
    put_bytes(writer, ":", 1);
    writer->comma = false;
}

/* Numbers. */

static void put_integer(struct writer *writer, int64_t integer) {
    char text[DIGITS_ROOM];
    begin_value(writer);
    put_bytes(writer, text, digits_of_integer(integer, text));
}

static void put_float(struct writer *writer, float number) {
    char text[DIGITS_ROOM];
    size_t length = digits_of_float(number, text);
    begin_value(writer);
    if (length > 0) {
        put_bytes(writer, text, length);
        return;
    }
    snprintf(text, sizeof text, "%.*g", FLOAT_DIGITS, (double)number);
    put_text(writer, isfinite(number) ? text : "null");
}

/* The double, exactly, in as few digits as a client is likely to have used. */
static void print_real(double number, char *text, size_t size) {
    for (int digits = DOUBLE_SAFE_DIGITS; digits <= DOUBLE_DIGITS; digits++) {
        snprintf(text, size, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
}

/* It stays a real: 1.0 is not 1. */
static void put_real(struct writer *writer, double number) {
    char text[40];
    size_t length = digits_of_double(number, text);
    text[length] = '\0';
    if (length == 0)
        print_real(number, text, sizeof text);
    begin_value(writer);
    put_text(writer, isfinite(number) ? text : "null");
    if (isfinite(number) && strpbrk(text, ".e") == NULL)
        put_text(writer, ".0");
}

/* A number that is whole is written as an integer. */
static void put_number(struct writer *writer, double number) {
    if (number == trunc(number) && fabs(number) < whole_limit)
        put_integer(writer, (int64_t)number);
    else
        put_real(writer, number);
}

static void put_boolean(struct writer *writer, bool value) {
    begin_value(writer);
    put_text(writer, value ? "true" : "false");
}

/* Members with names of our own or of the model. */

static void name(struct writer *writer, const char *text) {
    put_name(writer, text, strlen(text));
}

static void member_string(struct writer *writer, const char *member, const char *text) {
    name(writer, member);
    put_string(writer, text, strlen(text));
}

static void member_size(struct writer *writer, const char *member, size_t size) {
    name(writer, member);
    put_integer(writer, (int64_t)size);
}

/* The reply. */

static void put_vector(struct writer *writer, const struct proto_value *value) {
    open_with(writer, "[");
    for (size_t i = 0; i < value->length; i++)
        put_number(writer, value->vector[i]);
    close_with(writer, "]");
}

static void put_value(struct writer *writer, const struct proto_value *value) {
    switch (value->kind) {
    case PROTO_INTEGER:
        put_integer(writer, value->integer);
        return;
    case PROTO_REAL:
        put_real(writer, value->real);
        return;
    case PROTO_STRING:
        put_string(writer, value->string, value->length);
        return;
    case PROTO_VECTOR:
        put_vector(writer, value);
        return;
    case PROTO_ABSENT:
    case PROTO_OTHER:
        break;
    }
    begin_value(writer);
    put_text(writer, "null");
}

static bool same(const struct proto_string *string, const char *text) {
    return string->length == strlen(text) && memcmp(string->data, text, string->length) == 0;
}

/* A field with the name of one of the reply's own members is left out: no name comes twice in an object. */
static bool is_reserved(const struct proto_string *field) {
    return same(field, "index") || same(field, "score") || same(field, "attention");
}

static void put_candidate(struct writer *writer, const struct proto_table *candidates, size_t index) {
    for (size_t i = 0; i < candidates->columns; i++) {
        const struct proto_column *column = &candidates->column[i];
        if (index >= column->count || column->values[index].kind == PROTO_ABSENT || is_reserved(&column->name))
            continue;
        put_name(writer, column->name.data, column->name.length);
        put_value(writer, &column->values[index]);
    }
}

static bool is_explained(const struct proto_reply *reply) {
    for (size_t i = 0; i < reply->interest_count; i++) {
        if (reply->interests[i].attention != NULL)
            return true;
    }
    return false;
}

static void put_attention(struct writer *writer, const struct proto_reply *reply, size_t index) {
    name(writer, "attention");
    open_with(writer, "{");
    for (size_t i = 0; i < reply->interest_count; i++) {
        const struct proto_interest *interest = &reply->interests[i];
        if (interest->attention == NULL)
            continue;
        name(writer, interest->name);
        open_with(writer, "[");
        for (size_t t = 0; t < interest->length; t++)
            put_float(writer, interest->attention[index * interest->length + t]);
        close_with(writer, "]");
    }
    close_with(writer, "}");
}

static void put_results(struct writer *writer, const struct proto_reply *reply) {
    bool explained = is_explained(reply);
    name(writer, "results");
    open_with(writer, "[");
    for (size_t i = 0; i < reply->result_count && !writer->failed; i++) {
        const struct proto_result *result = &reply->results[i];
        open_with(writer, "{");
        member_size(writer, "index", result->index);
        put_candidate(writer, reply->candidates, result->index);
        name(writer, "score");
        put_float(writer, result->score);
        if (explained)
            put_attention(writer, reply, result->index);
        close_with(writer, "}");
    }
    close_with(writer, "]");
}

static void put_interests(struct writer *writer, size_t count, const struct proto_interest *interests) {
    name(writer, "interests");
    open_with(writer, "{");
    for (size_t i = 0; i < count; i++) {
        name(writer, interests[i].name);
        open_with(writer, "{");
        member_size(writer, "length", interests[i].length);
        member_size(writer, "received", interests[i].received);
        close_with(writer, "}");
    }
    close_with(writer, "}");
}

/* The longest interest speaks for all; each for itself where there are several. */
static void put_history(struct writer *writer, size_t count, const struct proto_interest *interests,
                        struct proto_string token) {
    size_t length = 0;
    size_t received = 0;
    for (size_t i = 0; i < count; i++) {
        const struct proto_interest *interest = &interests[i];
        length = interest->length > length ? interest->length : length;
        received = interest->received > received ? interest->received : received;
    }
    name(writer, "history");
    open_with(writer, "{");
    member_size(writer, "length", length);
    member_size(writer, "received", received);
    if (token.data != NULL) {
        name(writer, "token");
        put_string(writer, token.data, token.length);
    }
    if (count > 1)
        put_interests(writer, count, interests);
    close_with(writer, "}");
}

static void put_unknown(struct writer *writer, const struct proto_reply *reply) {
    name(writer, "unknown");
    open_with(writer, "{");
    for (size_t i = 0; i < reply->unknown_count; i++)
        member_size(writer, reply->unknown[i].field, reply->unknown[i].count);
    close_with(writer, "}");
}

struct proto_string json_encode_reply(const struct proto_reply *reply, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM + RESULT_BYTES * reply->result_count);
    open_with(&writer, "{");
    member_string(&writer, "model", reply->model);
    member_string(&writer, "version", reply->version);
    member_string(&writer, "user_state", reply->user_state);
    put_history(&writer, reply->interest_count, reply->interests, reply->token);
    put_unknown(&writer, reply);
    if (reply->results != NULL)
        put_results(&writer, reply);
    close_with(&writer, "}");
    return writer_end(&writer);
}

static void member_number(struct writer *writer, const char *member, double number) {
    name(writer, member);
    put_number(writer, number);
}

struct proto_string json_encode_user_summary(const struct proto_user_summary *held, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_string(&writer, "model", held->model);
    member_string(&writer, "version", held->version);
    put_history(&writer, held->interest_count, held->interests, (struct proto_string){NULL, 0});
    member_size(&writer, "bytes", held->bytes);
    member_number(&writer, "age_seconds", held->age_seconds);
    member_number(&writer, "idle_seconds", held->idle_seconds);
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* Problem details. */

static bool is_unreserved(char byte) {
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
           (byte != '\0' && strchr("-._~", byte) != NULL);
}

/* The instance is a URI whatever the request id has in it: percent-encoded as RFC 3986 says. */
static void put_instance(struct writer *writer, const char *request_id) {
    name(writer, "instance");
    begin_value(writer);
    put_text(writer, "\"" URN "request:");
    for (const char *byte = request_id; *byte != '\0'; byte++) {
        char text[4] = {*byte};
        if (!is_unreserved(*byte))
            snprintf(text, sizeof text, "%%%02X", (unsigned int)(unsigned char)*byte);
        put_text(writer, text);
    }
    put_text(writer, "\"");
}

static void put_type(struct writer *writer, enum problem_kind kind) {
    name(writer, "type");
    begin_value(writer);
    put_text(writer, "\"" URN "problem:");
    put_text(writer, problem_slug(kind));
    put_text(writer, "\"");
}

struct proto_string json_encode_problem(const struct problem *problem, const char *request_id, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    writer.lenient = true;
    open_with(&writer, "{");
    put_type(&writer, problem->kind);
    member_string(&writer, "title", problem_title(problem->kind));
    name(&writer, "status");
    put_integer(&writer, problem_status(problem->kind));
    member_string(&writer, "detail", problem->detail);
    if (problem_in_body(problem->kind))
        member_string(&writer, "pointer", problem->pointer);
    if (request_id != NULL)
        put_instance(&writer, request_id);
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* Health. */

struct proto_string json_encode_health(const struct proto_health *health, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_string(&writer, "status", health->status);
    if (health->model != NULL)
        member_string(&writer, "model", health->model);
    if (health->version != NULL)
        member_string(&writer, "version", health->version);
    name(&writer, "uptime_seconds");
    put_number(&writer, health->uptime_seconds);
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* The model's description. */

static void put_field(struct writer *writer, const struct proto_model_field *field) {
    open_with(writer, "{");
    member_string(writer, "name", field->name);
    member_string(writer, "kind", field->kind);
    if (strcmp(field->kind, "dense") == 0)
        member_size(writer, "width", field->width);
    else
        member_size(writer, "rows", field->rows);
    name(writer, "required");
    put_boolean(writer, field->attribute_of == NULL);
    if (field->attribute_of != NULL)
        member_string(writer, "attribute_of", field->attribute_of);
    close_with(writer, "}");
}

static void put_groups(struct writer *writer, const struct proto_model *model) {
    name(writer, "groups");
    open_with(writer, "{");
    for (size_t i = 0; i < model->group_count; i++) {
        const struct proto_model_group *group = &model->groups[i];
        name(writer, group->name);
        open_with(writer, "[");
        for (size_t j = 0; j < group->count; j++)
            put_field(writer, &group->fields[j]);
        close_with(writer, "]");
    }
    close_with(writer, "}");
}

static void put_model_interest(struct writer *writer, const struct proto_model_interest *interest) {
    open_with(writer, "{");
    member_string(writer, "name", interest->name);
    member_size(writer, "max_length", interest->max_length);
    name(writer, "history");
    open_with(writer, "[");
    for (size_t i = 0; i < interest->count; i++)
        put_string(writer, interest->history[i], strlen(interest->history[i]));
    close_with(writer, "]");
    close_with(writer, "}");
}

struct proto_string json_encode_model(const struct proto_model *model, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_string(&writer, "name", model->name);
    member_string(&writer, "version", model->version);
    put_groups(&writer, model);
    name(&writer, "interests");
    open_with(&writer, "[");
    for (size_t i = 0; i < model->interest_count; i++)
        put_model_interest(&writer, &model->interests[i]);
    close_with(&writer, "]");
    name(&writer, "limits");
    open_with(&writer, "{");
    for (size_t i = 0; i < model->limit_count; i++)
        member_size(&writer, model->limits[i].name, model->limits[i].value);
    close_with(&writer, "}");
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* The log. */

struct proto_string json_encode_line(const struct proto_member *members, size_t count, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    writer.lenient = true;
    open_with(&writer, "{");
    for (size_t i = 0; i < count; i++) {
        name(&writer, members[i].name);
        if (members[i].string != NULL)
            put_string(&writer, members[i].string, strlen(members[i].string));
        else
            put_number(&writer, members[i].number);
    }
    close_with(&writer, "}");
    return writer_end(&writer);
}
