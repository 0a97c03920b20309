/* openblas.c: the reference kernels with the products of lanes done by OpenBLAS, for CPUs without kernels of their own.
 */
#include "model/kernels/gemm.h"
#include "model/kernels/ref.h"

const struct kernels kernels_openblas = {
    .name = "openblas",
    .project = gemm_project,
    .project_few = ref_project_few,
    .project_column = ref_project_column,
    .project_rows = ref_project_rows,
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
