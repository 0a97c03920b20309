/* words.c: weights as 16-bit integers, in the order in which the kernels read them.
 */
#include "model/kernels/kernels.h"

#include <math.h>
#include <string.h>

static size_t rounded(size_t count, size_t multiple) {
    return (count + multiple - 1) / multiple * multiple;
}

size_t words_packed_count(size_t units, size_t inputs) {
    return rounded(units, GROUP) * rounded(inputs, 2) / 2;
}

/* What a unit's weights are divided by. Two limits: a weight fits 16 bits, and no sum of products with WORDS_ONE or
 * less reaches 2^31, rounding (half a step for each weight) included. */
static float step_of(const float *weight, size_t inputs) {
    double largest = 0, sum = 0;
    for (size_t i = 0; i < inputs; i++) {
        largest = fmax(largest, fabs((double)weight[i]));
        sum += fabs((double)weight[i]);
    }
    double room = 0x1p31 / WORDS_ONE - 1 - (double)inputs;
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

bool words_pack(const struct projection *projection, int32_t *packed, float *step) {
    size_t units = projection->units, inputs = projection->inputs;
    if (!all_finite(projection->weight, units * inputs))
        return false;
    memset(step, 0, rounded(units, GROUP) * sizeof *step);
    for (size_t unit = 0; unit < units; unit++)
        step[unit] = step_of(projection->weight + unit * inputs, inputs);
    for (size_t first = 0; first < units; first += GROUP)
        for (size_t input = 0; input < inputs; input += 2)
            for (size_t unit = first; unit < first + GROUP; unit++, packed++)
                *packed = integer_of(projection, unit, input + 1, step[unit]) * (1 << 16) +
                          (uint16_t)integer_of(projection, unit, input, step[unit]);
    for (size_t unit = 0; unit < units; unit++)
        step[unit] /= WORDS_ONE;
    return true;
}

void words_pack_column(const struct projection *projection, int32_t *column) {
    size_t units = projection->units, pairs = (projection->inputs + 1) / 2;
    for (size_t pair = 0; pair < pairs; pair++)
        for (size_t unit = 0; unit < units; unit++)
            column[pair * units + unit] =
                projection->words.packed[(unit / GROUP * pairs + pair) * GROUP + unit % GROUP];
}
