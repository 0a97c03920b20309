/* scratch.h: one thread's working memory: every intermediate of building a state and of scoring a block of candidates,
 * sized once for the largest of each that the model can need. Contents mean nothing between calls.
 */
#ifndef MODEL_SCRATCH_H
#define MODEL_SCRATCH_H

#include "model/model.h"

/* Matrices are [units, LANES] or [units, WIDE] as kernels.h has them. */
struct dien_scratch {
    /* Building a state: a tile of LANES steps. */
    float *behaviours; /* [E, LANES] */
    float *cell_input; /* [3 max(H, G), LANES] */
    float *states;     /* [H, LANES] */
    float *evolved;    /* [G, LANES] */
    float *derived;    /* [max(D, 3G), LANES] */
    float *step_input; /* [3 max(H, G)] */
    float *step_state; /* [max(H, G)] */
    float *step_work;  /* [4 max(H, G)] */
    /* Scoring: a block of LANES candidates. */
    float *candidates;  /* [width of all candidate fields, LANES] */
    float *target;      /* [F, LANES] */
    float *query;       /* [Q, LANES] */
    float *query_part;  /* [D, LANES] */
    float *keys;        /* [STEPS, K]: the last steps, padded with zeros */
    float *key_parts;   /* [STEPS, max(D, K)] */
    float *products;    /* [K, WIDE] */
    float *wide[2];     /* [largest layer of an attention, WIDE] */
    float *scores;      /* [T rounded up to STEPS, LANES] */
    float *evolve_work; /* [4G, LANES] */
    float *finals;      /* [G of all interests, LANES] */
    float *shared;      /* [width of the shared inputs] */
    float *shared_part; /* [units of the first layer] */
    float *bias;        /* [LANES]: the output bias */
    float *mlp_input;   /* [width of the lanes' inputs, LANES] */
    float *layer[2];    /* [largest layer of the MLP, LANES] */
    struct pool pool;
};

#endif
