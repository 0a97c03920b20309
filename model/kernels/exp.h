/* exp.h: constants of the vectorised exponential: tables of 2^(k / n) and polynomials for 2^r.
 *
 * A table entry is the bits of 2^(k / n) minus k, shifted to where powers() adds its integer (avx512.h, avx2.c). The
 * coefficients are Taylor's, with the next term spread over the interval (Chebyshev). 1 + r (C1 + r C2) has an error of
 * at most 6e-8 for |r| <= 1/64, 1 + r (C1 + r (C2 + r C3)) of 3e-8 for |r| <= 1/16. Without a table (neon.c) six
 * coefficients have the least relative error, 2e-9 for |r| <= 1/2. After rounding, e^x for -87 <= x <= 0 is within
 * (2.5e-7 + 1.4e-8 |x|) e^x; the second term comes from log2 e in float32. tests/unit/test_exponentials.c checks it,
 * tests/bench/exponentials.c over all floats.
 */
#ifndef MODEL_KERNELS_EXP_H
#define MODEL_KERNELS_EXP_H

#include <stdint.h>

#define EXP_32_C1 0x1.62e5840000000p-1F
#define EXP_32_C2 0x1.ebfd1c0000000p-3F

static const int32_t exp_roots_32[32] __attribute__((aligned(64))) = {
    0x3f800000, 0x3f7ecd87, 0x3f7daac3, 0x3f7c980f, 0x3f7b95c2, 0x3f7aa43a, 0x3f79c3d3, 0x3f78f4f0,
    0x3f7837f0, 0x3f778d3a, 0x3f76f532, 0x3f767043, 0x3f75fed7, 0x3f75a15b, 0x3f75583f, 0x3f7523f6,
    0x3f7504f3, 0x3f74fbaf, 0x3f7508a4, 0x3f752c4d, 0x3f75672a, 0x3f75b9be, 0x3f76248c, 0x3f76a81e,
    0x3f7744fd, 0x3f77fbb8, 0x3f78ccdf, 0x3f79b907, 0x3f7ac0c7, 0x3f7be4ba, 0x3f7d257d, 0x3f7e83b3,
};

#define EXP_8_C1 0x1.62e4300000000p-1F
#define EXP_8_C2 0x1.ec0c320000000p-3F
#define EXP_8_C3 0x1.c6be340000000p-5F

static const int32_t exp_roots_8[8] __attribute__((aligned(64))) = {
    0x3f800000, 0x3f7b95c2, 0x3f7837f0, 0x3f75fed7, 0x3f7504f3, 0x3f75672a, 0x3f7744fd, 0x3f7ac0c7,
};

#define EXP_1_C1 0x1.62e4300000000p-1F
#define EXP_1_C2 0x1.ebfbdc0000000p-3F
#define EXP_1_C3 0x1.c6aee80000000p-5F
#define EXP_1_C4 0x1.3b2d4c0000000p-7F
#define EXP_1_C5 0x1.5f3e520000000p-10F
#define EXP_1_C6 0x1.41fbbc0000000p-13F

#endif
