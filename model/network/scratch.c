/* scratch.c: size and allocate one thread's working memory. */
#include "model/network/scratch.h"

#include "model/dien.h"
#include "model/sizes.h"

#include <stdlib.h>

static size_t widest_layer(const struct layer *layers, size_t count, size_t widest) {
    for (size_t i = 0; i < count; i++)
        widest = size_max(widest, layers[i].projection.units);
    return widest;
}

static bool allocate(struct dien_scratch *scratch, const struct dien_model *model) {
    /* The largest of each dimension among the interests; `final` is a sum. */
    struct {
        size_t behaviour, target, extractor, query, key, key_part, evolution, final, layer, steps;
    } max_dims = {.layer = 1};
    for (size_t i = 0; i < model->config.interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        const struct attention *attention = &interest->attention;
        max_dims.behaviour = size_max(max_dims.behaviour, interest->history.width);
        max_dims.target = size_max(max_dims.target, interest->target.width);
        max_dims.extractor = size_max(max_dims.extractor, interest->extractor.units);
        max_dims.query = size_max(max_dims.query, attention->query_units);
        max_dims.key = size_max(max_dims.key, attention->key_width);
        max_dims.key_part = size_max(max_dims.key_part, attention->key.units);
        max_dims.evolution = size_max(max_dims.evolution, interest->evolution.units);
        max_dims.final = interest->final_offset + interest->evolution.units;
        max_dims.layer = widest_layer(attention->layers, attention->layer_count, max_dims.layer);
        max_dims.steps = size_max(max_dims.steps, interest->config->max_length);
    }
    size_t cell = size_max(max_dims.extractor, max_dims.evolution);
    size_t mlp_layer = widest_layer(model->mlp.layers, model->mlp.layer_count, 1);
    const struct {
        float **buffer;
        size_t floats;
    } buffers[] = {
        {&scratch->behaviours, max_dims.behaviour * LANES},
        {&scratch->cell_input, 3 * cell * LANES},
        {&scratch->states, cell * LANES},
        {&scratch->evolved, max_dims.evolution * LANES},
        {&scratch->step_input, 3 * cell},
        {&scratch->step_state, cell},
        {&scratch->step_work, 4 * cell},
        {&scratch->target, max_dims.target * LANES},
        {&scratch->query, max_dims.query * LANES},
        {&scratch->query_part, max_dims.key_part * LANES},
        {&scratch->scaled, max_dims.query * LANES},
        {&scratch->scale, LANES},
        {&scratch->narrow_query, max_dims.query * LANES},
        {&scratch->narrow_part, max_dims.key_part * LANES},
        {&scratch->products, STEPS * max_dims.key * LANES},
        {&scratch->tile[0], STEPS * max_dims.layer * LANES},
        {&scratch->tile[1], STEPS * max_dims.layer * LANES},
        {&scratch->candidates, BLOCKS * model->candidate.width * LANES},
        {&scratch->evolve_work, 4 * max_dims.evolution * BLOCKS * LANES},
        {&scratch->finals, BLOCKS * max_dims.final * LANES},
        {&scratch->shared, model->mlp.shared_width},
        {&scratch->shared_part, mlp_layer},
        {&scratch->bias, (size_t)BLOCKS * LANES},
        {&scratch->mlp_input, BLOCKS * model->mlp.lane_width * LANES},
        {&scratch->layer[0], BLOCKS * mlp_layer * LANES},
        {&scratch->layer[1], BLOCKS * mlp_layer * LANES},
    };
    for (size_t i = 0; i < BLOCKS; i++)
        if ((scratch->scores[i] = pool_floats(&scratch->pool, max_dims.steps, LANES)) == NULL)
            return false;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++)
        if ((*buffers[i].buffer = pool_floats(&scratch->pool, buffers[i].floats, 1)) == NULL)
            return false;
    return true;
}

struct dien_scratch *dien_scratch_new(const struct dien_model *model) {
    struct dien_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch != NULL && !allocate(scratch, model)) {
        dien_scratch_free(scratch);
        return NULL;
    }
    return scratch;
}

void dien_scratch_free(struct dien_scratch *scratch) {
    if (scratch == NULL)
        return;
    pool_free(&scratch->pool);
    free(scratch);
}
