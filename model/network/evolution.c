/* evolution.c: interest evolution: a second recurrence over the interest states, moved by the attention (paper eq.
 * 9-10).
 *
 *   r = sigmoid(input_r + Ur h)     v = sigmoid(input_v + Uv h)     input_t = W h_t + b, kept with the user state
 *   c = tanh(input_c + Uc (r * h))  or  tanh(input_c + r * (Uc h + bh))
 *   h' = h + w * (c - h), with w = a v (the paper), v + a - a v (the authors' code), a (AGRU), or v (AIGRU, whose input
 * is W (a h_t) + b)
 *
 * A plain GRU does not need the candidate: it ran with the user state, and what is left is its last state, or the
 * attention pooling of its states.
 */
#include "model/network/stages.h"

#include <string.h>

/* The same vector in every lane. */
static void spread(const float *vector, size_t units, float *lanes) {
    for (size_t unit = 0; unit < units; unit++)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[unit * LANES + lane] = vector[unit];
}

void evolve(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed, size_t candidates, float *final) {
    const struct kernels *kernels = model->kernels;
    size_t units = interest->evolution.units, blocks = (candidates + LANES - 1) / LANES;
    const float *evolved = user_floats(user, placed->evolved);
    if (interest->config->evolution_kind == EVOLUTION_GRU)
        for (size_t i = 0; i < blocks; i++)
            spread(evolved + (placed->length - 1) * units, units, final + i * units * LANES);
    else if (interest->config->evolution_kind == EVOLUTION_GRU_POOLING)
        for (size_t i = 0; i < blocks; i++)
            kernels->pool(placed->length, units, evolved, scratch->scores[i], final + i * units * LANES);
    else {
        memset(final, 0, blocks * units * LANES * sizeof *final);
        const float *inputs = user_floats(user, placed->inputs);
        struct evolution_steps steps = {.cell = &interest->evolution,
                                        .write = interest->write,
                                        .steps = placed->length,
                                        .candidates = candidates,
                                        .inputs = inputs,
                                        .bias = interest->evolution_bias,
                                        .attention = scratch->scores};
        kernels->evolve(kernels, &steps, final, scratch->evolve_work);
    }
}
