/* json_encode.c: JSON, written front to back into one buffer of the arena.
 *
 * Nothing but the arena's memory is taken, so that a reply whose room is there cannot fail. Numbers that digits.c does
 * not take go through printf, which uses the decimal point of the C locale: the server never calls setlocale().
 */
#include "proto/json_encode.h"

#include "proto/digits.h"
#include "proto/number.h"
#include "proto/record.h"
#include "proto/utf8.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define URN "urn:dien:"

enum {
    FIRST_ROOM = 1024,
    RESULT_BYTES = 64, /* about the size of one result */
    FLOAT_DIGITS = 9,  /* enough to give back every float */
    DOUBLE_DIGITS = 17,
    DOUBLE_SAFE_DIGITS = 15 /* every decimal of so many digits survives a double */
};

struct writer {
    struct arena *arena;
    char *data;
    size_t used;
    size_t room;
    bool comma;   /* a value was written at this level, so the next one needs a comma */
    bool failed;  /* memory is out; nothing more is written */
    bool lenient; /* strings may be other than UTF-8: a path or a header, and the log must still get its line */
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

/* Doubles the room. The old buffer stays in the arena until its reset. */
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

/* Starts a value: writes the comma if one is due. */
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

static void put_word(struct writer *writer, const char *word) {
    begin_value(writer);
    put_text(writer, word);
}

/* ---- strings ---- */

static bool is_plain(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte < 0x20 || byte > 0x7E || byte == '"' || byte == '\\')
            return false;
    }
    return true;
}

/* The letter of a control character's short escape, or '\0'. */
static char short_escape(unsigned char byte) {
    static const char letters[0x20] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    return byte < 0x20 ? letters[byte] : '\0';
}

static void put_escaped(struct writer *writer, const char *text, size_t length) {
    bool ascii_only = writer->lenient && !utf8_is_text(text, length);
    put_bytes(writer, "\"", 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        const char escape[] = {'\\', 'u', '0', '0', digits_hex(byte >> 4), digits_hex(byte & 15)};
        if (byte == '"' || byte == '\\')
            put_bytes(writer, (const char[]){'\\', (char)byte}, 2);
        else if (short_escape(byte) != '\0')
            put_bytes(writer, (const char[]){'\\', short_escape(byte)}, 2);
        else if (byte < 0x20)
            put_bytes(writer, escape, sizeof escape);
        else
            put_bytes(writer, byte >= 0x80 && ascii_only ? "?" : &text[i], 1);
    }
    put_bytes(writer, "\"", 1);
}

static void put_string(struct writer *writer, const char *text, size_t length) {
    begin_value(writer);
    if (!is_plain(text, length)) {
        put_escaped(writer, text, length);
        return;
    }
    put_bytes(writer, "\"", 1);
    put_bytes(writer, text, length);
    put_bytes(writer, "\"", 1);
}

/* A member's name; the next value belongs to it. */
static void put_name(struct writer *writer, const char *name, size_t length) {
    put_string(writer, name, length);
    put_bytes(writer, ":", 1);
    writer->comma = false;
}

/* ---- numbers ---- */

static void put_integer(struct writer *writer, int64_t integer) {
    char text[DIGITS_ROOM];
    begin_value(writer);
    put_bytes(writer, text, digits_of_integer(integer, text));
}

static void put_unsigned(struct writer *writer, uint64_t integer) {
    char text[DIGITS_ROOM];
    begin_value(writer);
    put_bytes(writer, text, digits_of_unsigned(integer, text));
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

/* Writes a double exactly, with as few digits as the client is likely to have used. It stays a real: 1.0 is not 1. */
static void put_real(struct writer *writer, double number) {
    char text[40];
    size_t length = digits_of_double(number, text);
    text[length] = '\0';
    for (int digits = DOUBLE_SAFE_DIGITS; length == 0 && digits <= DOUBLE_DIGITS; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number)
            break;
    }
    begin_value(writer);
    put_text(writer, isfinite(number) ? text : "null");
    if (isfinite(number) && strpbrk(text, ".e") == NULL)
        put_text(writer, ".0");
}

/* Writes a whole number as an integer. */
static void put_number(struct writer *writer, double number) {
    if (number == trunc(number) && fabs(number) < NUMBER_EXACT_MAX)
        put_integer(writer, (int64_t)number);
    else
        put_real(writer, number);
}

/* ---- members with names of our own or of the model ---- */

static void put_key(struct writer *writer, const char *name) {
    put_name(writer, name, strlen(name));
}

static void member_string(struct writer *writer, const char *name, const char *text) {
    put_key(writer, name);
    put_string(writer, text, strlen(text));
}

static void member_size(struct writer *writer, const char *name, size_t size) {
    put_key(writer, name);
    put_integer(writer, (int64_t)size);
}

static void member_number(struct writer *writer, const char *name, double number) {
    put_key(writer, name);
    put_number(writer, number);
}

static void member_open(struct writer *writer, const char *name, const char *bracket) {
    put_key(writer, name);
    open_with(writer, bracket);
}

/* ---- the reply ---- */

static void put_value(struct writer *writer, const struct proto_value *value) {
    switch (value->kind) {
    case PROTO_INTEGER:
        put_integer(writer, value->integer);
        return;
    case PROTO_UNSIGNED:
        put_unsigned(writer, value->unsigned_integer);
        return;
    case PROTO_REAL:
        put_real(writer, value->real);
        return;
    case PROTO_STRING:
        put_string(writer, value->string, value->length);
        return;
    case PROTO_VECTOR:
        open_with(writer, "[");
        for (size_t i = 0; i < value->length; i++)
            put_number(writer, value->vector[i]);
        close_with(writer, "]");
        return;
    case PROTO_STRINGS:
        open_with(writer, "[");
        for (size_t i = 0; i < value->length; i++)
            put_string(writer, value->strings[i].data, value->strings[i].length);
        close_with(writer, "]");
        return;
    case PROTO_ABSENT:
    case PROTO_OTHER:
        break;
    }
    put_word(writer, "null");
}

static bool is_named(const struct proto_column *column, const char *name) {
    return proto_string_is(&column->name, name, strlen(name));
}

/* The fields of one candidate. A field with a name of the reply's own is left out, so that no object has a name twice.
 */
static void put_candidate(struct writer *writer, const struct proto_table *candidates, size_t index) {
    for (size_t i = 0; i < candidates->columns; i++) {
        const struct proto_column *column = &candidates->column[i];
        if (index >= column->count || column->values[index].kind == PROTO_ABSENT || is_named(column, "index") ||
            is_named(column, "score") || is_named(column, "attention"))
            continue;
        put_name(writer, column->name.data, column->name.length);
        put_value(writer, &column->values[index]);
    }
}

static void put_results(struct writer *writer, const struct proto_reply *reply) {
    bool explained = false;
    for (size_t i = 0; i < reply->interest_count; i++)
        explained = explained || reply->interests[i].attention != NULL;

    member_open(writer, "results", "[");
    for (size_t i = 0; i < reply->result_count && !writer->failed; i++) {
        const struct proto_result *result = &reply->results[i];
        open_with(writer, "{");
        member_size(writer, "index", result->index);
        put_candidate(writer, reply->candidates, result->index);
        put_key(writer, "score");
        put_float(writer, result->score);
        if (explained) {
            member_open(writer, "attention", "{");
            for (size_t j = 0; j < reply->interest_count; j++) {
                const struct proto_interest *interest = &reply->interests[j];
                if (interest->attention == NULL)
                    continue;
                member_open(writer, interest->name, "[");
                for (size_t t = 0; t < interest->length; t++)
                    put_float(writer, interest->attention[result->index * interest->length + t]);
                close_with(writer, "]");
            }
            close_with(writer, "}");
        }
        close_with(writer, "}");
    }
    close_with(writer, "]");
}

static void put_lengths(struct writer *writer, size_t length, size_t received) {
    member_size(writer, "length", length);
    member_size(writer, "received", received);
}

/* Writes the lengths of the longest interest, and of each interest if there are several. */
static void put_history(struct writer *writer, size_t count, const struct proto_interest *interests,
                        struct proto_string token, const char *origin, uint64_t ever) {
    size_t length = 0;
    size_t received = 0;
    for (size_t i = 0; i < count; i++) {
        const struct proto_interest *interest = &interests[i];
        length = interest->length > length ? interest->length : length;
        received = interest->received > received ? interest->received : received;
    }
    member_open(writer, "history", "{");
    put_lengths(writer, length, received);
    if (token.data != NULL) {
        put_key(writer, "token");
        put_string(writer, token.data, token.length);
    }
    if (origin != NULL) {
        member_string(writer, "origin", origin);
        member_size(writer, "count", ever);
    }
    if (count > 1) {
        member_open(writer, "interests", "{");
        for (size_t i = 0; i < count; i++) {
            member_open(writer, interests[i].name, "{");
            put_lengths(writer, interests[i].length, interests[i].received);
            close_with(writer, "}");
        }
        close_with(writer, "}");
    }
    close_with(writer, "}");
}

/* ---- the most bytes of a reply ---- */

/* ESCAPE_BYTES: of one byte as \u001F. NUMBER_BYTES: of a number and its comma. PUNCTUATION: quotes, colon, brackets
 * and comma about a member. */
enum { ESCAPE_BYTES = 6, NUMBER_BYTES = DIGITS_ROOM + 1, PUNCTUATION = 6 };

static size_t string_most(const char *text, size_t length) {
    return PUNCTUATION + (is_plain(text, length) ? length : ESCAPE_BYTES * length);
}

static size_t value_most(const struct proto_value *value) {
    size_t strings = PUNCTUATION;
    for (size_t i = 0; value->kind == PROTO_STRINGS && i < value->length; i++)
        strings += string_most(value->strings[i].data, value->strings[i].length);
    if (value->kind == PROTO_STRINGS)
        return strings;
    return value->kind == PROTO_STRING   ? string_most(value->string, value->length)
           : value->kind == PROTO_VECTOR ? PUNCTUATION + NUMBER_BYTES * value->length
                                         : NUMBER_BYTES;
}

/* Of any `count` candidates of a column: no more than all of them, or the longest so many times. */
static size_t column_most(const struct proto_column *column, size_t count) {
    size_t name = string_most(column->name.data, column->name.length), sum = 0, longest = 0;
    for (size_t i = 0; i < column->count; i++) {
        size_t most = name + value_most(&column->values[i]);
        sum += most;
        longest = most > longest ? most : longest;
    }
    return count * longest < sum ? count * longest : sum;
}

size_t json_reply_most(const struct proto_reply *reply) {
    static const size_t members = 16; /* names, braces, index and score of a result */
    size_t most = FIRST_ROOM + string_most(reply->model, strlen(reply->model)) +
                  string_most(reply->version, strlen(reply->version)) + reply->token.length;
    size_t result = 2 * (members + NUMBER_BYTES);
    for (size_t i = 0; i < reply->interest_count; i++) {
        const struct proto_interest *interest = &reply->interests[i];
        size_t name = string_most(interest->name, strlen(interest->name));
        most += name + 2 * (members + NUMBER_BYTES);
        if (interest->attention != NULL)
            result += 2 * members + name + NUMBER_BYTES * interest->length;
    }
    for (size_t i = 0; i < reply->unknown_count; i++)
        most += string_most(reply->unknown[i].field, strlen(reply->unknown[i].field)) + NUMBER_BYTES;
    for (size_t i = 0; reply->result_count > 0 && i < reply->candidates->columns; i++)
        most += column_most(&reply->candidates->column[i], reply->result_count);
    return most + result * reply->result_count;
}

struct proto_string json_encode_reply(const struct proto_reply *reply, struct arena *arena) {
    size_t usual = FIRST_ROOM + RESULT_BYTES * reply->result_count;
    struct writer writer = writer_new(arena, reply->room > 0 ? reply->room : usual);
    open_with(&writer, "{");
    member_string(&writer, "model", reply->model);
    member_string(&writer, "version", reply->version);
    member_string(&writer, "user_state", reply->user_state);
    put_history(&writer, reply->interest_count, reply->interests, reply->token, reply->history_origin,
                reply->history_count);
    if (reply->stale) {
        put_key(&writer, "stale");
        put_word(&writer, "true");
    }
    member_open(&writer, "unknown", "{");
    for (size_t i = 0; i < reply->unknown_count; i++)
        member_size(&writer, reply->unknown[i].field, reply->unknown[i].count);
    close_with(&writer, "}");
    if (reply->coverage > 0)
        member_number(&writer, "coverage", reply->coverage);
    if (reply->results != NULL)
        put_results(&writer, reply);
    close_with(&writer, "}");
    return writer_end(&writer);
}

static void put_stored(struct writer *writer, const struct proto_stored_summary *stored) {
    member_open(writer, "stored", "{");
    member_size(writer, "count", stored->count);
    member_size(writer, "bytes", stored->bytes);
    member_size(writer, "event_ids", stored->event_count);
    member_string(writer, "created_at", stored->created_at);
    member_string(writer, "changed_at", stored->changed_at);
    member_open(writer, "lists", "[");
    for (size_t i = 0; i < stored->list_count; i++) {
        open_with(writer, "{");
        put_key(writer, "name");
        put_string(writer, stored->lists[i].name.data, stored->lists[i].name.length);
        member_size(writer, "count", stored->lists[i].count);
        member_size(writer, "length", stored->lists[i].length);
        close_with(writer, "}");
    }
    close_with(writer, "]");
    close_with(writer, "}");
}

struct proto_string json_encode_user_summary(const struct proto_user_summary *summary, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_string(&writer, "model", summary->model);
    member_string(&writer, "version", summary->version);
    if (summary->stored != NULL)
        put_stored(&writer, summary->stored);
    if (summary->interest_count > 0) {
        put_history(&writer, summary->interest_count, summary->interests, (struct proto_string){NULL, 0}, NULL, 0);
        member_size(&writer, "bytes", summary->bytes);
        member_number(&writer, "age_seconds", summary->age_seconds);
        member_number(&writer, "idle_seconds", summary->idle_seconds);
    }
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* ---- problem details ---- */

struct proto_string json_encode_problem(const struct problem *problem, const char *request_id, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    writer.lenient = true;
    open_with(&writer, "{");
    put_key(&writer, "type");
    put_word(&writer, "\"" URN "problem:");
    put_text(&writer, problem_slug(problem->kind));
    put_text(&writer, "\"");
    member_string(&writer, "title", problem_title(problem->kind));
    put_key(&writer, "status");
    put_integer(&writer, problem_status(problem->kind));
    member_string(&writer, "detail", problem->detail);
    if (problem_in_body(problem->kind) || problem->pointer[0] != '\0')
        member_string(&writer, "pointer", problem->pointer);
    if (request_id != NULL) {
        put_key(&writer, "instance");
        put_word(&writer, "\"" URN "request:");
        for (const char *byte = request_id; *byte != '\0'; byte++) { /* percent-encoded (RFC 3986) */
            char text[4] = {*byte};
            bool unreserved = isalnum((unsigned char)*byte) != 0 || strchr("-._~", *byte) != NULL;
            if (!unreserved)
                snprintf(text, sizeof text, "%%%02X", (unsigned int)(unsigned char)*byte);
            put_text(&writer, text);
        }
        put_text(&writer, "\"");
    }
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* ---- records ---- */

static void put_text_of(struct writer *writer, const char *name, struct proto_string text) {
    put_key(writer, name);
    put_string(writer, text.data, text.length);
}

static void put_list(struct writer *writer, const struct history_list *list) {
    open_with(writer, "{");
    put_text_of(writer, "name", list->name);
    put_key(writer, "count");
    put_unsigned(writer, list->count);
    member_size(writer, "length", list->length);
    member_open(writer, "columns", "{");
    for (size_t i = 0; i < list->columns; i++) {
        const struct proto_column *column = &list->column[i];
        put_name(writer, column->name.data, column->name.length);
        open_with(writer, "[");
        for (size_t j = 0; j < column->count; j++)
            put_value(writer, &column->values[j]);
        close_with(writer, "]");
    }
    close_with(writer, "}");
    close_with(writer, "}");
}

struct proto_string json_encode_history(struct proto_string user, const struct history *history,
                                        const struct proto_string *record, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    put_text_of(&writer, "user_id", user);
    member_size(&writer, "encoding", HISTORY_ENCODING);
    put_key(&writer, "count");
    put_unsigned(&writer, history->count);
    put_key(&writer, "created_milliseconds");
    put_integer(&writer, history->created_milliseconds);
    put_key(&writer, "changed_milliseconds");
    put_integer(&writer, history->changed_milliseconds);
    member_open(&writer, "lists", "[");
    for (size_t i = 0; i < history->list_count; i++)
        put_list(&writer, &history->lists[i]);
    close_with(&writer, "]");
    member_open(&writer, "event_ids", "[");
    for (size_t i = 0; i < history->event_count; i++)
        put_string(&writer, history->event_ids[i].data, history->event_ids[i].length);
    close_with(&writer, "]");
    member_open(&writer, "event_counts", "[");
    for (size_t i = 0; i < history->event_count; i++)
        put_unsigned(&writer, history->event_counts[i]);
    close_with(&writer, "]");
    if (record != NULL) {
        put_key(&writer, "record");
        put_word(&writer, "\"");
        for (size_t i = 0; i < record->length; i++) {
            unsigned byte = (unsigned char)record->data[i];
            put_bytes(&writer, (const char[]){digits_hex(byte >> 4), digits_hex(byte & 15)}, 2);
        }
        put_text(&writer, "\"");
    }
    close_with(&writer, "}\n");
    return writer_end(&writer);
}

/* ---- outcomes ---- */

struct proto_string json_encode_outcomes(const struct proto_outcome *outcomes, size_t count, struct arena *arena) {
    enum { LINE_BYTES = 64 }; /* of an outcome without a problem */
    struct writer writer = writer_new(arena, FIRST_ROOM + count * LINE_BYTES);
    writer.lenient = true;
    for (size_t i = 0; i < count; i++) {
        const struct proto_outcome *outcome = &outcomes[i];
        open_with(&writer, "{");
        member_size(&writer, "line", outcome->line);
        member_string(&writer, "outcome", outcome->name);
        if (outcome->has_count)
            member_size(&writer, "count", outcome->count);
        if (outcome->problem != PROBLEM_NONE) {
            put_key(&writer, "type");
            put_word(&writer, "\"" URN "problem:");
            put_text(&writer, problem_slug(outcome->problem));
            put_text(&writer, "\"");
        }
        if (outcome->detail.length > 0) {
            put_key(&writer, "detail");
            put_string(&writer, outcome->detail.data, outcome->detail.length);
        }
        if (outcome->problem != PROBLEM_NONE) {
            put_key(&writer, "pointer");
            put_string(&writer, outcome->pointer.length > 0 ? outcome->pointer.data : "", outcome->pointer.length);
        }
        close_with(&writer, "}\n");
        writer.comma = false;
    }
    return writer_end(&writer);
}

/* ---- health ---- */

struct proto_string json_encode_health(const struct proto_health *health, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_string(&writer, "status", health->status);
    if (health->model != NULL)
        member_string(&writer, "model", health->model);
    if (health->version != NULL)
        member_string(&writer, "version", health->version);
    member_number(&writer, "uptime_seconds", health->uptime_seconds);
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* ---- the model's description ---- */

struct proto_string json_encode_model(const struct proto_model *model, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_string(&writer, "name", model->name);
    member_string(&writer, "version", model->version);

    member_open(&writer, "groups", "{");
    for (size_t i = 0; i < model->group_count; i++) {
        const struct proto_model_group *group = &model->groups[i];
        member_open(&writer, group->name, "[");
        for (size_t j = 0; j < group->count; j++) {
            const struct proto_model_field *field = &group->fields[j];
            open_with(&writer, "{");
            member_string(&writer, "name", field->name);
            member_string(&writer, "kind", field->kind);
            if (strcmp(field->kind, "dense") == 0)
                member_size(&writer, "width", field->width);
            else
                member_size(&writer, "rows", field->rows);
            if (field->values > 0)
                member_size(&writer, "values", field->values);
            put_key(&writer, "required");
            put_word(&writer, field->attribute_of == NULL ? "true" : "false");
            if (field->attribute_of != NULL)
                member_string(&writer, "attribute_of", field->attribute_of);
            close_with(&writer, "}");
        }
        close_with(&writer, "]");
    }
    close_with(&writer, "}");

    member_open(&writer, "interests", "[");
    for (size_t i = 0; i < model->interest_count; i++) {
        const struct proto_model_interest *interest = &model->interests[i];
        open_with(&writer, "{");
        member_string(&writer, "name", interest->name);
        member_size(&writer, "max_length", interest->max_length);
        member_open(&writer, "history", "[");
        for (size_t j = 0; j < interest->count; j++)
            put_string(&writer, interest->history[j], strlen(interest->history[j]));
        close_with(&writer, "]");
        close_with(&writer, "}");
    }
    close_with(&writer, "]");

    member_open(&writer, "limits", "{");
    for (size_t i = 0; i < model->limit_count; i++)
        member_size(&writer, model->limits[i].name, model->limits[i].value);
    close_with(&writer, "}");
    if (model->config_sha256 != NULL) {
        member_open(&writer, "sha256", "{");
        member_string(&writer, "config", model->config_sha256);
        member_string(&writer, "weights", model->weights_sha256);
        close_with(&writer, "}");
        member_string(&writer, "loaded_at", model->loaded_at);
        member_string(&writer, "loaded_by", model->loaded_by);
    }
    if (model->last_failure_at != NULL)
        member_string(&writer, "last_failure_at", model->last_failure_at);
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* ---- the admin plane ---- */

struct proto_string json_encode_slots(const struct proto_slots *slots, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_open(&writer, "models", "[");
    for (size_t i = 0; i < slots->count; i++) {
        const struct proto_slot *slot = &slots->slots[i];
        open_with(&writer, "{");
        member_string(&writer, "slot", slot->slot);
        member_string(&writer, "name", slot->name);
        member_string(&writer, "version", slot->version);
        member_open(&writer, "sha256", "{");
        member_string(&writer, "config", slot->config_sha256);
        member_string(&writer, "weights", slot->weights_sha256);
        close_with(&writer, "}");
        member_string(&writer, "loaded_at", slot->loaded_at);
        member_string(&writer, "loaded_by", slot->loaded_by);
        member_size(&writer, "bytes", slot->bytes);
        if (slot->has_shares) {
            member_number(&writer, "canary", slot->canary);
            member_number(&writer, "shadow", slot->shadow);
        }
        close_with(&writer, "}");
    }
    close_with(&writer, "]");
    put_key(&writer, "loading");
    put_word(&writer, slots->loading ? "true" : "false");
    member_open(&writer, "loads", "{");
    member_size(&writer, "live", slots->live);
    member_size(&writer, "candidate", slots->candidate);
    member_size(&writer, "refused", slots->refused);
    member_size(&writer, "busy", slots->busy);
    close_with(&writer, "}");
    member_size(&writer, "rollbacks", slots->rollbacks);
    member_size(&writer, "promotions", slots->promotions);
    member_size(&writer, "drops", slots->drops);
    if (slots->failure != NULL) {
        member_open(&writer, "last_failure", "{");
        member_string(&writer, "at", slots->failed_at);
        member_string(&writer, "reason", slots->failure);
        close_with(&writer, "}");
    }
    close_with(&writer, "}");
    return writer_end(&writer);
}

struct proto_string json_encode_member(const char *name, const char *value, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM);
    open_with(&writer, "{");
    member_string(&writer, name, value);
    close_with(&writer, "}");
    return writer_end(&writer);
}

/* ---- a record of the request log ---- */

static void member_text(struct writer *writer, const char *name, const char *text) {
    if (text != NULL && *text != '\0')
        member_string(writer, name, text);
}

/* Bytes that need no escape. */
static void member_verbatim(struct writer *writer, const char *name, struct proto_string text, const char *quote) {
    if (text.data == NULL)
        return;
    put_key(writer, name);
    put_word(writer, quote);
    put_bytes(writer, text.data, text.length);
    put_text(writer, quote);
}

static void put_scores(struct writer *writer, const struct proto_record *record) {
    member_open(writer, "scores", "[");
    for (size_t i = 0; i < record->score_count; i++)
        put_float(writer, record->scores[i]);
    close_with(writer, "]");
    member_open(writer, "order", "[");
    for (size_t i = 0; i < record->order_count; i++)
        put_integer(writer, record->order[i]);
    close_with(writer, "]");
}

struct proto_string json_encode_record(const struct proto_record *record, struct arena *arena) {
    struct writer writer = writer_new(arena, FIRST_ROOM + record->body.length + record->body_base64.length +
                                                 record->history.length + RESULT_BYTES * record->score_count);
    open_with(&writer, "{");
    member_string(&writer, "time", record->time);
    member_text(&writer, "request_id", record->request_id);
    member_text(&writer, "trace_id", record->trace_id);
    member_text(&writer, "span_id", record->span_id);
    put_key(&writer, "sampled");
    put_word(&writer, record->sampled ? "true" : "false");
    if (record->user_id.data != NULL) {
        put_key(&writer, "user_id");
        put_string(&writer, record->user_id.data, record->user_id.length);
    }
    member_text(&writer, "user_hash", record->user_hash);
    if (record->model != NULL) {
        member_open(&writer, "model", "{");
        member_string(&writer, "name", record->model);
        member_string(&writer, "version", record->version);
        member_text(&writer, "digest", record->digest);
        close_with(&writer, "}");
    }
    member_string(&writer, "method", record->method);
    member_string(&writer, "route", record->route);
    member_text(&writer, "content_type", record->content_type);
    member_verbatim(&writer, "body", record->body, "");
    member_verbatim(&writer, "body_base64", record->body_base64, "\"");
    member_verbatim(&writer, "history", record->history, "\"");
    if (record->score_count > 0)
        put_scores(&writer, record);
    member_text(&writer, "user_state", record->user_state);
    member_text(&writer, "history_origin", record->history_origin);
    if (record->history_count >= 0) {
        put_key(&writer, "history_count");
        put_integer(&writer, record->history_count);
    }
    member_open(&writer, "phases", "{");
    for (size_t i = 0; i < record->phase_count; i++) {
        if (record->phase_seconds[i] < 0)
            continue;
        put_key(&writer, record->phase_names[i]);
        put_float(&writer, (float)(1e3 * record->phase_seconds[i]));
    }
    close_with(&writer, "}");
    if (record->status != 0) {
        put_key(&writer, "status");
        put_integer(&writer, record->status);
    }
    member_string(&writer, "outcome", record->outcome);
    close_with(&writer, "}");
    return writer_end(&writer);
}
