/* user_cache.c: shards, each with a lock, an index, an eviction order and the computations under way; one pool of
 * blocks for all of them, so that no shard evicts while there is room anywhere.
 *
 * Locks: a shard's, then the pool's; never two shards'. xxHash comes in here and nowhere else.
 */
#define XXH_INLINE_ALL
#include "server/users/user_cache.h"

#include "server/base/clock.h"
#include "server/users/eviction.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <xxhash.h>

enum {
    SHARDS_MAX = 64,
    SHARD_MIN_BYTES = 1 << 20, /* bytes: below that a shard has too few entries to choose from */
    BLOCKS_A_BUCKET = 4,
    TOKENS_AHEAD = 16,
    SWEEP_MAX_BUCKETS = 4096, /* buckets a call */
    TRIES = 64                /* to find room, while other threads look for it too */
};
static const double sweep_max_seconds = 60;

const double user_cache_age_bounds[USER_CACHE_AGES] = {1, 10, 60, 300, 900, 3600, 14400, 86400, 604800, 2592000};

/* Users forgotten lately in a shard, who are told apart. */
enum { RECENT_DELETES = 32 };

struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    pthread_cond_t flight_ended;   /* a flight has ended */
    struct single_flight *flights; /* computations under way, and behind each those that wait for the same user */
    uint64_t delete_epoch;         /* calls of user_cache_delete(), */
    uint64_t recent_deletes[RECENT_DELETES]; /* and the hashes of the last ones' users */
    uint32_t *buckets;                       /* [buckets_a_shard]: an entry's number + 1, or 0 */
    struct eviction eviction;
    struct user_token tokens[TOKENS_AHEAD]; /* random, not given yet */
    size_t token_count;
    struct user_cache_counts counts; /* the shard's share; bytes and capacity are not kept here */
};

struct user_cache {
    size_t bytes;
    uint64_t ttl;
    user_hash *hash;
    uint64_t seed; /* its own, that nobody may choose ids of one hash */
    struct block_pool pool;
    void *index; /* of all shards: buckets, then ghosts */
    size_t index_bytes;
    size_t buckets_a_shard; /* a power of two, as is the next */
    size_t shard_count;
    size_t sweep_bucket; /* where the sweep is: shard by shard */
    double sweep_due;    /* buckets that it owes */
    struct shard *shards;
};

/* ---- start and end */

static size_t power_of_two_within(size_t most) {
    size_t power = 1;
    while (2 * power <= most)
        power *= 2;
    return power;
}

static struct eviction_ghost *ghosts_of(const struct user_cache *cache, size_t shard, size_t ghosts_a_shard) {
    char *ghosts = (char *)cache->index + cache->shard_count * cache->buckets_a_shard * sizeof(uint32_t);
    return (struct eviction_ghost *)(void *)ghosts + shard * ghosts_a_shard;
}

/* A budget is index and blocks: what a block needs of the index is counted with it. */
static bool lay_out(struct user_cache *cache, size_t bytes) {
    cache->shard_count =
        power_of_two_within(bytes / SHARD_MIN_BYTES < SHARDS_MAX ? bytes / SHARD_MIN_BYTES : SHARDS_MAX);
    size_t most = bytes / sizeof(struct block);
    cache->buckets_a_shard = power_of_two_within(most / BLOCKS_A_BUCKET / cache->shard_count);
    size_t ghosts = most / EVICTION_BLOCKS_A_GHOST / cache->shard_count;
    cache->index_bytes =
        cache->shard_count * (cache->buckets_a_shard * sizeof(uint32_t) + ghosts * sizeof(struct eviction_ghost));
    size_t fixed = cache->index_bytes + sizeof *cache + cache->shard_count * sizeof *cache->shards;
    size_t blocks = (bytes - fixed) / sizeof(struct block);
    if (!block_pool_init(&cache->pool, (uint32_t)(blocks < BLOCK_NONE ? blocks : BLOCK_NONE - 1)))
        return false;
    cache->index = mmap(NULL, cache->index_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cache->shards = aligned_alloc(_Alignof(struct shard), cache->shard_count * sizeof *cache->shards);
    if (cache->index == MAP_FAILED || cache->shards == NULL)
        return false;
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        memset(shard, 0, sizeof *shard);
        pthread_mutex_init(&shard->mutex, NULL);
        pthread_cond_init(&shard->flight_ended, NULL);
        shard->buckets = (uint32_t *)cache->index + i * cache->buckets_a_shard;
        eviction_init(&shard->eviction, &cache->pool, ghosts_of(cache, i, ghosts), (uint32_t)ghosts);
    }
    return true;
}

struct user_cache *user_cache_new_hashed(size_t bytes, uint64_t ttl, user_hash *hash) {
    struct user_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return NULL;
    cache->bytes = bytes;
    cache->ttl = ttl;
    cache->hash = hash;
    cache->index = MAP_FAILED;
    if (getrandom(&cache->seed, sizeof cache->seed, 0) == sizeof cache->seed && lay_out(cache, bytes))
        return cache;
    user_cache_free(cache);
    return NULL;
}

static uint64_t xxhash(const void *id, size_t length, uint64_t seed) {
    return XXH3_64bits_withSeed(id, length, seed);
}

struct user_cache *user_cache_new(size_t bytes, uint64_t ttl) {
    return user_cache_new_hashed(bytes, ttl, xxhash);
}

void user_cache_free(struct user_cache *cache) {
    if (cache == NULL)
        return;
    for (size_t i = 0; cache->shards != NULL && cache->index != MAP_FAILED && i < cache->shard_count; i++) {
        pthread_mutex_destroy(&cache->shards[i].mutex);
        pthread_cond_destroy(&cache->shards[i].flight_ended);
    }
    free(cache->shards);
    if (cache->index != MAP_FAILED)
        munmap(cache->index, cache->index_bytes);
    if (cache->pool.blocks != NULL)
        block_pool_free(&cache->pool);
    free(cache);
}

/* ---- the index: buckets by hash, judged by the whole id */

static uint64_t hash_of(const struct user_cache *cache, struct user_key key) {
    return cache->hash(key.id, key.length, cache->seed);
}

/* Shards by the hash's high bits, buckets by its low ones. */
static struct shard *shard_of(const struct user_cache *cache, uint64_t hash) {
    return &cache->shards[(hash >> 48) & (cache->shard_count - 1)];
}

static uint32_t *bucket_of(const struct user_cache *cache, const struct shard *shard, uint64_t hash) {
    return &shard->buckets[hash & (cache->buckets_a_shard - 1)];
}

static bool is_of(struct user_entry *entry, uint64_t hash, struct user_key key) {
    return entry->hash == hash && entry->id_length == key.length &&
           memcmp(user_entry_id(entry), key.id, key.length) == 0;
}

static uint32_t find(const struct user_cache *cache, const struct shard *shard, uint64_t hash, struct user_key key) {
    uint32_t number = *bucket_of(cache, shard, hash) - 1;
    while (number != BLOCK_NONE && !is_of(user_entry_at(&cache->pool, number), hash, key))
        number = user_entry_at(&cache->pool, number)->next;
    return number;
}

static void add_to_index(const struct user_cache *cache, struct shard *shard, uint32_t number) {
    struct user_entry *entry = user_entry_at(&cache->pool, number);
    uint32_t *bucket = bucket_of(cache, shard, entry->hash);
    entry->next = *bucket - 1;
    *bucket = number + 1;
    shard->counts.entries++;
}

static void take_from_index(const struct user_cache *cache, struct shard *shard, uint32_t number) {
    const struct user_entry *entry = user_entry_at(&cache->pool, number);
    uint32_t *bucket = bucket_of(cache, shard, entry->hash);
    uint32_t before = *bucket - 1;
    if (before == number) {
        *bucket = entry->next + 1;
    } else {
        while (user_entry_at(&cache->pool, before)->next != number)
            before = user_entry_at(&cache->pool, before)->next;
        user_entry_at(&cache->pool, before)->next = entry->next;
    }
    shard->counts.entries--;
}

static struct block_chain chain_of(const struct user_cache *cache, uint32_t number) {
    const struct user_entry *entry = user_entry_at(&cache->pool, number);
    return (struct block_chain){number, entry->last, entry->count};
}

/* Take an entry out of everything, for another reason than room. */
static void drop(struct user_cache *cache, struct shard *shard, uint32_t number) {
    take_from_index(cache, shard, number);
    eviction_remove(&shard->eviction, number);
    block_pool_give(&cache->pool, chain_of(cache, number));
}

/* ---- an entry's bytes, spread over its blocks behind the id */

/* One stretch of a state within one block. */
struct stretch {
    uint32_t block;
    size_t offset, left;
};

static struct stretch first_stretch(const struct user_cache *cache, uint32_t number) {
    const struct user_entry *entry = user_entry_at(&cache->pool, number);
    return (struct stretch){number, sizeof *entry + entry->id_length, entry->size};
}

/* The bytes of this stretch; NULL behind the last. Moves on to the next. */
static unsigned char *next_stretch(const struct user_cache *cache, struct stretch *at, size_t *size) {
    if (at->left == 0)
        return NULL;
    struct block *block = block_at(&cache->pool, at->block);
    unsigned char *bytes = block->data + at->offset;
    *size = BLOCK_ROOM - at->offset < at->left ? BLOCK_ROOM - at->offset : at->left;
    at->left -= *size;
    at->offset = 0;
    at->block = block->next;
    if (at->left > 0)
        __builtin_prefetch(block_at(&cache->pool, at->block));
    return bytes;
}

static void copy_out(const struct user_cache *cache, uint32_t number, char *to) {
    struct stretch at = first_stretch(cache, number);
    size_t size = 0;
    for (const unsigned char *bytes; (bytes = next_stretch(cache, &at, &size)) != NULL; to += size)
        memcpy(to, bytes, size);
}

/* And zeros to the end of the last block: nothing stays of what was there before. */
static void copy_in(const struct user_cache *cache, uint32_t number, const char *from) {
    struct stretch at = first_stretch(cache, number);
    size_t size = 0;
    unsigned char *end = block_at(&cache->pool, number)->data + at.offset;
    for (unsigned char *bytes; (bytes = next_stretch(cache, &at, &size)) != NULL; from += size) {
        memcpy(bytes, from, size);
        end = bytes + size;
    }
    uint32_t last = user_entry_at(&cache->pool, number)->last;
    memset(end, 0, (size_t)(block_at(&cache->pool, last)->data + BLOCK_ROOM - end));
}

static size_t blocks_for(size_t id_length, size_t size) {
    return (sizeof(struct user_entry) + id_length + size + BLOCK_ROOM - 1) / BLOCK_ROOM;
}

/* ---- reading */

static bool is_expired(const struct user_cache *cache, const struct user_entry *entry, uint64_t now) {
    return cache->ttl > 0 && now - entry->stored > cache->ttl;
}

/* Is it of use under this version? What is not is dropped, unless it is a newer version's. */
static enum user_answer judge(struct user_cache *cache, struct shard *shard, uint32_t number, uint64_t version,
                              uint64_t now) {
    if (number == BLOCK_NONE)
        return USER_ABSENT;
    const struct user_entry *entry = user_entry_at(&cache->pool, number);
    enum user_answer answer = USER_HELD;
    if (is_expired(cache, entry, now)) {
        answer = USER_EXPIRED;
        shard->counts.expired++;
    } else if (entry->version != version) {
        answer = USER_OTHER_VERSION;
    }
    if (answer == USER_EXPIRED || (answer == USER_OTHER_VERSION && entry->version < version))
        drop(cache, shard, number);
    return answer;
}

static bool copy_entry(const struct user_cache *cache, uint32_t number, uint64_t now, struct arena *arena,
                       struct user_copy *copy) {
    const struct user_entry *entry = user_entry_at(&cache->pool, number);
    if (copy->room < entry->size) {
        copy->state = arena_alloc(arena, entry->size);
        copy->room = copy->state != NULL ? entry->size : 0;
    }
    if (copy->state == NULL)
        return false;
    copy_out(cache, number, copy->state);
    copy->size = entry->size;
    copy->token = entry->token;
    copy->age = now - entry->stored;
    copy->idle = now - entry->used;
    copy->bytes = (size_t)entry->count * sizeof(struct block);
    return true;
}

static enum user_answer read_entry(struct user_cache *cache, struct user_key key, uint64_t version, bool touch,
                                   struct arena *arena, struct user_copy *copy) {
    uint64_t hash = hash_of(cache, key);
    struct shard *shard = shard_of(cache, hash);
    pthread_mutex_lock(&shard->mutex);
    uint64_t now = clock_now(); /* under the lock: no entry is younger */
    uint32_t number = find(cache, shard, hash, key);
    enum user_answer answer = judge(cache, shard, number, version, now);
    if (answer == USER_HELD && !copy_entry(cache, number, now, arena, copy))
        answer = USER_NO_MEMORY;
    copy->held = answer == USER_HELD;
    if (answer == USER_HELD && touch && !copy->begun) {
        struct user_entry *entry = user_entry_at(&cache->pool, number);
        entry->used = now;
        eviction_touch(entry);
    }
    if (!copy->begun)
        copy->delete_epoch = shard->delete_epoch;
    copy->begun = true;
    pthread_mutex_unlock(&shard->mutex);
    return answer;
}

enum user_answer user_cache_read(struct user_cache *cache, struct user_key key, uint64_t version, struct arena *arena,
                                 struct user_copy *copy) {
    return read_entry(cache, key, version, true, arena, copy);
}

enum user_answer user_cache_peek(struct user_cache *cache, struct user_key key, uint64_t version, struct arena *arena,
                                 struct user_copy *copy) {
    return read_entry(cache, key, version, false, arena, copy);
}

/* ---- one computation at a time */

/* The first of a user's, which has the right; those behind it wait. */
static struct single_flight *flight_of(const struct shard *shard, uint64_t hash, struct user_key key) {
    struct single_flight *flight = shard->flights;
    while (flight != NULL && !(flight->hash == hash && flight->key.length == key.length &&
                               memcmp(flight->key.id, key.id, key.length) == 0))
        flight = flight->next;
    return flight;
}

static bool is_first(const struct shard *shard, const struct single_flight *flight) {
    return flight_of(shard, flight->hash, flight->key) == flight;
}

static void append_flight(struct shard *shard, struct single_flight *flight) {
    struct single_flight **place = &shard->flights;
    while (*place != NULL)
        place = &(*place)->next;
    *place = flight;
}

/* Out of the queue, from whatever place in it. */
static void single_flight_end(struct shard *shard, struct single_flight *flight) {
    bool was_first = is_first(shard, flight);
    struct single_flight **place = &shard->flights;
    while (*place != flight)
        place = &(*place)->next;
    *place = flight->next;
    if (was_first)
        pthread_cond_broadcast(&shard->flight_ended);
}

/* Is what was read what there is? Another version's state is none that the caller could read; one that was read and is
 * gone may have been forgotten, and must not be built upon. */
static bool has_changed(const struct user_cache *cache, const struct shard *shard, const struct single_flight *flight,
                        uint64_t version, const struct user_copy *seen) {
    uint32_t number = find(cache, shard, flight->hash, flight->key);
    const struct user_entry *entry = number != BLOCK_NONE ? user_entry_at(&cache->pool, number) : NULL;
    bool was_held = seen != NULL && seen->held;
    if (entry == NULL || entry->version != version)
        return was_held;
    return !was_held || !user_token_equal(&entry->token, &seen->token);
}

/* Whether the user may have been forgotten since the shard counted so many. True for another one as well, if more than
 * RECENT_DELETES were since, or if they have one hash. */
static bool deleted_since(const struct shard *shard, uint64_t hash, uint64_t delete_epoch) {
    if (shard->delete_epoch - delete_epoch > RECENT_DELETES)
        return true;
    for (; delete_epoch < shard->delete_epoch; delete_epoch++)
        if (shard->recent_deletes[delete_epoch % RECENT_DELETES] == hash)
            return true;
    return false;
}

/* What is held as it was seen was not forgotten since. `any`: whatever has changed. */
static bool begin_flight(struct user_cache *cache, struct user_key key, uint64_t version, const struct user_copy *seen,
                         bool any, struct single_flight *flight) {
    *flight = (struct single_flight){.key = key, .hash = hash_of(cache, key)};
    struct shard *shard = shard_of(cache, flight->hash);
    bool changed = false, waits = false;
    pthread_mutex_lock(&shard->mutex);
    append_flight(shard, flight);
    while (!(changed = !any && has_changed(cache, shard, flight, version, seen)) && !is_first(shard, flight)) {
        shard->counts.waits += !waits;
        waits = true;
        pthread_cond_wait(&shard->flight_ended, &shard->mutex);
    }
    if (changed)
        single_flight_end(shard, flight);
    else
        flight->user_deleted = flight->user_deleted || (seen != NULL && (any || !seen->held) &&
                                                        deleted_since(shard, flight->hash, seen->delete_epoch));
    pthread_mutex_unlock(&shard->mutex);
    return !changed;
}

bool single_flight_begin(struct user_cache *cache, struct user_key key, uint64_t version, const struct user_copy *seen,
                         struct single_flight *flight) {
    return begin_flight(cache, key, version, seen, false, flight);
}

void single_flight_begin_always(struct user_cache *cache, struct user_key key, const struct user_copy *seen,
                                struct single_flight *flight) {
    begin_flight(cache, key, 0, seen, true, flight);
}

void single_flight_cancel(struct user_cache *cache, struct single_flight *flight) {
    struct shard *shard = shard_of(cache, flight->hash);
    pthread_mutex_lock(&shard->mutex);
    single_flight_end(shard, flight);
    pthread_mutex_unlock(&shard->mutex);
}

/* ---- room */

static void count_eviction(struct shard *shard, const struct user_entry *entry, uint64_t now) {
    double age = clock_seconds(now - entry->used);
    unsigned bucket = 0;
    while (bucket < USER_CACHE_AGES && age > user_cache_age_bounds[bucket])
        bucket++;
    shard->counts.ages[bucket]++;
    shard->counts.age_seconds += age;
    shard->counts.evictions++;
}

/* The blocks of an entry of this shard that has to go; empty when there is none but `kept`. */
static struct block_chain evict(struct user_cache *cache, struct shard *shard, uint32_t kept) {
    uint32_t victim = eviction_choose(&shard->eviction, kept);
    if (victim == BLOCK_NONE)
        return block_chain_empty();
    count_eviction(shard, user_entry_at(&cache->pool, victim), clock_now());
    take_from_index(cache, shard, victim);
    return chain_of(cache, victim);
}

/* `count` blocks out of the pool, or of this shard's other entries. False when that is not enough. */
static bool find_room(struct user_cache *cache, struct shard *shard, uint32_t kept, uint32_t count,
                      struct block_chain *chain) {
    *chain = block_pool_take(&cache->pool, count);
    while (chain->count < count) {
        struct block_chain more = evict(cache, shard, kept);
        if (more.count == 0)
            break;
        block_chain_join(&cache->pool, chain, more);
    }
    if (chain->count < count) {
        block_pool_give(&cache->pool, *chain);
        return false;
    }
    block_pool_give(&cache->pool, block_chain_cut(&cache->pool, chain, count));
    return true;
}

/* This shard has nothing to give (any more): have the others give `count` blocks to the pool. Its lock is not held. */
static void evict_from_others(struct user_cache *cache, const struct shard *shard, uint32_t count) {
    uint32_t freed = 0;
    for (size_t i = 1; i < cache->shard_count && freed < count; i++) {
        struct shard *other = &cache->shards[((size_t)(shard - cache->shards) + i) & (cache->shard_count - 1)];
        pthread_mutex_lock(&other->mutex);
        for (struct block_chain chain; freed < count && (chain = evict(cache, other, BLOCK_NONE)).count > 0;) {
            freed += chain.count;
            block_pool_give(&cache->pool, chain);
        }
        pthread_mutex_unlock(&other->mutex);
    }
}

/* ---- storing */

static struct user_token next_token(struct shard *shard) {
    if (shard->token_count == 0) {
        /* Reads of up to 256 bytes are never cut short, once the kernel's generator has started. */
        while (getrandom(shard->tokens, sizeof shard->tokens, 0) != sizeof shard->tokens)
            continue;
        shard->token_count = TOKENS_AHEAD;
    }
    return shard->tokens[--shard->token_count];
}

/* Give an entry the blocks that it needs, keeping its first; a new one comes into being. */
static uint32_t resize(struct user_cache *cache, struct shard *shard, uint32_t number, uint32_t count,
                       struct block_chain more) {
    if (number == BLOCK_NONE) {
        struct user_entry *entry = user_entry_at(&cache->pool, more.first);
        *entry = (struct user_entry){.last = more.last, .count = more.count};
        return more.first;
    }
    struct user_entry *entry = user_entry_at(&cache->pool, number);
    struct block_chain chain = chain_of(cache, number);
    eviction_resize(&shard->eviction, entry, (int64_t)count - entry->count);
    block_chain_join(&cache->pool, &chain, more);
    block_pool_give(&cache->pool, block_chain_cut(&cache->pool, &chain, count));
    entry->last = chain.last;
    entry->count = chain.count;
    return number;
}

/* Everything has room: write it. */
static void write_entry(struct user_cache *cache, struct shard *shard, uint32_t number, bool is_new,
                        const struct single_flight *flight, uint64_t version, const void *state, size_t size) {
    struct user_entry *entry = user_entry_at(&cache->pool, number);
    uint64_t now = clock_now();
    entry->version = version;
    entry->stored = entry->used = now;
    entry->token = next_token(shard);
    entry->size = (uint32_t)size;
    if (is_new) {
        entry->hash = flight->hash;
        entry->id_length = (uint16_t)flight->key.length;
        memcpy(user_entry_id(entry), flight->key.id, flight->key.length);
        add_to_index(cache, shard, number);
        eviction_insert(&shard->eviction, number);
    }
    copy_in(cache, number, state);
}

enum attempt { STORED, NOT_KEPT, NO_ROOM };

/* Under the shard's lock. The state is no larger than the cache. */
static enum attempt try_to_store(struct user_cache *cache, struct shard *shard, const struct single_flight *flight,
                                 uint64_t version, const void *state, size_t size, struct user_token *token) {
    uint32_t number = find(cache, shard, flight->hash, flight->key);
    const struct user_entry *entry = number != BLOCK_NONE ? user_entry_at(&cache->pool, number) : NULL;
    if (flight->user_deleted || (entry != NULL && entry->version > version))
        return NOT_KEPT;
    uint32_t count = (uint32_t)blocks_for(flight->key.length, size), have = entry != NULL ? entry->count : 0;
    struct block_chain more = block_chain_empty();
    if (count > have && !find_room(cache, shard, number, count - have, &more))
        return NO_ROOM;
    bool is_new = number == BLOCK_NONE;
    number = resize(cache, shard, number, count, more);
    write_entry(cache, shard, number, is_new, flight, version, state, size);
    *token = user_entry_at(&cache->pool, number)->token;
    return STORED;
}

bool user_cache_store(struct user_cache *cache, struct single_flight *flight, uint64_t version, const void *state,
                      size_t size, struct user_token *token) {
    struct shard *shard = shard_of(cache, flight->hash);
    size_t count = blocks_for(flight->key.length, size);
    enum attempt attempt = NO_ROOM;
    int tries = count <= cache->pool.count ? TRIES : 0; /* none for what is larger than the cache */
    for (int i = 0; attempt == NO_ROOM && i < tries; i++) {
        if (i > 0)
            evict_from_others(cache, shard, (uint32_t)count);
        pthread_mutex_lock(&shard->mutex);
        attempt = try_to_store(cache, shard, flight, version, state, size, token);
        pthread_mutex_unlock(&shard->mutex);
    }
    pthread_mutex_lock(&shard->mutex);
    shard->counts.refused += attempt == NO_ROOM;
    single_flight_end(shard, flight);
    pthread_mutex_unlock(&shard->mutex);
    return attempt == STORED;
}

/* ---- forgetting */

bool user_cache_delete(struct user_cache *cache, struct user_key key) {
    uint64_t hash = hash_of(cache, key);
    struct shard *shard = shard_of(cache, hash);
    pthread_mutex_lock(&shard->mutex);
    struct single_flight *flight = flight_of(shard, hash, key);
    shard->recent_deletes[shard->delete_epoch++ % RECENT_DELETES] = hash;
    if (flight != NULL)
        flight->user_deleted = true;
    uint32_t number = find(cache, shard, hash, key);
    if (number != BLOCK_NONE) {
        drop(cache, shard, number);
        shard->counts.deleted++;
    }
    pthread_mutex_unlock(&shard->mutex);
    return number != BLOCK_NONE || flight != NULL;
}

static void sweep_bucket(struct user_cache *cache, struct shard *shard, size_t bucket, uint64_t now) {
    uint32_t number = shard->buckets[bucket] - 1;
    while (number != BLOCK_NONE) {
        const struct user_entry *entry = user_entry_at(&cache->pool, number);
        uint32_t next = entry->next;
        if (is_expired(cache, entry, now)) {
            drop(cache, shard, number);
            shard->counts.expired++;
        }
        number = next;
    }
}

void user_cache_sweep(struct user_cache *cache, double seconds_since_last) {
    if (cache->ttl == 0)
        return;
    size_t buckets = cache->shard_count * cache->buckets_a_shard;
    double period = clock_seconds(cache->ttl) / 4;
    period = period < sweep_max_seconds ? period : sweep_max_seconds;
    cache->sweep_due += (double)buckets * seconds_since_last / period;
    size_t count = cache->sweep_due < SWEEP_MAX_BUCKETS ? (size_t)cache->sweep_due : SWEEP_MAX_BUCKETS;
    cache->sweep_due = cache->sweep_due < SWEEP_MAX_BUCKETS ? cache->sweep_due - (double)count : 0;
    for (size_t i = 0; i < count; i++, cache->sweep_bucket = (cache->sweep_bucket + 1) % buckets) {
        struct shard *shard = &cache->shards[cache->sweep_bucket / cache->buckets_a_shard];
        pthread_mutex_lock(&shard->mutex);
        sweep_bucket(cache, shard, cache->sweep_bucket & (cache->buckets_a_shard - 1), clock_now());
        pthread_mutex_unlock(&shard->mutex);
    }
}

/* ---- counting */

void user_cache_count(struct user_cache *cache, struct user_cache_counts *counts) {
    memset(counts, 0, sizeof *counts);
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        pthread_mutex_lock(&shard->mutex);
        const struct user_cache_counts share = shard->counts;
        pthread_mutex_unlock(&shard->mutex);
        counts->entries += share.entries;
        counts->evictions += share.evictions;
        counts->expired += share.expired;
        counts->deleted += share.deleted;
        counts->refused += share.refused;
        counts->waits += share.waits;
        counts->age_seconds += share.age_seconds;
        for (unsigned j = 0; j <= USER_CACHE_AGES; j++)
            counts->ages[j] += share.ages[j];
    }
    size_t blocks = (size_t)cache->pool.count * sizeof(struct block);
    counts->capacity = cache->bytes;
    counts->bytes = cache->bytes - blocks + (size_t)block_pool_used(&cache->pool) * sizeof(struct block);
}
