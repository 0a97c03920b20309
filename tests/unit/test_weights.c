/* test_weights.c: bind and pack: each tensor left out, of another type or shape, or not finite is refused by its name;
 * the weights are split and laid out as bind.h says.
 */
#include "model/format/pack.h"
#include "tests/unit/model_file.h"

#include <math.h>

enum { TENSORS_MAX = 128, ITEMS = 5000 };

/* ---- the tensors of small_config(), with ITEMS rows in the tables of items ---- */

struct source {
    char name[64];
    enum tensor_type type;
    size_t rank, shape[TENSOR_RANK_MAX];
    uint8_t *data; /* of the shape that it was made with */
    size_t bytes;
    bool left_out;
};

struct sources {
    size_t count;
    struct source tensors[TENSORS_MAX];
};

static size_t element_size(enum tensor_type type) {
    const size_t sizes[] = {[TENSOR_F32] = 4, [TENSOR_F16] = 2, [TENSOR_BF16] = 2, [TENSOR_I8] = 1,
                            [TENSOR_U8] = 1,  [TENSOR_I32] = 4, [TENSOR_I64] = 8};
    return sizes[type];
}

static struct source *find_source(struct sources *sources, const char *name) {
    for (size_t i = 0; i < sources->count; i++)
        if (strcmp(sources->tensors[i].name, name) == 0)
            return &sources->tensors[i];
    fail_msg("%s: no such tensor", name);
    return NULL;
}

/* A tensor of zeros; columns 0 stands for a vector. Floats get values of their own in [-1, 1). */
static void add(struct sources *sources, const char *name, enum tensor_type type, size_t rows, size_t columns) {
    assert_true(sources->count < TENSORS_MAX);
    struct source *source = &sources->tensors[sources->count++];
    size_t count = rows * (columns > 0 ? columns : 1);
    *source = (struct source){.type = type, .rank = columns > 0 ? 2 : 1, .shape = {rows, columns}};
    snprintf(source->name, sizeof source->name, "%s", name);
    source->bytes = count * element_size(type);
    source->data = calloc(source->bytes + 1, 1);
    assert_non_null(source->data);
    for (size_t i = 0; i < count && type == TENSOR_F32; i++)
        ((float *)(void *)source->data)[i] = (float)(rand() % 4096 - 2048) / 2048;
}

static void add_layer(struct sources *sources, const char *prefix, size_t units, size_t inputs, const char *more) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add(sources, name, TENSOR_F32, units, inputs);
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(sources, name, TENSOR_F32, units, 0);
    for (; *more != '\0'; more += strlen(more) + 1) {
        snprintf(name, sizeof name, "%s.%s", prefix, more);
        add(sources, name, TENSOR_F32, units, 0);
    }
}

static void add_cell(struct sources *sources, const char *prefix, size_t units, size_t inputs, bool reset_after) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight_input", prefix);
    add(sources, name, TENSOR_F32, 3 * units, inputs);
    snprintf(name, sizeof name, "%s.weight_hidden", prefix);
    add(sources, name, TENSOR_F32, 3 * units, units);
    snprintf(name, sizeof name, "%s.bias", prefix);
    add(sources, name, TENSOR_F32, 3 * units, 0);
    snprintf(name, sizeof name, "%s.bias_hidden", prefix);
    if (reset_after)
        add(sources, name, TENSOR_F32, units, 0);
}

static struct sources *new_sources(void) {
    struct sources *sources = calloc(1, sizeof *sources);
    assert_non_null(sources);
    srand(1);
    add(sources, "tables.item", TENSOR_F16, ITEMS, 2);
    add(sources, "tables.shop", TENSOR_I8, 3, 1);
    add(sources, "tables.shop.scale", TENSOR_F32, 3, 0);
    add(sources, "tables.country", TENSOR_BF16, 2, 1);
    add(sources, "tables.bias", TENSOR_F32, ITEMS, 1);
    add(sources, "vocabularies.item.slots", TENSOR_I32, 4, 0);
    add(sources, "vocabularies.item.offsets", TENSOR_I64, 4, 0);
    add(sources, "vocabularies.item.bytes", TENSOR_U8, 6, 0);
    memcpy(find_source(sources, "vocabularies.item.offsets")->data, (int64_t[]){0, 1, 3, 6}, 32);
    add(sources, "vocabularies.shop.slots", TENSOR_I32, 4, 0);
    add(sources, "vocabularies.shop.keys", TENSOR_I64, 2, 0);
    add(sources, "attributes.shop", TENSOR_I32, ITEMS, 0);
    add(sources, "attributes.price", TENSOR_F32, ITEMS, 2);
    add(sources, "dense.price.weight", TENSOR_F32, 3, 2);
    add_cell(sources, "interests.clicks.extractor", 4, 3, true);
    add_layer(sources, "interests.clicks.attention.query", 4, 3, "alpha\0");
    add_layer(sources, "interests.clicks.attention.layers.0", 5, 16, "alpha\0gain\0offset\0");
    add_layer(sources, "interests.clicks.attention.layers.1", 1, 5, "");
    add_cell(sources, "interests.clicks.evolution", 2, 4, false);
    add_cell(sources, "interests.looks.extractor", 3, 2, false);
    add(sources, "interests.looks.attention.matrix", TENSOR_F32, 3, 2);
    add_cell(sources, "interests.looks.evolution", 3, 3, true);
    add_cell(sources, "interests.plain.extractor", 2, 2, true);
    add_cell(sources, "interests.plain.evolution", 5, 2, true);
    add_cell(sources, "interests.pool.extractor", 6, 2, true);
    add_cell(sources, "interests.pool.evolution", 2, 6, true);
    add_layer(sources, "mlp.layers.0", 3, 19, "alpha\0");
    add_layer(sources, "mlp.layers.1", 2, 3, "");
    return sources;
}

static void free_sources(struct sources *sources) {
    for (size_t i = 0; i < sources->count; i++)
        free(sources->tensors[i].data);
    free(sources);
}

/* ---- a file of them, and a model of that ---- */

/* Wide elements first, so that all are aligned. Shapes are written as they are now; data is zero where they grew. */
static struct memory_file write_sources(const struct sources *sources) {
    static char header[TENSORS_MAX * 256], data[1 << 20];
    memset(data, 0, sizeof data);
    size_t length = 0, end = 0;
    header[length++] = '{';
    for (size_t size = 8; size > 0; size /= 2)
        for (size_t i = 0; i < sources->count; i++) {
            const struct source *source = &sources->tensors[i];
            if (source->left_out || element_size(source->type) != size)
                continue;
            char shape[128] = "";
            size_t bytes = size;
            for (size_t j = 0; j < source->rank; j++) {
                size_t used = strlen(shape);
                snprintf(shape + used, sizeof shape - used, "%s%zu", j > 0 ? ", " : "", source->shape[j]);
                bytes *= source->shape[j];
            }
            length += (size_t)sprintf(
                header + length, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}",
                length > 1 ? ", " : "", source->name, tensor_type_name(source->type), shape, end, end + bytes);
            assert_true(end + bytes <= sizeof data);
            memcpy(data + end, source->data, bytes < source->bytes ? bytes : source->bytes);
            end += bytes;
        }
    header[length++] = '}';
    while (length % 8 != 0)
        header[length++] = ' ';
    char *file = calloc(1, 8 + length + end);
    assert_non_null(file);
    memcpy(file, &(uint64_t){length}, 8);
    memcpy(file + 8, header, length);
    memcpy(file + 8 + length, data, end);
    struct memory_file memory = open_memory_file(file, 8 + length + end);
    free(file);
    return memory;
}

/* small_config() with ITEMS rows in the tables that had 4. */
static struct memory_file write_config(void) {
    char text[16384] = "";
    const char *rest = small_config(), *found;
    for (; (found = strstr(rest, "\"rows\": 4")) != NULL; rest = found + strlen("\"rows\": 4"))
        snprintf(text + strlen(text), sizeof text - strlen(text), "%.*s\"rows\": %d", (int)(found - rest), rest, ITEMS);
    snprintf(text + strlen(text), sizeof text - strlen(text), "%s", rest);
    return open_memory_file(text, strlen(text));
}

static bool bind(const struct sources *sources, struct dien_model *model, struct dien_error *error) {
    struct memory_file config = write_config(), file = write_sources(sources);
    *model = (struct dien_model){.kernels = &kernels_ref};
    *error = (struct dien_error){""};
    bool good = config_read(&model->config, config.path, &model->pool, error) &&
                safetensors_open(&model->file, file.path, error) && model_bind(model, error);
    close(config.descriptor);
    close(file.descriptor);
    return good;
}

static void free_model(struct dien_model *model) {
    safetensors_close(&model->file);
    pool_free(&model->pool);
}

static void assert_refused(const char *name, const struct sources *sources, const char *expected) {
    static struct dien_model model;
    struct dien_error error;
    if (bind(sources, &model, &error))
        fail_msg("%s: accepted", name);
    assert_message(name, error.message, expected);
    free_model(&model);
}

/* ---- tensors that are wrong ---- */

static void test_each_tensor_left_out(void **state) {
    (void)state;
    struct sources *sources = new_sources();
    for (size_t i = 0; i < sources->count; i++) {
        struct source *source = &sources->tensors[i];
        char expected[128];
        snprintf(expected, sizeof expected, "model.safetensors: %s: missing", source->name);
        source->left_out = true;
        assert_refused(source->name, sources, expected);
        source->left_out = false;
    }
    free_sources(sources);
}

static void test_each_tensor_of_another_type(void **state) {
    (void)state;
    struct sources *sources = new_sources();
    for (size_t i = 0; i < sources->count; i++) {
        struct source *source = &sources->tensors[i];
        enum tensor_type type = source->type;
        char expected[128];
        source->type = type == TENSOR_I32 ? TENSOR_F32 : TENSOR_I32;
        if (strstr(source->name, ".slots") != NULL)
            snprintf(expected, sizeof expected, "%s: must be a vector of I32", source->name);
        else if (strstr(source->name, ".bytes") != NULL)
            snprintf(expected, sizeof expected, "%s: must be a vector of U8", source->name);
        else
            snprintf(expected, sizeof expected, "%s: dtype is %s, must be ", source->name,
                     tensor_type_name(source->type));
        assert_refused(source->name, sources, expected);
        source->type = type;
    }
    free_sources(sources);
}

/* One row more, one column more, one dimension more. */
static void test_each_tensor_of_another_shape(void **state) {
    (void)state;
    struct sources *sources = new_sources();
    for (size_t i = 0; i < sources->count; i++)
        for (size_t way = 0; way < 3; way++) {
            struct source *source = &sources->tensors[i], whole = *source;
            char expected[128];
            bool slots = strstr(source->name, ".slots") != NULL, bytes = strstr(source->name, ".bytes") != NULL;
            if (way == 2) {
                source->shape[source->rank++] = 1;
            } else if (way < source->rank)
                source->shape[way]++;
            else
                continue;
            if (slots || (bytes && way == 2))
                snprintf(expected, sizeof expected, "%s: must be a vector", source->name);
            else if (bytes)
                snprintf(expected, sizeof expected, "vocabularies.item.offsets: must run from 0 to the 7 bytes");
            else
                snprintf(expected, sizeof expected, "%s: shape has rank %zu and starts with %zu, must be [%zu",
                         source->name, source->rank, source->shape[0], whole.shape[0]);
            assert_refused(source->name, sources, expected);
            *source = whole;
        }
    free_sources(sources);
}

static void test_each_float_that_is_not_finite(void **state) {
    (void)state;
    struct sources *sources = new_sources();
    for (size_t i = 0; i < sources->count; i++) {
        struct source *source = &sources->tensors[i];
        size_t size = element_size(source->type), count = source->bytes / size;
        const size_t places[] = {0, count - 1, count > 4096 ? 4095 : 0, count > 4096 ? 4096 : 0};
        const uint16_t half[] = {0x7c00, 0xfe01}, brain[] = {0xff80, 0x7f81};
        const float floats[] = {-INFINITY, NAN};
        const void *patterns = source->type == TENSOR_F32   ? (const void *)floats
                               : source->type == TENSOR_F16 ? (const void *)half
                                                            : (const void *)brain;
        if (source->type != TENSOR_F32 && source->type != TENSOR_F16 && source->type != TENSOR_BF16)
            continue;
        for (size_t j = 0; j < 8; j++) {
            uint8_t saved[4], *element = source->data + places[j / 2] * size;
            char expected[128];
            memcpy(saved, element, size);
            memcpy(element, (const uint8_t *)patterns + j % 2 * size, size);
            snprintf(expected, sizeof expected, "model.safetensors: %s: element %zu is not a finite number",
                     source->name, places[j / 2]);
            assert_refused(source->name, sources, expected);
            memcpy(element, saved, size);
        }
    }
    free_sources(sources);
}

static void test_attribute_rows_outside_their_table(void **state) {
    (void)state;
    struct sources *sources = new_sources();
    int32_t *rows = (int32_t *)(void *)find_source(sources, "attributes.shop")->data;
    const int32_t bad[] = {-1, 3, INT32_MIN, INT32_MAX};
    const size_t places[] = {0, 4095, 4096, ITEMS - 1};
    for (size_t i = 0; i < 16; i++) {
        char expected[128];
        snprintf(expected, sizeof expected, "attributes.shop: element %zu is %d, the table \"shop\" has 3 rows",
                 places[i / 4], bad[i % 4]);
        rows[places[i / 4]] = bad[i % 4];
        assert_refused("attributes.shop", sources, expected);
        rows[places[i / 4]] = 2;
    }
    free_sources(sources);
}

static void test_vocabularies_that_do_not_fit(void **state) {
    (void)state;
    struct sources *sources = new_sources();
    struct source *slots = find_source(sources, "vocabularies.item.slots");
    const struct {
        size_t count;
        const char *expected;
    } counts[] = {{0, "item.slots: must be a vector of I32 whose length is a power of two"},
                  {3, "item.slots: must be a vector of I32 whose length is a power of two"},
                  {1, "item.slots: 1 slots are too few for 3 entries and a probe of 2"},
                  {2, "item.slots: 2 slots are too few for 3 entries and a probe of 2"}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        slots->shape[0] = counts[i].count;
        assert_refused("slots", sources, counts[i].expected);
    }
    slots->shape[0] = 4;
    int64_t *offsets = (int64_t *)(void *)find_source(sources, "vocabularies.item.offsets")->data;
    const int64_t ends[][2] = {{1, 6}, {0, 5}, {0, 7}, {0, -6}, {-1, 6}};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        offsets[0] = ends[i][0];
        offsets[3] = ends[i][1];
        assert_refused("offsets", sources,
                       "vocabularies.item.offsets: must run from 0 to the 6 bytes of "
                       "vocabularies.item.bytes");
    }
    free_sources(sources);
}

/* A quarter of the slots is empty, so that every search ends. */
static void test_vocabularies_without_empty_slots(void **state) {
    (void)state;
    static struct dien_model model;
    struct sources *sources = new_sources();
    struct dien_error error;
    assert_true(bind(sources, &model, &error));
    model.config.vocabularies[0].entries = 4;
    assert_false(model_bind(&model, &error));
    assert_message("4 entries", error.message, "item.slots: 4 slots are too few for 4 entries and a probe of 2");
    free_model(&model);
    free_sources(sources);
}

static void test_tensors_that_nobody_asks_for(void **state) {
    (void)state;
    struct sources *sources = new_sources();
    add(sources, "mlp.layers.0.wieght", TENSOR_F32, 1, 0);
    assert_refused("a misspelt tensor", sources,
                   "model.safetensors: mlp.layers.0.wieght: config.json asks for no such tensor");
    free_sources(sources);
}

/* ---- a model that is right ---- */

static struct dien_model good;
static struct sources *good_sources;

static int open_good(void **state) {
    (void)state;
    struct dien_error error;
    good_sources = new_sources();
    if (bind(good_sources, &good, &error) && model_pack(&good))
        return 0;
    print_error("%s\n", error.message);
    return -1;
}

static int close_good(void **state) {
    (void)state;
    free_model(&good);
    free_sources(good_sources);
    return 0;
}

static const float *floats_of(const char *name) {
    return (const float *)(const void *)find_source(good_sources, name)->data;
}

static void test_binds_tables_and_fields(void **state) {
    (void)state;
    const enum tensor_type types[] = {TENSOR_F16, TENSOR_I8, TENSOR_BF16, TENSOR_F32};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(good.tables[i].type, types[i]);
        assert_int_equal(good.tables[i].scale != NULL, types[i] == TENSOR_I8);
    }
    assert_memory_equal(good.tables[3].data, floats_of("tables.bias"), ITEMS * sizeof(float));
    assert_memory_equal(good.tables[1].scale, floats_of("tables.shop.scale"), 3 * sizeof(float));
    assert_int_equal(good.vocabularies[0].slot_mask, 3);
    assert_int_equal(good.vocabularies[0].byte_count, 6);
    assert_true(good.vocabularies[0].keys == NULL && good.vocabularies[1].keys != NULL);
    assert_int_equal(good.vocabularies[0].probe, 2);
    assert_int_equal(good.vocabularies[1].entries, 2);
    assert_non_null(good.attributes[1].rows);
    assert_memory_equal(good.attributes[2].values, floats_of("attributes.price"), sizeof(float) * 2 * ITEMS);

    const struct embedding *item = &good.embeddings[0], *price = &good.embeddings[2];
    assert_true(item->table == &good.tables[0] && price->table == NULL);
    assert_int_equal(item->value_bytes, sizeof(int32_t));
    assert_int_equal(price->value_bytes, 2 * sizeof(float));
    assert_int_equal(price->numbers, 2);
    assert_int_equal(price->width, 3);
    assert_memory_equal(price->weight, floats_of("dense.price.weight"), 6 * sizeof(float));
    assert_true(good.bias != NULL && good.bias->table == &good.tables[3] && good.bias->width == 1);
}

static void test_lays_out_vectors(void **state) {
    (void)state;
    const struct vector *candidate = &good.candidate, *history = &good.interests[0].history;
    const struct vector *target = &good.interests[0].target;
    assert_int_equal(candidate->count, 2);
    assert_int_equal(candidate->width, 3);
    assert_int_equal(candidate->parts[0].offset, 0); /* "shop", of width 1 */
    assert_int_equal(candidate->parts[1].offset, 1);
    assert_int_equal(history->width, 3);
    assert_int_equal(history->value_bytes, 8);
    assert_int_equal(history->parts[0].column, 1); /* "shop" */
    assert_int_equal(history->parts[0].value_offset, 0);
    assert_int_equal(history->parts[1].column, 0);
    assert_int_equal(history->parts[1].offset, 1);
    assert_int_equal(history->parts[1].value_offset, 4);
    assert_true(history->parts[1].embedding == &good.embeddings[0]);
    assert_int_equal(target->parts[0].column, 1); /* "item" */
    assert_int_equal(target->parts[1].offset, 2);

    const struct step_widths steps[] = {{4, 0, 5, 6}, {3, 0, 2, 9}, {2, 5, 0, 0}, {6, 2, 0, 0}};
    const size_t finals[] = {0, 2, 5, 10};
    const enum kernel_write writes[] = {WRITE_AND, WRITE_UPDATE, WRITE_UPDATE, WRITE_UPDATE};
    for (size_t i = 0; i < 4; i++) {
        assert_memory_equal(&good.interests[i].step, &steps[i], sizeof *steps);
        assert_int_equal(good.interests[i].final_offset, finals[i]);
        assert_int_equal(good.interests[i].write, writes[i]);
    }
}

static void test_binds_cells(void **state) {
    (void)state;
    const struct cell *after = &good.interests[0].extractor, *before = &good.interests[0].evolution;
    assert_true(after->reset_after && !before->reset_after);
    assert_int_equal(after->gates.units, 12);
    assert_int_equal(before->gates.units, 4);
    assert_int_equal(before->candidate.units, 2);
    for (size_t i = 0; i < 8; i++)
        assert_true(after->gates.bias[i] == 0);
    assert_memory_equal(after->gates.bias + 8, floats_of("interests.clicks.extractor.bias_hidden"), 16);
    const float *hidden = floats_of("interests.clicks.evolution.weight_hidden");
    assert_memory_equal(before->gates.weight, hidden, 8 * sizeof(float));
    assert_memory_equal(before->candidate.weight, hidden + 8, 4 * sizeof(float));
    assert_true(before->candidate.bias[0] == 0 && before->candidate.bias[1] == 0);
    for (size_t unit = 0; unit < 2; unit++) /* for one column the weight is transposed */
        for (size_t i = 0; i < 2; i++)
            assert_true(before->candidate_column.weight[i * LANES + unit] == hidden[8 + unit * 2 + i]);
    assert_memory_equal(good.interests[0].extractor_input.weight, floats_of("interests.clicks.extractor.weight_input"),
                        36 * sizeof(float));
    assert_memory_equal(good.interests[0].extractor_input.bias, floats_of("interests.clicks.extractor.bias"), 48);
}

static void test_binds_layers(void **state) {
    (void)state;
    const struct layer *dice = &good.interests[0].attention.layers[0], *row = &good.mlp.layers[0];
    assert_int_equal(dice->activation.kind, KERNEL_DICE);
    assert_memory_equal(dice->activation.alpha, floats_of("interests.clicks.attention.layers.0.alpha"), 20);
    assert_memory_equal(dice->activation.gain, floats_of("interests.clicks.attention.layers.0.gain"), 20);
    assert_memory_equal(dice->activation.offset, floats_of("interests.clicks.attention.layers.0.offset"), 20);
    assert_int_equal(row->activation.kind, KERNEL_DICE_ROW);
    assert_true(row->activation.epsilon == 0.25F);
    assert_int_equal(good.interests[0].attention.query.activation.kind, KERNEL_PRELU);
    assert_int_equal(good.mlp.layers[1].activation.kind, KERNEL_LINEAR);
    assert_memory_equal(good.mlp.layers[1].projection.weight, floats_of("mlp.layers.1.weight"), 24);
    assert_memory_equal(good.mlp.layers[1].projection.bias, floats_of("mlp.layers.1.bias"), 8);
    assert_non_null(good.mlp.layers[1].projection.panels);
    assert_non_null(good.mlp.layers[1].projection.transposed);
}

static double dot(const float *weight, const float *x, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)weight[i] * (double)x[i];
    return sum;
}

/* W [k, q, q*k, k-q] + b, whole and from its parts. */
static void test_splits_the_attention_by_dependence(void **state) {
    (void)state;
    const struct attention *attention = &good.interests[0].attention;
    const float *weight = floats_of("interests.clicks.attention.layers.0.weight");
    const float *bias = floats_of("interests.clicks.attention.layers.0.bias");
    float input[16];
    for (size_t i = 0; i < 4; i++) {
        float key = 0.25F * (float)i - 0.5F, query = 0.125F + 0.5F * (float)i;
        input[i] = key;
        input[4 + i] = query;
        input[8 + i] = query * key;
        input[12 + i] = key - query;
    }
    assert_int_equal(attention->product.units, 5);
    assert_int_equal(attention->product.inputs, 4);
    for (size_t unit = 0; unit < 5; unit++) {
        double whole = dot(weight + unit * 16, input, 16) + (double)bias[unit];
        double parts = dot(attention->query_part.weight + unit * 4, input + 4, 4) +
                       (double)attention->query_part.bias[unit] + dot(attention->key.weight + unit * 4, input, 4) +
                       dot(attention->product.weight + unit * 4, input + 8, 4);
        assert_true(fabs(whole - parts) < 1e-6);
        assert_true(attention->product.bias[unit] == 0 && attention->key.bias[unit] == 0);
        for (size_t i = 0; i < 4; i++)
            assert_true(attention->key_rows.weight[i * LANES + unit] == attention->key.weight[unit * 4 + i]);
    }
}

static void test_transposes_the_bilinear_matrix(void **state) {
    (void)state;
    const struct attention *attention = &good.interests[1].attention;
    const float *matrix = floats_of("interests.looks.attention.matrix");
    assert_int_equal(attention->key_rows.units, 2);
    assert_int_equal(attention->key_rows.inputs, 3);
    for (size_t query = 0; query < 2; query++)
        for (size_t key = 0; key < 3; key++) {
            assert_true(attention->key.weight[query * 3 + key] == matrix[key * 2 + query]);
            assert_true(attention->key_rows.weight[key * LANES + query] == matrix[key * 2 + query]);
        }
}

static void test_takes_the_bias_out_of_a_scaled_input(void **state) {
    (void)state;
    const struct interest *aigru = &good.interests[1];
    assert_memory_equal(aigru->evolution_bias, floats_of("interests.looks.evolution.bias"), 9 * sizeof(float));
    for (size_t i = 0; i < 9; i++)
        assert_true(aigru->evolution_rows.bias[i] == 0);
    assert_null(good.interests[0].evolution_bias);
    assert_memory_equal(good.interests[0].evolution_rows.bias, floats_of("interests.clicks.evolution.bias"), 24);
    assert_null(good.interests[2].evolution_bias);
}

/* Columns of the first layer: candidate.item 2, user.country 1, interest.plain 5, context.price 3, product.clicks 3,
 * history_sum.clicks 3, interest.clicks 2. */
static void test_splits_the_first_layer_by_inputs(void **state) {
    (void)state;
    const size_t shared[] = {2, 8, 9, 10, 14, 15, 16}, lane[] = {0, 1, 3, 4, 5, 6, 7, 11, 12, 13, 17, 18};
    const float *weight = floats_of("mlp.layers.0.weight");
    const struct mlp *mlp = &good.mlp;
    assert_int_equal(mlp->shared_width, 7);
    assert_int_equal(mlp->lane_width, 12);
    assert_int_equal(mlp->shared_count, 3);
    assert_int_equal(mlp->lane_count, 4);
    for (size_t unit = 0; unit < 3; unit++) {
        for (size_t i = 0; i < 7; i++)
            assert_true(mlp->shared_projection.weight[i * LANES + unit] == weight[unit * 19 + shared[i]]);
        for (size_t i = 0; i < 12; i++)
            assert_true(mlp->layers[0].projection.weight[unit * 12 + i] == weight[unit * 19 + lane[i]]);
        assert_true(mlp->layers[0].projection.bias[unit] == 0);
    }
    assert_memory_equal(mlp->shared_projection.bias, floats_of("mlp.layers.0.bias"), 3 * sizeof(float));
    const struct mlp_input *price = &mlp->shared[1], *product = &mlp->lane[2];
    assert_int_equal(price->kind, INPUT_CONTEXT);
    assert_int_equal(price->offset, 1);
    assert_true(price->embedding == &good.embeddings[2]);
    assert_int_equal(product->kind, INPUT_PRODUCT);
    assert_int_equal(product->offset, 7);
    assert_int_equal(product->width, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_tensor_left_out),
        cmocka_unit_test(test_each_tensor_of_another_type),
        cmocka_unit_test(test_each_tensor_of_another_shape),
        cmocka_unit_test(test_each_float_that_is_not_finite),
        cmocka_unit_test(test_attribute_rows_outside_their_table),
        cmocka_unit_test(test_vocabularies_that_do_not_fit),
        cmocka_unit_test(test_vocabularies_without_empty_slots),
        cmocka_unit_test(test_tensors_that_nobody_asks_for),
        cmocka_unit_test(test_binds_tables_and_fields),
        cmocka_unit_test(test_lays_out_vectors),
        cmocka_unit_test(test_binds_cells),
        cmocka_unit_test(test_binds_layers),
        cmocka_unit_test(test_splits_the_attention_by_dependence),
        cmocka_unit_test(test_transposes_the_bilinear_matrix),
        cmocka_unit_test(test_takes_the_bias_out_of_a_scaled_input),
        cmocka_unit_test(test_splits_the_first_layer_by_inputs),
    };
    return cmocka_run_group_tests(tests, open_good, close_good);
}
