/* pool.h: memory that is freed together: everything that a model or a scratch owns besides mapped files. */
#ifndef MODEL_FORMAT_POOL_H
#define MODEL_FORMAT_POOL_H

#include <stddef.h>

struct pool_block;

struct pool {
    struct pool_block *blocks;
    size_t bytes; /* handed out */
};

/* An array of `count` zeroed elements of `size` bytes, aligned to DIEN_ALIGNMENT. NULL when memory is out. */
void *pool_array(struct pool *pool, size_t count, size_t size);
void pool_free(struct pool *pool);

/* A zeroed matrix [rows, columns]. */
static inline float *pool_floats(struct pool *pool, size_t rows, size_t columns) {
    return pool_array(pool, rows * columns, sizeof(float));
}

#endif
