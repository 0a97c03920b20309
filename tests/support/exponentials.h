/* exponentials.h: what is built of the vectorised exponential, value by value through the table of kernels, what it is
 * in double, and how far the two may be apart.
 */
#ifndef TESTS_SUPPORT_EXPONENTIALS_H
#define TESTS_SUPPORT_EXPONENTIALS_H

#include "model/kernels/kernels.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum {
    CHUNK = 1024, /* values computed in one call */
    EXPONENTIALS = 7
};
#define CELL_UNITS ((size_t)16) /* of the cell whose gates are computed */

/* With y the function's value in double, what the kernels give is within
 *
 *   bound, times max(1, |x|) for a function that grows like x,    of y for every x, and within
 *   (proportion + EXPONENT_SLOPE |x|) |y|                         for x >= `from`: below, e^x is cut.
 *
 * It is never outside of `least` to `most`. Infinities give the limit; what is not a number gives that. From one float
 * to a larger one a monotone function falls by at most `fall`. tests/bench/exponentials.c measures all of them, over
 * all floats; lanes_functions.h, lanes_gates.h and kernels.h say what they are. */
struct exponential {
    const char *name;
    void (*compute)(const struct kernels *kernels, const float *x, double *y); /* CHUNK of them */
    double (*exact)(double x, size_t i);                                       /* of element i of a chunk */
    bool grows, monotone;
    double bound, proportion, from, least, most, fall;
};

/* log2 e in float32 is off by 1.34e-8 of itself, and e^x by |x| times that. */
#define EXPONENT_SLOPE 1.4e-8

/* ---- through the kernels ---- */

static inline void exponential_activate(enum kernel_activation kind, const struct kernels *kernels, const float *x,
                                        double *y) {
    const struct activation_parameters parameters = {.kind = kind};
    _Alignas(64) float values[CHUNK];
    memcpy(values, x, sizeof values);
    kernels->activate(&parameters, CHUNK / LANES, 1, values);
    for (size_t i = 0; i < CHUNK; i++)
        y[i] = (double)values[i];
}

static inline void exponential_sigmoid(const struct kernels *kernels, const float *x, double *y) {
    exponential_activate(KERNEL_SIGMOID, kernels, x, y);
}

static inline void exponential_tanh(const struct kernels *kernels, const float *x, double *y) {
    exponential_activate(KERNEL_TANH, kernels, x, y);
}

static inline void exponential_silu(const struct kernels *kernels, const float *x, double *y) {
    exponential_activate(KERNEL_SILU, kernels, x, y);
}

/* e^x for x <= 0, else 1: what the softmax of (0, x) gives its second score, in proportion to its first. */
static inline void exponential_softmax(const struct kernels *kernels, const float *x, double *y) {
    for (size_t first = 0; first < CHUNK; first += LANES) {
        _Alignas(64) float scores[2 * LANES] = {0};
        for (size_t i = 0; i < LANES; i++)
            scores[LANES + i] = x[first + i] > 0 ? 0 : x[first + i];
        kernels->softmax(2, 1, scores);
        for (size_t i = 0; i < LANES; i++)
            y[first + i] = (double)scores[LANES + i] / (double)scores[i];
    }
}

static const float exponential_states[] = {0, 1, -1, 0.5F};

static inline float exponential_state(size_t i) {
    return exponential_states[i % (sizeof exponential_states / sizeof *exponential_states)];
}

/* A step of a cell whose recurrent products are zero, bh in all of them: x is the argument of one gate, and the others
 * have these. */
static inline void exponential_step(const struct kernels *kernels, size_t gate, const float *others, float bh,
                                    const float *x, double *y) {
    static const float zero[3 * CELL_UNITS * CELL_UNITS];
    float bias[3 * CELL_UNITS] = {0}, input[3 * CELL_UNITS], h[CELL_UNITS], work[4 * CELL_UNITS];
    struct cell cell = {.units = CELL_UNITS, .reset_after = true};
    cell.gates_column = (struct column_projection){3 * CELL_UNITS, CELL_UNITS, zero, bias, NULL};
    for (size_t i = 0; i < CELL_UNITS; i++)
        bias[2 * CELL_UNITS + i] = bh;
    for (size_t first = 0; first < CHUNK; first += CELL_UNITS) {
        for (size_t i = 0; i < 3 * CELL_UNITS; i++)
            input[i] = i / CELL_UNITS == gate ? x[first + i % CELL_UNITS] : others[i / CELL_UNITS];
        for (size_t i = 0; i < CELL_UNITS; i++)
            h[i] = exponential_state(first + i);
        kernels->extract(kernels, &cell, input, h, h, work);
        for (size_t i = 0; i < CELL_UNITS; i++)
            y[first + i] = (double)h[i];
    }
}

static inline void exponential_reset(const struct kernels *kernels, const float *x, double *y) {
    exponential_step(kernels, 0, (const float[]){0, 1, 0}, 1, x, y);
}

static inline void exponential_update(const struct kernels *kernels, const float *x, double *y) {
    exponential_step(kernels, 1, (const float[]){0, 0, 1}, 0, x, y);
}

static inline void exponential_candidate(const struct kernels *kernels, const float *x, double *y) {
    exponential_step(kernels, 2, (const float[]){0, 1, 0}, 0, x, y);
}

/* ---- in double ---- */

static inline double exact_sigmoid(double x, size_t i) {
    (void)i;
    return 1 / (1 + exp(-x));
}

static inline double exact_tanh(double x, size_t i) {
    (void)i;
    return tanh(x);
}

static inline double exact_silu(double x, size_t i) {
    return x * exact_sigmoid(x, i);
}

static inline double exact_softmax(double x, size_t i) {
    (void)i;
    return x > 0 ? 1 : exp(x);
}

static inline double exact_move(double update, double candidate, size_t i) {
    double h = (double)exponential_state(i);
    return h + update * (candidate - h);
}

static inline double exact_reset(double x, size_t i) {
    return exact_move(exact_sigmoid(1, i), tanh(exact_sigmoid(x, i)), i);
}

static inline double exact_update(double x, size_t i) {
    return exact_move(exact_sigmoid(x, i), tanh(1), i);
}

static inline double exact_candidate(double x, size_t i) {
    return exact_move(exact_sigmoid(1, i), tanh(x), i);
}

static const struct exponential exponentials[EXPONENTIALS] = {
    {"sigmoid", exponential_sigmoid, exact_sigmoid, false, true, 1.2e-7, 2.5e-7, -87, 0, 1, 1.2e-7},
    {"tanh", exponential_tanh, exact_tanh, false, true, 1.8e-7, INFINITY, INFINITY, -1, 1, 2.4e-7},
    {"silu", exponential_silu, exact_silu, true, false, 1.8e-7, INFINITY, INFINITY, -INFINITY, INFINITY, INFINITY},
    {"softmax", exponential_softmax, exact_softmax, false, true, 1.8e-7, 2.5e-7, -87, 0, 1, 1.2e-7},
    {"reset gate", exponential_reset, exact_reset, false, false, 3.6e-7, INFINITY, INFINITY, -1, 1, INFINITY},
    {"update gate", exponential_update, exact_update, false, false, 3.6e-7, INFINITY, INFINITY, -1, 1, INFINITY},
    {"candidate", exponential_candidate, exact_candidate, false, false, 3.6e-7, INFINITY, INFINITY, -1, 1, INFINITY},
};

#endif
