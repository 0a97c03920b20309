/* avx2.c: the kernels of lanes.h in AVX2 with FMA: a block of lanes is two vectors.
 */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include <immintrin.h>
#include <stddef.h>

typedef __m256 vector;

#define VECTOR           ((size_t)8)
#define PANELS_PER_BLOCK 1
#define TWO_BLOCKS       0
#define WINOGRAD         0

static inline vector broadcast(float x) {
    return _mm256_set1_ps(x);
}

static inline vector load(const float *x) {
    return _mm256_loadu_ps(x);
}

static inline void store(float *x, vector v) {
    _mm256_storeu_ps(x, v);
}

/* A mask of the first `count` elements. */
static inline __m256i mask_of(size_t count) {
    static const int32_t on[2 * VECTOR] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(on + VECTOR - count));
}

/* The first `count` floats, 1 to VECTOR; the rest is zero. */
static inline vector load_some(const float *x, size_t count) {
    return _mm256_maskload_ps(x, mask_of(count));
}

static inline void store_some(float *x, size_t count, vector v) {
    _mm256_maskstore_ps(x, mask_of(count), v);
}

static inline vector add(vector a, vector b) {
    return _mm256_add_ps(a, b);
}

static inline vector subtract(vector a, vector b) {
    return _mm256_sub_ps(a, b);
}

static inline vector multiply(vector a, vector b) {
    return _mm256_mul_ps(a, b);
}

static inline vector divide(vector a, vector b) {
    return _mm256_div_ps(a, b);
}

static inline vector square_root(vector a) {
    return _mm256_sqrt_ps(a);
}

/* a b + c. */
static inline vector multiply_add(vector a, vector b, vector c) {
    return _mm256_fmadd_ps(a, b, c);
}

/* c - a b. */
static inline vector negative_multiply_add(vector a, vector b, vector c) {
    return _mm256_fnmadd_ps(a, b, c);
}

/* The second argument if either is NaN. */
static inline vector smaller(vector a, vector b) {
    return _mm256_min_ps(a, b);
}

static inline vector larger(vector a, vector b) {
    return _mm256_max_ps(a, b);
}

/* Row i of `rows` becomes column i. */
static inline void transpose(vector rows[8]) {
    vector pairs[8], fours[8];
    for (size_t i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (size_t i = 0; i < 8; i += 4)
        for (size_t j = 0; j < 2; j++) {
            fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
            fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xee);
        }
    /* fours[i + j]: of rows i .. i + 3 the columns j and 4 + j. */
    for (size_t j = 0; j < 4; j++) {
        rows[j] = _mm256_permute2f128_ps(fours[j], fours[j + 4], 0x20);
        rows[j + 4] = _mm256_permute2f128_ps(fours[j], fours[j + 4], 0x31);
    }
}

#include "model/kernels/exp.h"
#include "model/kernels/unroll.h"

/* y = 2^(factor x), for |factor x| <= 126, as in avx512.h, but split at 8ths: factor x = n + k / 8 + r. */
ALWAYS_INLINE void powers(size_t count, const vector *x, float factor, vector *y) {
    vector magic = broadcast(0x1.8p20F), r[8], root[8];
    __m256i roots = _mm256_load_si256((const __m256i *)(const void *)exp_roots_8);
    UNROLL for (size_t i = 0; i < count; i++) {
        vector shifted = multiply_add(x[i], broadcast(factor), magic);
        r[i] = _mm256_fmsub_ps(x[i], broadcast(factor), subtract(shifted, magic));
        __m256i integer = _mm256_castps_si256(shifted);
        root[i] = _mm256_castsi256_ps(
            _mm256_add_epi32(_mm256_permutevar8x32_epi32(roots, integer), _mm256_slli_epi32(integer, 20)));
    }
    UNROLL for (size_t i = 0; i < count; i++) {
        vector tail = multiply_add(r[i], broadcast(EXP_8_C3), broadcast(EXP_8_C2));
        tail = multiply(r[i], multiply_add(r[i], tail, broadcast(EXP_8_C1)));
        y[i] = multiply_add(root[i], tail, root[i]);
    }
}

#include "model/kernels/lanes.h"

const struct kernels kernels_avx2 = LANES_KERNELS("avx2");

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int no_avx2; /* ISO C wants a declaration in every file */
#endif
