/* neon.c: the kernels of lanes.h in Advanced SIMD (NEON), which every AArch64 CPU has: a block of lanes is four
 * vectors.
 */
#if defined(__aarch64__)

#include <arm_neon.h>
#include <stddef.h>

typedef float32x4_t vector;

#define VECTOR           ((size_t)4)
#define PANELS_PER_BLOCK 1
#define TWO_BLOCKS       0
#define WINOGRAD         0

static inline vector broadcast(float x) {
    return vdupq_n_f32(x);
}

static inline vector load(const float *x) {
    return vld1q_f32(x);
}

static inline void store(float *x, vector v) {
    vst1q_f32(x, v);
}

/* The first `count` floats, 1 to VECTOR; the rest is zero. */
static inline vector load_some(const float *x, size_t count) {
    switch (count) {
    case 1:
        return vld1q_lane_f32(x, broadcast(0), 0);
    case 2:
        return vcombine_f32(vld1_f32(x), vdup_n_f32(0));
    case 3:
        return vcombine_f32(vld1_f32(x), vld1_lane_f32(x + 2, vdup_n_f32(0), 0));
    default:
        return load(x);
    }
}

static inline void store_some(float *x, size_t count, vector v) {
    switch (count) {
    case 1:
        vst1q_lane_f32(x, v, 0);
        break;
    case 2:
        vst1_f32(x, vget_low_f32(v));
        break;
    case 3:
        vst1_f32(x, vget_low_f32(v));
        vst1q_lane_f32(x + 2, v, 2);
        break;
    default:
        store(x, v);
    }
}

static inline vector add(vector a, vector b) {
    return vaddq_f32(a, b);
}

static inline vector subtract(vector a, vector b) {
    return vsubq_f32(a, b);
}

static inline vector multiply(vector a, vector b) {
    return vmulq_f32(a, b);
}

static inline vector divide(vector a, vector b) {
    return vdivq_f32(a, b);
}

static inline vector square_root(vector a) {
    return vsqrtq_f32(a);
}

/* a b + c. */
static inline vector multiply_add(vector a, vector b, vector c) {
    return vfmaq_f32(c, a, b);
}

/* c - a b. */
static inline vector negative_multiply_add(vector a, vector b, vector c) {
    return vfmsq_f32(c, a, b);
}

/* NaN if either is NaN. */
static inline vector smaller(vector a, vector b) {
    return vminq_f32(a, b);
}

static inline vector larger(vector a, vector b) {
    return vmaxq_f32(a, b);
}

/* Row i of `rows` becomes column i. */
static inline void transpose(vector rows[4]) {
    float32x4x2_t low = vzipq_f32(rows[0], rows[2]), high = vzipq_f32(rows[1], rows[3]);
    float32x4x2_t first = vzipq_f32(low.val[0], high.val[0]), last = vzipq_f32(low.val[1], high.val[1]);
    rows[0] = first.val[0], rows[1] = first.val[1];
    rows[2] = last.val[0], rows[3] = last.val[1];
}

#include "model/kernels/exp.h"
#include "model/kernels/unroll.h"

/* y = 2^(factor x), for |factor x| <= 126, as in avx512.h, but split at whole numbers: factor x = n + r. A look-up of
 * 2^(k / 8) would cost more here than three more terms of the polynomial. */
ALWAYS_INLINE void powers(size_t count, const vector *x, float factor, vector *y) {
    static const float terms[] = {EXP_1_C5, EXP_1_C4, EXP_1_C3, EXP_1_C2, EXP_1_C1};
    vector magic = broadcast(0x1.8p23F), r[16], power[16];
    UNROLL for (size_t i = 0; i < count; i++) {
        vector shifted = multiply_add(x[i], broadcast(factor), magic);
        r[i] = multiply_add(x[i], broadcast(factor), subtract(magic, shifted));
        power[i] =
            vreinterpretq_f32_s32(vaddq_s32(vshlq_n_s32(vreinterpretq_s32_f32(shifted), 23), vdupq_n_s32(0x3f800000)));
        y[i] = broadcast(EXP_1_C6);
    }
    UNROLL for (size_t term = 0; term < sizeof terms / sizeof *terms; term++) {
        UNROLL for (size_t i = 0; i < count; i++) y[i] = multiply_add(r[i], y[i], broadcast(terms[term]));
    }
    UNROLL for (size_t i = 0; i < count; i++) y[i] = multiply_add(power[i], multiply(r[i], y[i]), power[i]);
}

#include "model/kernels/lanes.h"

const struct kernels kernels_neon = LANES_KERNELS("neon");

#else
typedef int no_neon; /* ISO C wants a declaration in every file */
#endif
