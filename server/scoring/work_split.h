/* work_split.h: the scoring of one large request, cut into pieces that threads take one by one.
 *
 * The thread that has the request opens a parcel, lets others see it, takes pieces itself until none is left, and waits
 * for those that are still being done elsewhere. Pieces may be taken by any thread at any time; the rest is guarded by
 * whoever keeps the parcels.
 */
#ifndef SERVER_SCORING_WORK_SPLIT_H
#define SERVER_SCORING_WORK_SPLIT_H

#include "server/scoring/request.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct parcel {
    struct parcel *next; /* the keeper's */
    const struct scoring *scoring;
    size_t step;           /* candidates a piece */
    _Atomic size_t taken;  /* candidates; may pass their number */
    size_t helpers;        /* threads besides the owner's that are in it now */
    size_t helped;         /* pieces that such threads have done, */
    uint64_t helped_nanos; /* and how long it took them */
};

struct range {
    size_t first, count;
};

/* Pieces of about `candidates` candidates. */
void parcel_open(struct parcel *parcel, const struct scoring *scoring, double candidates);
/* The next piece; false when there is none. */
bool parcel_take(struct parcel *parcel, struct range *range);
void parcel_score(const struct parcel *parcel, struct dien_scratch *scratch, struct range range);

static inline size_t parcel_pieces(const struct parcel *parcel) {
    return (parcel->scoring->request->candidate_count + parcel->step - 1) / parcel->step;
}

static inline bool parcel_has_more(const struct parcel *parcel) {
    return atomic_load_explicit(&parcel->taken, memory_order_relaxed) < parcel->scoring->request->candidate_count;
}

#endif
