/* layers.c: the attention network layer by layer, with the products and activations of any table.
 */
#include "model/kernels/kernels.h"

const float *finish_by_layers(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                              float *x, float *y) {
    kernels->activate(&layers[0].activation, layers[0].projection.units, blocks, x);
    for (size_t i = 1; i < count; i++) {
        const struct layer *layer = &layers[i];
        kernels->linear(&layer->projection, blocks, x, y);
        kernels->activate(&layer->activation, layer->projection.units, blocks, y);
        float *other = x;
        x = y;
        y = other;
    }
    return x;
}

bool layers_keep_within_one(const struct layer *layers, size_t count) {
    for (size_t i = 0; i + 1 < count; i++) {
        enum kernel_activation kind = layers[i].activation.kind;
        if ((kind != KERNEL_SIGMOID && kind != KERNEL_TANH) || layers[i].projection.units > QUANTISED_INPUTS_MAX)
            return false;
        if (i > 0 && layers[i].projection.int16.panels == NULL)
            return false;
    }
    return count > 1 && layers[count - 1].projection.units == 1;
}
