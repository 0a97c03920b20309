/* user_state.c: read the cache, compare, compute the missing part in a single flight, store. */
#include "server/users/user_state.h"

#include "proto/digits.h"

#include <string.h>

const char *const user_origin_names[USER_ORIGINS] = {"computed", "extended", "cached", "absent"};
const char *const user_miss_names[USER_MISSES] = {"absent", "expired", "version", "shorter", "slid", "edited"};

/* Behaviours of interest i in these columns. */
static size_t count_of(const struct dien_interest *interests, const struct dien_columns *behaviours, size_t i) {
    return behaviours->column[interests[i].history[0]].count;
}

/* Behaviours of interest i that the whole history had ever. */
static size_t received_of(const struct dien_interest *interests, const struct state_query *query, size_t i) {
    return query->received != NULL ? query->received[i] : count_of(interests, query->behaviours, i);
}

/* Compute the state of a whole history: all of it, or the part after `prefix`, a state of its beginning. */
static enum user_outcome compute(const struct state_builder *builder, const struct state_query *query,
                                 const struct dien_user *prefix, struct user_state *state) {
    const struct dien_columns *history = query->behaviours;
    const struct dien_interest *interests;
    size_t count = dien_interests(builder->model, &interests);
    size_t *counts = arena_array(builder->arena, count, sizeof *counts);
    if (counts == NULL)
        return USER_NO_ROOM;
    for (size_t i = 0; i < count; i++)
        counts[i] = count_of(interests, history, i);
    void *memory = arena_alloc(builder->arena, dien_user_bytes(builder->model, counts));
    if (memory == NULL)
        return USER_NO_ROOM;
    struct dien_user *user = prefix != NULL
                                 ? dien_user_continue(builder->model, builder->scratch, prefix, history, memory)
                                 : dien_user_build(builder->model, builder->scratch, history, memory);
    for (size_t i = 0; i < count; i++)
        dien_user_set_received(user, i, received_of(interests, query, i));
    state->user = user;
    state->origin = prefix != NULL ? USER_EXTENDED : USER_COMPUTED;
    return USER_READY;
}

/* Use a held state as it is. */
static enum user_outcome restore(const struct state_builder *builder, const struct user_copy *held,
                                 struct user_state *state) {
    const struct dien_user *core = held->state;
    void *memory = arena_alloc(builder->arena, dien_user_size(core));
    if (memory == NULL)
        return USER_NO_ROOM;
    *state = (struct user_state){.user = dien_user_restore(builder->model, core, memory),
                                 .origin = USER_CACHED,
                                 .kept = true,
                                 .token = held->token,
                                 .source = held->source,
                                 .token_is_due = true};
    return USER_READY;
}

/* End a flight: with the state that was made, or without one after an error. */
static enum user_outcome finish(const struct state_builder *builder, struct single_flight *flight,
                                enum user_outcome outcome, struct user_state *state) {
    if (outcome == USER_READY)
        state->kept = state->token_is_due = user_cache_store(builder->cache, flight, builder->version, state->user,
                                                             dien_user_core_bytes(state->user), &state->token);
    else
        single_flight_cancel(builder->cache, flight);
    return outcome;
}

/* ---- a whole history */

/* Whether the state counts as many behaviours as were sent, cut ones included: histories of different lengths may keep
 * the same behaviours. */
static bool same_received(const struct state_builder *builder, const struct dien_user *core,
                          const struct state_query *query) {
    const struct dien_interest *interests;
    size_t count = dien_interests(builder->model, &interests);
    for (size_t i = 0; i < count; i++)
        if (dien_user_received(core, i) != received_of(interests, query, i))
            return false;
    return true;
}

/* Take the held state if it is the history's; otherwise compute the missing part in a single flight and store it.
 *
 * When another thread has stored a state meanwhile, read again. After one such turn without a usable state, or after
 * two turns, compute without storing: where requests of one user disagree about the history, waiting longer helps
 * nobody and holds up a scoring thread. */
static enum user_outcome get_whole(const struct state_builder *builder, const struct state_query *query,
                                   struct user_state *state) {
    struct user_copy held = {.delete_epoch = query->delete_epoch, .epoch_is_known = query->epoch_is_known};
    struct single_flight flight;
    for (int turn = 0;; turn++) {
        enum user_answer answer = user_cache_read(builder->cache, query->key, builder->version, builder->arena, &held);
        if (answer == USER_NO_MEMORY)
            return USER_NO_ROOM;
        enum dien_match match = DIEN_OTHER;
        if (answer == USER_HELD)
            match = dien_user_compare(builder->model, held.state, query->behaviours);
        bool same = match == DIEN_SAME && same_received(builder, held.state, query);
        if (same && query->source.revision != 0)
            user_cache_set_source(builder->cache, query->key, &held.token, &query->source);
        if (same || (match == DIEN_SAME && turn > 0))
            return restore(builder, &held, state);

        state->miss = answer == USER_ABSENT          ? MISS_ABSENT
                      : answer == USER_EXPIRED       ? MISS_EXPIRED
                      : answer == USER_OTHER_VERSION ? MISS_VERSION
                      : match == DIEN_SHORTER        ? MISS_SHORTER
                      : match == DIEN_SLID           ? MISS_WINDOW_MOVED
                                                     : MISS_EDITED;
        const struct dien_user *prefix = match == DIEN_SAME || match == DIEN_PREFIX ? held.state : NULL;
        if (turn == 2 || (turn == 1 && prefix == NULL))
            return compute(builder, query, prefix, state);

        if (single_flight_begin(builder->cache, query->key, builder->version, &held, &flight)) {
            enum user_outcome outcome = compute(builder, query, prefix, state);
            flight.source = query->source;
            if (match == DIEN_SAME)
                state->origin = USER_CACHED; /* only the count of received behaviours is new */
            return finish(builder, &flight, outcome, state);
        }
    }
}

/* ---- an append */

/* Read the state that the request appends to. */
static enum user_outcome read_base(const struct state_builder *builder, const struct state_query *query,
                                   struct user_copy *held) {
    enum user_answer answer = user_cache_read(builder->cache, query->key, builder->version, builder->arena, held);
    if (answer == USER_NO_MEMORY)
        return USER_NO_ROOM;
    bool is_base = answer == USER_HELD && (!query->has_token || user_token_equal(&held->token, &query->token));
    return is_base ? USER_READY : USER_UNKNOWN;
}

/* Read the base, begin a flight, extend the base by the new behaviours, store.
 *
 * If another thread stores a state between the reading and the flight, the state that a token named is gone. Without a
 * token the append is to the newest state: begin the flight unconditionally and read again, since nobody can replace
 * the state during the flight. */
static enum user_outcome get_appended(const struct state_builder *builder, const struct state_query *query,
                                      struct user_state *state) {
    struct user_copy *held = arena_alloc(builder->arena, sizeof *held);
    struct single_flight flight;
    if (held == NULL)
        return USER_NO_ROOM;
    *held = (struct user_copy){0};
    enum user_outcome outcome = read_base(builder, query, held);
    if (outcome != USER_READY)
        return outcome;

    const struct dien_interest *interests;
    size_t count = dien_interests(builder->model, &interests), added = 0;
    for (size_t i = 0; i < count; i++)
        added += count_of(interests, query->behaviours, i);
    if (added == 0) {
        outcome = restore(builder, held, state);
        state->token_is_due = query->has_token; /* else the user's id alone would give the token */
        return outcome;
    }

    if (!single_flight_begin(builder->cache, query->key, builder->version, held, &flight)) {
        if (query->has_token)
            return USER_UNKNOWN;
        single_flight_begin_always(builder->cache, query->key, held, &flight);
        outcome = read_base(builder, query, held);
        if (outcome != USER_READY)
            return finish(builder, &flight, outcome, state);
    }

    void *memory =
        arena_alloc(builder->arena, dien_user_extended_bytes(builder->model, held->state, query->behaviours));
    if (memory == NULL)
        return finish(builder, &flight, USER_NO_ROOM, state);
    enum dien_extension extension =
        dien_user_extend(builder->model, builder->scratch, held->state, query->behaviours, memory);
    state->user = memory;
    state->origin = extension == DIEN_EXTENDED ? USER_EXTENDED : USER_COMPUTED;
    state->miss = MISS_WINDOW_MOVED; /* the reason if it was computed */
    outcome = finish(builder, &flight, USER_READY, state);
    state->replaced = state->kept ? held : NULL;
    return outcome;
}

/* Nobody has learned the new token, so whoever has built on the new state meant the user's newest. */
void user_state_take_back(const struct state_builder *builder, const struct state_query *query,
                          const struct user_state *state) {
    const struct user_copy stored = {.held = true, .was_read = true, .token = state->token};
    struct single_flight flight;
    if (state->replaced != NULL && single_flight_begin(builder->cache, query->key, builder->version, &stored, &flight))
        user_cache_put_back(builder->cache, &flight, builder->version, state->replaced);
}

/* ---- no word of a history */

/* The request proved nothing, so it learns no token. Nothing is kept for a user whom nobody knows. */
static enum user_outcome get_held(const struct state_builder *builder, const struct state_query *query, bool cached,
                                  struct user_state *state) {
    struct user_copy held = {0};
    enum user_outcome outcome = cached ? read_base(builder, query, &held) : USER_UNKNOWN;
    bool usable = outcome == USER_READY && (query->any_source || held.source.revision == query->source.revision);
    if (outcome == USER_NO_ROOM || (!usable && query->source.revision != 0))
        return outcome == USER_NO_ROOM ? outcome : USER_UNKNOWN;
    if (usable && query->source.checked != 0) {
        held.source.checked = query->source.checked;
        user_cache_set_source(builder->cache, query->key, &held.token, &held.source);
    }
    outcome = usable ? restore(builder, &held, state) : compute(builder, query, NULL, state);
    *state =
        (struct user_state){.user = state->user, .origin = usable ? USER_CACHED : USER_NOBODY, .source = state->source};
    return outcome;
}

enum user_outcome user_state_get(const struct state_builder *builder, const struct state_query *query,
                                 struct user_state *state) {
    *state = (struct user_state){0};
    bool cached = builder->cache != NULL && query->key.id != NULL;
    if (query->held)
        return get_held(builder, query, cached, state);
    if (query->append)
        return cached ? get_appended(builder, query, state) : USER_UNKNOWN;
    if (cached)
        return get_whole(builder, query, state);
    return compute(builder, query, NULL, state);
}

/* ---- tokens */

void user_token_write(const struct user_token *token, char text[USER_TOKEN_TEXT]) {
    for (size_t i = 0; i < USER_TOKEN_TEXT; i++)
        text[i] = digits_hex((token->word[i / 16] >> (60 - 4 * (i % 16))) & 15);
}

bool user_token_read(struct proto_string text, struct user_token *token) {
    *token = (struct user_token){{0, 0}};
    if (text.length != USER_TOKEN_TEXT)
        return false;
    for (size_t i = 0; i < USER_TOKEN_TEXT; i++) {
        int value = digits_hex_value(text.data[i]);
        if (value < 0 || digits_hex((unsigned)value) != text.data[i]) /* tokens are in lower case */
            return false;
        token->word[i / 16] = token->word[i / 16] << 4 | (uint64_t)value;
    }
    return true;
}
