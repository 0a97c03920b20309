/* config.h: the shape of a model: config.json as plain structs. FORMAT.md is the contract; names here are its names.
 *
 * Checked here: every key, type, range and reference within config.json. Checked in weights.c: that the tensors fit.
 */
#ifndef MODEL_FORMAT_CONFIG_H
#define MODEL_FORMAT_CONFIG_H

#include "model/dien.h"
#include "model/format/pool.h"

enum { /* what config.json may ask for; FORMAT.md states them */
       CONFIG_MAX_FIELDS = 1024,
       CONFIG_MAX_INTERESTS = 64,
       CONFIG_MAX_LAYERS = 32,
       CONFIG_MAX_WIDTH = 65536, /* of a layer, a cell, an embedding or a dense field */
       CONFIG_MAX_LENGTH = 65536 /* of a history */
};

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
    size_t width;      /* dense: numbers a value */
    size_t units;      /* dense: width of the vector that a linear layer makes of them, 0: none does */
    size_t table;      /* index into tables */
    size_t vocabulary; /* index into vocabularies, or CONFIG_NONE: ids are indices */
    int32_t first_row;
    int32_t unknown_row;
    size_t parent; /* index into fields, or CONFIG_NONE */
};
#define CONFIG_NONE SIZE_MAX

/* Places of fields, within config.fields or within a group, as the owner says. */
struct places {
    size_t count;
    size_t *at;
};

enum cell_reset { RESET_BEFORE, RESET_AFTER };

struct cell_config {
    size_t units;
    enum cell_reset reset;
};

enum attention_kind { ATTENTION_NONE, ATTENTION_DOT, ATTENTION_BILINEAR, ATTENTION_MLP };

/* FORMAT.md's evolution cells. */
enum evolution_kind {
    EVOLUTION_AUGRU_AND,
    EVOLUTION_AUGRU_OR,
    EVOLUTION_AGRU,
    EVOLUTION_AIGRU,
    EVOLUTION_GRU,
    EVOLUTION_GRU_POOLING
};

/* How [q, k, q-k, q*k] lie in the input of the attention's first layer: the block of each, and the difference's sign.
 */
struct attention_inputs {
    size_t query, key, difference, product; /* 0..3 */
    bool key_first;                         /* k-q instead of q-k */
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
    struct places history; /* within the behaviour group */
    struct places target;  /* within the candidate group */
    size_t max_length;
    bool keep_first;
    struct cell_config extractor;
    struct attention_config attention;
    enum evolution_kind evolution_kind;
    struct cell_config evolution;
};

enum input_kind { INPUT_USER, INPUT_CONTEXT, INPUT_CANDIDATE, INPUT_INTEREST, INPUT_HISTORY_SUM, INPUT_PRODUCT };

struct input_config {
    enum input_kind kind;
    size_t place; /* within its group, or of the interest */
};

struct config {
    const char *name;
    const char *version;
    size_t vocabulary_count, table_count, field_count, interest_count, input_count, layer_count;
    struct vocabulary_config *vocabularies;
    struct table_config *tables;
    struct field_config *fields;
    struct places groups[DIEN_GROUPS]; /* within fields */
    struct interest_config *interests;
    struct input_config *inputs;
    struct layer_config *layers;
    bool softmax;      /* output: softmax of two instead of sigmoid */
    size_t positive;   /* softmax: the column of a click */
    size_t bias_place; /* output bias: a field of the candidate group, or CONFIG_NONE */
    size_t bias_table; /* its table */
};

/* Read PATH. What the config points to lives in the pool. */
bool config_read(struct config *config, const char *path, struct pool *pool, struct dien_error *error);

/* An evolution that does not depend on the candidate: it runs once a user. */
static inline bool config_evolves_alone(const struct interest_config *interest) {
    return interest->evolution_kind == EVOLUTION_GRU || interest->evolution_kind == EVOLUTION_GRU_POOLING;
}

/* States stay within 1: each is a mean of the last one and of a candidate, if no weight is beyond 0 and 1. An attention
 * score is such a weight only behind a softmax. */
static inline bool config_keeps_within_one(const struct interest_config *interest) {
    return interest->attention.softmax || interest->evolution_kind == EVOLUTION_AIGRU;
}

/* Width of the attention's keys. */
static inline size_t config_key_width(const struct interest_config *interest) {
    return interest->evolution_kind == EVOLUTION_GRU_POOLING ? interest->evolution.units : interest->extractor.units;
}

/* The width that a field adds to an embedded vector. */
size_t config_field_width(const struct config *config, size_t field);
/* The width of several fields of a group, concatenated. */
size_t config_places_width(const struct config *config, enum dien_group group, const struct places *places);
/* The width of one input of the MLP. */
size_t config_input_width(const struct config *config, const struct input_config *input);

#endif
