/* cost_model.h: the estimated cost of scoring a request, in units of work, and the measured time of a unit.
 *
 * Attention and evolution do one step of work for each pair of a behaviour and a candidate. A unit is one pair, so a
 * request costs about T x C units. A rate has no lock: its owner guards it.
 */
#ifndef SERVER_SCORING_COST_MODEL_H
#define SERVER_SCORING_COST_MODEL_H

#include "model/dien.h"
#include "proto/score.h"

#include <stddef.h>

/* Estimates the units of a request from its undecoded body: good enough to tell a light request from a heavy one. Where
 * a body can hide its groups from a look at the text, the guess is the most that so many values can make. */
double cost_guess(enum proto_format format, const char *body, size_t size);
/* Of a compressed body only the decoded size is known. It counts as the heaviest request of that size. */
double cost_guess_compressed(size_t decoded_size);
/* The units of a decoded request, on the scale of the guess. `held` is the assumed length of a history that the request
 * does not bring; 0: the usual one. */
double cost_of_decoded(const struct proto_request *request, size_t size, size_t held);
/* Units of scoring one candidate for this user. */
double cost_of_candidate(const struct dien_model *model, const struct dien_user *user);

/* Seconds per unit: sums in which older measurements weigh exponentially less. */
struct cost_rate {
    double seconds, units;
};

/* An initial rate, of so little weight that the first measurement dominates it. */
struct cost_rate cost_rate_start(void);
void cost_learn(struct cost_rate *rate, double units, double seconds);

static inline double cost_seconds(const struct cost_rate *rate, double units) {
    return units * rate->seconds / rate->units;
}

#endif
