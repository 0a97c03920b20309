/* scratch.h: one thread's working memory: every intermediate of building a state and of scoring a block of candidates,
 * sized once for the largest of each that the model can need. Contents mean nothing between calls.
 */
#ifndef MODEL_NETWORK_SCRATCH_H
#define MODEL_NETWORK_SCRATCH_H

#include "model/model.h"

/* Matrices are in lanes as kernels.h has them. */
struct dien_scratch {
    /* Building a state: a tile of LANES steps. */
    float *behaviours; /* [E, LANES] */
    float *cell_input; /* [3 max(H, G), LANES] */
    float *states;     /* [max(H, G), LANES] */
    float *evolved;    /* [G, LANES] */
    float *step_input; /* [3 max(H, G)] */
    float *step_state; /* [max(H, G)] */
    float *step_work;  /* [4 max(H, G)] */
    /* Scoring: a block of candidates. */
    float *target;       /* [F, LANES] */
    float *query;        /* [Q, LANES] */
    float *query_part;   /* [D, LANES] */
    float *scaled;       /* [Q, LANES]: the query as a crossed product wants it */
    float *scale;        /* [LANES]: by what that was divided */
    float *narrow_query; /* [LANES, Q]: of few candidates, each in one piece */
    float *narrow_part;  /* [LANES, D] */
    float *products;     /* [STEPS, K, LANES] */
    float *tile[2];      /* [STEPS, largest layer of an attention, LANES] */
    /* A few blocks of candidates. */
    size_t candidate_width; /* of all candidate fields */
    float *candidates;      /* [BLOCKS, candidate_width, LANES] */
    float *scores[BLOCKS];  /* [T, LANES] */
    float *evolve_work;     /* [BLOCKS, 4G, LANES] */
    float *finals;          /* of each interest [BLOCKS, G, LANES] */
    float *shared;          /* [width of the shared inputs] */
    float *shared_part;     /* [units of the first layer] */
    float *bias;            /* [BLOCKS, LANES]: the output bias */
    float *mlp_input;       /* [BLOCKS, width of the lanes' inputs, LANES] */
    float *layer[2];        /* [BLOCKS, largest layer of the MLP, LANES] */
    struct pool pool;
};

#endif
