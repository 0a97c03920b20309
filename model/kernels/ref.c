/* ref.c: the meaning of every kernel, in plain C. Other tables override its entries; this one stays complete.
 *
 * Sums run over the inputs in order, column by column. The compiler may compute columns side by side, because that
 * changes no bit of any of them.
 */
#include "model/kernels/ref.h"

#include <math.h>
#include <string.h>

static float sigmoid(float x) {
    return 1.0F / (1.0F + expf(-x));
}

void ref_linear(const struct projection *projection, size_t blocks, const float *x, float *y) {
    size_t units = projection->units, inputs = projection->inputs;
    for (size_t block = 0; block < blocks; block++, x += inputs * LANES)
        for (size_t unit = 0; unit < units; unit++, y += LANES) {
            const float *weight = projection->weight + unit * inputs;
            for (size_t lane = 0; lane < LANES; lane++)
                y[lane] = projection->bias[unit];
            for (size_t input = 0; input < inputs; input++)
                for (size_t lane = 0; lane < LANES; lane++)
                    y[lane] += weight[input] * x[input * LANES + lane];
        }
}

void ref_linear_narrow(const struct kernels *kernels, const struct projection *projection, size_t columns,
                       const float *x, float *y) {
    kernels->linear(projection, (columns + LANES - 1) / LANES, x, y);
}

void ref_gemv(const struct column_projection *projection, const float *x, float *y) {
    memcpy(y, projection->bias, projection->units * sizeof *y);
    for (size_t input = 0; input < projection->inputs; input++) {
        const float *weight = projection->weight + input * projection_transposed_units(projection->units);
        for (size_t unit = 0; unit < projection->units; unit++)
            y[unit] += weight[unit] * x[input];
    }
}

void ref_gemv_rows(const struct column_projection *projection, size_t rows, const float *x, float *y) {
    for (size_t row = 0; row < rows; row++)
        ref_gemv(projection, x + row * projection->inputs, y + row * projection->units);
}

/* A mixture of x, with weight p, and of alpha x. */
static float dice(float x, float alpha, float p) {
    return x * (p + alpha * (1.0F - p));
}

static void activate_unit(const struct activation_parameters *parameters, size_t unit, float *x) {
    for (size_t i = 0; i < LANES; i++)
        switch (parameters->kind) {
        case KERNEL_LINEAR:
        case KERNEL_DICE_ROW:
            return;
        case KERNEL_RELU:
            x[i] = x[i] > 0 ? x[i] : 0;
            break;
        case KERNEL_SIGMOID:
            x[i] = sigmoid(x[i]);
            break;
        case KERNEL_TANH:
            x[i] = tanhf(x[i]);
            break;
        case KERNEL_SILU:
            x[i] *= sigmoid(x[i]);
            break;
        case KERNEL_PRELU:
            x[i] = x[i] > 0 ? x[i] : parameters->alpha[unit] * x[i];
            break;
        case KERNEL_DICE:
            x[i] =
                dice(x[i], parameters->alpha[unit], sigmoid(parameters->gain[unit] * x[i] + parameters->offset[unit]));
            break;
        }
}

/* p = sigmoid(c / sqrt(sum of (c^2 + epsilon))), c = x - mean, both over the units of a column. */
static void activate_rows(const struct activation_parameters *parameters, size_t units, float *x) {
    for (size_t i = 0; i < LANES; i++) {
        float mean = 0, sum = 0;
        for (size_t unit = 0; unit < units; unit++)
            mean += x[unit * LANES + i];
        mean /= (float)units;
        for (size_t unit = 0; unit < units; unit++) {
            float centred = x[unit * LANES + i] - mean;
            sum += centred * centred + parameters->epsilon;
        }
        float gain = 1.0F / sqrtf(sum);
        for (size_t unit = 0; unit < units; unit++) {
            float value = x[unit * LANES + i];
            x[unit * LANES + i] = dice(value, parameters->alpha[unit], sigmoid(gain * (value - mean)));
        }
    }
}

void ref_activate(const struct activation_parameters *parameters, size_t units, size_t blocks, float *x) {
    for (size_t block = 0; block < blocks; block++, x += units * LANES) {
        if (parameters->kind == KERNEL_DICE_ROW)
            activate_rows(parameters, units, x);
        for (size_t unit = 0; unit < units; unit++)
            activate_unit(parameters, unit, x + unit * LANES);
    }
}

void ref_extract(const struct kernels *kernels, const struct cell *cell, const float *input, const float *h,
                 float *next, float *work) {
    size_t units = cell->units;
    float *recurrent = work, *reset_h = work + 3 * units;
    kernels->gemv(&cell->gates_column, h, recurrent);
    if (!cell->reset_after) {
        for (size_t i = 0; i < units; i++)
            reset_h[i] = sigmoid(input[i] + recurrent[i]) * h[i];
        kernels->gemv(&cell->candidate_column, reset_h, recurrent + 2 * units);
    }
    for (size_t i = 0; i < units; i++) {
        float reset = cell->reset_after ? sigmoid(input[i] + recurrent[i]) : 1.0F;
        float write = sigmoid(input[units + i] + recurrent[units + i]);
        float candidate = tanhf(input[2 * units + i] + reset * recurrent[2 * units + i]);
        next[i] = h[i] + write * (candidate - h[i]);
    }
}

void ref_attend(const struct kernels *kernels, const struct attention_steps *attention, float *y, float *work) {
    size_t units = attention->product->units, inputs = attention->product->inputs;
    for (size_t i = 0; i < attention->steps * inputs; i++)
        for (size_t lane = 0; lane < LANES; lane++)
            work[i * LANES + lane] = attention->query[i % inputs * LANES + lane] * attention->keys[i];
    kernels->linear(attention->product, attention->steps, work, y);
    for (size_t i = 0; i < attention->steps * units; i++)
        for (size_t lane = 0; lane < LANES; lane++) {
            float scale = attention->scale != NULL ? attention->scale[lane] : 1;
            float parts = attention->query_part[i % units * LANES + lane] + attention->key_parts[i];
            y[i * LANES + lane] = y[i * LANES + lane] * scale + parts;
        }
}

/* The rows of the pair in a lane. Padding repeats the last pair. */
static void pair_rows(const struct pairs *pairs, size_t lane, const float **key, const float **query) {
    size_t pair = pairs->first + lane < pairs->end ? pairs->first + lane : pairs->end - 1;
    *key = pairs->keys + pair / pairs->candidates * pairs->width;
    *query = pairs->queries + pair % pairs->candidates * pairs->width;
}

void ref_multiply_pairs(const struct pairs *pairs, float *x) {
    const float *key, *query;
    for (size_t lane = 0; lane < LANES; lane++) {
        pair_rows(pairs, lane, &key, &query);
        for (size_t i = 0; i < pairs->width; i++)
            x[i * LANES + lane] = query[i] * key[i];
    }
}

void ref_add_pairs(const struct pairs *pairs, float *y) {
    const float *key, *query;
    for (size_t lane = 0; lane < LANES; lane++) {
        pair_rows(pairs, lane, &key, &query);
        float scale = pairs->scale != NULL ? pairs->scale[(size_t)(query - pairs->queries) / pairs->width] : 1;
        for (size_t i = 0; i < pairs->width; i++)
            y[i * LANES + lane] = y[i * LANES + lane] * scale + (query[i] + key[i]);
    }
}

void ref_dot(const struct kernels *kernels, size_t inputs, const float *query, size_t steps, const float *rows,
             float *scores) {
    static const float zero[STEPS];
    for (size_t first = 0; first < steps; first += STEPS) {
        size_t count = steps - first < STEPS ? steps - first : STEPS;
        struct projection group = {.units = count, .inputs = inputs, .weight = rows + first * inputs, .bias = zero};
        kernels->linear(&group, 1, query, scores + first * LANES);
    }
}

/* The largest score is subtracted first, so that no exponential overflows. */
void ref_softmax(size_t steps, float scale, float *scores) {
    for (size_t lane = 0; lane < LANES; lane++) {
        float largest = -INFINITY, sum = 0;
        for (size_t step = 0; step < steps; step++) {
            scores[step * LANES + lane] *= scale;
            largest = fmaxf(largest, scores[step * LANES + lane]);
        }
        for (size_t step = 0; step < steps; step++) {
            scores[step * LANES + lane] = expf(scores[step * LANES + lane] - largest);
            sum += scores[step * LANES + lane];
        }
        for (size_t step = 0; step < steps; step++)
            scores[step * LANES + lane] /= sum;
    }
}

/* Input i of a step: an element of W x + b, or of W (a x) + b. */
static float cell_input(const float *input, const float *bias, size_t i, float a) {
    return bias != NULL ? a * input[i] + bias[i] : input[i];
}

static float write_gate(enum kernel_write write, float update, float a) {
    switch (write) {
    case WRITE_UPDATE:
        break;
    case WRITE_ATTENTION:
        return a;
    case WRITE_AND:
        return a * update;
    case WRITE_OR:
        return update + a - a * update;
    case WRITE_KEEP:
        return 1 - a * (1 - update);
    }
    return update;
}

static void evolve_block(const struct kernels *kernels, const struct evolution_steps *evolution, const float *attention,
                         float *h, float *work) {
    const struct cell *cell = evolution->cell;
    const float *bias = evolution->bias;
    size_t units = cell->units, size = units * LANES;
    float *recurrent = work, *reset_h = work + 3 * size;
    for (size_t step = 0; step < evolution->steps; step++) {
        const float *input = evolution->inputs + step * 3 * units, *a = attention + step * LANES;
        kernels->linear(&cell->gates, 1, h, recurrent);
        if (!cell->reset_after) {
            for (size_t i = 0; i < size; i++)
                reset_h[i] = sigmoid(cell_input(input, bias, i / LANES, a[i % LANES]) + recurrent[i]) * h[i];
            kernels->linear(&cell->candidate, 1, reset_h, recurrent + 2 * size);
        }
        for (size_t i = 0; i < size; i++) {
            size_t unit = i / LANES, lane = i % LANES;
            float reset_input = cell_input(input, bias, unit, a[lane]);
            float update_input = cell_input(input, bias, units + unit, a[lane]);
            float candidate_input = cell_input(input, bias, 2 * units + unit, a[lane]);
            float reset = cell->reset_after ? sigmoid(reset_input + recurrent[i]) : 1.0F;
            float update = sigmoid(update_input + recurrent[size + i]);
            float candidate = tanhf(candidate_input + reset * recurrent[2 * size + i]);
            h[i] += write_gate(evolution->write, update, a[lane]) * (candidate - h[i]);
        }
    }
}

void ref_evolve(const struct kernels *kernels, const struct evolution_steps *evolution, float *h, float *work) {
    for (size_t block = 0; block * LANES < evolution->candidates; block++)
        evolve_block(kernels, evolution, evolution->attention[block], h + block * evolution->cell->units * LANES, work);
}

void ref_pool(size_t steps, size_t units, const float *states, const float *attention, float *pooled) {
    memset(pooled, 0, units * LANES * sizeof *pooled);
    for (size_t step = 0; step < steps; step++)
        for (size_t unit = 0; unit < units; unit++)
            for (size_t lane = 0; lane < LANES; lane++)
                pooled[unit * LANES + lane] += attention[step * LANES + lane] * states[step * units + unit];
}

const struct kernels kernels_ref = {
    .name = "ref",
    .linear = ref_linear,
    .linear_narrow = ref_linear_narrow,
    .gemv = ref_gemv,
    .gemv_rows = ref_gemv_rows,
    .activate = ref_activate,
    .extract = ref_extract,
    .attend = ref_attend,
    .finish = finish_by_layers,
    .multiply_pairs = ref_multiply_pairs,
    .add_pairs = ref_add_pairs,
    .dot = ref_dot,
    .softmax = ref_softmax,
    .evolve = ref_evolve,
    .pool = ref_pool,
};
