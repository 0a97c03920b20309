/* dispatch.c: choose the kernels: the best that this CPU can run, or those that DIEN_ISA names.
 */
#include "model/kernels/gemm.h"
#include "model/kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdlib.h>
#include <string.h>

static bool always(void) {
    return true;
}

static bool start_openblas(void) {
    gemm_start();
    return true;
}

#if defined(__x86_64__)
/* The operating system must keep the registers too; __builtin_cpu_supports asks for that. */
static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

/* AMD's families: 25 has AVX-512 from Zen 4 on, 26 is Zen 5 and what follows. Of these one was measured, which has
 * AVX-512 in full; all get its kernels. */
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

/* Where they are not the best they run as well. */
static bool runs_zen4_too(void) {
    return has_avx512() && !is_zen4();
}

static bool runs_zen5_too(void) {
    return has_avx512() && !is_zen5();
}
#endif

bool kernels_reduce(const struct kernels *of, struct kernels *reduced) {
#if defined(__x86_64__)
    bool ours = of == &kernels_zen5 || of == &kernels_zen4 || of == &kernels_avx512;
    if (ours && __builtin_cpu_supports("avx512vnni")) {
        *reduced = kernels_avx512;
        reduced->blocks_per_weight_load = of->blocks_per_weight_load;
        kernels_use_vnni(reduced);
        return true;
    }
#endif
    (void)of, (void)reduced;
    return false;
}

/* Best first. */
static const struct choice {
    const struct kernels *kernels;
    bool (*runs)(void);
} choices[] = {
#if defined(__x86_64__)
    {&kernels_zen5, is_zen5},
    {&kernels_zen4, is_zen4},
    {&kernels_avx512, has_avx512},
    {&kernels_zen5, runs_zen5_too},
    {&kernels_zen4, runs_zen4_too},
    {&kernels_avx2, has_avx2},
#elif defined(__aarch64__)
    {&kernels_neon, always},
#endif
    {&kernels_openblas, start_openblas},
    {&kernels_ref, always},
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
