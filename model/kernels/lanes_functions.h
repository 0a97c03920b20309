/* lanes_functions.h: functions of several values at once, each in every lane (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_FUNCTIONS_H
#define MODEL_KERNELS_LANES_FUNCTIONS_H

#include "model/kernels/kernels.h"
#include "model/kernels/unroll.h"

#include <string.h>

enum {
    ROWS_MAX = 24,                      /* of a product's block */
    VECTORS_MAX = 4,                    /* of its columns */
    INTERLEAVE = 4,                     /* values computed side by side, so that none waits for itself */
    COLUMNS_MAX = 4,                    /* columns in one piece, computed side by side */
    COLUMN_SUMS = VECTOR == 16 ? 16 : 8 /* and their sums, in vectors: AVX-512 has twice the registers of AVX2 */
};

#define LANE_VECTORS (LANES / VECTOR) /* of a block of lanes */

#define LOG2_E 0x1.715476p+0F

/* Arguments are cut where float32 no longer tells the difference: 2^126 is not yet infinite. Not a number stays that.
 */
ALWAYS_INLINE vector within(vector x, float limit) {
    return larger(broadcast(-limit), smaller(broadcast(limit), x));
}

/* e = e^(sign x), x cut at the limit. */
ALWAYS_INLINE void exponentials(size_t count, const vector *x, float factor, float limit, vector *e) {
    UNROLL for (size_t i = 0; i < count; i++) e[i] = within(x[i], limit);
    powers(count, e, factor * LOG2_E, e);
}

/* Within 1.2e-7 of the sigmoid, and of x >= -87 within (2.5e-7 + 1.4e-8 |x|) of it in proportion; 1 and 0 at the
 * infinities (tests/unit/test_exponentials.c). */
ALWAYS_INLINE void sigmoids(size_t count, const vector *x, vector *y) {
    exponentials(count, x, -1, 87, y);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(broadcast(1), add(broadcast(1), y[i]));
}

/* tanh x = (1 - e^-2x) / (1 + e^-2x). Within 1.8e-7 of it, 1 and -1 at the infinities. */
ALWAYS_INLINE void hyperbolic_tangents(size_t count, const vector *x, vector *y) {
    exponentials(count, x, -2, 43, y);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(subtract(broadcast(1), y[i]), add(broadcast(1), y[i]));
}

/* x where p says that it is on, alpha x where it is off. */
ALWAYS_INLINE vector dice(vector x, vector alpha, vector p) {
    return multiply(x, multiply_add(alpha, subtract(broadcast(1), p), p));
}

#endif
