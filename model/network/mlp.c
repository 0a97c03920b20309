/* mlp.c: the prediction: inputs put together, dense layers, a probability (paper section 4.1).
 *
 * The first layer is split by its inputs: what a request's candidates share is multiplied once a request.
 */
#include "model/network/embed.h"
#include "model/network/stages.h"

#include <math.h>
#include <string.h>

/* One shared input, as a vector. */
static void take_shared(const struct dien_model *model, const struct mlp_input *input, const struct dien_user *user,
                        const struct dien_request *request, float *vector) {
    if (input->kind == INPUT_HISTORY_SUM) {
        memcpy(vector, user_floats(user, user->interests[input->place].sum), input->width * sizeof *vector);
        return;
    }
    enum dien_group group = input->kind == INPUT_USER ? DIEN_USER : DIEN_CONTEXT;
    const struct dien_columns *columns = group == DIEN_USER ? &request->user : &request->context;
    embed_value(model, model->config.groups[group].at[input->place], &columns->column[input->place], 0, vector);
}

void predict_shared(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                    const struct dien_request *request) {
    const struct mlp *mlp = &model->mlp;
    for (size_t i = 0; i < mlp->shared_count; i++)
        take_shared(model, &mlp->shared[i], user, request, scratch->shared + mlp->shared[i].offset);
    model->kernels->gemv(&mlp->shared_projection, scratch->shared, scratch->shared_part);
}

/* Where a candidate field's rows of a block start in scratch->candidates. */
static const float *candidate_lanes(const struct dien_model *model, const struct dien_scratch *scratch, size_t place,
                                    size_t block) {
    size_t units = block * scratch->candidate_width;
    for (size_t i = 0; i < place; i++)
        units += model_field_width(model, DIEN_CANDIDATE, i);
    return scratch->candidates + units * LANES;
}

void take_target(const struct dien_model *model, const struct dien_scratch *scratch, const struct interest *interest,
                 size_t block, float *target) {
    for (size_t i = 0; i < interest->config->target.count; i++) {
        size_t place = interest->config->target.at[i], size = model_field_width(model, DIEN_CANDIDATE, place) * LANES;
        memcpy(target, candidate_lanes(model, scratch, place, block), size * sizeof *target);
        target += size;
    }
}

/* target * history sum, element by element. */
static void take_product(const struct dien_model *model, const struct dien_scratch *scratch,
                         const struct mlp_input *input, const struct dien_user *user, size_t block, float *lanes) {
    const float *sum = user_floats(user, user->interests[input->place].sum);
    take_target(model, scratch, &model->interests[input->place], block, lanes);
    for (size_t unit = 0; unit < input->width; unit++)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[unit * LANES + lane] *= sum[unit];
}

static const float *final_lanes(const struct dien_model *model, const struct dien_scratch *scratch, size_t interest,
                                size_t block) {
    size_t units = block * model->interests[interest].evolution.units;
    for (size_t i = 0; i < interest; i++)
        units += BLOCKS * model->interests[i].evolution.units;
    return scratch->finals + units * LANES;
}

/* One input of a block, in its place. */
static void take_input(const struct dien_model *model, const struct dien_scratch *scratch,
                       const struct mlp_input *input, const struct dien_user *user, size_t block, float *lanes) {
    if (input->kind == INPUT_PRODUCT) {
        take_product(model, scratch, input, user, block, lanes);
        return;
    }
    const float *from = input->kind == INPUT_CANDIDATE ? candidate_lanes(model, scratch, input->place, block)
                                                       : final_lanes(model, scratch, input->place, block);
    memcpy(lanes, from, input->width * LANES * sizeof *lanes);
}

static void take_inputs(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                        size_t blocks) {
    const struct mlp *mlp = &model->mlp;
    for (size_t block = 0; block < blocks; block++)
        for (size_t i = 0; i < mlp->lane_count; i++)
            take_input(model, scratch, &mlp->lane[i], user, block,
                       scratch->mlp_input + (block * mlp->lane_width + mlp->lane[i].offset) * LANES);
}

static void add_shared(const struct dien_scratch *scratch, size_t units, size_t blocks, float *x) {
    for (size_t i = 0; i < blocks * units; i++)
        for (size_t lane = 0; lane < LANES; lane++)
            x[i * LANES + lane] += scratch->shared_part[i % units];
}

/* Softmax of two columns is the sigmoid of their difference. */
static void output(const struct config *config, const float *x, const float *bias, float *scores) {
    for (size_t lane = 0; lane < LANES; lane++) {
        float logit =
            config->softmax ? x[config->positive * LANES + lane] - x[(1 - config->positive) * LANES + lane] : x[lane];
        scores[lane] = 1.0F / (1.0F + expf(-(logit + bias[lane])));
    }
}

void predict(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
             size_t candidates, float *scores) {
    const struct mlp *mlp = &model->mlp;
    size_t blocks = (candidates + LANES - 1) / LANES;
    take_inputs(model, scratch, user, blocks);
    const float *x = scratch->mlp_input;
    size_t units = 0;
    for (size_t i = 0; i < mlp->layer_count; i++) {
        const struct layer *layer = &mlp->layers[i];
        float *y = scratch->layer[i % 2];
        units = layer->projection.units;
        model->kernels->linear_narrow(model->kernels, &layer->projection, candidates, x, y);
        if (i == 0)
            add_shared(scratch, units, blocks, y);
        model->kernels->activate(&layer->activation, units, blocks, y);
        x = y;
    }
    for (size_t block = 0; block < blocks; block++)
        output(&model->config, x + block * units * LANES, scratch->bias + block * LANES, scores + block * LANES);
}
