/* openblas.c: the reference kernels with products by OpenBLAS, for CPUs without kernels of their own.
 *
 * OpenBLAS falls back to SSE3 kernels, silently and 3.5 times slower, on CPUs that are newer than the package. It reads
 * OPENBLAS_CORETYPE when it is loaded, so this file can only tell which value it should have; the server then sets the
 * variable and executes itself again.
 */
#include "model/kernels/openblas.h"

#include "model/dien.h"
#include "model/kernels/ref.h"

#include <cblas.h>
#include <pthread.h>
#include <string.h>

/* Debian's serial build of OpenBLAS hands out its work areas without a lock: two calls at once can share one, and both
 * results are wrong. So one product runs at a time; the rest of the network, on other threads, goes on meanwhile. */
static pthread_mutex_t one_product = PTHREAD_MUTEX_INITIALIZER;

void openblas_start(void) {
    openblas_set_num_threads(1);
}

/* One call per block. OpenBLAS does not promise that a result is independent of its column: its Haswell kernels sum the
 * columns of one call in two different ways if there are 32 or more. With LANES columns a call, every core type that
 * tests/unit/test_kernels.c can run keeps the bits. */
static void openblas_linear(const struct projection *projection, size_t blocks, const float *x, float *y) {
    blasint units = (blasint)projection->units, inputs = (blasint)projection->inputs;
    for (size_t block = 0; block < blocks; block++) {
        for (size_t unit = 0; unit < projection->units; unit++)
            for (size_t lane = 0; lane < LANES; lane++)
                y[unit * LANES + lane] = projection->bias[unit];
        pthread_mutex_lock(&one_product);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, units, LANES, inputs, 1.0F, projection->weight, inputs,
                    x, LANES, 1.0F, y, LANES);
        pthread_mutex_unlock(&one_product);
        x += projection->inputs * LANES;
        y += projection->units * LANES;
    }
}

const char *dien_blas_core(void) {
    return openblas_get_corename();
}

#if defined(__x86_64__)

/* Core types of OpenBLAS by the vectors that their kernels use. */
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

const char *openblas_better_core(void) {
    enum width current = width_of_core(openblas_get_corename());
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return current < WIDTH_AVX512 ? "SKYLAKEX" : NULL;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return current < WIDTH_AVX2 ? "HASWELL" : NULL;
    return NULL;
}

#else

const char *openblas_better_core(void) {
    return NULL;
}

#endif

const struct kernels kernels_openblas = {
    .name = "openblas",
    .linear = openblas_linear,
    .linear_narrow = ref_linear_narrow,
    .gemv = ref_gemv,
    .gemv_rows = ref_gemv_rows,
    .activate = ref_activate,
    .extract = ref_extract,
    .attend = ref_attend,
    .finish = finish_by_layers,
    .multiply_pairs = ref_multiply_pairs,
    .add_pairs = ref_add_pairs,
    .dot = ref_dot,
    .softmax = ref_softmax,
    .evolve = ref_evolve,
    .pool = ref_pool,
};
