/* lanes.h: every kernel, once, over vectors of lanes, for the instruction set of the file that includes it. This file
 * gives the functions of a complete table, and LANES_KERNELS that table.
 *
 * The including file gives
 *   vector                   of VECTOR floats: 4, 8 or 16
 *   PANELS_PER_BLOCK         panels that a product of one block computes at a time
 *   TWO_BLOCKS, WINOGRAD     whether two blocks share the load of a weight; whether Winograd sums pay (kernels.h)
 *   broadcast, load, store, load_some, store_some (the first few elements), add, subtract, multiply, divide,
 *   square_root, multiply_add (a b + c), negative_multiply_add (c - a b), smaller, larger (x86: the second argument
 *   if either is NaN), transpose, powers (2^(factor x) of several vectors), with WINOGRAD multiply_add_to (*sum += a b)
 *
 * Every sum starts from the bias and runs over the inputs in order, one fused multiply-add each (Winograd sums: two for
 * three inputs, and the correction at the end), whether it is computed in a block or in a single column. Therefore the
 * bits of a column do not depend on its company.
 */
#ifndef MODEL_KERNELS_LANES_H
#define MODEL_KERNELS_LANES_H

#include "model/kernels/lanes_activation.h"
#include "model/kernels/lanes_attention.h"
#include "model/kernels/lanes_cell.h"
#include "model/kernels/lanes_columns.h"

/* The complete table. */
#define LANES_KERNELS(called)                                                                                          \
    {                                                                                                                  \
        .name = (called), .winograd = WINOGRAD, .blocks_per_weight_load = TWO_BLOCKS ? 2 : 1, .linear = lanes_linear,  \
        .linear_narrow = lanes_linear_narrow, .gemv = lanes_gemv, .gemv_rows = lanes_gemv_rows,                        \
        .activate = lanes_activate, .extract = lanes_extract, .attend = lanes_attend, .finish = finish_by_layers,      \
        .multiply_pairs = lanes_multiply_pairs, .add_pairs = lanes_add_pairs, .dot = lanes_dot,                        \
        .softmax = lanes_softmax, .evolve = lanes_evolve, .pool = lanes_pool,                                          \
    }

#endif
