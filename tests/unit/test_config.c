/* test_config.c: a config with a bit of everything is read as written; each key wrong once is refused by its path. */
#include "model/format/config.h"
#include "tests/unit/model_file.h"

#include <jansson.h>
#include <math.h>

/* Read a text. The config is good until the pool is freed. */
static bool read_text(const char *text, size_t size, struct config *config, struct pool *pool,
                      struct dien_error *error) {
    struct memory_file file = open_memory_file(text, size);
    *pool = (struct pool){0};
    *error = (struct dien_error){""};
    bool good = config_read(config, file.path, pool, error);
    close(file.descriptor);
    return good;
}

static void assert_refused(const char *name, const char *text, const char *expected) {
    struct config config;
    struct pool pool;
    struct dien_error error;
    if (read_text(text, strlen(text), &config, &pool, &error))
        fail_msg("%s: accepted", name);
    assert_message(name, error.message, expected);
    pool_free(&pool);
}

/* ---- a good config ---- */

static void test_reads_everything(void **state) {
    (void)state;
    struct config config;
    struct pool pool;
    struct dien_error error;
    if (!read_text(small_config(), strlen(small_config()), &config, &pool, &error))
        fail_msg("%s", error.message);
    assert_string_equal(config.name, "small.model");
    assert_string_equal(config.version, "7");

    assert_int_equal(config.vocabulary_count, 2);
    assert_string_equal(config.vocabularies[0].name, "item");
    assert_true(config.vocabularies[0].strings && !config.vocabularies[1].strings);
    assert_int_equal(config.vocabularies[0].entries, 3);
    assert_int_equal(config.vocabularies[0].probe, 2);
    assert_int_equal(config.table_count, 4);
    assert_string_equal(config.tables[1].name, "shop");
    assert_int_equal(config.tables[1].rows, 3);
    assert_int_equal(config.tables[0].width, 2);

    assert_int_equal(config.field_count, 4);
    const struct field_config *item = &config.fields[0], *shop = &config.fields[1], *price = &config.fields[2];
    const struct field_config *country = &config.fields[3];
    assert_string_equal(item->name, "item");
    assert_true(!item->dense && price->dense);
    assert_int_equal(item->table, 0);
    assert_int_equal(item->vocabulary, 0);
    assert_int_equal(item->first_row, 1);
    assert_int_equal(item->unknown_row, 0);
    assert_int_equal(item->parent, CONFIG_NONE);
    assert_int_equal(shop->table, 1);
    assert_int_equal(shop->vocabulary, 1);
    assert_int_equal(shop->first_row, 0);
    assert_int_equal(shop->unknown_row, 2);
    assert_int_equal(shop->parent, 0);
    assert_int_equal(price->width, 2);
    assert_int_equal(price->units, 3);
    assert_int_equal(price->parent, 0);
    assert_int_equal(price->table, CONFIG_NONE);
    assert_int_equal(price->vocabulary, CONFIG_NONE);
    assert_int_equal(country->vocabulary, CONFIG_NONE);
    assert_int_equal(config_field_width(&config, 0), 2);
    assert_int_equal(config_field_width(&config, 2), 3);

    assert_int_equal(config.groups[DIEN_USER].count, 1);
    assert_int_equal(config.groups[DIEN_USER].items[0], 3);
    assert_int_equal(config.groups[DIEN_CONTEXT].count, 2);
    assert_int_equal(config.groups[DIEN_CONTEXT].items[1], 2);
    assert_int_equal(config.groups[DIEN_CANDIDATE].items[0], 1);
    assert_int_equal(config.groups[DIEN_CANDIDATE].items[1], 0);

    assert_int_equal(config.interest_count, 4);
    const struct interest_config *clicks = &config.interests[0], *looks = &config.interests[1];
    assert_string_equal(clicks->name, "clicks");
    assert_int_equal(clicks->history.count, 2);
    assert_int_equal(clicks->history.items[0], 1); /* "shop" is second of the behaviour group */
    assert_int_equal(clicks->history.items[1], 0);
    assert_int_equal(clicks->target.items[0], 1);
    assert_int_equal(clicks->max_length, 10);
    assert_true(clicks->keep_first && !looks->keep_first);
    assert_int_equal(clicks->extractor.units, 4);
    assert_int_equal(clicks->extractor.kind, CELL_GRU);
    assert_int_equal(clicks->extractor.reset, RESET_AFTER);
    assert_int_equal(clicks->attention.kind, ATTENTION_MLP);
    assert_true(clicks->attention.has_query && !looks->attention.has_query);
    assert_int_equal(clicks->attention.query.units, 4);
    assert_int_equal(clicks->attention.query.activation, ACTIVATION_PRELU);
    assert_int_equal(clicks->attention.inputs.key, 0);
    assert_int_equal(clicks->attention.inputs.query, 1);
    assert_int_equal(clicks->attention.inputs.product, 2);
    assert_int_equal(clicks->attention.inputs.difference, 3);
    assert_true(clicks->attention.inputs.key_first);
    assert_int_equal(clicks->attention.layer_count, 2);
    assert_int_equal(clicks->attention.layers[0].units, 5);
    assert_int_equal(clicks->attention.layers[0].activation, ACTIVATION_DICE);
    assert_true(clicks->attention.scale == 0.5F && looks->attention.scale == 1);
    assert_true(clicks->attention.softmax && !looks->attention.softmax);
    assert_int_equal(clicks->evolution.kind, CELL_AUGRU_AND);
    assert_int_equal(clicks->evolution.units, 2);
    assert_int_equal(clicks->evolution.reset, RESET_BEFORE);
    assert_int_equal(looks->attention.kind, ATTENTION_BILINEAR);
    assert_int_equal(looks->evolution.kind, CELL_AIGRU);
    assert_int_equal(config.interests[2].attention.kind, ATTENTION_NONE);
    assert_int_equal(config.interests[2].evolution.kind, CELL_GRU);
    assert_int_equal(config.interests[3].attention.kind, ATTENTION_DOT);
    assert_int_equal(config.interests[3].evolution.kind, CELL_GRU_POOLING);
    assert_int_equal(config_key_width(&config.interests[0]), 4);
    assert_int_equal(config_key_width(&config.interests[3]), 2);
    assert_int_equal(config_indices_width(&config, DIEN_BEHAVIOUR, &clicks->history), 3);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(config_evolves_alone(&config.interests[i]), i >= 2);
    assert_true(config_keeps_within_one(clicks) && config_keeps_within_one(looks));

    const struct input_config inputs[] = {{INPUT_CANDIDATE, 1}, {INPUT_USER, 0},    {INPUT_INTEREST, 2},
                                          {INPUT_CONTEXT, 1},   {INPUT_PRODUCT, 0}, {INPUT_HISTORY_SUM, 0},
                                          {INPUT_INTEREST, 0}};
    assert_int_equal(config.input_count, 7);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(config.inputs[i].kind, inputs[i].kind);
        assert_int_equal(config.inputs[i].index, inputs[i].index);
    }
    assert_int_equal(config.layer_count, 2);
    assert_int_equal(config.layers[0].activation, ACTIVATION_DICE_ROW);
    assert_true(config.layers[0].epsilon == 0.25F);
    assert_true(config.softmax);
    assert_int_equal(config.positive, 1);
    assert_int_equal(config.bias_index, 1);
    assert_int_equal(config.bias_table, 3);
    pool_free(&pool);
}

/* ---- one value changed ---- */

/* The container of the last part of a path such as "interests.0.name", whose last part is *key. */
static json_t *walk(json_t *node, const char *path, char *key) {
    const char *dot;
    for (; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
        snprintf(key, 64, "%.*s", (int)(dot - path), path);
        node = json_is_array(node) ? json_array_get(node, strtoul(key, NULL, 10)) : json_object_get(node, key);
        assert_non_null(node);
    }
    snprintf(key, 64, "%s", path);
    return node;
}

/* A config with one value replaced by a JSON text, or removed where that is NULL. The caller frees it. */
static char *changed_of(const char *config, const char *path, const char *value) {
    char key[64];
    json_t *root = json_loads(config, 0, NULL), *container = walk(root, path, key);
    json_t *node = value != NULL ? json_loads(value, JSON_DECODE_ANY, NULL) : NULL;
    assert_true(root != NULL && (value == NULL || node != NULL));
    int status;
    if (json_is_array(container))
        status = node == NULL ? json_array_remove(container, strtoul(key, NULL, 10))
                 : strtoul(key, NULL, 10) == json_array_size(container)
                     ? json_array_append_new(container, node)
                     : json_array_set_new(container, strtoul(key, NULL, 10), node);
    else
        status = node == NULL ? json_object_del(container, key) : json_object_set_new(container, key, node);
    assert_int_equal(status, 0);
    char *text = json_dumps(root, 0);
    json_decref(root);
    return text;
}

static char *changed(const char *path, const char *value) {
    return changed_of(small_config(), path, value);
}

static const char name_of_65[] = "\"12345678901234567890123456789012345678901234567890123456789012345\"";

static const struct {
    const char *path, *value, *expected;
} wrong[] = {
    {"format", NULL, "config.json: format: is missing, must be \"dien/1\" or \"dien/2\""},
    {"format", "\"dien/3\"", "config.json: format: is \"dien/3\", must be \"dien/1\" or \"dien/2\""},
    {"fields.0.pool", "\"sum\"", "config.json: fields[0]: \"pool\" and \"values\" need \"format\": \"dien/2\""},
    {"fields.0.values", "3", "config.json: fields[0]: \"pool\" and \"values\" need \"format\": \"dien/2\""},
    {"interests.0.evolution.cell", "\"augru-keep\"",
     "config.json: interests[0].evolution.cell: \"augru-keep\" needs \"format\": \"dien/2\""},
    {"name", NULL, "config.json: name: must be a name"},
    {"name", "\"\"", "config.json: name: must be a name"},
    {"name", "\"a b\"", "config.json: name: must be a name"},
    {"name", name_of_65, "config.json: name: must be a name"},
    {"version", "7", "config.json: version: must be a name"},
    {"versoin", "\"7\"", "config.json: the document: unknown key \"versoin\" (allowed: format name version"},

    {"vocabularies", "[]", "config.json: vocabularies: must be an object"},
    {"vocabularies.item", "5", "config.json: vocabularies.item: must be an object"},
    {"vocabularies.a b", "{}", "config.json: vocabularies.a b: must be a name"},
    {"vocabularies.item.type", "\"text\"",
     "vocabularies.item.type: is \"text\", must be one of \"integer\", \"string\""},
    {"vocabularies.item.type", NULL, "vocabularies.item.type: is missing, must be one of"},
    {"vocabularies.item.entries", "0", "vocabularies.item.entries: must be an integer from 1 to 2147483647"},
    {"vocabularies.item.entries", "2147483648", "vocabularies.item.entries: must be an integer from 1 to 2147483647"},
    {"vocabularies.item.probe", "1.5", "vocabularies.item.probe: must be an integer from 1 to"},
    {"vocabularies.item.probes", "1", "vocabularies.item: unknown key \"probes\" (allowed: type entries probe)"},

    {"tables", "5", "config.json: tables: must be an object"},
    {"tables.item", "[]", "config.json: tables.item: must be an object"},
    {"tables.item.rows", "-1", "tables.item.rows: must be an integer from 1 to"},
    {"tables.item.width", "65537", "tables.item.width: must be an integer from 1 to 65536"},
    {"tables.item.size", "1", "tables.item: unknown key \"size\""},

    {"fields", NULL, "config.json: fields: must be a list of 1 to 1024"},
    {"fields", "[]", "config.json: fields: must be a list of 1 to 1024"},
    {"fields", "{}", "config.json: fields: must be a list of 1 to 1024"},
    {"fields.0", "\"item\"", "config.json: fields[0]: must be an object"},
    {"fields.1.name", "\"shop.name\"", "fields[1].name: must be a name"},
    {"fields.1.name", NULL, "fields[1].name: must be a name"},
    {"fields.1.name", "\"item\"", "fields[1].name: \"item\" names an earlier field too"},
    {"fields.0.kind", "\"sparse\"", "fields[0].kind: is \"sparse\", must be one of \"categorical\", \"dense\""},
    {"fields.0.table", "\"nosuch\"", "fields[0].table: is \"nosuch\", must name one of tables"},
    {"fields.0.table", "[]", "fields[0].table: is a list, must name one of tables"},
    {"fields.0.ids", "\"hash\"", "fields[0].ids: is \"hash\", must be one of \"index\", \"vocabulary\""},
    {"fields.0.ids", "\"index\"", "fields[0].vocabulary: goes with \"ids\": \"vocabulary\" only"},
    {"fields.0.vocabulary", NULL, "fields[0].vocabulary: is missing, must name one of vocabularies"},
    {"fields.0.vocabulary", "{}", "fields[0].vocabulary: is an object, must name one of vocabularies"},
    {"fields.0.first_row", "4", "fields[0].first_row: must be an integer from 0 to 3"},
    {"fields.0.unknown_row", "4", "fields[0].unknown_row: must be an integer from 0 to 3"},
    {"fields.0.unknown_row", NULL, "fields[0].unknown_row: must be an integer from 0 to 3"},
    {"fields.0.width", "2", "fields[0]: unknown key \"width\""},
    {"fields.2.width", "0", "fields[2].width: must be an integer from 1 to 65536"},
    {"fields.2.units", "0", "fields[2].units: must be an integer from 1 to 65536"},
    {"fields.2.table", "\"item\"", "fields[2]: unknown key \"table\""},
    {"fields.1.attribute_of", "\"nosuch\"", "fields[1].attribute_of: is \"nosuch\", must name another, categorical"},
    {"fields.1.attribute_of", "\"shop\"", "fields[1].attribute_of: is \"shop\", must name another, categorical"},
    {"fields.1.attribute_of", "\"price\"", "fields[1].attribute_of: is \"price\", must name another, categorical"},
    {"fields.1.attribute_of", "5", "fields[1].attribute_of: is a number, must name another, categorical"},
    {"fields.2.attribute_of", "\"shop\"", "fields[2].attribute_of: \"shop\" is an attribute itself"},

    {"groups", NULL, "config.json: groups: must be an object"},
    {"groups.history", "[\"item\"]", "groups: unknown key \"history\" (allowed: user context behaviour candidate)"},
    {"groups.user", "\"country\"", "groups.user: must be a list of 1 to 1024"},
    {"groups.user.0", "\"nosuch\"", "groups.user[0]: is \"nosuch\", must name one of fields"},
    {"groups.user.0", "true", "groups.user[0]: is true, false or null, must name one of fields"},
    {"groups.behaviour.1", "\"item\"", "groups.behaviour[1]: \"item\" is there twice"},
    {"groups.behaviour", NULL, "groups: behaviour and candidate need at least one field"},
    {"groups.candidate", "[]", "groups: behaviour and candidate need at least one field"},
    {"groups.user", NULL, "groups: the field \"country\" is in none"},
    {"groups.context", "[\"price\"]", "groups: \"price\" is in a group that its parent \"item\" is not in"},
    {"groups.behaviour", "[\"item\", \"shop\", \"country\"]", "groups.behaviour: no interest reads \"country\""},

    {"interests", "[]", "config.json: interests: must be a list of 1 to 64"},
    {"interests.0", "5", "config.json: interests[0]: must be an object"},
    {"interests.1.name", "\"clicks\"", "interests[1].name: \"clicks\" names an earlier interest too"},
    {"interests.0.name", "5", "interests[0].name: must be a name"},
    {"interests.0.weight", "5", "interests[0]: unknown key \"weight\""},
    {"interests.0.history", "[]", "interests[0].history: must be a list of 1 to 1024"},
    {"interests.0.history.0", "\"country\"", "interests[0].history[0]: is \"country\", must name a field of its group"},
    {"interests.0.history.0", "\"item\"", "interests[0].history[1]: \"item\" is there twice"},
    {"interests.0.target", NULL, "interests[0].target: must be a list of 1 to 1024"},
    {"interests.0.target.1", "\"price\"", "interests[0].target[1]: is \"price\", must name a field of its group"},
    {"interests.0.max_length", "0", "interests[0].max_length: must be an integer from 1 to 65536"},
    {"interests.0.max_length", "65537", "interests[0].max_length: must be an integer from 1 to 65536"},
    {"interests.0.keep", "\"middle\"", "interests[0].keep: is \"middle\", must be one of \"last\", \"first\""},
    {"interests.0.extractor", NULL, "interests[0].extractor: must be an object"},
    {"interests.0.extractor.cell", "\"aigru\"", "interests[0].extractor.cell: is \"aigru\", must be one of \"gru\""},
    {"interests.0.extractor.units", "0", "interests[0].extractor.units: must be an integer from 1 to 65536"},
    {"interests.0.extractor.reset", "\"never\"", "interests[0].extractor.reset: is \"never\", must be one of"},
    {"interests.0.extractor.bias", "0", "interests[0].extractor: unknown key \"bias\""},
    {"interests.0.extractor.units", "3", "interests[0].attention: the query has width 4, the keys (of extractor"},
    {"interests.0.evolution", "5", "interests[0].evolution: must be an object"},
    {"interests.0.evolution.cell", "\"lstm\"", "interests[0].evolution.cell: is \"lstm\", must be one of \"gru\""},
    {"interests.0.evolution.units", "65537", "interests[0].evolution.units: must be an integer from 1 to 65536"},
    {"interests.0.evolution.reset", NULL, "interests[0].evolution.reset: is missing, must be one of"},
    {"interests.0.evolution.cell", "\"gru\"", "interests[0]: attention \"none\" and evolution \"gru\" go together"},
    {"interests.2.evolution.cell", "\"agru\"", "interests[2]: attention \"none\" and evolution \"gru\" go together"},

    {"interests.0.attention", NULL, "interests[0].attention: must be an object"},
    {"interests.0.attention.kind", "\"dott\"", "interests[0].attention.kind: is \"dott\", must be one of \"none\""},
    {"interests.0.attention.kind", NULL, "interests[0].attention.kind: is missing"},
    {"interests.0.attention.heads", "2", "interests[0].attention: unknown key \"heads\""},
    {"interests.2.attention.scale", "2", "interests[2].attention: unknown key \"scale\" (allowed: kind)"},
    {"interests.0.attention.kind", "\"bilinear\"",
     "interests[0].attention: inputs and layers go with \"kind\": \"mlp\""},
    {"interests.0.attention.scale", "1e39", "interests[0].attention.scale: must be a number in the range of float32"},
    {"interests.0.attention.scale", "\"1\"", "interests[0].attention.scale: must be a number in the range of float32"},
    {"interests.0.attention.normalise", NULL, "interests[0].attention.normalise: is missing, must be one of \"none\""},
    {"interests.0.attention.query", "[]", "interests[0].attention.query: must be an object"},
    {"interests.0.attention.query.units", "0", "interests[0].attention.query.units: must be an integer from 1"},
    {"interests.0.attention.query.activation", "\"gelu\"", "interests[0].attention.query.activation: is \"gelu\""},
    {"interests.0.attention.inputs", NULL, "interests[0].attention.inputs: must be a list of 4"},
    {"interests.0.attention.inputs.4", "\"q\"", "interests[0].attention.inputs: must be a list of 4"},
    {"interests.0.attention.inputs.0", "\"v\"",
     "interests[0].attention.inputs[0]: is \"v\", must be one of \"q\", \"k\""},
    {"interests.0.attention.inputs.0", "\"q\"", "interests[0].attention.inputs[1]: is there twice"},
    {"interests.0.attention.inputs.0", "\"q-k\"", "interests[0].attention.inputs[3]: is there twice"},
    {"interests.0.attention.layers", "[]", "interests[0].attention.layers: must be a list of 1 to 32"},
    {"interests.0.attention.layers.1.units", "2", "interests[0].attention.layers: the last layer must have 1 units"},
    {"interests.0.attention.layers.1.activation", "\"relu\"",
     "interests[0].attention.layers: the last layer must have"},
    {"interests.3.evolution.units", "3",
     "interests[3].attention: the query has width 2, the keys (of extractor or "
     "evolution) 3"},

    {"mlp", NULL, "config.json: mlp: must be an object"},
    {"mlp.dropout", "0.5", "mlp: unknown key \"dropout\" (allowed: inputs layers)"},
    {"mlp.inputs", "{}", "mlp.inputs: must be a list of 1 to 1216"},
    {"mlp.inputs.0", "5", "mlp.inputs[0]: must be user.FIELD, context.FIELD"},
    {"mlp.inputs.0", "\"item\"", "mlp.inputs[0]: must be user.FIELD, context.FIELD"},
    {"mlp.inputs.1", "\"user.item\"", "mlp.inputs[1]: \"user.item\" names nothing that the model has"},
    {"mlp.inputs.2", "\"interest.nosuch\"", "mlp.inputs[2]: \"interest.nosuch\" names nothing"},
    {"mlp.inputs.6", "\"interest.plain\"", "mlp.inputs[6]: is there twice"},
    {"mlp.inputs", "[\"user.country\", \"interest.plain\", \"history_sum.clicks\"]",
     "mlp.inputs: none of them depends on the candidate"},
    {"mlp.layers", NULL, "mlp.layers: must be a list of 1 to 32"},
    {"mlp.layers.0", "[]", "mlp.layers[0]: must be an object"},
    {"mlp.layers.0.units", "65537", "mlp.layers[0].units: must be an integer from 1 to 65536"},
    {"mlp.layers.0.activation", "\"swish\"", "mlp.layers[0].activation: is \"swish\", must be one of \"linear\""},
    {"mlp.layers.0.epsilon", NULL, "mlp.layers[0].epsilon: must be a number greater than 0"},
    {"mlp.layers.0.epsilon", "0", "mlp.layers[0].epsilon: must be a number greater than 0"},
    {"mlp.layers.0.epsilon", "null", "mlp.layers[0].epsilon: must be a number in the range of float32"},
    {"mlp.layers.0.activation", "\"relu\"", "mlp.layers[0].epsilon: goes with \"activation\": \"dice-row\" only"},
    {"mlp.layers.1.units", "1", "mlp.layers: the last layer must have 2 units and be linear"},
    {"mlp.layers.1", NULL, "mlp.layers: the last layer must have 2 units and be linear"},

    {"output", NULL, "config.json: output: must be an object"},
    {"output.kind", "\"argmax\"", "output.kind: is \"argmax\", must be one of \"sigmoid\", \"softmax\""},
    {"output.kind", "\"sigmoid\"", "output.positive: goes with \"kind\": \"softmax\" only"},
    {"output.positive", "2", "output.positive: must be an integer from 0 to 1"},
    {"output.positive", NULL, "output.positive: must be an integer from 0 to 1"},
    {"output.threshold", "0.5", "output: unknown key \"threshold\" (allowed: kind positive bias)"},
    {"output.bias", "[]", "output.bias: must be an object"},
    {"output.bias.rows", "4", "output.bias: unknown key \"rows\" (allowed: field table)"},
    {"output.bias.field", "\"country\"", "output.bias.field: is \"country\", must name a candidate field"},
    {"output.bias.field", NULL, "output.bias.field: is missing, must name a candidate field"},
    {"output.bias.table", "\"item\"", "output.bias.table: must name a table of width 1 with as many rows"},
    {"output.bias.table", "\"shop\"", "output.bias.table: must name a table of width 1 with as many rows"},
    {"output.bias.table", NULL, "output.bias.table: must name a table of width 1"},
};

static void test_each_key_wrong(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char name[128], *text = changed(wrong[i].path, wrong[i].value);
        snprintf(name, sizeof name, "%s = %s", wrong[i].path, wrong[i].value != NULL ? wrong[i].value : "(removed)");
        assert_refused(name, text, wrong[i].expected);
        free(text);
    }
}

/* Changes that are right: limits, options left out, other choices. */
static void test_lawful_changes(void **state) {
    (void)state;
    const struct {
        const char *path, *value;
    } lawful[] = {
        {"metadata", NULL},
        {"format", "\"dien/2\""},
        {"name", "\"1234567890123456789012345678901234567890123456789012345678901234\""},
        {"vocabularies.item.entries", "2147483647"},
        {"tables.item.rows", "2147483647"},
        {"fields.0.first_row", NULL},
        {"fields.0.first_row", "3"},
        {"fields.0.unknown_row", "3"},
        {"fields.2.units", NULL},
        {"interests.0.max_length", "65536"},
        {"interests.0.attention.scale", NULL},
        {"interests.0.attention.scale", "-3"},
        {"interests.1.extractor.units", "65536"},
        {"interests.0.evolution.cell", "\"augru-or\""},
        {"interests.0.evolution.cell", "\"agru\""},
        {"interests.0.extractor.reset", "\"before\""},
        {"output.positive", "0"},
        {"output.bias", NULL},
        {"mlp.layers.0.units", "65536"},
    };
    for (size_t i = 0; i < sizeof lawful / sizeof *lawful; i++) {
        struct config config;
        struct pool pool;
        struct dien_error error;
        char *text = changed(lawful[i].path, lawful[i].value);
        bool bias_rows = strcmp(lawful[i].path, "tables.item.rows") == 0; /* the bias table has to follow */
        bool good = read_text(text, strlen(text), &config, &pool, &error);
        if (!good && !bias_rows)
            fail_msg("%s = %s: %s", lawful[i].path, lawful[i].value, error.message);
        if (bias_rows)
            assert_message(lawful[i].path, error.message, "output.bias.table");
        pool_free(&pool);
        free(text);
    }
}

/* ---- rules that need two changes ---- */

/* Replace the first `from` of the config by `to`. */
static char *replaced(const char *from, const char *to) {
    const char *found = strstr(small_config(), from);
    assert_non_null(found);
    size_t size = strlen(small_config()) + strlen(to) + 1;
    char *text = malloc(size);
    assert_non_null(text);
    snprintf(text, size, "%.*s%s%s", (int)(found - small_config()), small_config(), to, found + strlen(from));
    return text;
}

/* Lists are limited: 32 layers are lawful, 33 are not. */
static void test_too_many_layers(void **state) {
    (void)state;
    for (size_t count = 32; count <= 33; count++) {
        char layers[4096] = "[";
        for (size_t i = 0; i < count; i++)
            snprintf(layers + strlen(layers), sizeof layers - strlen(layers),
                     "{\"units\": 2, \"activation\": \"linear\"}%s", i + 1 < count ? ", " : "]");
        char *text = changed("mlp.layers", layers);
        struct config config;
        struct pool pool;
        struct dien_error error;
        assert_int_equal(read_text(text, strlen(text), &config, &pool, &error), count == 32);
        if (count == 33)
            assert_message("33 layers", error.message, "mlp.layers: must be a list of 1 to 32");
        pool_free(&pool);
        free(text);
    }
}

/* A sigmoid needs one unit where a softmax needs two. */
static void test_a_sigmoid_has_one_unit(void **state) {
    (void)state;
    char *text = replaced("\"kind\": \"softmax\", \"positive\": 1", "\"kind\": \"sigmoid\"");
    assert_refused("a sigmoid", text, "mlp.layers: the last layer must have 1 units and be linear");
    free(text);
}

static void test_names_with_dots(void **state) {
    (void)state;
    char *text = replaced("\"tables\": {", "\"tables\": {\"a.b\": {\"rows\": 1, \"width\": 1}, ");
    assert_refused("a table with a dot", text, "config.json: tables.a.b: must be a name");
    free(text);
}

static void test_a_product_needs_equal_widths(void **state) {
    (void)state;
    char *text = replaced("\"target\": [\"item\", \"shop\"]", "\"target\": [\"item\"]");
    assert_refused("a narrower target", text,
                   "mlp.inputs[4]: a behaviour of \"clicks\" has width 3, its target 2; a product needs them equal");
    free(text);
}

static void test_a_bias_of_a_dense_field(void **state) {
    (void)state;
    char *text = replaced("\"candidate\": [\"shop\", \"item\"]", "\"candidate\": [\"shop\", \"item\", \"price\"]");
    char *last = strstr(text, "\"field\": \"item\"");
    assert_non_null(last);
    size_t size = strlen(text) + 2;
    char *both = malloc(size);
    assert_non_null(both);
    snprintf(both, size, "%.*s\"field\": \"price\"%s", (int)(last - text), text, last + strlen("\"field\": \"item\""));
    assert_refused("a dense field", both, "output.bias.table: must name a table of width 1");
    free(both);
    free(text);
}

/* ---- text ---- */

static void test_hostile_text(void **state) {
    (void)state;
    const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "config.json: line 1, column 0: "},
        {"[]", "config.json: must be an object"},
        {"5", "config.json: line 1, column "},
        {"{\n \"format\": x}", "config.json: line 2, column "},
        {"{\"format\": \"dien/1\", \"format\": \"dien/1\"}", "duplicate object key"},
        {"{\"format\": \"\xff\"}", "config.json: line 1"},
        {"{\"name\\u0000\": 1}", "config.json: line 1"},
        {"{\"format\": \"dien/1\"} x", "config.json: line 1, column "},
        {"{\"format\": \"dien/1\", \"a b\": 1}", "the document: unknown key \"a b\""},
        {"{\"format\": \"dien/1\", \"\": 1}", "the document: unknown key \"\""},
        {"{\"format\": \"dien/1\", \" name \": 1}", "the document: unknown key \" name \""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused(cases[i].text, cases[i].text, cases[i].expected);
    char *depth = malloc(400001);
    assert_non_null(depth);
    memset(depth, '[', 400000);
    depth[400000] = '\0';
    assert_refused("a depth bomb", depth, "maximum parsing depth reached");
    free(depth);
}

static void test_truncated_anywhere(void **state) {
    (void)state;
    size_t whole = strlen(small_config());
    for (size_t size = 0; size < whole; size++) {
        struct config config;
        struct pool pool;
        struct dien_error error;
        assert_false(read_text(small_config(), size, &config, &pool, &error));
        assert_message("truncated", error.message, "config.json: line 1, column ");
        pool_free(&pool);
    }
}

static void test_files_that_are_none(void **state) {
    (void)state;
    struct config config;
    struct pool pool = {0};
    struct dien_error error = {""};
    assert_false(config_read(&config, "no/such/config.json", &pool, &error));
    assert_message("nothing", error.message, "no/such/config.json: cannot open: ");
    assert_false(config_read(&config, "/dev/null", &pool, &error));
    assert_message("a device", error.message, "/dev/null: not a regular file");
    struct memory_file file = open_memory_file("{}", 2);
    assert_int_equal(ftruncate(file.descriptor, (64 << 20) + 1), 0);
    assert_false(config_read(&config, file.path, &pool, &error));
    assert_message("a large file", error.message, "cannot read 67108865 bytes (at most 67108864 are allowed)");
    close(file.descriptor);
    pool_free(&pool);
}

/* ---- dien/2 ---- */

/* small_config() in dien/2 where "country", of the user, has several values. The caller frees it. */
static char *multi_valued(void) {
    char *second = changed("format", "\"dien/2\""), *pooled = changed_of(second, "fields.3.pool", "\"max\"");
    char *text = changed_of(pooled, "fields.3.values", "1024");
    free(second), free(pooled);
    return text;
}

static void test_multi_valued_fields(void **state) {
    (void)state;
    static const struct {
        const char *path, *value, *expected; /* NULL: lawful */
    } cases[] = {
        {"fields.3.values", "1", NULL},
        {"fields.3.pool", "\"sum\"", NULL},
        {"interests.0.evolution.cell", "\"augru-keep\"", NULL},
        {"fields.3.values", NULL, "fields[3].values: must be an integer from 1 to 1024"},
        {"fields.3.values", "0", "fields[3].values: must be an integer from 1 to 1024"},
        {"fields.3.values", "1025", "fields[3].values: must be an integer from 1 to 1024"},
        {"fields.3.pool", NULL, "fields[3].pool: is missing, must be one of \"sum\", \"mean\", \"max\""},
        {"fields.3.pool", "\"min\"", "fields[3].pool: is \"min\", must be one of"},
        {"fields.2.values", "3", "fields[2]: unknown key \"values\""},
        {"format", "\"dien/1\"", "fields[3]: \"pool\" and \"values\" need \"format\": \"dien/2\""},
    };
    struct config config;
    struct pool pool;
    struct dien_error error;
    char *text = multi_valued();
    assert_true(read_text(text, strlen(text), &config, &pool, &error));
    assert_int_equal(config.fields[3].values, 1024);
    assert_int_equal(config.fields[3].pool, POOL_MAX);
    assert_int_equal(config.fields[0].values, 0);
    pool_free(&pool);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *other = changed_of(text, cases[i].path, cases[i].value);
        bool good = read_text(other, strlen(other), &config, &pool, &error);
        if (good != (cases[i].expected == NULL))
            fail_msg("%s: %s", cases[i].path, good ? "accepted" : error.message);
        if (cases[i].expected != NULL)
            assert_message(cases[i].path, error.message, cases[i].expected);
        pool_free(&pool);
        free(other);
    }
    free(text);
}

/* A field of several values is no parent, and has no bias of its own. */
static void test_where_multi_valued_fields_do_not_belong(void **state) {
    (void)state;
    char *text = multi_valued(), *parent = changed_of(text, "fields.2.attribute_of", "\"country\"");
    assert_refused("a parent", parent, "fields[2].attribute_of: \"country\" has several values");
    char *wide = changed_of(text, "fields.1.table", "\"item\""),
         *bias = changed_of(wide, "output.bias.field", "\"shop\"");
    struct config config;
    struct pool pool;
    struct dien_error error;
    assert_true(read_text(bias, strlen(bias), &config, &pool, &error));
    pool_free(&pool);
    char *shop = changed_of(bias, "fields.1.pool", "\"mean\""), *shops = changed_of(shop, "fields.1.values", "2");
    assert_refused("a bias", shops, "output.bias.field: \"shop\" has several values");
    free(text), free(parent), free(wide), free(bias), free(shop), free(shops);
}

/* ---- properties ---- */

static void test_when_states_stay_within_one(void **state) {
    (void)state;
    const struct {
        enum cell_kind kind;
        bool softmax, expected;
    } cases[] = {{CELL_AUGRU_AND, false, false},  {CELL_AUGRU_OR, false, false}, {CELL_AGRU, false, false},
                 {CELL_AIGRU, false, true},       {CELL_AGRU, true, true},       {CELL_AUGRU_OR, true, true},
                 {CELL_AUGRU_KEEP, false, false}, {CELL_AUGRU_KEEP, true, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct interest_config interest = {.evolution.kind = cases[i].kind, .attention.softmax = cases[i].softmax};
        assert_int_equal(config_keeps_within_one(&interest), cases[i].expected);
        assert_false(config_evolves_alone(&interest));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_everything),
        cmocka_unit_test(test_each_key_wrong),
        cmocka_unit_test(test_lawful_changes),
        cmocka_unit_test(test_too_many_layers),
        cmocka_unit_test(test_a_sigmoid_has_one_unit),
        cmocka_unit_test(test_names_with_dots),
        cmocka_unit_test(test_a_product_needs_equal_widths),
        cmocka_unit_test(test_a_bias_of_a_dense_field),
        cmocka_unit_test(test_hostile_text),
        cmocka_unit_test(test_truncated_anywhere),
        cmocka_unit_test(test_files_that_are_none),
        cmocka_unit_test(test_multi_valued_fields),
        cmocka_unit_test(test_where_multi_valued_fields_do_not_belong),
        cmocka_unit_test(test_when_states_stay_within_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
