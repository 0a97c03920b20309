/* gemm.c: dense products through OpenBLAS, with its core detection watched.
 *
 * OpenBLAS falls back to SSE3 kernels on CPUs newer than the package, unnoticed (FACTS: 3.5 times slower). It reads
 * OPENBLAS_CORETYPE when it is loaded, so a library cannot mend that: it says what the variable should be, and the
 * program sets it and runs itself anew.
 */
#include "model/kernels/gemm.h"

#include "model/dien.h"
#include "model/kernels/kernels.h"

#include <cblas.h>
#include <string.h>

void gemm_start(void) {
    openblas_set_num_threads(1);
}

/* A result must not depend on its column (promise 2), and OpenBLAS gives no such promise: its Haswell kernels sum the
 * columns of one call in two ways when it has 32 of them or more. With LANES columns a call, every core type that
 * tests/unit/test_kernels.c can run keeps the bits. */
void gemm_linear(const struct projection *projection, size_t blocks, const float *x, float *y) {
    blasint units = (blasint)projection->units, inputs = (blasint)projection->inputs;
    for (size_t block = 0; block < blocks; block++) {
        for (size_t unit = 0; unit < projection->units; unit++)
            for (size_t lane = 0; lane < LANES; lane++)
                y[unit * LANES + lane] = projection->bias[unit];
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, units, LANES, inputs, 1.0F, projection->weight, inputs,
                    x, LANES, 1.0F, y, LANES);
        x += projection->inputs * LANES;
        y += projection->units * LANES;
    }
}

const char *dien_blas_core(void) {
    return openblas_get_corename();
}

#if defined(__x86_64__)

/* OpenBLAS' core types by the vectors that their kernels use. */
enum width { WIDTH_SSE, WIDTH_AVX, WIDTH_AVX2, WIDTH_AVX512 };

static enum width width_of_core(const char *core) {
    static const struct {
        const char *core;
        enum width width;
    } known[] = {
        {"SkylakeX", WIDTH_AVX512}, {"Cooperlake", WIDTH_AVX512}, {"SapphireRapids", WIDTH_AVX512},
        {"Haswell", WIDTH_AVX2},    {"Zen", WIDTH_AVX2},          {"Excavator", WIDTH_AVX2},
        {"Sandybridge", WIDTH_AVX}, {"Bulldozer", WIDTH_AVX},     {"Piledriver", WIDTH_AVX},
        {"Steamroller", WIDTH_AVX},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcasecmp(core, known[i].core) == 0)
            return known[i].width;
    return WIDTH_SSE;
}

/* Where the kernels do without OpenBLAS, its choice does not matter. */
const char *dien_blas_better_core(void) {
    if (kernels_choose() != &kernels_openblas)
        return NULL;
    enum width current = width_of_core(openblas_get_corename());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return current < WIDTH_AVX512 ? "SKYLAKEX" : NULL;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return current < WIDTH_AVX2 ? "HASWELL" : NULL;
    return NULL;
}

#else

const char *dien_blas_better_core(void) {
    return NULL;
}

#endif
