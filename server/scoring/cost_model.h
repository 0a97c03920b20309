/* cost_model.h: what scoring a request costs: a count of units of work, and how long a unit takes here.
 *
 * Attention and evolution do the same work for every pair of a behaviour and a candidate, so the unit is one pair and a
 * request costs about T x C. Knows no threads: whoever shares a rate guards it.
 */
#ifndef SERVER_SCORING_COST_MODEL_H
#define SERVER_SCORING_COST_MODEL_H

#include "model/dien.h"
#include "proto/score.h"

#include <stddef.h>

/* Units of a request that waits, by a look at its bytes: good enough to tell a light one from a heavy one. */
double cost_guess(enum proto_format format, const char *body, size_t size);
/* Units of scoring one candidate of this user. */
double cost_of_candidate(const struct dien_model *model, const struct dien_user *user);

/* Seconds a unit: an average that forgets. */
struct cost_rate {
    double seconds, units;
};

/* A rate to begin with, which the first measurement outweighs. */
struct cost_rate cost_rate_start(void);
void cost_learn(struct cost_rate *rate, double units, double seconds);

static inline double cost_seconds(const struct cost_rate *rate, double units) {
    return units * rate->seconds / rate->units;
}

#endif
