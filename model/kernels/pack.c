/* pack.c: weights in the order in which the kernels read them.
 */
#include "model/kernels/kernels.h"

#include <math.h>

bool projection_can_cross(const struct projection *projection) {
    float largest = 0;
    for (size_t i = 0; i < projection->units * projection->inputs; i++)
        largest = fmaxf(largest, fabsf(projection->weight[i]));
    return largest >= 1.0F / 16 && largest <= 4;
}

void projection_cross(const struct projection *projection, float *crossed) {
    for (size_t unit = 0; unit < projection->units; unit++) {
        const float *weight = projection->weight + unit * projection->inputs;
        double bias = projection->bias[unit];
        for (size_t i = 0; i + 3 <= projection->inputs; i += 3)
            bias -= (double)weight[i] * weight[i + 1];
        crossed[unit] = (float)bias;
    }
}

size_t projection_packed_floats(size_t units, size_t inputs) {
    return (units + GROUP - 1) / GROUP * GROUP * (inputs + 1);
}

void projection_pack(const struct projection *projection, float *packed) {
    size_t units = projection->units, inputs = projection->inputs;
    const float *bias = projection->crossed != NULL ? projection->crossed : projection->bias;
    for (size_t first = 0; first < units; first += GROUP)
        for (size_t i = 0; i <= inputs; i++)
            for (size_t unit = first; unit < first + GROUP; unit++, packed++)
                if (unit >= units)
                    *packed = 0;
                else
                    *packed = i == 0 ? bias[unit] : projection->weight[unit * inputs + i - 1];
}

void projection_transpose(const struct projection *projection, float *transposed) {
    size_t units = projection->units, inputs = projection->inputs, stride = projection_transposed_units(units);
    for (size_t i = 0; i <= inputs; i++)
        for (size_t unit = 0; unit < stride; unit++, transposed++)
            if (unit >= units)
                *transposed = 0;
            else
                *transposed = i == 0 ? projection->bias[unit] : projection->weight[unit * inputs + i - 1];
}
