/* fuzz_request.c: any bytes as the body of POST /score to the demo model, from decoding to encoding.
 *
 * The outcome is a reply or a problem with a place, both in JSON. Scores are probabilities in rank order, and a second
 * request with an equal body has an equal reply. Runs in the repository's top directory. libFuzzer starts from the
 * seeds in tests/fuzz/request.
 */
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "server/scoring/request.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>
#include <string.h>

static struct scorer scorer;

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    struct dien_error error = {""};
    struct request_limits limits = {.max_candidates = 64, .max_history = 64, .memory = (size_t)16 << 20};
    json_decode_init();
    struct dien_model *model = dien_open("model/demo", &error);
    if (model == NULL) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    require(scorer_init(&scorer, model, &limits));
    return 0;
}

static json_t *parse(struct proto_string text) {
    require(text.data != NULL);
    json_t *root = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, NULL);
    require(json_is_object(root));
    return root;
}

static void check_reply(struct proto_string body, size_t candidates) {
    json_t *root = parse(body);
    const json_t *results = json_object_get(root, "results");
    require(json_array_size(results) >= 1 && json_array_size(results) <= candidates);
    double before = 1;
    for (size_t i = 0; i < json_array_size(results); i++) {
        double score = json_number_value(json_object_get(json_array_get(results, i), "score"));
        require(score >= 0 && score <= before);
        before = score;
    }
    json_decref(root);
}

static void check_problem(const struct problem *problem, struct arena *arena) {
    require(problem->detail[0] != '\0' && problem_status(problem->kind) >= 400);
    require(problem->pointer[0] == '\0' || problem->pointer[0] == '/');
    json_decref(parse(json_encode_problem(problem, "fuzz", arena)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct request request = {.format = PROTO_JSON, .body = (const char *)data, .size = size};
    request_score(&scorer, &request);
    if (request.problem.kind != PROBLEM_NONE) {
        struct arena arena;
        arena_init(&arena, 0, 0);
        check_problem(&request.problem, &arena);
        arena_free(&arena);
        return 0;
    }
    check_reply(request.reply, request.resolved.candidate_count);
    char *first = malloc(request.reply.length);
    size_t length = request.reply.length;
    require(first != NULL);
    memcpy(first, request.reply.data, length);
    request_score(&scorer, &request);
    require(request.reply.length == length && memcmp(first, request.reply.data, length) == 0);
    free(first);
    return 0;
}
