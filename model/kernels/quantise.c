/* quantise.c: int16 and int8 weights in panels, and the noise that int8 weights add (kernels.h).
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

/* The int16 scale of a unit. It has two limits: each weight fits 16 bits, and no sum of products with inputs up to
 * INT16_ONE reaches 2^31, with the rounding of half a scale for each weight. */
static float int16_scale(const float *weight, size_t inputs) {
    double largest = 0, sum = 0;
    for (size_t i = 0; i < inputs; i++) {
        largest = fmax(largest, fabs((double)weight[i]));
        sum += fabs((double)weight[i]);
    }
    double room = 0x1p31 / INT16_ONE - 1 - (double)inputs;
    double scale = fmax(largest / INT16_MAX, sum / room);
    return (float)(scale * (1 + 0x1p-20)); /* up, so that rounding to float32 keeps both limits */
}

static int16_t int16_of(const struct projection *projection, size_t unit, size_t input, float scale) {
    if (unit >= projection->units || input >= projection->inputs || !(scale > 0))
        return 0;
    return (int16_t)lrint((double)projection->weight[unit * projection->inputs + input] / (double)scale);
}

static bool all_finite(const float *weight, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(weight[i]))
            return false;
    return true;
}

bool int16_pack(const struct projection *projection, int32_t *panels, float *scale) {
    size_t units = projection->units, inputs = projection->inputs;
    if (!all_finite(projection->weight, units * inputs))
        return false;
    memset(scale, 0, rounded(units, PANEL_UNITS) * sizeof *scale);
    for (size_t unit = 0; unit < units; unit++)
        scale[unit] = int16_scale(projection->weight + unit * inputs, inputs);
    for (size_t first = 0; first < units; first += PANEL_UNITS)
        for (size_t input = 0; input < inputs; input += 2)
            for (size_t unit = first; unit < first + PANEL_UNITS; unit++, panels++)
                *panels = int16_of(projection, unit, input + 1, scale[unit]) * (1 << 16) +
                          (uint16_t)int16_of(projection, unit, input, scale[unit]);
    for (size_t unit = 0; unit < units; unit++)
        scale[unit] /= INT16_ONE;
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

static int8_t int8_of(const struct projection *projection, size_t unit, size_t input, float scale) {
    if (unit >= projection->units || input >= projection->inputs || !(scale > 0))
        return 0;
    return (int8_t)lrint((double)projection->weight[unit * projection->inputs + input] / (double)scale);
}

static float int8_scale(const float *weight, size_t inputs) {
    float largest = 0;
    for (size_t i = 0; i < inputs; i++)
        largest = fmaxf(largest, fabsf(weight[i]));
    return largest / INT8_MAX;
}

/* The first summand of a unit's sum. For inputs within 1 it removes the zero point of each input. For sigmoids it
 * corrects the rounding error of the weights, exactly where every sigmoid is 0.5. */
static int32_t start_of(const struct projection *projection, bool sigmoids, size_t unit, float scale) {
    double sum = 0, lost = 0;
    for (size_t i = 0; i < projection->inputs && scale > 0; i++) {
        double weight = (double)projection->weight[unit * projection->inputs + i] / (double)scale;
        sum += int8_of(projection, unit, i, scale);
        lost += weight - int8_of(projection, unit, i, scale);
    }
    return (int32_t)lrint(sigmoids ? lost * INT8_SIGMOID_ONE / 2 : -sum * INT8_OFFSET);
}

void int8_pack(const struct projection *projection, bool sigmoids, int32_t *panels, float *scale, int32_t *start) {
    size_t units = projection->units, inputs = projection->inputs;
    memset(scale, 0, rounded(units, PANEL_UNITS) * sizeof *scale);
    memset(start, 0, rounded(units, PANEL_UNITS) * sizeof *start);
    for (size_t unit = 0; unit < units; unit++) {
        scale[unit] = int8_scale(projection->weight + unit * inputs, inputs);
        start[unit] = start_of(projection, sigmoids, unit, scale[unit]);
    }
    for (size_t first = 0; first < units; first += PANEL_UNITS)
        for (size_t input = 0; input < inputs; input += 4)
            for (size_t unit = first; unit < first + PANEL_UNITS; unit++, panels++) {
                uint32_t word = 0;
                for (size_t i = 0; i < 4; i++)
                    word |= (uint32_t)(uint8_t)int8_of(projection, unit, input + i, scale[unit]) << (8 * i);
                memcpy(panels, &word, sizeof word);
            }
    for (size_t unit = 0; unit < units; unit++)
        scale[unit] /= sigmoids ? (float)INT8_SIGMOID_ONE : (float)INT8_ONE;
}

static double largest_slope(enum kernel_activation kind) {
    return kind == KERNEL_SIGMOID ? 0.25 : 1;
}

double int8_noise(const struct projection *projection, bool sigmoids, enum kernel_activation kind, const float *gain) {
    double sum = 0, input_scale = sigmoids ? 1.0 / INT8_SIGMOID_ONE : 1.0 / INT8_ONE;
    double inputs_square = sigmoids ? 1.0 / 12 : 1.0 / 3; /* of sigmoids around 0.5, where start_of() corrects */
    for (size_t unit = 0; unit < projection->units; unit++) {
        const float *weight = projection->weight + unit * projection->inputs;
        double squares = 0, slope = (double)gain[unit] * largest_slope(kind);
        double scale = (double)int8_scale(weight, projection->inputs);
        for (size_t i = 0; i < projection->inputs; i++)
            squares += (double)weight[i] * (double)weight[i];
        sum += slope * slope *
               (squares * input_scale * input_scale + (double)projection->inputs * scale * scale * inputs_square) / 12;
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
