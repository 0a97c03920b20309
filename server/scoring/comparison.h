/* comparison.h: a candidate beside the live model: how far their scores and orders differ, how long each takes, and
 * whether the candidate is good enough to stay.
 *
 * Any thread may record; each record takes a lock for some additions. A round is one pair of models: what is recorded
 * for an earlier round is left out, since its models are no longer those that are compared.
 */
#ifndef SERVER_SCORING_COMPARISON_H
#define SERVER_SCORING_COMPARISON_H

#include "server/base/counter.h"
#include "server/scoring/rollout.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum compared { COMPARED_LIVE, COMPARED_CANDIDATE, COMPARED };
extern const char *const compared_names[COMPARED]; /* "live", "candidate" */

enum shadow_end {
    SHADOW_COMPARED,
    SHADOW_BUSY,        /* no thread was idle in time, or --shadow-buffer was full */
    SHADOW_INTERRUPTED, /* by a request that waited */
    SHADOW_NO_HISTORY,  /* the request meant a state of the live model, whose ids nobody has */
    SHADOW_REFUSED,     /* the candidate cannot score the request */
    SHADOW_ENDS
};
extern const char *const shadow_end_names[SHADOW_ENDS];

enum { COMPARISON_DIFFERENCES = 17, COMPARISON_SCORES = 20, COMPARISON_TOPS = 3, COMPARISON_TIME_STEPS = 330 };
/* Upper bounds, ascending; +Inf follows. */
extern const double comparison_difference_bounds[COMPARISON_DIFFERENCES], comparison_score_bounds[COMPARISON_SCORES];
extern const size_t comparison_tops[COMPARISON_TOPS]; /* 1, 5, 10 */

/* Of one round. Buckets are not cumulative. */
struct comparison_counts {
    uint64_t shadows[SHADOW_ENDS];
    uint64_t canary_requests, canary_rescued; /* answered by the candidate; by the live model in its place */
    uint64_t no_numbers;                      /* requests for which the candidate had a score that is not a number */
    /* Of each candidate item that both have scored. */
    uint64_t differences[COMPARISON_DIFFERENCES + 1];
    uint64_t scores[COMPARED][COMPARISON_SCORES + 1];
    double difference_sum, score_sum[COMPARED];
    /* Of each request that both have scored; the correlation of those with two candidate items or more. */
    double overlap_sum[COMPARISON_TOPS], correlation_sum;
    uint64_t requests, correlations;
    /* The threads' time of scoring alone, without decoding and user states. */
    uint64_t seconds[COMPARED][HISTOGRAM_BUCKETS + 1];
    double seconds_sum[COMPARED];
    uint64_t time_steps[COMPARED][COMPARISON_TIME_STEPS]; /* of 5 % each, from a microsecond on, for quantiles */
};

struct candidate_guard {
    bool on;
    double p99_factor;       /* of the candidate's time to the live model's; 0: any */
    double difference;       /* mean of |difference| of scores; 0: any */
    uint64_t after_requests; /* of each model; none is judged by fewer, but for scores that are not numbers */
};

struct comparison {
    pthread_mutex_t mutex;
    uint64_t round;
    struct comparison_counts counts;
};

void comparison_init(struct comparison *comparison);
void comparison_free(struct comparison *comparison);

/* Forgets all, and returns the number of the new round. */
uint64_t comparison_begin(struct comparison *comparison);

/* One request's scores by both models, [count]. `room` is for 2 * count entries. */
struct comparison_place {
    float score;
    uint32_t index, rank; /* at `rank` of the order is candidate item `index`; at [index], its rank */
};
void comparison_add_scores(struct comparison *comparison, uint64_t round, const float *live, const float *candidate,
                           size_t count, struct comparison_place *room);
void comparison_add_seconds(struct comparison *comparison, uint64_t round, enum compared of, double seconds);
void comparison_add_shadow(struct comparison *comparison, uint64_t round, enum shadow_end end);
/* A request of the candidate's share of users. Rescued: its scores were no numbers, and the live model answered. */
void comparison_add_canary(struct comparison *comparison, uint64_t round, bool rescued);
/* A shadow's scores were no numbers. */
void comparison_add_no_number(struct comparison *comparison, uint64_t round);

void comparison_read(struct comparison *comparison, struct comparison_counts *counts);
/* Seconds, exact to 5 %; 0 without a request. */
double comparison_p99(const struct comparison_counts *counts, enum compared of);
/* True when the candidate is to be dropped, for *reason, which `text` tells with its numbers. */
bool comparison_condemns(const struct comparison_counts *counts, const struct candidate_guard *guard,
                         enum candidate_drop *reason, char *text, size_t size);

#endif
