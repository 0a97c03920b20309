/* shadow.h: a request that the live model has answered, kept to be scored by the candidate, for comparison alone.
 *
 * It holds copies, since the request's own memory ends with its reply. Nothing that it does is answered, and no user
 * state is read or kept.
 */
#ifndef SERVER_SCORING_SHADOW_H
#define SERVER_SCORING_SHADOW_H

#include "server/scoring/comparison.h"
#include "server/scoring/request.h"
#include "server/scoring/rollout.h"

#include <stddef.h>
#include <stdint.h>

struct shadow {
    struct shadow *next; /* the worker pool's */
    struct rollout rollout;
    struct request request;        /* not begun; its body and stored history are the shadow's */
    struct comparison_place *room; /* [2 * count] */
    const float *scores;           /* the live model's, [count] */
    size_t count;
    double live_seconds; /* of scoring */
    size_t bytes;        /* of memory */
};

/* A shadow of a request that was scored whole, with a reference to the candidate. NULL: it would take more than `most`
 * bytes, or memory is out. */
struct shadow *shadow_new(const struct request *request, const struct rollout *rollout, size_t most);
void shadow_free(struct shadow *shadow);

/* Scores it with the scorer's model, which is the candidate, and records how it ended. */
void shadow_run(struct shadow *shadow, struct scorer *scorer, struct comparison *comparison);

#endif
