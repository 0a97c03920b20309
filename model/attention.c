/* attention.c: how much each interest state matters to each candidate: the attention scores a_t (paper eq. 8).
 *
 *   dot        s_t = k_t . q
 *   bilinear   s_t = k_t' M q = key_t . q                     key_t = M' k_t, kept with the user state
 *   mlp        s_t = net([q, k, q-k, q*k])                    its first layer split by what it depends on (model.h)
 *   a_t = softmax over t of scale * s_t, or scale * s_t itself
 */
#include "model/stages.h"

#include <string.h>

/* The query: the target, or a layer of it. */
static const float *make_query(const struct dien_model *model, struct dien_scratch *scratch,
                               const struct attention *attention) {
    if (!attention->has_query)
        return scratch->target;
    model->kernels->project(&attention->query.projection, 1, scratch->target, scratch->query);
    model->kernels->activate(&attention->query.activation, attention->query_units, 1, scratch->query);
    return scratch->query;
}

/* The layers behind the first product, whose values are in scratch->tile[0]: scores [blocks, LANES]. */
static const float *attend_layers(const struct dien_model *model, struct dien_scratch *scratch,
                                  const struct attention *attention, size_t blocks) {
    return model->kernels->finish(model->kernels, attention->layers, attention->layer_count, blocks, scratch->tile[0],
                                  scratch->tile[1]);
}

static void attend_block(const struct dien_model *model, struct dien_scratch *scratch,
                         const struct attention *attention, const float *query, const float *keys,
                         const float *key_parts, size_t length, float *scores) {
    const struct kernels *kernels = model->kernels;
    const struct projection *product = &attention->product;
    for (size_t first = 0; first < length; first += STEPS) {
        size_t steps = length - first < STEPS ? length - first : STEPS;
        kernels->attend(kernels, product, steps, query, scratch->query_part, keys + first * product->inputs,
                        key_parts + first * product->units, scratch->tile[0], scratch->products);
        memcpy(scores + first * LANES, attend_layers(model, scratch, attention, steps), steps * LANES * sizeof *scores);
    }
}

/* ---- few candidates: several steps share a block, lane by lane: step, candidate; a column's arithmetic is the same */

/* The first `each` lanes of each row, repeated. */
static void repeat_lanes(const float *from, size_t rows, size_t each, float *to) {
    for (size_t row = 0; row < rows; row++)
        for (size_t lane = 0; lane < LANES; lane++)
            to[row * LANES + lane] = from[row * LANES + lane % each];
}

/* A block's rows: those of LANES / each steps from `first` on, each step's repeated; behind the last step, the last's.
 */
static void steps_to_lanes(const float *rows, size_t width, size_t length, size_t first, size_t each, float *lanes) {
    for (size_t lane = 0; lane < LANES; lane++) {
        size_t step = first + lane / each;
        const float *row = rows + (step < length ? step : length - 1) * width;
        for (size_t i = 0; i < width; i++)
            lanes[i * LANES + lane] = row[i];
    }
}

/* The first layer before its activation: kernels->attend for lanes of one step and another. */
static void attend_steps(const struct dien_model *model, struct dien_scratch *scratch, const struct projection *product,
                         const float *keys, const float *key_parts, size_t length, size_t first, size_t each,
                         size_t blocks) {
    size_t inputs = product->inputs, units = product->units;
    for (size_t block = 0; block < blocks; block++) {
        float *x = scratch->products + block * inputs * LANES;
        steps_to_lanes(keys, inputs, length, first + block * (LANES / each), each, x);
        for (size_t i = 0; i < inputs * LANES; i++)
            x[i] = scratch->few_query[i] * x[i];
    }
    model->kernels->project(product, blocks, scratch->products, scratch->tile[0]);
    for (size_t block = 0; block < blocks; block++) {
        float *y = scratch->tile[0] + block * units * LANES, *parts = scratch->tile[1];
        steps_to_lanes(key_parts, units, length, first + block * (LANES / each), each, parts);
        for (size_t i = 0; i < units * LANES; i++)
            y[i] += scratch->few_part[i] + parts[i];
    }
}

static void attend_few(const struct dien_model *model, struct dien_scratch *scratch, const struct attention *attention,
                       const float *query, const float *keys, const float *key_parts, size_t length, size_t each,
                       float *scores) {
    const struct projection *product = &attention->product;
    size_t steps = LANES / each; /* of a block */
    repeat_lanes(query, product->inputs, each, scratch->few_query);
    repeat_lanes(scratch->query_part, product->units, each, scratch->few_part);
    memset(scores, 0, length * LANES * sizeof *scores);
    for (size_t first = 0; first < length; first += STEPS * steps) {
        size_t left = length - first, count = left < STEPS * steps ? left : STEPS * steps;
        size_t blocks = (count + steps - 1) / steps;
        attend_steps(model, scratch, product, keys, key_parts, length, first, each, blocks);
        const float *x = attend_layers(model, scratch, attention, blocks);
        for (size_t i = 0; i < count; i++)
            memcpy(scores + (first + i) * LANES, x + i * each, each * sizeof *scores);
    }
}

static void attend_mlp(const struct dien_model *model, struct dien_scratch *scratch, const struct attention *attention,
                       const float *query, const float *keys, const float *key_parts, size_t length, size_t candidates,
                       float *scores) {
    size_t each = 1;
    while (each < candidates)
        each *= 2;
    model->kernels->project(&attention->query_part, 1, query, scratch->query_part);
    if (each < LANES)
        attend_few(model, scratch, attention, query, keys, key_parts, length, each, scores);
    else
        attend_block(model, scratch, attention, query, keys, key_parts, length, scores);
}

void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed, size_t candidates, float *scores) {
    const struct attention *attention = &interest->attention;
    const struct attention_config *config = &interest->config->attention;
    const float *query = make_query(model, scratch, attention), *key_parts = user_floats(user, placed->keys);
    const float *keys = user_keys(interest, user, placed);
    if (config->kind == ATTENTION_MLP)
        attend_mlp(model, scratch, attention, query, keys, key_parts, placed->length, candidates, scores);
    else
        model->kernels->dot(model->kernels, attention->query_units, query, placed->length,
                            config->kind == ATTENTION_DOT ? keys : key_parts, scores);
    if (config->softmax)
        model->kernels->softmax(placed->length, config->scale, scores);
    else
        for (size_t i = 0; i < placed->length * LANES; i++)
            scores[i] *= config->scale;
}
