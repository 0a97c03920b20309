/* lanes.h: every kernel once, over vectors of lanes, for the instruction set of the file that includes it. That file
 * gives the type `vector` of VECTOR floats, the operations on it, and the shape of the products' blocks; this one gives
 * the functions of a complete table.
 *
 * Sums run over inputs in order, one fused multiply-add each, starting from the bias: in a block of lanes, in a single
 * column, wherever a value is computed. That is what keeps a column's bits the same in any company.
 */
#ifndef KERNELS_LANES_H
#define KERNELS_LANES_H

#include "model/kernels/lanes_activation.h"
#include "model/kernels/lanes_attention.h"
#include "model/kernels/lanes_cell.h"

#endif
