/* lanes_evolve.h: the steps of the interest evolution, once for all forms of its products (lanes.h).
 *
 * The file that includes this one gives the recurrent products and the form in which they read a state: lanes_cell.h
 * float32, vnni.c int16. It gives, before the include,
 *   STATE_IS_COPIED      1: products read a copy of the states, not the states themselves
 *   recurrent            the type of an element that a product reads
 *   keep_recurrent       units first .. first + count of a block of states to that form
 *   recurrent_product    y = W x + b for some blocks in that form
 *   COLUMN_FLOATS        memory for one column, in floats: h, three gates, and the rest for the two below
 *   keep_column          units i .. i + count of a column: of its state, or of r * h
 *   column_product       the gates' product, or the candidate's, of some columns
 */
#ifndef MODEL_KERNELS_LANES_EVOLVE_H
#define MODEL_KERNELS_LANES_EVOLVE_H

#include "model/kernels/lanes_gates.h"

/* An evolution and its working memory. Blocks are taken `group` at a time. */
struct evolution {
    const struct evolution_steps *of;
    size_t blocks, group;
    float *h;                          /* [blocks, units, LANES] */
    float *gates, *candidate;          /* [group, gates, LANES] and [group, units, LANES]: the recurrent products */
    recurrent *product_h, *product_rh; /* inputs of these products: of each block h, of each in the group r * h */
    size_t h_stride, rh_stride;        /* from one block's to the next */
};

/* ---- a block of candidates: a vector is one unit of several candidates ---- */

/* One step of one block. */
struct block_step {
    size_t units;
    const float *input, *bias;      /* [3 * units] */
    const float *attention;         /* [LANES] */
    const float *gates, *candidate; /* [units, LANES] of each gate */
    float *h;                       /* [units, LANES] */
    recurrent *product_h, *product_rh;
};

/* The i-th block of the group that starts at `block`. A reset after the product makes the candidate's product the third
 * of the gates'. */
ALWAYS_INLINE struct block_step block_step(const struct evolution *e, size_t step, size_t block, size_t i) {
    const struct cell *cell = e->of->cell;
    size_t units = cell->units, size = units * LANES;
    float *gates = e->gates + i * cell->gates.units * LANES;
    return (struct block_step){.units = units,
                               .input = e->of->inputs + step * 3 * units,
                               .bias = e->of->bias,
                               .attention = e->of->attention[block + i] + step * LANES,
                               .gates = gates,
                               .candidate = cell->reset_after ? gates + 2 * size : e->candidate + i * size,
                               .h = e->h + (block + i) * size,
                               .product_h = e->product_h + (block + i) * e->h_stride,
                               .product_rh = e->product_rh + i * e->rh_stride};
}

/* The input of vector i of gate 0, 1 or 2. */
ALWAYS_INLINE vector block_input(const struct block_step *step, size_t gate, size_t i) {
    size_t row = gate * step->units + i / LANE_VECTORS;
    vector input = broadcast(step->input[row]);
    if (step->bias == NULL)
        return input;
    return multiply_add(load(step->attention + i % LANE_VECTORS * VECTOR), input, broadcast(step->bias[row]));
}

/* The argument of gate 0 or 1. */
ALWAYS_INLINE vector block_gate(const struct block_step *step, size_t gate, size_t i) {
    return add(block_input(step, gate, i), load(step->gates + gate * step->units * LANES + i * VECTOR));
}

/* r * h of vectors first .. first + count. */
ALWAYS_INLINE void block_reset(size_t count, const struct block_step *step, size_t first) {
    vector z[INTERLEAVE], h[INTERLEAVE];
    UNROLL for (size_t i = 0; i < count; i++) {
        z[i] = block_gate(step, 0, first + i);
        h[i] = load(step->h + (first + i) * VECTOR);
    }
    reset(count, z, h, h);
    keep_recurrent(count, h, first, step->product_rh);
}

/* The next states of vectors first .. first + count. */
ALWAYS_INLINE void block_update(struct cell_variant variant, size_t count, const struct block_step *step,
                                size_t first) {
    vector v[INTERLEAVE], c[INTERLEAVE], a[INTERLEAVE], h[INTERLEAVE];
    UNROLL for (size_t i = 0; i < count; i++) c[i] = load(step->candidate + (first + i) * VECTOR);
    if (variant.reset_after) {
        UNROLL for (size_t i = 0; i < count; i++) v[i] = block_gate(step, 0, first + i);
        reset(count, v, c, c);
    }
    UNROLL for (size_t i = 0; i < count; i++) {
        v[i] = block_gate(step, 1, first + i);
        c[i] = add(block_input(step, 2, first + i), c[i]);
        a[i] = load(step->attention + (first + i) % LANE_VECTORS * VECTOR);
        h[i] = load(step->h + (first + i) * VECTOR);
    }
    update_state(variant.write, count, v, c, a, h);
    UNROLL for (size_t i = 0; i < count; i++) store(step->h + (first + i) * VECTOR, h[i]);
    if (STATE_IS_COPIED)
        keep_recurrent(count, h, first, step->product_h);
}

/* INTERLEAVE vectors at a time, because each alone would wait for its own results. Then two: int16 are kept in pairs.
 */
ALWAYS_INLINE void block_update_all(struct cell_variant variant, const struct block_step *step) {
    size_t i = 0, end = step->units * LANE_VECTORS;
    for (; i + INTERLEAVE <= end; i += INTERLEAVE)
        block_update(variant, INTERLEAVE, step, i);
    for (; i + 2 <= end; i += 2)
        block_update(variant, 2, step, i);
    for (; i < end; i++)
        block_update(variant, 1, step, i);
}

static void block_reset_all(const struct block_step *step) {
    size_t i = 0, end = step->units * LANE_VECTORS;
    for (; i + INTERLEAVE <= end; i += INTERLEAVE)
        block_reset(INTERLEAVE, step, i);
    for (; i + 2 <= end; i += 2)
        block_reset(2, step, i);
    for (; i < end; i++)
        block_reset(1, step, i);
}

/* All steps of the blocks. Steps are the outer loop, so that the weights stay in the caches. */
static void evolve_blocks(const struct evolution *e) {
    const struct cell *cell = e->of->cell;
    for (size_t number = 0; number < e->of->steps; number++)
        for (size_t block = 0; block < e->blocks; block += e->group) {
            size_t left = e->blocks - block, count = left < e->group ? left : e->group;
            recurrent_product(&cell->gates, count, e->product_h + block * e->h_stride, e->h_stride, e->gates);
            if (!cell->reset_after) {
                for (size_t i = 0; i < count; i++) {
                    struct block_step step = block_step(e, number, block, i);
                    block_reset_all(&step);
                }
                recurrent_product(&cell->candidate, count, e->product_rh, e->rh_stride, e->candidate);
            }
            for (size_t i = 0; i < count; i++) {
                struct block_step step = block_step(e, number, block, i);
                FOR_CELL_VARIANT(e->of->write, cell->reset_after, block_update_all, &step);
            }
        }
}

/* ---- few candidates: a vector is several units of one candidate ---- */

/* Some candidates of the last block. Each has its memory in one piece: h [units], gates [3 * units], and the rest. */
struct columns {
    size_t units, stride;
    const float *input, *bias; /* as in struct block_step */
    const float *attention;    /* that of the first column */
    float *h;
};

/* Inputs i .. i + some of a step, for a column whose attention score is a. */
ALWAYS_INLINE vector column_input(const struct columns *columns, size_t i, size_t some, vector a) {
    vector input = load_some(columns->input + i, some);
    return columns->bias == NULL ? input : multiply_add(a, input, load_some(columns->bias + i, some));
}

/* The arguments of gate 0 or 1. */
ALWAYS_INLINE vector column_gate(const struct columns *columns, const float *h, size_t gate, size_t i, size_t some,
                                 vector a) {
    size_t row = gate * columns->units + i;
    return add(column_input(columns, row, some, a), load_some(h + columns->units + row, some));
}

ALWAYS_INLINE void columns_reset(size_t count, const struct columns *columns, size_t i, size_t some) {
    vector z[COLUMNS_MAX], h[COLUMNS_MAX];
    UNROLL for (size_t j = 0; j < count; j++) {
        const float *column = columns->h + j * columns->stride;
        z[j] = column_gate(columns, column, 0, i, some, broadcast(columns->attention[j]));
        h[j] = load_some(column + i, some);
    }
    reset(count, z, h, h);
    UNROLL for (size_t j = 0; j < count; j++)
        keep_column(columns->h + j * columns->stride, columns->units, true, i, some, h[j]);
}

ALWAYS_INLINE void columns_update(struct cell_variant variant, size_t count, const struct columns *columns) {
    for (size_t i = 0; i < columns->units; i += VECTOR) {
        size_t some = columns->units - i < VECTOR ? columns->units - i : VECTOR;
        vector v[COLUMNS_MAX], c[COLUMNS_MAX], a[COLUMNS_MAX], h[COLUMNS_MAX];
        UNROLL for (size_t j = 0; j < count; j++) {
            const float *column = columns->h + j * columns->stride;
            a[j] = broadcast(columns->attention[j]);
            c[j] = load_some(column + 3 * columns->units + i, some);
            h[j] = load_some(column + i, some);
            v[j] = column_gate(columns, column, 0, i, some, a[j]);
        }
        if (variant.reset_after)
            reset(count, v, c, c);
        UNROLL for (size_t j = 0; j < count; j++) {
            v[j] = column_gate(columns, columns->h + j * columns->stride, 1, i, some, a[j]);
            c[j] = add(column_input(columns, 2 * columns->units + i, some, a[j]), c[j]);
        }
        update_state(variant.write, count, v, c, a, h);
        UNROLL for (size_t j = 0; j < count; j++) {
            store_some(columns->h + j * columns->stride + i, some, h[j]);
            if (STATE_IS_COPIED)
                keep_column(columns->h + j * columns->stride, columns->units, false, i, some, h[j]);
        }
    }
}

/* All steps of columns first .. first + count of the last block, with the arithmetic of a block. */
ALWAYS_INLINE void evolve_columns(size_t count, const struct evolution *e, size_t first) {
    const struct cell *cell = e->of->cell;
    size_t units = cell->units;
    float *h = e->h + e->blocks * units * LANES + first;
    struct columns columns = {.units = units, .stride = COLUMN_FLOATS(units), .bias = e->of->bias, .h = e->gates};
    memset(columns.h, 0, count * columns.stride * sizeof *columns.h);
    for (size_t j = 0; j < count; j++) {
        float *column = columns.h + j * columns.stride;
        for (size_t unit = 0; unit < units; unit++)
            column[unit] = h[unit * LANES + j];
        for (size_t i = 0; i < units && STATE_IS_COPIED; i += VECTOR) {
            size_t some = units - i < VECTOR ? units - i : VECTOR;
            keep_column(column, units, false, i, some, load_some(column + i, some));
        }
    }
    for (size_t step = 0; step < e->of->steps; step++) {
        columns.input = e->of->inputs + step * 3 * units;
        columns.attention = e->of->attention[e->blocks] + step * LANES + first;
        column_product(count, cell, false, &columns);
        if (!cell->reset_after) {
            for (size_t i = 0; i < units; i += VECTOR)
                columns_reset(count, &columns, i, units - i < VECTOR ? units - i : VECTOR);
            column_product(count, cell, true, &columns);
        }
        FOR_CELL_VARIANT(e->of->write, cell->reset_after, columns_update, count, &columns);
    }
    for (size_t j = 0; j < count; j++)
        for (size_t unit = 0; unit < units; unit++)
            h[unit * LANES + j] = columns.h[j * columns.stride + unit];
}

#endif
