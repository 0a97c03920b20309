/* lanes.h: every kernel once, over vectors of lanes, for the instruction set of the file that includes it; this file
 * gives the functions of a complete table, and LANES_KERNELS that table. That file gives the type `vector` of VECTOR
 * floats, 4, 8 or 16; the shape of the products' blocks, PANELS_PER_BLOCK and TWO_BLOCKS, and whether sums may be
 * crossed, WINOGRAD (kernels.h); and the operations: broadcast, load and store, load_some and store_some (the first
 * few), add, subtract, multiply, divide, square_root, multiply_add (a b + c), negative_multiply_add (c - a b), smaller
 * and larger (the second argument where either is not a number), transpose, powers (2^(factor x) of several vectors),
 * and where sums are crossed multiply_add_to (*sum += a b).
 *
 * Sums run over inputs in order, one fused multiply-add each (crossed ones: for two of three inputs one, and the excess
 * at the end), starting from the bias: in a block of lanes, in a single column, wherever a value is computed. That is
 * what keeps a column's bits the same in any company.
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
