/* lanes_activation.h: activations (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_ACTIVATION_H
#define MODEL_KERNELS_LANES_ACTIVATION_H

#include "model/kernels/lanes_functions.h"

/* Parameters of some units, each broadcast. */
struct unit_parameters {
    vector alpha[INTERLEAVE], gain[INTERLEAVE], offset[INTERLEAVE];
};

ALWAYS_INLINE void apply(enum kernel_activation kind, size_t count, const struct unit_parameters *unit, vector *x) {
    vector p[INTERLEAVE], zero = broadcast(0);
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
            multiply_add(unit->alpha[i], smaller(zero, x[i]), larger(x[i], zero));
        break;
    case KERNEL_DICE:
        UNROLL for (size_t i = 0; i < count; i++) p[i] = multiply_add(unit->gain[i], x[i], unit->offset[i]);
        sigmoids(count, p, p);
        UNROLL for (size_t i = 0; i < count; i++) x[i] = dice(x[i], unit->alpha[i], p[i]);
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
    vector y[INTERLEAVE];
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
        for (; i + INTERLEAVE <= vectors; i += INTERLEAVE)
            apply_some(kind, parameters, i, INTERLEAVE, x);
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

#endif
