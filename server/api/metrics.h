/* metrics.h: what is counted, and how long things took.
 *
 * Any thread may record: counters are relaxed atomics. A reading is not one instant: two series may differ by a request
 * in flight.
 */
#ifndef SERVER_API_METRICS_H
#define SERVER_API_METRICS_H

#include "proto/problem.h"
#include "proto/score.h"
#include "server/http/connections.h"
#include "server/http/routes.h"
#include "server/scoring/job_queue.h"
#include "server/scoring/request.h"

#include <stdatomic.h>
#include <stdint.h>

/* How a scoring request ended: PROBLEM_NONE is "ok", the other kinds are their slugs, and one more. */
enum { OUTCOME_CANCELLED = PROBLEM_KINDS, METRIC_OUTCOMES };
const char *metrics_outcome_name(unsigned outcome);

/* Phases of a request; the first ones are those of request.h. */
enum { PHASE_QUEUE = REQUEST_PHASES, PHASE_TOTAL, METRIC_PHASES };
const char *metrics_phase_name(unsigned phase);

enum { METRIC_BUCKETS = 20 };
extern const double metric_bucket_bounds[METRIC_BUCKETS]; /* seconds, upper bounds, ascending; +Inf comes after */

struct histogram {
    _Atomic uint64_t buckets[METRIC_BUCKETS + 1]; /* not cumulative */
    _Atomic uint64_t nanoseconds;
};

/* Statuses that have a series from the start. Others are counted under the last, "other". */
enum { METRIC_STATUSES = 18 };
extern const int metric_statuses[METRIC_STATUSES];

enum { METRIC_FIELDS = 256 };

/* Zeros are a start. */
struct metrics {
    _Atomic uint64_t requests[METRIC_OUTCOMES];
    _Atomic uint64_t responses[ROUTES][METRIC_STATUSES];
    struct histogram durations[METRIC_PHASES];
    _Atomic uint64_t candidates;
    _Atomic uint64_t behaviours;
    _Atomic uint64_t requests_split, chunks_helped, requests_interleaved;
    _Atomic uint64_t refusals[JOB_REFUSALS];
    _Atomic uint64_t misses[USER_MISSES];
    struct histogram states[USER_ORIGINS]; /* how long it took to get a user state, by how it came about */
    _Atomic uint64_t connections_accepted;
    _Atomic uint64_t connections_ended[CONNECTION_ENDS];
    _Atomic uint64_t unknown_ids[METRIC_FIELDS]; /* by place in unknown_names */
    size_t fields;                               /* set once, before any thread records an unknown id */
    const char *unknown_names[METRIC_FIELDS];    /* the model's */
};

void metrics_duration(struct metrics *metrics, unsigned phase, double seconds);
void metrics_response(struct metrics *metrics, enum route route, int status);
/* What a scoring thread knows of a request it has done. Not `scores`: it was an update of a history. */
void metrics_scored(struct metrics *metrics, const struct request_outcome *outcome, bool scores);
/* The fields whose unknown ids are counted: the model's categorical ones. */
void metrics_model(struct metrics *metrics, const struct dien_model *model);

static inline void metrics_add(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static inline uint64_t metrics_get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
