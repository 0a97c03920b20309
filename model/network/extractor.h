/* extractor.h: the interest extractor (paper section 4.3): from a state's behaviours to its states h_t. */
#ifndef MODEL_NETWORK_EXTRACTOR_H
#define MODEL_NETWORK_EXTRACTOR_H

#include "model/network/scratch.h"
#include "model/network/user.h"

/* Compute the states and the sum of one interest from step `first` on. The state holds all behaviours, and the states
 * and the sum of the steps before `first`. */
void extract(const struct dien_model *model, struct dien_scratch *scratch, const struct interest *interest,
             struct dien_user *user, const struct interest_layout *layout, size_t first);

#endif
