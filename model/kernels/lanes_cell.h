/* lanes_cell.h: the recurrent cells: one step of the extractor, all steps of the evolution (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_CELL_H
#define MODEL_KERNELS_LANES_CELL_H

#include "model/kernels/lanes_columns.h"
#include "model/kernels/lanes_gates.h"

/* One vector of units of a single column, `count` of them there. */
static void extract_some(const struct cell *cell, const float *input, const float *recurrent, const float *h,
                         size_t count, float *next) {
    size_t units = cell->units;
    vector old = load_some(h, count), candidate = load_some(recurrent + 2 * units, count);
    vector update = add(load_some(input + units, count), load_some(recurrent + units, count));
    if (cell->reset_after) {
        vector z = add(load_some(input, count), load_some(recurrent, count));
        reset(1, &z, &candidate, &candidate);
    }
    candidate = add(load_some(input + 2 * units, count), candidate);
    move(WRITE_UPDATE, 1, &update, &candidate, NULL, &old);
    store_some(next, count, old);
}

static void lanes_extract(const struct kernels *kernels, const struct cell *cell, const float *input, const float *h,
                          float *next, float *work) {
    (void)kernels;
    size_t units = cell->units;
    float *reset_h = work + 3 * units;
    lanes_gemv(&cell->gates_column, h, work);
    if (!cell->reset_after) {
        for (size_t i = 0; i < units; i += VECTOR) {
            size_t count = units - i < VECTOR ? units - i : VECTOR;
            vector z = add(load_some(input + i, count), load_some(work + i, count)), old = load_some(h + i, count);
            reset(1, &z, &old, &old);
            store_some(reset_h + i, count, old);
        }
        lanes_gemv(&cell->candidate_column, reset_h, work + 2 * units);
    }
    for (size_t i = 0; i < units; i += VECTOR)
        extract_some(cell, input + i, work + i, h + i, units - i < VECTOR ? units - i : VECTOR, next + i);
}

/* ---- evolution ---- */

/* Vectors first .. first + count of a block: their states behind the reset gate. */
ALWAYS_INLINE void reset_some(const struct step *step, size_t first, size_t count) {
    vector z[TOGETHER], h[TOGETHER];
    UNROLL for (size_t i = 0; i < count; i++) {
        z[i] = gate_of(step, 0, first + i);
        h[i] = load(step->h + (first + i) * VECTOR);
    }
    reset(count, z, h, h);
    UNROLL for (size_t i = 0; i < count; i++) store(step->reset_h + (first + i) * VECTOR, h[i]);
}

/* Their next states. */
ALWAYS_INLINE void move_some(struct form form, const struct step *step, size_t first, size_t count) {
    vector v[TOGETHER], c[TOGETHER], a[TOGETHER], h[TOGETHER];
    UNROLL for (size_t i = 0; i < count; i++) c[i] = load(step->candidate + (first + i) * VECTOR);
    if (form.reset_after) {
        UNROLL for (size_t i = 0; i < count; i++) v[i] = gate_of(step, 0, first + i);
        reset(count, v, c, c);
    }
    UNROLL for (size_t i = 0; i < count; i++) {
        v[i] = gate_of(step, 1, first + i);
        c[i] = add(input_of(step, 2, first + i), c[i]);
        a[i] = load(step->attention + (first + i) % LANE_VECTORS * VECTOR);
        h[i] = load(step->h + (first + i) * VECTOR);
    }
    move(form.write, count, v, c, a, h);
    UNROLL for (size_t i = 0; i < count; i++) store(step->next + (first + i) * VECTOR, h[i]);
}

/* A few vectors at a time, so that none waits for itself. */
static void reset_block(const struct step *step) {
    size_t i = 0, end = step->units * LANE_VECTORS;
    for (; i + TOGETHER <= end; i += TOGETHER)
        reset_some(step, i, TOGETHER);
    for (; i < end; i++)
        reset_some(step, i, 1);
}

ALWAYS_INLINE void move_formed(struct form form, const struct step *step) {
    size_t i = 0, end = step->units * LANE_VECTORS;
    for (; i + TOGETHER <= end; i += TOGETHER)
        move_some(form, step, i, TOGETHER);
    for (; i < end; i++)
        move_some(form, step, i, 1);
}

/* A function for each form of the cell. */
ALWAYS_INLINE void move_written(enum kernel_write write, bool reset_after, const struct step *step) {
    if (reset_after)
        move_formed((struct form){write, true}, step);
    else
        move_formed((struct form){write, false}, step);
}

static void move_block(struct form form, const struct step *step) {
    switch (form.write) {
    case WRITE_UPDATE:
        move_written(WRITE_UPDATE, form.reset_after, step);
        break;
    case WRITE_ATTENTION:
        move_written(WRITE_ATTENTION, form.reset_after, step);
        break;
    case WRITE_AND:
        move_written(WRITE_AND, form.reset_after, step);
        break;
    case WRITE_OR:
        move_written(WRITE_OR, form.reset_after, step);
        break;
    }
}

/* What lanes_evolve is called with, and its work: the gates' products of as many blocks as are taken together, and then
 * the candidate's and r * h, [units, LANES] each. Reset after: the candidate's is the third of the gates'. */
struct evolution {
    const struct cell *cell;
    enum kernel_write write;
    const float *inputs, *bias;
    size_t blocks;
    float *const *attention;
    float *h, *gates, *candidate, *reset_h;
};

/* One step of a block, the i-th of those together. */
static struct step step_of(const struct evolution *e, size_t number, size_t block, size_t i) {
    const struct cell *cell = e->cell;
    size_t units = cell->units, size = units * LANES;
    float *gates = e->gates + i * cell->gates.units * LANES, *h = e->h + block * size;
    return (struct step){.units = units,
                         .input = e->inputs + number * 3 * units,
                         .bias = e->bias,
                         .attention = e->attention[block] + number * LANES,
                         .gates = gates,
                         .candidate = cell->reset_after ? gates + 2 * size : e->candidate + i * size,
                         .h = h,
                         .reset_h = e->reset_h + i * size,
                         .next = h};
}

/* One step of the blocks that are taken together. */
static void evolve_step(const struct evolution *e, size_t number, size_t block, size_t together) {
    const struct cell *cell = e->cell;
    lanes_linear(&cell->gates, together, e->h + block * cell->units * LANES, e->gates);
    if (!cell->reset_after) {
        for (size_t i = 0; i < together; i++) {
            struct step step = step_of(e, number, block + i, i);
            reset_block(&step);
        }
        lanes_linear(&cell->candidate, together, e->reset_h, e->candidate);
    }
    for (size_t i = 0; i < together; i++) {
        struct step step = step_of(e, number, block + i, i);
        move_block((struct form){e->write, cell->reset_after}, &step);
    }
}

/* ---- evolution of few candidates: a vector is a few units of one ---- */

/* Some columns of the last block, each in one piece: h, gates (3 * units) and r * h one behind the other. */
struct columns {
    size_t units, stride;
    const float *input, *bias; /* as in struct step */
    const float *attention;    /* the first column's */
    float *h;
};

/* The input of `some` units from i on, of the column whose attention is a. */
ALWAYS_INLINE vector column_input(const struct columns *of, size_t i, size_t some, vector a) {
    vector input = load_some(of->input + i, some);
    return of->bias == NULL ? input : multiply_add(a, input, load_some(of->bias + i, some));
}

/* Their argument of gate 0 or 1. */
ALWAYS_INLINE vector column_gate(const struct columns *of, const float *h, size_t gate, size_t i, size_t some,
                                 vector a) {
    size_t row = gate * of->units + i;
    return add(column_input(of, row, some, a), load_some(h + of->units + row, some));
}

ALWAYS_INLINE void columns_reset(size_t count, const struct columns *of, size_t i, size_t some) {
    vector z[COLUMNS_MAX], h[COLUMNS_MAX];
    UNROLL for (size_t j = 0; j < count; j++) {
        const float *column = of->h + j * of->stride;
        z[j] = column_gate(of, column, 0, i, some, broadcast(of->attention[j]));
        h[j] = load_some(column + i, some);
    }
    reset(count, z, h, h);
    UNROLL for (size_t j = 0; j < count; j++) store_some(of->h + j * of->stride + 4 * of->units + i, some, h[j]);
}

ALWAYS_INLINE void columns_move(struct form form, size_t count, const struct columns *of, size_t i, size_t some) {
    vector v[COLUMNS_MAX], c[COLUMNS_MAX], a[COLUMNS_MAX], h[COLUMNS_MAX];
    UNROLL for (size_t j = 0; j < count; j++) {
        const float *column = of->h + j * of->stride;
        a[j] = broadcast(of->attention[j]);
        c[j] = load_some(column + 3 * of->units + i, some);
        h[j] = load_some(column + i, some);
        v[j] = column_gate(of, column, 0, i, some, a[j]);
    }
    if (form.reset_after)
        reset(count, v, c, c);
    UNROLL for (size_t j = 0; j < count; j++) {
        v[j] = column_gate(of, of->h + j * of->stride, 1, i, some, a[j]);
        c[j] = add(column_input(of, 2 * of->units + i, some, a[j]), c[j]);
    }
    move(form.write, count, v, c, a, h);
    UNROLL for (size_t j = 0; j < count; j++) store_some(of->h + j * of->stride + i, some, h[j]);
}

ALWAYS_INLINE void columns_move_written(enum kernel_write write, bool reset_after, size_t count,
                                        const struct columns *of) {
    size_t units = of->units;
    for (size_t i = 0; i < units; i += VECTOR)
        columns_move((struct form){write, reset_after}, count, of, i, units - i < VECTOR ? units - i : VECTOR);
}

ALWAYS_INLINE void columns_move_all(struct form form, size_t count, const struct columns *of) {
    switch (form.write) {
    case WRITE_UPDATE:
        columns_move_written(WRITE_UPDATE, form.reset_after, count, of);
        break;
    case WRITE_ATTENTION:
        columns_move_written(WRITE_ATTENTION, form.reset_after, count, of);
        break;
    case WRITE_AND:
        columns_move_written(WRITE_AND, form.reset_after, count, of);
        break;
    case WRITE_OR:
        columns_move_written(WRITE_OR, form.reset_after, count, of);
        break;
    }
}

ALWAYS_INLINE void product_of(size_t count, const struct column_projection *projection, const float *x, size_t stride,
                              float *y) {
    if (count == 1)
        project_one_column(projection, x, stride, y, stride);
    else if (count == 2)
        project_two_columns(projection, x, stride, y, stride);
    else
        project_four_columns(projection, x, stride, y, stride);
}

/* One step of `count` columns, the same sums and functions as in lanes. */
ALWAYS_INLINE void columns_step(struct form form, size_t count, const struct cell *cell, const struct columns *of) {
    size_t units = of->units, stride = of->stride;
    product_of(count, &cell->gates_column, of->h, stride, of->h + units);
    if (!form.reset_after) {
        for (size_t i = 0; i < units; i += VECTOR)
            columns_reset(count, of, i, units - i < VECTOR ? units - i : VECTOR);
        product_of(count, &cell->candidate_column, of->h + 4 * units, stride, of->h + 3 * units);
    }
    columns_move_all(form, count, of);
}

/* All steps of columns first .. first + count of the last block. */
ALWAYS_INLINE void evolve_columns(size_t count, const struct evolution *e, size_t steps, size_t first, float *h) {
    size_t units = e->cell->units;
    struct form form = {e->write, e->cell->reset_after};
    struct columns columns = {.units = units, .stride = 5 * units, .bias = e->bias, .h = e->gates};
    for (size_t j = 0; j < count; j++)
        for (size_t unit = 0; unit < units; unit++)
            columns.h[j * columns.stride + unit] = h[unit * LANES + first + j];
    for (size_t step = 0; step < steps; step++) {
        columns.input = e->inputs + step * 3 * units;
        columns.attention = e->attention[e->blocks] + step * LANES + first;
        columns_step(form, count, e->cell, &columns);
    }
    for (size_t j = 0; j < count; j++)
        for (size_t unit = 0; unit < units; unit++)
            h[unit * LANES + first + j] = columns.h[j * columns.stride + unit];
}

static __attribute__((noinline)) void evolve_one(const struct evolution *e, size_t steps, size_t first, float *h) {
    evolve_columns(1, e, steps, first, h);
}

static __attribute__((noinline)) void evolve_two(const struct evolution *e, size_t steps, size_t first, float *h) {
    evolve_columns(2, e, steps, first, h);
}

static __attribute__((noinline)) void evolve_four(const struct evolution *e, size_t steps, size_t first, float *h) {
    evolve_columns(COLUMNS_MAX, e, steps, first, h);
}

/* The block behind the full ones, of `count` columns. A third one costs less with a fourth beside it than alone. */
static void evolve_few(const struct evolution *e, size_t steps, size_t count) {
    float *h = e->h + e->blocks * e->cell->units * LANES;
    size_t first = 0;
    for (; first + 2 < count; first += COLUMNS_MAX)
        evolve_four(e, steps, first, h);
    if (first + 2 == count)
        evolve_two(e, steps, first, h);
    else if (first + 1 == count)
        evolve_one(e, steps, first, h);
}

/* Whether so many columns take less time each in one piece than as a block of lanes: by their multiply-adds, a vector's
 * unused units included, and by how much longer each takes with few sums at a time, as measured. */
static bool are_few(size_t columns, size_t units) {
    size_t vectors = (units + VECTOR - 1) / VECTOR;
    return (LANE_VECTORS == 1 ? 4 : 6) * columns_taken(columns) * vectors <= 3 * units * LANE_VECTORS;
}

static void lanes_evolve(const struct kernels *kernels, const struct cell *cell, enum kernel_write write, size_t steps,
                         const float *inputs, const float *bias, size_t candidates, float *const *attention, float *h,
                         float *work) {
    size_t blocks = candidates / LANES, rest = candidates % LANES;
    bool few = rest > 0 && are_few(rest, cell->units);
    if (rest > 0 && !few)
        blocks++;
    size_t together = blocks < kernels->blocks_per_weight_load ? blocks : kernels->blocks_per_weight_load,
           size = cell->units * LANES;
    struct evolution e = {
        cell, write, inputs, bias, blocks, attention, h, work, work + 2 * together * size, work + 3 * together * size};
    for (size_t i = 0; i < steps; i++)
        for (size_t block = 0; block < blocks; block += together)
            evolve_step(&e, i, block, blocks - block < together ? blocks - block : together);
    if (few)
        evolve_few(&e, steps, rest);
}

#endif
