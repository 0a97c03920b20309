/* openblas.c: the reference kernels with the products of lanes done by OpenBLAS, for CPUs without kernels of their own.
 */
#include "model/kernels/gemm.h"
#include "model/kernels/ref.h"

const struct kernels kernels_openblas = {
    .name = "openblas",
    .linear = gemm_linear,
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
