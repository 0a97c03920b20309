/* test_record.c: bodies without their user, and records as lines that jansson reads back. */
#include "proto/record.h"

#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct arena arena;

static int start(void **state) {
    (void)state;
    arena_init(&arena, 1 << 20, 0);
    return 0;
}

static int stop(void **state) {
    (void)state;
    arena_free(&arena);
    return 0;
}

/* The text in memory of just its size, so that sanitizers see a byte too many. */
static struct proto_string exact(const char *text, size_t length) {
    char *copy = arena_alloc(&arena, length + 1);
    assert_non_null(copy);
    memcpy(copy + 1, text, length);
    return (struct proto_string){copy + 1, length};
}

static void assert_body(const char *text, bool keep_user, const char *expected) {
    struct proto_string body = record_json_body(exact(text, strlen(text)), keep_user, &arena);
    assert_true((body.data == NULL) == (expected == NULL));
    if (expected == NULL)
        return;
    assert_int_equal(body.length, strlen(expected));
    assert_memory_equal(body.data, expected, body.length);
}

static void a_body_loses_its_user(void **state) {
    (void)state;
    static const char *const bodies[][2] = {
        {"{}", "{}"},
        {"{\"user_id\":\"u\"}", "{}"},
        {" { \"user_id\" : \"u\" , \"a\" : [1, 2] } ", "{\"a\" : [1, 2]}"},
        {"{\"a\":1,\"user_id\":\"u\"}", "{\"a\":1}"},
        {"{\"a\":1,\"user_id\":\"u\",\"b\":2}", "{\"a\":1,\"b\":2}"},
        {"{\"a\":{\"user_id\":\"v\"},\"user_id\":\"u\"}", "{\"a\":{\"user_id\":\"v\"}}"},
        {"{\"a\":\"user_id\",\"b\":[\"}\",\"{\",\"\\\"]\"]}", "{\"a\":\"user_id\",\"b\":[\"}\",\"{\",\"\\\"]\"]}"},
        {"{\"user\\u005fid\":\"u\",\"c\":null}", "{\"c\":null}"},
        {"{\"\\u0075\\u0073\\u0065\\u0072\\u005F\\u0069\\u0064\":\"u\"}", "{}"},
        {"{\"user_id2\":1,\"user_i\":2,\"\\u0075\":3}", "{\"user_id2\":1,\"user_i\":2,\"\\u0075\":3}"},
        {"{\"a\":\n[1,\r\n\t2]}", "{\"a\": [1,   2]}"},
        {"{\"user_id\":{\"deep\":[\"u\"]},\"a\":-1.5e3}", "{\"a\":-1.5e3}"},
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        assert_body(bodies[i][0], false, bodies[i][1]);
    assert_body("{\"user_id\":\"u\",\n\"a\":1}", true, "{\"user_id\":\"u\",\"a\":1}");
}

static void other_texts_are_no_bodies(void **state) {
    (void)state;
    static const char *const texts[] = {
        "",
        "[1]",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1}}",
        "{\"a\":}",
        "{\"a\" 1}",
        "{1:2}",
        "{\"a\":[1}",
        "{\"a\":\"1}",
        "{\"user_id\\",
        "{\"\\u00",
        "{\"a\":1]}",
        "{\"a\":1} x",
        "{\"a\":\"\n\"}",
        "\"user_id\"",
        "{\"a\":{",
        "{\"user_id\":",
        "null",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_body(texts[i], false, NULL);
}

/* Any beginning of a body is read to its end and no further. */
static void cut_bodies(void **state) {
    (void)state;
    static const char text[] = "{\"user_id\":\"\\u0041\\\"\",\"a\":[{\"b\":\"]\"},1e5],\"\\u0075ser_id\":true}";
    for (size_t length = 0; length + 1 < sizeof text - 1; length++)
        assert_null(record_json_body(exact(text, length), false, &arena).data);
    assert_body(text, false, "{\"a\":[{\"b\":\"]\"},1e5]}");
}

static void a_message_loses_its_user(void **state) {
    (void)state;
    static const char message[] = "\x42\x01x\x0a\x02u1\x48\x05\x0a\x01v";
    struct proto_string body = record_protobuf_body(exact(message, sizeof message - 1), &arena);
    assert_int_equal(body.length, 5);
    assert_memory_equal(body.data, "\x42\x01x\x48\x05", 5);
    for (size_t length = 1; length < sizeof message - 1; length++) {
        bool ends_a_field = length == 3 || length == 7 || length == 9;
        assert_true((record_protobuf_body(exact(message, length), &arena).data != NULL) == ends_a_field);
    }
    assert_int_equal(record_protobuf_body(exact("", 0), &arena).length, 0);
}

static json_t *line_of(const struct proto_record *record) {
    struct proto_string line = json_encode_record(record, &arena);
    assert_non_null(line.data);
    assert_null(memchr(line.data, '\n', line.length));
    json_t *root = json_loadb(line.data, line.length, JSON_REJECT_DUPLICATES, NULL);
    assert_true(json_is_object(root));
    return root;
}

static void a_record_is_one_line(void **state) {
    (void)state;
    const float scores[] = {0.25F, 0.5F};
    const uint32_t order[] = {1};
    const struct proto_record record = {
        .time = "2026-11-28T05:40:12.123456Z",
        .request_id = "id\"\n",
        .sampled = true,
        .user_hash = "0f",
        .model = "m",
        .version = "1",
        .digest = "d",
        .method = "POST",
        .route = "/score",
        .content_type = "application/json",
        .body = {"{\"a\":1}", 7},
        .history = {"QUJD", 4},
        .score_count = 2,
        .scores = scores,
        .order_count = 1,
        .order = order,
        .user_state = "cached",
        .history_count = 0,
        .phase_count = 2,
        .phase_names = {"decode", "queue"},
        .phase_seconds = {0.0015, -1},
        .status = 200,
        .outcome = "ok",
    };
    json_t *root = line_of(&record);
    json_t *expected =
        json_loads("{\"time\": \"2026-11-28T05:40:12.123456Z\", \"request_id\": \"id\\\"\\n\", \"sampled\": true,"
                   " \"user_hash\": \"0f\", \"model\": {\"name\": \"m\", \"version\": \"1\", \"digest\": \"d\"},"
                   " \"method\": \"POST\", \"route\": \"/score\", \"content_type\": \"application/json\","
                   " \"body\": {\"a\": 1}, \"history\": \"QUJD\", \"scores\": [0.25, 0.5], \"order\": [1],"
                   " \"user_state\": \"cached\", \"history_count\": 0, \"phases\": {\"decode\": 1.5},"
                   " \"status\": 200, \"outcome\": \"ok\"}",
                   0, NULL);
    assert_non_null(expected);
    assert_true(json_equal(root, expected));
    json_decref(root);
    json_decref(expected);
}

static void a_record_of_little_has_few_members(void **state) {
    (void)state;
    json_t *root = line_of(&(struct proto_record){
        .time = "t", .method = "POST", .route = "/score", .history_count = -1, .outcome = "saturated"});
    assert_int_equal(json_object_size(root), 6); /* time, sampled, method, route, phases, outcome */
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_loses_its_user),
        cmocka_unit_test(other_texts_are_no_bodies),
        cmocka_unit_test(cut_bodies),
        cmocka_unit_test(a_message_loses_its_user),
        cmocka_unit_test(a_record_is_one_line),
        cmocka_unit_test(a_record_of_little_has_few_members),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
