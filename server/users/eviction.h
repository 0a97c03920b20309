/* eviction.h: which entry of a shard goes when there is no room: S3-FIFO (Yang et al., SOSP 2023).
 *
 * Three first-in first-out queues. A new entry enters `small`, a tenth of the room; used there twice, it moves on to
 * `main`, else it leaves and only its fingerprint is remembered; an entry that comes back while it is remembered enters
 * `main` at once. `main` gives each entry another round for each use, at most 3. A use is a counter in the entry
 * itself: a hit moves nothing. tests/bench/eviction.md has what led here.
 *
 * Belongs to a shard and is under its lock.
 */
#ifndef SERVER_USERS_EVICTION_H
#define SERVER_USERS_EVICTION_H

#include "server/users/user_entry.h"

enum { EVICTION_SMALL, EVICTION_MAIN, EVICTION_QUEUES };

/* Bytes of `remembered` per slot, and how many slots a shard of so many blocks has: one for an entry of average size.
 */
struct eviction_ghost {
    uint32_t fingerprint;
    uint32_t since;
};
enum { EVICTION_BLOCKS_A_GHOST = 8 };

struct eviction {
    const struct block_pool *pool;
    struct {
        uint32_t oldest, newest; /* or BLOCK_NONE */
        uint32_t entries;
        uint64_t blocks;
    } queues[EVICTION_QUEUES];
    struct eviction_ghost *ghosts; /* [ghost_count], by hash */
    uint32_t ghost_count;
    uint32_t clock; /* entries that left `small` unused */
};

void eviction_init(struct eviction *eviction, const struct block_pool *pool, struct eviction_ghost *ghosts,
                   uint32_t ghost_count);
void eviction_insert(struct eviction *eviction, uint32_t entry);
void eviction_touch(struct user_entry *entry);
/* The entry's count of blocks has changed by so many. */
void eviction_resize(struct eviction *eviction, const struct user_entry *entry, int64_t blocks);
/* Take an entry out, for another reason than room. */
void eviction_remove(struct eviction *eviction, uint32_t entry);
/* Choose an entry other than `kept` and take it out; BLOCK_NONE when there is none. */
uint32_t eviction_choose(struct eviction *eviction, uint32_t kept);

#endif
