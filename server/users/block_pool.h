/* block_pool.h: memory of one size fixed at start, handed out in chains of equal blocks.
 *
 * What differs in size is kept in as many blocks as it takes, so that memory never fragments, whatever comes and goes:
 * a pool is full only when all its blocks are in use. The pages of blocks that were never in use are not there yet.
 * Any thread may call.
 */
#ifndef SERVER_USERS_BLOCK_POOL_H
#define SERVER_USERS_BLOCK_POOL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BLOCK_BYTES = 512, BLOCK_ROOM = BLOCK_BYTES - 8 };
#define BLOCK_NONE UINT32_MAX

struct block {
    unsigned char data[BLOCK_ROOM];
    uint32_t next; /* of its chain, or BLOCK_NONE */
    uint32_t unused;
};

/* Blocks linked by `next`, `last` being the one without. Empty: count 0, first BLOCK_NONE. */
struct block_chain {
    uint32_t first, last;
    uint32_t count;
};

struct block_pool {
    struct block *blocks;
    uint32_t count;
    uint32_t fresh; /* blocks from here on have never been in use */
    struct block_chain free;
    pthread_mutex_t mutex; /* `fresh` and `free` are under it */
};

/* False when the address space is out. */
bool block_pool_init(struct block_pool *pool, uint32_t count);
void block_pool_free(struct block_pool *pool);

static inline struct block *block_at(const struct block_pool *pool, uint32_t block) {
    return &pool->blocks[block];
}

static inline struct block_chain block_chain_empty(void) {
    return (struct block_chain){BLOCK_NONE, BLOCK_NONE, 0};
}

/* Append `more` to `chain`. */
void block_chain_join(const struct block_pool *pool, struct block_chain *chain, struct block_chain more);
/* Cut all but the first `count` (at least 1) off a chain and return them. */
struct block_chain block_chain_cut(const struct block_pool *pool, struct block_chain *chain, uint32_t count);

/* A chain of `count` blocks, or of as many as there are. */
struct block_chain block_pool_take(struct block_pool *pool, uint32_t count);
/* What was in the blocks is wiped. */
void block_pool_give(struct block_pool *pool, struct block_chain chain);
uint32_t block_pool_used(struct block_pool *pool);

#endif
