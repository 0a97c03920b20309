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

#include <math.h>
#include <string.h>

/* The same vector in every lane. */
static void spread(const float *vector, size_t units, float *lanes) {
    for (size_t unit = 0; unit < units; unit++)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[unit * LANES + lane] = vector[unit];
}

/* Steps first .. first + steps. */
static void evolve_steps(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
                         const float *inputs, size_t first, size_t steps, size_t candidates, float *final) {
    float *attention[BLOCKS];
    for (size_t i = 0; i < BLOCKS; i++)
        attention[i] = scratch->scores[i] + first * LANES;
    model->kernels->evolve(model->kernels, &interest->evolution, interest->write, steps,
                           inputs + first * 3 * interest->evolution.units, interest->evolution_bias, candidates,
                           attention, final, scratch->evolve_work);
}

/* ---- reduced precision: steps of small attention are skipped ---- */

/* An attention score below this is taken for 0, which leaves the state as it is: all that are, of one candidate, are
 * together below DIEN_SKIPPED_ATTENTION. It depends on the history alone, so a score is the same in any company. */
static float least_attention(size_t length) {
    return DIEN_SKIPPED_ATTENTION / (float)length;
}

/* Clear what is small of a block's attention to a step, and tell whether anything is left in the lanes in use. */
static bool clear_small(float *attention, float least, size_t lanes) {
    bool left = false;
    for (size_t lane = 0; lane < lanes; lane++) {
        if (fabsf(attention[lane]) < least)
            attention[lane] = 0;
        else
            left = true;
    }
    return left;
}

static bool clear_step(struct dien_scratch *scratch, size_t step, float least, size_t candidates) {
    bool left = false;
    for (size_t block = 0; block * LANES < candidates; block++) {
        size_t lanes = candidates - block * LANES;
        left |= clear_small(scratch->scores[block] + step * LANES, least, lanes < LANES ? lanes : LANES);
    }
    return left;
}

/* Runs of steps that some candidate attends to; what is between them changes no state. */
static void evolve_in_runs(const struct dien_model *model, struct dien_scratch *scratch,
                           const struct interest *interest, const float *inputs, size_t length, size_t candidates,
                           float *final) {
    size_t first = 0;
    for (size_t step = 0; step < length; step++) {
        if (clear_step(scratch, step, least_attention(length), candidates))
            continue;
        if (first < step)
            evolve_steps(model, scratch, interest, inputs, first, step - first, candidates, final);
        first = step + 1;
    }
    if (first < length)
        evolve_steps(model, scratch, interest, inputs, first, length - first, candidates, final);
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
        if (model->reduced.skips && config_can_skip(interest->config))
            evolve_in_runs(model, scratch, interest, inputs, placed->length, candidates, final);
        else
            evolve_steps(model, scratch, interest, inputs, 0, placed->length, candidates, final);
    }
}
