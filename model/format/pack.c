/* pack.c: split the weights by what they depend on, and copy them into the layouts of kernels.h. Every failure is of
 * memory.
 */
#include "model/format/pack.h"

#include <string.h>

/* A projection that is not packed yet. */
static struct projection plain(size_t units, size_t inputs, const float *weight, const float *bias) {
    return (struct projection){.units = units, .inputs = inputs, .weight = weight, .bias = bias};
}

/* ---- one projection ---- */

/* Use Winograd sums if the kernels gain by them. The caller makes sure that the inputs are within WINOGRAD_INPUT_MAX,
 * and calls this before the projection is packed or transposed. */
static bool use_winograd(struct dien_model *model, struct projection *projection) {
    if (!model->kernels->winograd || !projection_suits_winograd(projection))
        return true;
    float *biases = pool_floats(&model->pool, projection->units, 1);
    if (biases == NULL)
        return false;
    projection_winograd(projection, biases);
    projection->winograd = biases;
    return true;
}

static bool pack_panels(struct dien_model *model, struct projection *projection) {
    float *panels = pool_floats(&model->pool, projection_panel_floats(projection->units, projection->inputs), 1);
    if (panels == NULL)
        return false;
    projection_pack(projection, panels);
    projection->panels = panels;
    return true;
}

/* Panels, and the transposed form for few columns. */
static bool pack_narrow(struct dien_model *model, struct projection *projection) {
    float *transposed =
        pool_floats(&model->pool, projection->inputs + 1, projection_transposed_units(projection->units));
    if (transposed == NULL)
        return false;
    projection_transpose(projection, transposed);
    projection->transposed = transposed;
    return pack_panels(model, projection);
}

/* Panels, and 16-bit integers if the kernels multiply in reduced precision. Weights that have no integer form stay in
 * float32. */
static bool pack_int16(struct dien_model *model, struct projection *projection) {
    size_t units = projection->units, inputs = projection->inputs;
    if (!pack_panels(model, projection))
        return false;
    if (!model->reduced.products || inputs > QUANTISED_INPUTS_MAX)
        return true;
    int32_t *panels = pool_array(&model->pool, int16_panels_count(units, inputs), sizeof *panels);
    float *scale = pool_floats(&model->pool, units + PANEL_UNITS, 1);
    int32_t *columns = pool_array(&model->pool, units * ((inputs + 1) / 2), sizeof *columns);
    if (panels == NULL || scale == NULL || columns == NULL)
        return false;
    if (!int16_pack(projection, panels, scale))
        return true;
    projection->int16 = (struct int16_weights){panels, scale, NULL};
    int16_pack_columns(projection, columns);
    projection->int16.columns = columns;
    return true;
}

/* Rows of vectors in place of lanes. */
static bool pack_rows(struct dien_model *model, const struct projection *projection, struct column_projection *rows) {
    size_t stride = projection_transposed_units(projection->units);
    float *weight = pool_floats(&model->pool, projection->inputs, stride);
    if (weight == NULL)
        return false;
    matrix_transpose(projection->weight, projection->units, projection->inputs, stride, weight);
    *rows = (struct column_projection){projection->units, projection->inputs, weight, projection->bias,
                                       projection->winograd};
    return true;
}

/* ---- attention ---- */

/* Split the first layer [D, 4K] by query, key and product (bind.h). */
static bool split_first_layer(struct dien_model *model, const struct attention_inputs *inputs,
                              struct attention *attention) {
    const struct projection *first = &attention->layers[0].projection;
    size_t units = first->units, keys = attention->key_width;
    float *query = pool_floats(&model->pool, units, keys), *key = pool_floats(&model->pool, units, keys);
    float *product = pool_floats(&model->pool, units, keys), *zero = pool_floats(&model->pool, units, 1);
    if (query == NULL || key == NULL || product == NULL || zero == NULL)
        return false;
    float sign = inputs->key_first ? -1.0F : 1.0F;
    for (size_t unit = 0; unit < units; unit++)
        for (size_t i = 0; i < keys; i++) {
            const float *row = first->weight + unit * first->inputs + i;
            float difference = sign * row[inputs->difference * keys];
            query[unit * keys + i] = row[inputs->query * keys] + difference;
            key[unit * keys + i] = row[inputs->key * keys] - difference;
            product[unit * keys + i] = row[inputs->product * keys];
        }
    attention->query_part = plain(units, keys, query, first->bias);
    attention->key = plain(units, keys, key, zero);
    attention->product = plain(units, keys, product, zero);
    return true;
}

/* Use 8-bit integers in the products whose inputs are within 1, as far as that adds little noise to the attention
 * score: the first, and those after sigmoids. It goes backwards, because the noise of a unit counts as much as the
 * layers after it make of it. `gain` is the slope of the score by each unit. */
static bool pack_int8(struct dien_model *model, float scale, struct attention *attention) {
    float gain[2][QUANTISED_INPUTS_MAX];
    size_t count = attention->layer_count;
    if (attention->product.int16.panels == NULL || !layers_keep_within_one(attention->layers, count))
        return true;
    int8_slopes(&attention->layers[count - 1].projection, KERNEL_LINEAR, &scale, gain[(count - 1) % 2]);
    for (size_t i = count - 1; i-- > 0;) {
        struct projection *projection = i > 0 ? &attention->layers[i].projection : &attention->product;
        bool sigmoids = i > 0 && attention->layers[i - 1].activation.kind == KERNEL_SIGMOID;
        enum kernel_activation kind = attention->layers[i].activation.kind;
        const float *outputs = gain[(i + 1) % 2];
        if ((i == 0 || sigmoids) && int8_noise(projection, sigmoids, kind, outputs) <= QUANTISED_NOISE_MAX) {
            size_t units = projection->units;
            int32_t *panels = pool_array(&model->pool, int8_panels_count(units, projection->inputs), sizeof *panels);
            float *steps = pool_floats(&model->pool, units + PANEL_UNITS, 1);
            int32_t *start = pool_array(&model->pool, units + PANEL_UNITS, sizeof *start);
            if (panels == NULL || steps == NULL || start == NULL)
                return false;
            int8_pack(projection, sigmoids, panels, steps, start);
            projection->int8 = (struct int8_weights){panels, steps, start};
            model->reduced.int8 = true;
        }
        int8_slopes(projection, kind, outputs, gain[i % 2]);
    }
    return true;
}

static bool pack_attention(struct dien_model *model, const struct attention_config *config,
                           struct attention *attention) {
    if (config->kind == ATTENTION_MLP && !split_first_layer(model, &config->inputs, attention))
        return false;
    if (config->kind == ATTENTION_BILINEAR) {
        size_t keys = attention->key_width, queries = attention->query_units;
        float *weight = pool_floats(&model->pool, queries, keys), *zero = pool_floats(&model->pool, queries, 1);
        if (weight == NULL || zero == NULL)
            return false;
        matrix_transpose(attention->matrix, keys, queries, keys, weight);
        attention->key = plain(queries, keys, weight, zero);
    }
    if (!pack_narrow(model, &attention->query.projection) || !pack_narrow(model, &attention->query_part) ||
        !pack_rows(model, &attention->key, &attention->key_rows))
        return false;
    /* The inputs q * k are small since attention.c scales the query; a sigmoid's or tanh's outputs are within 1. */
    if (!use_winograd(model, &attention->product) || !pack_int16(model, &attention->product))
        return false;
    for (size_t i = 1; i < attention->layer_count; i++) {
        struct projection *projection = &attention->layers[i].projection;
        enum kernel_activation before = attention->layers[i - 1].activation.kind;
        bool within_one = before == KERNEL_SIGMOID || before == KERNEL_TANH;
        if ((within_one && !use_winograd(model, projection)) || !pack_int16(model, projection))
            return false;
    }
    return pack_int8(model, config->scale, attention);
}

/* ---- cells and the MLP ---- */

/* The recurrent products of a cell, for one column at a time. */
static bool pack_cell(struct dien_model *model, bool within_one, struct cell *cell) {
    if (within_one && (!use_winograd(model, &cell->gates) || !use_winograd(model, &cell->candidate)))
        return false;
    return pack_rows(model, &cell->gates, &cell->gates_column) &&
           (cell->reset_after || pack_rows(model, &cell->candidate, &cell->candidate_column));
}

static bool pack_interest(struct dien_model *model, struct interest *interest) {
    const struct interest_config *config = interest->config;
    struct cell *evolution = &interest->evolution;
    bool alone = config_evolves_alone(config), within_one = config_keeps_within_one(config);
    if (!pack_panels(model, &interest->extractor_input) || !pack_cell(model, true, &interest->extractor) ||
        !pack_attention(model, &config->attention, &interest->attention) ||
        !pack_cell(model, alone || within_one, evolution))
        return false;
    interest->step = (struct step_widths){.states = config->extractor.units,
                                          .evolved = alone ? config->evolution.units : 0,
                                          .keys = interest->attention.key.units,
                                          .inputs = alone ? 0 : 3 * config->evolution.units};
    if (alone) /* column by column, with the user state */
        return pack_panels(model, &interest->evolution_input);
    if (config->evolution.kind == CELL_AIGRU) { /* W (a x) + b = a (W x) + b: the bias is not scaled */
        float *zero = pool_floats(&model->pool, interest->evolution_input.units, 1);
        if (zero == NULL)
            return false;
        interest->evolution_bias = interest->evolution_input.bias;
        interest->evolution_input.bias = zero;
    }
    struct projection *const products[] = {&evolution->gates, &evolution->candidate};
    for (size_t i = 0; i < (evolution->reset_after ? 1 : 2); i++)
        if (!(within_one ? pack_int16 : pack_panels)(model, products[i]))
            return false;
    return pack_rows(model, &interest->evolution_input, &interest->evolution_rows);
}

/* Gather the columns of some inputs of the first layer. */
static void gather_columns(const struct projection *first, const struct mlp_input *inputs, size_t count,
                           size_t column_stride, size_t unit_stride, float *weight) {
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < inputs[i].width; j++)
            for (size_t unit = 0; unit < first->units; unit++)
                weight[(inputs[i].offset + j) * column_stride + unit * unit_stride] =
                    first->weight[unit * first->inputs + inputs[i].column + j];
}

/* Split the first layer's columns into those of shared inputs and those of a lane. */
static bool pack_mlp(struct dien_model *model, struct mlp *mlp) {
    struct projection *first = &mlp->layers[0].projection;
    size_t units = first->units, stride = projection_transposed_units(units);
    float *shared = pool_floats(&model->pool, mlp->shared_width, stride);
    float *lane = pool_floats(&model->pool, units, mlp->lane_width), *zero = pool_floats(&model->pool, units, 1);
    if (shared == NULL || lane == NULL || zero == NULL)
        return false;
    gather_columns(first, mlp->shared, mlp->shared_count, stride, 1, shared);
    gather_columns(first, mlp->lane, mlp->lane_count, 1, mlp->lane_width, lane);
    mlp->shared_projection = (struct column_projection){units, mlp->shared_width, shared, first->bias, NULL};
    *first = plain(units, mlp->lane_width, lane, zero);
    for (size_t i = 0; i < mlp->layer_count; i++)
        if (!pack_narrow(model, &mlp->layers[i].projection))
            return false;
    return true;
}

bool model_pack(struct dien_model *model) {
    for (size_t i = 0; i < model->config.interest_count; i++)
        if (!pack_interest(model, &model->interests[i]))
            return false;
    return pack_mlp(model, &model->mlp);
}
