/* attention.c: how much each interest state matters to each candidate: the attention scores a_t (paper eq. 8).
 *
 *   dot        s_t = k_t . q
 *   bilinear   s_t = k_t' M q = key_t . q                     key_t = M' k_t, kept with the user state
 *   mlp        s_t = net([q, k, q-k, q*k])                    its first layer split by what it depends on (model.h)
 *   a_t = softmax over t of scale * s_t, or scale * s_t itself
 */
#include "model/stages.h"

#include <string.h>

/* Rows first .. first + STEPS of [length, width]; past the end they are zero, in `padded`. */
static const float *tile(const float *rows, size_t width, size_t length, size_t first, float *padded) {
    if (first + STEPS <= length)
        return rows + first * width;
    size_t count = (length - first) * width;
    memcpy(padded, rows + first * width, count * sizeof *padded);
    memset(padded + count, 0, (STEPS * width - count) * sizeof *padded);
    return padded;
}

/* The query: the target, or a layer of it. */
static const float *make_query(const struct dien_model *model, struct dien_scratch *scratch,
                               const struct attention *attention) {
    if (!attention->has_query)
        return scratch->target;
    model->kernels->project(&attention->query.projection, scratch->target, LANES, scratch->query);
    model->kernels->activate(&attention->query.activation, attention->query_units, LANES, scratch->query);
    return scratch->query;
}

/* s_t = row_t . q, for rows [length, Q]. */
static void attend_dot(const struct dien_model *model, struct dien_scratch *scratch, size_t width, const float *query,
                       const float *rows, size_t length) {
    static const float zero[STEPS];
    for (size_t first = 0; first < length; first += STEPS) {
        struct projection steps = {STEPS, width, tile(rows, width, length, first, scratch->key_parts), zero};
        model->kernels->project(&steps, query, LANES, scratch->scores + first * LANES);
    }
}

static void attend_mlp(const struct dien_model *model, struct dien_scratch *scratch, const struct attention *attention,
                       const float *query, const float *keys, const float *key_parts, size_t length) {
    const struct kernels *kernels = model->kernels;
    const struct projection *product = &attention->product;
    kernels->project(&attention->query_part, query, LANES, scratch->query_part);
    for (size_t first = 0; first < length; first += STEPS) {
        const float *k = tile(keys, product->inputs, length, first, scratch->keys);
        const float *part = tile(key_parts, product->units, length, first, scratch->key_parts);
        float *x = scratch->wide[0], *y = scratch->wide[1];
        kernels->attend(kernels, product, query, scratch->query_part, k, part, x, scratch->products);
        kernels->activate(&attention->layers[0].activation, product->units, WIDE, x);
        for (size_t i = 1; i < attention->layer_count; i++) {
            const struct layer *layer = &attention->layers[i];
            kernels->project(&layer->projection, x, WIDE, y);
            kernels->activate(&layer->activation, layer->projection.units, WIDE, y);
            float *other = x;
            x = y;
            y = other;
        }
        memcpy(scratch->scores + first * LANES, x, WIDE * sizeof *x);
    }
}

void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed) {
    const struct attention *attention = &interest->attention;
    const struct attention_config *config = &interest->config->attention;
    const float *query = make_query(model, scratch, attention), *key_parts = user_floats(user, placed->keys);
    const float *keys = user_keys(interest, user, placed);
    if (config->kind == ATTENTION_MLP)
        attend_mlp(model, scratch, attention, query, keys, key_parts, placed->length);
    else
        attend_dot(model, scratch, attention->query_units, query, config->kind == ATTENTION_DOT ? keys : key_parts,
                   placed->length);
    if (config->softmax)
        model->kernels->softmax(placed->length, config->scale, scratch->scores);
    else
        for (size_t i = 0; i < placed->length * LANES; i++)
            scratch->scores[i] *= config->scale;
}
