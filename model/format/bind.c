/* bind.c: bind tensors to the config: check each one's type, shape and values.
 *
 * Tables, vocabularies and attribute maps stay in the mapping. The network's own weights are small and are copied, so
 * that they are aligned.
 */
#include "model/format/bind.h"

#include "model/error.h"
#include "model/sizes.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct binder {
    struct dien_model *model;
    struct dien_error *error;
};

#define FAIL(binder, ...) dien_fail((binder)->error, "model.safetensors: " __VA_ARGS__)

struct name {
    char text[256];
};

static struct name tensor_name(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct name tensor_name(const char *format, ...) {
    struct name name;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(name.text, sizeof name.text, format, arguments);
    va_end(arguments);
    return name;
}

/* ---- tensors by name ---- */

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

/* The scans below go block by block without a branch inside. Compilers turn that into vectors, which read a table at
 * the speed of memory. */
enum { SCAN_BLOCK = 4096 };

static bool is_finite(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x7f800000U) != 0x7f800000U;
}

/* The index of the first infinity or NaN; count if there is none. */
static size_t first_not_finite(const float *values, size_t count) {
    for (size_t start = 0; start < count; start += SCAN_BLOCK) {
        size_t end = size_min(start + SCAN_BLOCK, count);
        unsigned bad = 0;
        for (size_t i = start; i < end; i++)
            bad |= !is_finite(values[i]);
        for (size_t i = start; bad != 0 && i < end; i++)
            if (!is_finite(values[i]))
                return i;
    }
    return count;
}

/* The index of the first row that is not in [lowest, rows_max); count if there is none. */
static size_t first_bad_row(const int32_t *rows, size_t count, int32_t lowest, size_t rows_max) {
    int32_t last = (int32_t)(rows_max - 1);
    for (size_t start = 0; start < count; start += SCAN_BLOCK) {
        size_t end = size_min(start + SCAN_BLOCK, count);
        unsigned bad = 0;
        for (size_t i = start; i < end; i++)
            bad |= (unsigned)(rows[i] < lowest) | (unsigned)(rows[i] > last);
        for (size_t i = start; bad != 0 && i < end; i++)
            if (rows[i] < lowest || rows[i] > last)
                return i;
    }
    return count;
}

/* Find the finite weights PREFIX.SUFFIX of that shape, in the mapping. */
static bool find_floats(struct binder *binder, const char *prefix, const char *suffix, size_t rows, size_t columns,
                        const float **floats) {
    struct name name = tensor_name("%s%s", prefix, suffix);
    const struct tensor *tensor = find_shaped(binder, name.text, TENSOR_F32, rows, columns);
    if (tensor == NULL)
        return false;
    size_t count = tensor->bytes / sizeof **floats, bad = first_not_finite(tensor->data, count);
    *floats = tensor->data;
    return bad == count || FAIL(binder, "%s: element %zu is not a finite number", name.text, bad);
}

/* find_floats(), into an aligned copy. */
static bool copy_floats(struct binder *binder, const char *prefix, const char *suffix, size_t rows, size_t columns,
                        const float **floats) {
    const float *mapped = NULL;
    if (!find_floats(binder, prefix, suffix, rows, columns, &mapped))
        return false;
    size_t count = rows * size_max(columns, 1);
    float *copy = pool_floats(&binder->model->pool, count, 1);
    if (copy == NULL)
        return dien_out_of_memory(binder->error);
    memcpy(copy, mapped, count * sizeof *copy);
    *floats = copy;
    return true;
}

/* ---- tables, vocabularies, fields ---- */

static bool bind_table(struct binder *binder, const struct table_config *config, struct table *table) {
    /* Scanning a larger table would cost the instant start that mapping it gives. Its values are checked on use: a
     * score that is not a number is never answered. */
    const size_t scan_bytes_max = 64 << 20;
    struct name name = tensor_name("tables.%s", config->name);
    const struct tensor *tensor = find(binder, name.text);
    if (tensor == NULL)
        return false;
    enum tensor_type type = tensor->type;
    if (type != TENSOR_F32 && type != TENSOR_F16 && type != TENSOR_BF16 && type != TENSOR_I8)
        return FAIL(binder, "%s: dtype is %s, must be F32, F16, BF16 or I8", name.text, tensor_type_name(type));
    if (find_shaped(binder, name.text, type, config->rows, config->width) == NULL)
        return false;
    *table = (struct table){.type = type, .rows = config->rows, .width = config->width, .data = tensor->data};
    if (type == TENSOR_I8)
        return find_floats(binder, name.text, ".scale", config->rows, 0, &table->scale);

    size_t count = config->rows * config->width, bad = 0;
    if (tensor->bytes > scan_bytes_max)
        return true;
    if (type == TENSOR_F32)
        bad = first_not_finite(tensor->data, count);
    else { /* infinities and NaN have all bits of the exponent set */
        const uint16_t *values = tensor->data;
        uint16_t exponent = type == TENSOR_F16 ? 0x7c00 : 0x7f80;
        while (bad < count && (values[bad] & exponent) != exponent)
            bad++;
    }
    return bad == count || FAIL(binder, "%s: element %zu is not a finite number", name.text, bad);
}

static bool bind_vocabulary(struct binder *binder, const struct vocabulary_config *config,
                            struct vocabulary *vocabulary) {
    struct name prefix = tensor_name("vocabularies.%s", config->name), name = tensor_name("%s.slots", prefix.text);
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
    if (!config->strings) {
        name = tensor_name("%s.keys", prefix.text);
        const struct tensor *keys = find(binder, name.text);
        vocabulary->is_unsigned = keys != NULL && keys->type == TENSOR_U64;
        keys = find_shaped(binder, name.text, vocabulary->is_unsigned ? TENSOR_U64 : TENSOR_I64, config->entries, 0);
        vocabulary->keys = keys != NULL ? keys->data : NULL;
        return keys != NULL;
    }

    name = tensor_name("%s.offsets", prefix.text);
    const struct tensor *offsets = find_shaped(binder, name.text, TENSOR_I64, config->entries + 1, 0);
    name = tensor_name("%s.bytes", prefix.text);
    const struct tensor *bytes = offsets != NULL ? find(binder, name.text) : NULL;
    if (bytes == NULL)
        return false;
    if (bytes->type != TENSOR_U8 || bytes->rank != 1)
        return FAIL(binder, "%s: must be a vector of U8", name.text);
    vocabulary->offsets = offsets->data;
    vocabulary->bytes = bytes->data;
    vocabulary->byte_count = bytes->bytes;
    int64_t first = vocabulary->offsets[0], last = vocabulary->offsets[config->entries];
    return (first == 0 && last >= 0 && (uint64_t)last == bytes->bytes) ||
           FAIL(binder, "%s.offsets: must run from 0 to the %zu bytes of %s", prefix.text, bytes->bytes, name.text);
}

/* Attribute maps are scanned at start, so that a row outside its table is found now and not by a request. */
static bool bind_attribute(struct binder *binder, const struct field_config *field, struct attribute_map *map) {
    const struct config *config = &binder->model->config;
    size_t parent_rows = config->tables[config->fields[field->parent].table].rows;
    struct name name = tensor_name("attributes.%s", field->name);
    if (field->dense)
        return find_floats(binder, name.text, "", parent_rows, field->width, &map->values);
    const struct tensor *tensor = find_shaped(binder, name.text, TENSOR_I32, parent_rows, field->values);
    if (tensor == NULL)
        return false;
    const struct table_config *table = &config->tables[field->table];
    map->rows = tensor->data;
    size_t count = parent_rows * size_max(field->values, 1);
    size_t bad = first_bad_row(map->rows, count, field->values > 0 ? -1 : 0, table->rows);
    return bad == count || FAIL(binder, "%s: element %zu is %d, the table \"%s\" has %zu rows", name.text, bad,
                                map->rows[bad], table->name, table->rows);
}

/* A vector of some fields of a group. */
static bool bind_vector(struct binder *binder, enum dien_group group, const size_t *columns, size_t count,
                        struct vector *vector) {
    struct dien_model *model = binder->model;
    *vector = (struct vector){.count = count, .parts = pool_array(&model->pool, count, sizeof *vector->parts)};
    if (vector->parts == NULL)
        return dien_out_of_memory(binder->error);
    for (size_t i = 0; i < count; i++) {
        size_t column = columns != NULL ? columns[i] : i;
        const struct embedding *embedding = &model->embeddings[model->config.groups[group].items[column]];
        vector->parts[i] = (struct vector_part){embedding, column, vector->width, vector->value_bytes};
        vector->width += embedding->width;
        vector->value_bytes += embedding->value_bytes;
    }
    return true;
}

static bool bind_fields(struct binder *binder) {
    struct dien_model *model = binder->model;
    const struct config *config = &model->config;
    model->tables = pool_array(&model->pool, config->table_count, sizeof *model->tables);
    model->vocabularies = pool_array(&model->pool, config->vocabulary_count, sizeof *model->vocabularies);
    model->attributes = pool_array(&model->pool, config->field_count, sizeof *model->attributes);
    model->embeddings = pool_array(&model->pool, config->field_count + 1, sizeof *model->embeddings);
    if (model->tables == NULL || model->vocabularies == NULL || model->attributes == NULL || model->embeddings == NULL)
        return dien_out_of_memory(binder->error);
    for (size_t i = 0; i < config->table_count; i++)
        if (!bind_table(binder, &config->tables[i], &model->tables[i]))
            return false;
    for (size_t i = 0; i < config->vocabulary_count; i++)
        if (!bind_vocabulary(binder, &config->vocabularies[i], &model->vocabularies[i]))
            return false;
    for (size_t i = 0; i < config->field_count; i++) {
        const struct field_config *field = &config->fields[i];
        struct embedding *embedding = &model->embeddings[i];
        if (field->parent != CONFIG_NONE && !bind_attribute(binder, field, &model->attributes[i]))
            return false;
        embedding->width = config_field_width(config, i);
        embedding->table = field->dense ? NULL : &model->tables[field->table];
        embedding->numbers = field->width;
        embedding->rows = size_max(field->values, 1);
        embedding->is_pooled = field->values > 0;
        embedding->pool = field->pool;
        embedding->value_bytes = field->dense ? field->width * sizeof(float) : embedding->rows * sizeof(int32_t);
        if (field->units > 0 && !copy_floats(binder, tensor_name("dense.%s", field->name).text, ".weight", field->units,
                                             field->width, &embedding->weight))
            return false;
    }
    if (config->bias_index != CONFIG_NONE) {
        struct embedding *bias = &model->embeddings[config->field_count];
        *bias = (struct embedding){
            .width = 1, .value_bytes = sizeof(int32_t), .rows = 1, .table = &model->tables[config->bias_table]};
        model->bias = bias;
    }
    return bind_vector(binder, DIEN_CANDIDATE, NULL, config->groups[DIEN_CANDIDATE].count, &model->candidate);
}

/* ---- layers and cells ---- */

static bool bind_layer(struct binder *binder, const char *prefix, const struct layer_config *config, size_t inputs,
                       struct layer *layer) {
    static const enum kernel_activation kinds[] = {
        [ACTIVATION_LINEAR] = KERNEL_LINEAR,   [ACTIVATION_RELU] = KERNEL_RELU,
        [ACTIVATION_SIGMOID] = KERNEL_SIGMOID, [ACTIVATION_TANH] = KERNEL_TANH,
        [ACTIVATION_SILU] = KERNEL_SILU,       [ACTIVATION_PRELU] = KERNEL_PRELU,
        [ACTIVATION_DICE] = KERNEL_DICE,       [ACTIVATION_DICE_ROW] = KERNEL_DICE_ROW};
    struct projection *projection = &layer->projection;
    struct activation_parameters *activation = &layer->activation;
    size_t units = config->units;
    bool dice = config->activation == ACTIVATION_DICE;
    bool alpha = dice || config->activation == ACTIVATION_PRELU || config->activation == ACTIVATION_DICE_ROW;
    *projection = (struct projection){.units = units, .inputs = inputs};
    *activation = (struct activation_parameters){.kind = kinds[config->activation], .epsilon = config->epsilon};
    return copy_floats(binder, prefix, ".weight", units, inputs, &projection->weight) &&
           copy_floats(binder, prefix, ".bias", units, 0, &projection->bias) &&
           (!alpha || copy_floats(binder, prefix, ".alpha", units, 0, &activation->alpha)) &&
           (!dice || (copy_floats(binder, prefix, ".gain", units, 0, &activation->gain) &&
                      copy_floats(binder, prefix, ".offset", units, 0, &activation->offset)));
}

/* Layers PREFIX.0, PREFIX.1, ... of which the first has so many inputs. */
static bool bind_layers(struct binder *binder, const char *prefix, const struct layer_config *configs, size_t count,
                        size_t inputs, struct layer **layers) {
    *layers = pool_array(&binder->model->pool, count, sizeof **layers);
    if (*layers == NULL)
        return dien_out_of_memory(binder->error);
    for (size_t i = 0; i < count; i++) {
        if (!bind_layer(binder, tensor_name("%s.%zu", prefix, i).text, &configs[i], inputs, &(*layers)[i]))
            return false;
        inputs = configs[i].units;
    }
    return true;
}

/* A cell; `input` is its projection of the inputs, and the cell itself keeps the recurrent weights (kernels.h). */
static bool bind_cell(struct binder *binder, const char *prefix, const struct cell_config *config, size_t inputs,
                      struct projection *input, struct cell *cell) {
    size_t units = config->units;
    bool reset_after = config->reset == RESET_AFTER;
    const float *recurrent = NULL, *bias_hidden = NULL;
    *input = (struct projection){.units = 3 * units, .inputs = inputs};
    if (!copy_floats(binder, prefix, ".weight_input", 3 * units, inputs, &input->weight) ||
        !copy_floats(binder, prefix, ".weight_hidden", 3 * units, units, &recurrent) ||
        !copy_floats(binder, prefix, ".bias", 3 * units, 0, &input->bias) ||
        (reset_after && !find_floats(binder, prefix, ".bias_hidden", units, 0, &bias_hidden)))
        return false;
    float *bias = pool_floats(&binder->model->pool, 3 * units, 1);
    if (bias == NULL)
        return dien_out_of_memory(binder->error);
    if (reset_after)
        memcpy(bias + 2 * units, bias_hidden, units * sizeof *bias);
    *cell = (struct cell){
        .units = units,
        .reset_after = reset_after,
        .gates = {.units = (reset_after ? 3 : 2) * units, .inputs = units, .weight = recurrent, .bias = bias},
        .candidate = {.units = units, .inputs = units, .weight = recurrent + 2 * units * units, .bias = bias}};
    return true;
}

static bool bind_attention(struct binder *binder, const char *prefix, const struct interest_config *interest,
                           size_t target_width, struct attention *attention) {
    const struct attention_config *config = &interest->attention;
    if (config->kind == ATTENTION_NONE)
        return true;
    attention->has_query = config->has_query;
    attention->query_units = config->has_query ? config->query.units : target_width;
    attention->key_width = config_key_width(interest);
    attention->layer_count = config->layer_count;
    if (config->has_query &&
        !bind_layer(binder, tensor_name("%s.query", prefix).text, &config->query, target_width, &attention->query))
        return false;
    if (config->kind == ATTENTION_BILINEAR)
        return find_floats(binder, prefix, ".matrix", attention->key_width, attention->query_units, &attention->matrix);
    return config->kind == ATTENTION_DOT ||
           bind_layers(binder, tensor_name("%s.layers", prefix).text, config->layers, config->layer_count,
                       4 * attention->key_width, &attention->layers);
}

static bool bind_interests(struct binder *binder) {
    static const enum kernel_write writes[] = {
        [CELL_GRU] = WRITE_UPDATE,     [CELL_GRU_POOLING] = WRITE_UPDATE, [CELL_AUGRU_AND] = WRITE_AND,
        [CELL_AUGRU_OR] = WRITE_OR,    [CELL_AGRU] = WRITE_ATTENTION,     [CELL_AIGRU] = WRITE_UPDATE,
        [CELL_AUGRU_KEEP] = WRITE_KEEP};
    struct dien_model *model = binder->model;
    size_t evolution_units = 0;
    model->interests = pool_array(&model->pool, model->config.interest_count, sizeof *model->interests);
    if (model->interests == NULL)
        return dien_out_of_memory(binder->error);
    for (size_t i = 0; i < model->config.interest_count; i++) {
        const struct interest_config *config = &model->config.interests[i];
        struct interest *interest = &model->interests[i];
        struct name prefix = tensor_name("interests.%s", config->name);
        interest->config = config;
        interest->write = writes[config->evolution.kind];
        interest->final_offset = evolution_units;
        evolution_units += config->evolution.units;
        if (!bind_vector(binder, DIEN_BEHAVIOUR, config->history.items, config->history.count, &interest->history) ||
            !bind_vector(binder, DIEN_CANDIDATE, config->target.items, config->target.count, &interest->target) ||
            !bind_cell(binder, tensor_name("%s.extractor", prefix.text).text, &config->extractor,
                       interest->history.width, &interest->extractor_input, &interest->extractor) ||
            !bind_attention(binder, tensor_name("%s.attention", prefix.text).text, config, interest->target.width,
                            &interest->attention) ||
            !bind_cell(binder, tensor_name("%s.evolution", prefix.text).text, &config->evolution,
                       config->extractor.units, &interest->evolution_input, &interest->evolution))
            return false;
    }
    return true;
}

/* ---- the MLP ---- */

/* Sort the inputs into shared ones and those of a lane, each kind in the config's order, and bind the layers. */
static bool bind_mlp(struct binder *binder) {
    struct dien_model *model = binder->model;
    const struct config *config = &model->config;
    struct mlp *mlp = &model->mlp;
    mlp->shared = pool_array(&model->pool, config->input_count, sizeof *mlp->shared);
    mlp->lane = pool_array(&model->pool, config->input_count, sizeof *mlp->lane);
    if (mlp->shared == NULL || mlp->lane == NULL)
        return dien_out_of_memory(binder->error);
    for (size_t i = 0; i < config->input_count; i++) {
        struct mlp_input input = {.kind = config->inputs[i].kind, .index = config->inputs[i].index};
        switch (input.kind) {
        case INPUT_USER:
            input.embedding = &model->embeddings[config->groups[DIEN_USER].items[input.index]];
            input.width = input.embedding->width;
            break;
        case INPUT_CONTEXT:
            input.embedding = &model->embeddings[config->groups[DIEN_CONTEXT].items[input.index]];
            input.width = input.embedding->width;
            break;
        case INPUT_CANDIDATE:
            input.width = model->candidate.parts[input.index].embedding->width;
            break;
        case INPUT_INTEREST:
            input.width = model->interests[input.index].evolution.units;
            break;
        case INPUT_HISTORY_SUM:
        case INPUT_PRODUCT:
            input.width = model->interests[input.index].history.width;
            break;
        }
        bool shared = input.embedding != NULL || input.kind == INPUT_HISTORY_SUM;
        size_t *width = shared ? &mlp->shared_width : &mlp->lane_width;
        input.column = mlp->shared_width + mlp->lane_width;
        input.offset = *width;
        *width += input.width;
        *(shared ? &mlp->shared[mlp->shared_count++] : &mlp->lane[mlp->lane_count++]) = input;
    }
    mlp->layer_count = config->layer_count;
    return bind_layers(binder, "mlp.layers", config->layers, config->layer_count, mlp->shared_width + mlp->lane_width,
                       &mlp->layers);
}

bool model_bind(struct dien_model *model, struct dien_error *error) {
    struct binder binder = {model, error};
    if (!bind_fields(&binder) || !bind_interests(&binder) || !bind_mlp(&binder))
        return false;
    const struct tensor *unused = safetensors_unused(&model->file);
    return unused == NULL || FAIL(&binder, "%.200s: config.json asks for no such tensor", unused->name);
}
