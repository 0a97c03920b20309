/* mlp.c: the prediction: inputs put together, dense layers, a probability (paper section 4.1).
 *
 * The first layer is split by its inputs: what a request's candidates share is multiplied once a request.
 */
#include "model/embed.h"
#include "model/stages.h"

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
    model->kernels->project_column(&mlp->shared_projection, scratch->shared, scratch->shared_part);
}

/* Where a candidate field's rows start in scratch->candidates. */
static const float *candidate_lanes(const struct dien_model *model, const struct dien_scratch *scratch, size_t place) {
    const float *lanes = scratch->candidates;
    for (size_t i = 0; i < place; i++)
        lanes += model_field_width(model, DIEN_CANDIDATE, i) * LANES;
    return lanes;
}

void take_target(const struct dien_model *model, const struct dien_scratch *scratch, const struct interest *interest,
                 float *target) {
    for (size_t i = 0; i < interest->config->target.count; i++) {
        size_t place = interest->config->target.at[i], size = model_field_width(model, DIEN_CANDIDATE, place) * LANES;
        memcpy(target, candidate_lanes(model, scratch, place), size * sizeof *target);
        target += size;
    }
}

/* target * history sum, element by element. */
static void take_product(const struct dien_model *model, const struct dien_scratch *scratch,
                         const struct mlp_input *input, const struct dien_user *user, float *lanes) {
    const float *sum = user_floats(user, user->interests[input->place].sum);
    take_target(model, scratch, &model->interests[input->place], lanes);
    for (size_t unit = 0; unit < input->width; unit++)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[unit * LANES + lane] *= sum[unit];
}

static const float *final_lanes(const struct dien_model *model, const struct dien_scratch *scratch, size_t interest) {
    const float *lanes = scratch->finals;
    for (size_t i = 0; i < interest; i++)
        lanes += model->interests[i].evolution.units * LANES;
    return lanes;
}

/* One input of the lanes, in its place. */
static void take_input(const struct dien_model *model, const struct dien_scratch *scratch,
                       const struct mlp_input *input, const struct dien_user *user, float *lanes) {
    if (input->kind == INPUT_PRODUCT) {
        take_product(model, scratch, input, user, lanes);
        return;
    }
    const float *from = input->kind == INPUT_CANDIDATE ? candidate_lanes(model, scratch, input->place)
                                                       : final_lanes(model, scratch, input->place);
    memcpy(lanes, from, input->width * LANES * sizeof *lanes);
}

static void add_shared(const struct dien_scratch *scratch, size_t units, float *x) {
    for (size_t unit = 0; unit < units; unit++)
        for (size_t lane = 0; lane < LANES; lane++)
            x[unit * LANES + lane] += scratch->shared_part[unit];
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
             float *scores) {
    const struct mlp *mlp = &model->mlp;
    for (size_t i = 0; i < mlp->lane_count; i++)
        take_input(model, scratch, &mlp->lane[i], user, scratch->mlp_input + mlp->lane[i].offset * LANES);
    const float *x = scratch->mlp_input;
    for (size_t i = 0; i < mlp->layer_count; i++) {
        const struct layer *layer = &mlp->layers[i];
        float *y = scratch->layer[i % 2];
        model->kernels->project(&layer->projection, x, LANES, y);
        if (i == 0)
            add_shared(scratch, layer->projection.units, y);
        model->kernels->activate(&layer->activation, layer->projection.units, LANES, y);
        x = y;
    }
    output(&model->config, x, scratch->bias, scores);
}
