/* protobuf.c: messages of score.proto to requests, and replies to messages, through protobuf-c. No other file uses
 * protobuf-c.
 *
 * The messages are compiled from score.proto with bytes in place of strings. The wire is identical, but protobuf-c then
 * reports lengths; this file checks that strings are UTF-8. protobuf-c allocates from the request's arena. As for
 * jansson, a refused allocation leaves the parser by longjmp (parse_memory.h).
 */
#include "proto/protobuf.h"

#include "proto/parse_memory.h"
#include "proto/score.pb-c.h"
#include "proto/utf8.h"

#include <stdio.h>
#include <string.h>

typedef ProtobufCBinaryData bytes;

struct reader {
    struct arena *arena;
    struct problem *problem;
    bool strict; /* see protobuf.h */
};

static struct proto_string to_string(const bytes *text) {
    return (struct proto_string){text->len > 0 ? (const char *)text->data : "", text->len};
}

static bool is_text(const bytes *text) {
    return utf8_is_text((const char *)text->data, text->len);
}

/* ---- errors: all return false ---- */

/* A mistake in a member, or in the whole request if `member` is NULL. */
static bool fail(struct reader *reader, const char *member, const char *reason) {
    problem_set(reader->problem, PROBLEM_INVALID_REQUEST, "", "%s", reason);
    if (member != NULL)
        problem_pointer_name(reader->problem->pointer, sizeof reader->problem->pointer, member, strlen(member));
    return false;
}

static bool fail_column(struct reader *reader, const char *group, const bytes *name, const char *reason) {
    fail(reader, group, reason);
    problem_pointer_name(reader->problem->pointer, sizeof reader->problem->pointer, to_string(name).data, name->len);
    return false;
}

static bool fail_value(struct reader *reader, const char *group, const bytes *name, size_t index, const char *reason) {
    fail_column(reader, group, name, reason);
    problem_pointer_index(reader->problem->pointer, sizeof reader->problem->pointer, index);
    return false;
}

/* ---- groups ---- */

/* Whether the reals or strings make up the arrays that a column's width or lengths ask for. */
static bool lengths_fit(const Dien__Column *from) {
    size_t elements = from->n_strings + from->n_reals, sum = 0;
    if (from->width == 0 && from->n_lengths == 0)
        return true;
    if (from->n_integers + from->n_unsigned_integers > 0 || (from->width > 0 && from->n_lengths > 0))
        return false;
    for (size_t i = 0; i < from->n_lengths; i++)
        sum += from->lengths[i];
    return from->width > 0 ? elements % from->width == 0 : elements == sum;
}

/* The value that element `i` is part of. */
static size_t value_of(const Dien__Column *from, size_t i) {
    if (from->n_lengths == 0)
        return i / (from->width > 0 ? from->width : 1);
    size_t value = 0;
    for (size_t end = from->lengths[0]; end <= i; end += from->lengths[value])
        value++;
    return value;
}

static bool read_column(struct reader *reader, const char *group, const Dien__Column *from,
                        struct proto_column *column) {
    const bytes *name = &from->name;
    size_t width = from->width > 0 ? from->width : 1; /* reals per value */
    if (reader->strict && from->base.n_unknown_fields > 0)
        return fail_column(reader, group, name, "A column has no such member.");
    size_t integers = from->n_integers + from->n_unsigned_integers;
    if ((from->n_integers > 0) + (from->n_unsigned_integers > 0) + (from->n_strings > 0) + (from->n_reals > 0) > 1)
        return fail_column(reader, group, name, "A column's values must be of one kind.");
    if (!lengths_fit(from))
        return fail_column(
            reader, group, name,
            "A column with a width, or with lengths, must have that many reals or strings for each value.");

    column->name = to_string(name);
    column->count = from->n_lengths > 0 ? from->n_lengths : integers + (from->n_strings + from->n_reals) / width;
    struct proto_value *values = arena_array(reader->arena, column->count, sizeof *values);
    struct proto_string *strings = arena_array(reader->arena, from->n_strings, sizeof *strings);
    column->values = values;
    if (values == NULL || strings == NULL)
        return problem_out_of_memory(reader->problem);

    for (size_t i = 0; i < from->n_integers; i++)
        values[i] = (struct proto_value){.kind = PROTO_INTEGER, .integer = from->integers[i]};
    for (size_t i = 0; i < from->n_unsigned_integers; i++) {
        uint64_t integer = from->unsigned_integers[i];
        values[i] = integer > (uint64_t)INT64_MAX
                        ? (struct proto_value){.kind = PROTO_UNSIGNED, .unsigned_integer = integer}
                        : (struct proto_value){.kind = PROTO_INTEGER, .integer = (int64_t)integer};
    }
    for (size_t i = 0; i < from->n_strings; i++) {
        if (!is_text(&from->strings[i]))
            return fail_value(reader, group, name, value_of(from, i), "A string must be UTF-8, without U+0000.");
        strings[i] = to_string(&from->strings[i]);
    }
    for (size_t i = 0; i < from->n_reals; i++)
        if (!(from->reals[i] - from->reals[i] == 0)) /* infinite or NaN, which JSON cannot have */
            return fail_value(reader, group, name, value_of(from, i), "A number must be finite.");
    static const double nothing[1]; /* of an empty array, beside which there may be no reals */
    bool arrays = from->width > 0 || from->n_lengths > 0;
    for (size_t i = 0, start = 0; i < column->count && integers == 0; i++) {
        uint32_t length = !arrays ? 1 : from->n_lengths > 0 ? from->lengths[i] : from->width;
        if (arrays && from->n_strings > 0 && length > 0)
            values[i] = (struct proto_value){.kind = PROTO_STRINGS, .length = length, .strings = strings + start};
        else if (arrays)
            values[i] = (struct proto_value){
                .kind = PROTO_VECTOR, .length = length, .vector = length > 0 ? from->reals + start : nothing};
        else if (from->n_strings > 0)
            values[i] = (struct proto_value){
                .kind = PROTO_STRING, .length = (uint32_t)strings[i].length, .string = strings[i].data};
        else
            values[i] = (struct proto_value){.kind = PROTO_REAL, .real = from->reals[i]};
        start += length;
    }
    return true;
}

/* `single`: each column must have one value. */
static bool read_table(struct reader *reader, const char *group, bool single, const Dien__Table *from,
                       struct proto_table *table) {
    if (from == NULL)
        return true;
    if (reader->strict && from->base.n_unknown_fields > 0)
        return fail(reader, group, "A table has no such member.");
    if (from->n_columns > PROTO_FIELDS_MAX) {
        char reason[64];
        snprintf(reason, sizeof reason, "A group may have at most %d fields.", PROTO_FIELDS_MAX);
        return fail(reader, group, reason);
    }
    struct proto_column *columns = arena_array(reader->arena, from->n_columns, sizeof *columns);
    if (columns == NULL)
        return problem_out_of_memory(reader->problem);
    *table = (struct proto_table){PROTO_COLUMNS, true, 0, from->n_columns, columns};
    for (size_t i = 0; i < from->n_columns; i++) {
        const bytes *name = &from->columns[i]->name;
        if (!is_text(name))
            return fail(reader, group, "A field's name must be UTF-8, without U+0000.");
        for (size_t j = 0; j < i; j++)
            if (proto_string_is(&columns[j].name, to_string(name).data, name->len))
                return fail_column(reader, group, name, "A group has the same field twice.");
        if (!read_column(reader, group, from->columns[i], &columns[i]))
            return false;
        if (single && columns[i].count != 1)
            return fail_column(reader, group, name, "This must be one value.");
        table->rows = columns[i].count > table->rows ? columns[i].count : table->rows;
    }
    return true;
}

/* ---- requests ---- */

static bool read_user_id(struct reader *reader, bool sent, const bytes *from, struct proto_request *request) {
    request->has_user_id = sent;
    request->user_id = to_string(from);
    if (!sent || proto_is_user_id(request->user_id.data, request->user_id.length))
        return true;
    fail(reader, "user_id", proto_user_id_rule);
    reader->problem->kind = PROBLEM_INVALID_USER_ID;
    return false;
}

static bool read_token(struct reader *reader, bool sent, const bytes *from, struct proto_request *request) {
    request->has_history_token = sent;
    request->history_token = to_string(from);
    bool good = from->len > 0 && is_text(from) &&
                utf8_count(request->history_token.data, request->history_token.length) <= PROTO_HISTORY_TOKEN_MAX;
    return !sent || good ||
           fail(reader, "history_token", "The history_token must be a string of 1 to 256 characters, without U+0000.");
}

static bool read_event_id(struct reader *reader, bool sent, const bytes *from, struct proto_request *request) {
    request->has_event_id = sent;
    request->event_id = to_string(from);
    return !sent || proto_is_event_id(request->event_id.data, request->event_id.length) ||
           fail(reader, "event_id", proto_event_id_rule);
}

/* The members that both kinds of request can have. */
static bool read_history(struct reader *reader, bool has_token, const bytes *token, const Dien__Table *history,
                         const Dien__Table *append, struct proto_request *request) {
    return read_token(reader, has_token, token, request) &&
           read_table(reader, "history", false, history, &request->history) &&
           read_table(reader, "history_append", false, append, &request->history_append);
}

static void *allocate(void *unused, size_t size) {
    (void)unused;
    return parse_memory_malloc(size);
}

static void release(void *unused, void *memory) {
    (void)unused;
    parse_memory_free(memory);
}

struct unpack_job {
    const ProtobufCMessageDescriptor *kind;
    const char *body;
    size_t size;
    ProtobufCMessage *message;
};

static void unpack(void *context) {
    struct unpack_job *job = context;
    ProtobufCAllocator allocator = {.alloc = allocate, .free = release};
    job->message = protobuf_c_message_unpack(job->kind, &allocator, job->size, (const unsigned char *)job->body);
}

/* Unpacks a message of the given kind. Returns NULL on error. */
static const void *read_message(struct reader *reader, const ProtobufCMessageDescriptor *kind, const char *body,
                                size_t size) {
    struct unpack_job job = {.kind = kind, .body = size > 0 ? body : "", .size = size};
    if (!parse_memory_run(reader->arena, unpack, &job)) {
        problem_out_of_memory(reader->problem);
        return NULL;
    }
    if (job.message == NULL) {
        char reason[64];
        snprintf(reason, sizeof reason, "The body is not a %s.", kind->short_name);
        fail(reader, NULL, reason);
        return NULL;
    }
    if (reader->strict && job.message->n_unknown_fields > 0) {
        fail(reader, NULL, "A request has no such member.");
        return NULL;
    }
    return job.message;
}

bool protobuf_decode_request(const char *body, size_t size, bool strict, struct arena *arena,
                             struct proto_request *request, struct problem *problem) {
    struct reader reader = {.arena = arena, .problem = problem, .strict = strict};
    *request = (struct proto_request){0};
    const Dien__ScoreRequest *from = read_message(&reader, &dien__score_request__descriptor, body, size);
    if (from == NULL)
        return false;
    if (from->top_k > INT64_MAX) /* the limit of JSON's integers */
        return fail(&reader, "top_k", "This must be an integer from 1 to 9223372036854775807.");
    request->top_k = from->top_k;
    request->explain = from->explain != 0;
    if (from->timeout_ms > PROTO_TIMEOUT_MAX)
        return fail(&reader, "timeout_ms", "This must be an integer from 1 to 86400000.");
    request->timeout_ms = from->timeout_ms;
    request->partial = from->partial != 0;
    bool has_user_id = from->user_id_there_case != DIEN__SCORE_REQUEST__USER_ID_THERE__NOT_SET;
    bool has_token = from->history_token_there_case != DIEN__SCORE_REQUEST__HISTORY_TOKEN_THERE__NOT_SET;
    return read_user_id(&reader, has_user_id, &from->user_id, request) &&
           read_table(&reader, "user", true, from->user, &request->user) &&
           read_table(&reader, "context", true, from->context, &request->context) &&
           read_history(&reader, has_token, &from->history_token, from->history, from->history_append, request) &&
           read_event_id(&reader, from->event_id_there_case != DIEN__SCORE_REQUEST__EVENT_ID_THERE__NOT_SET,
                         &from->event_id, request) &&
           read_table(&reader, "candidates", false, from->candidates, &request->candidates) &&
           proto_check_request(request, "", problem);
}

bool protobuf_decode_history(const char *body, size_t size, bool strict, struct arena *arena,
                             struct proto_request *request, struct problem *problem) {
    struct reader reader = {.arena = arena, .problem = problem, .strict = strict};
    *request = (struct proto_request){0};
    const Dien__HistoryRequest *from = read_message(&reader, &dien__history_request__descriptor, body, size);
    if (from == NULL)
        return false;
    bool has_token = from->history_token_there_case != DIEN__HISTORY_REQUEST__HISTORY_TOKEN_THERE__NOT_SET;
    return read_history(&reader, has_token, &from->history_token, from->history, from->history_append, request) &&
           read_event_id(&reader, from->event_id_there_case != DIEN__HISTORY_REQUEST__EVENT_ID_THERE__NOT_SET,
                         &from->event_id, request) &&
           proto_check_history(request, "", problem);
}

/* ---- the reply ---- */

struct builder {
    struct arena *arena;
    bool failed; /* memory is out */
};

/* Room for `count` items. Returns NULL also if `count` is 0. */
static void *take(struct builder *builder, size_t count, size_t size) {
    void *memory = count > 0 ? arena_array(builder->arena, count, size) : NULL;
    builder->failed = builder->failed || (count > 0 && memory == NULL);
    return memory;
}

/* Borrows bytes as protobuf-c wants them: not const, though packing does not write to them. */
static bytes borrow(const char *data, size_t length) {
    union {
        const char *borrowed;
        uint8_t *bytes;
    } cast = {data};
    return (bytes){length, cast.bytes};
}

static bytes borrow_text(const char *text) {
    return borrow(text, strlen(text));
}

/* Whether the values of a column came as unsigned integers: one of them is beyond the others' range. */
static bool is_unsigned(const struct proto_column *column) {
    size_t i = 0;
    while (i < column->count && column->values[i].kind == PROTO_INTEGER)
        i++;
    return i < column->count && column->values[i].kind == PROTO_UNSIGNED;
}

/* Fills in the results' values of a column of arrays: with a width if all have one length, else with lengths. */
static void build_arrays(struct builder *builder, const struct proto_reply *reply, const struct proto_column *from,
                         Dien__Column *column) {
    size_t count = reply->result_count, strings = 0, reals = 0;
    uint32_t width = from->values[reply->results[0].index].length;
    bool even = width > 0;
    for (size_t i = 0; i < count; i++) {
        const struct proto_value *value = &from->values[reply->results[i].index];
        *(value->kind == PROTO_STRINGS ? &strings : &reals) += value->length;
        even = even && value->length == width;
    }
    column->width = even ? width : 0;
    column->n_lengths = even ? 0 : count;
    column->lengths = even ? NULL : take(builder, count, sizeof *column->lengths);
    column->strings = take(builder, strings, sizeof *column->strings);
    column->reals = take(builder, reals, sizeof *column->reals);
    for (size_t i = 0; i < count && !builder->failed; i++) {
        const struct proto_value *value = &from->values[reply->results[i].index];
        if (!even)
            column->lengths[i] = value->length;
        for (size_t j = 0; j < value->length; j++) {
            if (value->kind == PROTO_STRINGS)
                column->strings[column->n_strings++] = borrow(value->strings[j].data, value->strings[j].length);
            else
                column->reals[column->n_reals++] = value->vector[j];
        }
    }
}

/* Fills in the results' values of one column. All have one kind, because they came in a message. */
static void build_values(struct builder *builder, const struct proto_reply *reply, const struct proto_column *from,
                         Dien__Column *column) {
    size_t count = reply->result_count;
    const struct proto_value *first = &from->values[reply->results[0].index];
    if (first->kind == PROTO_VECTOR || first->kind == PROTO_STRINGS) {
        build_arrays(builder, reply, from, column);
        return;
    }
    if (is_unsigned(from)) {
        column->n_unsigned_integers = count;
        column->unsigned_integers = take(builder, count, sizeof *column->unsigned_integers);
    } else if (first->kind == PROTO_INTEGER) {
        column->n_integers = count;
        column->integers = take(builder, count, sizeof *column->integers);
    } else if (first->kind == PROTO_STRING) {
        column->n_strings = count;
        column->strings = take(builder, count, sizeof *column->strings);
    } else {
        column->n_reals = count;
        column->reals = take(builder, column->n_reals, sizeof *column->reals);
    }
    for (size_t i = 0; i < count && !builder->failed; i++) {
        const struct proto_value *value = &from->values[reply->results[i].index];
        if (column->n_unsigned_integers > 0)
            column->unsigned_integers[i] =
                value->kind == PROTO_UNSIGNED ? value->unsigned_integer : (uint64_t)value->integer;
        else if (value->kind == PROTO_INTEGER)
            column->integers[i] = value->integer;
        else if (value->kind == PROTO_STRING)
            column->strings[i] = borrow(value->string, value->length);
        else if (value->kind == PROTO_REAL)
            column->reals[i] = value->real;
    }
}

/* The scores, and the candidates' own fields in rank order. */
static void build_results(struct builder *builder, const struct proto_reply *reply, Dien__ScoreReply *message) {
    const struct proto_table *from = reply->candidates;
    message->n_index = message->n_score = reply->result_count;
    message->index = take(builder, reply->result_count, sizeof *message->index);
    message->score = take(builder, reply->result_count, sizeof *message->score);
    Dien__Table *table = take(builder, 1, sizeof *table);
    Dien__Column *columns = take(builder, from->columns, sizeof *columns);
    Dien__Column **items = take(builder, from->columns, sizeof(Dien__Column *));
    if (builder->failed)
        return;
    for (size_t i = 0; i < reply->result_count; i++) {
        message->index[i] = reply->results[i].index;
        message->score[i] = reply->results[i].score;
    }
    dien__table__init(table);
    table->n_columns = from->columns;
    table->columns = items;
    message->candidates = table;
    for (size_t i = 0; i < from->columns; i++) {
        items[i] = &columns[i];
        dien__column__init(items[i]);
        columns[i].name = borrow(from->column[i].name.data, from->column[i].name.length);
        if (from->column[i].count == from->rows)
            build_values(builder, reply, &from->column[i], &columns[i]);
    }
}

static void build_interests(struct builder *builder, const struct proto_reply *reply, Dien__ScoreReply *message) {
    Dien__Interest *interests = take(builder, reply->interest_count, sizeof *interests);
    message->interests = take(builder, reply->interest_count, sizeof(Dien__Interest *));
    message->n_interests = reply->interest_count;
    for (size_t i = 0; i < reply->interest_count && !builder->failed; i++) {
        const struct proto_interest *from = &reply->interests[i];
        Dien__Interest *interest = &interests[i];
        message->interests[i] = interest;
        dien__interest__init(interest);
        interest->name = borrow_text(from->name);
        interest->length = from->length;
        interest->received = from->received;
        if (from->attention == NULL || from->length == 0)
            continue;
        interest->n_attention = reply->result_count * from->length;
        interest->attention = take(builder, interest->n_attention, sizeof *interest->attention);
        for (size_t j = 0; j < reply->result_count && !builder->failed; j++)
            memcpy(interest->attention + j * from->length, from->attention + reply->results[j].index * from->length,
                   from->length * sizeof *interest->attention);
    }
}

/* ---- the most memory of a reply */

/* NUMBER: a packed number, the largest of which is a varint of 64 bits. FIELD: the tag and the length of a field. */
enum { NUMBER = 10, FIELD = 16 };

/* An array of the builder's. */
static size_t array_most(size_t count, size_t size) {
    return count * size + ARENA_ALIGNMENT;
}

/* The builder's array and the packed bytes of any `count` values of a column. */
static size_t values_most(const struct proto_column *column, size_t count) {
    size_t sum = 0, longest = 0;
    for (size_t i = 0; i < column->count; i++) {
        const struct proto_value *value = &column->values[i];
        size_t strings = 0;
        for (size_t j = 0; value->kind == PROTO_STRINGS && j < value->length; j++)
            strings += sizeof(bytes) + FIELD + value->strings[j].length;
        size_t most = value->kind == PROTO_STRING    ? sizeof(bytes) + FIELD + value->length
                      : value->kind == PROTO_STRINGS ? strings + sizeof(uint32_t) + NUMBER
                      : value->kind == PROTO_VECTOR  ? 2 * sizeof(double) * value->length + sizeof(uint32_t) + NUMBER
                                                     : sizeof(double) + NUMBER;
        sum += most;
        longest = most > longest ? most : longest;
    }
    return (count * longest < sum ? count * longest : sum) + 3 * ARENA_ALIGNMENT; /* three arrays at most */
}

size_t protobuf_reply_most(const struct proto_reply *reply) {
    size_t count = reply->result_count;
    size_t most = 16 * (size_t)FIELD + strlen(reply->model) + strlen(reply->version) + strlen(reply->user_state) +
                  reply->token.length + ARENA_ALIGNMENT;
    most += array_most(reply->interest_count, sizeof(Dien__Interest)) +
            array_most(reply->interest_count, sizeof(Dien__Interest *));
    for (size_t i = 0; i < reply->interest_count; i++) {
        const struct proto_interest *interest = &reply->interests[i];
        most += 4 * (size_t)FIELD + strlen(interest->name);
        if (interest->attention != NULL)
            most += array_most(2 * count * interest->length, sizeof(float));
    }
    most += array_most(reply->unknown_count, sizeof(Dien__Unknown)) +
            array_most(reply->unknown_count, sizeof(Dien__Unknown *));
    for (size_t i = 0; i < reply->unknown_count; i++)
        most += 2 * (size_t)FIELD + strlen(reply->unknown[i].field);
    if (count == 0)
        return most;
    const struct proto_table *candidates = reply->candidates;
    most += array_most(count, sizeof(uint64_t) + NUMBER) + array_most(count, 2 * sizeof(float)) +
            array_most(1, sizeof(Dien__Table) + FIELD) + array_most(candidates->columns, sizeof(Dien__Column)) +
            array_most(candidates->columns, sizeof(Dien__Column *));
    for (size_t i = 0; i < candidates->columns; i++)
        most += 6 * (size_t)FIELD + candidates->column[i].name.length + values_most(&candidates->column[i], count);
    return most;
}

/* A ScoreReply without results has the bytes of a HistoryReply (score.proto). */
struct proto_string protobuf_encode_reply(const struct proto_reply *reply, struct arena *arena) {
    struct builder builder = {.arena = arena};
    Dien__ScoreReply message;
    dien__score_reply__init(&message);
    message.model = borrow_text(reply->model);
    message.version = borrow_text(reply->version);
    message.user_state = borrow_text(reply->user_state);
    message.history_token = borrow(reply->token.data, reply->token.length);
    message.coverage = reply->coverage;
    message.history_origin = borrow_text(reply->history_origin != NULL ? reply->history_origin : "");
    message.history_count = reply->history_count;
    message.stale = reply->stale;
    build_interests(&builder, reply, &message);

    Dien__Unknown *unknown = take(&builder, reply->unknown_count, sizeof *unknown);
    message.unknown = take(&builder, reply->unknown_count, sizeof(Dien__Unknown *));
    message.n_unknown = reply->unknown_count;
    for (size_t i = 0; i < reply->unknown_count && !builder.failed; i++) {
        dien__unknown__init(&unknown[i]);
        message.unknown[i] = &unknown[i];
        unknown[i].field = borrow_text(reply->unknown[i].field);
        unknown[i].count = reply->unknown[i].count;
    }

    if (reply->result_count > 0)
        build_results(&builder, reply, &message);
    if (builder.failed)
        return (struct proto_string){NULL, 0};
    size_t size = dien__score_reply__get_packed_size(&message);
    uint8_t *packed = arena_alloc(arena, size);
    if (packed == NULL)
        return (struct proto_string){NULL, 0};
    dien__score_reply__pack(&message, packed);
    return (struct proto_string){(const char *)packed, size};
}
