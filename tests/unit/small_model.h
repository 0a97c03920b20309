/* small_model.h: writes a model directory that has every kind of field in every group that may hold it, for tests of
 * the code between the wire and the model.
 *
 *   group      fields
 *   user       country (index), age (dense, 1)
 *   context    month (integer vocabulary), weather (dense, 3)
 *   behaviour  item (string vocabulary) with its attributes category (index) and features (dense, 2); dwell (dense, 1);
 *              shop (index) and page (index); tag (index), an attribute of item too
 *   candidate  item, category, features; price (dense, 1); position (dense, 2)
 *
 * Interest "clicks" reads item, category, features and dwell, keeps the last 8 behaviours and attends; "views" reads
 * shop and page, keeps the first 3 and does not attend; "tags" reads tag alone. So the three may have histories of
 * different lengths, and tag may have more values than its parent.
 *
 * Two units of the MLP are 4 * price and cancel out. So a price of 1e38 makes the score infinity less infinity, which
 * is not a number; a small price changes the score by rounding errors only.
 */
#ifndef TESTS_UNIT_SMALL_MODEL_H
#define TESTS_UNIT_SMALL_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Row 0 of each table is the unknown row; the first id has row 1. */
enum {
    SMALL_ITEMS = 5,      /* "i0" to "i4": rows 1 to 5 */
    SMALL_CATEGORIES = 4, /* indices 0 to 2: rows 1 to 3; item row r has category row r % 4 */
    SMALL_COUNTRIES = 4,
    SMALL_SHOPS = 4,
    SMALL_PAGES = 4,
    SMALL_TAGS = 2,
    SMALL_MONTHS = 2, /* -7 and 2000000000000: rows 1 and 2 */
    SMALL_WIDTH = 16  /* inputs of the MLP; the price is the last */
};

static const char small_config[] =
    "{'format': 'dien/1', 'name': 'small', 'version': '3',"
    " 'vocabularies': {'items': {'type': 'string', 'entries': 5, 'probe': 8},"
    "                  'months': {'type': 'integer', 'entries': 2, 'probe': 4}},"
    " 'tables': {'item': {'rows': 6, 'width': 4}, 'category': {'rows': 4, 'width': 2},"
    "            'country': {'rows': 4, 'width': 2}, 'month': {'rows': 3, 'width': 2},"
    "            'shop': {'rows': 4, 'width': 3}, 'page': {'rows': 4, 'width': 1}, 'tag': {'rows': 2, 'width': 1}},"
    " 'fields': [{'name': 'country', 'kind': 'categorical', 'table': 'country', 'ids': 'index', 'first_row': 1,"
    "             'unknown_row': 0},"
    "            {'name': 'age', 'kind': 'dense', 'width': 1},"
    "            {'name': 'month', 'kind': 'categorical', 'table': 'month', 'ids': 'vocabulary',"
    "             'vocabulary': 'months', 'first_row': 1, 'unknown_row': 0},"
    "            {'name': 'weather', 'kind': 'dense', 'width': 3},"
    "            {'name': 'category', 'kind': 'categorical', 'table': 'category', 'ids': 'index', 'first_row': 1,"
    "             'unknown_row': 0, 'attribute_of': 'item'},"
    "            {'name': 'item', 'kind': 'categorical', 'table': 'item', 'ids': 'vocabulary', 'vocabulary': 'items',"
    "             'first_row': 1, 'unknown_row': 0},"
    "            {'name': 'features', 'kind': 'dense', 'width': 2, 'attribute_of': 'item'},"
    "            {'name': 'dwell', 'kind': 'dense', 'width': 1},"
    "            {'name': 'shop', 'kind': 'categorical', 'table': 'shop', 'ids': 'index', 'first_row': 1,"
    "             'unknown_row': 0},"
    "            {'name': 'page', 'kind': 'categorical', 'table': 'page', 'ids': 'index', 'first_row': 1,"
    "             'unknown_row': 0},"
    "            {'name': 'tag', 'kind': 'categorical', 'table': 'tag', 'ids': 'index', 'first_row': 1,"
    "             'unknown_row': 0, 'attribute_of': 'item'},"
    "            {'name': 'price', 'kind': 'dense', 'width': 1},"
    "            {'name': 'position', 'kind': 'dense', 'width': 2}],"
    " 'groups': {'user': ['country', 'age'], 'context': ['month', 'weather'],"
    "            'behaviour': ['category', 'features', 'dwell', 'item', 'shop', 'page', 'tag'],"
    "            'candidate': ['item', 'category', 'features', 'price', 'position']},"
    " 'interests': [{'name': 'clicks', 'history': ['item', 'category', 'features', 'dwell'],"
    "                'target': ['item', 'category', 'features'], 'max_length': 8, 'keep': 'last',"
    "                'extractor': {'cell': 'gru', 'units': 3, 'reset': 'after'},"
    "                'attention': {'kind': 'bilinear', 'normalise': 'softmax'},"
    "                'evolution': {'cell': 'augru-and', 'units': 2, 'reset': 'after'}},"
    "               {'name': 'views', 'history': ['shop', 'page'], 'target': ['item'], 'max_length': 3,"
    "                'keep': 'first', 'extractor': {'cell': 'gru', 'units': 2, 'reset': 'before'},"
    "                'attention': {'kind': 'none'}, 'evolution': {'cell': 'gru', 'units': 1, 'reset': 'before'}},"
    "               {'name': 'tags', 'history': ['tag'], 'target': ['item'], 'max_length': 8,"
    "                'keep': 'last', 'extractor': {'cell': 'gru', 'units': 1, 'reset': 'before'},"
    "                'attention': {'kind': 'none'}, 'evolution': {'cell': 'gru', 'units': 1, 'reset': 'before'}}],"
    " 'mlp': {'inputs': ['user.country', 'user.age', 'context.month', 'context.weather', 'candidate.position',"
    "                    'candidate.category', 'interest.clicks', 'interest.views', 'candidate.price'],"
    "         'layers': [{'units': 4, 'activation': 'linear'}, {'units': 1, 'activation': 'linear'}]},"
    " 'output': {'kind': 'sigmoid'}}";

/* A file of tensors being written: its header and its data. */
struct small_tensors {
    char header[8192];
    unsigned char data[65536];
    size_t header_used, data_used;
};

/* In every text of these tests ' stands for ", so that JSON can be read. `to` has room for the text. */
static void small_quotes(const char *text, char *to) {
    size_t length = strlen(text);
    for (size_t i = 0; i <= length; i++)
        to[i] = text[i];
    for (size_t i = 0; i < length; i++)
        if (to[i] == '\'')
            to[i] = '"';
}

static void small_add(struct small_tensors *file, const char *name, const char *type, const char *shape,
                      const void *data, size_t size) {
    assert_true(file->data_used + size <= sizeof file->data);
    memcpy(file->data + file->data_used, data, size);
    int length =
        snprintf(file->header + file->header_used, sizeof file->header - file->header_used,
                 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                 file->header_used > 0 ? "," : "{", name, type, shape, file->data_used, file->data_used + size);
    file->header_used += (size_t)length;
    file->data_used += size;
    assert_true(file->header_used < sizeof file->header);
}

/* A tensor of [rows, columns], or [rows] where `columns` is 0, of fixed small values. */
static void small_add_random(struct small_tensors *file, const char *name, size_t rows, size_t columns) {
    float values[256];
    char shape[32];
    size_t count = rows * (columns > 0 ? columns : 1);
    uint32_t seed = 1;
    for (const char *letter = name; *letter != '\0'; letter++)
        seed = seed * 31 + (unsigned char)*letter;
    assert_true(count <= sizeof values / sizeof *values);
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525 + 1013904223;
        values[i] = (float)(seed >> 8) / (1 << 24) - 0.5F;
    }
    snprintf(shape, sizeof shape, columns > 0 ? "%zu,%zu" : "%zu", rows, columns);
    small_add(file, name, "F32", shape, values, count * sizeof *values);
}

/* Makes the months 7 and 2^64 - 7, with unsigned keys. */
static bool small_unsigned;

/* FORMAT.md, "Vocabularies". */
static uint64_t small_mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdULL;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

static void small_insert(int32_t *slots, size_t size, uint64_t hash, int32_t entry) {
    size_t slot = hash & (size - 1);
    while (slots[slot] != 0)
        slot = (slot + 1) & (size - 1);
    slots[slot] = entry + 1;
}

static void small_add_vocabularies(struct small_tensors *file) {
    static const char bytes[] = "i0i1i2i3i4";
    static const int64_t offsets[] = {0, 2, 4, 6, 8, 10}, integers[SMALL_MONTHS] = {-7, 2000000000000},
                         large[SMALL_MONTHS] = {7, -7};
    const int64_t *keys = small_unsigned ? large : integers;
    int32_t items[8] = {0}, months[4] = {0};
    for (int32_t i = 0; i < SMALL_ITEMS; i++) {
        uint64_t hash = 0xcbf29ce484222325ULL;
        for (size_t j = 0; j < 2; j++)
            hash = (hash ^ (unsigned char)bytes[(size_t)i * 2 + j]) * 0x100000001b3ULL;
        small_insert(items, 8, small_mix(hash), i);
    }
    for (int32_t i = 0; i < SMALL_MONTHS; i++)
        small_insert(months, 4, small_mix((uint64_t)keys[i]), i);
    small_add(file, "vocabularies.months.keys", small_unsigned ? "U64" : "I64", "2", keys, sizeof integers);
    small_add(file, "vocabularies.items.offsets", "I64", "6", offsets, sizeof offsets);
    small_add(file, "vocabularies.months.slots", "I32", "4", months, sizeof months);
    small_add(file, "vocabularies.items.slots", "I32", "8", items, sizeof items);
}

static void small_add_layers(struct small_tensors *file) {
    static const float output[] = {0.7F, -0.4F, 1, -1}; /* the last two units are equal and cancel out */
    float weight[4 * SMALL_WIDTH];
    for (size_t i = 0; i < 4 * (size_t)SMALL_WIDTH; i++)
        weight[i] = i < 2 * (size_t)SMALL_WIDTH ? (float)(i % 7) / 10 - 0.3F : 0;
    for (size_t unit = 0; unit < 4; unit++)
        weight[(unit + 1) * SMALL_WIDTH - 1] = unit < 2 ? 0 : 4;
    small_add(file, "mlp.layers.0.weight", "F32", "4,16", weight, sizeof weight);
    small_add(file, "mlp.layers.0.bias", "F32", "4", (const float[4]){0.1F}, sizeof(float[4]));
    small_add(file, "mlp.layers.1.weight", "F32", "1,4", output, sizeof output);
    small_add_random(file, "mlp.layers.1.bias", 1, 0);
}

static void small_add_tensors(struct small_tensors *file) {
    static const int32_t categories[SMALL_ITEMS + 1] = {0, 1, 2, 3, 0, 1};
    static const int32_t tags[SMALL_ITEMS + 1] = {0, 1, 0, 1, 0, 1};
    static const float features[SMALL_ITEMS + 1][2] = {{0, 0}, {1, -1}, {2, -2}, {3, -3}, {4, -4}, {5, -5}};
    small_add_vocabularies(file);
    small_add(file, "attributes.category", "I32", "6", categories, sizeof categories);
    small_add(file, "attributes.tag", "I32", "6", tags, sizeof tags);
    small_add(file, "attributes.features", "F32", "6,2", features, sizeof features);
    small_add_random(file, "tables.item", SMALL_ITEMS + 1, 4);
    small_add_random(file, "tables.category", SMALL_CATEGORIES, 2);
    small_add_random(file, "tables.country", SMALL_COUNTRIES, 2);
    small_add_random(file, "tables.month", SMALL_MONTHS + 1, 2);
    small_add_random(file, "tables.shop", SMALL_SHOPS, 3);
    small_add_random(file, "tables.page", SMALL_PAGES, 1);
    small_add_random(file, "tables.tag", SMALL_TAGS, 1);
    small_add_random(file, "interests.clicks.extractor.weight_input", 9, 9);
    small_add_random(file, "interests.clicks.extractor.weight_hidden", 9, 3);
    small_add_random(file, "interests.clicks.extractor.bias", 9, 0);
    small_add_random(file, "interests.clicks.extractor.bias_hidden", 3, 0);
    small_add_random(file, "interests.clicks.attention.matrix", 3, 8);
    small_add_random(file, "interests.clicks.evolution.weight_input", 6, 3);
    small_add_random(file, "interests.clicks.evolution.weight_hidden", 6, 2);
    small_add_random(file, "interests.clicks.evolution.bias", 6, 0);
    small_add_random(file, "interests.clicks.evolution.bias_hidden", 2, 0);
    small_add_random(file, "interests.views.extractor.weight_input", 6, 4);
    small_add_random(file, "interests.views.extractor.weight_hidden", 6, 2);
    small_add_random(file, "interests.views.extractor.bias", 6, 0);
    small_add_random(file, "interests.views.evolution.weight_input", 3, 2);
    small_add_random(file, "interests.views.evolution.weight_hidden", 3, 1);
    small_add_random(file, "interests.views.evolution.bias", 3, 0);
    small_add_random(file, "interests.tags.extractor.weight_input", 3, 1);
    small_add_random(file, "interests.tags.extractor.weight_hidden", 3, 1);
    small_add_random(file, "interests.tags.extractor.bias", 3, 0);
    small_add_random(file, "interests.tags.evolution.weight_input", 3, 1);
    small_add_random(file, "interests.tags.evolution.weight_hidden", 3, 1);
    small_add_random(file, "interests.tags.evolution.bias", 3, 0);
    small_add_layers(file);
    small_add(file, "vocabularies.items.bytes", "U8", "10", "i0i1i2i3i4", 10); /* last: it has an odd size */
}

static void small_write(const char *directory, const char *name, const void *data, size_t size) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *out = fopen(path, "we");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

/* samples.json, of a text with ' for ". */
static inline void small_write_samples(const char *directory, const char *text) {
    char *quoted = malloc(strlen(text) + 1);
    assert_non_null(quoted);
    small_quotes(text, quoted);
    small_write(directory, "samples.json", quoted, strlen(quoted));
    free(quoted);
}

/* Make a directory with config.json and model.safetensors; its name is written to `directory`. small_remove() ends it.
 */
static void small_make(char directory[64]) {
    static struct small_tensors file;
    static char config[sizeof small_config];
    static unsigned char whole[8 + sizeof file.header + sizeof file.data];
    file = (struct small_tensors){.header_used = 0};
    small_add_tensors(&file);
    file.header[file.header_used++] = '}';
    while (file.header_used % 8 != 0)
        file.header[file.header_used++] = ' ';
    uint64_t length = file.header_used;
    memcpy(whole, &length, 8);
    memcpy(whole + 8, file.header, file.header_used);
    memcpy(whole + 8 + file.header_used, file.data, file.data_used);
    small_quotes(small_config, config);
    snprintf(directory, 64, "/tmp/dien-small-XXXXXX");
    assert_non_null(mkdtemp(directory));
    small_write(directory, "config.json", config, strlen(config));
    small_write(directory, "model.safetensors", whole, 8 + file.header_used + file.data_used);
}

static void small_remove(const char *directory) {
    static const char *const names[] = {"config.json", "model.safetensors", "samples.json"};
    char path[512];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

#endif
