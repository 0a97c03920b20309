/* mlp.c: the prediction (paper section 4.1): inputs put together, dense layers, a probability.
 *
 * The first layer is split by its inputs: those that a request's candidates share are multiplied once a request.
 */
#include "model/network/embed.h"
#include "model/network/stages.h"
#include "model/sizes.h"

#include <math.h>
#include <string.h>

void predict_shared(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                    const struct dien_request *request) {
    const struct mlp *mlp = &model->mlp;
    for (size_t i = 0; i < mlp->shared_count; i++) {
        const struct mlp_input *input = &mlp->shared[i];
        const struct dien_columns *columns = input->kind == INPUT_USER ? &request->user : &request->context;
        float *vector = scratch->shared + input->offset;
        if (input->kind == INPUT_HISTORY_SUM)
            memcpy(vector, user_floats(user, user->interests[input->index].sum), input->width * sizeof *vector);
        else
            embed_value(input->embedding, &columns->column[input->index], 0, vector);
    }
    model->kernels->gemv(&mlp->shared_projection, scratch->shared, scratch->shared_part);
}

/* A candidate field's vectors of a block, in scratch->candidates. */
static const float *candidate_lanes(const struct dien_model *model, const struct dien_scratch *scratch, size_t index,
                                    size_t block) {
    return scratch->candidates + (block * model->candidate.width + model->candidate.parts[index].offset) * LANES;
}

void copy_target(const struct dien_model *model, const struct dien_scratch *scratch, const struct interest *interest,
                 size_t block, float *target) {
    for (size_t i = 0; i < interest->target.count; i++) {
        const struct vector_part *part = &interest->target.parts[i];
        memcpy(target + part->offset * LANES, candidate_lanes(model, scratch, part->column, block),
               part->embedding->width * LANES * sizeof *target);
    }
}

/* Copy one input of a block into its position of the lanes' matrix. */
static void copy_input(const struct dien_model *model, const struct dien_scratch *scratch, const struct dien_user *user,
                       const struct mlp_input *input, size_t block, float *lanes) {
    if (input->kind == INPUT_PRODUCT) { /* target * history sum */
        const float *sum = user_floats(user, user->interests[input->index].sum);
        copy_target(model, scratch, &model->interests[input->index], block, lanes);
        for (size_t unit = 0; unit < input->width; unit++)
            for (size_t lane = 0; lane < LANES; lane++)
                lanes[unit * LANES + lane] *= sum[unit];
        return;
    }
    const float *from;
    if (input->kind == INPUT_CANDIDATE)
        from = candidate_lanes(model, scratch, input->index, block);
    else
        from = scratch->finals + (BLOCKS * model->interests[input->index].final_offset + block * input->width) * LANES;
    memcpy(lanes, from, input->width * LANES * sizeof *lanes);
}

void predict(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
             size_t candidates, float *scores) {
    const struct mlp *mlp = &model->mlp;
    const struct config *config = &model->config;
    size_t blocks = (candidates + LANES - 1) / LANES, units = 0;
    for (size_t block = 0; block < blocks; block++)
        for (size_t i = 0; i < mlp->lane_count; i++)
            copy_input(model, scratch, user, &mlp->lane[i], block,
                       scratch->mlp_input + (block * mlp->lane_width + mlp->lane[i].offset) * LANES);

    const float *x = scratch->mlp_input;
    for (size_t i = 0; i < mlp->layer_count; i++) {
        const struct layer *layer = &mlp->layers[i];
        float *y = scratch->layer[i % 2];
        units = layer->projection.units;
        model->kernels->linear_narrow(model->kernels, &layer->projection, candidates, x, y);
        for (size_t unit = 0; i == 0 && unit < blocks * units; unit++)
            for (size_t lane = 0; lane < LANES; lane++)
                y[unit * LANES + lane] += scratch->shared_part[unit % units];
        model->kernels->activate(&layer->activation, units, blocks, y);
        x = y;
    }

    for (size_t i = 0; i < candidates; i++) {
        const float *outputs = x + i / LANES * units * LANES + i % LANES;
        float logit = outputs[0];
        if (config->softmax) /* of two columns: the sigmoid of their difference */
            logit = outputs[config->positive * LANES] - outputs[(1 - config->positive) * LANES];
        scores[i] = 1.0F / (1.0F + expf(-(logit + scratch->bias[i])));
    }
}
