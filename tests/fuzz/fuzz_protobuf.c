/* fuzz_protobuf.c: any bytes as a ScoreRequest and as a HistoryRequest.
 *
 * Decoding ends in a request or a problem with a place. A reply to the request encodes, and protobuf_count_values()
 * counts the values that were decoded. With little memory the outcome is unchanged or out of memory. libFuzzer starts
 * from the seeds in tests/fuzz/protobuf.
 */
#include "proto/json_decode.h"
#include "proto/protobuf.h"
#include "proto/protobuf_count.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/same_request.h"

enum { RESULTS_MAX = 64 };

typedef bool decoder(const char *body, size_t size, bool strict, struct arena *to, struct proto_request *request,
                     struct problem *problem);

static struct arena arena;

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    json_decode_init();
    arena_init(&arena, (size_t)64 << 20, 1 << 20);
    return 0;
}

static void encode_reply(const struct proto_request *request) {
    struct proto_result results[RESULTS_MAX];
    size_t count = request->candidates.rows < RESULTS_MAX ? request->candidates.rows : RESULTS_MAX;
    for (size_t i = 0; i < count; i++)
        results[i] = (struct proto_result){count - 1 - i, 1.0F / (float)(i + 1)};
    const struct proto_reply reply = {.model = "fuzz",
                                      .version = "1",
                                      .user_state = "computed",
                                      .candidates = &request->candidates,
                                      .result_count = count,
                                      .results = results};
    require(protobuf_encode_reply(&reply, &arena).data != NULL);
}

static size_t values_in(const struct proto_table *table) {
    size_t count = 0;
    for (size_t i = 0; i < table->columns; i++)
        for (size_t j = 0; j < table->column[i].count; j++) {
            const struct proto_value *value = &table->column[i].values[j];
            count += value->kind == PROTO_VECTOR || value->kind == PROTO_STRINGS ? value->length : 1;
        }
    return count;
}

static void check_counts(const char *body, size_t size, const struct proto_request *request) {
    struct protobuf_counts counts = protobuf_count_values(body, size);
    require(counts.history + counts.candidates <= size);
    if (request != NULL)
        require(counts.has_history == request->history.present && counts.history == values_in(&request->history) &&
                (!request->candidates.present || counts.candidates == values_in(&request->candidates)));
}

static void decode_with_little(decoder *decode, const char *body, size_t size, bool strict,
                               const struct proto_request *expected, const struct problem *problem) {
    struct arena tight;
    struct proto_request request;
    struct problem other;
    arena_init(&tight, little_memory(body, size, 20000 + 16 * size), 0);
    if (decode(body, size, strict, &tight, &request, &other))
        require(expected != NULL && same_request(&request, expected));
    else
        require(other.kind == PROBLEM_OUT_OF_MEMORY || (expected == NULL && other.kind == problem->kind));
    arena_free(&tight);
}

static void decode_as(decoder *decode, const char *body, size_t size, bool strict) {
    struct proto_request request;
    struct problem problem;
    arena_reset(&arena);
    bool decoded = decode(body, size, strict, &arena, &request, &problem);
    if (decoded)
        encode_reply(&request);
    else
        require((problem.kind == PROBLEM_INVALID_REQUEST || problem.kind == PROBLEM_INVALID_USER_ID ||
                 problem.kind == PROBLEM_OUT_OF_MEMORY) &&
                (problem.pointer[0] == '\0' || problem.pointer[0] == '/'));
    check_counts(body, size, decoded ? &request : NULL);
    decode_with_little(decode, body, size, strict, decoded ? &request : NULL, &problem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    for (int strict = 0; strict < 2; strict++) {
        decode_as(protobuf_decode_request, (const char *)data, size, strict != 0);
        decode_as(protobuf_decode_history, (const char *)data, size, strict != 0);
    }
    return 0;
}
