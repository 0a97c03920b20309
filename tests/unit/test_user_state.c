/* test_user_state.c: one user, one answer, with a cache or without.
 *
 * A held, an extended and a computed state give scores with the bits of a state that was built without a cache. This
 * holds after any sequence of requests, from any threads.
 */
#include "proto/json_decode.h"
#include "server/users/user_state.h"
#include "tests/unit/columns.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { CANDIDATES = 5, USERS_MAX = 8, HISTORY_MAX = 400, THREADS = 8, JUNK = 4000 };

/* Shared by all threads: behaviours to draw from, candidates to score, a cache. */
struct world {
    const struct dien_model *model;
    struct user_cache *cache;
    struct dien_columns pool; /* [pool_size] behaviours */
    size_t pool_size;
    struct dien_request request;
    size_t users, window;
    atomic_size_t origins[USER_ORIGINS], misses[USER_MISSES], unknown, junk;
};

/* A user's history as one thread knows it, as indices into the pool, and the token of its state. */
struct belief {
    size_t history[HISTORY_MAX], length;
    bool has_token;
    struct user_token token;
};

struct actor {
    struct world *world;
    unsigned seed;
    int steps;
    bool evicts;
    struct dien_scratch *scratch;
    struct arena arena;
    struct belief beliefs[USERS_MAX];
    size_t faults;
};

static size_t draw(struct actor *actor, size_t below) {
    return below > 0 ? (size_t)rand_r(&actor->seed) % below : 0;
}

static struct dien_columns behaviours(const struct world *world, const size_t *indices, size_t count) {
    return pick(world->model, DIEN_BEHAVIOUR, &world->pool, indices, count);
}

/* The scores of a state that was built without a cache. */
static void score_uncached(struct actor *actor, const struct dien_columns *history, float *scores) {
    const struct world *world = actor->world;
    struct state_builder builder = {world->model, actor->scratch, &actor->arena, NULL, 0};
    struct state_query query = {.behaviours = history};
    struct user_state state;
    if (user_state_get(&builder, &query, &state) != USER_READY || state.origin != USER_COMPUTED || state.kept)
        actor->faults++;
    else
        dien_score(world->model, actor->scratch, state.user, &world->request, scores, NULL);
}

static bool same_bits(const float *a, const float *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint32_t bits[2];
        memcpy(&bits[0], &a[i], sizeof bits[0]);
        memcpy(&bits[1], &b[i], sizeof bits[1]);
        if (bits[0] != bits[1])
            return false;
    }
    return true;
}

static void check(struct actor *actor, const struct user_state *state, const struct belief *belief) {
    struct world *world = actor->world;
    float scores[CANDIDATES] = {0}, expected[CANDIDATES] = {1};
    struct dien_columns history = behaviours(world, belief->history, belief->length);
    dien_score(world->model, actor->scratch, state->user, &world->request, scores, NULL);
    score_uncached(actor, &history, expected);
    actor->faults += !same_bits(scores, expected, CANDIDATES);
    free_columns(world->model, DIEN_BEHAVIOUR, &history);
    world->origins[state->origin]++;
    if (state->origin == USER_COMPUTED)
        world->misses[state->miss]++;
}

static void change(struct actor *actor, struct belief *belief) {
    size_t pool = actor->world->pool_size, count = 0;
    switch (draw(actor, 8)) {
    case 0: /* another history */
        belief->length = draw(actor, actor->world->window * 3 / 2);
        for (size_t i = 0; i < belief->length; i++)
            belief->history[i] = draw(actor, pool);
        break;
    case 1: /* an edit */
        if (belief->length > 0)
            belief->history[draw(actor, belief->length)] = draw(actor, pool);
        break;
    case 2: /* a shorter one */
        belief->length -= draw(actor, belief->length + 1);
        break;
    case 3: /* the oldest are gone, as when a client keeps a window of its own */
        count = draw(actor, belief->length + 1);
        belief->length -= count;
        memmove(belief->history, belief->history + count, belief->length * sizeof *belief->history);
        break;
    case 4: /* the same again */
        break;
    default: /* some more */
        for (count = 1 + draw(actor, 4); count > 0 && belief->length < HISTORY_MAX; count--)
            belief->history[belief->length++] = draw(actor, pool);
    }
}

static struct user_key key_of(char id[16], size_t user) {
    return (struct user_key){id, (size_t)snprintf(id, 16, "u%zu", user)};
}

/* Send the whole history. */
static void send_history(struct actor *actor, const struct state_builder *builder, struct user_key key,
                         struct belief *belief) {
    struct user_state state;
    change(actor, belief);
    struct dien_columns history = behaviours(actor->world, belief->history, belief->length);
    struct state_query query = {.key = key, .behaviours = &history};
    if (user_state_get(builder, &query, &state) == USER_READY)
        check(actor, &state, belief);
    else
        actor->faults++;
    belief->has_token = state.kept;
    belief->token = state.token;
    free_columns(actor->world->model, DIEN_BEHAVIOUR, &history);
}

/* Send the token and the new behaviours. The answer is this history's state, or none. */
static void send_token(struct actor *actor, const struct state_builder *builder, struct user_key key,
                       struct belief *belief) {
    struct user_state state;
    size_t count = draw(actor, 4), room = HISTORY_MAX - belief->length, first = belief->length;
    count = count < room ? count : room;
    for (size_t i = 0; i < count; i++)
        belief->history[belief->length++] = draw(actor, actor->world->pool_size);
    struct dien_columns more = behaviours(actor->world, belief->history + first, count);
    struct state_query query = {
        .key = key, .append = true, .has_token = true, .token = belief->token, .behaviours = &more};
    enum user_outcome outcome = user_state_get(builder, &query, &state);
    if (outcome == USER_READY)
        check(actor, &state, belief);
    else if (outcome == USER_UNKNOWN)
        actor->world->unknown++;
    else
        actor->faults++;
    belief->has_token = outcome == USER_READY && state.kept;
    belief->token = state.token;
    free_columns(actor->world->model, DIEN_BEHAVIOUR, &more);
}

/* Store states of other users until those of known ones are evicted. */
static void crowd_out(struct actor *actor) {
    static const char bytes[30000];
    struct single_flight flight;
    struct user_token token;
    for (int i = 0; i < 60; i++) {
        char id[32];
        size_t number = actor->world->junk++;
        struct user_key key = {id, (size_t)snprintf(id, sizeof id, "stranger %zu", number)};
        if (single_flight_begin(actor->world->cache, key, 1, NULL, &flight))
            user_cache_store(actor->world->cache, &flight, 1, bytes, sizeof bytes, &token);
    }
}

static void *act(void *context) {
    struct actor *actor = context;
    const struct world *world = actor->world;
    const struct state_builder builder = {world->model, actor->scratch, &actor->arena, world->cache, 1};
    for (int step = 0; step < actor->steps; step++) {
        char id[16];
        size_t user = draw(actor, world->users);
        arena_reset(&actor->arena);
        if (draw(actor, 25) == 0)
            user_cache_delete(world->cache, key_of(id, user));
        if (actor->evicts && draw(actor, 20) == 0)
            crowd_out(actor);
        struct belief *belief = &actor->beliefs[user];
        if (belief->has_token && draw(actor, 3) == 0)
            send_token(actor, &builder, key_of(id, user), belief);
        else
            send_history(actor, &builder, key_of(id, user), belief);
    }
    return NULL;
}

/* All users have one hash. */
static uint64_t one_hash(const void *id, size_t length, uint64_t seed) {
    (void)id, (void)length, (void)seed;
    return 7;
}

static void world_init_with(struct world *world, const struct dien_model *model, size_t users,
                            struct user_cache *cache) {
    memset(world, 0, sizeof *world);
    world->model = model;
    world->cache = cache;
    assert_non_null(world->cache);
    world->window = longest_window(model) < HISTORY_MAX / 2 ? longest_window(model) : HISTORY_MAX / 2;
    world->pool_size = 40;
    world->pool = random_columns(model, DIEN_BEHAVIOUR, world->pool_size);
    world->request = (struct dien_request){.user = random_columns(model, DIEN_USER, 1),
                                           .context = random_columns(model, DIEN_CONTEXT, 1),
                                           .candidates = random_columns(model, DIEN_CANDIDATE, CANDIDATES),
                                           .candidate_count = CANDIDATES};
    world->users = users;
}

static void world_init(struct world *world, const struct dien_model *model, size_t users) {
    world_init_with(world, model, users, user_cache_new(USER_CACHE_MIN_BYTES, 0));
}

static void world_free(struct world *world) {
    free_columns(world->model, DIEN_BEHAVIOUR, &world->pool);
    free_columns(world->model, DIEN_USER, &world->request.user);
    free_columns(world->model, DIEN_CONTEXT, &world->request.context);
    free_columns(world->model, DIEN_CANDIDATE, &world->request.candidates);
    user_cache_free(world->cache);
}

static struct actor *new_actor(struct world *world, unsigned seed, int steps, bool evicts) {
    struct actor *actor = calloc(1, sizeof *actor);
    assert_non_null(actor);
    *actor = (struct actor){.world = world, .seed = seed, .steps = steps, .evicts = evicts};
    actor->scratch = dien_scratch_new(world->model);
    assert_non_null(actor->scratch);
    arena_init(&actor->arena, 0, 1 << 22);
    return actor;
}

static void free_actor(struct actor *actor) {
    dien_scratch_free(actor->scratch);
    arena_free(&actor->arena);
    free(actor);
}

/* One thread and every model: every origin of a state and every miss occurs. */
static void every_state_scores_as_if_there_were_no_cache(void **state) {
    (void)state;
    size_t origins[USER_ORIGINS] = {0}, misses[USER_MISSES] = {0}, unknown = 0, evictions = 0;
    for (size_t i = 0; i < model_count; i++) {
        struct world world;
        struct user_cache_counts counts;
        world_init_with(&world, models[i], 4,
                        i % 3 == 0 ? user_cache_new_hashed(USER_CACHE_MIN_BYTES, 0, one_hash)
                                   : user_cache_new(USER_CACHE_MIN_BYTES, 0));
        struct actor *actor = new_actor(&world, (unsigned)i + 1, 400, i % 2 == 0);
        act(actor);
        if (actor->faults > 0)
            fail_msg("%s: %zu of %d steps went wrong", paths[i], actor->faults, actor->steps);
        for (int j = 0; j < USER_ORIGINS; j++)
            origins[j] += world.origins[j];
        for (int j = 0; j < USER_MISSES; j++)
            misses[j] += world.misses[j];
        unknown += world.unknown;
        user_cache_count(world.cache, &counts);
        evictions += counts.evictions;
        assert_int_equal(counts.waits, 0);
        free_actor(actor);
        world_free(&world);
    }
    assert_true(origins[USER_COMPUTED] > 100 && origins[USER_EXTENDED] > 100 && origins[USER_CACHED] > 100);
    assert_true(misses[MISS_ABSENT] > 10 && misses[MISS_SHORTER] > 10 && misses[MISS_WINDOW_MOVED] > 10 &&
                misses[MISS_EDITED] > 10);
    assert_true(unknown > 10 && evictions > 10);
    print_message("%zu computed, %zu extended, %zu cached, %zu tokens not held, %zu evictions\n",
                  origins[USER_COMPUTED], origins[USER_EXTENDED], origins[USER_CACHED], unknown, evictions);
}

/* Eight threads with histories of their own for the same two users. */
static void threads_score_as_if_there_were_no_cache(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i += 5) {
        struct world world;
        struct actor *actors[THREADS];
        pthread_t threads[THREADS];
        world_init(&world, models[i], 2);
        for (unsigned j = 0; j < THREADS; j++)
            actors[j] = new_actor(&world, 100 + j, 150, j == 0);
        for (int j = 0; j < THREADS; j++)
            assert_int_equal(pthread_create(&threads[j], NULL, act, actors[j]), 0);
        for (int j = 0; j < THREADS; j++) {
            pthread_join(threads[j], NULL);
            assert_int_equal(actors[j]->faults, 0);
            free_actor(actors[j]);
        }
        assert_true(world.origins[USER_COMPUTED] > 0 && world.origins[USER_EXTENDED] > 0);
        world_free(&world);
    }
}

/* ---- one user, one history, eight threads */

struct hot {
    struct world *world;
    struct dien_columns history;
    struct actor *actor;
    pthread_barrier_t *barrier;
    enum user_origin origin;
};

static void *ask_for_hot_user(void *context) {
    struct hot *hot = context;
    const struct state_builder builder = {hot->world->model, hot->actor->scratch, &hot->actor->arena, hot->world->cache,
                                          1};
    struct state_query query = {.key = {"hot", 3}, .behaviours = &hot->history};
    struct user_state got;
    pthread_barrier_wait(hot->barrier);
    hot->actor->faults += user_state_get(&builder, &query, &got) != USER_READY;
    hot->origin = got.origin;
    return NULL;
}

static void a_hot_user_is_computed_once(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i += 5) {
        struct world world;
        struct hot hot[THREADS];
        pthread_t threads[THREADS];
        pthread_barrier_t barrier;
        size_t indices[HISTORY_MAX], origins[USER_ORIGINS] = {0};
        world_init(&world, models[i], 1);
        for (size_t j = 0; j < world.window; j++)
            indices[j] = j % world.pool_size;
        struct dien_columns history = behaviours(&world, indices, world.window);
        pthread_barrier_init(&barrier, NULL, THREADS);
        for (unsigned j = 0; j < THREADS; j++) {
            hot[j] = (struct hot){&world, history, new_actor(&world, j, 0, false), &barrier, USER_ORIGINS};
            assert_int_equal(pthread_create(&threads[j], NULL, ask_for_hot_user, &hot[j]), 0);
        }
        for (int j = 0; j < THREADS; j++) {
            pthread_join(threads[j], NULL);
            assert_int_equal(hot[j].actor->faults, 0);
            origins[hot[j].origin]++;
            free_actor(hot[j].actor);
        }
        assert_int_equal(origins[USER_COMPUTED], 1);
        assert_int_equal(origins[USER_CACHED], THREADS - 1);
        pthread_barrier_destroy(&barrier);
        free_columns(models[i], DIEN_BEHAVIOUR, &history);
        world_free(&world);
    }
}

/* ---- a user whose state another thread replaces all the time */

struct guest {
    struct world *world;
    struct actor *actor;
    struct user_state got;
    struct state_query query;
    enum user_outcome outcome;
    atomic_bool done;
    bool in_time;
};

static void *ask_as_guest(void *context) {
    struct guest *guest = context;
    const struct world *world = guest->world;
    struct state_builder builder = {world->model, guest->actor->scratch, &guest->actor->arena, world->cache, 1};
    guest->outcome = user_state_get(&builder, &guest->query, &guest->got);
    guest->done = true;
    return NULL;
}

/* Wait until the cache counts so many waits, or the guest is done. */
static void await(const struct guest *guest, uint64_t waits) {
    struct user_cache_counts counts = {0};
    while (!guest->done && counts.waits < waits) {
        usleep(100);
        user_cache_count(guest->world->cache, &counts);
    }
}

/* Have a guest thread ask for a user while this thread keeps storing the user's state, equal but for its token. Each
 * store comes after the guest has read the state and waits. The guest may wait twice, and this thread twice for the
 * guest, so that the guest is done before a fifth wait. Returns how many behaviours the state has received then. */
static size_t ask_while_it_changes(struct guest *guest) {
    enum { TURNS = 5 };
    struct user_cache *cache = guest->world->cache;
    struct user_copy held = {0};
    struct user_cache_counts counts;
    struct single_flight flight;
    struct user_token token;
    struct arena arena;
    pthread_t thread;
    arena_init(&arena, 0, 1 << 20);
    user_cache_count(cache, &counts);
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        single_flight_begin_always(cache, guest->query.key, NULL, &flight);
        assert_int_equal(user_cache_peek(cache, guest->query.key, 1, &arena, &held), USER_HELD);
        if (turn == 1)
            assert_int_equal(pthread_create(&thread, NULL, ask_as_guest, guest), 0);
        await(guest, counts.waits + turn);
        guest->in_time = guest->done;
        assert_true(user_cache_store(cache, &flight, 1, held.state, held.size, &token));
    }
    size_t received = dien_user_received(held.state, 0);
    pthread_join(thread, NULL);
    arena_free(&arena);
    return received;
}

enum { BASE = 2, STRIFE = 50 };

/* Prepare a guest that will send `query`, and a held state of BASE behaviours. */
static void invite(struct guest *guest, struct state_query query) {
    struct world *world = guest->world;
    struct actor *actor = guest->actor;
    struct dien_columns base = behaviours(world, (const size_t[BASE]){0, 1}, BASE);
    struct state_builder builder = {world->model, actor->scratch, &actor->arena, world->cache, 1};
    struct state_query first = {.key = query.key, .behaviours = &base};
    struct user_state state;
    arena_reset(&actor->arena);
    user_cache_delete(world->cache, query.key);
    assert_int_equal(user_state_get(&builder, &first, &state), USER_READY);
    assert_true(state.kept);
    if (query.has_token)
        query.token = state.token;
    guest->query = query;
    guest->done = false;
    free_columns(world->model, DIEN_BEHAVIOUR, &base);
}

/* In the end an append without a token is in the state, one with a token is refused, and the state of a whole history
 * is computed for its request alone. */
static void a_changing_user_holds_up_nobody_for_long(void **state) {
    (void)state;
    struct world world;
    world_init(&world, models[0], 1);
    struct actor *actor = new_actor(&world, 1, 0, false);
    struct guest guest = {.world = &world, .actor = actor};
    struct dien_columns more = behaviours(&world, (const size_t[]){2}, 1);
    struct dien_columns whole = behaviours(&world, (const size_t[]){0, 1, 2}, BASE + 1);
    const struct user_key user = {"u", 1};
    assert_true(world.window > BASE);
    for (int i = 0; i < STRIFE; i++) {
        struct state_query query = {.key = user, .append = true, .behaviours = &more};
        invite(&guest, query);
        assert_int_equal(ask_while_it_changes(&guest), BASE + 1);
        assert_true(guest.in_time);
        assert_int_equal(guest.outcome, USER_READY);
        assert_true(guest.got.kept);
        query.has_token = true;
        invite(&guest, query);
        assert_int_equal(ask_while_it_changes(&guest), BASE);
        assert_true(guest.in_time);
        assert_int_equal(guest.outcome, USER_UNKNOWN);
        invite(&guest, (struct state_query){.key = user, .behaviours = &whole});
        ask_while_it_changes(&guest);
        assert_true(guest.in_time);
        assert_int_equal(guest.outcome, USER_READY);
        assert_int_equal(dien_user_received(guest.got.user, 0), BASE + 1);
    }
    free_columns(world.model, DIEN_BEHAVIOUR, &more);
    free_columns(world.model, DIEN_BEHAVIOUR, &whole);
    free_actor(actor);
    world_free(&world);
}

/* An append that waits while the user is deleted is refused, and holds up nobody. */
static void an_append_to_a_deleted_user_is_refused(void **state) {
    (void)state;
    struct world world;
    struct user_cache_counts counts;
    struct single_flight flight;
    pthread_t thread;
    world_init(&world, models[0], 1);
    struct actor *actor = new_actor(&world, 1, 0, false);
    struct guest guest = {.world = &world, .actor = actor};
    struct dien_columns more = behaviours(&world, (const size_t[]){2}, 1);
    const struct user_key user = {"u", 1};
    invite(&guest, (struct state_query){.key = user, .append = true, .behaviours = &more});
    user_cache_count(world.cache, &counts);
    single_flight_begin_always(world.cache, user, NULL, &flight);
    assert_int_equal(pthread_create(&thread, NULL, ask_as_guest, &guest), 0);
    await(&guest, counts.waits + 1);
    assert_true(user_cache_delete(world.cache, user));
    single_flight_cancel(world.cache, &flight);
    pthread_join(thread, NULL);
    assert_int_equal(guest.outcome, USER_UNKNOWN);
    invite(&guest, guest.query); /* the user is back */
    free_columns(world.model, DIEN_BEHAVIOUR, &more);
    free_actor(actor);
    world_free(&world);
}

/* A history that was read from a store before its user was deleted there is scored with once, and not kept. */
static void a_history_of_a_deleted_user_is_not_kept(void **state) {
    (void)state;
    struct world world;
    world_init(&world, models[0], 1);
    struct actor *actor = new_actor(&world, 1, 0, false);
    struct state_builder builder = {world.model, actor->scratch, &actor->arena, world.cache, 1};
    struct dien_columns history = behaviours(&world, (const size_t[]){0, 1}, 2);
    struct state_query query = {.key = {"u", 1}, .behaviours = &history, .epoch_is_known = true};
    struct user_state got;
    for (int deleted = 0; deleted < 2; deleted++) {
        arena_reset(&actor->arena);
        user_cache_delete(world.cache, query.key);
        query.delete_epoch = user_cache_delete_epoch(world.cache, query.key);
        if (deleted)
            user_cache_delete(world.cache, query.key);
        assert_int_equal(user_state_get(&builder, &query, &got), USER_READY);
        assert_true(got.kept == !deleted);
    }
    free_columns(world.model, DIEN_BEHAVIOUR, &history);
    free_actor(actor);
    world_free(&world);
}

enum { APPENDS = 50 };

static void *append_often(void *context) {
    struct guest *guest = context;
    for (int i = 0; i < APPENDS; i++) {
        arena_reset(&guest->actor->arena);
        ask_as_guest(guest);
        guest->actor->faults += guest->outcome != USER_READY || !guest->got.kept;
    }
    return NULL;
}

/* Eight threads append to one user without a token: the state has received all their behaviours. */
static void no_append_is_lost(void **state) {
    (void)state;
    struct world world;
    struct guest guests[THREADS];
    pthread_t threads[THREADS];
    world_init(&world, models[0], 1);
    struct dien_columns more = behaviours(&world, (const size_t[]){2}, 1);
    for (unsigned i = 0; i < THREADS; i++) {
        guests[i] = (struct guest){.world = &world, .actor = new_actor(&world, i, 0, false)};
        guests[i].query = (struct state_query){.key = {"u", 1}, .append = true, .behaviours = &more};
    }
    invite(&guests[0], guests[0].query);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, append_often, &guests[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(guests[i].actor->faults, 0);
    }
    struct user_copy held = {0};
    assert_int_equal(user_cache_peek(world.cache, guests[0].query.key, 1, &guests[0].actor->arena, &held), USER_HELD);
    assert_int_equal(dien_user_received(held.state, 0), BASE + THREADS * APPENDS);
    for (int i = 0; i < THREADS; i++)
        free_actor(guests[i].actor);
    free_columns(world.model, DIEN_BEHAVIOUR, &more);
    world_free(&world);
}

/* ---- memory and tokens */

/* When the arena is full the request fails, and the next one does not wait for its flight. */
static void a_state_that_finds_no_memory_holds_up_nobody(void **state) {
    (void)state;
    struct world world;
    world_init(&world, models[0], 1);
    struct actor *actor = new_actor(&world, 1, 0, false);
    struct belief belief = {.length = world.window};
    struct dien_columns history = behaviours(&world, belief.history, belief.length);
    struct state_builder builder = {world.model, actor->scratch, &actor->arena, world.cache, 1};
    struct state_query query = {.key = {"u", 1}, .behaviours = &history};
    struct user_state got;
    for (size_t limit = 1; limit < 1 << 12; limit *= 2) {
        struct arena small;
        arena_init(&small, limit, 0);
        builder.arena = &small;
        assert_int_equal(user_state_get(&builder, &query, &got), USER_NO_ROOM);
        arena_free(&small);
    }
    builder.arena = &actor->arena;
    assert_int_equal(user_state_get(&builder, &query, &got), USER_READY);
    assert_int_equal(got.origin, USER_COMPUTED);
    free_columns(world.model, DIEN_BEHAVIOUR, &history);
    free_actor(actor);
    world_free(&world);
}

/* Not even a user whose id has the same hash can append to the state that another's token names. */
static void a_token_is_one_users(void **state) {
    (void)state;
    struct world world;
    world_init_with(&world, models[0], 2, user_cache_new_hashed(USER_CACHE_MIN_BYTES, 0, one_hash));
    struct actor *actor = new_actor(&world, 1, 0, false);
    struct state_builder builder = {world.model, actor->scratch, &actor->arena, world.cache, 1};
    struct dien_columns one = behaviours(&world, (const size_t[]){0}, 1);
    struct state_query ann = {.key = {"ann", 3}, .behaviours = &one}, bob = {.key = {"bob", 3}, .behaviours = &one};
    struct user_state ann_has, bob_has, got;
    assert_int_equal(user_state_get(&builder, &ann, &ann_has), USER_READY);
    bob.append = bob.has_token = true;
    bob.token = ann_has.token;
    assert_int_equal(user_state_get(&builder, &bob, &got), USER_UNKNOWN); /* bob has no state */
    bob.append = bob.has_token = false;
    assert_int_equal(user_state_get(&builder, &bob, &bob_has), USER_READY);
    assert_int_equal(bob_has.origin, USER_COMPUTED); /* the history is ann's, the state is not */
    bob.append = bob.has_token = true;
    assert_int_equal(user_state_get(&builder, &bob, &got), USER_UNKNOWN); /* bob has a state of his own */
    bob.token = bob_has.token;
    assert_int_equal(user_state_get(&builder, &bob, &got), USER_READY);
    assert_int_equal(dien_user_received(got.user, 0), 2);
    assert_int_equal(user_state_get(&builder, &ann, &got), USER_READY);
    assert_int_equal(got.origin, USER_CACHED);
    assert_true(user_token_equal(&got.token, &ann_has.token));
    free_columns(world.model, DIEN_BEHAVIOUR, &one);
    free_actor(actor);
    world_free(&world);
}

static void a_token_is_read_as_it_was_written(void **state) {
    (void)state;
    const struct user_token token = {{0x0123456789abcdefU, 0xfedcba9876543210U}};
    struct user_token read;
    char text[USER_TOKEN_TEXT + 1] = "";
    user_token_write(&token, text);
    assert_string_equal(text, "0123456789abcdeffedcba9876543210");
    assert_true(user_token_read((struct proto_string){text, USER_TOKEN_TEXT}, &read));
    assert_true(user_token_equal(&read, &token));
    static const char *const others[] = {"",
                                         "0123",
                                         "0123456789abcdeffedcba987654321",
                                         "0123456789ABCDEFFEDCBA9876543210",
                                         "0123456789abcdeffedcba98765432100",
                                         "0123456789abcdeffedcba987654321g"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(user_token_read((struct proto_string){others[i], strlen(others[i])}, &read));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_state_scores_as_if_there_were_no_cache),
        cmocka_unit_test(threads_score_as_if_there_were_no_cache),
        cmocka_unit_test(a_hot_user_is_computed_once),
        cmocka_unit_test(a_changing_user_holds_up_nobody_for_long),
        cmocka_unit_test(an_append_to_a_deleted_user_is_refused),
        cmocka_unit_test(a_history_of_a_deleted_user_is_not_kept),
        cmocka_unit_test(no_append_is_lost),
        cmocka_unit_test(a_state_that_finds_no_memory_holds_up_nobody),
        cmocka_unit_test(a_token_is_one_users),
        cmocka_unit_test(a_token_is_read_as_it_was_written),
    };
    json_decode_init();
    srand(1);
    return cmocka_run_group_tests(tests, open_models, close_models);
}
