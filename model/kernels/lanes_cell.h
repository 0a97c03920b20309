/* lanes_cell.h: the recurrent cells in float32: one step of the extractor, all steps of the evolution (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_CELL_H
#define MODEL_KERNELS_LANES_CELL_H

#include "model/kernels/lanes_columns.h"
#include "model/kernels/lanes_gates.h"

/* ---- extractor: a vector is several units of one column ---- */

static void lanes_extract(const struct kernels *kernels, const struct cell *cell, const float *input, const float *h,
                          float *next, float *work) {
    (void)kernels;
    size_t units = cell->units;
    float *reset_h = work + 3 * units;
    lanes_gemv(&cell->gates_column, h, work);
    if (!cell->reset_after) {
        for (size_t i = 0; i < units; i += VECTOR) {
            size_t some = units - i < VECTOR ? units - i : VECTOR;
            vector z = add(load_some(input + i, some), load_some(work + i, some)), old = load_some(h + i, some);
            reset(1, &z, &old, &old);
            store_some(reset_h + i, some, old);
        }
        lanes_gemv(&cell->candidate_column, reset_h, work + 2 * units);
    }
    for (size_t i = 0; i < units; i += VECTOR) {
        size_t some = units - i < VECTOR ? units - i : VECTOR;
        const float *gate = input + i, *recurrent = work + i;
        vector state = load_some(h + i, some), candidate = load_some(recurrent + 2 * units, some);
        vector update = add(load_some(gate + units, some), load_some(recurrent + units, some));
        if (cell->reset_after) {
            vector z = add(load_some(gate, some), load_some(recurrent, some));
            reset(1, &z, &candidate, &candidate);
        }
        candidate = add(load_some(gate + 2 * units, some), candidate);
        update_state(WRITE_UPDATE, 1, &update, &candidate, NULL, &state);
        store_some(next + i, some, state);
    }
}

/* ---- evolution: products read the float32 states themselves ---- */

#define STATE_IS_COPIED      0
#define COLUMN_FLOATS(units) (5 * (units)) /* the last: r * h */

typedef float recurrent;
struct columns;

ALWAYS_INLINE void keep_recurrent(size_t count, const vector *h, size_t first, float *x) {
    UNROLL for (size_t i = 0; i < count; i++) store(x + (first + i) * VECTOR, h[i]);
}

ALWAYS_INLINE void recurrent_product(const struct projection *projection, size_t blocks, const float *x, size_t stride,
                                     float *y) {
    (void)stride;
    lanes_linear(projection, blocks, x, y);
}

ALWAYS_INLINE void keep_column(float *column, size_t units, bool is_reset, size_t i, size_t some, vector h) {
    if (is_reset)
        store_some(column + 4 * units + i, some, h);
}

ALWAYS_INLINE void column_product(size_t count, const struct cell *cell, bool candidate, const struct columns *columns);

#include "model/kernels/lanes_evolve.h"

ALWAYS_INLINE void column_product(size_t count, const struct cell *cell, bool candidate,
                                  const struct columns *columns) {
    const struct column_projection *projection = candidate ? &cell->candidate_column : &cell->gates_column;
    size_t stride = columns->stride;
    const float *x = columns->h + (candidate ? 4 : 0) * cell->units;
    float *y = columns->h + (candidate ? 3 : 1) * cell->units;
    if (count == 1)
        gemv_one(projection, x, stride, y, stride);
    else if (count == 2)
        gemv_two(projection, x, stride, y, stride);
    else
        gemv_four(projection, x, stride, y, stride);
}

static __attribute__((noinline)) void evolve_one(const struct evolution *e, size_t first) {
    evolve_columns(1, e, first);
}

static __attribute__((noinline)) void evolve_two(const struct evolution *e, size_t first) {
    evolve_columns(2, e, first);
}

static __attribute__((noinline)) void evolve_four(const struct evolution *e, size_t first) {
    evolve_columns(COLUMNS_MAX, e, first);
}

/* Whether so many columns take less time one by one than as a block of lanes. The factors are measured: they stand for
 * the wait for few sums at a time. A vector's unused units count, too. */
static bool evolve_narrow_pays(size_t columns, size_t units) {
    size_t vectors = (units + VECTOR - 1) / VECTOR;
    return (LANE_VECTORS == 1 ? 4 : 6) * columns_taken(columns) * vectors <= 3 * units * LANE_VECTORS;
}

static void lanes_evolve(const struct kernels *kernels, const struct evolution_steps *evolution, float *h,
                         float *work) {
    size_t units = evolution->cell->units, size = units * LANES;
    size_t blocks = evolution->candidates / LANES, rest = evolution->candidates % LANES;
    if (rest > 0 && !evolve_narrow_pays(rest, units))
        blocks++, rest = 0;
    size_t group = blocks < kernels->blocks_per_weight_load ? blocks : kernels->blocks_per_weight_load;
    struct evolution e = {.of = evolution,
                          .blocks = blocks,
                          .group = group,
                          .h = h,
                          .gates = work,
                          .candidate = work + 2 * group * size,
                          .product_h = h,
                          .product_rh = work + 3 * group * size,
                          .h_stride = size,
                          .rh_stride = size};
    if (blocks > 0)
        evolve_blocks(&e);
    size_t first = 0;
    for (; first + 2 < rest; first += COLUMNS_MAX) /* a third column costs less with a fourth beside it than alone */
        evolve_four(&e, first);
    if (first + 2 == rest)
        evolve_two(&e, first);
    else if (first + 1 == rest)
        evolve_one(&e, first);
}

#endif
