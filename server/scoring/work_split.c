/* work_split.c: the bounds of chunks. */
#include "server/scoring/work_split.h"

/* A chunk is a whole number of batches, at least one, because dien_score_range() costs least per candidate then. */
void work_split_init(struct work_split *split, const struct dien_model *model, const struct request *request,
                     double candidates) {
    size_t all = request->candidates.candidate_count;
    size_t wanted = candidates < (double)all ? (size_t)candidates : all;
    size_t batches = (wanted + DIEN_BATCH - 1) / DIEN_BATCH;
    *split =
        (struct work_split){.model = model, .request = request, .chunk_size = (batches > 0 ? batches : 1) * DIEN_BATCH};
}

bool work_split_take(struct work_split *split, struct range *range) {
    size_t all = split->request->candidates.candidate_count;
    range->first = atomic_fetch_add_explicit(&split->taken, split->chunk_size, memory_order_relaxed);
    if (range->first >= all)
        return false;
    range->count = all - range->first < split->chunk_size ? all - range->first : split->chunk_size;
    return true;
}

size_t work_split_stop(struct work_split *split) {
    size_t all = split->request->candidates.candidate_count;
    size_t taken = atomic_exchange_explicit(&split->taken, all, memory_order_relaxed);
    return taken < all ? taken : all;
}

void work_split_score(const struct work_split *split, struct dien_scratch *scratch, struct range range) {
    const struct request *request = split->request;
    dien_score_range(split->model, scratch, request->state.user, &request->candidates, range.first, range.count,
                     request->scores, request->attention);
}
