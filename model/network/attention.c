/* attention.c: how much each interest state matters to each candidate: the attention scores a_t (paper eq. 8).
 *
 *   dot        s_t = k_t . q
 *   bilinear   s_t = k_t' M q = key_t . q                     key_t = M' k_t, kept with the user state
 *   mlp        s_t = net([q, k, q-k, q*k])                    its first layer split by what it depends on (model.h)
 *   a_t = softmax over t of scale * s_t, or scale * s_t itself
 */
#include "model/network/stages.h"

#include <math.h>
#include <string.h>

/* The query: the target, or a layer of it. */
static const float *make_query(const struct dien_model *model, struct dien_scratch *scratch,
                               const struct attention *attention, size_t candidates) {
    if (!attention->has_query)
        return scratch->target;
    model->kernels->linear_narrow(model->kernels, &attention->query.projection, candidates, scratch->target,
                                  scratch->query);
    model->kernels->activate(&attention->query.activation, attention->query_units, 1, scratch->query);
    return scratch->query;
}

/* The layers behind the first product, whose values are in scratch->tile[0]: scores [blocks, LANES]. */
static const float *attend_layers(const struct dien_model *model, struct dien_scratch *scratch,
                                  const struct attention *attention, size_t blocks) {
    return model->kernels->finish(model->kernels, attention->layers, attention->layer_count, blocks, scratch->tile[0],
                                  scratch->tile[1]);
}

/* A crossed product wants inputs within WINOGRAD_INPUT_MAX: keys are within 1, being states, so each candidate's query
 * is divided by the power of two below its largest, which changes no digit. The kernels multiply by it again. */
static void scale_query(const float *query, size_t width, float *scaled, float *scale) {
    for (size_t lane = 0; lane < LANES; lane++)
        scale[lane] = 0x1p-100F;
    for (size_t i = 0; i < width * LANES; i++) {
        float size = fabsf(query[i]);
        scale[i % LANES] = size > scale[i % LANES] ? size : scale[i % LANES];
    }
    for (size_t lane = 0; lane < LANES; lane++) {
        uint32_t bits;
        memcpy(&bits, &scale[lane], sizeof bits);
        bits &= 0xff800000U; /* all but the exponent is 0: a power of two */
        memcpy(&scale[lane], &bits, sizeof bits);
        scale[lane] = scale[lane] < 0x1p+100F ? scale[lane] : 0x1p+100F;
    }
    for (size_t i = 0; i < width * LANES; i++)
        scaled[i] = query[i] / scale[i % LANES];
}

static void attend_block(const struct dien_model *model, struct dien_scratch *scratch,
                         const struct attention *attention, const float *query, const float *scale, const float *keys,
                         const float *key_parts, size_t length, float *scores) {
    const struct kernels *kernels = model->kernels;
    const struct projection *product = &attention->product;
    for (size_t first = 0; first < length; first += STEPS) {
        size_t steps = length - first < STEPS ? length - first : STEPS;
        struct attention_steps some = {.product = product,
                                       .steps = steps,
                                       .query = query,
                                       .scale = scale,
                                       .query_part = scratch->query_part,
                                       .keys = keys + first * product->inputs,
                                       .key_parts = key_parts + first * product->units};
        kernels->attend(kernels, &some, scratch->tile[0], scratch->products);
        memcpy(scores + first * LANES, attend_layers(model, scratch, attention, steps), steps * LANES * sizeof *scores);
    }
}

/* ---- few candidates: a block's lanes are pairs of a step and a candidate; a column's arithmetic is the same ---- */

/* The first lanes of each row, each in one piece: vectors [candidates, width]. */
static void lanes_to_vectors(const float *lanes, size_t width, size_t candidates, float *vectors) {
    for (size_t lane = 0; lane < candidates; lane++)
        for (size_t i = 0; i < width; i++)
            vectors[lane * width + i] = lanes[i * LANES + lane];
}

/* The first layer before its activation: kernels->attend for pairs first .. end. */
static void attend_pairs(const struct kernels *kernels, struct dien_scratch *scratch, const struct projection *product,
                         struct pairs products, struct pairs parts, size_t first, size_t blocks) {
    float *x = scratch->products, *y = scratch->tile[0];
    for (size_t block = 0; block < blocks; block++) {
        products.first = first + block * LANES;
        kernels->multiply_pairs(&products, x + block * product->inputs * LANES);
    }
    kernels->linear(product, blocks, x, y);
    for (size_t block = 0; block < blocks; block++) {
        parts.first = first + block * LANES;
        kernels->add_pairs(&parts, y + block * product->units * LANES);
    }
}

/* Scores of pairs from number `first` on to their steps and lanes. */
static void keep_pairs(const float *x, size_t first, size_t count, size_t candidates, float *scores) {
    size_t step = first / candidates, candidate = first % candidates;
    for (size_t i = 0; i < count; i++) {
        scores[step * LANES + candidate] = x[i];
        candidate++;
        if (candidate == candidates) {
            candidate = 0;
            step++;
        }
    }
}

static void attend_narrow(const struct dien_model *model, struct dien_scratch *scratch,
                          const struct attention *attention, const float *query, const float *scale, const float *keys,
                          const float *key_parts, size_t length, size_t candidates, float *scores) {
    const struct projection *product = &attention->product;
    size_t pairs = length * candidates, most = (size_t)STEPS * LANES;
    lanes_to_vectors(query, product->inputs, candidates, scratch->narrow_query);
    lanes_to_vectors(scratch->query_part, product->units, candidates, scratch->narrow_part);
    struct pairs products = {product->inputs, candidates, 0, pairs, keys, scratch->narrow_query, NULL};
    struct pairs parts = {product->units, candidates, 0, pairs, key_parts, scratch->narrow_part, scale};
    memset(scores, 0, length * LANES * sizeof *scores);
    for (size_t first = 0; first < pairs; first += most) {
        size_t count = pairs - first < most ? pairs - first : most, blocks = (count + LANES - 1) / LANES;
        attend_pairs(model->kernels, scratch, product, products, parts, first, blocks);
        keep_pairs(attend_layers(model, scratch, attention, blocks), first, count, candidates, scores);
    }
}

static void attend_mlp(const struct dien_model *model, struct dien_scratch *scratch, const struct attention *attention,
                       const float *query, const float *keys, const float *key_parts, size_t length, size_t candidates,
                       float *scores) {
    model->kernels->linear_narrow(model->kernels, &attention->query_part, candidates, query, scratch->query_part);
    const float *scale = NULL;
    if (attention->product.winograd != NULL) {
        scale_query(query, attention->product.inputs, scratch->scaled, scratch->scale);
        query = scratch->scaled, scale = scratch->scale;
    }
    if (candidates < LANES)
        attend_narrow(model, scratch, attention, query, scale, keys, key_parts, length, candidates, scores);
    else
        attend_block(model, scratch, attention, query, scale, keys, key_parts, length, scores);
}

void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed, size_t candidates, float *scores) {
    const struct attention *attention = &interest->attention;
    const struct attention_config *config = &interest->config->attention;
    const float *query = make_query(model, scratch, attention, candidates),
                *key_parts = user_floats(user, placed->keys);
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
