/* gemm.h: dense products through OpenBLAS, the only way to it. */
#ifndef MODEL_KERNELS_GEMM_H
#define MODEL_KERNELS_GEMM_H

#include "model/kernels/kernels.h"

/* Once, before any product: one BLAS thread, since every scoring thread calls for itself. */
void gemm_start(void);

/* The kernel `project` (kernels.h). */
void gemm_linear(const struct projection *projection, size_t blocks, const float *x, float *y);

#endif
