/* dispatch.c: choose the kernels: the best that this CPU can run, or those that DIEN_ISA names.
 */
#include "model/dien.h"
#include "model/kernels/kernels.h"
#include "model/kernels/openblas.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdlib.h>
#include <string.h>

static bool always(void) {
    return true;
}

static bool runs_openblas(void) {
    openblas_start();
    return true;
}

#if defined(__x86_64__)
/* __builtin_cpu_supports also checks that the operating system saves the registers. */
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* AMD's family 25 has AVX-512 from Zen 4 on; family 26 is Zen 5 and its successors. Only one CPU of each was measured,
 * but all of the family get its kernels. */
static bool is_amd(unsigned family) {
    unsigned signature, rest[3];
    return has_avx512() && __builtin_cpu_is("amd") && __get_cpuid(1, &signature, &rest[0], &rest[1], &rest[2]) != 0 &&
           (signature >> 8 & 15) + (signature >> 20 & 255) == family;
}

static bool is_zen4(void) {
    return is_amd(25);
}

static bool is_zen5(void) {
    return is_amd(26);
}

/* Any CPU with AVX-512 can run the kernels of another one, which tests use. */
static bool runs_zen4(void) {
    return has_avx512() && !is_zen4();
}

static bool runs_zen5(void) {
    return has_avx512() && !is_zen5();
}
#endif

bool kernels_reduce(const struct kernels *kernels, struct kernels *reduced) {
#if defined(__x86_64__)
    bool has_lanes_of_16 = kernels == &kernels_zen5 || kernels == &kernels_zen4 || kernels == &kernels_avx512;
    if (has_lanes_of_16 && __builtin_cpu_supports("avx512vnni")) {
        *reduced = kernels_avx512;
        reduced->blocks_per_weight_load = kernels->blocks_per_weight_load;
        kernels_use_vnni(reduced);
        return true;
    }
#endif
    (void)kernels, (void)reduced;
    return false;
}

/* Best first. */
static const struct choice {
    const struct kernels *kernels;
    bool (*runs)(void);
} choices[] = {
#if defined(__x86_64__)
    {&kernels_zen5, is_zen5},           {&kernels_zen4, is_zen4},   {&kernels_avx512, has_avx512},
    {&kernels_zen5, runs_zen5},         {&kernels_zen4, runs_zen4}, {&kernels_avx2, has_avx2},
#elif defined(__aarch64__)
    {&kernels_neon, always},
#endif
    {&kernels_openblas, runs_openblas}, {&kernels_ref, always},
};

const struct kernels *kernels_available(size_t i) {
    for (size_t j = 0; j < sizeof choices / sizeof *choices; j++)
        if (choices[j].runs() && i-- == 0)
            return choices[j].kernels;
    return NULL;
}

const struct kernels *kernels_named(const char *name) {
    const struct kernels *kernels;
    for (size_t i = 0; (kernels = kernels_available(i)) != NULL; i++)
        if (strcmp(kernels->name, name) == 0)
            return kernels;
    return NULL;
}

const struct kernels *kernels_choose(void) {
    const char *wanted = getenv("DIEN_ISA");
    return wanted != NULL && *wanted != '\0' ? kernels_named(wanted) : kernels_available(0);
}

/* Other kernels do not call OpenBLAS, so its core type does not matter to them. */
const char *dien_blas_better_core(void) {
    return kernels_choose() == &kernels_openblas ? openblas_better_core() : NULL;
}
