/* config.c: read and check config.json. Every message gives the path of the key that is wrong. */
#include "model/format/config.h"

#include "model/format/error.h"
#include "model/format/file.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEXT_LIMIT = 64 << 20 }; /* bytes of config.json */

/* What every reading function needs. */
struct reader {
    struct config *config;
    struct pool *pool;
    struct dien_error *error;
};

/* A place in the document: "interests[0].attention". */
struct where {
    char text[256];
};

static struct where at(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct where at(const char *format, ...) {
    struct where where;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(where.text, sizeof where.text, format, arguments);
    va_end(arguments);
    return where;
}

/* Always false, which dien_fail() does not tell the static analyser. */
#define FAIL(reader, ...) (dien_fail((reader)->error, "config.json: " __VA_ARGS__), false)

static bool out_of_memory(struct reader *reader) {
    return FAIL(reader, "out of memory");
}

/* What stands there, for a message: a string as it is, else its kind. */
static struct where said(const json_t *value) {
    if (json_is_string(value))
        return at("\"%.100s\"", json_string_value(value));
    return at("%s", value == NULL           ? "missing"
                    : json_is_object(value) ? "an object"
                    : json_is_array(value)  ? "a list"
                    : json_is_number(value) ? "a number"
                                            : "true, false or null");
}

/* ---- values
 * ---------------------------------------------------------------------------------------------------------- */

/* An object whose keys are all in `allowed`, a list of words between spaces. */
static bool check_object(struct reader *reader, json_t *object, const char *where, const char *allowed) {
    if (!json_is_object(object))
        return FAIL(reader, "%s: must be an object", where);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        char word[64];
        int length = snprintf(word, sizeof word, " %s ", key);
        if (length < 0 || (size_t)length >= sizeof word || strchr(key, ' ') != NULL || strstr(allowed, word) == NULL)
            return FAIL(reader, "%s: unknown key \"%.100s\" (allowed:%s)", where, key, allowed);
    }
    return true;
}

static bool name_is_good(const char *name, bool dots) {
    size_t length = strlen(name);
    const char *good = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    return length >= 1 && length <= 64 && strspn(name, good) == length && (dots || strchr(name, '.') == NULL);
}

static bool copy_name(struct reader *reader, const char *name, const char *where, bool dots, const char **copy) {
    if (name == NULL || !name_is_good(name, dots))
        return FAIL(reader, "%s: must be a name of 1 to 64 letters, digits, _ or -", where);
    char *kept = pool_array(reader->pool, strlen(name) + 1, 1);
    if (kept == NULL)
        return out_of_memory(reader);
    snprintf(kept, strlen(name) + 1, "%s", name);
    *copy = kept;
    return true;
}

static bool read_name(struct reader *reader, json_t *object, const char *where, const char *key, bool dots,
                      const char **name) {
    return copy_name(reader, json_string_value(json_object_get(object, key)), at("%s.%s", where, key).text, dots, name);
}

static bool read_count(struct reader *reader, json_t *object, const char *where, const char *key, size_t low,
                       size_t high, size_t *count) {
    json_t *value = json_object_get(object, key);
    json_int_t integer = json_integer_value(value);
    if (!json_is_integer(value) || integer < (json_int_t)low || (size_t)integer > high)
        return FAIL(reader, "%s.%s: must be an integer from %zu to %zu", where, key, low, high);
    *count = (size_t)integer;
    return true;
}

/* One of `words`; *choice is its place. */
static bool choose(struct reader *reader, json_t *value, const char *where, const char *const *words, size_t *choice) {
    const char *text = json_string_value(value);
    char list[160] = "";
    for (size_t i = 0; words[i] != NULL; i++) {
        if (text != NULL && strcmp(text, words[i]) == 0) {
            *choice = i;
            return true;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i > 0 ? ", " : "", words[i]);
    }
    return FAIL(reader, "%s: is %s, must be one of %s", where, said(value).text, list);
}

/* The length of a non-empty array, at most `high`. */
static bool array_length(struct reader *reader, json_t *array, const char *where, size_t high, size_t *length) {
    *length = json_array_size(array);
    if (!json_is_array(array) || *length == 0 || *length > high)
        return FAIL(reader, "%s: must be a list of 1 to %zu", where, high);
    return true;
}

/* ---- vocabularies, tables, fields, groups
 * ---------------------------------------------------------------------------- */

static bool read_vocabularies(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    if (object == NULL)
        return true;
    if (!json_is_object(object))
        return FAIL(reader, "vocabularies: must be an object");
    config->vocabularies = pool_array(reader->pool, json_object_size(object), sizeof *config->vocabularies);
    if (config->vocabularies == NULL)
        return out_of_memory(reader);
    const char *name;
    json_t *entry;
    json_object_foreach(object, name, entry) {
        struct vocabulary_config *vocabulary = &config->vocabularies[config->vocabulary_count++];
        struct where where = at("vocabularies.%.64s", name);
        size_t type;
        if (!copy_name(reader, name, where.text, false, &vocabulary->name) ||
            !check_object(reader, entry, where.text, " type entries probe ") ||
            !choose(reader, json_object_get(entry, "type"), at("%s.type", where.text).text,
                    (const char *const[]){"integer", "string", NULL}, &type) ||
            !read_count(reader, entry, where.text, "entries", 1, INT32_MAX, &vocabulary->entries) ||
            !read_count(reader, entry, where.text, "probe", 1, INT32_MAX, &vocabulary->probe))
            return false;
        vocabulary->strings = type == 1;
    }
    return true;
}

static bool read_tables(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    if (object == NULL)
        return true;
    if (!json_is_object(object))
        return FAIL(reader, "tables: must be an object");
    config->tables = pool_array(reader->pool, json_object_size(object), sizeof *config->tables);
    if (config->tables == NULL)
        return out_of_memory(reader);
    const char *name;
    json_t *entry;
    json_object_foreach(object, name, entry) {
        struct table_config *table = &config->tables[config->table_count++];
        struct where where = at("tables.%.64s", name);
        if (!copy_name(reader, name, where.text, false, &table->name) ||
            !check_object(reader, entry, where.text, " rows width ") ||
            !read_count(reader, entry, where.text, "rows", 1, INT32_MAX, &table->rows) ||
            !read_count(reader, entry, where.text, "width", 1, CONFIG_MAX_WIDTH, &table->width))
            return false;
    }
    return true;
}

static size_t find_vocabulary(const struct config *config, const char *name) {
    for (size_t i = 0; name != NULL && i < config->vocabulary_count; i++)
        if (strcmp(config->vocabularies[i].name, name) == 0)
            return i;
    return CONFIG_NONE;
}

static size_t find_table(const struct config *config, const char *name) {
    for (size_t i = 0; name != NULL && i < config->table_count; i++)
        if (strcmp(config->tables[i].name, name) == 0)
            return i;
    return CONFIG_NONE;
}

static size_t find_field(const struct config *config, const char *name) {
    for (size_t i = 0; name != NULL && i < config->field_count; i++)
        if (strcmp(config->fields[i].name, name) == 0)
            return i;
    return CONFIG_NONE;
}

static bool read_categorical(struct reader *reader, json_t *entry, const char *where, struct field_config *field) {
    const struct config *config = reader->config;
    size_t ids, row = 0;
    if (!check_object(reader, entry, where, " name kind table ids vocabulary first_row unknown_row attribute_of "))
        return false;
    field->table = find_table(config, json_string_value(json_object_get(entry, "table")));
    if (field->table == CONFIG_NONE)
        return FAIL(reader, "%s.table: is %s, must name one of tables", where,
                    said(json_object_get(entry, "table")).text);
    size_t rows = config->tables[field->table].rows;
    if (!choose(reader, json_object_get(entry, "ids"), at("%s.ids", where).text,
                (const char *const[]){"index", "vocabulary", NULL}, &ids))
        return false;
    if (ids == 1) {
        field->vocabulary = find_vocabulary(config, json_string_value(json_object_get(entry, "vocabulary")));
        if (field->vocabulary == CONFIG_NONE)
            return FAIL(reader, "%s.vocabulary: is %s, must name one of vocabularies", where,
                        said(json_object_get(entry, "vocabulary")).text);
    } else if (json_object_get(entry, "vocabulary") != NULL)
        return FAIL(reader, "%s.vocabulary: goes with \"ids\": \"vocabulary\" only", where);
    if (json_object_get(entry, "first_row") != NULL) {
        if (!read_count(reader, entry, where, "first_row", 0, rows - 1, &row))
            return false;
        field->first_row = (int32_t)row;
    }
    if (!read_count(reader, entry, where, "unknown_row", 0, rows - 1, &row))
        return false;
    field->unknown_row = (int32_t)row;
    return true;
}

static bool read_field(struct reader *reader, json_t *entry, const char *where, struct field_config *field) {
    size_t kind;
    const char *name;
    *field = (struct field_config){.table = CONFIG_NONE, .vocabulary = CONFIG_NONE, .parent = CONFIG_NONE};
    if (!json_is_object(entry))
        return FAIL(reader, "%s: must be an object", where);
    if (!read_name(reader, entry, where, "name", false, &name))
        return false;
    if (find_field(reader->config, name) != CONFIG_NONE)
        return FAIL(reader, "%s.name: \"%s\" names an earlier field too", where, name);
    field->name = name;
    if (!choose(reader, json_object_get(entry, "kind"), at("%s.kind", where).text,
                (const char *const[]){"categorical", "dense", NULL}, &kind))
        return false;
    if (kind == 0)
        return read_categorical(reader, entry, where, field);
    field->dense = true;
    return check_object(reader, entry, where, " name kind width units attribute_of ") &&
           read_count(reader, entry, where, "width", 1, CONFIG_MAX_WIDTH, &field->width) &&
           (json_object_get(entry, "units") == NULL ||
            read_count(reader, entry, where, "units", 1, CONFIG_MAX_WIDTH, &field->units));
}

/* Parents may come after their attributes, so they are resolved when all fields are known. */
static bool read_parents(struct reader *reader, json_t *array) {
    struct config *config = reader->config;
    for (size_t i = 0; i < config->field_count; i++) {
        json_t *name = json_object_get(json_array_get(array, i), "attribute_of");
        if (name == NULL)
            continue;
        size_t parent = find_field(config, json_string_value(name));
        if (parent == CONFIG_NONE || parent == i || config->fields[parent].dense)
            return FAIL(reader, "fields[%zu].attribute_of: is %s, must name another, categorical field", i,
                        said(name).text);
        if (json_object_get(json_array_get(array, parent), "attribute_of") != NULL)
            return FAIL(reader, "fields[%zu].attribute_of: \"%s\" is an attribute itself", i,
                        config->fields[parent].name);
        config->fields[i].parent = parent;
    }
    return true;
}

static bool read_fields(struct reader *reader, json_t *array) {
    struct config *config = reader->config;
    size_t count;
    if (!array_length(reader, array, "fields", CONFIG_MAX_FIELDS, &count))
        return false;
    config->fields = pool_array(reader->pool, count, sizeof *config->fields);
    if (config->fields == NULL)
        return out_of_memory(reader);
    for (size_t i = 0; i < count; i++) {
        struct field_config field;
        if (!read_field(reader, json_array_get(array, i), at("fields[%zu]", i).text, &field))
            return false;
        config->fields[config->field_count++] = field;
    }
    return read_parents(reader, array);
}

static bool is_among(const struct places *places, size_t value) {
    for (size_t i = 0; i < places->count; i++)
        if (places->at[i] == value)
            return true;
    return false;
}

static bool read_group(struct reader *reader, json_t *array, const char *where, struct places *group) {
    size_t count;
    if (!array_length(reader, array, where, CONFIG_MAX_FIELDS, &count))
        return false;
    group->at = pool_array(reader->pool, count, sizeof *group->at);
    if (group->at == NULL)
        return out_of_memory(reader);
    for (size_t i = 0; i < count; i++) {
        size_t field = find_field(reader->config, json_string_value(json_array_get(array, i)));
        if (field == CONFIG_NONE)
            return FAIL(reader, "%s[%zu]: is %s, must name one of fields", where, i,
                        said(json_array_get(array, i)).text);
        if (is_among(group, field))
            return FAIL(reader, "%s[%zu]: \"%s\" is there twice", where, i, reader->config->fields[field].name);
        group->at[group->count++] = field;
    }
    return true;
}

static bool check_groups(struct reader *reader) {
    const struct config *config = reader->config;
    if (config->groups[DIEN_BEHAVIOUR].count == 0 || config->groups[DIEN_CANDIDATE].count == 0)
        return FAIL(reader, "groups: behaviour and candidate need at least one field");
    for (size_t field = 0; field < config->field_count; field++) {
        bool used = false;
        for (int group = 0; group < DIEN_GROUPS; group++) {
            bool member = is_among(&config->groups[group], field);
            size_t parent = config->fields[field].parent;
            used = used || member;
            if (parent != CONFIG_NONE && member && !is_among(&config->groups[group], parent))
                return FAIL(reader, "groups: \"%s\" is in a group that its parent \"%s\" is not in",
                            config->fields[field].name, config->fields[parent].name);
        }
        if (!used)
            return FAIL(reader, "groups: the field \"%s\" is in none", config->fields[field].name);
    }
    return true;
}

static bool read_groups(struct reader *reader, json_t *object) {
    static const char *const names[DIEN_GROUPS] = {"user", "context", "behaviour", "candidate"};
    if (!check_object(reader, object, "groups", " user context behaviour candidate "))
        return false;
    for (int group = 0; group < DIEN_GROUPS; group++) {
        json_t *array = json_object_get(object, names[group]);
        if (array == NULL || (json_is_array(array) && json_array_size(array) == 0))
            continue;
        if (!read_group(reader, array, at("groups.%s", names[group]).text, &reader->config->groups[group]))
            return false;
    }
    return check_groups(reader);
}

/* ---- interests
 * ------------------------------------------------------------------------------------------------------- */

/* Names of fields of a group, as places within the group. */
static bool read_places(struct reader *reader, json_t *array, const char *where, enum dien_group group,
                        struct places *places) {
    const struct places *members = &reader->config->groups[group];
    size_t count;
    if (!array_length(reader, array, where, CONFIG_MAX_FIELDS, &count))
        return false;
    places->at = pool_array(reader->pool, count, sizeof *places->at);
    if (places->at == NULL)
        return out_of_memory(reader);
    for (size_t i = 0; i < count; i++) {
        size_t field = find_field(reader->config, json_string_value(json_array_get(array, i)));
        size_t place = 0;
        while (place < members->count && members->at[place] != field)
            place++;
        if (field == CONFIG_NONE || place == members->count)
            return FAIL(reader, "%s[%zu]: is %s, must name a field of its group", where, i,
                        said(json_array_get(array, i)).text);
        if (is_among(places, place))
            return FAIL(reader, "%s[%zu]: \"%s\" is there twice", where, i, reader->config->fields[field].name);
        places->at[places->count++] = place;
    }
    return true;
}

/* A number that float32 can hold. */
static bool read_number(struct reader *reader, json_t *object, const char *where, const char *key, float *number) {
    json_t *value = json_object_get(object, key);
    *number = (float)json_number_value(value);
    if (!json_is_number(value) || !isfinite(*number))
        return FAIL(reader, "%s.%s: must be a number in the range of float32", where, key);
    return true;
}

static bool read_epsilon(struct reader *reader, json_t *object, const char *where, struct layer_config *layer) {
    if (layer->activation != ACTIVATION_DICE_ROW)
        return json_object_get(object, "epsilon") == NULL ||
               FAIL(reader, "%s.epsilon: goes with \"activation\": \"dice-row\" only", where);
    if (!read_number(reader, object, where, "epsilon", &layer->epsilon))
        return false;
    return layer->epsilon > 0 || FAIL(reader, "%s.epsilon: must be greater than 0", where);
}

static bool read_layer(struct reader *reader, json_t *object, const char *where, struct layer_config *layer) {
    static const char *const names[] = {"linear", "relu", "sigmoid", "tanh", "silu", "prelu", "dice", "dice-row", NULL};
    size_t activation;
    if (!check_object(reader, object, where, " units activation epsilon ") ||
        !read_count(reader, object, where, "units", 1, CONFIG_MAX_WIDTH, &layer->units) ||
        !choose(reader, json_object_get(object, "activation"), at("%s.activation", where).text, names, &activation))
        return false;
    layer->activation = (enum activation)activation;
    return read_epsilon(reader, object, where, layer);
}

/* A stack of layers that ends in `last` linear units. */
static bool read_layers(struct reader *reader, json_t *array, const char *where, size_t last, size_t *count,
                        struct layer_config **layers) {
    if (!array_length(reader, array, where, CONFIG_MAX_LAYERS, count))
        return false;
    *layers = pool_array(reader->pool, *count, sizeof **layers);
    if (*layers == NULL)
        return out_of_memory(reader);
    for (size_t i = 0; i < *count; i++)
        if (!read_layer(reader, json_array_get(array, i), at("%s[%zu]", where, i).text, &(*layers)[i]))
            return false;
    const struct layer_config *end = &(*layers)[*count - 1];
    if (end->units != last || end->activation != ACTIVATION_LINEAR)
        return FAIL(reader, "%s: the last layer must have %zu units and be linear", where, last);
    return true;
}

static bool read_attention_inputs(struct reader *reader, json_t *array, const char *where,
                                  struct attention_inputs *inputs) {
    static const char *const names[] = {"q", "k", "q-k", "k-q", "q*k", NULL};
    bool seen[4] = {false};
    if (!json_is_array(array) || json_array_size(array) != 4)
        return FAIL(reader, "%s: must be a list of 4", where);
    for (size_t i = 0; i < 4; i++) {
        size_t choice;
        if (!choose(reader, json_array_get(array, i), at("%s[%zu]", where, i).text, names, &choice))
            return false;
        inputs->key_first = inputs->key_first || choice == 3;
        size_t block = choice < 3 ? choice : choice - 1;
        if (seen[block])
            return FAIL(reader, "%s[%zu]: is there twice", where, i);
        seen[block] = true;
        size_t *const slots[] = {&inputs->query, &inputs->key, &inputs->difference, &inputs->product};
        *slots[block] = i;
    }
    return true;
}

/* An attention that there is: kind dot, bilinear or mlp. */
static bool read_scoring(struct reader *reader, json_t *object, const char *where, struct attention_config *attention) {
    size_t normalise;
    json_t *query = json_object_get(object, "query");
    if (!choose(reader, json_object_get(object, "normalise"), at("%s.normalise", where).text,
                (const char *const[]){"none", "softmax", NULL}, &normalise))
        return false;
    attention->softmax = normalise == 1;
    attention->scale = 1;
    if (json_object_get(object, "scale") != NULL && !read_number(reader, object, where, "scale", &attention->scale))
        return false;
    attention->has_query = query != NULL;
    if (query != NULL && !read_layer(reader, query, at("%s.query", where).text, &attention->query))
        return false;
    if (attention->kind == ATTENTION_MLP)
        return read_attention_inputs(reader, json_object_get(object, "inputs"), at("%s.inputs", where).text,
                                     &attention->inputs) &&
               read_layers(reader, json_object_get(object, "layers"), at("%s.layers", where).text, 1,
                           &attention->layer_count, &attention->layers);
    if (json_object_get(object, "inputs") != NULL || json_object_get(object, "layers") != NULL)
        return FAIL(reader, "%s: inputs and layers go with \"kind\": \"mlp\" only", where);
    return true;
}

static bool read_attention(struct reader *reader, json_t *object, const char *where,
                           struct attention_config *attention) {
    size_t kind;
    if (!check_object(reader, object, where, " kind query inputs layers scale normalise ") ||
        !choose(reader, json_object_get(object, "kind"), at("%s.kind", where).text,
                (const char *const[]){"none", "dot", "bilinear", "mlp", NULL}, &kind))
        return false;
    attention->kind = (enum attention_kind)kind;
    if (attention->kind != ATTENTION_NONE)
        return read_scoring(reader, object, where, attention);
    return json_object_size(object) == 1 || FAIL(reader, "%s: \"kind\": \"none\" goes with no other key", where);
}

static bool read_cell(struct reader *reader, json_t *object, const char *where, const char *const *cells,
                      size_t *choice, struct cell_config *cell) {
    size_t reset;
    if (!check_object(reader, object, where, " cell units reset ") ||
        !choose(reader, json_object_get(object, "cell"), at("%s.cell", where).text, cells, choice) ||
        !read_count(reader, object, where, "units", 1, CONFIG_MAX_WIDTH, &cell->units) ||
        !choose(reader, json_object_get(object, "reset"), at("%s.reset", where).text,
                (const char *const[]){"before", "after", NULL}, &reset))
        return false;
    cell->reset = reset == 0 ? RESET_BEFORE : RESET_AFTER;
    return true;
}

static bool check_widths(struct reader *reader, const struct interest_config *interest, const char *where) {
    const struct attention_config *attention = &interest->attention;
    if ((attention->kind == ATTENTION_NONE) != (interest->evolution_kind == EVOLUTION_GRU))
        return FAIL(reader, "%s: attention \"none\" and evolution \"gru\" go together, and only together", where);
    size_t query = attention->has_query ? attention->query.units
                                        : config_places_width(reader->config, DIEN_CANDIDATE, &interest->target);
    bool equal = attention->kind == ATTENTION_MLP || attention->kind == ATTENTION_DOT;
    if (equal && query != config_key_width(interest))
        return FAIL(reader,
                    "%s.attention: the query has width %zu, the keys (of extractor or evolution) %zu; dot and mlp need "
                    "them equal",
                    where, query, config_key_width(interest));
    return true;
}

static bool read_interest(struct reader *reader, json_t *object, const char *where, struct interest_config *interest) {
    static const char *const cells[] = {"augru-and", "augru-or", "agru", "aigru", "gru", "gru+pooling", NULL};
    size_t keep, cell;
    if (!check_object(reader, object, where, " name history target max_length keep extractor attention evolution ") ||
        !read_name(reader, object, where, "name", false, &interest->name) ||
        !read_places(reader, json_object_get(object, "history"), at("%s.history", where).text, DIEN_BEHAVIOUR,
                     &interest->history) ||
        !read_places(reader, json_object_get(object, "target"), at("%s.target", where).text, DIEN_CANDIDATE,
                     &interest->target) ||
        !read_count(reader, object, where, "max_length", 1, CONFIG_MAX_LENGTH, &interest->max_length) ||
        !choose(reader, json_object_get(object, "keep"), at("%s.keep", where).text,
                (const char *const[]){"last", "first", NULL}, &keep) ||
        !read_cell(reader, json_object_get(object, "extractor"), at("%s.extractor", where).text,
                   (const char *const[]){"gru", NULL}, &cell, &interest->extractor) ||
        !read_attention(reader, json_object_get(object, "attention"), at("%s.attention", where).text,
                        &interest->attention) ||
        !read_cell(reader, json_object_get(object, "evolution"), at("%s.evolution", where).text, cells, &cell,
                   &interest->evolution))
        return false;
    interest->keep_first = keep == 1;
    interest->evolution_kind = (enum evolution_kind)cell;
    return check_widths(reader, interest, where);
}

static bool check_interests(struct reader *reader) {
    const struct config *config = reader->config;
    for (size_t i = 0; i < config->interest_count; i++)
        for (size_t j = 0; j < i; j++)
            if (strcmp(config->interests[i].name, config->interests[j].name) == 0)
                return FAIL(reader, "interests[%zu].name: \"%s\" names an earlier interest too", i,
                            config->interests[i].name);
    for (size_t place = 0; place < config->groups[DIEN_BEHAVIOUR].count; place++) {
        bool read = false;
        for (size_t i = 0; i < config->interest_count; i++)
            read = read || is_among(&config->interests[i].history, place);
        if (!read)
            return FAIL(reader, "groups.behaviour: no interest reads \"%s\"",
                        config->fields[config->groups[DIEN_BEHAVIOUR].at[place]].name);
    }
    return true;
}

static bool read_interests(struct reader *reader, json_t *array) {
    struct config *config = reader->config;
    size_t count;
    if (!array_length(reader, array, "interests", CONFIG_MAX_INTERESTS, &count))
        return false;
    config->interests = pool_array(reader->pool, count, sizeof *config->interests);
    if (config->interests == NULL)
        return out_of_memory(reader);
    for (size_t i = 0; i < count; i++) {
        if (!read_interest(reader, json_array_get(array, i), at("interests[%zu]", i).text, &config->interests[i]))
            return false;
        config->interest_count++;
    }
    return check_interests(reader);
}

/* ---- the MLP and the output
 * ------------------------------------------------------------------------------------------ */

static size_t find_interest(const struct config *config, const char *name) {
    for (size_t i = 0; i < config->interest_count; i++)
        if (strcmp(config->interests[i].name, name) == 0)
            return i;
    return CONFIG_NONE;
}

static size_t find_member(const struct config *config, enum dien_group group, const char *name) {
    const struct places *members = &config->groups[group];
    for (size_t i = 0; i < members->count; i++)
        if (strcmp(config->fields[members->at[i]].name, name) == 0)
            return i;
    return CONFIG_NONE;
}

/* "user.country", "interest.clicks", ...: the part before the dot is the kind, the rest names a field or an interest.
 */
static bool read_input(struct reader *reader, const char *text, const char *where, struct input_config *input) {
    static const struct {
        const char *prefix;
        enum input_kind kind;
        enum dien_group group; /* DIEN_GROUPS: an interest */
    } kinds[] = {
        {"user.", INPUT_USER, DIEN_USER},
        {"context.", INPUT_CONTEXT, DIEN_CONTEXT},
        {"candidate.", INPUT_CANDIDATE, DIEN_CANDIDATE},
        {"interest.", INPUT_INTEREST, DIEN_GROUPS},
        {"history_sum.", INPUT_HISTORY_SUM, DIEN_GROUPS},
        {"product.", INPUT_PRODUCT, DIEN_GROUPS},
    };
    for (size_t i = 0; text != NULL && i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].prefix);
        if (strncmp(text, kinds[i].prefix, length) != 0)
            continue;
        input->kind = kinds[i].kind;
        input->place = kinds[i].group == DIEN_GROUPS ? find_interest(reader->config, text + length)
                                                     : find_member(reader->config, kinds[i].group, text + length);
        if (input->place == CONFIG_NONE)
            return FAIL(reader, "%s: \"%.100s\" names nothing that the model has", where, text);
        return true;
    }
    return FAIL(
        reader,
        "%s: must be user.FIELD, context.FIELD, candidate.FIELD, interest.NAME, history_sum.NAME or product.NAME",
        where);
}

static bool check_product(struct reader *reader, const struct interest_config *interest, const char *where) {
    size_t behaviour = config_places_width(reader->config, DIEN_BEHAVIOUR, &interest->history);
    size_t target = config_places_width(reader->config, DIEN_CANDIDATE, &interest->target);
    if (behaviour != target)
        return FAIL(reader, "%s: a behaviour of \"%s\" has width %zu, its target %zu; a product needs them equal",
                    where, interest->name, behaviour, target);
    return true;
}

static bool depends_on_candidate(const struct config *config, const struct input_config *input) {
    return input->kind == INPUT_CANDIDATE || input->kind == INPUT_PRODUCT ||
           (input->kind == INPUT_INTEREST && config->interests[input->place].evolution_kind != EVOLUTION_GRU);
}

/* A score that no candidate can move ranks nothing. */
static bool check_candidate_input(struct reader *reader) {
    const struct config *config = reader->config;
    for (size_t i = 0; i < config->input_count; i++)
        if (depends_on_candidate(config, &config->inputs[i]))
            return true;
    return FAIL(reader, "mlp.inputs: none of them depends on the candidate");
}

static bool read_inputs(struct reader *reader, json_t *array) {
    struct config *config = reader->config;
    size_t count;
    if (!array_length(reader, array, "mlp.inputs", CONFIG_MAX_FIELDS + 3 * CONFIG_MAX_INTERESTS, &count))
        return false;
    config->inputs = pool_array(reader->pool, count, sizeof *config->inputs);
    if (config->inputs == NULL)
        return out_of_memory(reader);
    for (size_t i = 0; i < count; i++) {
        struct where where = at("mlp.inputs[%zu]", i);
        struct input_config *input = &config->inputs[i];
        if (!read_input(reader, json_string_value(json_array_get(array, i)), where.text, input))
            return false;
        if (input->kind == INPUT_PRODUCT && !check_product(reader, &config->interests[input->place], where.text))
            return false;
        for (size_t j = 0; j < i; j++)
            if (config->inputs[j].kind == input->kind && config->inputs[j].place == input->place)
                return FAIL(reader, "%s: is there twice", where.text);
        config->input_count++;
    }
    return check_candidate_input(reader);
}

/* A bias for each row of a candidate field, such as an item's own. */
static bool read_output_bias(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    config->bias_place = CONFIG_NONE;
    if (object == NULL)
        return true;
    if (!check_object(reader, object, "output.bias", " field table "))
        return false;
    const char *field = json_string_value(json_object_get(object, "field"));
    config->bias_place = field != NULL ? find_member(config, DIEN_CANDIDATE, field) : CONFIG_NONE;
    if (config->bias_place == CONFIG_NONE)
        return FAIL(reader, "output.bias.field: is %s, must name a candidate field",
                    said(json_object_get(object, "field")).text);
    const struct field_config *member = &config->fields[config->groups[DIEN_CANDIDATE].at[config->bias_place]];
    config->bias_table = find_table(config, json_string_value(json_object_get(object, "table")));
    if (member->dense || config->bias_table == CONFIG_NONE || config->tables[config->bias_table].width != 1 ||
        config->tables[config->bias_table].rows != config->tables[member->table].rows)
        return FAIL(reader, "output.bias.table: must name a table of width 1 with as many rows as the table of \"%s\"",
                    member->name);
    return true;
}

static bool read_output(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    size_t kind;
    if (!check_object(reader, object, "output", " kind positive bias ") ||
        !choose(reader, json_object_get(object, "kind"), "output.kind",
                (const char *const[]){"sigmoid", "softmax", NULL}, &kind) ||
        !read_output_bias(reader, json_object_get(object, "bias")))
        return false;
    config->softmax = kind == 1;
    if (config->softmax)
        return read_count(reader, object, "output", "positive", 0, 1, &config->positive);
    if (json_object_get(object, "positive") != NULL)
        return FAIL(reader, "output.positive: goes with \"kind\": \"softmax\" only");
    return true;
}

static bool read_mlp(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    return check_object(reader, object, "mlp", " inputs layers ") &&
           read_inputs(reader, json_object_get(object, "inputs")) &&
           read_layers(reader, json_object_get(object, "layers"), "mlp.layers", config->softmax ? 2 : 1,
                       &config->layer_count, &config->layers);
}

/* ---- the document
 * ---------------------------------------------------------------------------------------------------- */

static bool read_document(struct reader *reader, json_t *root) {
    struct config *config = reader->config;
    const char *format = json_string_value(json_object_get(root, "format"));
    if (!json_is_object(root))
        return FAIL(reader, "must be an object");
    if (format == NULL || strcmp(format, "dien/1") != 0)
        return FAIL(reader, "format: must be \"dien/1\", the format that this server reads");
    return check_object(reader, root, "the document",
                        " format name version metadata vocabularies tables fields groups interests mlp output ") &&
           read_name(reader, root, "model", "name", true, &config->name) &&
           read_name(reader, root, "model", "version", true, &config->version) &&
           read_vocabularies(reader, json_object_get(root, "vocabularies")) &&
           read_tables(reader, json_object_get(root, "tables")) &&
           read_fields(reader, json_object_get(root, "fields")) &&
           read_groups(reader, json_object_get(root, "groups")) &&
           read_interests(reader, json_object_get(root, "interests")) &&
           read_output(reader, json_object_get(root, "output")) && read_mlp(reader, json_object_get(root, "mlp"));
}

/* The whole of a file, malloc'ed. NULL on error. */
static char *read_text(const char *path, size_t *size, struct dien_error *error) {
    int descriptor = file_open(path, size, error);
    if (descriptor < 0)
        return NULL;
    char *text = *size <= TEXT_LIMIT ? malloc(*size + 1) : NULL;
    ssize_t got = text != NULL ? read(descriptor, text, *size) : -1;
    close(descriptor);
    if (got >= 0 && (size_t)got == *size)
        return text;
    free(text);
    dien_fail(error, "%s: cannot read %zu bytes (at most %d are allowed)", path, *size, TEXT_LIMIT);
    return NULL;
}

bool config_read(struct config *config, const char *path, struct pool *pool, struct dien_error *error) {
    struct reader reader = {config, pool, error};
    json_error_t where;
    size_t size;
    *config = (struct config){0};
    char *text = read_text(path, &size, error);
    if (text == NULL)
        return false;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    free(text);
    if (root == NULL)
        return FAIL(&reader, "line %d, column %d: %s", where.line, where.column, where.text);
    bool good = read_document(&reader, root);
    json_decref(root);
    return good;
}

size_t config_field_width(const struct config *config, size_t field) {
    const struct field_config *entry = &config->fields[field];
    if (!entry->dense)
        return config->tables[entry->table].width;
    return entry->units > 0 ? entry->units : entry->width;
}

size_t config_places_width(const struct config *config, enum dien_group group, const struct places *places) {
    size_t width = 0;
    for (size_t i = 0; i < places->count; i++)
        width += config_field_width(config, config->groups[group].at[places->at[i]]);
    return width;
}

size_t config_input_width(const struct config *config, const struct input_config *input) {
    static const enum dien_group groups[] = {
        [INPUT_USER] = DIEN_USER, [INPUT_CONTEXT] = DIEN_CONTEXT, [INPUT_CANDIDATE] = DIEN_CANDIDATE};
    switch (input->kind) {
    case INPUT_USER:
    case INPUT_CONTEXT:
    case INPUT_CANDIDATE:
        return config_field_width(config, config->groups[groups[input->kind]].at[input->place]);
    case INPUT_INTEREST:
        return config->interests[input->place].evolution.units;
    case INPUT_HISTORY_SUM:
    case INPUT_PRODUCT:
        break;
    }
    return config_places_width(config, DIEN_BEHAVIOUR, &config->interests[input->place].history);
}
