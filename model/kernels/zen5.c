/* zen5.c: the kernels of lanes.h in AVX-512 for AMD's Zen 5. It has two multiply-adds and two additions of 512 bits a
 * cycle, in separate units, so Winograd sums pay (kernels.h). It loads twice a cycle; one load of a weight serves two
 * vectors of columns, because loads would be the bound otherwise.
 */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))),                   \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif

#include "model/kernels/avx512.h"

#define PANELS_PER_BLOCK 4
#define TWO_BLOCKS       1
#define WINOGRAD         1

#include "model/kernels/lanes.h"

const struct kernels kernels_zen5 = LANES_KERNELS("zen5");

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int no_zen5; /* ISO C wants a declaration in every file */
#endif
