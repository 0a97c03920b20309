/* work_split.c: cut and hand out. */
#include "server/scoring/work_split.h"

/* Whole batches, at least one; what is larger than the request is one chunk. */
void work_split_init(struct work_split *split, const struct scoring *scoring, double candidates) {
    size_t all = scoring->request->candidate_count;
    size_t most = candidates < (double)all ? (size_t)candidates : all;
    size_t batches = (most + DIEN_BATCH - 1) / DIEN_BATCH;
    *split = (struct work_split){.scoring = scoring, .step = (batches > 0 ? batches : 1) * DIEN_BATCH};
}

bool work_split_take(struct work_split *split, struct range *range) {
    size_t all = split->scoring->request->candidate_count;
    range->first = atomic_fetch_add_explicit(&split->taken, split->step, memory_order_relaxed);
    if (range->first >= all)
        return false;
    range->count = all - range->first < split->step ? all - range->first : split->step;
    return true;
}

void work_split_score(const struct work_split *split, struct dien_scratch *scratch, struct range range) {
    const struct scoring *scoring = split->scoring;
    dien_score_range(scoring->model, scratch, scoring->user, scoring->request, range.first, range.count,
                     scoring->scores, scoring->attention);
}
