/* user_cache.h: user id to user state, within a fixed number of bytes.
 *
 * A state is a run of bytes that was computed under a version. The cache copies it in and out, so that no eviction can
 * take a state that a request still uses. It looks at nothing inside a state: the caller compares it with its request.
 * The whole user id identifies a state, never a hash alone.
 *
 * A state has a token of 128 random bits. A token names one state of one user: it cannot be guessed, does not derive
 * from the id, and changes whenever the state does.
 *
 * One thread at a time computes a user's state (single flight); others wait in order of arrival. Any thread may call. A
 * lock is held for as long as it takes to copy a state. All memory is reserved at start and touched as users come. No
 * state is evicted before all of it is in use.
 */
#ifndef SERVER_USERS_USER_CACHE_H
#define SERVER_USERS_USER_CACHE_H

#include "proto/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct user_cache;

enum { USER_ID_MAX = 400, USER_CACHE_MIN_BYTES = 1 << 20 };

struct user_key {
    const char *id;
    size_t length; /* bytes, 1 to USER_ID_MAX */
};

struct user_token {
    uint64_t word[2];
};

/* In constant time, so that a client cannot guess a token piece by piece. */
static inline bool user_token_equal(const struct user_token *a, const struct user_token *b) {
    return ((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1])) == 0;
}

/* Takes at least USER_CACHE_MIN_BYTES. States expire `ttl` nanoseconds after they were stored; with 0 they never do.
 * NULL when memory is out. */
struct user_cache *user_cache_new(size_t bytes, uint64_t ttl);
/* A cache that hashes ids with another function than xxHash. Users whose ids have one hash still have states of their
 * own. */
typedef uint64_t user_hash(const void *id, size_t length, uint64_t seed);
struct user_cache *user_cache_new_hashed(size_t bytes, uint64_t ttl, user_hash *hash);
/* Call when no other thread uses the cache. NULL is allowed. */
void user_cache_free(struct user_cache *cache);

/* The versions that requests begin with from now on: the live model's, and a candidate's or 0. A state of one of them
 * is neither dropped nor replaced by a request that began with another version. Before the first call the newest
 * version counts as served. Any thread may call. */
void user_cache_serve(struct user_cache *cache, uint64_t version, uint64_t candidate);

/* The record of a history store that a state was made of. */
struct user_source {
    uint64_t revision;        /* 0: a request brought the history */
    uint64_t checked;         /* clock_now() when the store was last asked, and had it; 0: it is to be asked */
    uint32_t count;           /* behaviours ever received, of all lists; UINT32_MAX: so many or more */
    uint32_t changed_seconds; /* when the record was written, since 1970 */
};

enum user_answer {
    USER_HELD,
    USER_ABSENT,
    USER_EXPIRED,       /* a state older than ttl was held; it is gone now */
    USER_OTHER_VERSION, /* another model version's state was held; it is gone now unless that version is served */
    USER_NO_MEMORY      /* the arena's memory is out */
};
struct user_copy {
    void *state; /* in the arena; a later read into the same copy uses the memory again */
    size_t size;
    size_t capacity;       /* bytes at `state` */
    bool held;             /* the last read found a state */
    bool was_read;         /* further reads for the same request do not count as uses */
    uint64_t delete_epoch; /* of the shard, at the first read; or the caller's, with epoch_is_known */
    bool epoch_is_known;
    struct user_token token;
    struct user_source source;
    uint64_t age, idle; /* nanoseconds since the state was stored, and since it was last used */
    size_t bytes;       /* that the entry takes in the cache */
};
/* Copy a user's state of this version into the arena. `copy` must be zeros before its first read. */
enum user_answer user_cache_read(struct user_cache *cache, struct user_key key, uint64_t version, struct arena *arena,
                                 struct user_copy *copy);
/* The moment by which a later read of this user tells deletions: for a history that was read somewhere else, before. */
uint64_t user_cache_delete_epoch(struct user_cache *cache, struct user_key key);
/* Read without counting a use, so that the state does not become likelier to stay. */
enum user_answer user_cache_peek(struct user_cache *cache, struct user_key key, uint64_t version, struct arena *arena,
                                 struct user_copy *copy);

/* The sole right to compute a user's next state. One thread owns it, from single_flight_begin() to user_cache_store()
 * or single_flight_cancel(). */
struct single_flight {
    struct single_flight *next; /* in the shard's list */
    struct user_key key;
    uint64_t hash;
    bool user_deleted;         /* user_cache_delete() came meanwhile, so nothing is stored */
    struct user_source source; /* of the state that is to be stored; the owner's to set */
};
/* Wait until no other thread computes this user's state, then begin. `seen` is the caller's last read; NULL if it did
 * not read. False, and nothing is begun, when the held state is no longer the one that was read: read again.
 *
 * If the user was deleted since the first read, the flight begins but its state will not be kept. */
bool single_flight_begin(struct user_cache *cache, struct user_key key, uint64_t version, const struct user_copy *seen,
                         struct single_flight *flight);
/* Wait for the flight unconditionally, at most one turn of each thread that waits already. While it lasts, the held
 * state can only be deleted, evicted or expire, never be replaced: read it again, then build on it. */
void single_flight_begin_always(struct user_cache *cache, struct user_key key, const struct user_copy *seen,
                                struct single_flight *flight);
/* Replace the user's state and end the flight. False when the state is not kept, because it is larger than the cache,
 * the user was deleted, or a state is held whose version is served while this one is not. */
bool user_cache_store(struct user_cache *cache, struct single_flight *flight, uint64_t version, const void *state,
                      size_t size, struct user_token *token);
/* Replace the user's state by one that was held before, under its old token, and end the flight. */
bool user_cache_put_back(struct user_cache *cache, struct single_flight *flight, uint64_t version,
                         const struct user_copy *copy);
/* The state under this token, unchanged, is one of this record. */
void user_cache_set_source(struct user_cache *cache, struct user_key key, const struct user_token *token,
                           const struct user_source *source);
/* The record may have changed: the store is to be asked before the user's state is used. */
void user_cache_doubt(struct user_cache *cache, struct user_key key);
/* The record of the user's state of this version, without reading the state; zeros if there is none. */
struct user_source user_cache_source(struct user_cache *cache, struct user_key key, uint64_t version);
/* Drop the user's state if it is one of a record: the store has that no more. False: it is none, or there is none. */
bool user_cache_drop_source(struct user_cache *cache, struct user_key key);

/* End the flight without a state. */
void single_flight_cancel(struct user_cache *cache, struct single_flight *flight);

/* Delete a user's state at once and wipe its bytes. A state that is being computed will not be kept. False when there
 * was neither. */
bool user_cache_delete(struct user_cache *cache, struct user_key key);

/* Delete expired states that nobody asks for. At a few calls per second the sweep finds each within ttl / 4 or a
 * minute, whichever is less. The time of one call is bounded: at four calls per second a sweep takes half a minute for
 * each GB of cache. One thread at a time may call. */
void user_cache_sweep(struct user_cache *cache, double seconds_since_last);

enum { USER_CACHE_AGES = 18 };
extern const double user_cache_age_bounds[USER_CACHE_AGES]; /* seconds, upper bounds, ascending; +Inf follows */
struct user_cache_counts {
    uint64_t entries;
    uint64_t bytes;     /* in use: the index, and blocks that hold states */
    uint64_t capacity;  /* bytes */
    uint64_t evictions; /* for lack of room */
    uint64_t expired, deleted;
    uint64_t refused;                   /* states for which the whole cache had no room */
    uint64_t waits;                     /* for another thread's flight */
    uint64_t ages[USER_CACHE_AGES + 1]; /* evicted entries by time since their last use; not cumulative */
    double age_seconds;                 /* the sum of those times */
};
void user_cache_count(struct user_cache *cache, struct user_cache_counts *counts);

#endif
