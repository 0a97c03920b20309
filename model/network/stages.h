/* stages.h: the candidate side of the network, stage by stage, for a few blocks of candidates (kernels.h has the
 * layout). */
#ifndef MODEL_NETWORK_STAGES_H
#define MODEL_NETWORK_STAGES_H

#include "model/network/scratch.h"
#include "model/network/user.h"

/* attention.c: a_t of the first `candidates` of a block (paper eq. 8) into scores [T, LANES], from scratch->target; T
 * >= 1. */
void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed, size_t candidates, float *scores);

/* evolution.c: the final interest (paper eq. 9-10) of so many candidates into final [blocks, G, LANES], from
 * scratch->scores, which it may change; T >= 1. */
void evolve(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed, size_t candidates, float *final);

/* mlp.c: what a request's candidates share, once: scratch->shared_part. */
void predict_shared(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                    const struct dien_request *request);
/* mlp.c: the scores of so many candidates, [blocks, LANES], from scratch->candidates, scratch->finals and
 * scratch->bias. */
void predict(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
             size_t candidates, float *scores);

/* mlp.c: a block's target of an interest, [F, LANES], out of scratch->candidates. */
void take_target(const struct dien_model *model, const struct dien_scratch *scratch, const struct interest *interest,
                 size_t block, float *target);

#endif
