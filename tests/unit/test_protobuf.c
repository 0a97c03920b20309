/* test_protobuf.c: messages compared with the requests that they are in JSON, replies read back, and refused messages
 * with their pointers.
 */
#include "proto/json_decode.h"
#include "proto/protobuf.h"
#include "proto/score.pb-c.h"
#include "tests/support/same_request.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { COLUMNS_MAX = 300 };

static struct arena arena, json_arena;
static struct proto_request request;
static struct problem problem;

static int start(void **state) {
    (void)state;
    json_decode_init();
    arena_init(&arena, 0, 1 << 20);
    arena_init(&json_arena, 0, 1 << 20);
    return 0;
}

static int stop(void **state) {
    (void)state;
    arena_free(&arena);
    arena_free(&json_arena);
    return 0;
}

/* ---- messages ---- */

static ProtobufCBinaryData bytes_of(char *text, size_t length) {
    return (ProtobufCBinaryData){length, (uint8_t *)text};
}

static Dien__Column column_named(char *name) {
    Dien__Column column = DIEN__COLUMN__INIT;
    column.name = bytes_of(name, strlen(name));
    return column;
}

static Dien__Table table_of(Dien__Column **columns, size_t count) {
    Dien__Table table = DIEN__TABLE__INIT;
    table.n_columns = count;
    table.columns = columns;
    return table;
}

typedef bool decoder(const char *body, size_t size, bool strict, struct arena *to, struct proto_request *decoded,
                     struct problem *why);
static bool strict;

/* Decodes from an allocation of exactly the message's size, and frees it at once. */
static bool decode_bytes(decoder *decode, const uint8_t *bytes, size_t size) {
    uint8_t *exact = malloc(size > 0 ? size : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, size);
    arena_reset(&arena);
    memset(&request, 0xA5, sizeof request);
    memset(&problem, 0xA5, sizeof problem);
    bool decoded = decode((const char *)exact, size, strict, &arena, &request, &problem);
    free(exact);
    return decoded;
}

static uint8_t *pack(const ProtobufCMessage *message, size_t *size) {
    *size = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    protobuf_c_message_pack(message, bytes);
    return bytes;
}

static bool decode_message(decoder *decode, const ProtobufCMessage *message) {
    size_t size;
    uint8_t *bytes = pack(message, &size);
    bool decoded = decode_bytes(decode, bytes, size);
    free(bytes);
    return decoded;
}

static bool decode_score(const Dien__ScoreRequest *message) {
    return decode_message(protobuf_decode_request, &message->base);
}

static bool decode_history(const Dien__HistoryRequest *message) {
    return decode_message(protobuf_decode_history, &message->base);
}

/* A request with every member. Each test changes the part that it tests. */
static struct {
    Dien__Column country, taste, month, item, category, candidate, look;
    Dien__Column *user_columns[2], *context_columns[1], *history_columns[2], *candidate_columns[2];
    Dien__Table user, context, history, candidates;
    ProtobufCBinaryData items[3], ids[2];
    int64_t countries[1], months[1], categories[3];
    double tastes[3], looks[4];
    Dien__ScoreRequest message;
    Dien__HistoryRequest update;
} whole;

static void make_groups(void) {
    whole.user_columns[0] = &whole.country;
    whole.user_columns[1] = &whole.taste;
    whole.context_columns[0] = &whole.month;
    whole.history_columns[0] = &whole.item;
    whole.history_columns[1] = &whole.category;
    whole.candidate_columns[0] = &whole.candidate;
    whole.candidate_columns[1] = &whole.look;
    whole.user = table_of(whole.user_columns, 2);
    whole.context = table_of(whole.context_columns, 1);
    whole.history = table_of(whole.history_columns, 2);
    whole.candidates = table_of(whole.candidate_columns, 2);
}

static void set_integers(Dien__Column *column, int64_t *values, size_t count) {
    column->integers = values;
    column->n_integers = count;
}

static void set_reals(Dien__Column *column, double *values, size_t count, unsigned int width) {
    column->reals = values;
    column->n_reals = count;
    column->width = width;
}

static void set_strings(Dien__Column *column, ProtobufCBinaryData *values, size_t count) {
    column->strings = values;
    column->n_strings = count;
}

static void set_user_id(char *text, size_t length) {
    whole.message.user_id_there_case = DIEN__SCORE_REQUEST__USER_ID_THERE_USER_ID;
    whole.message.user_id = bytes_of(text, length);
}

static void set_token(char *text, size_t length) {
    whole.message.history_token_there_case = DIEN__SCORE_REQUEST__HISTORY_TOKEN_THERE_HISTORY_TOKEN;
    whole.message.history_token = bytes_of(text, length);
}

static void set_update_token(char *text, size_t length) {
    whole.update.history_token_there_case = DIEN__HISTORY_REQUEST__HISTORY_TOKEN_THERE_HISTORY_TOKEN;
    whole.update.history_token = bytes_of(text, length);
}

static Dien__ScoreRequest *make_whole(void) {
    whole.country = column_named("country");
    whole.taste = column_named("taste");
    whole.month = column_named("month");
    whole.item = column_named("item");
    whole.category = column_named("category");
    whole.candidate = column_named("item");
    whole.look = column_named("look");
    whole.countries[0] = INT64_MIN;
    whole.months[0] = 8;
    memcpy(whole.categories, (const int64_t[]){1, -1, INT64_MAX}, sizeof whole.categories);
    memcpy(whole.tastes, (const double[]){0.5, -0.0, 2e3}, sizeof whole.tastes);
    memcpy(whole.looks, (const double[]){1, 2, 3.5, 4}, sizeof whole.looks);
    whole.items[0] = bytes_of("A13", 3);
    whole.items[1] = bytes_of("\xE2\x82\xAC", 3);
    whole.items[2] = bytes_of("", 0);
    whole.ids[0] = bytes_of("B10", 3);
    whole.ids[1] = bytes_of("C5", 2);
    set_integers(&whole.country, whole.countries, 1);
    set_integers(&whole.month, whole.months, 1);
    set_integers(&whole.category, whole.categories, 3);
    set_reals(&whole.taste, whole.tastes, 3, 3);
    set_reals(&whole.look, whole.looks, 4, 2);
    set_strings(&whole.item, whole.items, 3);
    set_strings(&whole.candidate, whole.ids, 2);
    make_groups();
    dien__score_request__init(&whole.message);
    set_user_id("u42", 3);
    whole.message.user = &whole.user;
    whole.message.context = &whole.context;
    whole.message.history = &whole.history;
    whole.message.candidates = &whole.candidates;
    whole.message.top_k = 10;
    whole.message.explain = 1;
    dien__history_request__init(&whole.update);
    whole.update.history = &whole.history;
    return &whole.message;
}

static Dien__HistoryRequest *make_update(void) {
    make_whole();
    return &whole.update;
}

static const char whole_json[] =
    "{\"user_id\":\"u42\",\"user\":{\"country\":-9223372036854775808,\"taste\":[0.5,-0.0,2e3]},\"context\":{\"month\":"
    "8},\"history\":{\"item\":[\"A13\",\"\xE2\x82\xAC\",\"\"],\"category\":[1,-1,9223372036854775807]},\"candidates\":{"
    "\"item\":[\"B10\",\"C5\"],\"look\":[[1,2],[3.5,4]]},\"top_k\":10,\"explain\":true}";

#define HISTORY_JSON "{\"item\":[\"A13\",\"\xE2\x82\xAC\",\"\"],\"category\":[1,-1,9223372036854775807]}"

typedef bool json_decoder(const char *body, size_t size, struct arena *to, struct proto_request *decoded,
                          struct problem *why);

static bool same_as(json_decoder *decode, const char *text) {
    struct proto_request json;
    struct problem ignored;
    arena_reset(&json_arena);
    assert_true(decode(text, strlen(text), &json_arena, &json, &ignored));
    return same_request(&request, &json);
}

static bool same_as_json(const char *text) {
    return same_as(json_decode_request, text);
}

static bool same_as_history(const char *text) {
    return same_as(json_decode_history, text);
}

static void a_message_decodes_as_its_json(void **state) {
    (void)state;
    assert_true(decode_score(make_whole()));
    assert_true(same_as_json(whole_json));
}

static void a_token_stands_for_a_history(void **state) {
    (void)state;
    Dien__ScoreRequest *message = make_whole();
    message->history = NULL;
    message->user = message->context = NULL;
    set_token("t0", 2);
    message->history_append = &whole.history;
    message->top_k = 0;
    message->explain = 0;
    whole.history.n_columns = 1;
    whole.candidates.n_columns = 1;
    assert_true(decode_score(message));
    assert_true(same_as_json("{\"user_id\":\"u42\",\"history_token\":\"t0\",\"history_append\":{\"item\":[\"A13\","
                             "\"\xE2\x82\xAC\",\"\"]},\"candidates\":{\"item\":[\"B10\",\"C5\"]}}"));
}

static void of_a_member_sent_twice_the_last_counts(void **state) {
    (void)state;
    static const uint8_t bytes[] = {0x0A, 2,   'u', '1',  0x2A, 1,    's', 0x0A, 0, 0x0A, 3,   'u', '4', '2',  0x2A,
                                    2,    't', '0', 0x3A, 10,   0x0A, 8,   0x0A, 4, 'i',  't', 'e', 'm', 0x10, 7};
    assert_true(decode_bytes(protobuf_decode_request, bytes, sizeof bytes));
    assert_true(same_as_json("{\"user_id\":\"u42\",\"history_token\":\"t0\",\"candidates\":{\"item\":[7]}}"));
}

static void a_history_decodes_as_its_json(void **state) {
    (void)state;
    assert_true(decode_history(make_update()));
    assert_true(same_as_history("{\"history\":" HISTORY_JSON "}"));
    Dien__Table empty = table_of(NULL, 0);
    make_update()->history = &empty;
    assert_true(decode_history(&whole.update));
    assert_true(same_as_history("{\"history\":{}}"));
}

static void a_history_is_appended_to(void **state) {
    (void)state;
    Dien__HistoryRequest *message = make_update();
    message->history_append = message->history;
    message->history = NULL;
    assert_true(decode_history(message));
    assert_true(same_as_history("{\"history_append\":" HISTORY_JSON "}"));
    set_update_token("t0", 2);
    assert_true(decode_history(message));
    assert_true(same_as_history("{\"history_append\":" HISTORY_JSON ",\"history_token\":\"t0\"}"));
}

/* ---- refused messages ---- */

static void assert_problem(const char *pointer, const char *detail) {
    assert_int_equal(problem.kind, PROBLEM_INVALID_REQUEST);
    assert_string_equal(problem.pointer, pointer);
    if (strstr(problem.detail, detail) == NULL)
        fail_msg("%s", problem.detail);
}

static void assert_refused(const char *pointer, const char *detail) {
    assert_false(decode_score(&whole.message));
    assert_problem(pointer, detail);
}

/* Expects the problem that the text has in JSON. */
static void assert_refused_as_json(const char *text) {
    struct proto_request ignored;
    struct problem json;
    arena_reset(&json_arena);
    assert_false(json_decode_request(text, strlen(text), &json_arena, &ignored, &json));
    assert_refused(json.pointer, json.detail);
}

static void assert_update_refused(const char *pointer, const char *detail) {
    assert_false(decode_history(&whole.update));
    assert_problem(pointer, detail);
}

static void values_are_refused_at_their_place(void **state) {
    (void)state;
    make_whole();
    whole.items[1] = bytes_of("\xC0\xAF", 2);
    assert_refused("/history/item/1", "UTF-8");
    make_whole();
    whole.items[2] = bytes_of("a\0b", 3);
    assert_refused("/history/item/2", "U+0000");
    make_whole();
    whole.looks[3] = (double)NAN;
    assert_refused("/candidates/look/1", "finite");
    make_whole();
    whole.tastes[2] = (double)INFINITY;
    assert_refused("/user/taste/0", "finite");
}

static void columns_are_refused_at_their_place(void **state) {
    (void)state;
    make_whole();
    set_integers(&whole.item, whole.categories, 3);
    assert_refused("/history/item", "of one kind");
    make_whole();
    whole.look.width = 3;
    assert_refused("/candidates/look", "width");
    make_whole();
    whole.category.width = 1;
    assert_refused("/history/category", "width");
    make_whole();
    whole.category.name = whole.item.name;
    assert_refused("/history/item", "twice");
    make_whole();
    whole.category.name = bytes_of("\xFF", 1);
    assert_refused("/history", "UTF-8");
    make_whole();
    set_integers(&whole.country, whole.categories, 2);
    assert_refused("/user/country", "one value");
    make_whole();
    whole.month.n_integers = 0;
    assert_refused("/context/month", "one value");
}

static void assert_id_refused(void) {
    assert_false(decode_score(&whole.message));
    assert_int_equal(problem.kind, PROBLEM_INVALID_USER_ID);
    assert_string_equal(problem.pointer, "/user_id");
}

static void members_are_refused_at_their_place(void **state) {
    (void)state;
    char longest[257];
    memset(longest, 'u', sizeof longest);
    make_whole();
    set_user_id(longest, sizeof longest);
    assert_id_refused();
    set_user_id("\x80", 1);
    assert_id_refused();
    set_user_id("a\0b", 3);
    assert_id_refused();
    set_user_id("", 0);
    assert_id_refused();
    make_whole();
    set_token("t", 1);
    assert_refused("/history_token", "not both");
    set_token("", 0);
    assert_refused_as_json("{\"history_token\":\"\",\"candidates\":{\"item\":[\"B10\"]}}");
    make_whole()->history_append = &whole.history;
    assert_refused("/history_append", "cannot have a history_append");
    make_whole()->candidates = NULL;
    assert_refused("/candidates", "must have candidates");
    make_whole();
    whole.candidates.n_columns = 0;
    assert_refused("/candidates", "at least one candidate");
    make_whole()->top_k = UINT64_MAX;
    assert_refused("/top_k", "from 1 to 9223372036854775807");
}

static void histories_are_refused_at_their_place(void **state) {
    (void)state;
    char longest[257];
    memset(longest, 't', sizeof longest);
    make_update()->history = NULL;
    assert_update_refused("", "must have a history or a history_append");
    set_update_token("t", 1);
    assert_update_refused("", "must have a history or a history_append");
    make_update();
    set_update_token("t", 1);
    assert_update_refused("/history_token", "not both");
    set_update_token(longest, sizeof longest);
    assert_update_refused("/history_token", "1 to 256 characters");
    make_update()->history_append = whole.update.history;
    whole.update.history = NULL;
    set_update_token("", 0);
    assert_update_refused("/history_token", "1 to 256 characters");
    make_update()->history_append = &whole.history;
    assert_update_refused("/history_append", "cannot have a history_append");
    make_update();
    whole.items[1] = bytes_of("\xC0\xAF", 2);
    assert_update_refused("/history/item/1", "UTF-8");
    whole.update.history_append = whole.update.history;
    whole.update.history = NULL;
    set_integers(&whole.item, whole.categories, 3);
    assert_update_refused("/history_append/item", "of one kind");
}

static void an_update_has_no_member_of_a_score(void **state) {
    (void)state;
    Dien__ScoreRequest *message = make_whole();
    strict = true;
    assert_false(decode_message(protobuf_decode_history, &message->base));
    assert_problem("", "no such member");
    strict = false;
    assert_true(decode_message(protobuf_decode_history, &message->base));
}

/* A field that score.proto does not have, in a request, a table and a column: ignored, or an error when strict. */
static void unknown_fields_are_for_newer_servers(void **state) {
    (void)state;
    static const struct {
        uint8_t bytes[24];
        size_t size;
        const char *pointer;
    } messages[] = {
        {{0x3A, 7, 0x0A, 5, 0x0A, 1, 'x', 0x10, 7, 0xF8, 0x06, 1}, 12, ""},
        {{0x3A, 10, 0x0A, 5, 0x0A, 1, 'x', 0x10, 7, 0xF8, 0x06, 1}, 12, "/candidates"},
        {{0x3A, 10, 0x0A, 8, 0x0A, 1, 'x', 0x10, 7, 0xF8, 0x06, 1}, 12, "/candidates/x"},
    };
    for (size_t i = 0; i < sizeof messages / sizeof *messages; i++) {
        strict = true;
        assert_false(decode_bytes(protobuf_decode_request, messages[i].bytes, messages[i].size));
        assert_problem(messages[i].pointer, "no such member");
        strict = false;
        assert_true(decode_bytes(protobuf_decode_request, messages[i].bytes, messages[i].size));
        assert_true(same_as_json("{\"candidates\":{\"x\":[7]}}"));
    }
}

/* Arrays of strings, and arrays of several lengths, as the ids of a multi-valued field are. */
static void arrays_are_those_of_json(void **state) {
    (void)state;
    char texts[] = "new red big";
    ProtobufCBinaryData strings[] = {bytes_of(texts, 3), bytes_of(texts + 4, 3), bytes_of(texts + 8, 3),
                                     bytes_of(texts, 3)};
    double reals[] = {7, 8, 9};
    uint32_t of_strings[] = {1, 0, 3}, of_reals[] = {0, 2, 1};
    Dien__Column words = column_named("words"), tags = column_named("tags"), pairs = column_named("pairs");
    Dien__Column *columns[] = {&words, &tags, &pairs};
    set_strings(&words, strings, 4), set_reals(&tags, reals, 3, 0), set_strings(&pairs, strings, 4);
    words.lengths = of_strings, tags.lengths = of_reals;
    words.n_lengths = tags.n_lengths = 3;
    pairs.width = 2;
    Dien__Table table = table_of(columns, 3);
    Dien__ScoreRequest message = DIEN__SCORE_REQUEST__INIT;
    message.candidates = &table;
    assert_true(decode_score(&message));
    assert_true(
        same_as_json("{\"candidates\":{\"words\":[[\"new\"],[],[\"red\",\"big\",\"new\"]],\"tags\":[[],[7,8],[9]],"
                     "\"pairs\":[[\"new\",\"red\"],[\"big\",\"new\"]]}}"));
    reals[2] = (double)INFINITY;
    assert_false(decode_score(&message));
    assert_problem("/candidates/tags/2", "finite");
    of_strings[2] = 2;
    assert_false(decode_score(&message));
    assert_problem("/candidates/words", "lengths");
    of_strings[2] = 4;
    assert_false(decode_score(&message));
    assert_problem("/candidates/words", "lengths");
    of_strings[2] = 3;
    words.width = 1;
    assert_false(decode_score(&message));
    assert_problem("/candidates/words", "lengths");
    words.width = 0;
    pairs.width = 3;
    reals[2] = 9;
    assert_false(decode_score(&message));
    assert_problem("/candidates/pairs", "width");
}

static void unsigned_integers_are_those_of_json(void **state) {
    (void)state;
    uint64_t ids[] = {7, (uint64_t)1 << 63, UINT64_MAX};
    Dien__Column column = column_named("item");
    column.n_unsigned_integers = 3;
    column.unsigned_integers = ids;
    Dien__Column *columns[] = {&column};
    Dien__Table table = table_of(columns, 1);
    Dien__ScoreRequest message = DIEN__SCORE_REQUEST__INIT;
    message.candidates = &table;
    assert_true(decode_score(&message));
    assert_true(same_as_json("{\"candidates\":{\"item\":[7,9223372036854775808,18446744073709551615]}}"));
    column.width = 1;
    assert_false(decode_score(&message));
    assert_problem("/candidates/item", "width");
    column.width = 0;
    column.n_integers = 1;
    column.integers = (int64_t[]){1};
    assert_false(decode_score(&message));
    assert_problem("/candidates/item", "of one kind");
}

static void a_group_has_at_most_256_fields(void **state) {
    (void)state;
    static Dien__Column columns[COLUMNS_MAX], *places[COLUMNS_MAX];
    static char names[COLUMNS_MAX][8];
    Dien__ScoreRequest *message = make_whole();
    for (size_t i = 0; i < COLUMNS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "f%zu", i);
        columns[i] = column_named(names[i]);
        set_integers(&columns[i], whole.months, 1);
        places[i] = &columns[i];
    }
    Dien__Table table = table_of(places, 256);
    message->history = &table;
    assert_true(decode_score(message));
    table.n_columns = 257;
    assert_refused("/history", "at most 256 fields");
    whole.update.history = &table;
    assert_update_refused("/history", "at most 256 fields");
}

static void assert_no_message(decoder *decode, const char *detail) {
    static const char *const bodies[] = {"{\"candidates\":{\"i\":[1]}}", "\x0A\x7F", "\x22\x05\x0A\x04", "\xFF\xFF\xFF",
                                         "\x0A\xFF\xFF\xFF\xFF\x0F"};
    static const char member_15[] = "\x78\x01";
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
        assert_false(decode_bytes(decode, (const uint8_t *)bodies[i], strlen(bodies[i])));
        assert_problem("", detail);
    }
    strict = true;
    assert_false(decode_bytes(decode, (const uint8_t *)member_15, strlen(member_15)));
    assert_problem("", "no such member");
    strict = false;
}

static void other_bytes_are_refused(void **state) {
    (void)state;
    assert_no_message(protobuf_decode_request, "not a ScoreRequest");
    assert_no_message(protobuf_decode_history, "not a HistoryRequest");
    assert_false(decode_bytes(protobuf_decode_request, (const uint8_t *)"", 0));
    assert_problem("/candidates", "must have candidates");
    assert_false(decode_bytes(protobuf_decode_history, (const uint8_t *)"", 0));
    assert_problem("", "must have a history");
}

static void end_anywhere(decoder *decode, const ProtobufCMessage *message) {
    size_t size;
    uint8_t *bytes = pack(message, &size);
    for (size_t cut = 0; cut < size; cut++)
        if (!decode_bytes(decode, bytes, cut))
            assert_int_equal(problem.kind, PROBLEM_INVALID_REQUEST);
    assert_true(decode_bytes(decode, bytes, size));
    free(bytes);
}

static void a_message_may_end_anywhere(void **state) {
    (void)state;
    make_whole();
    end_anywhere(protobuf_decode_request, &whole.message.base);
    end_anywhere(protobuf_decode_history, &whole.update.base);
}

typedef bool attempt(struct arena *tight);

/* Calls `try` with growing limits until one is enough. Returns the number of refusals. */
static size_t count_refusals(attempt *try) {
    for (size_t refused = 0;; refused++) {
        struct arena tight;
        arena_init(&tight, 64 * (refused + 1), 0);
        bool done = try(&tight);
        arena_free(&tight);
        if (done)
            return refused;
    }
}

static uint8_t *packed_bytes;
static size_t packed_size;

static bool try_to_decode(decoder *decode, struct arena *tight) {
    bool decoded = decode((const char *)packed_bytes, packed_size, false, tight, &request, &problem);
    if (!decoded)
        assert_int_equal(problem.kind, PROBLEM_OUT_OF_MEMORY);
    return decoded;
}

static bool try_to_decode_score(struct arena *tight) {
    return try_to_decode(protobuf_decode_request, tight);
}

static bool try_to_decode_history(struct arena *tight) {
    return try_to_decode(protobuf_decode_history, tight);
}

static void each_allocation_may_fail(void **state) {
    (void)state;
    make_whole();
    packed_bytes = pack(&whole.message.base, &packed_size);
    assert_true(count_refusals(try_to_decode_score) > 10);
    free(packed_bytes);
    packed_bytes = pack(&whole.update.base, &packed_size);
    assert_true(count_refusals(try_to_decode_history) > 10);
    free(packed_bytes);
}

/* ---- the reply ---- */

static const float attention[2][3] = {{0.125F, 0.25F, 0.625F}, {0.5F, 0.375F, 0.125F}};
static const struct proto_result results[] = {{1, 0.8127F}, {0, 0.4411F}};
static const struct proto_interest interests[] = {{"clicks", 5, 3, attention[0]}, {"buys", 2, 2, NULL}};
static const struct proto_unknown unknown[] = {{"item", 2}, {"category", 0}};

static struct proto_reply make_reply(size_t count) {
    return (struct proto_reply){.model = "eshop",
                                .version = "3",
                                .user_state = "cached",
                                .candidates = &request.candidates,
                                .interest_count = 2,
                                .interests = interests,
                                .token = {"abc", 3},
                                .unknown_count = 2,
                                .unknown = unknown,
                                .result_count = count,
                                .results = results};
}

/* Encodes a reply, once more into just the memory that protobuf_reply_most() asks for. */
static struct proto_string encode(const struct proto_reply *reply) {
    struct proto_string packed = protobuf_encode_reply(reply, &arena);
    size_t most = protobuf_reply_most(reply);
    struct arena tight;
    arena_init(&tight, most, 0);
    struct proto_string again = protobuf_encode_reply(reply, &tight);
    assert_non_null(packed.data);
    assert_true(packed.length <= most);
    assert_int_equal(again.length, packed.length);
    assert_memory_equal(again.data, packed.data, packed.length);
    arena_free(&tight);
    return packed;
}

static void assert_bytes(ProtobufCBinaryData found, const char *expected) {
    assert_int_equal(found.len, strlen(expected));
    assert_memory_equal(found.data, expected, found.len);
}

static void assert_results(const Dien__ScoreReply *reply) {
    assert_int_equal(reply->n_index, 2);
    assert_int_equal(reply->n_score, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(reply->index[i], results[i].index);
        assert_memory_equal(&reply->score[i], &results[i].score, sizeof(float));
    }
    assert_int_equal(reply->candidates->n_columns, 2);
    const Dien__Column *item = reply->candidates->columns[0], *look = reply->candidates->columns[1];
    assert_bytes(item->name, "item");
    assert_bytes(item->strings[0], "C5");
    assert_bytes(item->strings[1], "B10");
    assert_int_equal(look->width, 2);
    assert_int_equal(look->n_reals, 4);
    assert_true(look->reals[0] == 3.5 && look->reals[1] == 4 && look->reals[2] == 1 && look->reals[3] == 2);
}

/* The part that both replies have in common. */
static void assert_state(const Dien__ScoreReply *reply) {
    assert_bytes(reply->model, "eshop");
    assert_bytes(reply->version, "3");
    assert_bytes(reply->user_state, "cached");
    assert_bytes(reply->history_token, "abc");
    assert_int_equal(reply->n_interests, 2);
    assert_int_equal(reply->n_unknown, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_bytes(reply->interests[i]->name, interests[i].name);
        assert_int_equal(reply->interests[i]->received, interests[i].received);
        assert_int_equal(reply->interests[i]->length, interests[i].length);
        assert_bytes(reply->unknown[i]->field, unknown[i].field);
        assert_int_equal(reply->unknown[i]->count, unknown[i].count);
    }
}

static void a_reply_reads_back(void **state) {
    (void)state;
    assert_true(decode_score(make_whole()));
    struct proto_reply from = make_reply(2);
    struct proto_string packed = encode(&from);
    Dien__ScoreReply *reply = dien__score_reply__unpack(NULL, packed.length, (const uint8_t *)packed.data);
    assert_non_null(reply);
    assert_state(reply);
    assert_int_equal(reply->interests[0]->n_attention, 6);
    assert_memory_equal(reply->interests[0]->attention, attention[1], sizeof attention[1]);
    assert_memory_equal(reply->interests[0]->attention + 3, attention[0], sizeof attention[0]);
    assert_int_equal(reply->interests[1]->n_attention, 0);
    assert_results(reply);
    dien__score_reply__free_unpacked(reply, NULL);
}

/* Each member of `part` is also a member of `all`. */
static void assert_part_of(const ProtobufCMessageDescriptor *part, const ProtobufCMessageDescriptor *all) {
    for (unsigned int i = 0; i < part->n_fields; i++) {
        const ProtobufCFieldDescriptor *own = &part->fields[i];
        const ProtobufCFieldDescriptor *same = protobuf_c_message_descriptor_get_field_by_name(all, own->name);
        assert_non_null(same);
        assert_int_equal(own->id, same->id);
        assert_int_equal(own->type, same->type);
        assert_int_equal(own->label, same->label);
        assert_ptr_equal(own->descriptor, same->descriptor);
    }
}

static void a_history_s_members_are_a_score_s(void **state) {
    (void)state;
    assert_part_of(&dien__history_request__descriptor, &dien__score_request__descriptor);
    assert_part_of(&dien__history_reply__descriptor, &dien__score_reply__descriptor);
}

/* The reply is read back both as a HistoryReply and as a ScoreReply. */
static void a_reply_without_results_is_a_history_s(void **state) {
    (void)state;
    assert_true(decode_history(make_update()));
    struct proto_reply from = make_reply(0);
    struct proto_string packed = encode(&from);
    Dien__HistoryReply *reply = dien__history_reply__unpack(NULL, packed.length, (const uint8_t *)packed.data);
    assert_non_null(reply);
    assert_int_equal(reply->base.n_unknown_fields, 0);
    dien__history_reply__free_unpacked(reply, NULL);
    Dien__ScoreReply *score = dien__score_reply__unpack(NULL, packed.length, (const uint8_t *)packed.data);
    assert_non_null(score);
    assert_state(score);
    assert_int_equal(score->interests[0]->n_attention, 0);
    dien__score_reply__free_unpacked(score, NULL);
}

static struct proto_column random_column(size_t count, struct proto_value *values, enum proto_value_kind kind) {
    static const double numbers[] = {1, 2, 3, 4, 5};
    static const char text[] = "a string of some length";
    static const struct proto_string words[] = {{text, 3}, {text, 20}};
    for (size_t i = 0; i < count; i++) {
        values[i] = (struct proto_value){.kind = kind};
        if (kind == PROTO_STRING)
            values[i] = (struct proto_value){.kind = kind, .length = (uint32_t)(i * 7 % 20), .string = text};
        else if (kind == PROTO_VECTOR)
            values[i] = (struct proto_value){.kind = kind, .length = (uint32_t)(i % 6), .vector = numbers};
        else if (kind == PROTO_STRINGS)
            values[i] = (struct proto_value){.kind = kind, .length = (uint32_t)(1 + i % 2), .strings = words};
        else if (kind == PROTO_REAL)
            values[i].real = 1.5;
        else
            values[i].integer = -1; /* the longest varint */
    }
    return (struct proto_column){{"name", 4}, count, values};
}

/* Results of any number, of every kind of column, within the room that was said. */
static void no_reply_takes_more_than_its_bound(void **state) {
    (void)state;
    enum { COUNT = 130 };
    static struct proto_value values[6][COUNT];
    static struct proto_result many[COUNT];
    static const float weights[COUNT][3];
    const struct proto_interest explained[] = {{"clicks", SIZE_MAX / 2, 3, weights[0]}, {"buys", 1, 2, NULL}};
    struct proto_column columns[6];
    for (size_t i = 0; i < 6; i++)
        columns[i] = random_column(COUNT, values[i], (enum proto_value_kind)(PROTO_INTEGER + i % 6));
    const struct proto_table table = {PROTO_COLUMNS, true, COUNT, 6, columns};
    for (size_t i = 0; i < COUNT; i++)
        many[i] = (struct proto_result){COUNT - 1 - i, 0.5F};
    for (size_t count = 0; count <= COUNT; count++) {
        struct proto_reply reply = make_reply(count);
        reply.candidates = &table;
        reply.results = many;
        reply.interests = explained;
        reply.coverage = 0.5;
        encode(&reply);
    }
}

static bool try_to_encode(struct arena *tight) {
    struct proto_reply from = make_reply(2);
    return protobuf_encode_reply(&from, tight).data != NULL;
}

static void a_reply_needs_memory(void **state) {
    (void)state;
    assert_true(decode_score(make_whole()));
    assert_true(count_refusals(try_to_encode) > 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_decodes_as_its_json),
        cmocka_unit_test(a_token_stands_for_a_history),
        cmocka_unit_test(of_a_member_sent_twice_the_last_counts),
        cmocka_unit_test(a_history_decodes_as_its_json),
        cmocka_unit_test(a_history_is_appended_to),
        cmocka_unit_test(values_are_refused_at_their_place),
        cmocka_unit_test(columns_are_refused_at_their_place),
        cmocka_unit_test(members_are_refused_at_their_place),
        cmocka_unit_test(histories_are_refused_at_their_place),
        cmocka_unit_test(an_update_has_no_member_of_a_score),
        cmocka_unit_test(unknown_fields_are_for_newer_servers),
        cmocka_unit_test(unsigned_integers_are_those_of_json),
        cmocka_unit_test(a_group_has_at_most_256_fields),
        cmocka_unit_test(other_bytes_are_refused),
        cmocka_unit_test(a_message_may_end_anywhere),
        cmocka_unit_test(each_allocation_may_fail),
        cmocka_unit_test(a_reply_reads_back),
        cmocka_unit_test(a_history_s_members_are_a_score_s),
        cmocka_unit_test(a_reply_without_results_is_a_history_s),
        cmocka_unit_test(arrays_are_those_of_json),
        cmocka_unit_test(no_reply_takes_more_than_its_bound),
        cmocka_unit_test(a_reply_needs_memory),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
