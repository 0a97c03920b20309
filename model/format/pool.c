/* pool.c: a list of aligned blocks. */
#include "model/format/pool.h"

#include "model/sizes.h"
#include "model/types.h"

#include <stdlib.h>
#include <string.h>

struct pool_block {
    struct pool_block *next;
    char padding[DIEN_ALIGNMENT - sizeof(struct pool_block *)];
    char data[];
};

void *pool_array(struct pool *pool, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
        return NULL;
    bytes = size_round_up(bytes + 1, DIEN_ALIGNMENT); /* an array of nothing has an address too */
    struct pool_block *block = aligned_alloc(DIEN_ALIGNMENT, sizeof *block + bytes);
    if (block == NULL)
        return NULL;
    memset(block->data, 0, bytes);
    block->next = pool->blocks;
    pool->blocks = block;
    pool->bytes += bytes;
    return block->data;
}

void pool_free(struct pool *pool) {
    while (pool->blocks != NULL) {
        struct pool_block *block = pool->blocks;
        pool->blocks = block->next;
        free(block);
    }
    pool->bytes = 0;
}
