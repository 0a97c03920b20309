/* request.c: the life of one scoring request, in order: decode, resolve, user state, score, rank, encode.
 *
 * The only file that knows both the wire (proto/) and the model (model/dien.h).
 */
#include "server/request.h"

#include "model/dien.h"
#include "proto/decode.h"
#include "proto/encode.h"
#include "server/resolve.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

const char *const request_phase_names[REQUEST_PHASES] = {"decode", "state", "score", "encode"};

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

/* The user state of the request's history. NULL when memory is out. */
static struct dien_user *build_user(struct scorer *scorer, const struct resolved *resolved) {
    const struct dien_interest *interests;
    size_t count = dien_interests(scorer->model, &interests);
    size_t *received = arena_array(&scorer->arena, count, sizeof *received);
    if (received == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        received[i] = resolved->columns[DIEN_BEHAVIOUR].column[interests[i].history[0]].count;
    void *memory = arena_alloc(&scorer->arena, dien_user_bytes(scorer->model, received));
    return memory != NULL ? dien_user_build(scorer->model, scorer->scratch, &resolved->columns[DIEN_BEHAVIOUR], memory)
                          : NULL;
}

/* What the reply says of each interest, with room for the attention of every candidate where the request asks for it.
 */
static bool describe_interests(struct scorer *scorer, const struct resolved *resolved, const struct dien_user *user,
                               bool explain, struct request_scored *scored, float ***attention) {
    const struct dien_interest *interests;
    size_t count = dien_interests(scorer->model, &interests);
    struct proto_interest *described = arena_array(&scorer->arena, count, sizeof *described);
    *attention = explain ? arena_array(&scorer->arena, count, sizeof **attention) : NULL;
    if (described == NULL || (explain && *attention == NULL))
        return false;
    for (size_t i = 0; i < count; i++) {
        described[i] = (struct proto_interest){
            .name = interests[i].name,
            .received = resolved->columns[DIEN_BEHAVIOUR].column[interests[i].history[0]].count,
            .length = dien_user_length(user, i),
        };
        if (!explain || !interests[i].attends)
            continue;
        (*attention)[i] =
            arena_array(&scorer->arena, scored->candidate_count * described[i].length, sizeof ***attention);
        if ((*attention)[i] == NULL)
            return false;
        described[i].attention = (*attention)[i];
    }
    scored->interests = described;
    scored->interest_count = count;
    return true;
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

bool request_run(struct scorer *scorer, const struct proto_request *request, struct request_scored *scored,
                 struct problem *problem) {
    double start = now();
    struct resolved resolved;
    *scored = (struct request_scored){0};
    if (!resolve(scorer->model, &scorer->limits, &scorer->arena, request, &resolved, problem))
        return false;
    scored->unknown = resolved.unknown;
    scored->unknown_count = resolved.unknown_count;
    scored->candidate_count = resolved.candidate_count;
    scored->behaviours = resolved.behaviours;

    struct dien_user *user = build_user(scorer, &resolved);
    float *scores = arena_array(&scorer->arena, resolved.candidate_count, sizeof *scores);
    float **attention;
    if (user == NULL || scores == NULL ||
        !describe_interests(scorer, &resolved, user, request->explain, scored, &attention))
        return out_of_memory(scorer, problem);
    double built = now();

    struct dien_request candidates = {.user = resolved.columns[DIEN_USER],
                                      .context = resolved.columns[DIEN_CONTEXT],
                                      .candidates = resolved.columns[DIEN_CANDIDATE],
                                      .candidate_count = resolved.candidate_count};
    dien_score(scorer->model, scorer->scratch, user, &candidates, scores, attention);
    scored->scores = scores;
    scored->state_seconds = built - start;
    scored->score_seconds = now() - built;
    return check_scores(scores, resolved.candidate_count, problem);
}

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

static struct proto_string encode(struct scorer *scorer, const struct proto_request *request,
                                  const struct request_scored *scored, const char *user_state) {
    struct proto_result *results = rank(&scorer->arena, scored);
    if (results == NULL)
        return (struct proto_string){0};
    bool cut = request->top_k > 0 && request->top_k < scored->candidate_count;
    struct proto_reply reply = {.model = dien_name(scorer->model),
                                .version = dien_version(scorer->model),
                                .user_state = user_state,
                                .candidates = &request->candidates,
                                .interest_count = scored->interest_count,
                                .interests = scored->interests,
                                .unknown_count = scored->unknown_count,
                                .unknown = scored->unknown,
                                .result_count = cut ? request->top_k : scored->candidate_count,
                                .results = results};
    return proto_encode_reply(&reply, &scorer->arena);
}

void request_score(struct scorer *scorer, const char *body, size_t size, struct request_outcome *outcome) {
    struct proto_request request;
    struct request_scored scored;
    *outcome = (struct request_outcome){0};
    arena_reset(&scorer->arena);

    double start = now();
    bool good = proto_decode_request(body, size, &scorer->arena, &request, &outcome->problem);
    outcome->seconds[PHASE_DECODE] = now() - start;
    if (!good || !request_run(scorer, &request, &scored, &outcome->problem))
        return;
    outcome->user_state = "computed";
    outcome->candidates = scored.candidate_count;
    outcome->behaviours = scored.behaviours;
    outcome->unknown = scored.unknown;
    outcome->unknown_count = scored.unknown_count;
    outcome->seconds[PHASE_STATE] = scored.state_seconds;
    outcome->seconds[PHASE_SCORE] = scored.score_seconds;

    start = now();
    outcome->body = encode(scorer, &request, &scored, outcome->user_state);
    if (outcome->body.data == NULL)
        out_of_memory(scorer, &outcome->problem);
    outcome->seconds[PHASE_ENCODE] = now() - start;
}
