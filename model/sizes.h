/* sizes.h: arithmetic on sizes that all rooms of model/ share. */
#ifndef MODEL_SIZES_H
#define MODEL_SIZES_H

#include <stddef.h>

static inline size_t size_min(size_t a, size_t b) {
    return a < b ? a : b;
}

static inline size_t size_max(size_t a, size_t b) {
    return a > b ? a : b;
}

/* The least multiple of `unit` that holds `size`. */
static inline size_t size_round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

#endif
