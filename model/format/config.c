/* config.c: read and check config.json. Every message gives the path of the key at fault.
 *
 * The keys of each kind of object are a table. read_object() rejects keys that the table lacks, and reads the values
 * that stand alone. References, lists and nested objects are read by the functions after the tables.
 */
#include "model/format/config.h"

#include "model/error.h"
#include "model/format/file.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct reader {
    struct config *config;
    struct pool *pool;
    struct dien_error *error;
    bool second; /* the format is dien/2 */
};

/* dien_fail() as an expression that the static analyser knows to be false. */
#define FAIL(reader, ...) (dien_fail((reader)->error, "config.json: " __VA_ARGS__), false)

/* Part of a message. */
struct text {
    char text[256];
};

/* A path in the document, such as "interests[0].attention". */
static struct text json_path(const char *format, ...) __attribute__((format(printf, 1, 2)));
static struct text json_path(const char *format, ...) {
    struct text path;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(path.text, sizeof path.text, format, arguments);
    va_end(arguments);
    return path;
}

/* A string in quotes, or the kind of another value. */
static struct text describe_json(const json_t *value) {
    struct text text;
    if (json_is_string(value))
        snprintf(text.text, sizeof text.text, "\"%.100s\"", json_string_value(value));
    else
        snprintf(text.text, sizeof text.text, "%s",
                 value == NULL           ? "missing"
                 : json_is_object(value) ? "an object"
                 : json_is_array(value)  ? "a list"
                 : json_is_number(value) ? "a number"
                                         : "true, false or null");
    return text;
}

/* ---- tables of keys ---- */

enum value_kind {
    VALUE_NAME,        /* const char *: a name of letters, digits, _ and - */
    VALUE_DOTTED_NAME, /* const char *: dots too */
    VALUE_COUNT,       /* size_t, from low to high */
    VALUE_NUMBER,      /* float */
    VALUE_CHOICE,      /* enum: the index of a word */
    VALUE_FLAG,        /* bool: the second of two words */
    VALUE_OTHER        /* read by the function that reads the object */
};

struct key {
    const char *name; /* NULL ends a table */
    enum value_kind kind;
    bool optional;
    size_t member; /* offset in the struct that the object is read into */
    size_t low, high;
    const char *const *words; /* NULL ends them */
};

#define NAME(type, name)                                                                                               \
    { #name, VALUE_NAME, false, offsetof(struct type, name), 0, 0, NULL }
#define DOTTED_NAME(type, name)                                                                                        \
    { #name, VALUE_DOTTED_NAME, false, offsetof(struct type, name), 0, 0, NULL }
#define COUNT(type, name, low, high)                                                                                   \
    { #name, VALUE_COUNT, false, offsetof(struct type, name), low, high, NULL }
#define OPTIONAL_COUNT(type, name, low, high)                                                                          \
    { #name, VALUE_COUNT, true, offsetof(struct type, name), low, high, NULL }
#define OPTIONAL_NUMBER(type, name)                                                                                    \
    { #name, VALUE_NUMBER, true, offsetof(struct type, name), 0, 0, NULL }
#define CHOICE(type, name, member, words)                                                                              \
    { name, VALUE_CHOICE, false, offsetof(struct type, member), 0, 0, words }
#define FLAG(type, name, member, words)                                                                                \
    { name, VALUE_FLAG, false, offsetof(struct type, member), 0, 0, words }
#define OTHER(name)                                                                                                    \
    { name, VALUE_OTHER, true, 0, 0, 0, NULL }
#define END                                                                                                            \
    { NULL, VALUE_OTHER, true, 0, 0, 0, NULL }
#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

static const struct key document_keys[] = {
    OTHER("format"),   DOTTED_NAME(config, name), DOTTED_NAME(config, version),
    OTHER("metadata"), OTHER("vocabularies"),     OTHER("tables"),
    OTHER("fields"),   OTHER("groups"),           OTHER("interests"),
    OTHER("mlp"),      OTHER("output"),           END,
};
static const struct key vocabulary_keys[] = {
    FLAG(vocabulary_config, "type", strings, WORDS("integer", "string")),
    COUNT(vocabulary_config, entries, 1, INT32_MAX),
    COUNT(vocabulary_config, probe, 1, INT32_MAX),
    END,
};
static const struct key table_keys[] = {
    COUNT(table_config, rows, 1, INT32_MAX),
    COUNT(table_config, width, 1, CONFIG_WIDTH_MAX),
    END,
};
static const struct key field_kind = FLAG(field_config, "kind", dense, WORDS("categorical", "dense"));
static const struct key categorical_keys[] = {
    NAME(field_config, name),
    OTHER("kind"),
    OTHER("table"),
    OTHER("ids"),
    OTHER("vocabulary"),
    OTHER("first_row"),
    OTHER("unknown_row"),
    OTHER("attribute_of"),
    OTHER("pool"),
    OTHER("values"),
    END,
};
static const struct key dense_keys[] = {
    NAME(field_config, name),
    OTHER("kind"),
    COUNT(field_config, width, 1, CONFIG_WIDTH_MAX),
    OPTIONAL_COUNT(field_config, units, 1, CONFIG_WIDTH_MAX),
    OTHER("attribute_of"),
    END,
};
static const char *const group_names[DIEN_GROUPS] = {"user", "context", "behaviour", "candidate"};
static const struct key group_keys[] = {
    OTHER("user"), OTHER("context"), OTHER("behaviour"), OTHER("candidate"), END,
};
static const struct key layer_keys[] = {
    COUNT(layer_config, units, 1, CONFIG_WIDTH_MAX),
    CHOICE(layer_config, "activation", activation,
           WORDS("linear", "relu", "sigmoid", "tanh", "silu", "prelu", "dice", "dice-row")),
    OPTIONAL_NUMBER(layer_config, epsilon),
    END,
};
static const struct key interest_keys[] = {
    NAME(interest_config, name),
    OTHER("history"),
    OTHER("target"),
    COUNT(interest_config, max_length, 1, CONFIG_LENGTH_MAX),
    FLAG(interest_config, "keep", keep_first, WORDS("last", "first")),
    OTHER("extractor"),
    OTHER("attention"),
    OTHER("evolution"),
    END,
};
static const struct key extractor_keys[] = {
    CHOICE(cell_config, "cell", kind, WORDS("gru")),
    COUNT(cell_config, units, 1, CONFIG_WIDTH_MAX),
    CHOICE(cell_config, "reset", reset, WORDS("before", "after")),
    END,
};
static const struct key evolution_keys[] = {
    CHOICE(cell_config, "cell", kind,
           WORDS("gru", "gru+pooling", "augru-and", "augru-or", "agru", "aigru", "augru-keep")),
    COUNT(cell_config, units, 1, CONFIG_WIDTH_MAX),
    CHOICE(cell_config, "reset", reset, WORDS("before", "after")),
    END,
};
static const struct key attention_kind =
    CHOICE(attention_config, "kind", kind, WORDS("none", "dot", "bilinear", "mlp"));
static const struct key no_attention_keys[] = {OTHER("kind"), END};
static const struct key attention_keys[] = {
    OTHER("kind"),
    OTHER("query"),
    OTHER("inputs"),
    OTHER("layers"),
    OPTIONAL_NUMBER(attention_config, scale),
    FLAG(attention_config, "normalise", softmax, WORDS("none", "softmax")),
    END,
};
static const struct key output_keys[] = {
    FLAG(config, "kind", softmax, WORDS("sigmoid", "softmax")),
    OTHER("positive"),
    OTHER("bias"),
    END,
};
static const struct key output_bias_keys[] = {OTHER("field"), OTHER("table"), END};
static const struct key mlp_keys[] = {OTHER("inputs"), OTHER("layers"), END};

/* ---- values ---- */

/* The path of a key of the object at `path`, which is empty for the document. */
static struct text key_path(const char *path, const char *key) {
    return json_path("%s%s%s", path, *path != '\0' ? "." : "", key);
}

static bool copy_name(struct reader *reader, const char *name, const char *path, bool dots, const char **copy) {
    const char *good = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
    size_t length = name != NULL ? strlen(name) : 0;
    if (length < 1 || length > 64 || strspn(name, good) != length || (!dots && strchr(name, '.') != NULL))
        return FAIL(reader, "%s: must be a name of 1 to 64 letters, digits, _ or -", path);
    char *kept = pool_array(reader->pool, length + 1, 1);
    if (kept == NULL)
        return dien_out_of_memory(reader->error);
    snprintf(kept, length + 1, "%s", name);
    *copy = kept;
    return true;
}

static bool read_count(struct reader *reader, const json_t *value, const char *path, size_t low, size_t high,
                       size_t *count) {
    json_int_t integer = json_integer_value(value);
    if (!json_is_integer(value) || integer < (json_int_t)low || (size_t)integer > high)
        return FAIL(reader, "%s: must be an integer from %zu to %zu", path, low, high);
    *count = (size_t)integer;
    return true;
}

/* The index of a value among words. */
static bool read_choice(struct reader *reader, const json_t *value, const char *path, const char *const *words,
                        unsigned *choice) {
    const char *text = json_string_value(value);
    char list[160] = "";
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (text != NULL && strcmp(text, words[i]) == 0) {
            *choice = i;
            return true;
        }
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s\"%s\"", i > 0 ? ", " : "", words[i]);
    }
    return FAIL(reader, "%s: is %s, must be one of %s", path, describe_json(value).text, list);
}

/* Read the value of a key into its member of *into. */
static bool read_key(struct reader *reader, const json_t *object, const char *path, const struct key *key, void *into) {
    const json_t *value = json_object_get(object, key->name);
    void *member = (char *)into + key->member;
    struct text place = key_path(path, key->name);
    float number = (float)json_number_value(value);
    unsigned choice;
    if (value == NULL && key->optional)
        return true;
    switch (key->kind) {
    case VALUE_NAME:
    case VALUE_DOTTED_NAME:
        return copy_name(reader, json_string_value(value), place.text, key->kind == VALUE_DOTTED_NAME, member);
    case VALUE_COUNT:
        return read_count(reader, value, place.text, key->low, key->high, member);
    case VALUE_NUMBER:
        *(float *)member = number;
        return (json_is_number(value) && isfinite(number)) ||
               FAIL(reader, "%s: must be a number in the range of float32", place.text);
    case VALUE_CHOICE:
    case VALUE_FLAG:
        if (!read_choice(reader, value, place.text, key->words, &choice))
            return false;
        if (key->kind == VALUE_FLAG)
            *(bool *)member = choice == 1;
        else
            memcpy(member, &choice, sizeof choice); /* into one of several enum types, all of this size */
        return true;
    case VALUE_OTHER:
        break;
    }
    return true;
}

/* Check that an object has keys of a table and no others. */
static bool check_keys(struct reader *reader, json_t *object, const char *path, const struct key *keys) {
    const char *object_name = *path != '\0' ? path : "the document";
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return FAIL(reader, "%s: must be an object", object_name);
    json_object_foreach(object, name, value) {
        char allowed[160] = "";
        const struct key *key = keys;
        for (; key->name != NULL && strcmp(key->name, name) != 0; key++) {
            size_t used = strlen(allowed);
            snprintf(allowed + used, sizeof allowed - used, " %s", key->name);
        }
        if (key->name == NULL)
            return FAIL(reader, "%s: unknown key \"%.100s\" (allowed:%s)", object_name, name, allowed);
    }
    return true;
}

/* Read an object into a struct. Values of VALUE_OTHER are left to the caller. */
static bool read_object(struct reader *reader, json_t *object, const char *path, const struct key *keys, void *into) {
    if (!check_keys(reader, object, path, keys))
        return false;
    for (const struct key *key = keys; key->name != NULL; key++)
        if (!read_key(reader, object, path, key, into))
            return false;
    return true;
}

/* Memory for the items of a list of 1 to `max`. NULL on error. */
static void *new_items(struct reader *reader, const json_t *list, const char *path, size_t max, size_t item_size,
                       size_t *count) {
    *count = json_array_size(list);
    if (!json_is_array(list) || *count == 0 || *count > max) {
        (void)FAIL(reader, "%s: must be a list of 1 to %zu", path, max);
        return NULL;
    }
    void *items = pool_array(reader->pool, *count, item_size);
    if (items == NULL)
        dien_out_of_memory(reader->error);
    return items;
}

/* Read an object of named objects. Items start with their name. NULL on error. */
static void *read_map(struct reader *reader, json_t *map, const char *path, const struct key *keys, size_t item_size,
                      size_t *count) {
    if (map != NULL && !json_is_object(map)) {
        (void)FAIL(reader, "%s: must be an object", path);
        return NULL;
    }
    char *items = pool_array(reader->pool, json_object_size(map), item_size);
    if (items == NULL) {
        dien_out_of_memory(reader->error);
        return NULL;
    }
    const char *name;
    json_t *object;
    json_object_foreach(map, name, object) {
        char *item = items + (*count)++ * item_size;
        struct text place = json_path("%s.%.64s", path, name);
        if (!copy_name(reader, name, place.text, false, (const char **)(void *)item) ||
            !read_object(reader, object, place.text, keys, item))
            return NULL;
    }
    return items;
}

/* The index of the item of that name, or CONFIG_NONE. Items start with their name. */
static size_t find_name(const void *items, size_t count, size_t item_size, const char *name) {
    for (size_t i = 0; name != NULL && i < count; i++) {
        const char *item_name;
        memcpy(&item_name, (const char *)items + i * item_size, sizeof item_name);
        if (item_name != NULL && strcmp(item_name, name) == 0)
            return i;
    }
    return CONFIG_NONE;
}
#define FIND(items, count, name) find_name(items, count, sizeof *(items), name)

static bool is_among(const struct indices *indices, size_t index) {
    for (size_t i = 0; i < indices->count; i++)
        if (indices->items[i] == index)
            return true;
    return false;
}

/* The index within a group of the field of that name, or CONFIG_NONE. */
static size_t find_member(const struct config *config, enum dien_group group, const char *name) {
    const struct indices *members = &config->groups[group];
    for (size_t i = 0; name != NULL && i < members->count; i++)
        if (strcmp(config->fields[members->items[i]].name, name) == 0)
            return i;
    return CONFIG_NONE;
}

/* A list of names of fields, as indices into config.fields (group DIEN_GROUPS) or into a group. */
static bool read_indices(struct reader *reader, const json_t *list, const char *path, enum dien_group group,
                         struct indices *indices) {
    const struct config *config = reader->config;
    size_t count;
    indices->items = new_items(reader, list, path, CONFIG_FIELDS_MAX, sizeof *indices->items, &count);
    if (indices->items == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const char *name = json_string_value(json_array_get(list, i));
        size_t index =
            group == DIEN_GROUPS ? FIND(config->fields, config->field_count, name) : find_member(config, group, name);
        if (index == CONFIG_NONE)
            return FAIL(reader, "%s[%zu]: is %s, must name %s", path, i, describe_json(json_array_get(list, i)).text,
                        group == DIEN_GROUPS ? "one of fields" : "a field of its group");
        if (is_among(indices, index))
            return FAIL(reader, "%s[%zu]: \"%s\" is there twice", path, i, name);
        indices->items[indices->count++] = index;
    }
    return true;
}

/* ---- fields and groups ---- */

/* The keys of a multi-valued field. */
static bool read_pool(struct reader *reader, const json_t *entry, const char *path, struct field_config *field) {
    const json_t *pool = json_object_get(entry, "pool"), *values = json_object_get(entry, "values");
    unsigned choice = 0;
    if (pool == NULL && values == NULL)
        return true;
    if (!reader->second)
        return FAIL(reader, "%s: \"pool\" and \"values\" need \"format\": \"dien/2\"", path);
    if (!read_choice(reader, pool, key_path(path, "pool").text, WORDS("sum", "mean", "max"), &choice) ||
        !read_count(reader, values, key_path(path, "values").text, 1, CONFIG_VALUES_MAX, &field->values))
        return false;
    field->pool = (enum pooling)choice;
    return true;
}

static bool read_categorical(struct reader *reader, const json_t *entry, const char *path, struct field_config *field) {
    const struct config *config = reader->config;
    const json_t *table = json_object_get(entry, "table"), *vocabulary = json_object_get(entry, "vocabulary");
    field->table = FIND(config->tables, config->table_count, json_string_value(table));
    if (field->table == CONFIG_NONE)
        return FAIL(reader, "%s.table: is %s, must name one of tables", path, describe_json(table).text);

    unsigned ids;
    if (!read_choice(reader, json_object_get(entry, "ids"), key_path(path, "ids").text, WORDS("index", "vocabulary"),
                     &ids))
        return false;
    if (ids == 1) {
        field->vocabulary = FIND(config->vocabularies, config->vocabulary_count, json_string_value(vocabulary));
        if (field->vocabulary == CONFIG_NONE)
            return FAIL(reader, "%s.vocabulary: is %s, must name one of vocabularies", path,
                        describe_json(vocabulary).text);
    } else if (vocabulary != NULL)
        return FAIL(reader, "%s.vocabulary: goes with \"ids\": \"vocabulary\" only", path);

    size_t first = 0, unknown, last = config->tables[field->table].rows - 1;
    const json_t *first_row = json_object_get(entry, "first_row"), *unknown_row = json_object_get(entry, "unknown_row");
    if ((first_row != NULL && !read_count(reader, first_row, key_path(path, "first_row").text, 0, last, &first)) ||
        !read_count(reader, unknown_row, key_path(path, "unknown_row").text, 0, last, &unknown))
        return false;
    field->first_row = (int32_t)first;
    field->unknown_row = (int32_t)unknown;
    return read_pool(reader, entry, path, field);
}

static bool read_fields(struct reader *reader, const json_t *list) {
    struct config *config = reader->config;
    size_t count;
    config->fields = new_items(reader, list, "fields", CONFIG_FIELDS_MAX, sizeof *config->fields, &count);
    if (config->fields == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        json_t *entry = json_array_get(list, i);
        struct text path = json_path("fields[%zu]", i);
        struct field_config *field = &config->fields[i];
        *field = (struct field_config){.table = CONFIG_NONE, .vocabulary = CONFIG_NONE, .parent = CONFIG_NONE};
        if (!json_is_object(entry))
            return FAIL(reader, "%s: must be an object", path.text);
        if (!read_key(reader, entry, path.text, &field_kind, field) ||
            !read_object(reader, entry, path.text, field->dense ? dense_keys : categorical_keys, field))
            return false;
        if (FIND(config->fields, i, field->name) != CONFIG_NONE)
            return FAIL(reader, "%s.name: \"%s\" names an earlier field too", path.text, field->name);
        if (!field->dense && !read_categorical(reader, entry, path.text, field))
            return false;
        config->field_count++;
    }
    /* An attribute may come before its parent, so parents are resolved when all fields are known. */
    for (size_t i = 0; i < count; i++) {
        const json_t *name = json_object_get(json_array_get(list, i), "attribute_of");
        size_t parent = FIND(config->fields, count, json_string_value(name));
        config->fields[i].parent = parent;
        if (name == NULL)
            continue;
        if (parent == CONFIG_NONE || parent == i || config->fields[parent].dense)
            return FAIL(reader, "fields[%zu].attribute_of: is %s, must name another, categorical field", i,
                        describe_json(name).text);
        if (config->fields[parent].values > 0)
            return FAIL(reader, "fields[%zu].attribute_of: \"%s\" has several values", i, config->fields[parent].name);
        if (json_object_get(json_array_get(list, parent), "attribute_of") != NULL)
            return FAIL(reader, "fields[%zu].attribute_of: \"%s\" is an attribute itself", i,
                        config->fields[parent].name);
    }
    return true;
}

static bool read_groups(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    if (!check_keys(reader, object, "groups", group_keys))
        return false;
    for (int group = 0; group < DIEN_GROUPS; group++) {
        const json_t *list = json_object_get(object, group_names[group]);
        bool empty = list == NULL || (json_is_array(list) && json_array_size(list) == 0);
        if (!empty && !read_indices(reader, list, key_path("groups", group_names[group]).text, DIEN_GROUPS,
                                    &config->groups[group]))
            return false;
    }
    if (config->groups[DIEN_BEHAVIOUR].count == 0 || config->groups[DIEN_CANDIDATE].count == 0)
        return FAIL(reader, "groups: behaviour and candidate need at least one field");
    for (size_t i = 0; i < config->field_count; i++) {
        size_t parent = config->fields[i].parent, groups = 0;
        for (int group = 0; group < DIEN_GROUPS; group++) {
            bool member = is_among(&config->groups[group], i);
            groups += member;
            if (member && parent != CONFIG_NONE && !is_among(&config->groups[group], parent))
                return FAIL(reader, "groups: \"%s\" is in a group that its parent \"%s\" is not in",
                            config->fields[i].name, config->fields[parent].name);
        }
        if (groups == 0)
            return FAIL(reader, "groups: the field \"%s\" is in none", config->fields[i].name);
    }
    return true;
}

/* ---- layers and interests ---- */

static bool read_layer(struct reader *reader, json_t *object, const char *path, struct layer_config *layer) {
    if (!read_object(reader, object, path, layer_keys, layer))
        return false;
    bool there = json_object_get(object, "epsilon") != NULL;
    if (layer->activation != ACTIVATION_DICE_ROW)
        return !there || FAIL(reader, "%s.epsilon: goes with \"activation\": \"dice-row\" only", path);
    return layer->epsilon > 0 || FAIL(reader, "%s.epsilon: must be a number greater than 0", path);
}

/* Layers of which the last is linear and has so many units. */
static bool read_layers(struct reader *reader, const json_t *list, const char *path, size_t last_units, size_t *count,
                        struct layer_config **layers) {
    *layers = new_items(reader, list, path, CONFIG_LAYERS_MAX, sizeof **layers, count);
    if (*layers == NULL)
        return false;
    for (size_t i = 0; i < *count; i++)
        if (!read_layer(reader, json_array_get(list, i), json_path("%s[%zu]", path, i).text, &(*layers)[i]))
            return false;
    const struct layer_config *last = &(*layers)[*count - 1];
    return (last->units == last_units && last->activation == ACTIVATION_LINEAR) ||
           FAIL(reader, "%s: the last layer must have %zu units and be linear", path, last_units);
}

static bool read_attention_inputs(struct reader *reader, const json_t *list, const char *path,
                                  struct attention_inputs *inputs) {
    size_t *const positions[] = {&inputs->query, &inputs->key, &inputs->difference, &inputs->difference,
                                 &inputs->product};
    bool seen[4] = {false};
    if (json_array_size(list) != 4)
        return FAIL(reader, "%s: must be a list of 4", path);
    for (size_t i = 0; i < 4; i++) {
        struct text place = json_path("%s[%zu]", path, i);
        unsigned choice;
        if (!read_choice(reader, json_array_get(list, i), place.text, WORDS("q", "k", "q-k", "k-q", "q*k"), &choice))
            return false;
        size_t block = choice < 3 ? choice : choice - 1; /* q-k and k-q are one block */
        if (seen[block])
            return FAIL(reader, "%s: is there twice", place.text);
        seen[block] = true;
        *positions[choice] = i;
        inputs->key_first = inputs->key_first || choice == 3;
    }
    return true;
}

static bool read_attention(struct reader *reader, json_t *object, const char *path,
                           struct attention_config *attention) {
    json_t *query = json_object_get(object, "query");
    const json_t *inputs = json_object_get(object, "inputs"), *layers = json_object_get(object, "layers");
    attention->scale = 1;
    attention->has_query = query != NULL;
    if (!json_is_object(object))
        return FAIL(reader, "%s: must be an object", path);
    if (!read_key(reader, object, path, &attention_kind, attention))
        return false;
    bool none = attention->kind == ATTENTION_NONE;
    if (!read_object(reader, object, path, none ? no_attention_keys : attention_keys, attention) ||
        (query != NULL && !read_layer(reader, query, key_path(path, "query").text, &attention->query)))
        return false;
    if (attention->kind == ATTENTION_MLP)
        return read_attention_inputs(reader, inputs, key_path(path, "inputs").text, &attention->inputs) &&
               read_layers(reader, layers, key_path(path, "layers").text, 1, &attention->layer_count,
                           &attention->layers);
    return (inputs == NULL && layers == NULL) ||
           FAIL(reader, "%s: inputs and layers go with \"kind\": \"mlp\" only", path);
}

static bool read_interest(struct reader *reader, json_t *object, const char *path, struct interest_config *interest) {
    const struct attention_config *attention = &interest->attention;
    if (!read_object(reader, object, path, interest_keys, interest) ||
        !read_indices(reader, json_object_get(object, "history"), key_path(path, "history").text, DIEN_BEHAVIOUR,
                      &interest->history) ||
        !read_indices(reader, json_object_get(object, "target"), key_path(path, "target").text, DIEN_CANDIDATE,
                      &interest->target) ||
        !read_object(reader, json_object_get(object, "extractor"), key_path(path, "extractor").text, extractor_keys,
                     &interest->extractor) ||
        !read_attention(reader, json_object_get(object, "attention"), key_path(path, "attention").text,
                        &interest->attention) ||
        !read_object(reader, json_object_get(object, "evolution"), key_path(path, "evolution").text, evolution_keys,
                     &interest->evolution))
        return false;

    if (interest->evolution.kind == CELL_AUGRU_KEEP && !reader->second)
        return FAIL(reader, "%s.evolution.cell: \"augru-keep\" needs \"format\": \"dien/2\"", path);
    if ((attention->kind == ATTENTION_NONE) != (interest->evolution.kind == CELL_GRU))
        return FAIL(reader, "%s: attention \"none\" and evolution \"gru\" go together, and only together", path);
    size_t query = attention->has_query ? attention->query.units
                                        : config_indices_width(reader->config, DIEN_CANDIDATE, &interest->target);
    size_t key = config_key_width(interest);
    bool equal = attention->kind == ATTENTION_MLP || attention->kind == ATTENTION_DOT;
    return !equal || query == key ||
           FAIL(reader,
                "%s.attention: the query has width %zu, the keys (of extractor or evolution) %zu; dot and mlp need "
                "them equal",
                path, query, key);
}

static bool read_interests(struct reader *reader, const json_t *list) {
    struct config *config = reader->config;
    size_t count;
    config->interests = new_items(reader, list, "interests", CONFIG_INTERESTS_MAX, sizeof *config->interests, &count);
    if (config->interests == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct interest_config *interest = &config->interests[i];
        if (!read_interest(reader, json_array_get(list, i), json_path("interests[%zu]", i).text, interest))
            return false;
        if (FIND(config->interests, i, interest->name) != CONFIG_NONE)
            return FAIL(reader, "interests[%zu].name: \"%s\" names an earlier interest too", i, interest->name);
        config->interest_count++;
    }
    for (size_t index = 0; index < config->groups[DIEN_BEHAVIOUR].count; index++) {
        bool read = false;
        for (size_t i = 0; i < count; i++)
            read = read || is_among(&config->interests[i].history, index);
        if (!read)
            return FAIL(reader, "groups.behaviour: no interest reads \"%s\"",
                        config->fields[config->groups[DIEN_BEHAVIOUR].items[index]].name);
    }
    return true;
}

/* ---- the output and the MLP ---- */

static bool read_output(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    if (!read_object(reader, object, "output", output_keys, config))
        return false;
    const json_t *positive = json_object_get(object, "positive");
    if (config->softmax && !read_count(reader, positive, "output.positive", 0, 1, &config->positive))
        return false;
    if (!config->softmax && positive != NULL)
        return FAIL(reader, "output.positive: goes with \"kind\": \"softmax\" only");

    json_t *bias = json_object_get(object, "bias");
    config->bias_index = CONFIG_NONE;
    if (bias == NULL)
        return true;
    if (!check_keys(reader, bias, "output.bias", output_bias_keys))
        return false;
    const json_t *name = json_object_get(bias, "field");
    config->bias_index = find_member(config, DIEN_CANDIDATE, json_string_value(name));
    if (config->bias_index == CONFIG_NONE)
        return FAIL(reader, "output.bias.field: is %s, must name a candidate field", describe_json(name).text);
    const struct field_config *field = &config->fields[config->groups[DIEN_CANDIDATE].items[config->bias_index]];
    config->bias_table = FIND(config->tables, config->table_count, json_string_value(json_object_get(bias, "table")));
    if (field->values > 0)
        return FAIL(reader, "output.bias.field: \"%s\" has several values", field->name);
    if (field->dense || config->bias_table == CONFIG_NONE || config->tables[config->bias_table].width != 1 ||
        config->tables[config->bias_table].rows != config->tables[field->table].rows)
        return FAIL(reader, "output.bias.table: must name a table of width 1 with as many rows as the table of \"%s\"",
                    field->name);
    return true;
}

/* An input of the MLP: a kind before the dot, the name of a field or an interest after it. */
static bool read_input(struct reader *reader, const json_t *value, const char *path, struct input_config *input) {
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
    const struct config *config = reader->config;
    const char *text = json_string_value(value);
    for (size_t i = 0; text != NULL && i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].prefix);
        if (strncmp(text, kinds[i].prefix, length) != 0)
            continue;
        input->kind = kinds[i].kind;
        input->index = kinds[i].group == DIEN_GROUPS ? FIND(config->interests, config->interest_count, text + length)
                                                     : find_member(config, kinds[i].group, text + length);
        return input->index != CONFIG_NONE ||
               FAIL(reader, "%s: \"%.100s\" names nothing that the model has", path, text);
    }
    return FAIL(
        reader,
        "%s: must be user.FIELD, context.FIELD, candidate.FIELD, interest.NAME, history_sum.NAME or product.NAME",
        path);
}

static bool read_mlp(struct reader *reader, json_t *object) {
    struct config *config = reader->config;
    bool ranks = false; /* some input depends on the candidate */
    size_t count;
    if (!check_keys(reader, object, "mlp", mlp_keys))
        return false;
    const json_t *list = json_object_get(object, "inputs");
    config->inputs = new_items(reader, list, "mlp.inputs", CONFIG_FIELDS_MAX + 3 * CONFIG_INTERESTS_MAX,
                               sizeof *config->inputs, &count);
    if (config->inputs == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        struct text path = json_path("mlp.inputs[%zu]", i);
        struct input_config *input = &config->inputs[i];
        if (!read_input(reader, json_array_get(list, i), path.text, input))
            return false;
        const struct interest_config *interest =
            input->kind == INPUT_INTEREST || input->kind == INPUT_PRODUCT ? &config->interests[input->index] : NULL;
        if (input->kind == INPUT_PRODUCT) {
            size_t behaviour = config_indices_width(config, DIEN_BEHAVIOUR, &interest->history);
            size_t target = config_indices_width(config, DIEN_CANDIDATE, &interest->target);
            if (behaviour != target)
                return FAIL(reader,
                            "%s: a behaviour of \"%s\" has width %zu, its target %zu; a product needs them equal",
                            path.text, interest->name, behaviour, target);
        }
        for (size_t j = 0; j < i; j++)
            if (config->inputs[j].kind == input->kind && config->inputs[j].index == input->index)
                return FAIL(reader, "%s: is there twice", path.text);
        ranks = ranks || input->kind == INPUT_CANDIDATE || input->kind == INPUT_PRODUCT ||
                (input->kind == INPUT_INTEREST && interest->evolution.kind != CELL_GRU);
        config->input_count++;
    }
    if (!ranks)
        return FAIL(reader, "mlp.inputs: none of them depends on the candidate");
    return read_layers(reader, json_object_get(object, "layers"), "mlp.layers", config->softmax ? 2 : 1,
                       &config->layer_count, &config->layers);
}

/* ---- the document ---- */

static bool read_document(struct reader *reader, json_t *root) {
    struct config *config = reader->config;
    const char *format = json_string_value(json_object_get(root, "format"));
    if (!json_is_object(root))
        return FAIL(reader, "must be an object");
    reader->second = format != NULL && strcmp(format, "dien/2") == 0;
    if (format == NULL || (!reader->second && strcmp(format, "dien/1") != 0))
        return FAIL(reader, "format: is %s, must be \"dien/1\" or \"dien/2\", the formats that this server reads",
                    describe_json(json_object_get(root, "format")).text);
    if (!read_object(reader, root, "", document_keys, config))
        return false;
    config->vocabularies = read_map(reader, json_object_get(root, "vocabularies"), "vocabularies", vocabulary_keys,
                                    sizeof *config->vocabularies, &config->vocabulary_count);
    if (config->vocabularies == NULL)
        return false;
    config->tables = read_map(reader, json_object_get(root, "tables"), "tables", table_keys, sizeof *config->tables,
                              &config->table_count);
    return config->tables != NULL && read_fields(reader, json_object_get(root, "fields")) &&
           read_groups(reader, json_object_get(root, "groups")) &&
           read_interests(reader, json_object_get(root, "interests")) &&
           read_output(reader, json_object_get(root, "output")) && read_mlp(reader, json_object_get(root, "mlp"));
}

bool config_parse(struct config *config, const char *text, size_t size, struct pool *pool, struct dien_error *error) {
    struct reader reader = {config, pool, error, false};
    json_error_t where;
    *config = (struct config){0};
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &where);
    if (root == NULL)
        return FAIL(&reader, "line %d, column %d: %s", where.line, where.column, where.text);
    bool good = read_document(&reader, root);
    json_decref(root);
    return good;
}

bool config_read(struct config *config, const char *path, struct pool *pool, struct dien_error *error) {
    size_t size;
    *config = (struct config){0};
    char *text = file_read_whole(path, CONFIG_BYTES_MAX, &size, error);
    bool good = text != NULL && config_parse(config, text, size, pool, error);
    free(text);
    return good;
}

size_t config_field_width(const struct config *config, size_t field) {
    const struct field_config *entry = &config->fields[field];
    if (!entry->dense)
        return config->tables[entry->table].width;
    return entry->units > 0 ? entry->units : entry->width;
}

size_t config_indices_width(const struct config *config, enum dien_group group, const struct indices *indices) {
    size_t width = 0;
    for (size_t i = 0; i < indices->count; i++)
        width += config_field_width(config, config->groups[group].items[indices->items[i]]);
    return width;
}
