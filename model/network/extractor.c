/* extractor.c: embed the behaviours and run the interest extractor over them, and with it an evolution that needs no
 * candidate.
 *
 * Steps are computed in tiles of LANES. A step's result does not depend on its position in a tile (kernels.h), so a
 * state built at once and one extended step by step have the same bits.
 */
#include "model/network/extractor.h"

#include "model/network/embed.h"
#include "model/sizes.h"

#include <string.h>

/* Fetch the table rows of a tile that starts at `first`. */
static void fetch_tile(const struct interest *interest, const struct dien_user *user,
                       const struct interest_layout *layout, size_t first) {
    size_t count = first < layout->length ? size_min(LANES, layout->length - first) : 0;
    for (size_t i = 0; i < interest->history.count; i++) {
        struct dien_column column = user_column(&interest->history.parts[i], user, layout);
        embed_fetch(interest->history.parts[i].embedding, &column, first, count);
    }
}

/* Run a cell over a tile: steps first .. first + count of rows [T, units]. The steps before `first` are there. `input`
 * projects x to the cell's inputs. The new states also go into `states`, in lanes. */
static void run_cell(const struct dien_model *model, struct dien_scratch *scratch, const struct projection *input,
                     const struct cell *cell, const float *x, size_t first, size_t count, float *rows, float *states) {
    size_t units = cell->units;
    model->kernels->linear(input, 1, x, scratch->cell_input);
    memset(scratch->step_state, 0, units * sizeof(float));
    if (first > 0)
        memcpy(scratch->step_state, rows + (first - 1) * units, units * sizeof(float));
    memset(states, 0, units * LANES * sizeof(float));
    for (size_t step = 0; step < count; step++) {
        for (size_t i = 0; i < 3 * units; i++)
            scratch->step_input[i] = scratch->cell_input[i * LANES + step];
        model->kernels->extract(model->kernels, cell, scratch->step_input, scratch->step_state, scratch->step_state,
                                scratch->step_work);
        memcpy(rows + (first + step) * units, scratch->step_state, units * sizeof(float));
        for (size_t i = 0; i < units; i++)
            states[i * LANES + step] = scratch->step_state[i];
    }
}

void extract(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
             struct dien_user *user, const struct interest_layout *layout, size_t first) {
    const struct vector *history = &interest->history;
    float *sum = user_array(user, layout->sum);
    if (first == 0)
        memset(sum, 0, history->width * sizeof *sum);
    fetch_tile(interest, user, layout, first);
    for (; first < layout->length; first += LANES) {
        size_t count = size_min(LANES, layout->length - first);
        fetch_tile(interest, user, layout, first + LANES); /* its rows arrive while this tile is computed */

        for (size_t i = 0; i < history->count; i++) {
            const struct vector_part *part = &history->parts[i];
            struct dien_column column = user_column(part, user, layout);
            embed_lanes(part->embedding, &column, first, count, scratch->behaviours + part->offset * LANES);
        }
        /* One by one, in order: an extended sum has the same bits. */
        for (size_t unit = 0; unit < history->width; unit++)
            for (size_t step = 0; step < count; step++)
                sum[unit] += scratch->behaviours[unit * LANES + step];

        run_cell(model, scratch, &interest->extractor_input, &interest->extractor, scratch->behaviours, first, count,
                 user_array(user, layout->states), scratch->states);
        if (config_evolves_alone(interest->config))
            run_cell(model, scratch, &interest->evolution_input, &interest->evolution, scratch->states, first, count,
                     user_array(user, layout->evolved), scratch->evolved);
    }
}
