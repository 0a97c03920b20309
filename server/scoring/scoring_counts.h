/* scoring_counts.h: what scoring counts: phases, user states, refusals, shared work, unknown ids. */
#ifndef SERVER_SCORING_COUNTS_H
#define SERVER_SCORING_COUNTS_H

#include "server/base/counter.h"
#include "server/scoring/job_queue.h"
#include "server/scoring/request.h"

enum { COUNTED_FIELDS_MAX = 256, COUNTED_NAMES_BYTES = 32768 };

/* Initialise with zeros. */
struct scoring_counts {
    struct histogram phases[REQUEST_PHASES]; /* of POST /score */
    _Atomic uint64_t candidates;
    _Atomic uint64_t behaviours;
    _Atomic uint64_t dropped_states[STATE_DROPS];
    _Atomic uint64_t events[HISTORY_OUTCOMES]; /* of POST /events */
    _Atomic uint64_t requests_split, chunks_helped, requests_interleaved;
    _Atomic uint64_t refusals[JOB_REFUSALS];
    _Atomic uint64_t departures; /* of clients, while their request waited or was scored */
    _Atomic uint64_t misses[USER_MISSES];
    struct histogram states[USER_ORIGINS];            /* time to get a user state, by its origin */
    _Atomic uint64_t unknown_ids[COUNTED_FIELDS_MAX]; /* by index in unknown_names */
    _Atomic size_t fields;                            /* names that are there; never fewer */
    const char *unknown_names[COUNTED_FIELDS_MAX];    /* in the next, since they outlive their model */
    char name_text[COUNTED_NAMES_BYTES];
    size_t name_bytes;
};

/* Adds the categorical fields of a model to those whose unknown ids are counted, before a request is scored with it.
 * Those of models before stay, with their counts. One thread at a time. */
void scoring_counts_model(struct scoring_counts *counts, const struct dien_model *model);
/* A scoring thread has done with a request. */
void scoring_counts_request(struct scoring_counts *counts, const struct request *request);

#endif
