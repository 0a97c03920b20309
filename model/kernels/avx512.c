/* avx512.c: the kernels of lanes.h in AVX-512: a block of lanes is one vector.
 */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))),                   \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif

#include "model/kernels/avx512.h"

#define PANELS_PER_BLOCK 6
#define TWO_BLOCKS       1
#define WINOGRAD         0

#include "model/kernels/lanes.h"

const struct kernels kernels_avx512 = LANES_KERNELS("avx512");

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int no_avx512; /* ISO C wants a declaration in every file */
#endif
