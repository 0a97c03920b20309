/* stages.h: the candidate side of the network, stage by stage, for a batch of up to BLOCKS * LANES candidates
 * (kernels.h has the layout).
 */
#ifndef MODEL_NETWORK_STAGES_H
#define MODEL_NETWORK_STAGES_H

#include "model/network/scratch.h"
#include "model/network/user.h"

/* attention.c: the attention scores a_t (paper eq. 8) into scratch->scores, from scratch->candidates. An interest
 * without attention, or without behaviours, has none. */
void attend(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct interest_layout *layout, size_t candidates);

/* evolution.c: the final interest states (paper eq. 9-10) into final [blocks, G, LANES], from scratch->scores. They are
 * zero without behaviours. */
void evolve(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
            const struct dien_user *user, const struct interest_layout *layout, size_t candidates, float *final);

/* mlp.c: the part of the first layer that a request's candidates share, into scratch->shared_part. */
void predict_shared(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                    const struct dien_request *request);
/* mlp.c: scores [candidates], from scratch->candidates, scratch->finals, scratch->bias and scratch->shared_part. */
void predict(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
             size_t candidates, float *scores);

/* mlp.c: a block's target of an interest, [F, LANES], out of scratch->candidates. */
void copy_target(const struct dien_model *model, const struct dien_scratch *scratch, const struct interest *interest,
                 size_t block, float *target);

#endif
