/* zen4.c: the kernels of lanes.h in AVX-512 for AMD's Zen 4. It has one multiply-add and one addition of 512 bits a
 * cycle, in separate units, so Winograd sums do the work of three multiply-adds in two cycles (kernels.h). A broadcast
 * weight serves one vector of columns, because as a memory operand it costs no instruction.
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
#define TWO_BLOCKS       0
#define WINOGRAD         1

#include "model/kernels/lanes.h"

const struct kernels kernels_zen4 = LANES_KERNELS("zen4");

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int no_zen4; /* ISO C wants a declaration in every file */
#endif
