/* scratch.c: size and allocate one thread's working memory. */
#include "model/network/scratch.h"

#include <stdlib.h>

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

/* The largest of each dimension over the model's interests. */
struct extents {
    size_t behaviour, target, hidden, query, key, key_part, evolution, evolution_sum, wide, steps;
};

static struct extents measure_interests(const struct dien_model *model) {
    struct extents extents = {.wide = 1};
    for (size_t i = 0; i < model->config.interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        extents.behaviour = larger(extents.behaviour, interest->behaviour_width);
        extents.target = larger(extents.target, interest->target_width);
        extents.hidden = larger(extents.hidden, interest->extractor.units);
        extents.query = larger(extents.query, interest->attention.query_units);
        extents.key = larger(extents.key, interest->attention.key_width);
        extents.key_part = larger(extents.key_part, interest->attention.key.units);
        extents.evolution = larger(extents.evolution, interest->evolution.units);
        extents.evolution_sum += interest->evolution.units;
        extents.steps = larger(extents.steps, interest->config->max_length);
        for (size_t j = 0; j < interest->attention.layer_count; j++)
            extents.wide = larger(extents.wide, interest->attention.layers[j].projection.units);
    }
    return extents;
}

static size_t widest_layer(const struct mlp *mlp) {
    size_t widest = 1;
    for (size_t i = 0; i < mlp->layer_count; i++)
        widest = larger(widest, mlp->layers[i].projection.units);
    return widest;
}

static size_t candidate_width(const struct dien_model *model) {
    size_t width = 0;
    for (size_t i = 0; i < model->config.groups[DIEN_CANDIDATE].count; i++)
        width += model_field_width(model, DIEN_CANDIDATE, i);
    return width;
}

/* Each buffer of the scratch and its size in floats: the one list that allocation and accounting read. */
static bool allocate(struct dien_scratch *scratch, const struct dien_model *model) {
    struct extents e = measure_interests(model);
    size_t cell = larger(e.hidden, e.evolution);
    size_t widest = widest_layer(&model->mlp);
    scratch->candidate_width = candidate_width(model);
    const struct {
        float **buffer;
        size_t floats;
    } buffers[] = {
        {&scratch->behaviours, e.behaviour * LANES},
        {&scratch->cell_input, 3 * cell * LANES},
        {&scratch->states, cell * LANES},
        {&scratch->evolved, e.evolution * LANES},
        {&scratch->step_input, 3 * cell},
        {&scratch->step_state, cell},
        {&scratch->step_work, 4 * cell},
        {&scratch->target, e.target * LANES},
        {&scratch->query, e.query * LANES},
        {&scratch->query_part, e.key_part * LANES},
        {&scratch->scaled, e.query * LANES},
        {&scratch->scale, LANES},
        {&scratch->narrow_query, e.query * LANES},
        {&scratch->narrow_part, e.key_part * LANES},
        {&scratch->products, STEPS * e.key * LANES},
        {&scratch->tile[0], STEPS * e.wide * LANES},
        {&scratch->tile[1], STEPS * e.wide * LANES},
        {&scratch->candidates, BLOCKS * scratch->candidate_width * LANES},
        {&scratch->evolve_work, 4 * e.evolution * BLOCKS * LANES},
        {&scratch->finals, BLOCKS * e.evolution_sum * LANES},
        {&scratch->shared, model->mlp.shared_width},
        {&scratch->shared_part, widest},
        {&scratch->bias, (size_t)BLOCKS * LANES},
        {&scratch->mlp_input, BLOCKS * model->mlp.lane_width * LANES},
        {&scratch->layer[0], BLOCKS * widest * LANES},
        {&scratch->layer[1], BLOCKS * widest * LANES},
    };
    for (size_t i = 0; i < BLOCKS; i++)
        if ((scratch->scores[i] = pool_array(&scratch->pool, e.steps * LANES, sizeof(float))) == NULL)
            return false;
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) {
        *buffers[i].buffer = pool_array(&scratch->pool, buffers[i].floats, sizeof(float));
        if (*buffers[i].buffer == NULL)
            return false;
    }
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

size_t dien_scratch_bytes(const struct dien_scratch *scratch) {
    return sizeof *scratch + scratch->pool.bytes;
}
