/* stages.h: the candidate side of the network, stage by stage, for a block of LANES candidates (kernels.h has the
 * layout). */
#ifndef MODEL_STAGES_H
#define MODEL_STAGES_H

#include "model/scratch.h"
#include "model/user.h"

/* attention.c: a_t of each candidate (paper eq. 8) into scratch->scores [T, LANES], from scratch->target; T >= 1. */
void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed);

/* evolution.c: the final interest (paper eq. 9-10) into final [G, LANES], from scratch->scores; T >= 1. */
void evolve(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct user_interest *placed, float *final);

/* mlp.c: what a request's candidates share, once: scratch->shared_part. */
void predict_shared(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                    const struct dien_request *request);
/* mlp.c: the score of each candidate, [LANES], from scratch->candidates, scratch->finals and scratch->bias. */
void predict(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user, float *scores);

/* mlp.c: the target of an interest, [F, LANES], out of scratch->candidates. */
void take_target(const struct dien_model *model, const struct dien_scratch *scratch, const struct interest *interest,
                 float *target);

#endif
