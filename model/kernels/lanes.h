/* lanes.h: every kernel once, over vectors of lanes, for the instruction set of the file that includes it. That file
 * gives the type `vector` of VECTOR floats, the operations on it, and the shape of the products' blocks; this one gives
 * the functions of a complete table.
 *
 * Sums run over inputs in order, one fused multiply-add each, starting from the bias: in a block of lanes, in a single
 * column, wherever a value is computed. That is what keeps a column's bits the same in any company.
 */
#ifndef KERNELS_LANES_H
#define KERNELS_LANES_H

#include "model/kernels/kernels.h"
#include "model/kernels/unroll.h"

#include <string.h>

enum {
    ROWS_MAX = 24,   /* of a product's block */
    VECTORS_MAX = 4, /* of its columns */
    TOGETHER = 4     /* values computed side by side, so that none waits for itself */
};

#define LANE_VECTORS (LANES / VECTOR) /* of a block of lanes */

/* ---- functions of several values at once, each in every lane ---- */

#define LOG2_E 0x1.715476p+0F

/* Arguments are cut where float32 no longer tells the difference: 2^126 is not yet infinite. Not a number stays that.
 */
ALWAYS_INLINE vector within(vector x, float limit) {
    return larger(broadcast(-limit), smaller(broadcast(limit), x));
}

/* e = e^(sign x), x cut at the limit. */
ALWAYS_INLINE void exponentials(size_t count, const vector *x, float factor, float limit, vector *e) {
    UNROLL for (size_t i = 0; i < count; i++) e[i] = within(x[i], limit);
    powers(count, e, factor * LOG2_E, e);
}

ALWAYS_INLINE void sigmoids(size_t count, const vector *x, vector *y) {
    exponentials(count, x, -1, 87, y);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(broadcast(1), add(broadcast(1), y[i]));
}

/* tanh x = (1 - e^-2x) / (1 + e^-2x). */
ALWAYS_INLINE void hyperbolic_tangents(size_t count, const vector *x, vector *y) {
    exponentials(count, x, -2, 43, y);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(subtract(broadcast(1), y[i]), add(broadcast(1), y[i]));
}

/* x where p says that it is on, alpha x where it is off. */
ALWAYS_INLINE vector dice(vector x, vector alpha, vector p) {
    return multiply(x, multiply_add(alpha, subtract(broadcast(1), p), p));
}

/* ---- products ---- */

/* Where vector i of several blocks of lanes starts. */
ALWAYS_INLINE size_t place_of(size_t i, size_t stride) {
    return i / LANE_VECTORS * stride + i % LANE_VECTORS * VECTOR;
}

/* y = W x + b for `groups` groups of packed rows and `vectors` vectors of columns, the sums in registers. `rows` of
 * them are stored; the rest pads the last group. */
ALWAYS_INLINE void multiply_block(size_t groups, size_t vectors, const struct projection *projection, size_t first,
                                  const float *x, float *y) {
    size_t inputs = projection->inputs, x_stride = inputs * LANES, y_stride = projection->units * LANES;
    vector sum[ROWS_MAX][VECTORS_MAX], in[VECTORS_MAX];
    const float *group[ROWS_MAX / GROUP];
    UNROLL for (size_t i = 0; i < groups; i++) {
        group[i] = projection->packed + (first + i) * (inputs + 1) * GROUP;
        KEEP_IN_REGISTER(group[i]);
    }
    UNROLL for (size_t row = 0; row < groups * GROUP; row++) {
        vector bias = broadcast(group[row / GROUP][row % GROUP]);
        UNROLL for (size_t i = 0; i < vectors; i++) sum[row][i] = bias;
    }
    for (size_t input = 1; input <= inputs; input++, x += LANES) {
        UNROLL for (size_t i = 0; i < vectors; i++) in[i] = load(x + place_of(i, x_stride));
        UNROLL for (size_t row = 0; row < groups * GROUP; row++) {
            vector weight = broadcast(group[row / GROUP][input * GROUP + row % GROUP]);
            UNROLL for (size_t i = 0; i < vectors; i++) sum[row][i] = multiply_add(weight, in[i], sum[row][i]);
        }
    }
    size_t rows = projection->units - first * GROUP;
    y += first * GROUP * LANES;
    UNROLL for (size_t row = 0; row < groups * GROUP; row++) {
        if (row < rows) {
            UNROLL for (size_t i = 0; i < vectors; i++) store(y + row * LANES + place_of(i, y_stride), sum[row][i]);
        }
    }
}

#if PAIRS
/* Two blocks of lanes: few rows suffice to keep the multipliers busy. A last group does not go alone. */
static void project_pair(const struct projection *projection, const float *x, float *y) {
    size_t groups = (projection->units + GROUP - 1) / GROUP, first = 0;
    for (; groups - first > 3 || groups - first == 2; first += 2)
        multiply_block(2, 2 * LANE_VECTORS, projection, first, x, y);
    if (groups - first == 3)
        multiply_block(3, 2 * LANE_VECTORS, projection, first, x, y);
    else if (groups - first == 1)
        multiply_block(1, 2 * LANE_VECTORS, projection, first, x, y);
}
#endif

/* One block has few columns, so that it takes many rows to keep the multipliers busy. The groups are spread evenly: a
 * small last share would wait for its own sums. */
static void project_block(const struct projection *projection, const float *x, float *y) {
    size_t groups = (projection->units + GROUP - 1) / GROUP, first = 0;
    for (size_t left = (groups + GROUPS_ALONE - 1) / GROUPS_ALONE; left > 0; left--) {
        size_t count = (groups - first) / left;
        switch (count) {
        case 1:
            multiply_block(1, LANE_VECTORS, projection, first, x, y);
            break;
#if GROUPS_ALONE > 1
        case 2:
            multiply_block(2, LANE_VECTORS, projection, first, x, y);
            break;
        case 3:
            multiply_block(3, LANE_VECTORS, projection, first, x, y);
            break;
        case 4:
            multiply_block(4, LANE_VECTORS, projection, first, x, y);
            break;
        case 5:
            multiply_block(5, LANE_VECTORS, projection, first, x, y);
            break;
        default:
            multiply_block(6, LANE_VECTORS, projection, first, x, y);
#endif
        }
        first += count;
    }
}

static void lanes_project(const struct projection *projection, size_t blocks, const float *x, float *y) {
    size_t x_stride = projection->inputs * LANES, y_stride = projection->units * LANES, block = 0;
#if PAIRS
    for (; block + 2 <= blocks; block += 2)
        project_pair(projection, x + block * x_stride, y + block * y_stride);
#endif
    for (; block < blocks; block++)
        project_block(projection, x + block * x_stride, y + block * y_stride);
}

/* Units of one column, `vectors` vectors of them; the last has `last` units. */
ALWAYS_INLINE void column_block(const struct column_projection *projection, size_t unit, size_t vectors, size_t last,
                                const float *x, float *y) {
    vector sum[8];
    UNROLL for (size_t i = 0; i < vectors; i++) sum[i] =
        load_some(projection->bias + unit + i * VECTOR, i + 1 < vectors ? VECTOR : last);
    const float *weight = projection->weight + unit;
    for (size_t input = 0; input < projection->inputs; input++, weight += projection->units) {
        vector in = broadcast(x[input]);
        UNROLL for (size_t i = 0; i < vectors; i++) sum[i] =
            multiply_add(load_some(weight + i * VECTOR, i + 1 < vectors ? VECTOR : last), in, sum[i]);
    }
    UNROLL for (size_t i = 0; i < vectors; i++)
        store_some(y + unit + i * VECTOR, i + 1 < vectors ? VECTOR : last, sum[i]);
}

static void lanes_project_column(const struct column_projection *projection, const float *x, float *y) {
    size_t units = projection->units, unit = 0;
    for (; unit + 8 * VECTOR <= units; unit += 8 * VECTOR)
        column_block(projection, unit, 8, VECTOR, x, y);
    for (; unit + 4 * VECTOR <= units; unit += 4 * VECTOR)
        column_block(projection, unit, 4, VECTOR, x, y);
    for (; unit + 2 * VECTOR < units; unit += 2 * VECTOR)
        column_block(projection, unit, 2, VECTOR, x, y);
    for (; unit < units; unit += VECTOR)
        column_block(projection, unit, 1, units - unit < VECTOR ? units - unit : VECTOR, x, y);
}

/* ---- activations ---- */

/* The parameters of some units, each in every lane. */
struct unit_parameters {
    vector alpha[TOGETHER], gain[TOGETHER], offset[TOGETHER];
};

ALWAYS_INLINE void apply(enum kernel_activation kind, size_t count, const struct unit_parameters *of, vector *x) {
    vector p[TOGETHER], zero = broadcast(0);
    switch (kind) {
    case KERNEL_RELU:
        UNROLL for (size_t i = 0; i < count; i++) x[i] = larger(x[i], zero);
        break;
    case KERNEL_SIGMOID:
        sigmoids(count, x, x);
        break;
    case KERNEL_TANH:
        hyperbolic_tangents(count, x, x);
        break;
    case KERNEL_SILU:
        sigmoids(count, x, p);
        UNROLL for (size_t i = 0; i < count; i++) x[i] = multiply(x[i], p[i]);
        break;
    case KERNEL_PRELU:
        UNROLL for (size_t i = 0; i < count; i++) x[i] =
            multiply_add(of->alpha[i], smaller(zero, x[i]), larger(x[i], zero));
        break;
    case KERNEL_DICE:
        UNROLL for (size_t i = 0; i < count; i++) p[i] = multiply_add(of->gain[i], x[i], of->offset[i]);
        sigmoids(count, p, p);
        UNROLL for (size_t i = 0; i < count; i++) x[i] = dice(x[i], of->alpha[i], p[i]);
        break;
    case KERNEL_LINEAR:
    case KERNEL_DICE_ROW:
        break;
    }
}

/* Vectors first .. first + count of a block. */
ALWAYS_INLINE void apply_some(enum kernel_activation kind, const struct activation_parameters *parameters, size_t first,
                              size_t count, float *x) {
    struct unit_parameters of;
    vector y[TOGETHER];
    UNROLL for (size_t i = 0; i < count; i++) {
        size_t unit = (first + i) / LANE_VECTORS;
        y[i] = load(x + (first + i) * VECTOR);
        if (kind == KERNEL_PRELU || kind == KERNEL_DICE)
            of.alpha[i] = broadcast(parameters->alpha[unit]);
        if (kind == KERNEL_DICE) {
            of.gain[i] = broadcast(parameters->gain[unit]);
            of.offset[i] = broadcast(parameters->offset[unit]);
        }
    }
    apply(kind, count, &of, y);
    UNROLL for (size_t i = 0; i < count; i++) store(x + (first + i) * VECTOR, y[i]);
}

ALWAYS_INLINE void activate_units(enum kernel_activation kind, const struct activation_parameters *parameters,
                                  size_t units, size_t blocks, float *x) {
    for (size_t block = 0; block < blocks; block++, x += units * LANES) {
        size_t i = 0, vectors = units * LANE_VECTORS;
        for (; i + TOGETHER <= vectors; i += TOGETHER)
            apply_some(kind, parameters, i, TOGETHER, x);
        for (; i < vectors; i++)
            apply_some(kind, parameters, i, 1, x);
    }
}

/* p = sigmoid(c / sqrt(sum of (c^2 + epsilon))), c = x - mean, both over the units of a column. */
static void activate_rows(const struct activation_parameters *parameters, size_t units, float *x) {
    vector mean = broadcast(0), sum = broadcast(0);
    for (size_t unit = 0; unit < units; unit++)
        mean = add(mean, load(x + unit * LANES));
    mean = divide(mean, broadcast((float)units));
    for (size_t unit = 0; unit < units; unit++) {
        vector centred = subtract(load(x + unit * LANES), mean);
        sum = add(sum, multiply_add(centred, centred, broadcast(parameters->epsilon)));
    }
    vector gain = divide(broadcast(1), square_root(sum));
    for (size_t unit = 0; unit < units; unit++) {
        vector value = load(x + unit * LANES), p = multiply(gain, subtract(value, mean));
        sigmoids(1, &p, &p);
        store(x + unit * LANES, dice(value, broadcast(parameters->alpha[unit]), p));
    }
}

static void lanes_activate(const struct activation_parameters *parameters, size_t units, size_t blocks, float *x) {
    switch (parameters->kind) {
    case KERNEL_LINEAR:
        break;
    case KERNEL_RELU:
        activate_units(KERNEL_RELU, parameters, units, blocks, x);
        break;
    case KERNEL_SIGMOID:
        activate_units(KERNEL_SIGMOID, parameters, units, blocks, x);
        break;
    case KERNEL_TANH:
        activate_units(KERNEL_TANH, parameters, units, blocks, x);
        break;
    case KERNEL_SILU:
        activate_units(KERNEL_SILU, parameters, units, blocks, x);
        break;
    case KERNEL_PRELU:
        activate_units(KERNEL_PRELU, parameters, units, blocks, x);
        break;
    case KERNEL_DICE:
        activate_units(KERNEL_DICE, parameters, units, blocks, x);
        break;
    case KERNEL_DICE_ROW:
        for (size_t block = 0; block < blocks; block++)
            for (size_t lane = 0; lane < LANES; lane += VECTOR)
                activate_rows(parameters, units, x + block * units * LANES + lane);
        break;
    }
}

/* ---- cells ---- */

/* Beyond this a gate is closed or open to float32, and the product of two divisors stays finite. */
#define GATE_LIMIT 30.0F

/* h / (1 + e^-z): the state behind its reset gate; or the candidate's recurrent part behind it. */
ALWAYS_INLINE void reset(size_t count, const vector *z, const vector *h, vector *y) {
    vector e[TOGETHER];
    exponentials(count, z, -1, GATE_LIMIT, e);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(h[i], add(broadcast(1), e[i]));
}

/* h + w (c - h) of some units. With V = e^-v and C = e^-2c of the gates' arguments the update gate is 1 / (1 + V) and
 * the candidate (1 - C) / (1 + C), so that both share one division: c - h = ((1 - h) - C (1 + h)) / (1 + C). */
ALWAYS_INLINE void move(enum kernel_write write, size_t count, const vector *v, const vector *c, const vector *a,
                        vector *h) {
    vector one = broadcast(1), update[TOGETHER], candidate[TOGETHER];
    if (write != WRITE_ATTENTION)
        exponentials(count, v, -1, GATE_LIMIT, update);
    exponentials(count, c, -2, GATE_LIMIT / 2, candidate);
    UNROLL for (size_t i = 0; i < count; i++) {
        vector divisor = add(one, candidate[i]);
        vector change = negative_multiply_add(candidate[i], add(one, h[i]), subtract(one, h[i]));
        if (write != WRITE_ATTENTION)
            divisor = multiply(divisor, add(one, update[i]));
        if (write == WRITE_OR)
            change = multiply(change, multiply_add(a[i], update[i], one));
        if (write == WRITE_ATTENTION || write == WRITE_AND)
            change = multiply(change, a[i]);
        h[i] = add(h[i], divide(change, divisor));
    }
}

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
    lanes_project_column(&cell->gates_column, h, work);
    if (!cell->reset_after) {
        for (size_t i = 0; i < units; i += VECTOR) {
            size_t count = units - i < VECTOR ? units - i : VECTOR;
            vector z = add(load_some(input + i, count), load_some(work + i, count)), old = load_some(h + i, count);
            reset(1, &z, &old, &old);
            store_some(reset_h + i, count, old);
        }
        lanes_project_column(&cell->candidate_column, reset_h, work + 2 * units);
    }
    for (size_t i = 0; i < units; i += VECTOR)
        extract_some(cell, input + i, work + i, h + i, units - i < VECTOR ? units - i : VECTOR, next + i);
}

/* A form of the cell, constant where it is compiled. */
struct form {
    enum kernel_write write;
    bool reset_after;
    bool scaled; /* the input is a * input + bias */
};

/* One step of the evolution of one block: its inputs (kernels.h), and what was computed of it. */
struct step {
    size_t units;
    const float *input, *bias;      /* [3 * units] */
    const float *attention;         /* [LANES] */
    const float *gates, *candidate; /* [units, LANES] of each gate: the recurrent products */
    float *h, *reset_h;             /* [units, LANES] */
};

/* The input of vector i of gate 0, 1 or 2. */
ALWAYS_INLINE vector input_of(struct form form, const struct step *step, size_t gate, size_t i) {
    size_t row = gate * step->units + i / LANE_VECTORS;
    vector input = broadcast(step->input[row]);
    if (!form.scaled)
        return input;
    return multiply_add(load(step->attention + i % LANE_VECTORS * VECTOR), input, broadcast(step->bias[row]));
}

/* The argument of gate 0 or 1. */
ALWAYS_INLINE vector gate_of(struct form form, const struct step *step, size_t gate, size_t i) {
    return add(input_of(form, step, gate, i), load(step->gates + gate * step->units * LANES + i * VECTOR));
}

ALWAYS_INLINE void reset_some(struct form form, const struct step *step, size_t first, size_t count) {
    vector z[TOGETHER], h[TOGETHER];
    UNROLL for (size_t i = 0; i < count; i++) {
        z[i] = gate_of(form, step, 0, first + i);
        h[i] = load(step->h + (first + i) * VECTOR);
    }
    reset(count, z, h, h);
    UNROLL for (size_t i = 0; i < count; i++) store(step->reset_h + (first + i) * VECTOR, h[i]);
}

ALWAYS_INLINE void move_some(struct form form, const struct step *step, size_t first, size_t count) {
    vector v[TOGETHER], c[TOGETHER], a[TOGETHER], h[TOGETHER];
    UNROLL for (size_t i = 0; i < count; i++) c[i] = load(step->candidate + (first + i) * VECTOR);
    if (form.reset_after) {
        UNROLL for (size_t i = 0; i < count; i++) v[i] = gate_of(form, step, 0, first + i);
        reset(count, v, c, c);
    }
    UNROLL for (size_t i = 0; i < count; i++) {
        v[i] = gate_of(form, step, 1, first + i);
        c[i] = add(input_of(form, step, 2, first + i), c[i]);
        a[i] = load(step->attention + (first + i) % LANE_VECTORS * VECTOR);
        h[i] = load(step->h + (first + i) * VECTOR);
    }
    move(form.write, count, v, c, a, h);
    UNROLL for (size_t i = 0; i < count; i++) store(step->h + (first + i) * VECTOR, h[i]);
}

ALWAYS_INLINE void reset_block(struct form form, const struct step *step) {
    size_t i = 0, vectors = step->units * LANE_VECTORS;
    for (; i + TOGETHER <= vectors; i += TOGETHER)
        reset_some(form, step, i, TOGETHER);
    for (; i < vectors; i++)
        reset_some(form, step, i, 1);
}

ALWAYS_INLINE void move_block(struct form form, const struct step *step) {
    size_t i = 0, vectors = step->units * LANE_VECTORS;
    for (; i + TOGETHER <= vectors; i += TOGETHER)
        move_some(form, step, i, TOGETHER);
    for (; i < vectors; i++)
        move_some(form, step, i, 1);
}

/* What lanes_evolve is called with, and the two kinds of work. */
struct evolution {
    const struct cell *cell;
    const float *inputs, *bias;
    size_t blocks;
    float *const *attention;
    float *h, *gates, *candidate, *reset_h;
};

/* Block j of step i. */
ALWAYS_INLINE struct step step_of(struct form form, const struct evolution *e, size_t i, size_t j) {
    size_t units = e->cell->units, size = units * LANES;
    const float *gates = e->gates + j * e->cell->gates.units * LANES;
    return (struct step){.units = units,
                         .input = e->inputs + i * 3 * units,
                         .bias = e->bias,
                         .attention = e->attention[j] + i * LANES,
                         .gates = gates,
                         .candidate = form.reset_after ? gates + 2 * size : e->candidate + j * size,
                         .h = e->h + j * size,
                         .reset_h = e->reset_h + j * size};
}

/* Written once, compiled for each form. */
ALWAYS_INLINE void evolve_steps(struct form form, const struct evolution *e, size_t steps) {
    for (size_t i = 0; i < steps; i++) {
        lanes_project(&e->cell->gates, e->blocks, e->h, e->gates);
        if (!form.reset_after) {
            for (size_t j = 0; j < e->blocks; j++) {
                struct step step = step_of(form, e, i, j);
                reset_block(form, &step);
            }
            lanes_project(&e->cell->candidate, e->blocks, e->reset_h, e->candidate);
        }
        for (size_t j = 0; j < e->blocks; j++) {
            struct step step = step_of(form, e, i, j);
            move_block(form, &step);
        }
    }
}

ALWAYS_INLINE void evolve_written(enum kernel_write write, const struct evolution *e, size_t steps) {
    if (e->bias != NULL && e->cell->reset_after)
        evolve_steps((struct form){write, true, true}, e, steps);
    else if (e->bias != NULL)
        evolve_steps((struct form){write, false, true}, e, steps);
    else if (e->cell->reset_after)
        evolve_steps((struct form){write, true, false}, e, steps);
    else
        evolve_steps((struct form){write, false, false}, e, steps);
}

static void lanes_evolve(const struct kernels *kernels, const struct cell *cell, enum kernel_write write, size_t steps,
                         const float *inputs, const float *bias, size_t blocks, float *const *attention, float *h,
                         float *work) {
    (void)kernels;
    size_t size = blocks * cell->units * LANES;
    struct evolution e = {cell, inputs, bias, blocks, attention, h, work, work + 2 * size, work + 3 * size};
    switch (write) {
    case WRITE_UPDATE:
        evolve_written(WRITE_UPDATE, &e, steps);
        break;
    case WRITE_ATTENTION:
        evolve_written(WRITE_ATTENTION, &e, steps);
        break;
    case WRITE_AND:
        evolve_written(WRITE_AND, &e, steps);
        break;
    case WRITE_OR:
        evolve_written(WRITE_OR, &e, steps);
        break;
    }
}

/* ---- attention ---- */

static void lanes_attend(const struct kernels *kernels, const struct projection *product, size_t steps,
                         const float *query, const float *query_part, const float *keys, const float *key_parts,
                         float *y, float *work) {
    (void)kernels;
    size_t units = product->units, inputs = product->inputs;
    for (size_t step = 0; step < steps; step++)
        for (size_t i = 0; i < inputs * LANE_VECTORS; i++)
            store(work + step * inputs * LANES + i * VECTOR,
                  multiply(load(query + i * VECTOR), broadcast(keys[step * inputs + i / LANE_VECTORS])));
    lanes_project(product, steps, work, y);
    for (size_t step = 0; step < steps; step++)
        for (size_t i = 0; i < units * LANE_VECTORS; i++) {
            float *at = y + step * units * LANES + i * VECTOR;
            vector part = load(query_part + i * VECTOR);
            store(at, add(load(at), add(part, broadcast(key_parts[step * units + i / LANE_VECTORS]))));
        }
}

/* The largest score is taken off first, so that no exponential overflows. */
static void lanes_softmax(size_t steps, float scale, float *scores) {
    for (size_t lane = 0; lane < LANES; lane += VECTOR) {
        float *at = scores + lane;
        vector most = multiply(load(at), broadcast(scale)), sum = broadcast(0);
        for (size_t step = 0; step < steps; step++) {
            vector scaled = multiply(load(at + step * LANES), broadcast(scale));
            store(at + step * LANES, scaled);
            most = larger(most, scaled);
        }
        for (size_t step = 0; step < steps; step++) {
            vector e = larger(broadcast(-87), subtract(load(at + step * LANES), most));
            powers(1, &e, LOG2_E, &e);
            store(at + step * LANES, e);
            sum = add(sum, e);
        }
        vector share = divide(broadcast(1), sum);
        for (size_t step = 0; step < steps; step++)
            store(at + step * LANES, multiply(load(at + step * LANES), share));
    }
}

/* Rows eight at a time: their products with the query are independent sums. */
static void lanes_dot(const struct kernels *kernels, size_t inputs, const float *query, size_t steps, const float *rows,
                      float *scores) {
    (void)kernels;
    enum { ROWS = 8 };
    for (size_t step = 0; step < steps; step += ROWS) {
        const float *row[ROWS];
        vector sum[ROWS][LANE_VECTORS];
        UNROLL for (size_t i = 0; i < ROWS; i++) {
            row[i] = rows + (step + i < steps ? step + i : steps - 1) * inputs;
            UNROLL for (size_t j = 0; j < LANE_VECTORS; j++) sum[i][j] = broadcast(0);
        }
        for (size_t input = 0; input < inputs; input++)
            UNROLL for (size_t j = 0; j < LANE_VECTORS; j++) {
                vector in = load(query + input * LANES + j * VECTOR);
                UNROLL for (size_t i = 0; i < ROWS; i++) sum[i][j] =
                    multiply_add(broadcast(row[i][input]), in, sum[i][j]);
            }
        UNROLL for (size_t i = 0; i < ROWS; i++) if (step + i < steps) UNROLL for (size_t j = 0; j < LANE_VECTORS; j++)
            store(scores + (step + i) * LANES + j * VECTOR, sum[i][j]);
    }
}

static void lanes_pool(size_t steps, size_t units, const float *states, const float *attention, float *pooled) {
    memset(pooled, 0, units * LANES * sizeof *pooled);
    for (size_t step = 0; step < steps; step++)
        for (size_t unit = 0; unit < units; unit++)
            for (size_t lane = 0; lane < LANES; lane += VECTOR) {
                float *at = pooled + unit * LANES + lane;
                vector a = load(attention + step * LANES + lane);
                store(at, multiply_add(a, broadcast(states[step * units + unit]), load(at)));
            }
}

#endif
