/* dispatch.c: choose the kernels, once. Today the sets are ref, and openblas: ref with its products done by OpenBLAS.
 */
#include "model/gemm.h"
#include "model/kernels/kernels.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct kernels openblas;
static const struct kernels *chosen;

const char *kernels_available(void) {
    return "ref, openblas";
}

/* An overlay is the whole reference table with some of its entries replaced. */
static void fill_tables(void) {
    openblas = kernels_ref;
    openblas.name = "openblas";
    openblas.project = gemm_project;
    gemm_start();
}

static const struct kernels *find(const char *name) {
    const struct kernels *const tables[] = {&kernels_ref, &openblas};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (strcmp(tables[i]->name, name) == 0)
            return tables[i];
    return NULL;
}

static void choose(void) {
    fill_tables();
    const char *wanted = getenv("DIEN_ISA");
    chosen = find(wanted != NULL && *wanted != '\0' ? wanted : openblas.name);
}

const struct kernels *kernels_choose(void) {
    pthread_once(&once, choose);
    return chosen;
}

const struct kernels *kernels_named(const char *name) {
    pthread_once(&once, choose);
    return find(name);
}
