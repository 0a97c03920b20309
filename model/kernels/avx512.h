/* avx512.h: the operations of lanes.h in AVX-512, where a block of lanes is one vector. The including file must be
 * compiled for AVX-512.
 */
#ifndef MODEL_KERNELS_AVX512_H
#define MODEL_KERNELS_AVX512_H

#include <immintrin.h>
#include <stddef.h>

typedef __m512 vector;

#define VECTOR ((size_t)16)

static inline vector broadcast(float x) {
    return _mm512_set1_ps(x);
}

static inline vector load(const float *x) {
    return _mm512_loadu_ps(x);
}

static inline void store(float *x, vector v) {
    _mm512_storeu_ps(x, v);
}

/* The first `count` floats, 1 to VECTOR; the rest is zero. */
static inline vector load_some(const float *x, size_t count) {
    return _mm512_maskz_loadu_ps((__mmask16)(0xffffU >> (VECTOR - count)), x);
}

static inline void store_some(float *x, size_t count, vector v) {
    _mm512_mask_storeu_ps(x, (__mmask16)(0xffffU >> (VECTOR - count)), v);
}

static inline vector add(vector a, vector b) {
    return _mm512_add_ps(a, b);
}

static inline vector subtract(vector a, vector b) {
    return _mm512_sub_ps(a, b);
}

static inline vector multiply(vector a, vector b) {
    return _mm512_mul_ps(a, b);
}

static inline vector divide(vector a, vector b) {
    return _mm512_div_ps(a, b);
}

static inline vector square_root(vector a) {
    return _mm512_sqrt_ps(a);
}

/* a b + c. */
static inline vector multiply_add(vector a, vector b, vector c) {
    return _mm512_fmadd_ps(a, b, c);
}

/* *sum += a b. In assembly, because gcc 12 overwrites a factor in place of the sum and moves registers to repair that.
 * The moves cost nothing where only multipliers are busy, but take the place of additions that run beside them. */
static inline void multiply_add_to(vector *sum, vector a, vector b) {
    __asm__("vfmadd231ps %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

/* c - a b. */
static inline vector negative_multiply_add(vector a, vector b, vector c) {
    return _mm512_fnmadd_ps(a, b, c);
}

/* The second argument if either is NaN. */
static inline vector smaller(vector a, vector b) {
    return _mm512_min_ps(a, b);
}

static inline vector larger(vector a, vector b) {
    return _mm512_max_ps(a, b);
}

/* Row i of `rows` becomes column i. */
static inline void transpose(vector rows[16]) {
    vector pairs[16], fours[16], halves[16];
    for (size_t i = 0; i < 16; i += 2) {
        pairs[i] = _mm512_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (size_t i = 0; i < 16; i += 4)
        for (size_t j = 0; j < 2; j++) {
            __m512d low = _mm512_castps_pd(pairs[i + j]), high = _mm512_castps_pd(pairs[i + j + 2]);
            fours[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            fours[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    /* fours[i + j]: of rows i .. i + 3 the columns j, 4 + j, 8 + j, 12 + j. */
    for (size_t i = 0; i < 16; i += 8)
        for (size_t j = 0; j < 4; j++) {
            halves[i + j] = _mm512_shuffle_f32x4(fours[i + j], fours[i + j + 4], 0x88);
            halves[i + j + 4] = _mm512_shuffle_f32x4(fours[i + j], fours[i + j + 4], 0xdd);
        }
    for (size_t j = 0; j < 4; j++) {
        rows[j] = _mm512_shuffle_f32x4(halves[j], halves[j + 8], 0x88);
        rows[j + 4] = _mm512_shuffle_f32x4(halves[j + 4], halves[j + 12], 0x88);
        rows[j + 8] = _mm512_shuffle_f32x4(halves[j], halves[j + 8], 0xdd);
        rows[j + 12] = _mm512_shuffle_f32x4(halves[j + 4], halves[j + 12], 0xdd);
    }
}

#include "model/kernels/exp.h"
#include "model/kernels/unroll.h"

/* y = 2^(factor x), for |factor x| <= 126, split into factor x = n + k / 32 + r. The last bit of 1.5 * 2^18 is worth
 * 1/32, so adding that leaves 32 n + k as an integer in the low bits. Its low five bits look up 2^(k / 32). Shifted to
 * the exponent the integer multiplies by 2^n; the table entries already subtract the part that k adds there. 2^r is a
 * polynomial. */
ALWAYS_INLINE void powers(size_t count, const vector *x, float factor, vector *y) {
    vector magic = broadcast(0x1.8p18F), r[16], root[16];
    UNROLL for (size_t i = 0; i < count; i++) {
        vector shifted = multiply_add(x[i], broadcast(factor), magic);
        r[i] = _mm512_fmsub_ps(x[i], broadcast(factor), subtract(shifted, magic));
        __m512i integer = _mm512_castps_si512(shifted);
        root[i] =
            _mm512_castsi512_ps(_mm512_add_epi32(_mm512_permutex2var_epi32(_mm512_load_si512(exp_roots_32), integer,
                                                                           _mm512_load_si512(exp_roots_32 + VECTOR)),
                                                 _mm512_slli_epi32(integer, 18)));
    }
    UNROLL for (size_t i = 0; i < count; i++) {
        vector tail = multiply(r[i], multiply_add(r[i], broadcast(EXP_32_C2), broadcast(EXP_32_C1)));
        y[i] = multiply_add(root[i], tail, root[i]);
    }
}

#endif
