/* test_request.c: a request's life from the bytes of its body to those of its reply: phases, scores, rank, explanation,
 * user states, limits of memory, a model whose scores are not numbers.
 */
#include "server/scoring/request.h"

#include "proto/json_decode.h"
#include "tests/unit/small_model.h"

#include <jansson.h>
#include <math.h>

#define USER       "{'country': 1, 'age': 0.5}"
#define CONTEXT    "{'month': -7, 'weather': [1, 0.5, -1]}"
#define HISTORY    "{'item': ['i0', 'i3'], 'dwell': [1, 2.5], 'shop': [0, 1, 2], 'page': [2, 1, 0]}"
#define CANDIDATES "{'item': ['i4', 'i1'], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}"
#define SHARED     "'user': " USER ", 'context': " CONTEXT
#define GOOD       "{" SHARED ", 'history': " HISTORY ", 'candidates': " CANDIDATES "}"
#define NO_TOKEN   "0123456789abcdef0123456789abcdef"

static char directory[64];
static struct dien_model *model;
static struct user_cache *cache;

/* ---- the only place that knows request.h's types */

static struct scorer scorer;

/* The outcome of one request. */
struct answer {
    enum problem_kind kind; /* PROBLEM_NONE: there is a reply */
    struct problem problem;
    char *body; /* malloc'ed */
    size_t size;
    json_t *reply; /* the body, where it is JSON */
    size_t candidates, behaviours;
    enum user_origin origin;
    bool has_miss;
    enum user_miss miss;
    double seconds[SCORING_PHASES];
};

static struct answer answer_of(const struct request *request) {
    struct answer answer = {.kind = request->problem.kind,
                            .problem = request->problem,
                            .candidates = request->summary.candidates,
                            .behaviours = request->summary.behaviours,
                            .origin = request->state.origin,
                            .has_miss = request->has_miss,
                            .miss = request->state.miss};
    memcpy(answer.seconds, request->summary.seconds, sizeof answer.seconds);
    if (answer.kind != PROBLEM_NONE)
        return answer;
    assert_non_null(request->reply.data);
    answer.size = request->reply.length;
    answer.body = malloc(answer.size + 1);
    assert_non_null(answer.body);
    memcpy(answer.body, request->reply.data, answer.size);
    if (request->format == PROTO_JSON) {
        answer.reply = json_loadb(answer.body, answer.size, 0, NULL);
        assert_non_null(answer.reply);
    }
    return answer;
}

static struct answer score_bytes(enum proto_format format, const char *body, size_t size) {
    struct request request;
    memset(&request, 0xff, sizeof request); /* whatever was there before is of no account */
    request.format = format;
    request.coding = PROTO_IDENTITY;
    request.body = body;
    request.size = size;
    request.event_id = (struct proto_string){NULL, 0};
    request.may_write = true;
    request.stored = NULL;
    request.path_user = (struct user_key){NULL, 0};
    request_score(&scorer, &request);
    return answer_of(&request);
}

static struct answer update_bytes(const char *user, enum proto_format format, const char *body, size_t size) {
    struct request request;
    memset(&request, 0xff, sizeof request);
    request.format = format;
    request.coding = PROTO_IDENTITY;
    request.body = body;
    request.size = size;
    request.event_id = (struct proto_string){NULL, 0};
    request.may_write = true;
    request.stored = NULL;
    request.path_user = (struct user_key){user, strlen(user)};
    request_update(&scorer, &request);
    return answer_of(&request);
}

static void start_scorer(struct user_cache *with, size_t memory) {
    const struct request_limits limits = {.max_candidates = 200, .max_history = 100, .memory = memory};
    assert_true(scorer_init(&scorer, model, &limits));
    scorer.cache = with;
    scorer.version = 1;
}

static void stop_scorer(void) {
    scorer_free(&scorer);
}

/* ---- helpers */

static int open_model(void **state) {
    (void)state;
    struct dien_error error = {""};
    json_decode_init();
    small_make(directory);
    model = dien_open(directory, &error);
    if (model == NULL)
        print_error("%s\n", error.message);
    return model != NULL ? 0 : -1;
}

static int close_model(void **state) {
    (void)state;
    dien_close(model);
    small_remove(directory);
    return 0;
}

static int start(void **state) {
    (void)state;
    cache = user_cache_new(1 << 21, 0);
    assert_non_null(cache);
    start_scorer(NULL, 1 << 24);
    return 0;
}

static int start_with_cache(void **state) {
    start(state);
    stop_scorer();
    start_scorer(cache, 1 << 24);
    return 0;
}

static int stop(void **state) {
    (void)state;
    stop_scorer();
    user_cache_free(cache);
    return 0;
}

static struct answer score(const char *text) {
    char quoted[16384];
    assert_true(strlen(text) < sizeof quoted);
    small_quotes(text, quoted);
    return score_bytes(PROTO_JSON, quoted, strlen(quoted));
}

static struct answer update(const char *user, const char *text) {
    char quoted[4096];
    assert_true(strlen(text) < sizeof quoted);
    small_quotes(text, quoted);
    return update_bytes(user, PROTO_JSON, quoted, strlen(quoted));
}

static void end(struct answer *answer) {
    json_decref(answer->reply);
    free(answer->body);
    answer->reply = NULL;
    answer->body = NULL;
}

static struct answer expect_scores(const char *text) {
    struct answer answer = score(text);
    if (answer.kind != PROBLEM_NONE)
        fail_msg("%s: %s: %s", text, answer.problem.pointer, answer.problem.detail);
    return answer;
}

/* The answer is this problem; ends it. */
static void assert_problem(struct answer answer, enum problem_kind kind, const char *pointer) {
    bool good = answer.kind == kind && answer.body == NULL && strcmp(answer.problem.pointer, pointer) == 0;
    end(&answer);
    if (!good)
        fail_msg("kind %d, \"%s\": %s", answer.problem.kind, answer.problem.pointer, answer.problem.detail);
}

static json_t *result(const struct answer *answer, size_t place) {
    json_t *results = json_object_get(answer->reply, "results");
    assert_true(place < json_array_size(results));
    return json_array_get(results, place);
}

static size_t result_count(const struct answer *answer) {
    return json_array_size(json_object_get(answer->reply, "results"));
}

static size_t index_of(const struct answer *answer, size_t place) {
    return (size_t)json_integer_value(json_object_get(result(answer, place), "index"));
}

static double score_of(const struct answer *answer, size_t place) {
    return json_real_value(json_object_get(result(answer, place), "score"));
}

static const json_t *history(const struct answer *answer, const char *member) {
    return json_object_get(json_object_get(answer->reply, "history"), member);
}

static const char *token_of(const struct answer *answer) {
    return json_string_value(history(answer, "token"));
}

static void assert_text(const json_t *text, const char *expected) {
    assert_non_null(text);
    assert_string_equal(json_string_value(text), expected);
}

/* Behaviours of an interest: those in the history, and those used. */
static void assert_interest(const struct answer *answer, const char *interest, int received, int length) {
    json_t *interests = json_object_get(json_object_get(answer->reply, "history"), "interests");
    const json_t *one = json_object_get(interests, interest);
    assert_non_null(one);
    assert_int_equal(json_integer_value(json_object_get(one, "received")), received);
    assert_int_equal(json_integer_value(json_object_get(one, "length")), length);
}

/* Two replies have the same results, bit by bit. */
static void assert_same_results(const struct answer *a, const struct answer *b) {
    assert_true(json_equal(json_object_get(a->reply, "results"), json_object_get(b->reply, "results")));
}

/* ---- phases and counts */

static void every_phase_of_scoring_takes_time(void **state) {
    (void)state;
    struct answer answer = expect_scores(GOOD);
    for (int phase = 0; phase < SCORING_PHASES; phase++) {
        if (!(answer.seconds[phase] > 0 && answer.seconds[phase] < 60))
            fail_msg("%s: %g s", request_phase_names[phase], answer.seconds[phase]);
    }
    end(&answer);
}

static void an_update_has_no_phase_of_scoring(void **state) {
    (void)state;
    struct answer answer = update("u", "{'history': " HISTORY "}");
    assert_int_equal(answer.kind, PROBLEM_NONE);
    assert_true(answer.seconds[PHASE_DECODE] > 0);
    assert_true(answer.seconds[PHASE_RESOLVE] > 0);
    assert_true(answer.seconds[PHASE_STATE] > 0);
    assert_true(answer.seconds[PHASE_SCORE] == 0);
    assert_true(answer.seconds[PHASE_ENCODE] > 0);
    end(&answer);
}

static void counts_of_a_good_request(void **state) {
    (void)state;
    struct answer answer = expect_scores(GOOD);
    assert_int_equal(answer.candidates, 2);
    assert_int_equal(answer.behaviours, 3); /* of the longest interest */
    assert_int_equal(answer.origin, USER_COMPUTED);
    assert_false(answer.has_miss);
    end(&answer);
    answer = expect_scores("{'user_id': 'u', " SHARED ", 'history': " HISTORY ", 'candidates': " CANDIDATES "}");
    assert_false(answer.has_miss); /* there is no cache to miss in */
    end(&answer);
    answer = update("u", "{'history': " HISTORY "}");
    assert_false(answer.has_miss);
    end(&answer);
}

static void the_reply_names_model_and_history(void **state) {
    (void)state;
    struct answer answer =
        expect_scores("{" SHARED ", 'history': {'item': ['i0', 'i1', 'i2', 'i3', 'i9', 'i0', 'i1', 'i2', 'i3'],"
                      " 'dwell': [1, 2, 3, 4, 5, 6, 7, 8, 9],"
                      " 'shop': [0, 1, 2, 0], 'page': [2, 1, 0, 0]}, 'candidates': " CANDIDATES "}");
    assert_text(json_object_get(answer.reply, "model"), "small");
    assert_text(json_object_get(answer.reply, "version"), "3");
    assert_text(json_object_get(answer.reply, "user_state"), "computed");
    assert_interest(&answer, "clicks", 9, 8);
    assert_interest(&answer, "views", 4, 3);
    assert_null(token_of(&answer));
    assert_int_equal(answer.behaviours, 9);
    json_t *unknown = json_object_get(answer.reply, "unknown");
    assert_int_equal(json_integer_value(json_object_get(unknown, "item")), 1);
    end(&answer);
}

static void a_body_that_is_no_request(void **state) {
    (void)state;
    assert_problem(score("{"), PROBLEM_INVALID_JSON, "");
    assert_problem(score("{'candidates': 1}"), PROBLEM_INVALID_REQUEST, "/candidates");
    struct answer answer = score("{" SHARED ", 'history': {}, 'candidates': {'item': [1], 'price': [1],"
                                 " 'position': [[1, 2]]}}");
    assert_int_equal(answer.candidates, 0);
    assert_int_equal(answer.behaviours, 0);
    assert_false(answer.has_miss);
    assert_true(answer.seconds[PHASE_DECODE] > 0);
    assert_true(answer.seconds[PHASE_SCORE] == 0);
    assert_problem(answer, PROBLEM_INVALID_REQUEST, "/candidates/item/0");
}

/* A user and a candidate of one field that the model does not have; a body that is no message; an empty history. */
static void protobuf_in_and_protobuf_out(void **state) {
    (void)state;
    static const char unknown[] = "\x12\x08\x0A\x06\x0A\x01x\x12\x01\x01\x3A\x08\x0A\x06\x0A\x01x\x12\x01\x01";
    assert_problem(score_bytes(PROTO_PROTOBUF, unknown, sizeof unknown - 1), PROBLEM_INVALID_REQUEST, "/user/x");
    assert_problem(score_bytes(PROTO_PROTOBUF, "{}", 2), PROBLEM_INVALID_REQUEST, "");
    assert_problem(update_bytes("u", PROTO_JSON, "\x22\x00", 2), PROBLEM_INVALID_JSON, "");
    struct answer answer = update_bytes("u", PROTO_PROTOBUF, "\x22\x00", 2);
    assert_int_equal(answer.kind, PROBLEM_NONE);
    assert_true(answer.size > 7);
    assert_memory_equal(answer.body, "\x0A\x05small", 7);
    end(&answer);
}

/* ---- scores */

/* GOOD with the rows that its ids have, through dien.h. */
static void score_directly(float scores[2]) {
    struct dien_scratch *scratch = dien_scratch_new(model);
    const struct dien_column behaviours[] = {
        {2, (const int32_t[]){1, 0}, NULL},    {2, NULL, (const float[]){1, -1, 4, -4}},
        {2, NULL, (const float[]){1, 2.5F}},   {2, (const int32_t[]){1, 4}, NULL},
        {3, (const int32_t[]){1, 2, 3}, NULL}, {3, (const int32_t[]){3, 2, 1}, NULL},
        {2, (const int32_t[]){1, 0}, NULL}};
    const struct dien_column user[] = {{1, (const int32_t[]){2}, NULL}, {1, NULL, (const float[]){0.5F}}};
    const struct dien_column context[] = {{1, (const int32_t[]){1}, NULL}, {1, NULL, (const float[]){1, 0.5F, -1}}};
    const struct dien_column candidates[] = {{2, (const int32_t[]){5, 2}, NULL},
                                             {2, (const int32_t[]){1, 2}, NULL},
                                             {2, NULL, (const float[]){5, -5, 2, -2}},
                                             {2, NULL, (const float[]){1, 2}},
                                             {2, NULL, (const float[]){1, 2, 3, 4}}};
    const struct dien_request direct = {{user}, {context}, {candidates}, 2};
    const struct dien_columns columns = {behaviours};
    size_t bytes = dien_user_bytes(model, (const size_t[]){2, 3, 2});
    void *memory = aligned_alloc(DIEN_ALIGNMENT, bytes);
    assert_non_null(scratch);
    assert_non_null(memory);
    dien_score(model, scratch, dien_user_build(model, scratch, &columns, memory), &direct, scores, NULL);
    free(memory);
    dien_scratch_free(scratch);
}

static void scores_are_those_of_the_model(void **state) {
    (void)state;
    float scores[2];
    score_directly(scores);
    struct answer answer = expect_scores(GOOD);
    assert_int_equal(result_count(&answer), 2);
    for (size_t i = 0; i < 2; i++) {
        float given = (float)score_of(&answer, i);
        assert_memory_equal(&given, &scores[index_of(&answer, i)], sizeof given);
    }
    assert_true(scores[0] != scores[1]);
    end(&answer);
}

/* A request of `count` candidates of these items, in turn. */
static void write_candidates(char *text, size_t size, const char *const *items, size_t kinds, size_t count,
                             const char *more) {
    size_t at = (size_t)snprintf(text, size, "{" SHARED ", %s 'candidates': {'item': [", more);
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s'%s'", i > 0 ? "," : "", items[i % kinds]);
    at += (size_t)snprintf(text + at, size - at, "], 'price': [");
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s1", i > 0 ? "," : "");
    at += (size_t)snprintf(text + at, size - at, "], 'position': [");
    for (size_t i = 0; i < count; i++)
        at += (size_t)snprintf(text + at, size - at, "%s[1,2]", i > 0 ? "," : "");
    at += (size_t)snprintf(text + at, size - at, "]}}");
    assert_true(at < size);
}

static void the_highest_score_is_first_and_ties_are_in_order(void **state) {
    (void)state;
    static const char *const items[] = {"i1", "i4", "i1", "i0", "i9"};
    enum { COUNT = 200 };
    char text[8192];
    bool seen[COUNT] = {false};
    size_t ties = 0;
    write_candidates(text, sizeof text, items, 5, COUNT, "'history': " HISTORY ",");
    struct answer answer = expect_scores(text);
    assert_int_equal(result_count(&answer), COUNT);
    for (size_t i = 0; i < COUNT; i++) {
        assert_false(seen[index_of(&answer, i)]);
        seen[index_of(&answer, i)] = true;
        if (i == 0)
            continue;
        assert_true(score_of(&answer, i - 1) >= score_of(&answer, i));
        if (score_of(&answer, i - 1) > score_of(&answer, i))
            continue;
        assert_true(index_of(&answer, i - 1) < index_of(&answer, i));
        ties++;
    }
    assert_true(ties >= COUNT - 5);
    end(&answer);
}

static void top_k_keeps_the_first_of_the_ranking(void **state) {
    (void)state;
    static const char *const items[] = {"i1", "i4", "i0"};
    static const size_t kept[] = {1, 2, 29, 30, 31, 1000};
    char text[4096], more[256];
    write_candidates(text, sizeof text, items, 3, 30, "'history': " HISTORY ",");
    struct answer all = expect_scores(text);
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        snprintf(more, sizeof more, "'top_k': %zu, 'history': " HISTORY ",", kept[i]);
        write_candidates(text, sizeof text, items, 3, 30, more);
        struct answer cut = expect_scores(text);
        assert_int_equal(result_count(&cut), kept[i] < 30 ? kept[i] : 30);
        for (size_t j = 0; j < result_count(&cut); j++)
            assert_true(json_equal(result(&cut, j), result(&all, j)));
        assert_int_equal(cut.candidates, 30);
        end(&cut);
    }
    end(&all);
}

static void a_score_that_is_not_a_number_is_the_models_fault(void **state) {
    (void)state;
    static const char *const prices[] = {"1, 2, 1e38, 1e38", "1e38, 1, 1, 1", "1, 1, 1, 1e38"};
    static const char *const first[] = {"candidate 2 ", "candidate 0 ", "candidate 3 "};
    for (size_t i = 0; i < 3; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "{" SHARED ", 'history': " HISTORY ", 'top_k': 1, 'candidates': {'item': ['i0', 'i1', 'i2', 'i3'],"
                 " 'price': [%s], 'position': [[1, 2], [1, 2], [1, 2], [1, 2]]}}",
                 prices[i]);
        struct answer answer = score(text);
        bool named = strstr(answer.problem.detail, first[i]) != NULL;
        assert_problem(answer, PROBLEM_MODEL_FAULT, "");
        assert_true(named);
    }
    struct answer answer = expect_scores(GOOD); /* the next request is scored as ever */
    end(&answer);
}

/* ---- explanation */

static void explain_gives_each_candidates_attention(void **state) {
    (void)state;
    struct answer plain = expect_scores(GOOD);
    struct answer answer =
        expect_scores("{'explain': true, " SHARED ", 'history': " HISTORY ", 'candidates': " CANDIDATES "}");
    for (size_t i = 0; i < 2; i++) {
        double sum = 0;
        json_t *attention = json_object_get(result(&answer, i), "attention");
        json_t *clicks = json_object_get(attention, "clicks");
        assert_int_equal(json_array_size(clicks), 2);
        for (size_t j = 0; j < 2; j++)
            sum += json_real_value(json_array_get(clicks, j));
        assert_true(fabs(sum - 1) < 1e-5);                /* a softmax */
        assert_null(json_object_get(attention, "views")); /* it has no attention */
        assert_true(score_of(&answer, i) == score_of(&plain, i));
        assert_int_equal(index_of(&answer, i), index_of(&plain, i));
        assert_null(json_object_get(result(&plain, i), "attention"));
    }
    end(&answer);
    end(&plain);
}

/* ---- memory */

static struct answer answer_in(size_t memory, bool scores, const char *text) {
    stop_scorer();
    start_scorer(NULL, memory);
    return scores ? score(text) : update("u", text);
}

/* With each limit, the answer is the whole reply or a problem, and the thread goes on. */
static void try_limits(bool scores, const char *text) {
    size_t refused = 0;
    struct answer whole = answer_in(1 << 24, scores, text), answer;
    while ((answer = answer_in(64 + 64 * refused, scores, text)).kind != PROBLEM_NONE) {
        assert_problem(answer, PROBLEM_OUT_OF_MEMORY, "");
        refused++;
    }
    assert_int_equal(answer.size, whole.size);
    assert_memory_equal(answer.body, whole.body, whole.size);
    assert_true(refused > 30);
    end(&answer);
    end(&whole);
}

/* One candidate of 200 is explained: attention takes more memory than the scores, the ranking and the reply. */
static const char explained[] =
    "'top_k': 1, 'explain': true, 'history': {'item': ['i0', 'i1', 'i2', 'i3', 'i4', 'i0', 'i1',"
    " 'i2'], 'dwell': [1, 2, 3, 4, 5, 6, 7, 8], 'shop': [], 'page': []},";

static void any_limit_of_memory(void **state) {
    (void)state;
    static const char *const items[] = {"i1", "i4"};
    char text[8192];
    try_limits(true,
               "{'explain': true, 'user_id': 'u', " SHARED ", 'history': " HISTORY ", 'candidates': " CANDIDATES "}");
    try_limits(false, "{'history': " HISTORY "}");
    write_candidates(text, sizeof text, items, 2, 200,
                     "'top_k': 1, 'history': {},"); /* a ranking larger than its reply */
    try_limits(true, text);
    write_candidates(text, sizeof text, items, 2, 200, explained);
    try_limits(true, text);
}

/* The token of the state that the cache holds of the user "u". */
static struct user_token held_token(void) {
    struct arena arena;
    struct user_copy copy = {0};
    arena_init(&arena, 0, 0);
    enum user_answer held = user_cache_peek(cache, (struct user_key){"u", 1}, 1, &arena, &copy);
    arena_free(&arena);
    assert_int_equal(held, USER_HELD);
    return copy.token;
}

/* With each limit of memory, the behaviours are appended if and only if the answer says so. */
static void try_appends(bool scores, const char *text) {
    size_t refused = 0;
    enum problem_kind kind = PROBLEM_OUT_OF_MEMORY;
    for (; kind != PROBLEM_NONE; refused++) {
        stop_scorer();
        start_scorer(cache, 1 << 24);
        struct answer made = update("u", "{'history': " HISTORY "}");
        assert_int_equal(made.kind, PROBLEM_NONE);
        struct user_token before = held_token();
        stop_scorer();
        start_scorer(cache, 64 + 64 * refused);
        scorer.limits.explain_held = true;
        char whole[8192];
        snprintf(whole, sizeof whole, text, token_of(&made));
        struct answer answer = scores ? score(whole) : update("u", whole);
        kind = answer.kind;
        struct user_token after = held_token();
        assert_int_equal(!user_token_equal(&before, &after), kind == PROBLEM_NONE);
        assert_true(kind == PROBLEM_NONE || kind == PROBLEM_OUT_OF_MEMORY);
        end(&made);
        end(&answer);
    }
    assert_true(refused > 30);
}

#define BY_TOKEN "'user_id': 'u', 'history_token': '%s', "
static void an_append_is_applied_if_it_is_answered(void **state) {
    (void)state;
    static const char *const items[] = {"i1", "i\\u00e9\\u0001"};
    char text[8192];
    try_appends(false, "{'history_append': " HISTORY "}");
    try_appends(true, "{" BY_TOKEN SHARED ", 'history_append': " HISTORY ", 'candidates': " CANDIDATES "}");
    write_candidates(text, sizeof text, items, 2, 100, BY_TOKEN "'history_append': " HISTORY ",");
    try_appends(true, text);
    write_candidates(text, sizeof text, items, 2, 100, BY_TOKEN "'explain': true, 'history_append': " HISTORY ",");
    try_appends(true, text);
}

/* Each request has all of the memory: what the one before it took is free again. */
static void memory_is_each_requests_own(void **state) {
    (void)state;
    stop_scorer();
    start_scorer(NULL, 1 << 16);
    for (size_t i = 0; i < 300; i++) {
        struct answer answer = i < 150 ? score(GOOD) : update("u", "{'history': " HISTORY "}");
        assert_int_equal(answer.kind, PROBLEM_NONE);
        end(&answer);
    }
}

/* ---- user states */

static void a_state_is_computed_then_cached_then_extended(void **state) {
    (void)state;
    static const char first[] = "{'user_id': 'u', " SHARED ", 'history': {'item': ['i0'], 'dwell': [1], 'shop': [0],"
                                " 'page': [1]}, 'candidates': " CANDIDATES "}";
    static const char second[] = "{'user_id': 'u', " SHARED ", 'history': {'item': ['i0', 'i1'], 'dwell': [1, 2],"
                                 " 'shop': [0], 'page': [1]}, 'candidates': " CANDIDATES "}";
    struct answer computed = expect_scores(first), cached = expect_scores(first), extended = expect_scores(second);
    assert_int_equal(computed.origin, USER_COMPUTED);
    assert_true(computed.has_miss);
    assert_int_equal(computed.miss, MISS_ABSENT);
    assert_int_equal(cached.origin, USER_CACHED);
    assert_false(cached.has_miss);
    assert_int_equal(extended.origin, USER_EXTENDED);
    assert_false(extended.has_miss);
    assert_text(json_object_get(cached.reply, "user_state"), "cached");
    assert_text(json_object_get(extended.reply, "user_state"), "extended");
    assert_same_results(&computed, &cached);
    assert_int_equal(strlen(token_of(&computed)), USER_TOKEN_TEXT);
    assert_string_equal(token_of(&computed), token_of(&cached));
    assert_string_not_equal(token_of(&computed), token_of(&extended));
    end(&cached);
    cached = expect_scores(first); /* the history is shorter than the one that is held */
    assert_int_equal(cached.origin, USER_COMPUTED);
    assert_true(cached.has_miss);
    assert_int_equal(cached.miss, MISS_SHORTER);
    end(&computed);
    end(&cached);
    end(&extended);
}

static void without_a_user_id_nothing_is_kept(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct answer answer = expect_scores(GOOD);
        assert_int_equal(answer.origin, USER_COMPUTED);
        assert_false(answer.has_miss);
        assert_null(token_of(&answer));
        end(&answer);
    }
}

/* The history is the one that is held, and stays as it is; a user whom nobody knows is scored without one. */
static void a_user_id_without_a_history_means_the_held_one(void **state) {
    (void)state;
    static const char whole[] = "{'user_id': 'u', " SHARED ", 'history': " HISTORY ", 'candidates': " CANDIDATES "}";
    static const char silent[] = "{'user_id': 'u', " SHARED ", 'candidates': " CANDIDATES "}";
    struct answer nobody = expect_scores(silent);
    struct answer first = expect_scores(whole);
    struct answer held = expect_scores(silent);
    struct answer empty = expect_scores("{" SHARED ", 'history': {}, 'candidates': " CANDIDATES "}");
    struct answer again = expect_scores(whole);
    assert_int_equal(nobody.origin, USER_NOBODY);
    assert_false(nobody.has_miss);
    assert_null(token_of(&nobody));
    assert_same_results(&nobody, &empty);
    assert_interest(&nobody, "clicks", 0, 0);
    assert_text(json_object_get(nobody.reply, "user_state"), "absent");
    assert_int_equal(first.origin, USER_COMPUTED);
    assert_int_equal(held.origin, USER_CACHED);
    assert_null(token_of(&held));
    assert_same_results(&held, &first);
    assert_interest(&first, "clicks", 2, 2);
    assert_interest(&held, "clicks", 2, 2);
    assert_int_equal(again.origin, USER_CACHED);
    end(&nobody);
    end(&first);
    end(&held);
    end(&empty);
    end(&again);
}

static void a_token_stands_for_the_history(void **state) {
    (void)state;
    char text[2048];
    struct answer whole = expect_scores(GOOD);
    struct answer made = update("u", "{'history': " HISTORY "}");
    assert_int_equal(made.kind, PROBLEM_NONE);
    assert_int_equal(made.candidates, 0);
    assert_int_equal(made.behaviours, 3);
    assert_true(made.has_miss);
    assert_null(json_object_get(made.reply, "results"));
    snprintf(text, sizeof text, "{'user_id': 'u', 'history_token': '%s', " SHARED ", 'candidates': " CANDIDATES "}",
             token_of(&made));
    struct answer by_token = expect_scores(text);
    assert_int_equal(by_token.origin, USER_CACHED);
    assert_int_equal(by_token.behaviours, 3); /* of the whole history, of which none were sent */
    assert_interest(&by_token, "clicks", 2, 2);
    assert_interest(&by_token, "views", 3, 3);
    assert_same_results(&whole, &by_token);
    end(&whole);
    end(&made);
    end(&by_token);
}

static void appended_behaviours_count_with_those_before(void **state) {
    (void)state;
    static const char more[] = "{'item': ['i1', 'i2', 'i4'], 'dwell': [3, 4, 5], 'shop': [], 'page': []}";
    char text[2048];
    struct answer made = update("u", "{'history': " HISTORY "}");
    snprintf(text, sizeof text,
             "{'user_id': 'u', 'history_token': '%s', 'history_append': %s, " SHARED ", 'candidates': " CANDIDATES "}",
             token_of(&made), more);
    struct answer appended = expect_scores(text);
    struct answer whole =
        expect_scores("{" SHARED ", 'history': {'item': ['i0', 'i3', 'i1', 'i2', 'i4'], 'dwell': [1, 2.5, 3, 4, 5],"
                      " 'shop': [0, 1, 2], 'page': [2, 1, 0]}, 'candidates': " CANDIDATES "}");
    assert_interest(&appended, "clicks", 5, 5);
    assert_interest(&appended, "views", 3, 3);
    assert_int_equal(appended.behaviours, 5);
    assert_same_results(&appended, &whole);
    end(&appended);
    assert_problem(score(text), PROBLEM_UNKNOWN_TOKEN, "/history_token"); /* its state has been replaced */
    end(&made);
    end(&whole);
}

/* The scores show only after the append that the model cannot score: the state before it is held again. */
static void an_append_that_cannot_be_scored_is_taken_back(void **state) {
    (void)state;
    static const char silent[] = "{'user_id': 'u', " SHARED ", 'candidates': " CANDIDATES "}";
    char text[1024];
    struct answer made = update("u", "{'history': " HISTORY "}");
    struct answer before = expect_scores(silent);
    snprintf(text, sizeof text,
             "{" BY_TOKEN SHARED ", 'history_append': " HISTORY ", 'candidates': {'item': ['i0', 'i1'],"
             " 'price': [1e38, 1], 'position': [[1, 2], [1, 2]]}}",
             token_of(&made));
    assert_problem(score(text), PROBLEM_MODEL_FAULT, "");
    assert_problem(score(text), PROBLEM_MODEL_FAULT, ""); /* the token names the state that is held again */
    struct answer after = expect_scores(silent);
    assert_int_equal(after.origin, USER_CACHED);
    assert_interest(&after, "clicks", 2, 2);
    assert_same_results(&before, &after);
    end(&made);
    end(&before);
    end(&after);
}

/* Whoever has only the user's id gets no token, and whoever has a token gets no attention over the history behind it,
 * unless the operator allows it. */
static void a_held_history_is_not_explained(void **state) {
    (void)state;
    char text[2048];
    struct answer made = update("u", "{'history': " HISTORY "}");
    struct answer nothing = update("u", "{'history_append': {}}");
    assert_int_equal(nothing.origin, USER_CACHED);
    assert_null(token_of(&nothing));
    snprintf(text, sizeof text, "{'history_token': '%s', 'history_append': {}}", token_of(&made));
    struct answer named = update("u", text);
    assert_string_equal(token_of(&named), token_of(&made));
    snprintf(text, sizeof text,
             "{'user_id': 'u', 'history_token': '%s', 'explain': true, " SHARED ", 'candidates': " CANDIDATES "}",
             token_of(&made));
    assert_problem(score(text), PROBLEM_EXPLAIN_HELD, "/explain");
    scorer.limits.explain_held = true;
    struct answer allowed = expect_scores(text);
    assert_non_null(json_object_get(json_array_get(json_object_get(allowed.reply, "results"), 0), "attention"));
    end(&made);
    end(&nothing);
    end(&named);
    end(&allowed);
}

static void tokens_that_name_nothing(void **state) {
    (void)state;
    static const char *const tokens[] = {NO_TOKEN, "0123456789ABCDEF0123456789abcdef", "x",
                                         "0123456789abcdef0123456789abcde", "g123456789abcdef0123456789abcdef"};
    struct answer made = update("u", "{'history': " HISTORY "}");
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        char text[1024];
        snprintf(text, sizeof text, "{'user_id': 'u', 'history_token': '%s', " SHARED ", 'candidates': " CANDIDATES "}",
                 tokens[i]);
        assert_problem(score(text), PROBLEM_UNKNOWN_TOKEN, "/history_token");
    }
    end(&made);
}

static void nothing_to_append_to(void **state) {
    (void)state;
    assert_problem(update("nobody", "{'history_append': " HISTORY "}"), PROBLEM_NO_USER_STATE, "");
    assert_problem(update("nobody", "{'history_token': '" NO_TOKEN "', 'history_append': " HISTORY "}"),
                   PROBLEM_UNKNOWN_TOKEN, "/history_token");
}

/* Of the path's user, whoever else is held. */
static void an_update_is_the_users_own(void **state) {
    (void)state;
    struct answer a = update("a", "{'history': " HISTORY "}"), b = update("b", "{'history': " HISTORY "}");
    struct answer again = update("a", "{'history': " HISTORY "}");
    assert_int_equal(b.origin, USER_COMPUTED);
    assert_string_not_equal(token_of(&a), token_of(&b));
    assert_int_equal(again.origin, USER_CACHED);
    assert_false(again.has_miss);
    end(&a);
    end(&b);
    end(&again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_phase_of_scoring_takes_time, start, stop),
        cmocka_unit_test_setup_teardown(an_update_has_no_phase_of_scoring, start, stop),
        cmocka_unit_test_setup_teardown(counts_of_a_good_request, start, stop),
        cmocka_unit_test_setup_teardown(the_reply_names_model_and_history, start, stop),
        cmocka_unit_test_setup_teardown(a_body_that_is_no_request, start, stop),
        cmocka_unit_test_setup_teardown(protobuf_in_and_protobuf_out, start, stop),
        cmocka_unit_test_setup_teardown(scores_are_those_of_the_model, start, stop),
        cmocka_unit_test_setup_teardown(the_highest_score_is_first_and_ties_are_in_order, start, stop),
        cmocka_unit_test_setup_teardown(top_k_keeps_the_first_of_the_ranking, start, stop),
        cmocka_unit_test_setup_teardown(a_score_that_is_not_a_number_is_the_models_fault, start, stop),
        cmocka_unit_test_setup_teardown(explain_gives_each_candidates_attention, start, stop),
        cmocka_unit_test_setup_teardown(any_limit_of_memory, start, stop),
        cmocka_unit_test_setup_teardown(an_append_is_applied_if_it_is_answered, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(memory_is_each_requests_own, start, stop),
        cmocka_unit_test_setup_teardown(a_state_is_computed_then_cached_then_extended, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(without_a_user_id_nothing_is_kept, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(a_user_id_without_a_history_means_the_held_one, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(a_token_stands_for_the_history, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(appended_behaviours_count_with_those_before, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(an_append_that_cannot_be_scored_is_taken_back, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(a_held_history_is_not_explained, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(tokens_that_name_nothing, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(nothing_to_append_to, start_with_cache, stop),
        cmocka_unit_test_setup_teardown(an_update_is_the_users_own, start_with_cache, stop),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
