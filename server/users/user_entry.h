/* user_entry.h: the layout of a user's state in blocks of the pool; for user_cache.c and eviction.c only.
 *
 * An entry is a chain of blocks. The first block starts with this head and the user id; the state follows, continued in
 * the next blocks. The number of its first block names an entry.
 */
#ifndef SERVER_USERS_USER_ENTRY_H
#define SERVER_USERS_USER_ENTRY_H

#include "server/users/block_pool.h"
#include "server/users/user_cache.h"

struct user_entry {
    uint64_t hash;
    uint64_t version;
    uint64_t stored, used; /* clock_now() */
    struct user_token token;
    struct user_source source;
    uint32_t size;         /* bytes of the state */
    uint32_t last;         /* block of the chain */
    uint32_t count;        /* blocks of the chain */
    uint32_t next;         /* entry in its bucket, or BLOCK_NONE */
    uint32_t older, newer; /* entries in its eviction queue, or BLOCK_NONE */
    uint16_t id_length;
    uint8_t queue; /* eviction.c's, as is the next */
    uint8_t uses;
};

_Static_assert(sizeof(struct user_entry) + USER_ID_MAX <= BLOCK_ROOM, "a head and an id fit in one block");

static inline struct user_entry *user_entry_at(const struct block_pool *pool, uint32_t entry) {
    return (struct user_entry *)(void *)block_at(pool, entry)->data;
}

static inline char *user_entry_id(struct user_entry *entry) {
    return (char *)(entry + 1);
}

#endif
