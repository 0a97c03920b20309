/* test_user_cache.c: the cache of user states without a model: states come back whole, and the budget holds. */
#include "server/base/clock.h"
#include "server/users/block_pool.h"
#include "server/users/user_cache.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

static struct arena arena;

static struct user_cache *make(size_t bytes, double ttl) {
    struct user_cache *cache = user_cache_new(bytes, clock_from_seconds(ttl));
    assert_non_null(cache);
    arena_init(&arena, 0, MIB);
    return cache;
}

static void finish(struct user_cache *cache) {
    user_cache_free(cache);
    arena_free(&arena);
}

static struct user_key key(const char *id) {
    return (struct user_key){id, strlen(id)};
}

static struct user_key numbered(char id[32], size_t number) {
    return (struct user_key){id, (size_t)snprintf(id, 32, "user-%zu", number)};
}

/* Bytes that depend on the seed and on their index. */
static void fill(unsigned char *bytes, size_t size, size_t seed) {
    for (size_t i = 0; i < size; i++)
        bytes[i] = (unsigned char)(seed * 131 + i * 7 + i / 251);
}

static bool is_filled(const unsigned char *bytes, size_t size, size_t seed) {
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)(seed * 131 + i * 7 + i / 251))
            return false;
    return true;
}

static bool store(struct user_cache *cache, struct user_key user, uint64_t version, size_t size, size_t seed,
                  struct user_token *token) {
    struct single_flight flight;
    struct user_copy copy = {0};
    struct user_token ignored;
    struct arena own;
    arena_init(&own, 0, 0);
    unsigned char *bytes = malloc(size + 1);
    assert_non_null(bytes);
    fill(bytes, size, seed);
    for (;;) {
        user_cache_peek(cache, user, version, &own, &copy);
        if (single_flight_begin(cache, user, version, &copy, &flight))
            break;
    }
    bool kept = user_cache_store(cache, &flight, version, bytes, size, token != NULL ? token : &ignored);
    free(bytes);
    arena_free(&own);
    return kept;
}

static enum user_answer read_one(struct user_cache *cache, struct user_key user, struct user_copy *copy) {
    *copy = (struct user_copy){0};
    arena_reset(&arena);
    return user_cache_read(cache, user, 1, &arena, copy);
}

static struct user_cache_counts count(struct user_cache *cache) {
    struct user_cache_counts counts;
    user_cache_count(cache, &counts);
    return counts;
}

static void a_stored_state_comes_back(void **state) {
    (void)state;
    static const size_t sizes[] = {1, 300, 409, 410, 411, 504, 505, 913, 914, 915, 1008, 5000, 150000};
    struct user_cache *cache = make(8 * MIB, 0);
    struct user_copy copy;
    char id[32];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_true(store(cache, numbered(id, i), 1, sizes[i], i, NULL));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(read_one(cache, numbered(id, i), &copy), USER_HELD);
        assert_int_equal(copy.size, sizes[i]);
        assert_true(is_filled(copy.state, copy.size, i));
        assert_true(copy.bytes >= sizes[i] && copy.bytes < sizes[i] * 102 / 100 + 1024);
    }
    assert_int_equal(read_one(cache, key("user-99"), &copy), USER_ABSENT);
    assert_int_equal(count(cache).entries, sizeof sizes / sizeof *sizes);
    finish(cache);
}

/* Ids that share a beginning, differ in their last byte, hold zeros, or have the maximum length. */
static void a_user_is_its_whole_id(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    struct user_copy copy;
    char longest[2][USER_ID_MAX];
    memset(longest, 'x', sizeof longest);
    longest[1][USER_ID_MAX - 1] = 'y';
    const struct user_key keys[] = {{"a", 1},
                                    {"ab", 2},
                                    {"a\0", 2},
                                    {"a\0b", 3},
                                    {longest[0], USER_ID_MAX},
                                    {longest[1], USER_ID_MAX},
                                    {longest[0], USER_ID_MAX - 1}};
    enum { KEYS = sizeof keys / sizeof *keys };
    for (size_t i = 0; i < KEYS; i++)
        assert_true(store(cache, keys[i], 1, 700, i, NULL));
    for (size_t i = 0; i < KEYS; i++) {
        assert_int_equal(read_one(cache, keys[i], &copy), USER_HELD);
        assert_true(is_filled(copy.state, 700, i));
    }
    finish(cache);
}

static void a_new_state_takes_the_place_of_the_old(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    struct user_copy copy;
    struct user_token before, after;
    assert_true(store(cache, key("u"), 1, 100, 0, &before));
    uint64_t bytes = count(cache).bytes;
    for (size_t i = 1; i < 200; i++) {
        size_t size = i * 7919 % 30000;
        assert_true(store(cache, key("u"), 1, size, i, &after));
        assert_false(user_token_equal(&before, &after));
        assert_int_equal(read_one(cache, key("u"), &copy), USER_HELD);
        assert_true(user_token_equal(&copy.token, &after));
        assert_int_equal(copy.size, size);
        assert_true(is_filled(copy.state, size, i));
        before = after;
    }
    assert_true(store(cache, key("u"), 1, 100, 0, NULL));
    assert_int_equal(count(cache).bytes, bytes); /* all blocks that larger states needed are back in the pool */
    assert_int_equal(count(cache).entries, 1);
    finish(cache);
}

static void a_version_never_sees_anothers_state(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    struct user_copy copy = {0};
    assert_true(store(cache, key("u"), 2, 100, 0, NULL));
    assert_int_equal(user_cache_read(cache, key("u"), 1, &arena, &copy),
                     USER_OTHER_VERSION);                  /* an older version reads */
    assert_false(store(cache, key("u"), 1, 100, 1, NULL)); /* and does not replace the newer state */
    assert_int_equal(user_cache_read(cache, key("u"), 2, &arena, &copy), USER_HELD);
    assert_true(is_filled(copy.state, 100, 0));
    assert_int_equal(user_cache_read(cache, key("u"), 3, &arena, &copy),
                     USER_OTHER_VERSION); /* a newer version reads */
    assert_int_equal(user_cache_read(cache, key("u"), 3, &arena, &copy), USER_ABSENT);
    assert_int_equal(count(cache).entries, 0);
    finish(cache);
}

static enum user_answer read_as(struct user_cache *cache, uint64_t version) {
    struct user_copy copy = {0};
    arena_reset(&arena);
    return user_cache_read(cache, key("u"), version, &arena, &copy);
}

/* After a rollback the older version is served: its states replace the newer ones', never the other way round. */
static void states_of_served_versions_stay(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    user_cache_serve(cache, 1, 0);
    assert_true(store(cache, key("u"), 1, 100, 0, NULL));
    user_cache_serve(cache, 2, 0);
    assert_true(store(cache, key("u"), 2, 100, 0, NULL));
    assert_false(store(cache, key("u"), 1, 100, 0, NULL)); /* by a request that began before the swap */
    user_cache_serve(cache, 1, 0);
    assert_true(store(cache, key("u"), 1, 100, 0, NULL));
    assert_false(store(cache, key("u"), 2, 100, 0, NULL));
    assert_int_equal(read_as(cache, 2), USER_OTHER_VERSION);
    assert_int_equal(read_as(cache, 1), USER_HELD);
    user_cache_serve(cache, 3, 0);
    assert_int_equal(read_as(cache, 3), USER_OTHER_VERSION);
    assert_int_equal(read_as(cache, 1), USER_ABSENT);
    finish(cache);
}

/* Either may serve a user, whose share may change; neither drops what the other made by looking at it. */
static void a_candidate_and_the_live_version_share_the_cache(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    user_cache_serve(cache, 1, 2);
    assert_true(store(cache, key("u"), 2, 100, 0, NULL));
    assert_int_equal(read_as(cache, 1), USER_OTHER_VERSION);
    assert_int_equal(read_as(cache, 2), USER_HELD);
    assert_true(store(cache, key("u"), 1, 100, 0, NULL));
    assert_int_equal(read_as(cache, 2), USER_OTHER_VERSION);
    assert_int_equal(read_as(cache, 1), USER_HELD);
    finish(cache);
}

static void a_state_is_deleted_at_once_or_expires(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0.2);
    struct user_copy copy;
    uint64_t empty = count(cache).bytes;
    assert_true(store(cache, key("u"), 1, 3000, 0, NULL));
    assert_true(user_cache_delete(cache, key("u")));
    assert_false(user_cache_delete(cache, key("u")));
    assert_int_equal(read_one(cache, key("u"), &copy), USER_ABSENT);
    assert_int_equal(count(cache).deleted, 1);
    assert_int_equal(count(cache).bytes, empty);

    assert_true(store(cache, key("read"), 1, 10, 0, NULL));
    assert_true(store(cache, key("not read"), 1, 10, 0, NULL));
    assert_int_equal(read_one(cache, key("read"), &copy), USER_HELD);
    usleep(250000);
    assert_int_equal(read_one(cache, key("read"), &copy), USER_EXPIRED);
    assert_int_equal(read_one(cache, key("read"), &copy), USER_ABSENT);
    for (int i = 0; i < 100; i++)
        user_cache_sweep(cache, 0.01);
    assert_int_equal(count(cache).expired, 2);
    assert_int_equal(count(cache).entries, 0);
    assert_int_equal(count(cache).bytes, empty);
    finish(cache);
}

/* Reading a state does not prolong its life. */
/* Only a pause as long as the time to live, between two reads, could hide an age that reading renews. */
static void a_state_expires_although_it_is_read(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0.5);
    struct user_copy copy;
    enum user_answer answer = USER_HELD;
    assert_true(store(cache, key("u"), 1, 10, 0, NULL));
    for (int reads = 0; answer == USER_HELD && reads < 500; reads++) {
        usleep(10000);
        answer = read_one(cache, key("u"), &copy);
    }
    assert_int_equal(answer, USER_EXPIRED);
    finish(cache);
}

static void a_delete_stops_a_state_that_is_being_computed(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    struct single_flight flight;
    struct user_token token;
    struct user_copy copy;
    assert_true(single_flight_begin(cache, key("u"), 1, NULL, &flight));
    assert_true(user_cache_delete(cache, key("u")));
    assert_false(user_cache_store(cache, &flight, 1, "state", 5, &token));
    assert_int_equal(read_one(cache, key("u"), &copy), USER_ABSENT);
    assert_true(store(cache, key("u"), 1, 5, 0, NULL)); /* the next one is kept */
    finish(cache);
}

/* After a delete nothing is built on a copy that was read before: an append is refused, and the state of a whole
 * history is not kept. */
static void nothing_is_built_on_a_deleted_state(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    struct single_flight flight;
    struct user_token token;
    struct user_copy copy;
    assert_true(store(cache, key("u"), 1, 100, 0, NULL));
    assert_int_equal(read_one(cache, key("u"), &copy), USER_HELD);
    assert_true(user_cache_delete(cache, key("u")));
    assert_false(single_flight_begin(cache, key("u"), 1, &copy, &flight)); /* an append to the deleted state */
    assert_int_equal(user_cache_read(cache, key("u"), 1, &arena, &copy), USER_ABSENT);
    assert_true(single_flight_begin(cache, key("u"), 1, &copy, &flight)); /* a request that began before the delete */
    assert_false(user_cache_store(cache, &flight, 1, "state", 5, &token));
    assert_int_equal(read_one(cache, key("u"), &copy), USER_ABSENT);
    assert_true(single_flight_begin(cache, key("u"), 1, &copy, &flight)); /* and one that began after it */
    assert_true(user_cache_store(cache, &flight, 1, "state", 5, &token));
    finish(cache);
}

/* Whether the state of a request is kept that read the cache before `others` users were deleted, and perhaps before
 * `deleted` was. */
static bool is_kept(struct user_cache *cache, size_t others, const char *deleted) {
    struct single_flight flight;
    struct user_copy copy;
    char id[32];
    assert_int_equal(read_one(cache, key("u"), &copy), USER_ABSENT);
    if (deleted != NULL)
        user_cache_delete(cache, key(deleted));
    for (size_t i = 0; i < others; i++)
        user_cache_delete(cache, numbered(id, i));
    single_flight_begin_always(cache, key("u"), &copy, &flight);
    if (!user_cache_store(cache, &flight, 1, "state", 5, &copy.token))
        return false;
    user_cache_delete(cache, key("u"));
    return true;
}

static void deletes_of_others_do_no_harm(void **state) {
    (void)state;
    struct user_cache *cache = make(1 * MIB, 0); /* one shard, which counts all deletes together */
    enum { REMEMBERED = 32 };
    for (size_t others = 0; others < REMEMBERED; others++) {
        assert_true(is_kept(cache, others, NULL));
        assert_true(is_kept(cache, others, "v"));
        assert_false(is_kept(cache, others, "u"));
    }
    assert_true(is_kept(cache, REMEMBERED, NULL));
    assert_false(is_kept(cache, REMEMBERED + 1, NULL)); /* the user may be among those no longer remembered */
    assert_false(is_kept(cache, REMEMBERED + 1, "u"));
    assert_false(is_kept(cache, 100000, "u"));
    finish(cache);
}

static void blocks_are_wiped_when_given_back(void **state) {
    (void)state;
    struct block_pool pool;
    assert_true(block_pool_init(&pool, 16));
    struct block_chain chain = block_pool_take(&pool, 20);
    assert_int_equal(chain.count, 16);
    for (uint32_t i = 0; i < 16; i++)
        memset(block_at(&pool, i)->data, 'x', BLOCK_ROOM);
    struct block_chain rest = block_chain_cut(&pool, &chain, 6);
    assert_int_equal(rest.count, 10);
    block_pool_give(&pool, rest);
    assert_int_equal(block_pool_used(&pool), 6);
    for (uint32_t i = 0; i < 16; i++)
        assert_true(block_at(&pool, i)->data[0] == (i < 6 ? 'x' : 0) &&
                    memcmp(block_at(&pool, i)->data, block_at(&pool, i)->data + 1, BLOCK_ROOM - 1) == 0);
    block_pool_give(&pool, chain);
    assert_int_equal(block_pool_used(&pool), 0);
    block_pool_free(&pool);
}

/* With states of one size the number that fits is known. */
static void nobody_is_evicted_before_the_budget_is_used(void **state) {
    (void)state;
    const size_t size = 3400, budget = 16 * MIB;
    struct user_cache *cache = make(budget, 0);
    struct user_copy copy;
    char id[32];
    size_t users = 0;
    while (count(cache).evictions == 0)
        assert_true(store(cache, numbered(id, users), 1, size, users, NULL)), users++;
    struct user_cache_counts counts = count(cache);
    assert_int_equal(counts.capacity, budget);
    assert_true(counts.bytes <= budget);
    assert_true(counts.bytes + 4096 > budget - budget / 500);
    assert_true(users * 3584 > budget - budget / 100); /* 7 blocks each */
    for (size_t i = users; i < 4 * users; i++) {
        assert_true(store(cache, numbered(id, i), 1, size, i, NULL));
        assert_int_equal(read_one(cache, numbered(id, i), &copy), USER_HELD);
        assert_true(is_filled(copy.state, size, i));
    }
    counts = count(cache);
    assert_true(counts.bytes <= budget && counts.bytes + 65536 > budget - budget / 500);
    assert_int_equal(counts.entries, 4 * users - counts.evictions);
    uint64_t ages = 0;
    for (size_t i = 0; i <= USER_CACHE_AGES; i++)
        ages += counts.ages[i];
    assert_int_equal(ages, counts.evictions);
    finish(cache);
}

/* A state larger than all others together evicts them from every shard. A state larger than the cache evicts none. */
static void a_large_state_finds_room_in_other_shards(void **state) {
    (void)state;
    struct user_cache *cache = make(16 * MIB, 0);
    struct user_copy copy;
    char id[32];
    for (size_t i = 0; i < 5000; i++)
        assert_true(store(cache, numbered(id, i), 1, 3400, i, NULL));
    assert_false(store(cache, key("too large"), 1, 17 * MIB, 7, NULL));
    assert_int_equal(count(cache).refused, 1);
    struct single_flight flight;
    struct user_token token;
    assert_true(
        single_flight_begin(cache, key("too large"), 1, NULL, &flight)); /* of more blocks than a uint32_t can count */
    assert_false(user_cache_store(cache, &flight, 1, "", ((size_t)BLOCK_ROOM << 32) + 1, &token));
    assert_int_equal(count(cache).refused, 2);
    assert_true(count(cache).entries > 4000);
    assert_true(store(cache, key("large"), 1, 15 * MIB, 8, NULL));
    assert_int_equal(read_one(cache, key("large"), &copy), USER_HELD);
    assert_true(is_filled(copy.state, 15 * MIB, 8));
    assert_true(count(cache).bytes <= 16 * MIB);
    for (size_t i = 0; i < 5000; i++) /* it is evicted when nobody reads it */
        assert_true(store(cache, numbered(id, i), 1, 3400, i, NULL));
    finish(cache);
}

/* Users who come back a few times stay, although more others than there is room for pass through once. */
static void a_scan_does_not_evict_returning_users(void **state) {
    (void)state;
    const size_t regulars = 1000, visits = 3, rounds = 20;
    struct user_cache *cache = make(16 * MIB, 0); /* about 4,600 of these states */
    struct user_copy copy;
    char id[32];
    size_t hits = 0, passing = regulars;
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < visits * regulars; i++) {
            bool held = read_one(cache, numbered(id, i % regulars), &copy) == USER_HELD;
            hits += round >= rounds / 2 && i < regulars && held;
            if (!held)
                assert_true(store(cache, numbered(id, i % regulars), 1, 3400, i, NULL));
        }
        for (size_t i = 0; i < 6 * regulars; i++, passing++)
            assert_true(store(cache, numbered(id, passing), 1, 3400, passing, NULL));
    }
    assert_true(hits > (rounds - rounds / 2) * regulars * 95 / 100);
    finish(cache);
}

/* ---- ids with one hash */

static uint64_t one_hash(const void *id, size_t length, uint64_t seed) {
    (void)id, (void)length, (void)seed;
    return 0x0123456789abcdefU;
}

static struct user_cache *make_colliding(size_t bytes) {
    struct user_cache *cache = user_cache_new_hashed(bytes, 0, one_hash);
    assert_non_null(cache);
    arena_init(&arena, 0, MIB);
    return cache;
}

/* Ids of one length, ids that begin another, ids that differ in their last byte. */
static const char *const colliding[] = {"ann", "bob", "anna", "annb", "an"};
enum { COLLIDING = sizeof colliding / sizeof *colliding };

static void check_held(struct user_cache *cache, const char *id, size_t seed, const struct user_token *token) {
    struct user_copy copy;
    assert_int_equal(read_one(cache, key(id), &copy), USER_HELD);
    assert_int_equal(copy.size, 700);
    assert_true(is_filled(copy.state, 700, seed));
    assert_true(user_token_equal(&copy.token, token));
}

static void users_of_one_hash_have_states_of_their_own(void **state) {
    (void)state;
    struct user_cache *cache = make_colliding(4 * MIB);
    struct user_token tokens[COLLIDING];
    struct user_copy copy;
    for (size_t i = 0; i < COLLIDING; i++) {
        assert_int_equal(read_one(cache, key(colliding[i]), &copy), USER_ABSENT);
        assert_true(store(cache, key(colliding[i]), 1, 700, i, &tokens[i]));
        for (size_t j = 0; j < i; j++)
            assert_false(user_token_equal(&tokens[i], &tokens[j]));
    }
    for (size_t i = 0; i < COLLIDING; i++)
        check_held(cache, colliding[i], i, &tokens[i]);
    for (size_t i = 0; i < COLLIDING; i++) { /* a new state replaces that of its own user */
        assert_true(store(cache, key(colliding[i]), 1, 700, 10 + i, &tokens[i]));
        for (size_t j = 0; j < COLLIDING; j++)
            check_held(cache, colliding[j], j <= i ? 10 + j : j, &tokens[j]);
    }
    assert_int_equal(count(cache).entries, COLLIDING);
    finish(cache);
}

/* In any order of deletes within the bucket. */
static void a_delete_leaves_other_users_with_the_hash(void **state) {
    (void)state;
    struct user_cache *cache = make_colliding(4 * MIB);
    struct user_token tokens[COLLIDING];
    struct user_copy copy;
    for (size_t first = 0; first < COLLIDING; first++) {
        for (size_t i = 0; i < COLLIDING; i++)
            assert_true(store(cache, key(colliding[i]), 1, 700, i, &tokens[i]));
        assert_false(user_cache_delete(cache, key("cat")));
        for (size_t gone = 1; gone <= COLLIDING; gone++) {
            const char *id = colliding[(first + gone - 1) % COLLIDING];
            assert_true(user_cache_delete(cache, key(id)));
            assert_false(user_cache_delete(cache, key(id)));
            assert_int_equal(read_one(cache, key(id), &copy), USER_ABSENT);
            for (size_t i = first + gone; i < first + COLLIDING; i++)
                check_held(cache, colliding[i % COLLIDING], i % COLLIDING, &tokens[i % COLLIDING]);
        }
        assert_int_equal(count(cache).entries, 0);
    }
    finish(cache);
}

/* A copy of one user's state cannot be extended for the other. While one user's state is computed, the other does not
 * wait, and a delete of one does not reach the other. */
static void a_flight_is_one_users(void **state) {
    (void)state;
    struct user_cache *cache = make_colliding(4 * MIB);
    struct single_flight ann, bob, other;
    struct user_token token;
    struct user_copy copy;
    assert_true(store(cache, key("ann"), 1, 700, 0, NULL));
    assert_int_equal(read_one(cache, key("ann"), &copy), USER_HELD);
    assert_false(single_flight_begin(cache, key("bob"), 1, &copy, &bob)); /* no state of bob's is held */
    assert_true(store(cache, key("bob"), 1, 700, 1, NULL));
    assert_false(single_flight_begin(cache, key("bob"), 1, &copy, &bob)); /* a state that was not the one read */
    assert_true(single_flight_begin(cache, key("ann"), 1, &copy, &ann));
    assert_true(user_cache_delete(cache, key("bob"))); /* ann's flight goes on */
    single_flight_cancel(cache, &ann);
    assert_int_equal(read_one(cache, key("ann"), &copy), USER_HELD);
    assert_true(store(cache, key("bob"), 1, 700, 1, NULL));
    assert_true(user_cache_delete(cache, key("bob")));
    assert_true(single_flight_begin(cache, key("ann"), 1, &copy, &ann)); /* her copy is still the held state */
    assert_true(store(cache, key("bob"), 1, 700, 1, NULL));
    assert_int_equal(read_one(cache, key("bob"), &copy), USER_HELD);
    assert_true(single_flight_begin(cache, key("bob"), 1, &copy, &bob)); /* without waiting for ann's */
    assert_true(single_flight_begin(cache, key("an"), 1, NULL, &other));
    assert_true(user_cache_delete(cache, key("bob")));
    assert_false(user_cache_store(cache, &bob, 1, "bob", 3, &token));
    assert_true(user_cache_store(cache, &ann, 1, "ann", 3, &token));
    assert_true(user_cache_store(cache, &other, 1, "an", 2, &token));
    assert_int_equal(read_one(cache, key("ann"), &copy), USER_HELD);
    assert_true(copy.size == 3 && memcmp(copy.state, "ann", 3) == 0);
    assert_int_equal(read_one(cache, key("bob"), &copy), USER_ABSENT);
    assert_int_equal(count(cache).waits, 0);
    finish(cache);
}

static void all_tokens_differ(void **state) {
    (void)state;
    enum { TOKENS = 2000 };
    static struct user_token tokens[TOKENS];
    struct user_cache *cache = make(4 * MIB, 0);
    char id[32];
    for (size_t i = 0; i < TOKENS; i++) {
        assert_true(store(cache, numbered(id, i % 100), 1, 10, 0, &tokens[i]));
        for (size_t j = 0; j < i; j++)
            assert_true(tokens[i].word[0] != tokens[j].word[0] && tokens[i].word[1] != tokens[j].word[1]);
    }
    finish(cache);
}

/* ---- threads */

static void a_cancelled_flight_lets_the_next_one_begin(void **state) {
    (void)state;
    struct user_cache *cache = make(4 * MIB, 0);
    struct single_flight flight, other;
    assert_true(single_flight_begin(cache, key("u"), 1, NULL, &flight));
    assert_true(single_flight_begin(cache, key("v"), 1, NULL, &other)); /* another user does not wait */
    single_flight_cancel(cache, &other);
    single_flight_cancel(cache, &flight);
    assert_true(single_flight_begin(cache, key("u"), 1, NULL, &flight));
    single_flight_cancel(cache, &flight);
    assert_int_equal(count(cache).waits, 0);
    finish(cache);
}

enum { THREADS = 8 };

struct crowd {
    struct user_cache *cache;
    pthread_barrier_t barrier;
    atomic_int computed;
};

/* Read, begin a flight, store, as server/users/user_state.c does. */
static void *join_crowd(void *context) {
    struct crowd *crowd = context;
    struct arena own;
    struct user_copy copy = {0};
    struct single_flight flight;
    struct user_token token;
    arena_init(&own, 0, 0);
    pthread_barrier_wait(&crowd->barrier);
    while (user_cache_read(crowd->cache, key("hot"), 1, &own, &copy) != USER_HELD) {
        if (!single_flight_begin(crowd->cache, key("hot"), 1, NULL, &flight))
            continue;
        crowd->computed++;
        usleep(20000);
        user_cache_store(crowd->cache, &flight, 1, "state", 5, &token);
    }
    arena_free(&own);
    return NULL;
}

static void a_crowd_computes_once(void **state) {
    (void)state;
    struct crowd crowd = {.cache = make(4 * MIB, 0)};
    pthread_t threads[THREADS];
    pthread_barrier_init(&crowd.barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, join_crowd, &crowd), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(crowd.computed, 1);
    assert_true(count(crowd.cache).waits > 0);
    pthread_barrier_destroy(&crowd.barrier);
    finish(crowd.cache);
}

/* Flights begin in order of arrival, even when the thread that ended one begins another at once. */
struct waiter {
    struct user_cache *cache;
    pthread_t thread;
    atomic_int *turn;
    int had;
};

static void *wait_for_turn(void *context) {
    struct waiter *waiter = context;
    struct single_flight flight;
    single_flight_begin_always(waiter->cache, key("u"), NULL, &flight);
    waiter->had = (*waiter->turn)++;
    single_flight_cancel(waiter->cache, &flight);
    return NULL;
}

static void flights_begin_in_order_of_arrival(void **state) {
    (void)state;
    enum { ROUNDS = 20 };
    struct user_cache *cache = make(4 * MIB, 0);
    struct waiter waiters[THREADS];
    struct single_flight flight;
    for (uint64_t round = 0, waits = 0; round < ROUNDS; round++) {
        atomic_int turn = 0;
        single_flight_begin_always(cache, key("u"), NULL, &flight);
        waits = count(cache).waits;
        for (uint64_t i = 0; i < THREADS; i++) {
            waiters[i] = (struct waiter){.cache = cache, .turn = &turn, .had = -1};
            assert_int_equal(pthread_create(&waiters[i].thread, NULL, wait_for_turn, &waiters[i]), 0);
            while (count(cache).waits == waits + i)
                usleep(100);
        }
        single_flight_cancel(cache, &flight);
        single_flight_begin_always(cache, key("u"), NULL, &flight);
        assert_int_equal(turn, THREADS); /* all waiters had their turn */
        single_flight_cancel(cache, &flight);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(waiters[i].thread, NULL);
            assert_int_equal(waiters[i].had, i);
        }
    }
    finish(cache);
}

/* Threads store, read and delete the states of a few users, with sizes given by the seed. Every state that is read must
 * be complete. */
struct churner {
    struct user_cache *cache;
    size_t users;
    unsigned seed;
    bool sweeps;
    size_t reads, faults;
};

static void *churn(void *context) {
    struct churner *c = context;
    struct arena own;
    char id[32];
    arena_init(&own, 0, MIB);
    for (int i = 0; i < 4000; i++) {
        size_t user = (size_t)rand_r(&c->seed) % c->users;
        struct user_copy copy = {0};
        arena_reset(&own);
        if (rand_r(&c->seed) % 50 == 0)
            user_cache_delete(c->cache, numbered(id, user));
        if (c->sweeps && i % 20 == 0)
            user_cache_sweep(c->cache, 60);
        if (user_cache_read(c->cache, numbered(id, user), 1, &own, &copy) == USER_HELD) {
            size_t seed;
            memcpy(&seed, copy.state, sizeof seed);
            c->reads++;
            c->faults += !is_filled((unsigned char *)copy.state + sizeof seed, copy.size - sizeof seed, seed);
            c->faults += seed % c->users != user;
            c->faults += clock_seconds(copy.age) > 3600 || clock_seconds(copy.idle) > 3600;
        }
        struct single_flight flight;
        struct user_token token;
        if (rand_r(&c->seed) % 2 != 0 || !single_flight_begin(c->cache, numbered(id, user), 1, &copy, &flight))
            continue;
        size_t seed = user + c->users * ((size_t)rand_r(&c->seed) % 1000), size = 8 + seed * 37 % 20000;
        unsigned char *bytes = arena_alloc(&own, size);
        memcpy(bytes, &seed, sizeof seed);
        fill(bytes + sizeof seed, size - sizeof seed, seed);
        user_cache_store(c->cache, &flight, 1, bytes, size, &token);
    }
    arena_free(&own);
    return NULL;
}

static void check_churn(struct user_cache *cache, size_t bytes, size_t users) {
    struct churner churners[THREADS];
    pthread_t threads[THREADS];
    size_t reads = 0;
    uint64_t empty = count(cache).bytes;
    for (unsigned i = 0; i < THREADS; i++) {
        churners[i] = (struct churner){cache, users, i + 1, i == 0, 0, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, churn, &churners[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(churners[i].faults, 0);
        reads += churners[i].reads;
    }
    assert_true(reads > 1000);
    assert_int_equal(count(cache).expired, 0); /* none is an hour old */
    assert_true(count(cache).bytes <= bytes);
    char id[32];
    for (size_t i = 0; i < users; i++)
        user_cache_delete(cache, numbered(id, i));
    assert_int_equal(count(cache).entries, 0);
    assert_int_equal(count(cache).bytes, empty); /* no block is lost or given back twice */
    finish(cache);
}

static void threads_read_whole_states(void **state) {
    (void)state;
    check_churn(make(4 * MIB, 3600), 4 * MIB, 6);                             /* few users, many conflicts */
    check_churn(make(USER_CACHE_MIN_BYTES, 3600), USER_CACHE_MIN_BYTES, 500); /* evictions all the time */
    check_churn(make(4 * MIB, 3600), 4 * MIB, 3000);
    check_churn(make_colliding(USER_CACHE_MIN_BYTES), USER_CACHE_MIN_BYTES, 200); /* in one bucket */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stored_state_comes_back),
        cmocka_unit_test(a_user_is_its_whole_id),
        cmocka_unit_test(a_new_state_takes_the_place_of_the_old),
        cmocka_unit_test(a_version_never_sees_anothers_state),
        cmocka_unit_test(states_of_served_versions_stay),
        cmocka_unit_test(a_candidate_and_the_live_version_share_the_cache),
        cmocka_unit_test(a_state_is_deleted_at_once_or_expires),
        cmocka_unit_test(a_state_expires_although_it_is_read),
        cmocka_unit_test(a_delete_stops_a_state_that_is_being_computed),
        cmocka_unit_test(nothing_is_built_on_a_deleted_state),
        cmocka_unit_test(deletes_of_others_do_no_harm),
        cmocka_unit_test(blocks_are_wiped_when_given_back),
        cmocka_unit_test(nobody_is_evicted_before_the_budget_is_used),
        cmocka_unit_test(a_large_state_finds_room_in_other_shards),
        cmocka_unit_test(a_scan_does_not_evict_returning_users),
        cmocka_unit_test(users_of_one_hash_have_states_of_their_own),
        cmocka_unit_test(a_delete_leaves_other_users_with_the_hash),
        cmocka_unit_test(a_flight_is_one_users),
        cmocka_unit_test(all_tokens_differ),
        cmocka_unit_test(a_cancelled_flight_lets_the_next_one_begin),
        cmocka_unit_test(a_crowd_computes_once),
        cmocka_unit_test(flights_begin_in_order_of_arrival),
        cmocka_unit_test(threads_read_whole_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
