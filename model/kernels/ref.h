/* ref.h: the reference kernels by name, for a table that keeps some of them.
 */
#ifndef MODEL_KERNELS_REF_H
#define MODEL_KERNELS_REF_H

#include "model/kernels/kernels.h"

void ref_linear(const struct projection *projection, size_t blocks, const float *x, float *y);
void ref_linear_narrow(const struct kernels *kernels, const struct projection *projection, size_t columns,
                       const float *x, float *y);
void ref_gemv(const struct column_projection *projection, const float *x, float *y);
void ref_gemv_rows(const struct column_projection *projection, size_t rows, const float *x, float *y);
void ref_activate(const struct activation_parameters *parameters, size_t units, size_t blocks, float *x);
void ref_extract(const struct kernels *kernels, const struct cell *cell, const float *input, const float *h,
                 float *next, float *work);
void ref_attend(const struct kernels *kernels, const struct attention_steps *attention, float *y, float *work);
void ref_multiply_pairs(const struct pairs *pairs, float *x);
void ref_add_pairs(const struct pairs *pairs, float *y);
void ref_dot(const struct kernels *kernels, size_t inputs, const float *query, size_t steps, const float *rows,
             float *scores);
void ref_softmax(size_t steps, float scale, float *scores);
void ref_evolve(const struct kernels *kernels, const struct evolution_steps *evolution, float *h, float *work);
void ref_pool(size_t steps, size_t units, const float *states, const float *attention, float *pooled);

#endif
