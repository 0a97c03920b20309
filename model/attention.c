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

static void attend_mlp(const struct dien_model *model, struct dien_scratch *scratch, const struct attention *attention,
                       const float *query, const float *keys, const float *key_parts, size_t length, float *scores) {
    const struct kernels *kernels = model->kernels;
    const struct projection *product = &attention->product;
    kernels->project(&attention->query_part, 1, query, scratch->query_part);
    for (size_t first = 0; first < length; first += STEPS) {
        size_t steps = length - first < STEPS ? length - first : STEPS;
        float *x = scratch->tile[0], *y = scratch->tile[1];
        kernels->attend(kernels, product, steps, query, scratch->query_part, keys + first * product->inputs,
                        key_parts + first * product->units, x, scratch->products);
        kernels->activate(&attention->layers[0].activation, product->units, steps, x);
        for (size_t i = 1; i < attention->layer_count; i++) {
            const struct layer *layer = &attention->layers[i];
            kernels->project(&layer->projection, steps, x, y);
            kernels->activate(&layer->activation, layer->projection.units, steps, y);
            float *other = x;
            x = y;
            y = other;
        }
        memcpy(scores + first * LANES, x, steps * LANES * sizeof *x);
    }
}

void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed, float *scores) {
    const struct attention *attention = &interest->attention;
    const struct attention_config *config = &interest->config->attention;
    const float *query = make_query(model, scratch, attention), *key_parts = user_floats(user, placed->keys);
    const float *keys = user_keys(interest, user, placed);
    if (config->kind == ATTENTION_MLP)
        attend_mlp(model, scratch, attention, query, keys, key_parts, placed->length, scores);
    else
        model->kernels->dot(model->kernels, attention->query_units, query, placed->length,
                            config->kind == ATTENTION_DOT ? keys : key_parts, scores);
    if (config->softmax)
        model->kernels->softmax(placed->length, config->scale, scores);
    else
        for (size_t i = 0; i < placed->length * LANES; i++)
            scores[i] *= config->scale;
}
