/* block_pool.c: one private mapping, with a list of free blocks and a tail of blocks that were never used. */
#include "server/users/block_pool.h"

#include <string.h>
#include <sys/mman.h>

bool block_pool_init(struct block_pool *pool, uint32_t count) {
    void *memory = mmap(NULL, (size_t)count * sizeof(struct block), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return false;
    *pool = (struct block_pool){.blocks = memory, .count = count, .free = block_chain_empty()};
    pthread_mutex_init(&pool->mutex, NULL);
    return true;
}

void block_pool_free(struct block_pool *pool) {
    munmap(pool->blocks, (size_t)pool->count * sizeof(struct block));
    pthread_mutex_destroy(&pool->mutex);
}

void block_chain_join(const struct block_pool *pool, struct block_chain *chain, struct block_chain more) {
    if (chain->count == 0) {
        *chain = more;
    } else if (more.count > 0) {
        block_at(pool, chain->last)->next = more.first;
        chain->last = more.last;
        chain->count += more.count;
    }
}

struct block_chain block_chain_cut(const struct block_pool *pool, struct block_chain *chain, uint32_t count) {
    if (chain->count <= count)
        return block_chain_empty();
    uint32_t last = chain->first;
    for (uint32_t i = 1; i < count; i++)
        last = block_at(pool, last)->next;
    struct block_chain rest = {block_at(pool, last)->next, chain->last, chain->count - count};
    block_at(pool, last)->next = BLOCK_NONE;
    chain->last = last;
    chain->count = count;
    return rest;
}

struct block_chain block_pool_take(struct block_pool *pool, uint32_t count) {
    if (count == 0)
        return block_chain_empty();
    pthread_mutex_lock(&pool->mutex);
    /* Freed blocks first, so that untouched pages stay untouched. */
    struct block_chain taken = pool->free;
    pool->free = block_chain_cut(pool, &taken, count);
    uint32_t missing = count - taken.count, left = pool->count - pool->fresh;
    uint32_t fresh_count = missing < left ? missing : left;
    if (fresh_count > 0) {
        struct block_chain fresh = {pool->fresh, pool->fresh + fresh_count - 1, fresh_count};
        for (uint32_t i = fresh.first; i < fresh.last; i++)
            block_at(pool, i)->next = i + 1;
        block_at(pool, fresh.last)->next = BLOCK_NONE;
        pool->fresh += fresh_count;
        block_chain_join(pool, &taken, fresh);
    }
    pthread_mutex_unlock(&pool->mutex);
    return taken;
}

void block_pool_give(struct block_pool *pool, struct block_chain chain) {
    if (chain.count == 0)
        return;
    for (uint32_t block = chain.first; block != BLOCK_NONE; block = block_at(pool, block)->next)
        explicit_bzero(block_at(pool, block)->data, BLOCK_ROOM);
    pthread_mutex_lock(&pool->mutex);
    block_chain_join(pool, &chain, pool->free);
    pool->free = chain;
    pthread_mutex_unlock(&pool->mutex);
}

uint32_t block_pool_used(struct block_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    uint32_t used = pool->fresh - pool->free.count;
    pthread_mutex_unlock(&pool->mutex);
    return used;
}
