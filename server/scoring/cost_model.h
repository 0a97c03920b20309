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
/* Of a compressed body only the decoded size is known. It counts as a usual request of that size, so the decoded
 * request has to be weighed. */
double cost_guess_compressed(size_t decoded_size);
/* Of POST /users/{id}/history, which scores nothing. */
double cost_guess_update(size_t decoded_size);

/* The part of a decoded request that is work: to be done, or done. */
struct cost_work {
    size_t length; /* the longest history after the cut to max_length */
    double held;   /* values of a history that the request does not bring */
    double scored; /* the share of the candidates */
};
/* Before the state of the user is known. `held_length`: behaviours that a held history is taken to have; 0: the usual
 * number. */
struct cost_work cost_work_expected(const struct dien_model *model, const struct proto_request *request,
                                    size_t held_length);
/* The units of a decoded request, on the scale of the guess. */
double cost_of_work(const struct proto_request *request, size_t size, const struct cost_work *work);
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
