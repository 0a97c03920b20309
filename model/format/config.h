/* config.h: config.json as plain structs. FORMAT.md is the contract; names here are its names.
 *
 * config.c checks every key, type, range and reference within config.json; bind.c checks that the tensors fit.
 */
#ifndef MODEL_FORMAT_CONFIG_H
#define MODEL_FORMAT_CONFIG_H

#include "model/format/pool.h"
#include "model/types.h"

enum { /* limits that FORMAT.md states */
       CONFIG_BYTES_MAX = 64 << 20,
       CONFIG_FIELDS_MAX = 1024,
       CONFIG_INTERESTS_MAX = 64,
       CONFIG_LAYERS_MAX = 32,
       CONFIG_WIDTH_MAX = 65536,  /* of a layer, a cell, an embedding or a dense field */
       CONFIG_LENGTH_MAX = 65536, /* of a history */
       CONFIG_VALUES_MAX = 1024   /* of a pooled field */
};

/* The index of an item that is not there. */
#define CONFIG_NONE SIZE_MAX

enum activation {
    ACTIVATION_LINEAR,
    ACTIVATION_RELU,
    ACTIVATION_SIGMOID,
    ACTIVATION_TANH,
    ACTIVATION_SILU,
    ACTIVATION_PRELU,
    ACTIVATION_DICE,
    ACTIVATION_DICE_ROW
};

struct layer_config {
    size_t units;
    enum activation activation;
    float epsilon; /* dice-row */
};

/* How the embeddings of a multi-valued field become one vector. */
enum pooling { POOL_SUM, POOL_MEAN, POOL_MAX };

struct vocabulary_config {
    const char *name;
    bool strings;
    size_t entries;
    size_t probe;
};

struct table_config {
    const char *name;
    size_t rows;
    size_t width;
};

struct field_config {
    const char *name;
    bool dense;
    enum pooling pool; /* multi-valued */
    size_t width;      /* dense: numbers in a value */
    size_t units;      /* dense: outputs of its linear layer, or 0 without one */
    size_t table;      /* index into tables */
    size_t vocabulary; /* index into vocabularies, or CONFIG_NONE: ids are row indices */
    int32_t first_row;
    int32_t unknown_row;
    size_t values; /* of a multi-valued field at most; 0: it has a single value */
    size_t parent; /* index into fields, or CONFIG_NONE */
};

/* Indices into config.fields, or into a group; the member that holds them says which. */
struct indices {
    size_t count;
    size_t *items;
};

/* An extractor's cell is CELL_GRU; an evolution's may be any. */
enum cell_kind { CELL_GRU, CELL_GRU_POOLING, CELL_AUGRU_AND, CELL_AUGRU_OR, CELL_AGRU, CELL_AIGRU, CELL_AUGRU_KEEP };
enum cell_reset { RESET_BEFORE, RESET_AFTER };

struct cell_config {
    enum cell_kind kind;
    size_t units;
    enum cell_reset reset;
};

enum attention_kind { ATTENTION_NONE, ATTENTION_DOT, ATTENTION_BILINEAR, ATTENTION_MLP };

/* The blocks of the attention's first layer: the position, 0 to 3, of each of q, k, q-k and q*k in its input. */
struct attention_inputs {
    size_t query, key, difference, product;
    bool key_first; /* the difference is k-q */
};

struct attention_config {
    enum attention_kind kind;
    bool has_query;
    struct layer_config query;
    struct attention_inputs inputs;
    size_t layer_count;
    struct layer_config *layers;
    float scale;
    bool softmax;
};

struct interest_config {
    const char *name;
    struct indices history; /* into the behaviour group */
    struct indices target;  /* into the candidate group */
    size_t max_length;
    bool keep_first;
    struct cell_config extractor;
    struct attention_config attention;
    struct cell_config evolution;
};

enum input_kind { INPUT_USER, INPUT_CONTEXT, INPUT_CANDIDATE, INPUT_INTEREST, INPUT_HISTORY_SUM, INPUT_PRODUCT };

struct input_config {
    enum input_kind kind;
    size_t index; /* of its field in the group, or of its interest */
};

struct config {
    const char *name;
    const char *version;
    size_t vocabulary_count, table_count, field_count, interest_count, input_count, layer_count;
    struct vocabulary_config *vocabularies;
    struct table_config *tables;
    struct field_config *fields;
    struct indices groups[DIEN_GROUPS]; /* into fields */
    struct interest_config *interests;
    struct input_config *inputs;
    struct layer_config *layers;
    bool softmax;      /* output: softmax of two units in place of a sigmoid */
    size_t positive;   /* softmax: the unit of a click */
    size_t bias_index; /* output bias: index into the candidate group, or CONFIG_NONE */
    size_t bias_table; /* its table */
};

/* Read the text of a config.json. The arrays and names of the config live in the pool. */
bool config_parse(struct config *config, const char *text, size_t size, struct pool *pool, struct dien_error *error);
/* config_parse() of the file PATH. */
bool config_read(struct config *config, const char *path, struct pool *pool, struct dien_error *error);

/* Whether the evolution is independent of the candidate, so that it runs once a user. */
static inline bool config_evolves_alone(const struct interest_config *interest) {
    return interest->evolution.kind == CELL_GRU || interest->evolution.kind == CELL_GRU_POOLING;
}

/* Whether the evolution's states stay within 1. Each is a mean of the last state and a candidate state, provided that
 * its weight is between 0 and 1. An attention score is such a weight only after a softmax. */
static inline bool config_keeps_within_one(const struct interest_config *interest) {
    return interest->attention.softmax || interest->evolution.kind == CELL_AIGRU;
}

/* Width of the attention's keys. */
static inline size_t config_key_width(const struct interest_config *interest) {
    return interest->evolution.kind == CELL_GRU_POOLING ? interest->evolution.units : interest->extractor.units;
}

/* The width of a field's vector. */
size_t config_field_width(const struct config *config, size_t field);
/* The width of several fields of a group, concatenated. */
size_t config_indices_width(const struct config *config, enum dien_group group, const struct indices *indices);

#endif
