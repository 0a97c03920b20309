/* attention.c: the attention scores a_t: the weight of each interest state for each candidate (paper eq. 8).
 *
 *   dot        s_t = k_t . q
 *   bilinear   s_t = k_t' M q = key_t . q                     key_t = M' k_t, kept in the user state
 *   mlp        s_t = net([q, k, q-k, q*k])                    its first layer split by dependence (bind.h)
 *   a_t = softmax over t of scale * s_t, or scale * s_t itself
 */
#include "model/network/stages.h"

#include "model/sizes.h"

#include <math.h>
#include <string.h>

/* One block's attention network: its inputs, as the first layer takes them. */
struct block {
    const float *query;     /* [Q, LANES], scaled for a Winograd product */
    const float *scale;     /* [LANES], or NULL: 1 */
    const float *keys;      /* [T, K] */
    const float *key_parts; /* [T, D] */
    size_t length;          /* T */
    size_t candidates;      /* lanes in use */
};

/* Scale a query for a Winograd product, whose inputs must be within WINOGRAD_INPUT_MAX. Keys are states and within 1.
 * So each candidate's query is divided by the power of two below its largest element, which loses no digit. The kernels
 * multiply by it afterwards. */
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
        bits &= 0xff800000U; /* the exponent alone: a power of two */
        memcpy(&scale[lane], &bits, sizeof bits);
        scale[lane] = scale[lane] < 0x1p+100F ? scale[lane] : 0x1p+100F;
    }
    for (size_t i = 0; i < width * LANES; i++)
        scaled[i] = query[i] / scale[i % LANES];
}

/* The layers after the first product, which is in scratch->tile[0]: scores [blocks, LANES]. */
static const float *finish(const struct dien_model *model, struct dien_scratch *scratch,
                           const struct attention *attention, size_t blocks) {
    return model->kernels->finish(model->kernels, attention->layers, attention->layer_count, blocks, scratch->tile[0],
                                  scratch->tile[1]);
}

/* A block whose lanes are all candidates: STEPS steps at a time. */
static void attend_full(const struct dien_model *model, struct dien_scratch *scratch, const struct attention *attention,
                        const struct block *block, float *scores) {
    const struct projection *product = &attention->product;
    for (size_t first = 0; first < block->length; first += STEPS) {
        size_t steps = size_min(block->length - first, STEPS);
        struct attention_steps some = {.product = product,
                                       .steps = steps,
                                       .query = block->query,
                                       .scale = block->scale,
                                       .query_part = scratch->query_part,
                                       .keys = block->keys + first * product->inputs,
                                       .key_parts = block->key_parts + first * product->units};
        model->kernels->attend(model->kernels, &some, scratch->tile[0], scratch->products);
        memcpy(scores + first * LANES, finish(model, scratch, attention, steps), steps * LANES * sizeof *scores);
    }
}

/* Copy the first lanes into vectors [candidates, width]. */
static void lanes_to_vectors(const float *lanes, size_t width, size_t candidates, float *vectors) {
    for (size_t lane = 0; lane < candidates; lane++)
        for (size_t i = 0; i < width; i++)
            vectors[lane * width + i] = lanes[i * LANES + lane];
}

/* A block with few candidates: its lanes are pairs of a step and a candidate, so that none is idle. A column's
 * arithmetic is that of attend_full(). */
static void attend_narrow(const struct dien_model *model, struct dien_scratch *scratch,
                          const struct attention *attention, const struct block *block, float *scores) {
    const struct kernels *kernels = model->kernels;
    const struct projection *product = &attention->product;
    const size_t candidates = block->candidates, end = block->length * candidates, pairs_max = (size_t)STEPS * LANES;
    lanes_to_vectors(block->query, product->inputs, candidates, scratch->narrow_query);
    lanes_to_vectors(scratch->query_part, product->units, candidates, scratch->narrow_part);
    struct pairs products = {product->inputs, candidates, 0, end, block->keys, scratch->narrow_query, NULL};
    struct pairs parts = {product->units, candidates, 0, end, block->key_parts, scratch->narrow_part, block->scale};
    memset(scores, 0, block->length * LANES * sizeof *scores);
    size_t step = 0, candidate = 0;
    for (size_t first = 0; first < end; first += pairs_max) {
        size_t count = size_min(end - first, pairs_max), blocks = (count + LANES - 1) / LANES;
        float *x = scratch->products, *y = scratch->tile[0];
        for (size_t i = 0; i < blocks; i++) {
            products.first = first + i * LANES;
            kernels->multiply_pairs(&products, x + i * product->inputs * LANES);
        }
        kernels->linear(product, blocks, x, y);
        for (size_t i = 0; i < blocks; i++) {
            parts.first = first + i * LANES;
            kernels->add_pairs(&parts, y + i * product->units * LANES);
        }
        const float *pair_scores = finish(model, scratch, attention, blocks);
        for (size_t i = 0; i < count; i++) {
            scores[step * LANES + candidate] = pair_scores[i];
            candidate++;
            if (candidate == candidates) {
                candidate = 0;
                step++;
            }
        }
    }
}

/* The scores [T, LANES] of one block of candidates. */
static void attend_block(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
                         struct block block, float *scores) {
    const struct kernels *kernels = model->kernels;
    const struct attention *attention = &interest->attention;
    const struct attention_config *config = &interest->config->attention;
    block.query = scratch->target;
    if (attention->has_query) {
        kernels->linear_narrow(kernels, &attention->query.projection, block.candidates, scratch->target,
                               scratch->query);
        kernels->activate(&attention->query.activation, attention->query_units, 1, scratch->query);
        block.query = scratch->query;
    }
    if (config->kind != ATTENTION_MLP)
        kernels->dot(kernels, attention->query_units, block.query, block.length,
                     config->kind == ATTENTION_DOT ? block.keys : block.key_parts, scores);
    else {
        kernels->linear_narrow(kernels, &attention->query_part, block.candidates, block.query, scratch->query_part);
        if (attention->product.winograd != NULL) {
            scale_query(block.query, attention->product.inputs, scratch->scaled, scratch->scale);
            block.query = scratch->scaled;
            block.scale = scratch->scale;
        }
        (block.candidates < LANES ? attend_narrow : attend_full)(model, scratch, attention, &block, scores);
    }
    if (config->softmax)
        kernels->softmax(block.length, config->scale, scores);
    else
        for (size_t i = 0; i < block.length * LANES; i++)
            scores[i] *= config->scale;
}

void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct interest_layout *layout, size_t candidates) {
    struct block block = {.keys = user_keys(interest, user, layout),
                          .key_parts = user_floats(user, layout->keys),
                          .length = layout->length};
    if (layout->length == 0 || interest->config->attention.kind == ATTENTION_NONE)
        return;
    for (size_t i = 0; i * LANES < candidates; i++) {
        block.candidates = size_min(candidates - i * LANES, LANES);
        copy_target(model, scratch, interest, i, scratch->target);
        attend_block(model, scratch, interest, block, scratch->scores[i]);
    }
}
