/* user_cache.c: shards, each with a lock, an index, an eviction order and its flights.
 *
 * All shards share one pool of blocks, so that none evicts while the pool has room.
 *
 * Locking order: a shard's lock, then the pool's. A thread never holds two shards' locks. The only file that uses
 * xxHash.
 */
#define XXH_INLINE_ALL
#include "server/users/user_cache.h"

#include "server/base/clock.h"
#include "server/users/eviction.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <xxhash.h>

enum {
    SHARDS_MAX = 64,
    SHARD_MIN_BYTES = 1 << 20, /* a smaller shard has too few entries for a good eviction order */
    BLOCKS_PER_BUCKET = 4,
    TOKENS_AHEAD = 16,
    SWEEP_MAX_BUCKETS = 4096, /* in one call */
    STORE_TRIES = 64,         /* other threads may take the room that this one has just freed */
    RECENT_DELETES = 32       /* a shard remembers the users of so many deletes */
};
static const double sweep_max_seconds = 60;

const double user_cache_age_bounds[USER_CACHE_AGES] = {
    1, 3, 10, 30, 60, 180, 300, 900, 1800, 3600, 7200, 14400, 43200, 86400, 259200, 604800, 1209600, 2592000};

struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    pthread_cond_t flight_ended;
    struct single_flight *flights;           /* of all users; a user's first one is under way, its others wait */
    uint64_t delete_epoch;                   /* calls of user_cache_delete() */
    uint64_t recent_deletes[RECENT_DELETES]; /* hashes of the deleted users, [epoch % RECENT_DELETES] */
    uint32_t *buckets;                       /* [buckets_per_shard]: an entry's number + 1; 0: empty */
    struct eviction eviction;
    struct user_token tokens[TOKENS_AHEAD]; /* random and unused: one system call for TOKENS_AHEAD of them */
    size_t token_count;
    struct user_cache_counts counts; /* the shard's share, without bytes and capacity */
};

struct user_cache {
    size_t bytes;
    uint64_t ttl;
    user_hash *hash;
    uint64_t seed; /* random, so that nobody can choose ids with one hash */
    struct block_pool pool;
    void *index; /* of all shards: buckets, then ghosts */
    size_t index_bytes;
    size_t buckets_per_shard; /* a power of two, as is the next */
    size_t shard_count;
    size_t sweep_bucket;        /* the next to sweep, counted over all shards */
    double sweep_due;           /* buckets to sweep by now */
    _Atomic uint64_t served[2]; /* versions; 0: none */
    struct shard *shards;
};

/* ---- start and end */

static size_t power_of_two_within(size_t max) {
    size_t power = 1;
    while (2 * power <= max)
        power *= 2;
    return power;
}

/* The budget pays for the index as well as for the blocks. */
static bool reserve(struct user_cache *cache, size_t bytes) {
    size_t shards = bytes / SHARD_MIN_BYTES < SHARDS_MAX ? bytes / SHARD_MIN_BYTES : SHARDS_MAX;
    cache->shard_count = power_of_two_within(shards);
    size_t max_blocks = bytes / sizeof(struct block);
    cache->buckets_per_shard = power_of_two_within(max_blocks / BLOCKS_PER_BUCKET / cache->shard_count);
    size_t ghosts_per_shard = max_blocks / EVICTION_BLOCKS_PER_GHOST / cache->shard_count;
    size_t bucket_bytes = cache->shard_count * cache->buckets_per_shard * sizeof(uint32_t);
    cache->index_bytes = bucket_bytes + cache->shard_count * ghosts_per_shard * sizeof(struct eviction_ghost);
    size_t fixed = cache->index_bytes + sizeof *cache + cache->shard_count * sizeof *cache->shards;
    size_t blocks = (bytes - fixed) / sizeof(struct block);

    if (!block_pool_init(&cache->pool, (uint32_t)(blocks < BLOCK_NONE ? blocks : BLOCK_NONE - 1)))
        return false;
    cache->index = mmap(NULL, cache->index_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cache->shards = aligned_alloc(_Alignof(struct shard), cache->shard_count * sizeof *cache->shards);
    if (cache->index == MAP_FAILED || cache->shards == NULL)
        return false;

    uint32_t *buckets = cache->index;
    struct eviction_ghost *ghosts = (void *)((char *)cache->index + bucket_bytes);
    for (size_t i = 0; i < cache->shard_count; i++) {
        struct shard *shard = &cache->shards[i];
        memset(shard, 0, sizeof *shard);
        pthread_mutex_init(&shard->mutex, NULL);
        pthread_cond_init(&shard->flight_ended, NULL);
        shard->buckets = buckets + i * cache->buckets_per_shard;
        eviction_init(&shard->eviction, &cache->pool, ghosts + i * ghosts_per_shard, (uint32_t)ghosts_per_shard);
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
    if (getrandom(&cache->seed, sizeof cache->seed, 0) == sizeof cache->seed && reserve(cache, bytes))
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

/* ---- the index: buckets by hash, then the whole id */

static uint64_t hash_key(const struct user_cache *cache, struct user_key key) {
    return cache->hash(key.id, key.length, cache->seed);
}

/* The hash's high bits choose the shard, its low bits the bucket. */
static struct shard *shard_for(const struct user_cache *cache, uint64_t hash) {
    return &cache->shards[(hash >> 48) & (cache->shard_count - 1)];
}

static uint32_t *bucket_for(const struct user_cache *cache, const struct shard *shard, uint64_t hash) {
    return &shard->buckets[hash & (cache->buckets_per_shard - 1)];
}

static bool same_key(struct user_key a, struct user_key b) {
    return a.length == b.length && memcmp(a.id, b.id, b.length) == 0;
}

/* Returns an entry's number, or BLOCK_NONE. */
static uint32_t find(const struct user_cache *cache, const struct shard *shard, uint64_t hash, struct user_key key) {
    uint32_t number = *bucket_for(cache, shard, hash) - 1;
    while (number != BLOCK_NONE) {
        struct user_entry *entry = user_entry_at(&cache->pool, number);
        if (entry->hash == hash && same_key((struct user_key){user_entry_id(entry), entry->id_length}, key))
            break;
        number = entry->next;
    }
    return number;
}

static void take_from_index(const struct user_cache *cache, struct shard *shard, uint32_t number) {
    const struct user_entry *entry = user_entry_at(&cache->pool, number);
    uint32_t *bucket = bucket_for(cache, shard, entry->hash);
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

/* Remove an entry for another reason than lack of room. */
static void drop(struct user_cache *cache, struct shard *shard, uint32_t number) {
    take_from_index(cache, shard, number);
    eviction_remove(&shard->eviction, number);
    block_pool_give(&cache->pool, chain_of(cache, number));
}

static bool is_expired(const struct user_cache *cache, const struct user_entry *entry, uint64_t now) {
    return cache->ttl > 0 && now - entry->stored > cache->ttl;
}

/* ---- a state's bytes, behind the id and through the entry's blocks */

static size_t blocks_for(size_t id_length, size_t size) {
    return (sizeof(struct user_entry) + id_length + size + BLOCK_ROOM - 1) / BLOCK_ROOM;
}

/* A position in a state's bytes. */
struct cursor {
    uint32_t block;
    size_t offset, left;
};

static struct cursor first_byte(const struct user_cache *cache, uint32_t number) {
    const struct user_entry *entry = user_entry_at(&cache->pool, number);
    return (struct cursor){number, sizeof *entry + entry->id_length, entry->size};
}

/* Returns the bytes from the cursor to the end of its block, and moves it to the next; NULL at the end of the state. */
static unsigned char *next_bytes(const struct user_cache *cache, struct cursor *cursor, size_t *size) {
    if (cursor->left == 0)
        return NULL;
    struct block *block = block_at(&cache->pool, cursor->block);
    unsigned char *bytes = block->data + cursor->offset;
    *size = BLOCK_ROOM - cursor->offset < cursor->left ? BLOCK_ROOM - cursor->offset : cursor->left;
    cursor->left -= *size;
    cursor->offset = 0;
    cursor->block = block->next;
    if (cursor->left > 0)
        __builtin_prefetch(block_at(&cache->pool, cursor->block));
    return bytes;
}

static void copy_out(const struct user_cache *cache, uint32_t number, char *to) {
    struct cursor cursor = first_byte(cache, number);
    size_t size = 0;
    for (const unsigned char *bytes; (bytes = next_bytes(cache, &cursor, &size)) != NULL; to += size)
        memcpy(to, bytes, size);
}

/* Zeros follow to the end of the last block, so that nothing of an earlier, longer state remains. */
static void copy_in(const struct user_cache *cache, uint32_t number, const char *from) {
    struct cursor cursor = first_byte(cache, number);
    size_t size = 0;
    unsigned char *end = block_at(&cache->pool, number)->data + cursor.offset;
    for (unsigned char *bytes; (bytes = next_bytes(cache, &cursor, &size)) != NULL; from += size) {
        memcpy(bytes, from, size);
        end = bytes + size;
    }
    uint32_t last = user_entry_at(&cache->pool, number)->last;
    memset(end, 0, (size_t)(block_at(&cache->pool, last)->data + BLOCK_ROOM - end));
}

/* ---- versions */

void user_cache_serve(struct user_cache *cache, uint64_t version, uint64_t candidate) {
    cache->served[0] = version;
    cache->served[1] = candidate;
}

static bool is_served(const struct user_cache *cache, uint64_t version) {
    return version == cache->served[0] || version == cache->served[1];
}

/* Whether a state of version `held` is worth more than one of `other`: requests that are to come use it, and those of
 * `other` end soon. A rollback serves an older version again. */
static bool outranks(const struct user_cache *cache, uint64_t held, uint64_t other) {
    if (is_served(cache, held) || is_served(cache, other))
        return !is_served(cache, other);
    return held > other;
}

/* ---- reading */

/* Look up, drop an entry that nobody can use any more, copy, count the use. */
static enum user_answer read_entry(struct user_cache *cache, struct user_key key, uint64_t version, bool is_use,
                                   struct arena *arena, struct user_copy *copy) {
    uint64_t hash = hash_key(cache, key);
    struct shard *shard = shard_for(cache, hash);
    pthread_mutex_lock(&shard->mutex);
    uint64_t now = clock_now(); /* read under the lock, so that no entry is younger */
    uint32_t number = find(cache, shard, hash, key);
    struct user_entry *entry = number != BLOCK_NONE ? user_entry_at(&cache->pool, number) : NULL;
    enum user_answer answer = USER_HELD;

    if (entry == NULL) {
        answer = USER_ABSENT;
    } else if (is_expired(cache, entry, now)) {
        answer = USER_EXPIRED;
        shard->counts.expired++;
        drop(cache, shard, number);
    } else if (entry->version != version) {
        answer = USER_OTHER_VERSION;
        if (!is_served(cache, entry->version) && !outranks(cache, entry->version, version))
            drop(cache, shard, number);
    } else {
        if (copy->capacity < entry->size) {
            copy->state = arena_alloc(arena, entry->size);
            copy->capacity = copy->state != NULL ? entry->size : 0;
        }
        if (copy->state == NULL)
            answer = USER_NO_MEMORY;
    }

    copy->held = answer == USER_HELD;
    if (copy->held) {
        copy_out(cache, number, copy->state);
        copy->size = entry->size;
        copy->token = entry->token;
        copy->source = entry->source;
        copy->age = now - entry->stored;
        copy->idle = now - entry->used;
        copy->bytes = (size_t)entry->count * sizeof(struct block);
        if (is_use && !copy->was_read) {
            entry->used = now;
            eviction_touch(entry);
        }
    }
    if (!copy->was_read && !copy->epoch_is_known)
        copy->delete_epoch = shard->delete_epoch;
    copy->was_read = true;
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

/* ---- single flight */

/* The user's flight that is under way; those behind it in the list wait. NULL when there is none. */
static struct single_flight *current_flight(const struct shard *shard, uint64_t hash, struct user_key key) {
    struct single_flight *flight = shard->flights;
    while (flight != NULL && !(flight->hash == hash && same_key(flight->key, key)))
        flight = flight->next;
    return flight;
}

/* Take a flight off the list, whether it is under way or waits. */
static void single_flight_end(struct shard *shard, struct single_flight *flight) {
    bool was_current = current_flight(shard, flight->hash, flight->key) == flight;
    struct single_flight **link = &shard->flights;
    while (*link != flight)
        link = &(*link)->next;
    *link = flight->next;
    if (was_current)
        pthread_cond_broadcast(&shard->flight_ended);
}

/* Whether the user may have been deleted since an epoch. A false alarm is possible, after more than RECENT_DELETES
 * deletes or when another user has the same hash; it costs a state that is not kept. */
static bool deleted_since(const struct shard *shard, uint64_t hash, uint64_t epoch) {
    if (shard->delete_epoch - epoch > RECENT_DELETES)
        return true;
    for (; epoch < shard->delete_epoch; epoch++)
        if (shard->recent_deletes[epoch % RECENT_DELETES] == hash)
            return true;
    return false;
}

/* Line up behind the user's other flights and wait for the turn. Unless `always`, leave the line as soon as the held
 * state is no longer the one that was seen. */
static bool begin_flight(struct user_cache *cache, struct user_key key, uint64_t version, const struct user_copy *seen,
                         bool always, struct single_flight *flight) {
    *flight = (struct single_flight){.key = key, .hash = hash_key(cache, key)};
    struct shard *shard = shard_for(cache, flight->hash);
    bool was_held = seen != NULL && seen->held, changed = false, waited = false;
    pthread_mutex_lock(&shard->mutex);
    struct single_flight **end = &shard->flights;
    while (*end != NULL)
        end = &(*end)->next;
    *end = flight;

    for (;;) {
        /* Another version's state counts as none, since the caller could not read it. A state that was read and is gone
         * has changed too: the user may have been deleted, and nothing may be built on a deleted state. */
        uint32_t number = find(cache, shard, flight->hash, key);
        const struct user_entry *entry = number != BLOCK_NONE ? user_entry_at(&cache->pool, number) : NULL;
        if (entry == NULL || entry->version != version)
            changed = was_held;
        else
            changed = !was_held || !user_token_equal(&entry->token, &seen->token);
        if ((changed && !always) || current_flight(shard, flight->hash, key) == flight)
            break;
        shard->counts.waits += !waited;
        waited = true;
        pthread_cond_wait(&shard->flight_ended, &shard->mutex);
    }

    bool begun = always || !changed;
    if (!begun) {
        single_flight_end(shard, flight);
    } else if (seen != NULL && (always || !was_held)) {
        /* In the other case the entry's token is unchanged, so it cannot have been deleted in between. A delete during
         * the wait came after the read that `seen` is of, so the epoch tells of it too. */
        flight->user_deleted = deleted_since(shard, flight->hash, seen->delete_epoch);
    }
    pthread_mutex_unlock(&shard->mutex);
    return begun;
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
    struct shard *shard = shard_for(cache, flight->hash);
    pthread_mutex_lock(&shard->mutex);
    single_flight_end(shard, flight);
    pthread_mutex_unlock(&shard->mutex);
}

/* ---- room */

/* Evict one entry of a shard and return its blocks; an empty chain when there is no entry but `kept`. */
static struct block_chain evict(struct user_cache *cache, struct shard *shard, uint32_t kept) {
    uint32_t victim = eviction_choose(&shard->eviction, kept);
    if (victim == BLOCK_NONE)
        return block_chain_empty();
    double age = clock_seconds(clock_now() - user_entry_at(&cache->pool, victim)->used);
    unsigned bucket = 0;
    while (bucket < USER_CACHE_AGES && age > user_cache_age_bounds[bucket])
        bucket++;
    shard->counts.ages[bucket]++;
    shard->counts.age_seconds += age;
    shard->counts.evictions++;
    take_from_index(cache, shard, victim);
    return chain_of(cache, victim);
}

/* Take `count` blocks from the pool, or by evicting other entries of this shard. False when both have too few. */
static bool find_room(struct user_cache *cache, struct shard *shard, uint32_t kept, uint32_t count,
                      struct block_chain *chain) {
    *chain = block_pool_take(&cache->pool, count);
    while (chain->count < count) {
        struct block_chain more = evict(cache, shard, kept);
        if (more.count == 0) {
            block_pool_give(&cache->pool, *chain);
            return false;
        }
        block_chain_join(&cache->pool, chain, more);
    }
    block_pool_give(&cache->pool, block_chain_cut(&cache->pool, chain, count));
    return true;
}

/* Have the other shards give `count` blocks to the pool, because this one has no more. Called without its lock. */
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
        /* Once the kernel's generator has started, it never cuts reads of up to 256 bytes short. */
        while (getrandom(shard->tokens, sizeof shard->tokens, 0) != sizeof shard->tokens)
            continue;
        shard->token_count = TOKENS_AHEAD;
    }
    return shard->tokens[--shard->token_count];
}

enum attempt { STORED, NOT_KEPT, NO_ROOM };

/* Find or make the user's entry, fit its blocks to the state, fill it in. Called with the shard's lock; the state is no
 * larger than the cache. `renews`: the entry gets a new token; otherwise the one that was passed. */
static enum attempt store_entry(struct user_cache *cache, struct shard *shard, const struct single_flight *flight,
                                uint64_t version, const void *state, size_t size, bool renews,
                                struct user_token *token) {
    uint32_t number = find(cache, shard, flight->hash, flight->key);
    struct user_entry *entry = number != BLOCK_NONE ? user_entry_at(&cache->pool, number) : NULL;
    if (flight->user_deleted || (entry != NULL && outranks(cache, entry->version, version)))
        return NOT_KEPT;

    /* An entry keeps its first block, and with it its number and head. */
    bool is_new = entry == NULL;
    struct block_chain chain = is_new ? block_chain_empty() : chain_of(cache, number), more = block_chain_empty();
    uint32_t count = (uint32_t)blocks_for(flight->key.length, size), before = chain.count;
    if (count > before && !find_room(cache, shard, number, count - before, &more))
        return NO_ROOM;
    block_chain_join(&cache->pool, &chain, more);
    block_pool_give(&cache->pool, block_chain_cut(&cache->pool, &chain, count));

    number = chain.first;
    entry = user_entry_at(&cache->pool, number);
    if (is_new) {
        *entry = (struct user_entry){.hash = flight->hash, .id_length = (uint16_t)flight->key.length};
        memcpy(user_entry_id(entry), flight->key.id, flight->key.length);
    } else {
        eviction_resize(&shard->eviction, entry, (int64_t)count - before);
    }
    entry->last = chain.last;
    entry->count = count;
    entry->version = version;
    entry->stored = entry->used = clock_now();
    if (renews)
        *token = next_token(shard);
    entry->token = *token;
    entry->source = flight->source;
    entry->size = (uint32_t)size;
    copy_in(cache, number, state);
    if (is_new) {
        uint32_t *bucket = bucket_for(cache, shard, entry->hash);
        entry->next = *bucket - 1;
        *bucket = number + 1;
        shard->counts.entries++;
        eviction_insert(&shard->eviction, number);
    }
    return STORED;
}

static bool store(struct user_cache *cache, struct single_flight *flight, uint64_t version, const void *state,
                  size_t size, bool renews, struct user_token *token) {
    struct shard *shard = shard_for(cache, flight->hash);
    size_t count = blocks_for(flight->key.length, size);
    enum attempt attempt = NO_ROOM;
    int tries = count <= cache->pool.count ? STORE_TRIES : 0; /* none if the state is larger than the cache */
    for (int i = 0; attempt == NO_ROOM && i < tries; i++) {
        if (i > 0)
            evict_from_others(cache, shard, (uint32_t)count);
        pthread_mutex_lock(&shard->mutex);
        attempt = store_entry(cache, shard, flight, version, state, size, renews, token);
        pthread_mutex_unlock(&shard->mutex);
    }
    pthread_mutex_lock(&shard->mutex);
    shard->counts.refused += attempt == NO_ROOM;
    single_flight_end(shard, flight);
    pthread_mutex_unlock(&shard->mutex);
    return attempt == STORED;
}

bool user_cache_store(struct user_cache *cache, struct single_flight *flight, uint64_t version, const void *state,
                      size_t size, struct user_token *token) {
    return store(cache, flight, version, state, size, true, token);
}

bool user_cache_put_back(struct user_cache *cache, struct single_flight *flight, uint64_t version,
                         const struct user_copy *copy) {
    struct user_token token = copy->token;
    flight->source = copy->source;
    return store(cache, flight, version, copy->state, copy->size, false, &token);
}

/* ---- the store's record of a state */

/* The user's entry with the shard locked, or NULL. The caller unlocks the shard. */
static struct user_entry *lock_entry(struct user_cache *cache, struct user_key key, struct shard **shard,
                                     uint32_t *number) {
    uint64_t hash = hash_key(cache, key);
    *shard = shard_for(cache, hash);
    pthread_mutex_lock(&(*shard)->mutex);
    *number = find(cache, *shard, hash, key);
    return *number != BLOCK_NONE ? user_entry_at(&cache->pool, *number) : NULL;
}

void user_cache_set_source(struct user_cache *cache, struct user_key key, const struct user_token *token,
                           const struct user_source *source) {
    struct shard *shard;
    uint32_t number;
    struct user_entry *entry = lock_entry(cache, key, &shard, &number);
    if (entry != NULL && user_token_equal(&entry->token, token))
        entry->source = *source;
    pthread_mutex_unlock(&shard->mutex);
}

void user_cache_doubt(struct user_cache *cache, struct user_key key) {
    struct shard *shard;
    uint32_t number;
    struct user_entry *entry = lock_entry(cache, key, &shard, &number);
    if (entry != NULL)
        entry->source.checked = 0;
    pthread_mutex_unlock(&shard->mutex);
}

struct user_source user_cache_source(struct user_cache *cache, struct user_key key, uint64_t version) {
    struct shard *shard;
    uint32_t number;
    const struct user_entry *entry = lock_entry(cache, key, &shard, &number);
    bool usable = entry != NULL && entry->version == version && !is_expired(cache, entry, clock_now());
    struct user_source source = usable ? entry->source : (struct user_source){0};
    pthread_mutex_unlock(&shard->mutex);
    return source;
}

bool user_cache_drop_source(struct user_cache *cache, struct user_key key) {
    struct shard *shard;
    uint32_t number;
    const struct user_entry *entry = lock_entry(cache, key, &shard, &number);
    bool drops = entry != NULL && entry->source.revision != 0;
    if (drops)
        drop(cache, shard, number);
    pthread_mutex_unlock(&shard->mutex);
    return drops;
}

/* ---- deleting */

uint64_t user_cache_delete_epoch(struct user_cache *cache, struct user_key key) {
    struct shard *shard = shard_for(cache, hash_key(cache, key));
    pthread_mutex_lock(&shard->mutex);
    uint64_t epoch = shard->delete_epoch;
    pthread_mutex_unlock(&shard->mutex);
    return epoch;
}

bool user_cache_delete(struct user_cache *cache, struct user_key key) {
    uint64_t hash = hash_key(cache, key);
    struct shard *shard = shard_for(cache, hash);
    pthread_mutex_lock(&shard->mutex);
    shard->recent_deletes[shard->delete_epoch++ % RECENT_DELETES] = hash;
    struct single_flight *flight = current_flight(shard, hash, key);
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

void user_cache_sweep(struct user_cache *cache, double seconds_since_last) {
    if (cache->ttl == 0)
        return;
    size_t buckets = cache->shard_count * cache->buckets_per_shard;
    double period = clock_seconds(cache->ttl) / 4;
    period = period < sweep_max_seconds ? period : sweep_max_seconds;
    cache->sweep_due += (double)buckets * seconds_since_last / period;
    size_t count = cache->sweep_due < SWEEP_MAX_BUCKETS ? (size_t)cache->sweep_due : SWEEP_MAX_BUCKETS;
    cache->sweep_due = cache->sweep_due < SWEEP_MAX_BUCKETS ? cache->sweep_due - (double)count : 0;

    for (size_t i = 0; i < count; i++, cache->sweep_bucket = (cache->sweep_bucket + 1) % buckets) {
        struct shard *shard = &cache->shards[cache->sweep_bucket / cache->buckets_per_shard];
        pthread_mutex_lock(&shard->mutex);
        uint64_t now = clock_now();
        uint32_t number = shard->buckets[cache->sweep_bucket & (cache->buckets_per_shard - 1)] - 1;
        while (number != BLOCK_NONE) {
            const struct user_entry *entry = user_entry_at(&cache->pool, number);
            uint32_t next = entry->next;
            if (is_expired(cache, entry, now)) {
                drop(cache, shard, number);
                shard->counts.expired++;
            }
            number = next;
        }
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
