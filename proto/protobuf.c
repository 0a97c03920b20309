/* protobuf.c: ScoreRequest and HistoryRequest to score.h's structs, ScoreReply and HistoryReply from them, through
 * protobuf-c; the only file that knows it.
 *
 * The messages are compiled from score.proto with bytes in the place of strings: the same wire, but protobuf-c then
 * tells their lengths; that they are UTF-8 is looked at here. What protobuf-c allocates comes from the request's arena,
 * and a refused allocation leaves it by longjmp (parse_memory.h), as with jansson.
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
    const char *group; /* the member in hand */
};

static struct proto_string string_of(const bytes *text) {
    return (struct proto_string){text->len > 0 ? (const char *)text->data : "", text->len};
}

/* ---- errors: all return false ---- */

static bool fail(struct reader *reader, const char *member, const char *reason) {
    char pointer[sizeof reader->problem->pointer] = "";
    if (member != NULL)
        problem_pointer_name(pointer, sizeof pointer, member, strlen(member));
    problem_set(reader->problem, PROBLEM_INVALID_REQUEST, pointer, "%s", reason);
    return false;
}

static bool fail_column(struct reader *reader, const bytes *name, const char *reason) {
    char pointer[sizeof reader->problem->pointer] = "";
    problem_pointer_name(pointer, sizeof pointer, reader->group, strlen(reader->group));
    problem_pointer_name(pointer, sizeof pointer, string_of(name).data, name->len);
    problem_set(reader->problem, PROBLEM_INVALID_REQUEST, pointer, "%s", reason);
    return false;
}

static bool fail_value(struct reader *reader, const bytes *name, size_t place, const char *reason) {
    fail_column(reader, name, reason);
    problem_pointer_index(reader->problem->pointer, sizeof reader->problem->pointer, place);
    return false;
}

/* ---- columns ---- */

static bool is_text(const bytes *text) {
    return utf8_is_text((const char *)text->data, text->len);
}

static bool read_strings(struct reader *reader, const Dien__Column *column, struct proto_value *values) {
    for (size_t i = 0; i < column->n_strings; i++) {
        const bytes *string = &column->strings[i];
        if (!is_text(string))
            return fail_value(reader, &column->name, i, "A string must be UTF-8, without U+0000.");
        values[i] = (struct proto_value){
            .kind = PROTO_STRING, .length = (uint32_t)string->len, .string = string_of(string).data};
    }
    return true;
}

/* A number as JSON can have it. */
static bool check_reals(struct reader *reader, const Dien__Column *column, size_t width) {
    for (size_t i = 0; i < column->n_reals; i++)
        if (!(column->reals[i] - column->reals[i] == 0))
            return fail_value(reader, &column->name, i / width, "A number must be finite.");
    return true;
}

static bool read_reals(struct reader *reader, const Dien__Column *column, size_t count, struct proto_value *values) {
    if (!check_reals(reader, column, column->width > 0 ? column->width : 1))
        return false;
    for (size_t i = 0; i < count; i++)
        values[i] = column->width == 0 ? (struct proto_value){.kind = PROTO_REAL, .real = column->reals[i]}
                                       : (struct proto_value){.kind = PROTO_VECTOR,
                                                              .length = column->width,
                                                              .vector = column->reals + i * column->width};
    return true;
}

static bool read_values(struct reader *reader, const Dien__Column *from, size_t count, struct proto_value *values) {
    for (size_t i = 0; i < from->n_integers; i++)
        values[i] = (struct proto_value){.kind = PROTO_INTEGER, .integer = from->integers[i]};
    return read_strings(reader, from, values) && (from->n_reals == 0 || read_reals(reader, from, count, values));
}

static bool check_column(struct reader *reader, const Dien__Column *from) {
    if (from->base.n_unknown_fields > 0)
        return fail_column(reader, &from->name, "A column has no such member.");
    if ((from->n_integers > 0) + (from->n_strings > 0) + (from->n_reals > 0) > 1)
        return fail_column(reader, &from->name, "A column's values must be of one kind.");
    if (from->width > 0 && (from->n_integers > 0 || from->n_strings > 0 || from->n_reals % from->width != 0))
        return fail_column(reader, &from->name, "A column with a width must have that many reals for each value.");
    return true;
}

static bool read_column(struct reader *reader, const Dien__Column *from, struct proto_column *column) {
    if (!check_column(reader, from))
        return false;
    size_t reals = from->width > 0 ? from->n_reals / from->width : from->n_reals;
    column->name = string_of(&from->name);
    column->count = from->n_integers + from->n_strings + reals;
    struct proto_value *values = arena_array(reader->arena, column->count, sizeof *values);
    column->values = values;
    if (values == NULL)
        return problem_out_of_memory(reader->problem);
    return read_values(reader, from, column->count, values);
}

static bool is_new_name(const struct proto_column *columns, size_t count, const bytes *name) {
    for (size_t i = 0; i < count; i++)
        if (columns[i].name.length == name->len && memcmp(columns[i].name.data, string_of(name).data, name->len) == 0)
            return false;
    return true;
}

/* ---- groups ---- */

static bool check_table(struct reader *reader, const Dien__Table *from) {
    char reason[64];
    snprintf(reason, sizeof reason, "A group may have at most %d fields.", PROTO_FIELDS_MAX);
    if (from->base.n_unknown_fields > 0)
        return fail(reader, reader->group, "A table has no such member.");
    return from->n_columns <= PROTO_FIELDS_MAX || fail(reader, reader->group, reason);
}

/* `single`: one value a column. */
static bool read_table(struct reader *reader, const char *group, bool single, const Dien__Table *from,
                       struct proto_table *table) {
    reader->group = group;
    if (from == NULL)
        return true;
    if (!check_table(reader, from))
        return false;
    struct proto_column *columns = arena_array(reader->arena, from->n_columns, sizeof *columns);
    if (columns == NULL)
        return problem_out_of_memory(reader->problem);
    *table = (struct proto_table){PROTO_COLUMNS, true, 0, from->n_columns, columns};
    for (size_t i = 0; i < from->n_columns; i++) {
        const bytes *name = &from->columns[i]->name;
        if (!is_text(name))
            return fail(reader, group, "A field's name must be UTF-8, without U+0000.");
        if (!is_new_name(columns, i, name))
            return fail_column(reader, name, "A group has the same field twice.");
        if (!read_column(reader, from->columns[i], &columns[i]))
            return false;
        if (single && columns[i].count != 1)
            return fail_column(reader, name, "This must be one value.");
        table->rows = columns[i].count > table->rows ? columns[i].count : table->rows;
    }
    return true;
}

/* ---- the requests ---- */

/* A string that says whose, if it is there. */
static bool read_name(struct reader *reader, const char *member, bool there, const bytes *from, size_t most,
                      bool *present, struct proto_string *name) {
    char reason[80];
    snprintf(reason, sizeof reason, "The %s must be a string of 1 to %zu bytes.", member, most);
    if (!there)
        return true;
    if (from->len == 0 || from->len > most || !is_text(from))
        return fail(reader, member, reason);
    *present = true;
    *name = string_of(from);
    return true;
}

/* What both requests may say of a history. */
static bool read_histories(struct reader *reader, bool has_token, const bytes *token, const Dien__Table *history,
                           const Dien__Table *append, struct proto_request *request) {
    return read_name(reader, "history_token", has_token, token, PROTO_HISTORY_TOKEN_MAX, &request->has_history_token,
                     &request->history_token) &&
           read_table(reader, "history", false, history, &request->history) &&
           read_table(reader, "history_append", false, append, &request->history_append);
}

static bool read_request(struct reader *reader, const Dien__ScoreRequest *from, struct proto_request *request) {
    if (from->top_k > INT64_MAX) /* as far as JSON's integers go */
        return fail(reader, "top_k", "This must be an integer of at least 1.");
    request->top_k = from->top_k;
    request->explain = from->explain != 0;
    bool has_user_id = from->user_id_there_case != DIEN__SCORE_REQUEST__USER_ID_THERE__NOT_SET;
    bool has_token = from->history_token_there_case != DIEN__SCORE_REQUEST__HISTORY_TOKEN_THERE__NOT_SET;
    return read_name(reader, "user_id", has_user_id, &from->user_id, PROTO_USER_ID_MAX, &request->has_user_id,
                     &request->user_id) &&
           read_table(reader, "user", true, from->user, &request->user) &&
           read_table(reader, "context", true, from->context, &request->context) &&
           read_histories(reader, has_token, &from->history_token, from->history, from->history_append, request) &&
           read_table(reader, "candidates", false, from->candidates, &request->candidates) &&
           proto_check_request(request, "", reader->problem);
}

static void *allocate(void *unused, size_t size) {
    (void)unused;
    return parse_memory_malloc(size);
}

static void give_back(void *unused, void *memory) {
    (void)unused;
    parse_memory_free(memory);
}

struct unpacking {
    const ProtobufCMessageDescriptor *kind;
    const char *body;
    size_t size;
    ProtobufCMessage *message;
};

static void unpack(void *context) {
    struct unpacking *unpacking = context;
    ProtobufCAllocator allocator = {.alloc = allocate, .free = give_back};
    unpacking->message =
        protobuf_c_message_unpack(unpacking->kind, &allocator, unpacking->size, (const unsigned char *)unpacking->body);
}

/* A message of that kind, whole. NULL on error, and then the reader's problem says why. */
static const void *read_message(struct reader *reader, const ProtobufCMessageDescriptor *kind, const char *body,
                                size_t size) {
    struct unpacking unpacking = {.kind = kind, .body = size > 0 ? body : "", .size = size};
    char reason[64];
    snprintf(reason, sizeof reason, "The body is not a %s.", kind->short_name);
    if (!parse_memory_run(reader->arena, unpack, &unpacking))
        problem_out_of_memory(reader->problem);
    else if (unpacking.message == NULL)
        fail(reader, NULL, reason);
    else if (unpacking.message->n_unknown_fields > 0)
        fail(reader, NULL, "A request has no such member.");
    else
        return unpacking.message;
    return NULL;
}

bool protobuf_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                             struct problem *problem) {
    struct reader reader = {.arena = arena, .problem = problem};
    *request = (struct proto_request){0};
    const Dien__ScoreRequest *message = read_message(&reader, &dien__score_request__descriptor, body, size);
    return message != NULL && read_request(&reader, message, request);
}

bool protobuf_decode_history(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                             struct problem *problem) {
    struct reader reader = {.arena = arena, .problem = problem};
    *request = (struct proto_request){0};
    const Dien__HistoryRequest *from = read_message(&reader, &dien__history_request__descriptor, body, size);
    if (from == NULL)
        return false;
    bool has_token = from->history_token_there_case != DIEN__HISTORY_REQUEST__HISTORY_TOKEN_THERE__NOT_SET;
    return read_histories(&reader, has_token, &from->history_token, from->history, from->history_append, request) &&
           proto_check_history(request, "", problem);
}

/* ---- the reply ---- */

struct builder {
    struct arena *arena;
    bool failed; /* memory is out */
};

/* `count` things; NULL also when there are none. */
static void *take(struct builder *builder, size_t count, size_t size) {
    void *memory = count > 0 ? arena_array(builder->arena, count, size) : NULL;
    builder->failed = builder->failed || (count > 0 && memory == NULL);
    return memory;
}

/* Borrowed bytes: packing does not write to them. */
static bytes text_of(const char *data, size_t length) {
    union {
        const char *borrowed;
        uint8_t *bytes;
    } same = {data};
    return (bytes){length, same.bytes};
}

static bytes text_of_name(const char *name) {
    return text_of(name, strlen(name));
}

/* The results' values of a column, which is of one kind: it came in a message. */
static void build_values(struct builder *builder, const struct proto_reply *reply, const struct proto_column *from,
                         Dien__Column *column) {
    size_t count = reply->result_count;
    const struct proto_value *first = &from->values[reply->results[0].index];
    column->width = first->kind == PROTO_VECTOR ? first->length : 0;
    if (first->kind == PROTO_INTEGER)
        column->integers = take(builder, column->n_integers = count, sizeof *column->integers);
    else if (first->kind == PROTO_STRING)
        column->strings = take(builder, column->n_strings = count, sizeof *column->strings);
    else
        column->reals =
            take(builder, column->n_reals = count * (column->width > 0 ? column->width : 1), sizeof *column->reals);
    for (size_t i = 0; i < count && !builder->failed; i++) {
        const struct proto_value *value = &from->values[reply->results[i].index];
        if (value->kind == PROTO_INTEGER)
            column->integers[i] = value->integer;
        else if (value->kind == PROTO_STRING)
            column->strings[i] = text_of(value->string, value->length);
        else if (value->kind == PROTO_REAL)
            column->reals[i] = value->real;
        else if (column->width > 0)
            memcpy(column->reals + i * column->width, value->vector, column->width * sizeof *column->reals);
    }
}

/* The candidates' own fields in rank order. */
static Dien__Table *build_candidates(struct builder *builder, const struct proto_reply *reply) {
    const struct proto_table *from = reply->candidates;
    Dien__Table *table = take(builder, 1, sizeof *table);
    Dien__Column *columns = take(builder, from->columns, sizeof *columns);
    Dien__Column **places = take(builder, from->columns, sizeof(Dien__Column *));
    if (builder->failed)
        return NULL;
    dien__table__init(table);
    table->n_columns = from->columns;
    table->columns = places;
    for (size_t i = 0; i < from->columns; i++) {
        places[i] = &columns[i];
        dien__column__init(places[i]);
        columns[i].name = text_of(from->column[i].name.data, from->column[i].name.length);
        if (from->column[i].count == from->rows)
            build_values(builder, reply, &from->column[i], &columns[i]);
    }
    return table;
}

static void build_attention(struct builder *builder, const struct proto_reply *reply, const struct proto_interest *from,
                            Dien__Interest *interest) {
    if (from->attention == NULL || from->length == 0)
        return;
    interest->n_attention = reply->result_count * from->length;
    interest->attention = take(builder, interest->n_attention, sizeof *interest->attention);
    for (size_t i = 0; i < reply->result_count && !builder->failed; i++)
        memcpy(interest->attention + i * from->length, from->attention + reply->results[i].index * from->length,
               from->length * sizeof *interest->attention);
}

static void build_interests(struct builder *builder, const struct proto_reply *reply, Dien__ScoreReply *message) {
    Dien__Interest *interests = take(builder, reply->interest_count, sizeof *interests);
    message->interests = take(builder, reply->interest_count, sizeof(Dien__Interest *));
    message->n_interests = reply->interest_count;
    for (size_t i = 0; i < reply->interest_count && !builder->failed; i++) {
        dien__interest__init(&interests[i]);
        message->interests[i] = &interests[i];
        interests[i].name = text_of_name(reply->interests[i].name);
        interests[i].length = reply->interests[i].length;
        interests[i].received = reply->interests[i].received;
        build_attention(builder, reply, &reply->interests[i], &interests[i]);
    }
}

static void build_unknown(struct builder *builder, const struct proto_reply *reply, Dien__ScoreReply *message) {
    Dien__Unknown *unknown = take(builder, reply->unknown_count, sizeof *unknown);
    message->unknown = take(builder, reply->unknown_count, sizeof(Dien__Unknown *));
    message->n_unknown = reply->unknown_count;
    for (size_t i = 0; i < reply->unknown_count && !builder->failed; i++) {
        dien__unknown__init(&unknown[i]);
        message->unknown[i] = &unknown[i];
        unknown[i].field = text_of_name(reply->unknown[i].field);
        unknown[i].count = reply->unknown[i].count;
    }
}

static void build_results(struct builder *builder, const struct proto_reply *reply, Dien__ScoreReply *message) {
    message->n_index = message->n_score = reply->result_count;
    message->index = take(builder, reply->result_count, sizeof *message->index);
    message->score = take(builder, reply->result_count, sizeof *message->score);
    for (size_t i = 0; i < reply->result_count && !builder->failed; i++) {
        message->index[i] = reply->results[i].index;
        message->score[i] = reply->results[i].score;
    }
    if (reply->result_count > 0)
        message->candidates = build_candidates(builder, reply);
}

/* Without results, what is packed are the bytes of a HistoryReply (score.proto). */
struct proto_string protobuf_encode_reply(const struct proto_reply *reply, struct arena *arena) {
    struct builder builder = {.arena = arena};
    Dien__ScoreReply message;
    dien__score_reply__init(&message);
    message.model = text_of_name(reply->model);
    message.version = text_of_name(reply->version);
    message.user_state = text_of_name(reply->user_state);
    message.history_token = text_of(reply->token.data, reply->token.length);
    build_interests(&builder, reply, &message);
    build_unknown(&builder, reply, &message);
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
