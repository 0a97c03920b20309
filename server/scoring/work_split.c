/* work_split.c: cut and hand out. */
#include "server/scoring/work_split.h"

/* Whole batches, at least one; what is larger than the request is one piece. */
void parcel_open(struct parcel *parcel, const struct scoring *scoring, double candidates) {
    size_t all = scoring->request->candidate_count;
    size_t most = candidates < (double)all ? (size_t)candidates : all;
    size_t batches = (most + DIEN_BATCH - 1) / DIEN_BATCH;
    *parcel = (struct parcel){.scoring = scoring, .step = (batches > 0 ? batches : 1) * DIEN_BATCH};
}

bool parcel_take(struct parcel *parcel, struct range *range) {
    size_t all = parcel->scoring->request->candidate_count;
    range->first = atomic_fetch_add_explicit(&parcel->taken, parcel->step, memory_order_relaxed);
    if (range->first >= all)
        return false;
    range->count = all - range->first < parcel->step ? all - range->first : parcel->step;
    return true;
}

void parcel_score(const struct parcel *parcel, struct dien_scratch *scratch, struct range range) {
    const struct scoring *scoring = parcel->scoring;
    dien_score_range(scoring->model, scratch, scoring->user, scoring->request, range.first, range.count,
                     scoring->scores, scoring->attention);
}
