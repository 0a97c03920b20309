/* quantise.c: weights as 16-bit or 8-bit integers, in the order in which the kernels read them.
 */
#include "model/kernels/kernels.h"

#include <math.h>
#include <string.h>

static size_t rounded(size_t count, size_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

size_t int16_panels_count(size_t units, size_t inputs) {
    return rounded(units, PANEL_UNITS) * rounded(inputs, 2) / 2;
}

/* What a unit's weights are divided by. Two limits: a weight fits 16 bits, and no sum of products with INT16_ONE or
 * less reaches 2^31, rounding (half a step for each weight) included. */
static float step_of(const float *weight, size_t inputs) {
    double largest = 0, sum = 0;
    for (size_t i = 0; i < inputs; i++) {
        largest = fmax(largest, fabs((double)weight[i]));
        sum += fabs((double)weight[i]);
    }
    double room = 0x1p31 / INT16_ONE - 1 - (double)inputs;
    double step = fmax(largest / INT16_MAX, sum / room);
    return (float)(step * (1 + 0x1p-20)); /* up, so that float32 does not take the room back */
}

static int16_t integer_of(const struct projection *projection, size_t unit, size_t input, float step) {
    if (unit >= projection->units || input >= projection->inputs || !(step > 0))
        return 0;
    return (int16_t)lrint((double)projection->weight[unit * projection->inputs + input] / (double)step);
}

static bool all_finite(const float *weight, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(weight[i]))
            return false;
    return true;
}

bool int16_pack(const struct projection *projection, int32_t *packed, float *step) {
    size_t units = projection->units, inputs = projection->inputs;
    if (!all_finite(projection->weight, units * inputs))
        return false;
    memset(step, 0, rounded(units, PANEL_UNITS) * sizeof *step);
    for (size_t unit = 0; unit < units; unit++)
        step[unit] = step_of(projection->weight + unit * inputs, inputs);
    for (size_t first = 0; first < units; first += PANEL_UNITS)
        for (size_t input = 0; input < inputs; input += 2)
            for (size_t unit = first; unit < first + PANEL_UNITS; unit++, packed++)
                *packed = integer_of(projection, unit, input + 1, step[unit]) * (1 << 16) +
                          (uint16_t)integer_of(projection, unit, input, step[unit]);
    for (size_t unit = 0; unit < units; unit++)
        step[unit] /= INT16_ONE;
    return true;
}

void int16_pack_columns(const struct projection *projection, int32_t *column) {
    size_t units = projection->units, pairs = (projection->inputs + 1) / 2;
    for (size_t pair = 0; pair < pairs; pair++)
        for (size_t unit = 0; unit < units; unit++)
            column[pair * units + unit] =
                projection->int16.panels[(unit / PANEL_UNITS * pairs + pair) * PANEL_UNITS + unit % PANEL_UNITS];
}

size_t int8_panels_count(size_t units, size_t inputs) {
    return rounded(units, PANEL_UNITS) * rounded(inputs, 4) / 4;
}

static int8_t byte_of(const struct projection *projection, size_t unit, size_t input, float step) {
    if (unit >= projection->units || input >= projection->inputs || !(step > 0))
        return 0;
    return (int8_t)lrint((double)projection->weight[unit * projection->inputs + input] / (double)step);
}

static float byte_step_of(const float *weight, size_t inputs) {
    float largest = 0;
    for (size_t i = 0; i < inputs; i++)
        largest = fmaxf(largest, fabsf(weight[i]));
    return largest / INT8_MAX;
}

/* What a unit's sum starts from. Of x within 1, what takes off the 128 of each; of sigmoids, what the rounding of the
 * weights takes from the sum when every sigmoid is a half. */
static int32_t start_of(const struct projection *projection, bool sigmoids, size_t unit, float step) {
    double sum = 0, lost = 0;
    for (size_t i = 0; i < projection->inputs && step > 0; i++) {
        double weight = (double)projection->weight[unit * projection->inputs + i] / (double)step;
        sum += byte_of(projection, unit, i, step);
        lost += weight - byte_of(projection, unit, i, step);
    }
    return (int32_t)lrint(sigmoids ? lost * INT8_SIGMOID_ONE / 2 : -sum * INT8_OFFSET);
}

void int8_pack(const struct projection *projection, bool sigmoids, int32_t *packed, float *step, int32_t *start) {
    size_t units = projection->units, inputs = projection->inputs;
    memset(step, 0, rounded(units, PANEL_UNITS) * sizeof *step);
    memset(start, 0, rounded(units, PANEL_UNITS) * sizeof *start);
    for (size_t unit = 0; unit < units; unit++) {
        step[unit] = byte_step_of(projection->weight + unit * inputs, inputs);
        start[unit] = start_of(projection, sigmoids, unit, step[unit]);
    }
    for (size_t first = 0; first < units; first += PANEL_UNITS)
        for (size_t input = 0; input < inputs; input += 4)
            for (size_t unit = first; unit < first + PANEL_UNITS; unit++, packed++) {
                uint32_t word = 0;
                for (size_t i = 0; i < 4; i++)
                    word |= (uint32_t)(uint8_t)byte_of(projection, unit, input + i, step[unit]) << (8 * i);
                memcpy(packed, &word, sizeof word);
            }
    for (size_t unit = 0; unit < units; unit++)
        step[unit] /= sigmoids ? (float)INT8_SIGMOID_ONE : (float)INT8_ONE;
}

static double largest_slope(enum kernel_activation kind) {
    return kind == KERNEL_SIGMOID ? 0.25 : 1;
}

double int8_noise(const struct projection *projection, bool sigmoids, enum kernel_activation kind, const float *gain) {
    double sum = 0, input_step = sigmoids ? 1.0 / INT8_SIGMOID_ONE : 1.0 / INT8_ONE;
    double inputs_square = sigmoids ? 1.0 / 12 : 1.0 / 3; /* of sigmoids, around the half that start_of() sees to */
    for (size_t unit = 0; unit < projection->units; unit++) {
        const float *weight = projection->weight + unit * projection->inputs;
        double squares = 0, slope = (double)gain[unit] * largest_slope(kind);
        double step = (double)byte_step_of(weight, projection->inputs);
        for (size_t i = 0; i < projection->inputs; i++)
            squares += (double)weight[i] * (double)weight[i];
        sum += slope * slope *
               (squares * input_step * input_step + (double)projection->inputs * step * step * inputs_square) / 12;
    }
    return sqrt(sum);
}

void int8_slopes(const struct projection *projection, enum kernel_activation kind, const float *gain, float *slopes) {
    for (size_t i = 0; i < projection->inputs; i++) {
        double sum = 0;
        for (size_t unit = 0; unit < projection->units; unit++)
            sum += (double)gain[unit] * (double)projection->weight[unit * projection->inputs + i];
        slopes[i] = (float)(sum * largest_slope(kind));
    }
}
