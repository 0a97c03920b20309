/* user_entry.h: how a user's state lies in the blocks of a pool; for user_cache.c and eviction.c alone.
 *
 * An entry is a chain of blocks. The first starts with this head and the whole user id; the state follows, through as
 * many blocks as it takes. An entry is named by its first block's number.
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
    uint32_t size;         /* bytes of the state */
    uint32_t last;         /* block of the chain */
    uint32_t count;        /* blocks */
    uint32_t next;         /* in its bucket, or BLOCK_NONE */
    uint32_t older, newer; /* in its eviction queue, or BLOCK_NONE */
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
