/* work_split.c: the bounds of chunks. */
#include "server/scoring/work_split.h"

/* A chunk is a whole number of batches, at least one, because dien_score_range() costs least per candidate then. */
void work_split_init(struct work_split *split, const struct scoring *scoring, double candidates) {
    size_t all = scoring->request->candidate_count;
    size_t wanted = candidates < (double)all ? (size_t)candidates : all;
    size_t batches = (wanted + DIEN_BATCH - 1) / DIEN_BATCH;
    *split = (struct work_split){.scoring = scoring, .chunk_size = (batches > 0 ? batches : 1) * DIEN_BATCH};
}

bool work_split_take(struct work_split *split, struct range *range) {
    size_t all = split->scoring->request->candidate_count;
    range->first = atomic_fetch_add_explicit(&split->taken, split->chunk_size, memory_order_relaxed);
    if (range->first >= all)
        return false;
    range->count = all - range->first < split->chunk_size ? all - range->first : split->chunk_size;
    return true;
}

void work_split_score(const struct work_split *split, struct dien_scratch *scratch, struct range range) {
    const struct scoring *scoring = split->scoring;
    dien_score_range(scoring->model, scratch, scoring->user, scoring->request, range.first, range.count,
                     scoring->scores, scoring->attention);
}
