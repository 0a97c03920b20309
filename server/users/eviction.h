/* eviction.h: the order in which a shard evicts entries: S3-FIFO (Yang et al., SOSP 2023).
 *
 * A new entry enters the queue `small`, which takes a tenth of the blocks. Used there twice, it moves on to `main`;
 * otherwise it is evicted, and a ghost remembers its fingerprint. A user who comes back while remembered enters `main`
 * at once. `main` gives an entry another round for each use, at most 3. A use increments a counter in the entry; a hit
 * moves nothing. tests/bench/eviction.md compares this order with others.
 *
 * Each shard has an eviction order of its own, guarded by the shard's lock.
 */
#ifndef SERVER_USERS_EVICTION_H
#define SERVER_USERS_EVICTION_H

#include "server/users/user_entry.h"

enum { EVICTION_SMALL, EVICTION_MAIN, EVICTION_QUEUES };

/* An entry that was evicted from `small`. */
struct eviction_ghost {
    uint32_t fingerprint; /* of its user id's hash; 0: none */
    uint32_t since;       /* eviction.clock when it was evicted */
};
enum { EVICTION_BLOCKS_PER_GHOST = 8 }; /* about one ghost for each entry, at the average size */

struct eviction {
    const struct block_pool *pool;
    struct {
        uint32_t oldest, newest; /* entries, or BLOCK_NONE */
        uint32_t entries;
        uint64_t blocks;
    } queues[EVICTION_QUEUES];
    struct eviction_ghost *ghosts; /* [ghost_count], by hash; a newer ghost overwrites an older one */
    uint32_t ghost_count;
    uint32_t clock; /* counts entries evicted from `small` */
};

void eviction_init(struct eviction *eviction, const struct block_pool *pool, struct eviction_ghost *ghosts,
                   uint32_t ghost_count);
void eviction_insert(struct eviction *eviction, uint32_t entry);
/* Counts a use. */
void eviction_touch(struct user_entry *entry);
/* Call when the entry's number of blocks changes by `blocks`. */
void eviction_resize(struct eviction *eviction, const struct user_entry *entry, int64_t blocks);
/* Take an entry out for another reason than lack of room. */
void eviction_remove(struct eviction *eviction, uint32_t entry);
/* Choose the entry to evict, never `kept`, and take it out. BLOCK_NONE when there is none. */
uint32_t eviction_choose(struct eviction *eviction, uint32_t kept);

#endif
