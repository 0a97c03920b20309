/* lanes_gates.h: the gates of a recurrent cell, vector by vector, once their products are there (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_GATES_H
#define MODEL_KERNELS_LANES_GATES_H

#include "model/kernels/lanes_functions.h"

/* Beyond this a gate is closed or open to float32, and the product of two divisors stays finite. */
#define GATE_LIMIT 30.0F

/* h / (1 + e^-z): the state behind its reset gate; or the candidate's recurrent part behind it. */
ALWAYS_INLINE void reset(size_t count, const vector *z, const vector *h, vector *y) {
    vector e[TOGETHER];
    exponentials(count, z, -1, GATE_LIMIT, e);
    UNROLL for (size_t i = 0; i < count; i++) y[i] = divide(h[i], add(broadcast(1), e[i]));
}

/* h + w (c - h) of some units, within 3.6e-7 of its value for states within 1, rounded gates and all. With V = e^-v and
 * C = e^-2c of the gates' arguments the update gate is 1 / (1 + V) and the candidate (1 - C) / (1 + C), so that both
 * share one division: c - h = ((1 - h) - C (1 + h)) / (1 + C). */
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

/* A form of the cell, constant where it is compiled. */
struct form {
    enum kernel_write write;
    bool reset_after;
};

/* One step of the evolution of one block: its inputs (kernels.h), and what was computed of it. */
struct step {
    size_t units;
    const float *input, *bias;      /* [3 * units]; bias: the input is a * input + bias */
    const float *attention;         /* [LANES] */
    const float *gates, *candidate; /* [units, LANES] of each gate: the recurrent products */
    const float *h;                 /* [units, LANES] */
    float *reset_h, *next;          /* [units, LANES]; next may be h where no product reads h any more */
};

/* The input of vector i of gate 0, 1 or 2. */
ALWAYS_INLINE vector input_of(const struct step *step, size_t gate, size_t i) {
    size_t row = gate * step->units + i / LANE_VECTORS;
    vector input = broadcast(step->input[row]);
    if (step->bias == NULL)
        return input;
    return multiply_add(load(step->attention + i % LANE_VECTORS * VECTOR), input, broadcast(step->bias[row]));
}

/* The argument of gate 0 or 1. */
ALWAYS_INLINE vector gate_of(const struct step *step, size_t gate, size_t i) {
    return add(input_of(step, gate, i), load(step->gates + gate * step->units * LANES + i * VECTOR));
}

#endif
