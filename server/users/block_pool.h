/* block_pool.h: a fixed amount of memory, handed out in chains of equal blocks.
 *
 * An object of any size takes as many blocks as it needs. Memory therefore never fragments: the pool is full only when
 * all its blocks are in use. Blocks that were never used take no physical memory yet. Any thread may call.
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
    uint32_t next;   /* in its chain, or BLOCK_NONE */
    uint32_t unused; /* keeps blocks aligned to 8 bytes */
};

/* Blocks linked by `next`. Empty: count 0, first and last BLOCK_NONE. */
struct block_chain {
    uint32_t first, last;
    uint32_t count;
};

struct block_pool {
    struct block *blocks;
    uint32_t count;
    uint32_t fresh; /* blocks from this number on were never used */
    struct block_chain free;
    pthread_mutex_t mutex; /* guards `fresh` and `free` */
};

/* False when the kernel refuses so much address space. */
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
/* Shorten a chain to its first `count` blocks (at least 1), and return the others. */
struct block_chain block_chain_cut(const struct block_pool *pool, struct block_chain *chain, uint32_t count);

/* Take `count` blocks, or as many as there are. */
struct block_chain block_pool_take(struct block_pool *pool, uint32_t count);
/* Give blocks back; their data is wiped. */
void block_pool_give(struct block_pool *pool, struct block_chain chain);
uint32_t block_pool_used(struct block_pool *pool);

#endif
