/* bind.h: the inside of struct dien_model: the config's tensors, found, checked and rearranged for the kernels.
 * Read-only once open.
 *
 * Dimensions: T history length, E width of an embedded behaviour, F of an embedded target, H extractor units, G
 * evolution units, Q query units, K key width, D width of the key part.
 */
#ifndef MODEL_FORMAT_BIND_H
#define MODEL_FORMAT_BIND_H

#include "model/format/config.h"
#include "model/format/safetensors.h"
#include "model/format/vocabulary.h"
#include "model/kernels/kernels.h"

/* An embedding table, in the mapped file. */
struct table {
    enum tensor_type type;
    size_t rows, width;
    const void *data;   /* [rows, width] */
    const float *scale; /* [rows], I8 only */
};

/* An attribute's values by its parent's rows, in the mapped file. The other pointer is NULL. */
struct attribute_map {
    const int32_t *rows; /* [parent's rows], or [parent's rows, values] of a multi-valued field, -1 for none */
    const float *values; /* [parent's rows, width] */
};

/* How a value becomes a vector. */
struct embedding {
    size_t width;              /* of the vector */
    size_t value_bytes;        /* of a value: an int32 row, the rows of a multi-valued field, or its numbers */
    const struct table *table; /* categorical; NULL: dense */
    size_t rows;               /* categorical: rows in a value, 1 unless the field is multi-valued */
    size_t numbers;            /* dense: numbers in a value */
    const float *weight;       /* dense: a linear layer [width, numbers]; NULL: the vector is the value */
    bool is_pooled;            /* multi-valued: rows of -1 are places without a value */
    enum pooling pool;
};

/* Vectors of several fields of a group, concatenated. */
struct vector_part {
    const struct embedding *embedding;
    size_t column;       /* the field's index in the group, and of its column in a request */
    size_t offset;       /* widths of the parts before it */
    size_t value_offset; /* value_bytes of the parts before it */
};
struct vector {
    size_t count, width, value_bytes;
    struct vector_part *parts;
};

/* The attention of one interest. Its first layer is split exactly, by dependence:
 *   W [q, k, q-k, q*k] + b = (Wq + Wd) q + b  +  (Wk - Wd) k  +  Wp (q * k)
 *                            per candidate       per step        per pair
 * The bilinear form k' M q is (M' k)' q, where M' k is per step. So `key` makes the part that a user state keeps of
 * each step. */
struct attention {
    bool has_query;
    struct layer query;                /* [Q, F] */
    size_t query_units;                /* Q */
    size_t key_width;                  /* K */
    const float *matrix;               /* bilinear: M [K, Q] */
    struct projection key;             /* [D, K]: D = Q (bilinear), units of the first layer (mlp), 0 (dot) */
    struct column_projection key_rows; /* key, as it is used */
    struct projection query_part;      /* mlp: [D, Q] with the first layer's bias */
    struct projection product;         /* mlp: [D, K], bias 0 */
    size_t layer_count;
    struct layer *layers; /* mlp; of the first, which is split, only units and activation are used */
};

/* Floats that a user state keeps of each step. */
struct step_widths {
    size_t states;  /* H */
    size_t evolved; /* G, of an evolution without the candidate; else 0 */
    size_t keys;    /* D */
    size_t inputs;  /* 3G, of an evolution with the candidate; else 0 */
};

struct interest {
    const struct interest_config *config;
    struct vector history; /* of the behaviour group, width E */
    struct vector target;  /* of the candidate group, width F */
    struct step_widths step;
    size_t final_offset;               /* evolution units of the interests before it */
    struct projection extractor_input; /* [3H, E] */
    struct cell extractor;
    struct attention attention;
    struct projection evolution_input;       /* [3G, H], as an evolution without the candidate uses it */
    struct column_projection evolution_rows; /* evolution_input, as one with the candidate uses it */
    const float *evolution_bias;             /* aigru: [3G], taken out of evolution_input; else NULL */
    enum kernel_write write;
    struct cell evolution;
};

/* One input of the MLP. */
struct mlp_input {
    enum input_kind kind;
    size_t index;  /* of its field in the group, or of its interest */
    size_t column; /* in the first layer before its split */
    size_t offset; /* after it: in the shared vector, or in the lanes' matrix */
    size_t width;
    const struct embedding *embedding; /* user and context */
};

/* The MLP. The inputs that all candidates of a request share (user, context, history sums) go through their columns of
 * the first layer once a request. The other inputs differ from lane to lane. */
struct mlp {
    size_t shared_count, lane_count;
    struct mlp_input *shared, *lane;
    size_t shared_width, lane_width;
    struct column_projection shared_projection; /* [units, shared_width], with the first layer's bias */
    size_t layer_count;
    struct layer *layers; /* the first has the lanes' columns and bias 0 */
};

struct dien_field;    /* dien.h */
struct dien_interest; /* dien.h */

struct dien_model {
    struct config config;
    struct safetensors file;
    struct pool pool;
    const struct kernels *kernels;
    struct dien_reduction reduced;    /* nothing by default */
    struct kernels reduced_kernels;   /* `kernels` points here if products are reduced */
    struct table *tables;             /* by config.tables */
    struct vocabulary *vocabularies;  /* by config.vocabularies */
    struct attribute_map *attributes; /* by config.fields */
    struct embedding *embeddings;     /* by config.fields */
    struct vector candidate;          /* all fields of the candidate group */
    const struct embedding *bias;     /* of the field of config.bias_index, in the table of biases; NULL: none */
    struct interest *interests;
    struct mlp mlp;
    /* fields.c: the model as clients see it. */
    struct dien_field *fields; /* by config.fields */
    const struct dien_field **group_fields[DIEN_GROUPS];
    struct dien_interest *client_interests;
};

/* Find and check every tensor that the config asks for. There must be no other. */
bool model_bind(struct dien_model *model, struct dien_error *error);

#endif
