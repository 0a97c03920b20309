/* rollout.h: how a candidate is tried out beside the live model: its shares of the requests, the side that a user is
 * on, and the reasons for which a candidate is dropped.
 */
#ifndef SERVER_SCORING_ROLLOUT_H
#define SERVER_SCORING_ROLLOUT_H

#include "server/scoring/served_model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parts of all requests, 0 to 1. */
struct rollout_shares {
    double canary; /* of users, who are served by the candidate */
    double shadow; /* of the live model's requests, which the candidate scores as well, for comparison alone */
};

struct rollout {
    struct served_model *candidate; /* NULL: none */
    struct rollout_shares shares;
    uint64_t key;   /* of the hash that decides a user's side */
    uint64_t round; /* of the comparison */
};

/* The hash key of the text of a key file: its XXH3, 64 bits. */
uint64_t rollout_key(const char *text, size_t length);

/* The place of a user among all users, from 0 to less than 1: the XXH3 of the id with the key as its seed. Those whose
 * place is below the canary's share are the candidate's, so that a larger share takes no user back. */
double rollout_place(uint64_t key, const char *id, size_t length);

/* The model that serves a user, or a request with this id where there is no user. */
struct served_model *rollout_choose(const struct rollout *rollout, struct served_model *live, const char *id,
                                    size_t length);

enum candidate_drop {
    DROP_ASKED,     /* by the operator */
    DROP_NO_NUMBER, /* a score was not a number */
    DROP_SLOW,      /* its 99th percentile exceeds that of the live model by too large a factor */
    DROP_DIFFERENT, /* its scores differ from those of the live model by too much on average */
    CANDIDATE_DROPS
};
extern const char *const candidate_drop_names[CANDIDATE_DROPS]; /* "asked", "no-number", "slow", "different" */

#endif
