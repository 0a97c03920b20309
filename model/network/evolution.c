/* evolution.c: interest evolution (paper eq. 9-10): a second recurrence over the interest states, weighted by the
 * attention scores.
 *
 *   r = sigmoid(input_r + Ur h)     v = sigmoid(input_v + Uv h)     input_t = W h_t + b, kept in the user state
 *   c = tanh(input_c + Uc (r * h))  or  tanh(input_c + r * (Uc h + bh))
 *   h' = h + w * (c - h), with w = a v (the paper), v + a - a v (the authors' code), a (AGRU), or v (AIGRU, whose input
 *   is W (a h_t) + b)
 *
 * A plain GRU needs no candidate and ran with the user state. Its result is its last state, or the attention pooling of
 * its states.
 */
#include "model/network/stages.h"

#include <string.h>

void evolve(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct interest_layout *layout, size_t candidates, float *final) {
    const struct kernels *kernels = model->kernels;
    size_t units = interest->evolution.units, blocks = (candidates + LANES - 1) / LANES;
    const float *evolved = user_floats(user, layout->evolved);
    enum cell_kind kind = interest->config->evolution.kind;
    if (layout->length == 0)
        memset(final, 0, blocks * units * LANES * sizeof *final);
    else if (kind == CELL_GRU) {
        const float *last = evolved + (layout->length - 1) * units;
        for (size_t i = 0; i < blocks; i++)
            for (size_t j = 0; j < units * LANES; j++)
                final[i * units * LANES + j] = last[j / LANES];
    } else if (kind == CELL_GRU_POOLING)
        for (size_t i = 0; i < blocks; i++)
            kernels->pool(layout->length, units, evolved, scratch->scores[i], final + i * units * LANES);
    else {
        memset(final, 0, blocks * units * LANES * sizeof *final);
        struct evolution_steps steps = {.cell = &interest->evolution,
                                        .write = interest->write,
                                        .steps = layout->length,
                                        .candidates = candidates,
                                        .inputs = user_floats(user, layout->inputs),
                                        .bias = interest->evolution_bias,
                                        .attention = scratch->scores};
        kernels->evolve(kernels, &steps, final, scratch->evolve_work);
    }
}
