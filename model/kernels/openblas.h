/* openblas.h: starting OpenBLAS, and whether it chose its kernels badly. */
#ifndef MODEL_KERNELS_OPENBLAS_H
#define MODEL_KERNELS_OPENBLAS_H

/* Limit OpenBLAS to one thread, because every scoring thread calls it for itself. Call it before any product. */
void openblas_start(void);

/* The OPENBLAS_CORETYPE that would use wider vectors than the core type in use, or NULL. */
const char *openblas_better_core(void);

#endif
