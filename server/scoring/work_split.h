/* work_split.h: the scoring of one large request, cut into chunks that threads take one by one.
 *
 * The thread that has the request opens a split, lets others see it, takes chunks itself until none is left, and waits
 * for those that are still being done excluded_ns. Pieces may be taken by any thread at any time; the rest is guarded
 * by whoever keeps the splits.
 */
#ifndef SERVER_SCORING_WORK_SPLIT_H
#define SERVER_SCORING_WORK_SPLIT_H

#include "server/scoring/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct work_split {
    struct work_split *next; /* the keeper's */
    const struct scoring *scoring;
    size_t step;           /* candidates a chunk */
    _Atomic size_t taken;  /* candidates; may pass their number */
    size_t helpers;        /* threads besides the owner's that are in it now */
    size_t helped;         /* chunks that such threads have done, */
    uint64_t helped_nanos; /* and how long it took them */
};

struct range {
    size_t first, count;
};

/* Pieces of about `candidates` candidates. */
void work_split_init(struct work_split *split, const struct scoring *scoring, double candidates);
/* The next chunk; false when there is none. */
bool work_split_take(struct work_split *split, struct range *range);
void work_split_score(const struct work_split *split, struct dien_scratch *scratch, struct range range);

static inline size_t work_split_chunks(const struct work_split *split) {
    return (split->scoring->request->candidate_count + split->step - 1) / split->step;
}

static inline bool work_split_has_more(const struct work_split *split) {
    return atomic_load_explicit(&split->taken, memory_order_relaxed) < split->scoring->request->candidate_count;
}

#endif
