/* lanes_gates.h: the gates of a recurrent cell, vector by vector, after their products (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_GATES_H
#define MODEL_KERNELS_LANES_GATES_H

#include "model/kernels/lanes_functions.h"

/* Beyond this argument a gate is fully closed or open in float32, and the product of two divisors stays finite. */
#define GATE_ARGUMENT_MAX 30.0F

/* y = h / (1 + e^-z): the state, or the recurrent part of the candidate, behind a reset gate of argument z. */
ALWAYS_INLINE void reset(size_t count, const vector *z, const vector *h, vector *y) {
    vector e[INTERLEAVE];
    exponentials(count, z, -1, GATE_ARGUMENT_MAX, e);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(h[i], add(broadcast(1), e[i]));
}

/* h = h + w (c - h); v and c are the arguments of the update gate and of the candidate. For states within 1 the result
 * is within 3.6e-7 of its value in double. With V = e^-v and C = e^-2c the update gate is 1 / (1 + V) and the candidate
 * (1 - C) / (1 + C). Both share one division, because c - h = ((1 - h) - C (1 + h)) / (1 + C). */
ALWAYS_INLINE void update_state(enum kernel_write write, size_t count, const vector *v, const vector *c,
                                const vector *a, vector *h) {
    vector one = broadcast(1), update[INTERLEAVE], candidate[INTERLEAVE];
    if (write != WRITE_ATTENTION)
        exponentials(count, v, -1, GATE_ARGUMENT_MAX, update);
    exponentials(count, c, -2, GATE_ARGUMENT_MAX / 2, candidate);
    UNROLL for (size_t i = 0; i < count; i++) {
        vector divisor = add(one, candidate[i]);
        vector change = negative_multiply_add(candidate[i], add(one, h[i]), subtract(one, h[i]));
        if (write != WRITE_ATTENTION)
            divisor = multiply(divisor, add(one, update[i]));
        if (write == WRITE_OR)
            change = multiply(change, multiply_add(a[i], update[i], one));
        if (write == WRITE_KEEP)
            change = multiply(change, multiply_add(subtract(one, a[i]), update[i], one));
        if (write == WRITE_ATTENTION || write == WRITE_AND)
            change = multiply(change, a[i]);
        h[i] = add(h[i], divide(change, divisor));
    }
}

/* Constant wherever it is used, so that each variant of the cell is compiled separately. */
struct cell_variant {
    enum kernel_write write;
    bool reset_after;
};

/* Call `FUNCTION(variant, ...)` with a constant variant. */
#define FOR_CELL_VARIANT(write_, reset_after_, FUNCTION, ...)                                                          \
    do {                                                                                                               \
        switch ((write_)*2 + (reset_after_)) {                                                                         \
        case WRITE_UPDATE * 2:                                                                                         \
            FUNCTION(((struct cell_variant){WRITE_UPDATE, false}), __VA_ARGS__);                                       \
            break;                                                                                                     \
        case WRITE_UPDATE * 2 + 1:                                                                                     \
            FUNCTION(((struct cell_variant){WRITE_UPDATE, true}), __VA_ARGS__);                                        \
            break;                                                                                                     \
        case WRITE_ATTENTION * 2:                                                                                      \
            FUNCTION(((struct cell_variant){WRITE_ATTENTION, false}), __VA_ARGS__);                                    \
            break;                                                                                                     \
        case WRITE_ATTENTION * 2 + 1:                                                                                  \
            FUNCTION(((struct cell_variant){WRITE_ATTENTION, true}), __VA_ARGS__);                                     \
            break;                                                                                                     \
        case WRITE_AND * 2:                                                                                            \
            FUNCTION(((struct cell_variant){WRITE_AND, false}), __VA_ARGS__);                                          \
            break;                                                                                                     \
        case WRITE_AND * 2 + 1:                                                                                        \
            FUNCTION(((struct cell_variant){WRITE_AND, true}), __VA_ARGS__);                                           \
            break;                                                                                                     \
        case WRITE_OR * 2:                                                                                             \
            FUNCTION(((struct cell_variant){WRITE_OR, false}), __VA_ARGS__);                                           \
            break;                                                                                                     \
        case WRITE_OR * 2 + 1:                                                                                         \
            FUNCTION(((struct cell_variant){WRITE_OR, true}), __VA_ARGS__);                                            \
            break;                                                                                                     \
        case WRITE_KEEP * 2:                                                                                           \
            FUNCTION(((struct cell_variant){WRITE_KEEP, false}), __VA_ARGS__);                                         \
            break;                                                                                                     \
        default:                                                                                                       \
            FUNCTION(((struct cell_variant){WRITE_KEEP, true}), __VA_ARGS__);                                          \
            break;                                                                                                     \
        }                                                                                                              \
    } while (0)

#endif
