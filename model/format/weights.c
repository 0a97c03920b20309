/* weights.c: bind tensors to the config: check each one's type, shape and values, and pack the weights for the kernels.
 *
 * Tables, vocabularies and attribute maps stay where they are mapped. The network's own weights, which are small, are
 * copied into the layouts of kernels.h.
 */
#include "model/format/error.h"
#include "model/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* What every binding function needs. */
struct binder {
    struct dien_model *model;
    struct dien_error *error;
};

/* A tensor's name, built from parts. */
struct name {
    char text[256];
};

static struct name named(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct name named(const char *format, ...) {
    struct name name;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name.text, sizeof name.text, format, arguments);
    va_end(arguments);
    return name;
}

#define FAIL(binder, ...) dien_fail((binder)->error, "model.safetensors: " __VA_ARGS__)

static bool out_of_memory(struct binder *binder) {
    return FAIL(binder, "out of memory while packing");
}

static float *new_floats(struct binder *binder, size_t rows, size_t columns) {
    return pool_array(&binder->model->pool, rows * columns, sizeof(float));
}

/* ---- tensors by name
 * ------------------------------------------------------------------------------------------------- */

static const struct tensor *find(struct binder *binder, const char *name) {
    const struct tensor *tensor = safetensors_find(&binder->model->file, name);
    if (tensor == NULL)
        FAIL(binder, "%s: missing", name);
    return tensor;
}

/* The tensor of that name, type and shape; columns 0 stands for a vector of `rows`. */
static const struct tensor *find_shaped(struct binder *binder, const char *name, enum tensor_type type, size_t rows,
                                        size_t columns) {
    const struct tensor *tensor = find(binder, name);
    if (tensor == NULL)
        return NULL;
    size_t rank = columns > 0 ? 2 : 1;
    if (tensor->type != type) {
        FAIL(binder, "%s: dtype is %s, must be %s", name, tensor_type_name(tensor->type), tensor_type_name(type));
        return NULL;
    }
    if (tensor->rank != rank || tensor->shape[0] != rows || (rank == 2 && tensor->shape[1] != columns)) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, rank == 2 ? "[%zu, %zu]" : "[%zu]", rows, columns);
        FAIL(binder, "%s: shape has rank %zu and starts with %zu, must be %s", name, tensor->rank,
             tensor->rank > 0 ? tensor->shape[0] : 0, wanted);
        return NULL;
    }
    return tensor;
}

/* Both scans go block by block without a branch inside, which compilers turn into vectors: a table of ten million rows
 * is read as fast as memory gives it. */
enum { SCAN_BLOCK = 4096, TABLE_SCAN_BYTES = 64 << 20 };

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static bool is_finite(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7f800000U) != 0x7f800000U;
}

/* The place of the first value that is infinite or not a number; count if there is none. */
static size_t first_not_finite(const float *values, size_t count) {
    for (size_t start = 0; start < count; start += SCAN_BLOCK) {
        size_t end = smaller(start + SCAN_BLOCK, count);
        unsigned bad = 0;
        for (size_t i = start; i < end; i++)
            bad |= !is_finite(values[i]);
        for (size_t i = start; bad != 0 && i < end; i++)
            if (!is_finite(values[i]))
                return i;
    }
    return count;
}

/* The place of the first row that is not in [0, limit); count if there is none. */
static size_t first_bad_row(const int32_t *rows, size_t count, size_t limit) {
    for (size_t start = 0; start < count; start += SCAN_BLOCK) {
        size_t end = smaller(start + SCAN_BLOCK, count);
        int32_t last = (int32_t)(limit - 1), bad = 0; /* a row is bad where its sign, or last - row's, is set */
        for (size_t i = start; i < end; i++)
            bad |= rows[i] | (last - (rows[i] & INT32_MAX));
        for (size_t i = start; bad < 0 && i < end; i++)
            if (rows[i] < 0 || rows[i] > last)
                return i;
    }
    return count;
}

/* Finite weights of that shape, where they lie in the file. */
static const float *find_floats(struct binder *binder, const char *name, size_t rows, size_t columns) {
    const struct tensor *tensor = find_shaped(binder, name, TENSOR_F32, rows, columns);
    if (tensor == NULL)
        return NULL;
    const float *values = tensor->data;
    size_t count = tensor->bytes / sizeof *values, bad = first_not_finite(values, count);
    if (bad < count) {
        FAIL(binder, "%s: element %zu is not a finite number", name, bad);
        return NULL;
    }
    return values;
}

/* The same, copied: aligned and in the packed memory. */
static const float *copy_floats(struct binder *binder, const char *name, size_t rows, size_t columns) {
    const float *values = find_floats(binder, name, rows, columns);
    size_t count = rows * (columns > 0 ? columns : 1);
    float *copy = values != NULL ? new_floats(binder, count, 1) : NULL;
    if (copy != NULL)
        memcpy(copy, values, count * sizeof *copy);
    else if (values != NULL)
        out_of_memory(binder);
    return copy;
}

/* ---- tables, vocabularies, attributes
 * -------------------------------------------------------------------------------- */

/* The place of the first value of a table that is infinite or not a number: all bits of its exponent are set. */
static size_t first_bad_value(const struct tensor *tensor) {
    if (tensor->type == TENSOR_F32)
        return first_not_finite(tensor->data, tensor->bytes / sizeof(float));
    const uint16_t *values = tensor->data;
    uint16_t exponent = tensor->type == TENSOR_F16 ? 0x7c00 : 0x7f80;
    size_t count = tensor->type == TENSOR_I8 ? 0 : tensor->bytes / sizeof *values, i = 0;
    while (i < count && (values[i] & exponent) != exponent)
        i++;
    return tensor->type == TENSOR_I8 ? tensor->bytes : i;
}

/* Small tables are read once here. A large one would cost the instant start that mapping it gives, so what it holds
 * shows when it is used: a score that is not a number is never answered. */
static bool check_table(struct binder *binder, const struct tensor *tensor) {
    size_t count = tensor->shape[0] * tensor->shape[1],
           bad = tensor->bytes <= TABLE_SCAN_BYTES ? first_bad_value(tensor) : count;
    return bad == count || FAIL(binder, "%s: element %zu is not a finite number", tensor->name, bad);
}

static bool bind_table(struct binder *binder, const struct table_config *config, struct table *table) {
    struct name name = named("tables.%s", config->name);
    const struct tensor *tensor = find(binder, name.text);
    if (tensor == NULL)
        return false;
    if (tensor->type != TENSOR_F32 && tensor->type != TENSOR_F16 && tensor->type != TENSOR_BF16 &&
        tensor->type != TENSOR_I8)
        return FAIL(binder, "%s: dtype is %s, must be F32, F16, BF16 or I8", name.text, tensor_type_name(tensor->type));
    if (find_shaped(binder, name.text, tensor->type, config->rows, config->width) == NULL)
        return false;
    if (!check_table(binder, tensor))
        return false;
    *table = (struct table){.type = tensor->type, .rows = config->rows, .width = config->width, .data = tensor->data};
    if (tensor->type != TENSOR_I8)
        return true;
    table->scale = find_floats(binder, named("%s.scale", name.text).text, config->rows, 0);
    return table->scale != NULL;
}

static bool bind_strings(struct binder *binder, const char *prefix, struct vocabulary *vocabulary) {
    const struct tensor *offsets =
        find_shaped(binder, named("%s.offsets", prefix).text, TENSOR_I64, vocabulary->entries + 1, 0);
    struct name name = named("%s.bytes", prefix);
    const struct tensor *bytes = offsets != NULL ? find(binder, name.text) : NULL;
    if (bytes == NULL)
        return false;
    if (bytes->type != TENSOR_U8 || bytes->rank != 1)
        return FAIL(binder, "%s: must be a vector of U8", name.text);
    vocabulary->offsets = offsets->data;
    vocabulary->bytes = bytes->data;
    vocabulary->byte_count = bytes->bytes;
    int64_t first = vocabulary->offsets[0], last = vocabulary->offsets[vocabulary->entries];
    if (first != 0 || last < 0 || (uint64_t)last != bytes->bytes)
        return FAIL(binder, "%s.offsets: must run from 0 to the %zu bytes of %s", prefix, bytes->bytes, name.text);
    return true;
}

static bool bind_vocabulary(struct binder *binder, const struct vocabulary_config *config,
                            struct vocabulary *vocabulary) {
    struct name prefix = named("vocabularies.%s", config->name), name = named("%s.slots", prefix.text);
    const struct tensor *slots = find(binder, name.text);
    if (slots == NULL)
        return false;
    size_t count = slots->shape[0];
    if (slots->type != TENSOR_I32 || slots->rank != 1 || count == 0 || (count & (count - 1)) != 0)
        return FAIL(binder, "%s: must be a vector of I32 whose length is a power of two", name.text);
    if (config->probe > count || config->entries > count - count / 4)
        return FAIL(binder, "%s: %zu slots are too few for %zu entries and a probe of %zu", name.text, count,
                    config->entries, config->probe);
    *vocabulary = (struct vocabulary){
        .entries = config->entries, .probe = config->probe, .slot_mask = count - 1, .slots = slots->data};
    if (config->strings)
        return bind_strings(binder, prefix.text, vocabulary);
    const struct tensor *keys = find_shaped(binder, named("%s.keys", prefix.text).text, TENSOR_I64, config->entries, 0);
    vocabulary->keys = keys != NULL ? keys->data : NULL;
    return keys != NULL;
}

/* Every attribute map is read once here, so that a row out of its table is found now and not on a request. */
static bool bind_attribute(struct binder *binder, const struct field_config *field, struct attribute_map *map) {
    const struct config *config = &binder->model->config;
    size_t parent_rows = config->tables[config->fields[field->parent].table].rows;
    struct name name = named("attributes.%s", field->name);
    if (field->dense) {
        map->values = find_floats(binder, name.text, parent_rows, field->width);
        return map->values != NULL;
    }
    const struct tensor *tensor = find_shaped(binder, name.text, TENSOR_I32, parent_rows, 0);
    if (tensor == NULL)
        return false;
    map->rows = tensor->data;
    size_t rows = config->tables[field->table].rows;
    size_t bad = first_bad_row(map->rows, parent_rows, rows);
    if (bad < parent_rows)
        return FAIL(binder, "%s: element %zu is %d, the table \"%s\" has %zu rows", name.text, bad, map->rows[bad],
                    config->tables[field->table].name, rows);
    return true;
}

/* What a field has of its own. */
static bool bind_field(struct binder *binder, size_t i) {
    struct dien_model *model = binder->model;
    const struct field_config *field = &model->config.fields[i];
    if (field->parent != CONFIG_NONE && !bind_attribute(binder, field, &model->attributes[i]))
        return false;
    if (!field->dense || field->units == 0)
        return true;
    model->dense[i] = copy_floats(binder, named("dense.%s.weight", field->name).text, field->units, field->width);
    return model->dense[i] != NULL;
}

static bool bind_inputs(struct binder *binder) {
    struct dien_model *model = binder->model;
    const struct config *config = &model->config;
    model->tables = pool_array(&model->pool, config->table_count, sizeof *model->tables);
    model->vocabularies = pool_array(&model->pool, config->vocabulary_count, sizeof *model->vocabularies);
    model->attributes = pool_array(&model->pool, config->field_count, sizeof *model->attributes);
    model->dense = pool_array(&model->pool, config->field_count, sizeof *model->dense);
    if (model->tables == NULL || model->vocabularies == NULL || model->attributes == NULL || model->dense == NULL)
        return out_of_memory(binder);
    for (size_t i = 0; i < config->table_count; i++)
        if (!bind_table(binder, &config->tables[i], &model->tables[i]))
            return false;
    for (size_t i = 0; i < config->vocabulary_count; i++)
        if (!bind_vocabulary(binder, &config->vocabularies[i], &model->vocabularies[i]))
            return false;
    for (size_t i = 0; i < config->field_count; i++)
        if (!bind_field(binder, i))
            return false;
    return true;
}

/* ---- layers and cells
 * ------------------------------------------------------------------------------------------------ */

/* A projection that is yet to be packed. */
static struct projection plain(size_t units, size_t inputs, const float *weight, const float *bias) {
    return (struct projection){.units = units, .inputs = inputs, .weight = weight, .bias = bias};
}

static bool transpose(struct binder *binder, const struct projection *from, struct column_projection *to) {
    size_t stride = projection_transposed_units(from->units);
    float *weight = new_floats(binder, from->inputs, stride);
    if (weight == NULL)
        return out_of_memory(binder);
    matrix_transpose(from->weight, from->units, from->inputs, stride, weight);
    *to = (struct column_projection){from->units, from->inputs, weight, from->bias, from->winograd};
    return true;
}

static bool bind_projection(struct binder *binder, const char *prefix, size_t units, size_t inputs,
                            struct projection *projection) {
    *projection = (struct projection){.units = units, .inputs = inputs};
    projection->weight = copy_floats(binder, named("%s.weight", prefix).text, units, inputs);
    if (projection->weight == NULL)
        return false;
    projection->bias = copy_floats(binder, named("%s.bias", prefix).text, units, 0);
    return projection->bias != NULL;
}

static bool bind_activation(struct binder *binder, const char *prefix, const struct layer_config *config,
                            struct activation_parameters *parameters) {
    static const enum kernel_activation kinds[] = {
        [ACTIVATION_LINEAR] = KERNEL_LINEAR,   [ACTIVATION_RELU] = KERNEL_RELU,
        [ACTIVATION_SIGMOID] = KERNEL_SIGMOID, [ACTIVATION_TANH] = KERNEL_TANH,
        [ACTIVATION_SILU] = KERNEL_SILU,       [ACTIVATION_PRELU] = KERNEL_PRELU,
        [ACTIVATION_DICE] = KERNEL_DICE,       [ACTIVATION_DICE_ROW] = KERNEL_DICE_ROW};
    *parameters = (struct activation_parameters){.kind = kinds[config->activation], .epsilon = config->epsilon};
    bool dice = config->activation == ACTIVATION_DICE;
    if (dice || config->activation == ACTIVATION_PRELU || config->activation == ACTIVATION_DICE_ROW) {
        parameters->alpha = copy_floats(binder, named("%s.alpha", prefix).text, config->units, 0);
        if (parameters->alpha == NULL)
            return false;
    }
    if (!dice)
        return true;
    parameters->gain = copy_floats(binder, named("%s.gain", prefix).text, config->units, 0);
    if (parameters->gain == NULL)
        return false;
    parameters->offset = copy_floats(binder, named("%s.offset", prefix).text, config->units, 0);
    return parameters->offset != NULL;
}

static bool bind_layer(struct binder *binder, const char *prefix, const struct layer_config *config, size_t inputs,
                       struct layer *layer) {
    return bind_projection(binder, prefix, config->units, inputs, &layer->projection) &&
           bind_activation(binder, prefix, config, &layer->activation);
}

/* Split U [3 * units, units] into what the cell's form needs (kernels.h). */
static bool pack_recurrent(struct binder *binder, const struct cell_config *config, const float *weight,
                           const float *bias_hidden, struct cell *cell) {
    size_t units = config->units;
    float *bias = new_floats(binder, 3 * units, 1);
    if (bias == NULL)
        return out_of_memory(binder);
    cell->units = units;
    cell->reset_after = config->reset == RESET_AFTER;
    if (bias_hidden != NULL)
        memcpy(bias + 2 * units, bias_hidden, units * sizeof *bias);
    cell->gates = plain(cell->reset_after ? 3 * units : 2 * units, units, weight, bias);
    cell->candidate = plain(units, units, weight + 2 * units * units, bias);
    return true;
}

static bool bind_cell(struct binder *binder, const char *prefix, const struct cell_config *config, size_t inputs,
                      struct projection *input, struct cell *cell) {
    size_t units = config->units;
    *input = (struct projection){.units = 3 * units, .inputs = inputs};
    input->weight = copy_floats(binder, named("%s.weight_input", prefix).text, 3 * units, inputs);
    if (input->weight == NULL)
        return false;
    const float *recurrent = copy_floats(binder, named("%s.weight_hidden", prefix).text, 3 * units, units);
    if (recurrent == NULL)
        return false;
    input->bias = copy_floats(binder, named("%s.bias", prefix).text, 3 * units, 0);
    if (input->bias == NULL)
        return false;
    const float *bias_hidden = NULL;
    if (config->reset == RESET_AFTER) {
        bias_hidden = find_floats(binder, named("%s.bias_hidden", prefix).text, units, 0);
        if (bias_hidden == NULL)
            return false;
    }
    return pack_recurrent(binder, config, recurrent, bias_hidden, cell);
}

/* ---- attention
 * ------------------------------------------------------------------------------------------------------- */

/* M [K, Q] becomes the key part M' [Q, K]. */
static bool bind_bilinear(struct binder *binder, const char *prefix, struct attention *attention) {
    size_t keys = attention->key_width, queries = attention->query_units;
    const float *matrix = find_floats(binder, named("%s.matrix", prefix).text, keys, queries);
    if (matrix == NULL)
        return false;
    float *bias = new_floats(binder, queries, 1), *weight = new_floats(binder, queries, keys);
    if (bias == NULL || weight == NULL)
        return out_of_memory(binder);
    matrix_transpose(matrix, keys, queries, keys, weight);
    attention->key = plain(queries, keys, weight, bias);
    return true;
}

/* Split the first layer [D, 4K] into its parts by query, key and product. */
static bool split_first_layer(struct binder *binder, const struct attention_inputs *inputs,
                              const struct projection *first, struct attention *attention) {
    size_t units = first->units, keys = first->inputs / 4;
    float *query = new_floats(binder, units, keys), *key = new_floats(binder, units, keys);
    float *product = new_floats(binder, units, keys), *zero = new_floats(binder, units, 1);
    if (query == NULL || key == NULL || product == NULL || zero == NULL)
        return out_of_memory(binder);
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

static bool bind_attention_mlp(struct binder *binder, const char *prefix, const struct attention_config *config,
                               struct attention *attention) {
    attention->layer_count = config->layer_count;
    attention->layers = pool_array(&binder->model->pool, config->layer_count, sizeof *attention->layers);
    if (attention->layers == NULL)
        return out_of_memory(binder);
    for (size_t i = 0; i < config->layer_count; i++) {
        size_t inputs = i == 0 ? 4 * attention->key_width : config->layers[i - 1].units;
        if (!bind_layer(binder, named("%s.layers.%zu", prefix, i).text, &config->layers[i], inputs,
                        &attention->layers[i]))
            return false;
    }
    return split_first_layer(binder, &config->inputs, &attention->layers[0].projection, attention);
}

static bool bind_attention(struct binder *binder, const char *prefix, const struct interest_config *interest,
                           size_t target_width, struct attention *attention) {
    const struct attention_config *config = &interest->attention;
    if (config->kind == ATTENTION_NONE)
        return true;
    attention->has_query = config->has_query;
    attention->query_units = config->has_query ? config->query.units : target_width;
    attention->key_width = config_key_width(interest);
    if (config->has_query &&
        !bind_layer(binder, named("%s.query", prefix).text, &config->query, target_width, &attention->query))
        return false;
    if (config->kind == ATTENTION_DOT)
        return true;
    if (config->kind == ATTENTION_BILINEAR)
        return bind_bilinear(binder, prefix, attention);
    return bind_attention_mlp(binder, prefix, config, attention);
}

/* W (a x) + b = a (W x) + b: the bias must not be scaled with the input. */
static bool split_scaled_input(struct binder *binder, struct interest *interest) {
    float *zero = new_floats(binder, interest->evolution_input.units, 1);
    if (zero == NULL)
        return out_of_memory(binder);
    interest->evolution_bias = interest->evolution_input.bias;
    interest->evolution_input.bias = zero;
    return true;
}

static bool bind_interest(struct binder *binder, const struct interest_config *config, struct interest *interest) {
    const struct config *shape = &binder->model->config;
    static const enum kernel_write writes[] = {
        [EVOLUTION_AUGRU_AND] = WRITE_AND, [EVOLUTION_AUGRU_OR] = WRITE_OR, [EVOLUTION_AGRU] = WRITE_ATTENTION,
        [EVOLUTION_AIGRU] = WRITE_UPDATE,  [EVOLUTION_GRU] = WRITE_UPDATE,  [EVOLUTION_GRU_POOLING] = WRITE_UPDATE};
    struct name prefix = named("interests.%s", config->name);
    interest->config = config;
    interest->behaviour_width = config_places_width(shape, DIEN_BEHAVIOUR, &config->history);
    interest->target_width = config_places_width(shape, DIEN_CANDIDATE, &config->target);
    interest->write = writes[config->evolution_kind];
    return bind_cell(binder, named("%s.extractor", prefix.text).text, &config->extractor, interest->behaviour_width,
                     &interest->extractor_input, &interest->extractor) &&
           bind_attention(binder, named("%s.attention", prefix.text).text, config, interest->target_width,
                          &interest->attention) &&
           bind_cell(binder, named("%s.evolution", prefix.text).text, &config->evolution, config->extractor.units,
                     &interest->evolution_input, &interest->evolution) &&
           (config->evolution_kind != EVOLUTION_AIGRU || split_scaled_input(binder, interest));
}

static bool bind_interests(struct binder *binder) {
    struct dien_model *model = binder->model;
    model->interests = pool_array(&model->pool, model->config.interest_count, sizeof *model->interests);
    if (model->interests == NULL)
        return out_of_memory(binder);
    for (size_t i = 0; i < model->config.interest_count; i++)
        if (!bind_interest(binder, &model->config.interests[i], &model->interests[i]))
            return false;
    return true;
}

/* ---- the MLP
 * --------------------------------------------------------------------------------------------------------- */

static bool is_shared(enum input_kind kind) {
    return kind == INPUT_USER || kind == INPUT_CONTEXT || kind == INPUT_HISTORY_SUM;
}

/* Sort the inputs into those that a request's candidates share and those of a lane; each keeps the config's order. */
static bool place_inputs(struct binder *binder, struct mlp *mlp) {
    struct dien_model *model = binder->model;
    const struct config *config = &model->config;
    mlp->shared = pool_array(&model->pool, config->input_count, sizeof *mlp->shared);
    mlp->lane = pool_array(&model->pool, config->input_count, sizeof *mlp->lane);
    if (mlp->shared == NULL || mlp->lane == NULL)
        return out_of_memory(binder);
    for (size_t i = 0; i < config->input_count; i++) {
        const struct input_config *input = &config->inputs[i];
        bool shared = is_shared(input->kind);
        size_t *width = shared ? &mlp->shared_width : &mlp->lane_width;
        struct mlp_input *placed = shared ? &mlp->shared[mlp->shared_count++] : &mlp->lane[mlp->lane_count++];
        *placed = (struct mlp_input){input->kind, input->place, *width, config_input_width(config, input)};
        *width += placed->width;
    }
    return true;
}

/* Split the first layer's columns in the same way. */
static bool split_inputs(struct binder *binder, struct mlp *mlp) {
    const struct config *config = &binder->model->config;
    struct projection *first = &mlp->layers[0].projection;
    size_t units = first->units, stride = projection_transposed_units(units), column = 0;
    float *shared = new_floats(binder, mlp->shared_width, stride), *lane = new_floats(binder, units, mlp->lane_width);
    float *zero = new_floats(binder, units, 1);
    if (shared == NULL || lane == NULL || zero == NULL)
        return out_of_memory(binder);
    size_t shared_column = 0, lane_column = 0;
    for (size_t i = 0; i < config->input_count; i++) {
        size_t end = column + config_input_width(config, &config->inputs[i]);
        for (bool is = is_shared(config->inputs[i].kind); column < end; column++) {
            for (size_t unit = 0; unit < units; unit++) {
                float weight = first->weight[unit * first->inputs + column];
                *(is ? &shared[shared_column * stride + unit] : &lane[unit * mlp->lane_width + lane_column]) = weight;
            }
            *(is ? &shared_column : &lane_column) += 1;
        }
    }
    mlp->shared_projection = (struct column_projection){units, mlp->shared_width, shared, first->bias, NULL};
    *first = plain(units, mlp->lane_width, lane, zero);
    return true;
}

static bool bind_mlp(struct binder *binder) {
    struct dien_model *model = binder->model;
    const struct config *config = &model->config;
    struct mlp *mlp = &model->mlp;
    if (!place_inputs(binder, mlp))
        return false;
    mlp->layer_count = config->layer_count;
    mlp->layers = pool_array(&model->pool, config->layer_count, sizeof *mlp->layers);
    if (mlp->layers == NULL)
        return out_of_memory(binder);
    for (size_t i = 0; i < config->layer_count; i++) {
        size_t inputs = i == 0 ? mlp->shared_width + mlp->lane_width : config->layers[i - 1].units;
        if (!bind_layer(binder, named("mlp.layers.%zu", i).text, &config->layers[i], inputs, &mlp->layers[i]))
            return false;
    }
    return split_inputs(binder, mlp);
}

/* ---- packing
 * --------------------------------------------------------------------------------------------------------- */

/* Crossed sums, where the kernels gain by them, for a projection whose inputs are sure to be small enough; before it is
 * packed or transposed. */
static bool use_winograd(struct binder *binder, struct projection *projection) {
    if (!binder->model->kernels->winograd || !projection_suits_winograd(projection))
        return true;
    float *crossed = new_floats(binder, projection->units, 1);
    if (crossed == NULL)
        return out_of_memory(binder);
    projection_winograd(projection, crossed);
    projection->winograd = crossed;
    return true;
}

static bool pack(struct binder *binder, struct projection *projection) {
    float *packed = new_floats(binder, projection_panel_floats(projection->units, projection->inputs), 1);
    if (packed == NULL)
        return out_of_memory(binder);
    projection_pack(projection, packed);
    projection->panels = packed;
    return true;
}

/* And for few columns. */
static bool pack_narrow(struct binder *binder, struct projection *projection) {
    float *transposed = new_floats(binder, projection->inputs + 1, projection_transposed_units(projection->units));
    if (transposed == NULL)
        return out_of_memory(binder);
    projection_transpose(projection, transposed);
    projection->transposed = transposed;
    return true;
}

/* And its words, where the kernels multiply in reduced precision. */
static bool pack_int16(struct binder *binder, struct projection *projection) {
    struct pool *pool = &binder->model->pool;
    if (!binder->model->reduced.products || projection->inputs > QUANTISED_INPUTS_MAX)
        return true;
    int32_t *panels = pool_array(pool, int16_panels_count(projection->units, projection->inputs), sizeof *panels);
    float *scale = pool_array(pool, projection->units + PANEL_UNITS, sizeof *scale);
    if (panels == NULL || scale == NULL)
        return out_of_memory(binder);
    if (!int16_pack(projection, panels, scale))
        return true;
    int32_t *columns = pool_array(pool, projection->units * ((projection->inputs + 1) / 2), sizeof *columns);
    if (columns == NULL)
        return out_of_memory(binder);
    projection->int16 = (struct int16_weights){panels, scale, NULL};
    int16_pack_columns(projection, columns);
    projection->int16.columns = columns;
    return true;
}

/* Bytes in place of its words. */
static bool pack_int8(struct binder *binder, bool sigmoids, struct projection *projection) {
    struct pool *pool = &binder->model->pool;
    int32_t *panels = pool_array(pool, int8_panels_count(projection->units, projection->inputs), sizeof *panels);
    float *scale = pool_array(pool, projection->units + PANEL_UNITS, sizeof *scale);
    int32_t *start = pool_array(pool, projection->units + PANEL_UNITS, sizeof *start);
    if (panels == NULL || scale == NULL || start == NULL)
        return out_of_memory(binder);
    int8_pack(projection, sigmoids, panels, scale, start);
    projection->int8 = (struct int8_weights){panels, scale, start};
    binder->model->reduced.int8 = true;
    return true;
}

/* Where what the attention network's layers leave is within 1: its first product and those behind sigmoids, as far as
 * that adds little noise to the attention score. Backwards, for the noise of a unit counts as much as what follows
 * makes of it: `gain` is the score's slope by each unit. */
static bool pack_attention_int8(struct binder *binder, float scale, struct attention *attention) {
    float gain[2][QUANTISED_INPUTS_MAX];
    size_t count = attention->layer_count;
    if (attention->product.int16.panels == NULL || !layers_keep_within_one(attention->layers, count))
        return true;
    int8_slopes(&attention->layers[count - 1].projection, KERNEL_LINEAR, &scale, gain[(count - 1) % 2]);
    for (size_t i = count - 1; i-- > 0;) {
        struct projection *projection = i > 0 ? &attention->layers[i].projection : &attention->product;
        bool sigmoids = i > 0 && attention->layers[i - 1].activation.kind == KERNEL_SIGMOID;
        enum kernel_activation kind = attention->layers[i].activation.kind;
        if ((i == 0 || sigmoids) && int8_noise(projection, sigmoids, kind, gain[(i + 1) % 2]) <= QUANTISED_NOISE_MAX &&
            !pack_int8(binder, sigmoids, projection))
            return false;
        int8_slopes(projection, kind, gain[(i + 1) % 2], gain[i % 2]);
    }
    return true;
}

static bool pack_layers(struct binder *binder, struct layer *layers, size_t first, size_t count) {
    for (size_t i = first; i < count; i++)
        if (!pack(binder, &layers[i].projection))
            return false;
    return true;
}

/* The recurrent products of a cell, for columns; `within_one`: its states are sure to be within 1. */
static bool pack_cell(struct binder *binder, bool within_one, struct cell *cell) {
    if (within_one && (!use_winograd(binder, &cell->gates) || !use_winograd(binder, &cell->candidate)))
        return false;
    return transpose(binder, &cell->gates, &cell->gates_column) &&
           (cell->reset_after || transpose(binder, &cell->candidate, &cell->candidate_column));
}

/* One that runs alone does so with the user state, column by column; else it runs with lanes. */
static bool pack_evolution(struct binder *binder, struct interest *interest) {
    bool alone = config_evolves_alone(interest->config), within_one = config_keeps_within_one(interest->config);
    struct cell *cell = &interest->evolution;
    if (!pack_cell(binder, alone || within_one, cell))
        return false;
    if (alone)
        return pack(binder, &interest->evolution_input);
    struct projection *const products[] = {&cell->gates, &cell->candidate};
    for (size_t i = 0; i < (cell->reset_after ? 1 : 2); i++)
        if (!pack(binder, products[i]) || (within_one && !pack_int16(binder, products[i])))
            return false;
    return transpose(binder, &interest->evolution_input, &interest->evolution_rows);
}

/* Where the attention's products have inputs that are sure to be small: q * k once the query is scaled, and what a
 * squashing activation leaves. */
static bool winograd_attention(struct binder *binder, struct attention *attention) {
    for (size_t i = 1; i < attention->layer_count; i++) {
        enum kernel_activation before = attention->layers[i - 1].activation.kind;
        if ((before == KERNEL_SIGMOID || before == KERNEL_TANH) &&
            !use_winograd(binder, &attention->layers[i].projection))
            return false;
    }
    return use_winograd(binder, &attention->product);
}

static bool pack_attention(struct binder *binder, float scale, struct attention *attention) {
    struct projection *const of_candidates[] = {&attention->query.projection, &attention->query_part};
    for (size_t i = 0; i < 2; i++)
        if (!pack(binder, of_candidates[i]) || !pack_narrow(binder, of_candidates[i]))
            return false;
    if (!winograd_attention(binder, attention) || !pack(binder, &attention->product) ||
        !pack_int16(binder, &attention->product))
        return false;
    for (size_t i = 1; i < attention->layer_count; i++)
        if (!pack_int16(binder, &attention->layers[i].projection))
            return false;
    return pack_layers(binder, attention->layers, 1, attention->layer_count) &&
           transpose(binder, &attention->key, &attention->key_rows) && pack_attention_int8(binder, scale, attention);
}

static bool pack_interest(struct binder *binder, struct interest *interest) {
    return pack(binder, &interest->extractor_input) && pack_cell(binder, true, &interest->extractor) &&
           pack_attention(binder, interest->config->attention.scale, &interest->attention) &&
           pack_evolution(binder, interest);
}

/* Whatever is multiplied with lanes. */
static bool pack_all(struct binder *binder) {
    struct dien_model *model = binder->model;
    for (size_t i = 0; i < model->config.interest_count; i++)
        if (!pack_interest(binder, &model->interests[i]))
            return false;
    for (size_t i = 0; i < model->mlp.layer_count; i++)
        if (!pack_narrow(binder, &model->mlp.layers[i].projection))
            return false;
    return pack_layers(binder, model->mlp.layers, 0, model->mlp.layer_count);
}

bool weights_bind(struct dien_model *model, struct dien_error *error) {
    struct binder binder = {model, error};
    if (!bind_inputs(&binder) || !bind_interests(&binder) || !bind_mlp(&binder) || !pack_all(&binder))
        return false;
    const struct tensor *unused = safetensors_unused(&model->file);
    if (unused != NULL)
        return FAIL(&binder, "%.200s: config.json asks for no such tensor", unused->name);
    return true;
}
