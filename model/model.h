/* model.h: the inside of struct dien_model: its shape (config.h), its tensors bound and packed (weights.c), its fields
 * as clients see them. Read-only once open.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

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

/* An attribute's map from its parent's rows, in the mapped file. The other pointer is NULL. */
struct attribute_map {
    const int32_t *rows; /* [parent's rows] */
    const float *values; /* [parent's rows, width] */
};

/* The attention of one interest. Its first layer is split by what it depends on (all exact):
 * W [q, k, q-k, q*k] + b = (Wq + Wd) q + b  +  (Wk - Wd) k  +  Wp (q * k)
 *                          per candidate       per step        per both
 * and the bilinear form k' M q is (M' k)' q: M' k is per step. So `key` makes what a user state keeps of each step. */
struct attention {
    bool has_query;
    struct layer query;    /* [Q, F] */
    size_t query_units;    /* Q */
    size_t key_width;      /* K */
    struct projection key; /* [D, K], not packed: D = Q (bilinear), the first layer's units (mlp), 0 (dot) */
    struct column_projection key_rows; /* the same, for rows: the form that is used */
    struct projection query_part;      /* mlp: [D, Q] with the first layer's bias */
    struct projection product;         /* mlp: [D, K], bias 0 */
    size_t layer_count; /* mlp: layers, the first being the split one: of it only units and activation are used */
    struct layer *layers;
};

struct interest {
    const struct interest_config *config;
    size_t behaviour_width;            /* E */
    size_t target_width;               /* F */
    struct projection extractor_input; /* [3H, E] */
    struct cell extractor;
    struct attention attention;
    struct projection evolution_input;       /* [3G, H]: where the evolution runs alone */
    struct column_projection evolution_rows; /* the same, for rows: where it does not */
    const float *evolution_bias;             /* aigru: [3G], the bias that evolution_input then has not; else NULL */
    enum kernel_write write;
    struct cell evolution;
};

/* One input of the MLP, placed. */
struct mlp_input {
    enum input_kind kind;
    size_t place;  /* within its group, or of the interest */
    size_t offset; /* within the shared vector, or within the lanes' matrix */
    size_t width;
};

/* The MLP. Inputs that all candidates of a request share (user, context, history sums) go through their columns of the
 * first layer once a request; `lane` is the rest. */
struct mlp {
    size_t shared_count, lane_count;
    struct mlp_input *shared, *lane;
    size_t shared_width, lane_width;
    struct column_projection shared_projection; /* [shared_width, units], with the first layer's bias */
    size_t layer_count;
    struct layer *layers; /* the first one's projection has the lanes' columns and bias 0 */
};

struct dien_model {
    struct config config;
    struct safetensors file;
    struct pool pool;
    const struct kernels *kernels;
    struct dien_reduction reduced; /* what is done in reduced precision; nothing by default */
    struct kernels reduced_kernels;
    struct table *tables;             /* by config.tables */
    struct vocabulary *vocabularies;  /* by config.vocabularies */
    struct attribute_map *attributes; /* by config.fields */
    const float **dense;              /* by config.fields: a dense field's linear layer [units, width], or NULL */
    struct interest *interests;
    struct mlp mlp;
    struct dien_field *fields; /* by config.fields */
    const struct dien_field **group_fields[DIEN_GROUPS];
    struct dien_interest *public_interests;
};

/* Bind, check and pack every tensor that the config asks for. */
bool weights_bind(struct dien_model *model, struct dien_error *error);

static inline const struct field_config *model_field(const struct dien_model *model, enum dien_group group,
                                                     size_t place) {
    return &model->config.fields[model->config.groups[group].at[place]];
}

static inline size_t model_field_width(const struct dien_model *model, enum dien_group group, size_t place) {
    return config_field_width(&model->config, model->config.groups[group].at[place]);
}

#endif
