/* user_cache.h: user id to user state, within a fixed number of bytes.
 *
 * Knows no model: a state is a run of bytes that was computed under some version, copied in and copied out, so that no
 * eviction can take it from under a request. A state is found by the whole of its user id, never by a hash alone. What
 * a state says is not judged here: whoever reads it compares it with its request.
 *
 * A state has a token, 128 random bits that name this state of this user and no other: not guessable, not derived from
 * the id, and new whenever the state changes.
 *
 * One thread computes a user's state at a time (single_flight_begin); the others wait for it, in the order in which
 * they came. Any thread may call; locks are held for as long as a state is copied. All memory is counted and taken at
 * start, untouched: bytes are used as users come, and no user is evicted before all are in use.
 */
#ifndef SERVER_USERS_USER_CACHE_H
#define SERVER_USERS_USER_CACHE_H

#include "proto/arena.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct user_cache;

enum { USER_ID_MAX = 256, USER_CACHE_MIN_BYTES = 1 << 20 };

struct user_key {
    const char *id;
    size_t length; /* 1 to USER_ID_MAX */
};

struct user_token {
    uint64_t word[2];
};

static inline bool user_token_equal(const struct user_token *a, const struct user_token *b) {
    return ((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1])) == 0; /* in the same time whatever they are */
}

/* At least USER_CACHE_MIN_BYTES bytes. A state older than `ttl` nanoseconds is forgotten; 0: at any age it is kept.
 * NULL when memory is out. */
struct user_cache *user_cache_new(size_t bytes, uint64_t ttl);
/* The same with another hash of ids than xxHash. However many ids it gives one hash, states stay apart. */
typedef uint64_t user_hash(const void *id, size_t length, uint64_t seed);
struct user_cache *user_cache_new_hashed(size_t bytes, uint64_t ttl, user_hash *hash);
/* When no thread is in it. */
void user_cache_free(struct user_cache *cache);

/* What is held of a user under a version. Versions grow: a state of an older one is forgotten when it is met. */
enum user_answer {
    USER_HELD,
    USER_ABSENT,
    USER_EXPIRED,       /* it was older than ttl */
    USER_OTHER_VERSION, /* it is another model version's */
    USER_NO_MEMORY      /* the arena's */
};
struct user_copy {
    void *state; /* in the arena; a later read of the same copy uses its room again */
    size_t size;
    size_t room;
    bool held;
    bool begun;            /* it was read before: reading it again is not another use */
    uint64_t delete_epoch; /* the cache's own: how many were forgotten before it was read */
    struct user_token token;
    uint64_t age, idle; /* nanoseconds since it was stored, and since it was last used */
    size_t bytes;       /* that it takes of the cache */
};
/* Copy the user's state into the arena. `copy` starts as zeros. */
enum user_answer user_cache_read(struct user_cache *cache, struct user_key key, uint64_t version, struct arena *arena,
                                 struct user_copy *copy);
/* The same, but not a use: the state becomes no likelier to stay. */
enum user_answer user_cache_peek(struct user_cache *cache, struct user_key key, uint64_t version, struct arena *arena,
                                 struct user_copy *copy);

/* The right to compute a user's next state. Belongs to one thread, from single_flight_begin() to user_cache_store() or
 * single_flight_cancel(). */
struct single_flight {
    struct single_flight *next;
    struct user_key key;
    uint64_t hash;
    bool user_deleted; /* user_cache_delete() came meanwhile: nothing is stored */
};
/* Wait until no other thread computes a state of this user, then take the right. `seen` is what was read, NULL if
 * nothing was. False when that is not what there is now: read again. A user that was forgotten since the first reading
 * is computed for the request alone: the state will not be kept. */
bool single_flight_begin(struct user_cache *cache, struct user_key key, uint64_t version, const struct user_copy *seen,
                         struct single_flight *flight);
/* The same whatever there is now: what is read again under the right no other thread changes, but to forget it. Ends
 * after one turn of each thread that was there before. */
void single_flight_begin_always(struct user_cache *cache, struct user_key key, const struct user_copy *seen,
                                struct single_flight *flight);
/* Keep a state in place of the one before, and give up the right. False when it is not kept: it is larger than the
 * cache, the user was forgotten, or a newer version's is there. */
bool user_cache_store(struct user_cache *cache, struct single_flight *flight, uint64_t version, const void *state,
                      size_t size, struct user_token *token);
void single_flight_cancel(struct user_cache *cache, struct single_flight *flight);

/* Forget a user at once: all bytes that were its states' are wiped, and a state that is being computed will not be
 * kept. False if there was nothing. */
bool user_cache_delete(struct user_cache *cache, struct user_key key);

/* Drop states that are older than ttl before anybody asks for them. Called a few times a second it meets each within a
 * quarter of ttl or a minute, whichever is less; but one call's time is bounded: at four calls a second it takes half a
 * minute for each GB of cache. One thread at a time. */
void user_cache_sweep(struct user_cache *cache, double seconds_since_last);

/* What is counted. */
enum { USER_CACHE_AGES = 10 };
extern const double user_cache_age_bounds[USER_CACHE_AGES]; /* seconds, upper bounds, ascending; +Inf comes after */
struct user_cache_counts {
    uint64_t entries;
    uint64_t bytes;     /* in use: blocks of states, and what finds them */
    uint64_t capacity;  /* bytes */
    uint64_t evictions; /* for lack of room */
    uint64_t expired, deleted;
    uint64_t refused;                   /* there was no room in the whole cache */
    uint64_t waits;                     /* for another thread's computation */
    uint64_t ages[USER_CACHE_AGES + 1]; /* evicted entries by time since their last use; not cumulative */
    double age_seconds;                 /* their sum */
};
void user_cache_count(struct user_cache *cache, struct user_cache_counts *counts);

#endif
