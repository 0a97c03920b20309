/* request.c: the life of one request, in order: decode, resolve, user state, score, rank, encode.
 *
 * The two stories, request_score() and request_update(), stand at the end of the file. Each verb is a function above
 * them that returns false with request->problem set.
 */
#include "server/scoring/request.h"

#include "model/dien.h"
#include "proto/content_coding.h"
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "proto/protobuf.h"
#include "server/base/clock.h"
#include "server/scoring/resolve.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *const request_phase_names[REQUEST_PHASES] = {
    [PHASE_DECODE] = "decode", [PHASE_RESOLVE] = "resolve", [PHASE_STATE] = "state", [PHASE_SCORE] = "score",
    [PHASE_ENCODE] = "encode", [PHASE_QUEUE] = "queue",     [PHASE_TOTAL] = "total",
};

const char *const state_drop_names[STATE_DROPS] = {
    [DROP_NONE] = "", [DROP_DELETED] = "deleted", [DROP_REWOUND] = "rewound"};

enum { ARENA_KEEP = 4 << 20 }; /* bytes of arena that a scorer keeps between requests */

void scorer_init_unbound(struct scorer *scorer, const struct request_limits *limits) {
    *scorer = (struct scorer){.limits = *limits};
    arena_init(&scorer->arena, limits->memory, ARENA_KEEP);
}

bool scorer_init(struct scorer *scorer, const struct dien_model *model, const struct request_limits *limits) {
    scorer_init_unbound(scorer, limits);
    scorer->model = model;
    scorer->scratch = dien_scratch_new(model);
    return scorer->scratch != NULL;
}

void scorer_free(struct scorer *scorer) {
    dien_scratch_free(scorer->scratch);
    arena_free(&scorer->arena);
}

static bool out_of_memory(const struct scorer *scorer, struct request *request) {
    problem_set(&request->problem, PROBLEM_OUT_OF_MEMORY, "",
                "The request needs more memory than the %zu bytes it may have.", scorer->limits.memory);
    return false;
}

/* ---- decode, resolve */

static bool decode(struct scorer *scorer, struct request *request) {
    bool is_update = request->path_user.id != NULL;
    struct proto_string body = {request->body, request->size};
    if (!content_decode(request->coding, scorer->limits.max_body, &scorer->arena, &body, &request->problem))
        return false;
    if (request->format == PROTO_PROTOBUF)
        return (is_update ? protobuf_decode_history
                          : protobuf_decode_request)(body.data, body.length, scorer->limits.strict_protobuf,
                                                     &scorer->arena, &request->decoded, &request->problem);
    return (is_update ? json_decode_history : json_decode_request)(body.data, body.length, &scorer->arena,
                                                                   &request->decoded, &request->problem);
}

/* The store has applied the request's change, so that it is to be answered in any case. */
static bool is_stored(const struct request *request) {
    return request->stored != NULL && request->stored->want == STORED_APPEND && !request->stored->changed;
}

/* A request whose time is over is not begun. */
static bool is_in_time(struct scorer *scorer, struct request *request) {
    (void)scorer;
    uint64_t own = request->arrived + clock_from_seconds(1e-3 * request->decoded.timeout_ms);
    if (request->decoded.timeout_ms > 0 && (request->deadline == 0 || own < request->deadline))
        request->deadline = own;
    if (is_stored(request))
        return true;
    if (request->deadline == 0 || clock_now() < request->deadline)
        return true;
    problem_set(&request->problem, PROBLEM_DEADLINE_PASSED, "", "The time that the request gave ran out: %.3f s.",
                clock_seconds(request->deadline - request->arrived));
    return false;
}

static bool choose_model(struct scorer *scorer, struct request *request) {
    if (scorer->choose_model != NULL)
        scorer->choose_model(scorer, request);
    return true;
}

static bool weigh(struct scorer *scorer, struct request *request) {
    return scorer->weigh == NULL || scorer->weigh(scorer, request);
}

static bool resolve_ids(struct scorer *scorer, struct request *request) {
    return resolve(scorer->model, &scorer->limits, &scorer->arena, &request->decoded, &request->resolved,
                   &request->problem);
}

/* ---- words of a history */

_Static_assert((size_t)PROTO_USER_ID_BYTES <= (size_t)USER_ID_MAX, "the cache can hold every id that the wire accepts");

/* The client can act on it by sending the history. */
static bool unknown_state(struct request *request) {
    if (request->decoded.has_history_token)
        problem_set(&request->problem, PROBLEM_UNKNOWN_TOKEN, "/history_token",
                    "This server does not hold the state that the token names; send the history.");
    else
        problem_set(&request->problem, PROBLEM_NO_USER_STATE, "",
                    "This server holds no state of the user that could be appended to; send the history.");
    return false;
}

/* The request names a user and says nothing of a history, not even that there is none: it means the one that is held.
 */
static bool means_held(const struct request *request) {
    const struct proto_request *decoded = &request->decoded;
    return decoded->has_user_id && request->path_user.id == NULL && !decoded->history.present &&
           !decoded->has_history_token && !decoded->history_append.present;
}

/* The server holds the history, or its beginning. */
static bool is_held(const struct request *request) {
    return request->stored_counts != NULL || request->decoded.has_history_token ||
           request->decoded.history_append.present || means_held(request);
}

static bool refuse(struct request *request, enum problem_kind kind, const char *pointer, const char *reason) {
    problem_set(&request->problem, kind, pointer, "%s", reason);
    return false;
}

/* The user whose history the request is about; id NULL: it names none. */
struct user_key request_user(const struct request *request) {
    if (request->path_user.id != NULL || !request->decoded.has_user_id)
        return request->path_user;
    return (struct user_key){request->decoded.user_id.data, request->decoded.user_id.length};
}

/* What the reply says of the history, where there is a store. */
static void tell_history(const struct scorer *scorer, struct request *request, struct proto_reply *reply) {
    const struct stored_history *stored = request->stored;
    if (!scorer->limits.has_store || request->state.user == NULL)
        return;
    if (request->stored_counts != NULL) {
        reply->history_origin = request->summary.history_origin = "store";
        reply->history_count = stored->count;
        return;
    }
    bool held = request->decoded.has_history_token || means_held(request);
    if (request->source.revision != 0) { /* the state is of the record that the store has */
        reply->history_origin = request->summary.history_origin = "store";
        reply->history_count = request->state.source.count;
        return;
    }
    reply->history_origin = request->state.origin == USER_NOBODY ? "none" : held ? "state" : "request";
    request->summary.history_origin = reply->history_origin;
    reply->history_count = stored_received(scorer->model, request->interests);
    reply->stale = stored != NULL && stored->failed;
}

/* ---- room for the answer */

/* The most behaviours of an interest that the request's state can have. */
static size_t length_most(const struct request *request, const struct dien_interest *interest) {
    size_t sent = request->resolved.columns[DIEN_BEHAVIOUR].column[interest->history[0]].count;
    return !is_held(request) && sent < interest->max_length ? sent : interest->max_length;
}

/* The attention of every candidate, interest by interest. */
static bool make_room_for_attention(struct scorer *scorer, struct request *request, size_t count) {
    const struct dien_interest *interests;
    dien_interests(scorer->model, &interests);
    request->attention = arena_array(&scorer->arena, count, sizeof *request->attention);
    if (request->attention == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        request->attention[i] = NULL;
        if (!interests[i].attends)
            continue;
        request->attention[i] = arena_array(
            &scorer->arena, request->resolved.candidate_count * request->interests[i].length, sizeof(float));
        request->interests[i].attention = request->attention[i];
        if (request->attention[i] == NULL)
            return false;
    }
    return true;
}

static size_t result_count(const struct request *request, size_t scored) {
    return request->decoded.top_k > 0 && request->decoded.top_k < scored ? request->decoded.top_k : scored;
}

size_t request_result_count(const struct request *request) {
    return result_count(request, request->scored);
}

/* A reply with the results of the first `scored` candidates, without the token. */
static struct proto_reply reply_of(const struct scorer *scorer, const struct request *request, size_t scored) {
    size_t all = request->resolved.candidate_count;
    return (struct proto_reply){.model = dien_name(scorer->model),
                                .version = dien_version(scorer->model),
                                .user_state = request->summary.user_state,
                                .candidates = &request->decoded.candidates,
                                .interest_count = request->interest_count,
                                .interests = request->interests,
                                .unknown_count = request->resolved.unknown_count,
                                .unknown = request->resolved.unknown,
                                .coverage = request->decoded.partial && all > 0 ? (double)scored / (double)all : 0,
                                .result_count = result_count(request, scored),
                                .results = request->results,
                                .room = request->room};
}

/* Sets the reply's memory aside, in the arena and with whoever keeps the reply. */
static bool reserve_reply(struct scorer *scorer, struct request *request) {
    struct proto_reply reply = reply_of(scorer, request, request->resolved.candidate_count);
    reply.token = (struct proto_string){"", USER_TOKEN_TEXT};
    reply.user_state = user_origin_names[USER_COMPUTED]; /* none is longer */
    reply.interest_count = dien_interests(scorer->model, &(const struct dien_interest *){NULL});
    request->room = request->format == PROTO_PROTOBUF ? protobuf_reply_most(&reply) : json_reply_most(&reply);
    return arena_reserve(&scorer->arena, request->room) &&
           (scorer->make_room == NULL || scorer->make_room(scorer, request, request->room));
}

/* All memory that is needed after the user's state. What changes a state must not fail afterwards, so the room for its
 * reply is set aside as well. A whole history that comes with POST /score changes nothing but the cache. */
static bool make_room(struct scorer *scorer, struct request *request) {
    const struct dien_interest *interests;
    size_t count = dien_interests(scorer->model, &interests), candidates = request->resolved.candidate_count;
    request->interests = arena_array(&scorer->arena, count, sizeof *request->interests);
    request->scores = arena_array(&scorer->arena, candidates, sizeof *request->scores);
    bool scores = request->path_user.id == NULL;
    if (scores)
        request->results = arena_array(&scorer->arena, candidates, sizeof *request->results);
    if (request->interests == NULL || request->scores == NULL || (scores && request->results == NULL))
        return out_of_memory(scorer, request);
    for (size_t i = 0; i < count; i++)
        request->interests[i] =
            (struct proto_interest){.name = interests[i].name, .length = length_most(request, &interests[i])};
    if (request->decoded.explain && !make_room_for_attention(scorer, request, count))
        return out_of_memory(scorer, request);
    bool acts = !scores || request->decoded.history_append.present;
    return !acts || reserve_reply(scorer, request) || out_of_memory(scorer, request);
}

/* ---- user state */

/* What the reply says of each interest, and the longest history received. */
static void describe_interests(const struct scorer *scorer, struct request *request) {
    const struct dien_interest *interests;
    const struct dien_user *user = request->state.user;
    size_t count = dien_interests(scorer->model, &interests);
    for (size_t i = 0; i < count; i++) {
        size_t received = request->stored_counts != NULL ? request->stored_counts[i]
                          : is_held(request)
                              ? dien_user_received(user, i)
                              : request->resolved.columns[DIEN_BEHAVIOUR].column[interests[i].history[0]].count;
        request->interests[i].received = received;
        request->interests[i].length = dien_user_length(user, i);
        if (received > request->summary.behaviours)
            request->summary.behaviours = received;
    }
    request->interest_count = count;
}

/* Attention shows behaviour after behaviour which of them a candidate is like. Over a history that the server holds, it
 * would tell the history to whoever has the user's token. */
static bool check_explain(const struct scorer *scorer, struct request *request, bool is_secret) {
    if (!request->decoded.explain || !is_secret || scorer->limits.explain_held)
        return true;
    problem_set(&request->problem, PROBLEM_EXPLAIN_HELD, "/explain",
                "This server explains only a history that the request brings; send the history.");
    return false;
}

static struct state_builder builder_of(struct scorer *scorer) {
    return (struct state_builder){scorer->model, scorer->scratch, &scorer->arena, scorer->cache, scorer->version};
}

static struct state_query query_of(const struct scorer *scorer, const struct request *request) {
    const struct proto_request *decoded = &request->decoded;
    struct state_query query = {.append = decoded->has_history_token || decoded->history_append.present,
                                .held = means_held(request),
                                .has_token = decoded->has_history_token,
                                .behaviours = &request->resolved.columns[DIEN_BEHAVIOUR],
                                .source = request->source,
                                .any_source =
                                    !scorer->limits.has_store || (request->stored != NULL && request->stored->failed),
                                .received = request->stored_counts,
                                .delete_epoch = request->stored != NULL ? request->stored->delete_epoch : 0,
                                .epoch_is_known = request->stored != NULL};
    query.key = request_user(request);
    return query;
}

static bool find_state(struct scorer *scorer, struct request *request) {
    const struct proto_request *decoded = &request->decoded;
    struct state_builder builder = builder_of(scorer);
    struct state_query query = query_of(scorer, request);
    if (!check_explain(scorer, request, query.has_token || request->stored_counts != NULL))
        return false;
    if (query.has_token && !user_token_read(decoded->history_token, &query.token))
        return unknown_state(request);
    switch (user_state_get(&builder, &query, &request->state)) {
    case USER_READY:
        break;
    case USER_UNKNOWN:
        if (!query.held)
            return unknown_state(request);
        request->wants = STORED_GET; /* the state has gone meanwhile, so that the whole record is needed */
        request->known = 0;
        return false;
    case USER_NO_ROOM:
        return out_of_memory(scorer, request);
    }
    if (!check_explain(scorer, request, query.held && request->state.origin == USER_CACHED))
        return false;
    if (request->stored != NULL && request->stored->failed && request->state.origin == USER_NOBODY)
        return refuse(request, PROBLEM_HISTORIES_UNAVAILABLE, "", request->stored->detail);
    request->has_miss = scorer->cache != NULL && request->state.origin == USER_COMPUTED &&
                        (request->path_user.id != NULL || decoded->has_user_id);
    request->summary.user_state = user_origin_names[request->state.origin];
    describe_interests(scorer, request);
    return true;
}

/* A request that fails after all has not been applied: the state before its append is put back. */
static bool take_back(struct scorer *scorer, const struct request *request) {
    struct state_builder builder = builder_of(scorer);
    struct state_query query = query_of(scorer, request);
    user_state_take_back(&builder, &query, &request->state);
    return false;
}

/* ---- the history store */

/* An append that names a token must name the state that is held now, and that must be of the store's record, which the
 * store compares. An event may have been applied before, so that the token is no longer the held one: the store knows.
 */
static bool names_held_state(struct scorer *scorer, struct request *request) {
    struct user_copy held = {0};
    struct user_token token;
    if (!request->decoded.has_history_token)
        return true;
    request->known = HISTORY_NO_REVISION;
    if (scorer->cache == NULL || !user_token_read(request->decoded.history_token, &token))
        return request->decoded.has_event_id || unknown_state(request);
    enum user_answer answer =
        user_cache_peek(scorer->cache, request_user(request), scorer->version, &scorer->arena, &held);
    if (answer == USER_NO_MEMORY)
        return out_of_memory(scorer, request);
    if (answer == USER_HELD && user_token_equal(&held.token, &token) && held.source.revision != 0)
        request->known = held.source.revision;
    return request->known != HISTORY_NO_REVISION || request->decoded.has_event_id || unknown_state(request);
}

/* The event's id of the body or of the header, which must not be two. */
static bool find_event_id(struct request *request) {
    struct proto_request *decoded = &request->decoded;
    const struct proto_string *header = &request->event_id;
    if (header->length == 0)
        return true;
    if (decoded->has_event_id && !proto_string_is(&decoded->event_id, header->data, header->length))
        return refuse(request, PROBLEM_INVALID_REQUEST, "/event_id", "The header Idempotency-Key is another event_id.");
    decoded->has_event_id = true;
    decoded->event_id = *header;
    return true;
}

/* Without a store, appends go to states in memory, which remember no events. */
static bool check_without_store(struct request *request) {
    const struct proto_request *decoded = &request->decoded;
    if (decoded->has_event_id)
        return refuse(request, PROBLEM_INVALID_REQUEST, "/event_id",
                      "This server has no history store, so it cannot tell events by their ids.");
    if (request->path_user.id == NULL && decoded->history_append.present && !decoded->has_history_token)
        return refuse(request, PROBLEM_INVALID_REQUEST, "/history_append",
                      "A history_append needs the history_token of the history that it is appended to.");
    return true;
}

/* Everything that can be refused is refused before the store changes. */
static bool want_append(struct scorer *scorer, struct request *request) {
    const struct proto_request *decoded = &request->decoded;
    bool append = decoded->history_append.present;
    const struct proto_table *table = append ? &decoded->history_append : &decoded->history;
    struct proto_string none = {"", 0};
    if (!request->may_write)
        return refuse(request, PROBLEM_WRITE_REFUSED, append ? "/history_append" : "/history",
                      "This server changes histories only for those who have the token of --user-write.");
    if (append && !decoded->has_event_id && !decoded->has_history_token)
        return refuse(request, PROBLEM_INVALID_REQUEST, "/history_append",
                      "A history_append needs an event_id, or the header Idempotency-Key, so that it can be repeated.");
    if (!resolve_ids(scorer, request) || !make_room(scorer, request) ||
        !check_explain(scorer, request, request->decoded.explain) || !names_held_state(scorer, request))
        return false;
    if (!stored_change(scorer->model, table, append ? "history_append" : "history",
                       decoded->has_event_id ? decoded->event_id : none, scorer->limits.behaviour_bytes, &scorer->arena,
                       &request->change, &request->problem))
        return false;
    request->replaces = !append;
    request->wants = STORED_APPEND;
    return false;
}

static void drop_state(struct scorer *scorer, struct request *request, enum state_drop reason) {
    if (scorer->cache != NULL && user_cache_drop_source(scorer->cache, request_user(request)))
        request->drop = reason;
}

/* A whole history in place of another may have fewer behaviours, too, but it is a later change. */
static void drop_if_rewound(struct scorer *scorer, struct request *request) {
    const struct user_source *now = &request->source;
    if (scorer->cache == NULL)
        return;
    struct user_source held = user_cache_source(scorer->cache, request_user(request), scorer->version);
    if (held.revision != 0 && now->count < held.count && now->changed_seconds <= held.changed_seconds)
        drop_state(scorer, request, DROP_REWOUND);
}

/* Whether the state in memory is of a record that the store had a moment ago. Otherwise the store is asked whether it
 * has that record still. */
static bool is_fresh(struct scorer *scorer, struct request *request) {
    if (scorer->cache == NULL)
        return false;
    struct user_source held = user_cache_source(scorer->cache, request_user(request), scorer->version);
    request->known = held.count < UINT32_MAX ? held.revision : 0; /* the reply has the exact count */
    bool fresh = request->known != 0 && held.checked != 0 && clock_now() - held.checked < scorer->limits.freshness;
    if (fresh)
        request->source.revision = held.revision;
    return fresh;
}

/* The store's answer in place of what the request says of its history. */
static bool take_stored(struct scorer *scorer, struct request *request) {
    struct proto_request *decoded = &request->decoded;
    const struct stored_history *stored = request->stored;
    if (stored->want == STORED_GET && stored->record == NULL) {
        request->source = (struct user_source){.revision = stored->unchanged ? stored->known : 0,
                                               .checked = stored->unchanged ? stored->asked : 0};
        if (!stored->unchanged && !stored->failed)
            drop_state(scorer, request, DROP_DELETED);
        return true; /* the state in memory, if there is one */
    }
    if (stored->changed)
        return unknown_state(request);
    struct proto_string record = {stored->record, stored->record_size};
    struct user_source *source = &request->source;
    uint64_t count;
    if (!stored_table(scorer->model, record, &scorer->arena, &decoded->history, &request->stored_counts, &count,
                      source))
        return refuse(request, PROBLEM_HISTORIES_UNAVAILABLE, "",
                      "The user's history in the store cannot be read: another encoding, or damaged.");
    source->checked = stored->asked;
    if (stored->want == STORED_GET)
        request->stored->count = count;
    drop_if_rewound(scorer, request);
    decoded->history_is_stored = true;
    decoded->has_history_token = decoded->history_append.present = false;
    return true;
}

/* True: the request goes on. False: it is refused, or wants the store's answer first. */
static bool consult_store(struct scorer *scorer, struct request *request) {
    const struct proto_request *decoded = &request->decoded;
    bool changes = decoded->history_append.present || (request->path_user.id != NULL && decoded->history.present);
    if (scorer->limits.refuses_appends && request->path_user.id == NULL && decoded->history_append.present)
        return refuse(request, PROBLEM_WRITE_REFUSED, "/history_append",
                      "This server changes histories at its admin address alone (--public-users).");
    /* Without a store a whole history may have the header: to send it again changes nothing. */
    if (changes && (scorer->limits.has_store || decoded->history_append.present) && !find_event_id(request))
        return false;
    if (!scorer->limits.has_store)
        return check_without_store(request);
    if (request->stored != NULL)
        return take_stored(scorer, request);
    if (changes)
        return want_append(scorer, request);
    if (means_held(request) && !is_fresh(scorer, request))
        request->wants = STORED_GET;
    return request->wants == STORED_NOTHING;
}

/* ---- score */

static bool score(struct scorer *scorer, struct request *request) {
    const struct resolved *resolved = &request->resolved;
    request->candidates = (struct dien_request){.user = resolved->columns[DIEN_USER],
                                                .context = resolved->columns[DIEN_CONTEXT],
                                                .candidates = resolved->columns[DIEN_CANDIDATE],
                                                .candidate_count = resolved->candidate_count};
    request->scored = resolved->candidate_count;
    request->runs_to_end = request->decoded.history_append.present || is_stored(request);
    uint64_t start = clock_now();
    if (scorer->score_parallel != NULL) {
        scorer->score_parallel(scorer, request);
    } else {
        dien_score(scorer->model, scorer->scratch, request->state.user, &request->candidates, request->scores,
                   request->attention);
        request->scoring_seconds = clock_seconds(clock_now() - start);
    }
    if (request->departed)
        return take_back(scorer, request);
    if (request->scored < resolved->candidate_count && (!request->decoded.partial || request->scored == 0)) {
        problem_set(&request->problem, PROBLEM_DEADLINE_PASSED, "",
                    "The time that the request gave, %.3f s, ran out after %zu of %zu candidates.",
                    clock_seconds(request->deadline - request->arrived), request->scored, resolved->candidate_count);
        return take_back(scorer, request);
    }
    /* A model whose tables hold NaN must not answer with it. */
    for (size_t i = 0; i < request->scored; i++) {
        if (!isfinite(request->scores[i])) {
            problem_set(&request->problem, PROBLEM_MODEL_FAULT, "",
                        "The model gives candidate %zu a score that is not a number.", i);
            return take_back(scorer, request);
        }
    }
    request->summary.candidates = request->scored;
    return true;
}

/* ---- rank, encode */

/* Highest score first; ties in the order of the request. */
static int by_rank(const void *left, const void *right) {
    const struct proto_result *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

static bool rank(struct scorer *scorer, struct request *request) {
    (void)scorer;
    for (size_t i = 0; i < request->scored; i++)
        request->results[i] = (struct proto_result){.index = i, .score = request->scores[i]};
    qsort(request->results, request->scored, sizeof *request->results, by_rank);
    return true;
}

static bool encode(struct scorer *scorer, struct request *request) {
    char token[USER_TOKEN_TEXT];
    struct proto_reply reply = reply_of(scorer, request, request->scored);
    if (request->state.token_is_due) {
        user_token_write(&request->state.token, token);
        reply.token = (struct proto_string){token, sizeof token};
    }
    tell_history(scorer, request, &reply);
    arena_release(&scorer->arena);
    request->reply = request->format == PROTO_PROTOBUF ? protobuf_encode_reply(&reply, &scorer->arena)
                                                       : json_encode_reply(&reply, &scorer->arena);
    return request->reply.data != NULL || out_of_memory(scorer, request);
}

/* ---- the stories */

typedef bool step(struct scorer *scorer, struct request *request);

static bool timed(enum request_phase phase, step *take, struct scorer *scorer, struct request *request) {
    uint64_t start = clock_now();
    bool good = take(scorer, request);
    request->summary.seconds[phase] = clock_seconds(clock_now() - start);
    return good;
}

/* Keeps what was asked, and forgets all else. */
static void begin(struct scorer *scorer, struct request *request) {
    *request = (struct request){.format = request->format,
                                .coding = request->coding,
                                .body = request->body,
                                .size = request->size,
                                .path_user = request->path_user,
                                .arrived = request->arrived != 0 ? request->arrived : clock_now(),
                                .deadline = request->deadline,
                                .event_id = request->event_id,
                                .may_write = request->may_write,
                                .stored = request->stored};
    arena_reset(&scorer->arena);
}

/* The change was applied before the fault: the problem must not read as if it were not. */
static void tell_applied(struct request *request) {
    char *detail = request->problem.detail;
    size_t length = strlen(detail), size = sizeof request->problem.detail;
    if (request->problem.kind != PROBLEM_NONE && is_stored(request))
        snprintf(detail + length, size - length, "%sThe history is changed in the store all the same.",
                 length > 0 ? " " : "");
}

void request_score(struct scorer *scorer, struct request *request) {
    begin(scorer, request);
    if (timed(PHASE_DECODE, decode, scorer, request) &&       /* the body to plain structs */
        is_in_time(scorer, request) &&                        /* somebody still waits */
        choose_model(scorer, request) &&                      /* the live one, or the candidate for its users */
        weigh(scorer, request) &&                             /* it is as light as it looked */
        consult_store(scorer, request) &&                     /* the history that is meant is here */
        timed(PHASE_RESOLVE, resolve_ids, scorer, request) && /* ids to rows of the model's tables */
        make_room(scorer, request) &&                         /* nothing after the state fails for memory */
        timed(PHASE_STATE, find_state, scorer, request) &&    /* cached, extended, or computed */
        timed(PHASE_SCORE, score, scorer, request) &&         /* each candidate's click probability */
        rank(scorer, request))                                /* best first */
        timed(PHASE_ENCODE, encode, scorer, request);         /* the reply's bytes */
    tell_applied(request);
}

void request_update(struct scorer *scorer, struct request *request) {
    begin(scorer, request);
    if (timed(PHASE_DECODE, decode, scorer, request) && is_in_time(scorer, request) && choose_model(scorer, request) &&
        consult_store(scorer, request) && timed(PHASE_RESOLVE, resolve_ids, scorer, request) &&
        make_room(scorer, request) && timed(PHASE_STATE, find_state, scorer, request))
        timed(PHASE_ENCODE, encode, scorer, request);
    tell_applied(request);
}

void request_rescore(struct scorer *scorer, struct request *request) {
    begin(scorer, request);
    if (decode(scorer, request) && consult_store(scorer, request) && resolve_ids(scorer, request) &&
        make_room(scorer, request) && find_state(scorer, request))
        score(scorer, request);
}

bool request_has_history(const struct request *request) {
    return request->stored_counts != NULL || !is_held(request) || request->state.origin == USER_NOBODY;
}

bool request_run(struct scorer *scorer, struct request *request) {
    return timed(PHASE_RESOLVE, resolve_ids, scorer, request) && make_room(scorer, request) &&
           timed(PHASE_STATE, find_state, scorer, request) && timed(PHASE_SCORE, score, scorer, request);
}
