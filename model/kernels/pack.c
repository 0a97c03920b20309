/* pack.c: float32 weights in the order in which the kernels read them: panels and transposes.
 */
#include "model/kernels/kernels.h"

#include <math.h>

bool projection_suits_winograd(const struct projection *projection) {
    float largest = 0;
    for (size_t i = 0; i < projection->units * projection->inputs; i++)
        largest = fmaxf(largest, fabsf(projection->weight[i]));
    return largest >= 1.0F / 16 && largest <= 4;
}

void projection_winograd(const struct projection *projection, float *winograd) {
    for (size_t unit = 0; unit < projection->units; unit++) {
        const float *weight = projection->weight + unit * projection->inputs;
        double bias = projection->bias[unit];
        for (size_t i = 0; i + 3 <= projection->inputs; i += 3)
            bias -= (double)weight[i] * weight[i + 1];
        winograd[unit] = (float)bias;
    }
}

size_t projection_panel_floats(size_t units, size_t inputs) {
    return (units + PANEL_UNITS - 1) / PANEL_UNITS * PANEL_UNITS * (inputs + 1);
}

void projection_pack(const struct projection *projection, float *panels) {
    size_t units = projection->units, inputs = projection->inputs;
    const float *bias = projection->winograd != NULL ? projection->winograd : projection->bias;
    for (size_t first = 0; first < units; first += PANEL_UNITS)
        for (size_t i = 0; i <= inputs; i++)
            for (size_t unit = first; unit < first + PANEL_UNITS; unit++, panels++)
                if (unit >= units)
                    *panels = 0;
                else
                    *panels = i == 0 ? bias[unit] : projection->weight[unit * inputs + i - 1];
}

void matrix_transpose(const float *matrix, size_t rows, size_t columns, size_t stride, float *transposed) {
    for (size_t column = 0; column < columns; column++)
        for (size_t row = 0; row < stride; row++, transposed++)
            *transposed = row < rows ? matrix[row * columns + column] : 0;
}

void projection_transpose(const struct projection *projection, float *transposed) {
    size_t units = projection->units, stride = projection_transposed_units(units);
    matrix_transpose(projection->bias, units, 1, stride, transposed);
    matrix_transpose(projection->weight, units, projection->inputs, stride, transposed + stride);
}
