/* work_split.h: the candidates of one large request, split into chunks that threads take one by one.
 *
 * The thread that owns the request makes the split and shows it to the others. It takes chunks itself until none is
 * left, then waits for those that others still score. Any thread may take a chunk at any time. `next` and what counts
 * helpers are guarded by the worker pool's mutex.
 */
#ifndef SERVER_SCORING_WORK_SPLIT_H
#define SERVER_SCORING_WORK_SPLIT_H

#include "server/scoring/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct work_split {
    struct work_split *next; /* in the pool's list */
    const struct dien_model *model;
    struct served_model *served;   /* whose model it is, with the helpers' scratches; the owner's to set */
    const struct request *request; /* resolved, with its user state, and room for the scores */
    size_t chunk_size;             /* candidates */
    _Atomic size_t taken;          /* candidates; may exceed their number */
    size_t helpers;                /* threads other than the owner's that score chunks of it now */
    size_t helper_chunks;          /* chunks that such threads have scored, */
    uint64_t helper_ns;            /* and their time */
};

/* Candidates first to first + count - 1. */
struct range {
    size_t first, count;
};

/* Splits a request into chunks of about `candidates` candidates each. */
void work_split_init(struct work_split *split, const struct dien_model *model, const struct request *request,
                     double candidates);
/* Takes the next chunk; false when none is left. */
bool work_split_take(struct work_split *split, struct range *range);
/* Lets nobody take another chunk. Returns the candidates whose chunks have been taken: the first ones. */
size_t work_split_stop(struct work_split *split);
void work_split_score(const struct work_split *split, struct dien_scratch *scratch, struct range range);

/* The number of chunks, taken or not. */
static inline size_t work_split_chunks(const struct work_split *split) {
    return (split->request->candidates.candidate_count + split->chunk_size - 1) / split->chunk_size;
}

static inline bool work_split_has_more(const struct work_split *split) {
    return atomic_load_explicit(&split->taken, memory_order_relaxed) < split->request->candidates.candidate_count;
}

#endif
