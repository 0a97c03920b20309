/* user_state.c: look, compare, and compute what is missing, one thread a user. */
#include "server/users/user_state.h"

const char *const user_origin_names[USER_ORIGINS] = {"computed", "extended", "cached"};
const char *const user_miss_names[USER_MISSES] = {"absent", "expired", "version", "shorter", "slid", "edited"};

/* ---- states */

/* Memory for a state of the whole history. NULL when the arena's is out. */
static void *room_for(const struct state_builder *builder, const struct dien_columns *history) {
    const struct dien_interest *interests;
    size_t count = dien_interests(builder->model, &interests);
    size_t *counts = arena_array(builder->arena, count, sizeof *counts);
    if (counts == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++)
        counts[i] = history->column[interests[i].history[0]].count;
    return arena_alloc(builder->arena, dien_user_bytes(builder->model, counts));
}

static enum user_miss miss_of(enum user_answer answer) {
    return answer == USER_EXPIRED ? MISS_EXPIRED : answer == USER_OTHER_VERSION ? MISS_VERSION : MISS_ABSENT;
}

static enum user_miss mismatch_of(enum dien_match match) {
    return match == DIEN_SHORTER ? MISS_SHORTER : match == DIEN_SLID ? MISS_WINDOW_MOVED : MISS_EDITED;
}

/* The history's state; `core` knows its beginning, or is NULL. */
static bool compute(const struct state_builder *builder, const struct dien_columns *history,
                    const struct dien_user *core, struct user_state *state) {
    void *memory = room_for(builder, history);
    state->user = memory == NULL ? NULL
                  : core != NULL ? dien_user_continue(builder->model, builder->scratch, core, history, memory)
                                 : dien_user_build(builder->model, builder->scratch, history, memory);
    state->origin = core != NULL ? USER_EXTENDED : USER_COMPUTED;
    return state->user != NULL;
}

/* The state of what is held and more. */
static bool append(const struct state_builder *builder, const struct dien_columns *more, const struct dien_user *core,
                   struct user_state *state) {
    void *memory = arena_alloc(builder->arena, dien_user_extended_bytes(builder->model, core, more));
    if (memory == NULL)
        return false;
    enum dien_extension did = dien_user_extend(builder->model, builder->scratch, core, more, memory);
    state->user = memory;
    state->origin = did == DIEN_EXTENDED ? USER_EXTENDED : USER_COMPUTED;
    state->miss = MISS_WINDOW_MOVED;
    return true;
}

static bool restore(const struct state_builder *builder, const struct user_copy *held, struct user_state *state) {
    const struct dien_user *core = held->state;
    void *memory = arena_alloc(builder->arena, dien_user_size(core));
    if (memory == NULL)
        return false;
    state->user = dien_user_restore(builder->model, core, memory);
    state->origin = USER_CACHED;
    state->kept = true;
    state->token = held->token;
    return true;
}

/* ---- what is held */

/* Keep what this thread had the right to compute; nothing, if that failed. */
static enum user_outcome store_and_end(const struct state_builder *builder, struct single_flight *flight, bool good,
                                       struct user_state *state) {
    if (!good) {
        single_flight_cancel(builder->cache, flight);
        return USER_NO_ROOM;
    }
    state->kept = user_cache_store(builder->cache, flight, builder->version, state->user,
                                   dien_user_core_bytes(state->user), &state->token);
    return USER_READY;
}

static bool is_empty(const struct state_builder *builder, const struct dien_columns *behaviours) {
    const struct dien_interest *interests;
    size_t count = dien_interests(builder->model, &interests);
    for (size_t i = 0; i < count; i++)
        if (behaviours->column[interests[i].history[0]].count > 0)
            return false;
    return true;
}

/* Is what is held what the request appends to? */
static enum user_outcome read_base(const struct state_builder *builder, const struct state_query *query,
                                   struct user_copy *held) {
    enum user_answer answer = user_cache_read(builder->cache, query->key, builder->version, builder->arena, held);
    if (answer == USER_NO_MEMORY)
        return USER_NO_ROOM;
    bool named = answer == USER_HELD && (!query->has_token || user_token_equal(&held->token, &query->token));
    return named ? USER_READY : USER_UNKNOWN;
}

/* If another thread has stored a state between the reading and the right to append, then what the token named is gone;
 * without a token the append is to what there is now, which is read under the right: nobody can come between again. */
static enum user_outcome get_appended(const struct state_builder *builder, const struct state_query *query,
                                      struct user_state *state) {
    struct user_copy held = {0};
    struct single_flight flight;
    enum user_outcome outcome = read_base(builder, query, &held);
    if (outcome != USER_READY)
        return outcome;
    if (is_empty(builder, query->behaviours))
        return restore(builder, &held, state) ? USER_READY : USER_NO_ROOM;
    if (!single_flight_begin(builder->cache, query->key, builder->version, &held, &flight)) {
        if (query->has_token)
            return USER_UNKNOWN;
        single_flight_begin_always(builder->cache, query->key, &held, &flight);
        outcome = read_base(builder, query, &held);
    }
    if (outcome == USER_READY)
        return store_and_end(builder, &flight, append(builder, query->behaviours, held.state, state), state);
    single_flight_cancel(builder->cache, &flight);
    return outcome;
}

/* Does the state also say how much was received? Histories of different lengths may keep the same behaviours. */
static bool same_received(const struct state_builder *builder, const struct dien_user *core,
                          const struct dien_columns *history) {
    const struct dien_interest *interests;
    size_t count = dien_interests(builder->model, &interests);
    for (size_t i = 0; i < count; i++)
        if (dien_user_received(core, i) != history->column[interests[i].history[0]].count)
            return false;
    return true;
}

/* A request waits for another thread at most once for nothing, and twice in all: where requests of one user disagree
 * about the history, waiting on would help nobody, and would hold up a scoring thread. */
static enum user_outcome get_whole(const struct state_builder *builder, const struct state_query *query,
                                   struct user_state *state) {
    struct user_copy held = {0};
    struct single_flight flight;
    for (int turn = 0;; turn++) {
        enum user_answer answer = user_cache_read(builder->cache, query->key, builder->version, builder->arena, &held);
        if (answer == USER_NO_MEMORY)
            return USER_NO_ROOM;
        bool is_held = answer == USER_HELD;
        enum dien_match match = is_held ? dien_user_compare(builder->model, held.state, query->behaviours) : DIEN_OTHER;
        if (match == DIEN_SAME && (turn > 0 || same_received(builder, held.state, query->behaviours)))
            return restore(builder, &held, state) ? USER_READY : USER_NO_ROOM;
        bool known = match == DIEN_SAME || match == DIEN_PREFIX;
        state->miss = is_held ? mismatch_of(match) : miss_of(answer);
        const struct dien_user *core = known ? held.state : NULL;
        if (turn == 2 || (turn == 1 && !known))
            return compute(builder, query->behaviours, core, state) ? USER_READY : USER_NO_ROOM;
        if (!single_flight_begin(builder->cache, query->key, builder->version, &held, &flight))
            continue;
        bool good = compute(builder, query->behaviours, core, state);
        if (match == DIEN_SAME)
            state->origin = USER_CACHED;
        return store_and_end(builder, &flight, good, state);
    }
}

enum user_outcome user_state_get(const struct state_builder *builder, const struct state_query *query,
                                 struct user_state *state) {
    *state = (struct user_state){0};
    bool cached = builder->cache != NULL && query->key.id != NULL;
    if (query->append)
        return cached ? get_appended(builder, query, state) : USER_UNKNOWN;
    if (cached)
        return get_whole(builder, query, state);
    return compute(builder, query->behaviours, NULL, state) ? USER_READY : USER_NO_ROOM;
}

/* ---- tokens */

static const char digits[] = "0123456789abcdef";

void user_token_write(const struct user_token *token, char text[USER_TOKEN_TEXT]) {
    for (size_t i = 0; i < USER_TOKEN_TEXT; i++)
        text[i] = digits[(token->word[i / 16] >> (60 - 4 * (i % 16))) & 15];
}

static int value_of(char digit) {
    return digit >= '0' && digit <= '9' ? digit - '0' : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

bool user_token_read(struct proto_string text, struct user_token *token) {
    *token = (struct user_token){{0, 0}};
    if (text.length != USER_TOKEN_TEXT)
        return false;
    for (size_t i = 0; i < USER_TOKEN_TEXT; i++) {
        int value = value_of(text.data[i]);
        if (value < 0)
            return false;
        token->word[i / 16] = token->word[i / 16] << 4 | (uint64_t)value;
    }
    return true;
}
