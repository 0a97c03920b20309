/* lanes_functions.h: functions of several vectors at once, element by element (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_FUNCTIONS_H
#define MODEL_KERNELS_LANES_FUNCTIONS_H

#include "model/kernels/kernels.h"
#include "model/kernels/unroll.h"

#include <string.h>

enum {
    SUM_ROWS_MAX = 24,                  /* rows of a product whose sums are in registers */
    SUM_VECTORS_MAX = 4,                /* and vectors of columns */
    INTERLEAVE = 4,                     /* vectors computed side by side; one alone would wait for its own results */
    COLUMNS_MAX = 4,                    /* columns in one piece that are computed side by side */
    COLUMN_SUMS = VECTOR == 16 ? 16 : 8 /* and their sums, in vectors: AVX-512 has twice the registers of AVX2 */
};

#define LANE_VECTORS (LANES / VECTOR) /* of a block of lanes */

#define LOG2_E 0x1.715476p+0F

/* Clamp x to where the result no longer changes in float32 and 2^x is finite. NaN stays NaN. */
ALWAYS_INLINE vector clamp(vector x, float limit) {
    return larger(broadcast(-limit), smaller(broadcast(limit), x));
}

/* e = e^(factor x), x clamped to the limit. */
ALWAYS_INLINE void exponentials(size_t count, const vector *x, float factor, float limit, vector *e) {
    UNROLL for (size_t i = 0; i < count; i++) e[i] = clamp(x[i], limit);
    powers(count, e, factor * LOG2_E, e);
}

/* Absolute error 1.2e-7. Relative error 2.5e-7 + 1.4e-8 |x| for x >= -87. 1 and 0 at the infinities
 * (tests/unit/test_exponentials.c). */
ALWAYS_INLINE void sigmoids(size_t count, const vector *x, vector *y) {
    exponentials(count, x, -1, 87, y);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(broadcast(1), add(broadcast(1), y[i]));
}

/* tanh x = (1 - e^-2x) / (1 + e^-2x). Absolute error 1.8e-7. 1 and -1 at the infinities. */
ALWAYS_INLINE void hyperbolic_tangents(size_t count, const vector *x, vector *y) {
    exponentials(count, x, -2, 43, y);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(subtract(broadcast(1), y[i]), add(broadcast(1), y[i]));
}

/* A mixture of x, with weight p, and of alpha x. */
ALWAYS_INLINE vector dice(vector x, vector alpha, vector p) {
    return multiply(x, multiply_add(alpha, subtract(broadcast(1), p), p));
}

#endif
