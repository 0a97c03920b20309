/* scratch.h: one thread's working memory: the intermediates of building a state and of scoring a batch of candidates,
 * each sized once for the largest that the model can need. Their contents mean nothing between calls.
 */
#ifndef MODEL_NETWORK_SCRATCH_H
#define MODEL_NETWORK_SCRATCH_H

#include "model/format/bind.h"

/* Matrices are in lanes (kernels.h). */
struct dien_scratch {
    /* Building a state: a tile of LANES steps. */
    float *behaviours; /* [E, LANES] */
    float *cell_input; /* [3 max(H, G), LANES] */
    float *states;     /* [max(H, G), LANES] */
    float *evolved;    /* [G, LANES] */
    float *step_input; /* [3 max(H, G)] */
    float *step_state; /* [max(H, G)] */
    float *step_work;  /* [4 max(H, G)] */
    /* The attention of a block of candidates. */
    float *target;       /* [F, LANES] */
    float *query;        /* [Q, LANES] */
    float *query_part;   /* [D, LANES] */
    float *scaled;       /* [Q, LANES]: the query divided for a Winograd product */
    float *scale;        /* [LANES]: the divisors */
    float *narrow_query; /* [LANES, Q]: the queries of few candidates, each in one piece */
    float *narrow_part;  /* [LANES, D] */
    float *products;     /* [STEPS, K, LANES] */
    float *tile[2];      /* [STEPS, widest layer of an attention, LANES] */
    /* A batch of BLOCKS blocks of candidates. */
    float *candidates;     /* [BLOCKS, width of the candidate group, LANES] */
    float *scores[BLOCKS]; /* [T, LANES] */
    float *evolve_work;    /* [BLOCKS, 4G, LANES] */
    float *finals;         /* each interest's final states: [BLOCKS, G, LANES] */
    float *shared;         /* [width of the shared inputs] */
    float *shared_part;    /* [units of the first layer] */
    float *bias;           /* [BLOCKS, LANES]: the output bias */
    float *mlp_input;      /* [BLOCKS, width of a lane's inputs, LANES] */
    float *layer[2];       /* [BLOCKS, widest layer of the MLP, LANES] */
    struct pool pool;
};

#endif
