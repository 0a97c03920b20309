/* lanes.h: every kernel once, over vectors of lanes, for the instruction set of the file that includes it; this file
 * gives the functions of a complete table. That file gives the type `vector` of VECTOR floats, 4, 8 or 16; the shape of
 * the products' blocks, GROUPS_ALONE and TWO_BLOCKS, and whether sums may be crossed, CROSSES (kernels.h); and the
 * operations: broadcast, load and store, load_some and store_some (the first few), add, subtract, multiply, divide,
 * square_root, multiply_add (a b + c), negative_multiply_add (c - a b), smaller and larger (the second argument where
 * either is not a number), transpose, powers (2^(factor x) of several vectors), and where sums are crossed
 * multiply_add_to (*sum += a b).
 *
 * Sums run over inputs in order, one fused multiply-add each (crossed ones: for two of three inputs one, and the excess
 * at the end), starting from the bias: in a block of lanes, in a single column, wherever a value is computed. That is
 * what keeps a column's bits the same in any company.
 */
#ifndef KERNELS_LANES_H
#define KERNELS_LANES_H

#include "model/kernels/lanes_activation.h"
#include "model/kernels/lanes_attention.h"
#include "model/kernels/lanes_cell.h"
#include "model/kernels/lanes_columns.h"

#endif
