/* pool.h: memory of one lifetime: everything that a model owns besides its mapped file, freed together. */
#ifndef MODEL_FORMAT_POOL_H
#define MODEL_FORMAT_POOL_H

#include <stddef.h>

struct pool_block;

struct pool {
    struct pool_block *blocks;
    size_t bytes; /* handed out */
};

/* `count` zeroed things of `size` bytes, aligned to DIEN_ALIGNMENT. NULL when memory is out. */
void *pool_array(struct pool *pool, size_t count, size_t size);
void pool_free(struct pool *pool);

#endif
