/* fuzz_json_decode.c: any bytes as a request, as a user's history and as samples.json.
 *
 * Decoding ends in a request or a problem, and either encodes to JSON that jansson reads back. With little memory the
 * outcome is unchanged or out of memory. libFuzzer starts from the seeds in tests/fuzz/json_decode.
 */
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "proto/utf8.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>
#include <string.h>

enum { RESULTS_MAX = 64, HISTORY = 3 };

static struct arena arena;

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    json_decode_init();
    arena_init(&arena, (size_t)64 << 20, 1 << 20);
    return 0;
}

static void require_json(struct proto_string text) {
    require(text.data != NULL);
    json_t *root = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, NULL);
    require(json_is_object(root));
    json_decref(root);
}

/* Reads every byte that the structs point to. */
static size_t read_table(const struct proto_table *table) {
    size_t sum = 0;
    size_t longest = 0;
    for (size_t i = 0; i < table->columns; i++) {
        const struct proto_column *column = &table->column[i];
        require(table->form == PROTO_COLUMNS || column->count == table->rows);
        longest = column->count > longest ? column->count : longest;
        for (size_t j = 0; j < column->name.length; j++)
            sum += (size_t)column->name.data[j];
        for (size_t row = 0; row < column->count; row++) {
            const struct proto_value *value = &column->values[row];
            for (size_t j = 0; value->kind == PROTO_STRING && j < value->length; j++)
                sum += (size_t)value->string[j];
            for (size_t j = 0; value->kind == PROTO_VECTOR && j < value->length; j++)
                sum += value->vector[j] > 0;
        }
    }
    require(table->columns == 0 || longest == table->rows);
    return sum;
}

static void encode_reply(const struct proto_request *request) {
    static const float attention[RESULTS_MAX][HISTORY];
    struct proto_result results[RESULTS_MAX];
    size_t count = request->candidates.rows < RESULTS_MAX ? request->candidates.rows : RESULTS_MAX;
    for (size_t i = 0; i < count; i++)
        results[i] = (struct proto_result){count - 1 - i, 1.0f / (float)(i + 1)};
    const struct proto_interest interest = {"clicks", HISTORY, HISTORY, request->explain ? attention[0] : NULL};
    const struct proto_unknown unknown = {"item", 0};
    require_json(json_encode_reply(&(struct proto_reply){.model = "fuzz",
                                                         .version = "1",
                                                         .user_state = "computed",
                                                         .candidates = &request->candidates,
                                                         .interest_count = 1,
                                                         .interests = &interest,
                                                         .unknown_count = 1,
                                                         .unknown = &unknown,
                                                         .result_count = count,
                                                         .results = results},
                                   &arena));
}

/* Checks that the members about the history are allowed together. */
static size_t check_histories(const struct proto_request *request) {
    require(!request->has_history_token ||
            (request->history_token.length >= 1 &&
             utf8_count(request->history_token.data, request->history_token.length) <= PROTO_HISTORY_TOKEN_MAX));
    require(!request->history.present || (!request->has_history_token && !request->history_append.present));
    size_t sum = read_table(&request->history) + read_table(&request->history_append);
    for (size_t i = 0; request->has_history_token && i < request->history_token.length; i++)
        sum += (size_t)request->history_token.data[i];
    return sum;
}

static void check_request(const struct proto_request *request) {
    require(!request->has_user_id || proto_is_user_id(request->user_id.data, request->user_id.length));
    require(request->candidates.present && request->candidates.rows > 0 && request->candidates.columns > 0);
    require(!request->has_history_token || request->has_user_id);
    require(!request->history_append.present || request->has_user_id);
    require(!request->has_event_id || request->history_append.present);
    require(!request->has_event_id || proto_is_event_id(request->event_id.data, request->event_id.length));
    volatile size_t sum = read_table(&request->user) + read_table(&request->context) + check_histories(request) +
                          read_table(&request->candidates);
    (void)sum;
    encode_reply(request);
}

static void check_problem(const struct problem *problem) {
    require(problem->kind == PROBLEM_INVALID_JSON || problem->kind == PROBLEM_INVALID_REQUEST ||
            problem->kind == PROBLEM_INVALID_USER_ID || problem->kind == PROBLEM_OUT_OF_MEMORY);
    require(problem->pointer[0] == '\0' || problem->pointer[0] == '/');
    require_json(json_encode_problem(problem, "id", &arena));
}

static void decode_with_little(const uint8_t *data, size_t size, bool decoded, enum problem_kind kind) {
    struct arena tight;
    struct proto_request request;
    struct problem problem;
    arena_init(&tight, little_memory(data, size, 65536), 0);
    bool again = json_decode_request((const char *)data, size, &tight, &request, &problem);
    require(again ? decoded : problem.kind == PROBLEM_OUT_OF_MEMORY || (!decoded && problem.kind == kind));
    arena_free(&tight);
}

static void decode_history(const uint8_t *data, size_t size) {
    struct proto_request request;
    struct problem problem = {.kind = PROBLEM_NONE};
    if (!json_decode_history((const char *)data, size, &arena, &request, &problem)) {
        check_problem(&problem);
        return;
    }
    require(request.history.present != request.history_append.present);
    require(!request.has_user_id && !request.candidates.present && !request.explain && request.top_k == 0);
    volatile size_t sum = check_histories(&request);
    (void)sum;
}

static void decode_samples(const uint8_t *data, size_t size) {
    const struct proto_sample *samples;
    size_t count;
    struct problem problem;
    if (!json_decode_samples((const char *)data, size, &arena, &samples, &count, &problem)) {
        check_problem(&problem);
        return;
    }
    require(count > 0);
    for (size_t i = 0; i < count; i++) {
        require(samples[i].score_count == samples[i].request.candidates.rows);
        check_request(&samples[i].request);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct proto_request request;
    struct problem problem = {.kind = PROBLEM_NONE};
    arena_reset(&arena);
    bool decoded = json_decode_request((const char *)data, size, &arena, &request, &problem);
    if (decoded)
        check_request(&request);
    else
        check_problem(&problem);
    decode_with_little(data, size, decoded, problem.kind);
    decode_history(data, size);
    decode_samples(data, size);
    return 0;
}
