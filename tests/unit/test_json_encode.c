/* test_json_encode.c: replies, problems, health and model descriptions as text. jansson reads each back. */
#include "proto/json_decode.h"
#include "proto/json_encode.h"

#include <float.h>
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

static struct arena arena;

static int start(void **state) {
    (void)state;
    arena_init(&arena, 0, 1 << 20);
    return 0;
}

static int stop(void **state) {
    (void)state;
    arena_free(&arena);
    return 0;
}

static void assert_body(struct proto_string body, const char *expected) {
    assert_non_null(body.data);
    if (body.length != strlen(expected) || memcmp(body.data, expected, body.length) != 0)
        fail_msg("\n%.*s\nis not\n%s", (int)body.length, body.data, expected);
}

static json_t *parse(struct proto_string body) {
    assert_non_null(body.data);
    json_error_t error;
    json_t *root = json_loadb(body.data, body.length, JSON_REJECT_DUPLICATES, &error);
    if (root == NULL)
        fail_msg("%s: %.*s", error.text, (int)body.length, body.data);
    return root;
}

/* Encodes a reply, once more into just the room that json_reply_most() asks for. */
static struct proto_string encode(struct proto_reply *reply) {
    struct proto_string body = json_encode_reply(reply, &arena);
    size_t most = json_reply_most(reply);
    struct arena tight;
    arena_init(&tight, most + ARENA_ALIGNMENT, 0);
    reply->room = most;
    struct proto_string again = json_encode_reply(reply, &tight);
    reply->room = 0;
    assert_non_null(body.data);
    assert_true(tight.used <= most + ARENA_ALIGNMENT);
    assert_int_equal(again.length, body.length);
    assert_memory_equal(again.data, body.data, body.length);
    arena_free(&tight);
    return body;
}

/* Values as the decoder makes them. */

static struct proto_value integer(int64_t number) {
    return (struct proto_value){.kind = PROTO_INTEGER, .integer = number};
}

static struct proto_value real(double number) {
    return (struct proto_value){.kind = PROTO_REAL, .real = number};
}

static struct proto_value string(const char *text) {
    return (struct proto_value){.kind = PROTO_STRING, .length = (uint32_t)strlen(text), .string = text};
}

static struct proto_value vector(const double *numbers, uint32_t length) {
    return (struct proto_value){.kind = PROTO_VECTOR, .length = length, .vector = numbers};
}

static struct proto_column column(const char *name, size_t count, const struct proto_value *values) {
    return (struct proto_column){{name, strlen(name)}, count, values};
}

/* A reply with one column, item, and one interest. Each test changes the part that it tests. */
struct fixture {
    struct proto_value items[3];
    struct proto_column columns[4];
    struct proto_table candidates;
    struct proto_interest interests[2];
    struct proto_unknown unknown[2];
    struct proto_result results[3];
    struct proto_reply reply;
};

static void fill(struct fixture *f) {
    *f = (struct fixture){
        .items = {string("B10"), string("C5"), string("P1")},
        .candidates = {.form = PROTO_COLUMNS, .present = true, .rows = 3, .columns = 1},
        .interests = {{"clicks", 60, 50, NULL}, {"carts", 2, 2, NULL}},
        .unknown = {{"item", 0}, {"category", 7}},
        .results = {{1, 0.8127f}, {0, 0.4411f}, {2, 0.125f}},
        .reply = {.model = "eshop", .version = "3", .user_state = "computed"},
    };
    f->columns[0] = column("item", 3, f->items);
    f->candidates.column = f->columns;
    f->reply.candidates = &f->candidates;
    f->reply.interests = f->interests;
    f->reply.interest_count = 1;
    f->reply.unknown = f->unknown;
    f->reply.unknown_count = 1;
    f->reply.results = f->results;
    f->reply.result_count = 2;
}

static void a_reply(void **state) {
    (void)state;
    struct fixture f;
    fill(&f);
    assert_body(encode(&f.reply), "{\"model\":\"eshop\",\"version\":\"3\",\"user_state\":\"computed\","
                                  "\"history\":{\"length\":50,\"received\":60},\"unknown\":{\"item\":0},"
                                  "\"results\":[{\"index\":1,\"item\":\"C5\",\"score\":0.812699974},"
                                  "{\"index\":0,\"item\":\"B10\",\"score\":0.441100001}]}");
}

/* The reply to POST /users/{id}/history. */
static void a_reply_with_a_token_and_no_results(void **state) {
    (void)state;
    static const char token[] = "0123456789abcdef0123456789abcdef";
    struct fixture f;
    fill(&f);
    f.reply.token = (struct proto_string){token, sizeof token - 1};
    f.reply.results = NULL;
    f.reply.result_count = 0;
    assert_body(encode(&f.reply),
                "{\"model\":\"eshop\",\"version\":\"3\",\"user_state\":\"computed\","
                "\"history\":{\"length\":50,\"received\":60,\"token\":\"0123456789abcdef0123456789abcdef\"},"
                "\"unknown\":{\"item\":0}}");
}

static void a_user_summary(void **state) {
    (void)state;
    struct fixture f;
    fill(&f);
    struct proto_user_summary held = {.model = "eshop",
                                      .version = "3",
                                      .interest_count = 1,
                                      .interests = f.interests,
                                      .bytes = 1024,
                                      .age_seconds = 12.5,
                                      .idle_seconds = 0.25};
    assert_body(json_encode_user_summary(&held, &arena),
                "{\"model\":\"eshop\",\"version\":\"3\",\"history\":{\"length\":50,\"received\":60},"
                "\"bytes\":1024,\"age_seconds\":12.5,\"idle_seconds\":0.25}");
}

static void a_reply_with_several_interests(void **state) {
    (void)state;
    struct fixture f;
    fill(&f);
    f.interests[1].received = 99;
    f.reply.interest_count = f.reply.unknown_count = 2;
    f.reply.result_count = 0;
    assert_body(encode(&f.reply),
                "{\"model\":\"eshop\",\"version\":\"3\",\"user_state\":\"computed\","
                "\"history\":{\"length\":50,\"received\":99,\"interests\":{\"clicks\":{\"length\":50,\"received\":60},"
                "\"carts\":{\"length\":2,\"received\":99}}},\"unknown\":{\"item\":0,\"category\":7},\"results\":[]}");
}

static void attention_follows_its_candidate(void **state) {
    (void)state;
    static const float clicks[3][2] = {{0.25f, 0.75f}, {0.5f, 0.5f}, {1.0f, 0.0f}};
    static const float carts[1] = {0};
    struct fixture f;
    fill(&f);
    f.interests[0] = (struct proto_interest){"clicks", 2, 2, clicks[0]};
    f.interests[1] = (struct proto_interest){"carts", 0, 0, carts};
    f.reply.interest_count = 2;
    json_t *root = parse(encode(&f.reply));
    const json_t *results = json_object_get(root, "results");
    for (size_t i = 0; i < 2; i++) {
        const json_t *attention = json_object_get(json_array_get(results, i), "attention");
        const json_t *scores = json_object_get(attention, "clicks");
        assert_int_equal(json_array_size(scores), 2);
        for (size_t t = 0; t < 2; t++)
            assert_true(json_number_value(json_array_get(scores, t)) == (double)clicks[f.results[i].index][t]);
        assert_true(json_is_array(json_object_get(attention, "carts")));
        assert_int_equal(json_array_size(json_object_get(attention, "carts")), 0);
    }
    json_decref(root);
}

static void candidates_come_back_as_they_were_sent(void **state) {
    (void)state;
    static const double numbers[] = {1, -2.5, 1e300, 0.1};
    const struct proto_value first[] = {integer(INT64_MIN), string("\xC3\xA9\"\\\n\x7F\x01/")};
    const struct proto_value second[] = {real(1.0), real(0.1)};
    const struct proto_value third[] = {vector(numbers, 4), vector(numbers, 0)};
    const struct proto_value fourth[] = {{.kind = PROTO_ABSENT}, real(1e22)};
    struct fixture f;
    fill(&f);
    f.columns[0] = column("a", 2, first);
    f.columns[1] = column("b\"", 2, second);
    f.columns[2] = column("sch\xC3\xB6n", 2, third);
    f.columns[3] = column("d", 2, fourth);
    f.candidates.form = PROTO_ROWS;
    f.candidates.rows = 2;
    f.candidates.columns = 4;
    struct proto_string body = encode(&f.reply);
    json_decref(parse(body));
    static const char expected[] =
        "\"results\":[{\"index\":1,\"a\":\"\xC3\xA9\\\"\\\\\\n\x7F\\u0001/\",\"b\\\"\":0.1,\"sch\xC3\xB6n\":[],"
        "\"d\":1e+22,\"score\":0.812699974},{\"index\":0,\"a\":-9223372036854775808,\"b\\\"\":1.0,"
        "\"sch\xC3\xB6n\":[1,-2.5,1e+300,0.1],\"score\":0.441100001}]}";
    const char *results = memmem(body.data, body.length, "\"results\"", 9);
    assert_non_null(results);
    assert_body((struct proto_string){results, body.length - (size_t)(results - body.data)}, expected);
}

static void fields_named_like_the_reply_are_left_out(void **state) {
    (void)state;
    static const float attention[3] = {1, 1, 1};
    struct fixture f;
    fill(&f);
    f.columns[1] = column("index", 3, f.items);
    f.columns[2] = column("score", 3, f.items);
    f.columns[3] = column("attention", 3, f.items);
    f.candidates.columns = 4;
    f.interests[0] = (struct proto_interest){"clicks", 1, 1, attention};
    json_t *root = parse(encode(&f.reply));
    const json_t *result = json_array_get(json_object_get(root, "results"), 0);
    assert_int_equal(json_integer_value(json_object_get(result, "index")), 1);
    assert_true(json_is_real(json_object_get(result, "score")));
    assert_true(json_is_object(json_object_get(result, "attention")));
    json_decref(root);
}

/* Numbers, strings and names in their longest form, in the results that have most of them. */
static void no_reply_is_longer_than_its_bound(void **state) {
    (void)state;
    static const float attention[3][2] = {{-1.17549435e-38F, -1.17549435e-38F}, {-1.17549435e-38F, -1e-30F}, {0, 0}};
    static const double numbers[] = {-2.2250738585072014e-308, -1.7976931348623157e308, -9007199254740991};
    static const char controls[] = "\x01\x02\x1F\x01\x02\x1F\x01\x02\x1F";
    const struct proto_value wide[] = {vector(numbers, 3), vector(numbers, 3), vector(numbers, 0)};
    const struct proto_value reals[] = {real(numbers[0]), real(numbers[0]), real(1)};
    const struct proto_value integers[] = {integer(INT64_MIN), integer(INT64_MIN), integer(0)};
    const struct proto_value strings[] = {string(controls), string(controls), string("")};
    struct fixture f;
    for (size_t count = 0; count <= 3; count++) {
        fill(&f);
        f.columns[0] = column(controls, 3, wide);
        f.columns[1] = column("", 3, reals);
        f.columns[2] = column("x", 3, integers);
        f.columns[3] = column("\"", 3, strings);
        f.candidates.columns = 4;
        f.interests[0] = (struct proto_interest){controls, SIZE_MAX / 2, 2, attention[0]};
        f.interests[1] = (struct proto_interest){"carts", SIZE_MAX / 2, SIZE_MAX / 2, NULL};
        f.unknown[0] = (struct proto_unknown){controls, SIZE_MAX / 2};
        for (size_t i = 0; i < 3; i++)
            f.results[i].score = -1.17549435e-38F;
        f.reply.interest_count = f.reply.unknown_count = 2;
        f.reply.result_count = count;
        f.reply.coverage = 1.0 / 3;
        f.reply.token = (struct proto_string){"0123456789abcdef0123456789abcdef", 32};
        json_decref(parse(encode(&f.reply)));
    }
}

static double score_on_the_wire(float score) {
    struct fixture f;
    fill(&f);
    f.results[0].score = score;
    json_t *root = parse(encode(&f.reply));
    double read = json_number_value(json_object_get(json_array_get(json_object_get(root, "results"), 0), "score"));
    json_decref(root);
    arena_reset(&arena);
    return read;
}

static void scores_are_exact_floats(void **state) {
    (void)state;
    static const float edges[] = {0.0f, 1.0f, 0.5f, FLT_MIN, FLT_TRUE_MIN, FLT_EPSILON, 1.0f - FLT_EPSILON / 2};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        assert_true((float)score_on_the_wire(edges[i]) == edges[i]);
    uint32_t seed = 1;
    for (size_t i = 0; i < 20000; i++) {
        seed = seed * 1664525u + 1013904223u;
        float score = ldexpf((float)(seed >> 8), -24 - (int)(seed & 31));
        assert_true((float)score_on_the_wire(score) == score);
    }
}

/* An encoded number decodes to itself. */
static void numbers_survive_the_round_trip(void **state) {
    (void)state;
    uint64_t seed = 1;
    for (size_t i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        double number;
        memcpy(&number, &seed, sizeof number);
        if (!isfinite(number))
            continue;
        const struct proto_value values[] = {real(number), real(number)};
        struct fixture f;
        fill(&f);
        f.columns[0] = column("x", 2, values);
        json_t *root = parse(encode(&f.reply));
        const json_t *read = json_object_get(json_array_get(json_object_get(root, "results"), 0), "x");
        assert_true(json_is_real(read));
        assert_true(json_real_value(read) == number);
        json_decref(root);
        arena_reset(&arena);
    }
}

static void a_decoded_request_comes_back(void **state) {
    (void)state;
    static const char body[] = "{\"candidates\":[{\"item\":\"A\\u00e9\",\"v\":[1,2.5]},{\"item\":7,\"x\":0.3}]}";
    struct proto_request request;
    struct problem problem;
    json_decode_init();
    assert_true(json_decode_request(body, sizeof body - 1, &arena, &request, &problem));
    struct fixture f;
    fill(&f);
    f.reply.candidates = &request.candidates;
    json_t *sent = json_loads(body, 0, NULL);
    json_t *root = parse(encode(&f.reply));
    for (size_t i = 0; i < 2; i++) {
        json_t *result = json_array_get(json_object_get(root, "results"), i);
        json_object_del(result, "index");
        json_object_del(result, "score");
        assert_true(json_equal(result, json_array_get(json_object_get(sent, "candidates"), f.results[i].index)));
    }
    json_decref(root);
    json_decref(sent);
}

static void a_reply_of_4000_results(void **state) {
    (void)state;
    enum { COUNT = 4000 };
    static struct proto_value items[COUNT];
    static struct proto_result results[COUNT];
    static char names[COUNT][16];
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(names[i], sizeof names[i], "item-%zu", i);
        items[i] = string(names[i]);
        results[i] = (struct proto_result){COUNT - 1 - i, (float)i / COUNT};
    }
    struct fixture f;
    fill(&f);
    f.columns[0] = column("item", COUNT, items);
    f.reply.results = results;
    f.reply.result_count = COUNT;
    json_t *root = parse(encode(&f.reply));
    const json_t *array = json_object_get(root, "results");
    assert_int_equal(json_array_size(array), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        const json_t *item = json_object_get(json_array_get(array, i), "item");
        assert_string_equal(json_string_value(item), names[COUNT - 1 - i]);
    }
    json_decref(root);
}

/* ---- problems ---- */

static void a_problem_in_the_body_has_a_pointer(void **state) {
    (void)state;
    struct problem problem;
    problem_set(&problem, PROBLEM_INVALID_REQUEST, "/history/\"item", "say \"%s\"", "\xC3\xA9");
    assert_body(json_encode_problem(&problem, NULL, &arena),
                "{\"type\":\"urn:dien:problem:invalid-request\",\"title\":\"The body is not a valid request\","
                "\"status\":400,\"detail\":\"say \\\"\xC3\xA9\\\"\",\"pointer\":\"/history/\\\"item\"}");
    problem_set(&problem, PROBLEM_INVALID_REQUEST, "/h\xE9o", "Zo\xEB\x01"); /* Latin 1 */
    assert_body(json_encode_problem(&problem, NULL, &arena),
                "{\"type\":\"urn:dien:problem:invalid-request\",\"title\":\"The body is not a valid request\","
                "\"status\":400,\"detail\":\"Zo?\\u0001\",\"pointer\":\"/h?o\"}");
    problem_set(&problem, PROBLEM_INVALID_JSON, "", "no");
    assert_body(json_encode_problem(&problem, "a1-b_2.c~", &arena),
                "{\"type\":\"urn:dien:problem:invalid-json\",\"title\":\"The body is not valid JSON\","
                "\"status\":400,\"detail\":\"no\",\"pointer\":\"\",\"instance\":\"urn:dien:request:a1-b_2.c~\"}");
}

static void other_problems_have_none(void **state) {
    (void)state;
    struct problem problem;
    problem_set(&problem, PROBLEM_SATURATED, "", "the queue is full");
    assert_body(json_encode_problem(&problem, "a b/\xC3\xA9\"", &arena),
                "{\"type\":\"urn:dien:problem:saturated\",\"title\":\"The server is saturated\",\"status\":503,"
                "\"detail\":\"the queue is full\",\"instance\":\"urn:dien:request:a%20b%2F%C3%A9%22\"}");
}

static void every_problem_is_json(void **state) {
    (void)state;
    for (int kind = PROBLEM_NONE + 1; kind < PROBLEM_KINDS; kind++) {
        struct problem problem;
        problem_set(&problem, (enum problem_kind)kind, "/x", "detail %d", kind);
        json_t *root = parse(json_encode_problem(&problem, "id", &arena));
        assert_int_equal(json_integer_value(json_object_get(root, "status")), problem_status(problem.kind));
        assert_string_equal(json_string_value(json_object_get(root, "title")), problem_title(problem.kind));
        assert_string_equal(json_string_value(json_object_get(root, "pointer")), "/x");
        json_decref(root);
        problem_set(&problem, (enum problem_kind)kind, "", "detail %d", kind);
        root = parse(json_encode_problem(&problem, "id", &arena));
        assert_int_equal(json_object_get(root, "pointer") != NULL, problem_in_body(problem.kind));
        json_decref(root);
    }
}

/* ---- health, the model, the log ---- */

static void health_with_and_without_a_model(void **state) {
    (void)state;
    const struct proto_health ready = {"ready", "eshop", "3", 12.5};
    assert_body(json_encode_health(&ready, &arena),
                "{\"status\":\"ready\",\"model\":\"eshop\",\"version\":\"3\",\"uptime_seconds\":12.5}");
    const struct proto_health loading = {"loading", NULL, NULL, 0};
    assert_body(json_encode_health(&loading, &arena), "{\"status\":\"loading\",\"uptime_seconds\":0}");
}

static void slots_and_single_members(void **state) {
    (void)state;
    const struct proto_slot slot = {.slot = "live",
                                    .name = "e\"shop",
                                    .version = "3",
                                    .config_sha256 = "0a",
                                    .weights_sha256 = "1b",
                                    .loaded_at = "2026-11-28T06:00:00Z",
                                    .loaded_by = "admin",
                                    .bytes = 7,
                                    .has_shares = true,
                                    .canary = 0.25,
                                    .shadow = 0};
    const struct proto_slots none = {.loading = true};
    const struct proto_slots one = {.count = 1,
                                    .slots = &slot,
                                    .live = 1,
                                    .candidate = 5,
                                    .refused = 2,
                                    .busy = 3,
                                    .rollbacks = 4,
                                    .promotions = 6,
                                    .drops = 7,
                                    .failed_at = "2026-11-28T05:00:00Z",
                                    .failure = "no file"};
    assert_body(json_encode_slots(&none, &arena),
                "{\"models\":[],\"loading\":true,\"loads\":{\"live\":0,\"candidate\":0,\"refused\":0,\"busy\":0},"
                "\"rollbacks\":0,\"promotions\":0,\"drops\":0}");
    assert_body(
        json_encode_slots(&one, &arena),
        "{\"models\":[{\"slot\":\"live\",\"name\":\"e\\\"shop\",\"version\":\"3\",\"sha256\":{\"config\":\"0a\","
        "\"weights\":\"1b\"},\"loaded_at\":\"2026-11-28T06:00:00Z\",\"loaded_by\":\"admin\",\"bytes\":7,"
        "\"canary\":0.25,\"shadow\":0}],"
        "\"loading\":false,\"loads\":{\"live\":1,\"candidate\":5,\"refused\":2,\"busy\":3},"
        "\"rollbacks\":4,\"promotions\":6,\"drops\":7,"
        "\"last_failure\":{\"at\":\"2026-11-28T05:00:00Z\",\"reason\":\"no file\"}}");
    assert_body(json_encode_member("level", "debug", &arena), "{\"level\":\"debug\"}");
}

static void a_model_lists_its_fields(void **state) {
    (void)state;
    const struct proto_model_field user[] = {{"country", "index", 48, 0, 0, NULL}, {"tags", "integer", 9, 0, 6, NULL}};
    const struct proto_model_field behaviour[] = {
        {"item", "string", 218, 0, 0, NULL}, {"category", "index", 5, 0, 0, "item"}, {"price", "dense", 0, 2, 0, NULL}};
    const struct proto_model_group groups[] = {{"user", 2, user}, {"context", 0, NULL}, {"history", 3, behaviour}};
    const char *const history[] = {"item", "category"};
    const struct proto_model_interest interests[] = {{"clicks", 50, 2, history}};
    const struct proto_limit limits[] = {{"max_candidates", 4000}, {"max_body", SIZE_MAX / 2}};
    struct proto_model model = {.name = "eshop",
                                .version = "3",
                                .group_count = 3,
                                .groups = groups,
                                .interest_count = 1,
                                .interests = interests,
                                .limit_count = 2,
                                .limits = limits};
    assert_body(
        json_encode_model(&model, &arena),
        "{\"name\":\"eshop\",\"version\":\"3\",\"groups\":{\"user\":[{\"name\":\"country\",\"kind\":\"index\","
        "\"rows\":48,\"required\":true},{\"name\":\"tags\",\"kind\":\"integer\",\"rows\":9,\"values\":6,"
        "\"required\":true}],\"context\":[],\"history\":[{\"name\":\"item\",\"kind\":\"string\","
        "\"rows\":218,\"required\":true},{\"name\":\"category\",\"kind\":\"index\",\"rows\":5,\"required\":false,"
        "\"attribute_of\":\"item\"},{\"name\":\"price\",\"kind\":\"dense\",\"width\":2,\"required\":true}]},"
        "\"interests\":[{\"name\":\"clicks\",\"max_length\":50,\"history\":[\"item\",\"category\"]}],"
        "\"limits\":{\"max_candidates\":4000,\"max_body\":9223372036854775807}}");
}

/* ---- memory ---- */

static void each_of_the_arena_s_allocations_may_fail(void **state) {
    (void)state;
    static char wide[4000];
    memset(wide, 'x', sizeof wide);
    bool enough = false;
    for (size_t limit = 64; limit < 64000; limit += 64) {
        struct fixture f;
        fill(&f);
        f.items[0] = f.items[1] = (struct proto_value){.kind = PROTO_STRING, .length = sizeof wide, .string = wide};
        struct arena tight;
        arena_init(&tight, limit, 0);
        struct proto_string body = json_encode_reply(&f.reply, &tight);
        assert_true(body.data != NULL || !enough);
        enough = body.data != NULL;
        if (enough)
            json_decref(parse(body));
        arena_free(&tight);
        assert_true(!enough || limit > 2 * sizeof wide);
    }
    assert_true(enough);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots_and_single_members),
        cmocka_unit_test(a_reply),
        cmocka_unit_test(a_reply_with_a_token_and_no_results),
        cmocka_unit_test(a_user_summary),
        cmocka_unit_test(a_reply_with_several_interests),
        cmocka_unit_test(attention_follows_its_candidate),
        cmocka_unit_test(candidates_come_back_as_they_were_sent),
        cmocka_unit_test(fields_named_like_the_reply_are_left_out),
        cmocka_unit_test(no_reply_is_longer_than_its_bound),
        cmocka_unit_test(scores_are_exact_floats),
        cmocka_unit_test(numbers_survive_the_round_trip),
        cmocka_unit_test(a_decoded_request_comes_back),
        cmocka_unit_test(a_reply_of_4000_results),
        cmocka_unit_test(a_problem_in_the_body_has_a_pointer),
        cmocka_unit_test(other_problems_have_none),
        cmocka_unit_test(every_problem_is_json),
        cmocka_unit_test(health_with_and_without_a_model),
        cmocka_unit_test(a_model_lists_its_fields),
        cmocka_unit_test(each_of_the_arena_s_allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
