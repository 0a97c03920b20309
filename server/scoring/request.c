/* request.c: the life of one request, in order: decode, resolve, user state, score, rank, encode.
 *
 * The only file that knows both the wire (proto/) and the model (model/dien.h).
 */
#include "server/scoring/request.h"

#include "model/dien.h"
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "proto/protobuf.h"
#include "server/scoring/resolve.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

const char *const request_phase_names[REQUEST_PHASES] = {"decode", "resolve", "state", "score", "encode"};

enum { ARENA_KEEP = 4 << 20 }; /* bytes of arena that a scorer keeps between requests */

bool scorer_init(struct scorer *scorer, const struct dien_model *model, const struct request_limits *limits) {
    *scorer = (struct scorer){.model = model, .limits = *limits};
    arena_init(&scorer->arena, limits->memory, ARENA_KEEP);
    scorer->scratch = dien_scratch_new(model);
    return scorer->scratch != NULL;
}

void scorer_free(struct scorer *scorer) {
    dien_scratch_free(scorer->scratch);
    arena_free(&scorer->arena);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static bool out_of_memory(const struct scorer *scorer, struct problem *problem) {
    problem_set(problem, PROBLEM_OUT_OF_MEMORY, "", "The request needs more memory than the %zu bytes it may have.",
                scorer->limits.memory);
    return false;
}

/* ---- the user state */

_Static_assert((size_t)PROTO_USER_ID_MAX <= (size_t)USER_ID_MAX, "what the wire lets through the cache can hold");

/* A request that says nothing of the user's history, not even that there is none, changes nothing of what is held. */
static struct user_key key_of(const struct proto_request *request) {
    bool says = request->history.present || request->has_history_token;
    return request->has_user_id && says ? (struct user_key){request->user_id.data, request->user_id.length}
                                        : (struct user_key){NULL, 0};
}

/* What a client can act on: to send the history. */
static bool unknown_state(const struct proto_request *request, struct problem *problem) {
    if (request->has_history_token)
        problem_set(problem, PROBLEM_UNKNOWN_TOKEN, "/history_token",
                    "This server does not hold the state that the token names; send the history.");
    else
        problem_set(problem, PROBLEM_NO_USER_STATE, "",
                    "This server holds no state of the user that could be appended to; send the history.");
    return false;
}

static bool get_state(struct scorer *scorer, const struct proto_request *request, struct user_key key,
                      const struct dien_columns *behaviours, struct user_state *state, struct problem *problem) {
    struct state_builder builder = {scorer->model, scorer->scratch, &scorer->arena, scorer->cache, scorer->version};
    struct state_query query = {.key = key,
                                .append = request->has_history_token || request->history_append.present,
                                .has_token = request->has_history_token,
                                .behaviours = behaviours};
    if (query.has_token && !user_token_read(request->history_token, &query.token))
        return unknown_state(request, problem);
    switch (user_state_get(&builder, &query, state)) {
    case USER_READY:
        break;
    case USER_UNKNOWN:
        return unknown_state(request, problem);
    case USER_NO_ROOM:
        return out_of_memory(scorer, problem);
    }
    return true;
}

/* What the request sent of an interest, or what the state that it names was made of. */
static size_t received(const struct proto_request *request, const struct resolved *resolved,
                       const struct dien_interest *interest, const struct dien_user *user, size_t place) {
    return request->has_history_token || request->history_append.present
               ? dien_user_received(user, place)
               : resolved->columns[DIEN_BEHAVIOUR].column[interest->history[0]].count;
}

/* What the reply says of each interest. */
static bool describe_interests(struct scorer *scorer, const struct proto_request *request,
                               const struct resolved *resolved, const struct dien_user *user,
                               struct request_scored *scored) {
    const struct dien_interest *interests;
    size_t count = dien_interests(scorer->model, &interests);
    struct proto_interest *described = arena_array(&scorer->arena, count, sizeof *described);
    if (described == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        described[i] = (struct proto_interest){.name = interests[i].name,
                                               .received = received(request, resolved, &interests[i], user, i),
                                               .length = dien_user_length(user, i)};
    scored->interests = described;
    scored->interest_count = count;
    return true;
}

/* Resolve, and get the user state: what both kinds of request start with. */
static bool prepare(struct scorer *scorer, const struct proto_request *request, struct user_key key,
                    struct resolved *resolved, struct request_scored *scored, struct problem *problem) {
    double start = now();
    *scored = (struct request_scored){0};
    if (!resolve(scorer->model, &scorer->limits, &scorer->arena, request, resolved, problem))
        return false;
    scored->unknown = resolved->unknown;
    scored->unknown_count = resolved->unknown_count;
    scored->candidate_count = resolved->candidate_count;
    scored->behaviours = resolved->behaviours;
    double ready = now();
    scored->seconds[PHASE_RESOLVE] = ready - start;
    if (!get_state(scorer, request, key, &resolved->columns[DIEN_BEHAVIOUR], &scored->state, problem))
        return false;
    scored->seconds[PHASE_STATE] = now() - ready;
    return describe_interests(scorer, request, resolved, scored->state.user, scored) || out_of_memory(scorer, problem);
}

/* ---- the scores */

/* Room for the attention of every candidate, interest by interest. NULL when memory is out. */
static float **room_for_attention(struct scorer *scorer, struct request_scored *scored) {
    const struct dien_interest *interests;
    size_t count = dien_interests(scorer->model, &interests);
    float **attention = arena_array(&scorer->arena, count, sizeof *attention);
    struct proto_interest *described = arena_array(&scorer->arena, count, sizeof *described);
    if (attention == NULL || described == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        described[i] = scored->interests[i];
        attention[i] = NULL;
        if (!interests[i].attends)
            continue;
        attention[i] = arena_array(&scorer->arena, scored->candidate_count * described[i].length, sizeof **attention);
        if (attention[i] == NULL)
            return NULL;
        described[i].attention = attention[i];
    }
    scored->interests = described;
    return attention;
}

/* A model whose tables hold what is not a number must not answer with it. */
static bool check_scores(const float *scores, size_t count, struct problem *problem) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(scores[i])) {
            problem_set(problem, PROBLEM_MODEL_FAULT, "", "The model gives candidate %zu a score that is not a number.",
                        i);
            return false;
        }
    return true;
}

static void score(struct scorer *scorer, const struct scoring *scoring) {
    if (scorer->score_parallel != NULL)
        scorer->score_parallel(scorer, scoring);
    else
        dien_score(scoring->model, scorer->scratch, scoring->user, scoring->request, scoring->scores,
                   scoring->attention);
}

bool request_run(struct scorer *scorer, const struct proto_request *request, struct request_scored *scored,
                 struct problem *problem) {
    struct resolved resolved;
    if (!prepare(scorer, request, key_of(request), &resolved, scored, problem))
        return false;
    float *scores = arena_array(&scorer->arena, resolved.candidate_count, sizeof *scores);
    float **attention = request->explain ? room_for_attention(scorer, scored) : NULL;
    if (scores == NULL || (request->explain && attention == NULL))
        return out_of_memory(scorer, problem);
    double start = now();
    struct dien_request candidates = {.user = resolved.columns[DIEN_USER],
                                      .context = resolved.columns[DIEN_CONTEXT],
                                      .candidates = resolved.columns[DIEN_CANDIDATE],
                                      .candidate_count = resolved.candidate_count};
    score(scorer, &(struct scoring){scorer->model, scored->state.user, &candidates, scores, attention});
    scored->scores = scores;
    scored->seconds[PHASE_SCORE] = now() - start;
    return check_scores(scores, resolved.candidate_count, problem);
}

/* ---- the reply */

/* Highest score first; ties in the order of the request. */
static int by_rank(const void *left, const void *right) {
    const struct proto_result *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static struct proto_result *rank(struct arena *arena, const struct request_scored *scored) {
    struct proto_result *results = arena_array(arena, scored->candidate_count, sizeof *results);
    if (results == NULL)
        return NULL;
    for (size_t i = 0; i < scored->candidate_count; i++)
        results[i] = (struct proto_result){.index = i, .score = scored->scores[i]};
    qsort(results, scored->candidate_count, sizeof *results, by_rank);
    return results;
}

/* The reply of either kind; `results` is NULL where there are none. */
static struct proto_string encode(struct scorer *scorer, enum proto_format format, const struct proto_request *request,
                                  const struct request_scored *scored, const struct proto_result *results) {
    char token[USER_TOKEN_TEXT];
    bool cut = request->top_k > 0 && request->top_k < scored->candidate_count;
    struct proto_reply reply = {.model = dien_name(scorer->model),
                                .version = dien_version(scorer->model),
                                .user_state = user_origin_names[scored->state.origin],
                                .candidates = &request->candidates,
                                .interest_count = scored->interest_count,
                                .interests = scored->interests,
                                .unknown_count = scored->unknown_count,
                                .unknown = scored->unknown,
                                .result_count = cut ? request->top_k : scored->candidate_count,
                                .results = results};
    if (scored->state.kept) {
        user_token_write(&scored->state.token, token);
        reply.token = (struct proto_string){token, sizeof token};
    }
    return format == PROTO_PROTOBUF ? protobuf_encode_reply(&reply, &scorer->arena)
                                    : json_encode_reply(&reply, &scorer->arena);
}

/* What is counted and logged of a request that was good so far. */
static void describe_outcome(const struct request_scored *scored, bool has_key, struct request_outcome *outcome) {
    outcome->candidates = scored->candidate_count;
    for (size_t i = 0; i < scored->interest_count; i++)
        if (scored->interests[i].received > outcome->behaviours)
            outcome->behaviours = scored->interests[i].received;
    outcome->origin = scored->state.origin;
    outcome->has_miss = has_key && scored->state.origin == USER_COMPUTED;
    outcome->miss = scored->state.miss;
    outcome->unknown = scored->unknown;
    outcome->unknown_count = scored->unknown_count;
    for (int phase = PHASE_RESOLVE; phase < PHASE_ENCODE; phase++)
        outcome->seconds[phase] = scored->seconds[phase];
}

static void reply(struct scorer *scorer, enum proto_format format, const struct proto_request *request,
                  const struct request_scored *scored, const struct proto_result *results,
                  struct request_outcome *outcome) {
    double start = now();
    outcome->body = encode(scorer, format, request, scored, results);
    if (outcome->body.data == NULL)
        out_of_memory(scorer, &outcome->problem);
    outcome->seconds[PHASE_ENCODE] = now() - start;
}

void request_score(struct scorer *scorer, enum proto_format format, const char *body, size_t size,
                   struct request_outcome *outcome) {
    struct proto_request request;
    struct request_scored scored;
    *outcome = (struct request_outcome){0};
    arena_reset(&scorer->arena);

    double start = now();
    bool good = format == PROTO_PROTOBUF
                    ? protobuf_decode_request(body, size, &scorer->arena, &request, &outcome->problem)
                    : json_decode_request(body, size, &scorer->arena, &request, &outcome->problem);
    outcome->seconds[PHASE_DECODE] = now() - start;
    if (!good || !request_run(scorer, &request, &scored, &outcome->problem))
        return;
    describe_outcome(&scored, scorer->cache != NULL && request.has_user_id, outcome);
    const struct proto_result *results = rank(&scorer->arena, &scored);
    if (results == NULL)
        out_of_memory(scorer, &outcome->problem);
    else
        reply(scorer, format, &request, &scored, results, outcome);
}

void request_update(struct scorer *scorer, struct user_key key, enum proto_format format, const char *body, size_t size,
                    struct request_outcome *outcome) {
    struct proto_request request;
    struct request_scored scored;
    struct resolved resolved;
    *outcome = (struct request_outcome){0};
    arena_reset(&scorer->arena);

    double start = now();
    bool good = format == PROTO_PROTOBUF
                    ? protobuf_decode_history(body, size, &scorer->arena, &request, &outcome->problem)
                    : json_decode_history(body, size, &scorer->arena, &request, &outcome->problem);
    outcome->seconds[PHASE_DECODE] = now() - start;
    if (!good || !prepare(scorer, &request, key, &resolved, &scored, &outcome->problem))
        return;
    describe_outcome(&scored, scorer->cache != NULL, outcome);
    reply(scorer, format, &request, &scored, NULL, outcome);
}
