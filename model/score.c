/* score.c: the network as one story: for a user and candidates: embed, attend, evolve, predict. extractor.c has the
 * user's side. Deep Interest Evolution Network for Click-Through Rate Prediction, Zhou et al., AAAI 2019.
 */
#include "model/dien.h"
#include "model/network/embed.h"
#include "model/network/stages.h"
#include "model/sizes.h"

enum { BATCH = BLOCKS * LANES }; /* candidates that are scored together */
_Static_assert(DIEN_BATCH % BATCH == 0, "a range that starts at a batch starts at a block");

/* Fetch the table rows of candidates first .. first + count. */
static void fetch_candidates(const struct dien_model *model, const struct dien_request *request, size_t first,
                             size_t count) {
    const struct dien_column *columns = request->candidates.column;
    for (size_t i = 0; i < model->candidate.count; i++)
        embed_fetch(model->candidate.parts[i].embedding, &columns[i], first, count);
    if (model->bias != NULL)
        embed_fetch(model->bias, &columns[model->config.bias_index], first, count);
}

/* Embed candidates first .. first + count and their output biases. */
static void embed_candidates(const struct dien_model *model, struct dien_scratch *scratch,
                             const struct dien_request *request, size_t first, size_t count) {
    const struct dien_column *columns = request->candidates.column;
    for (size_t block = 0; block * LANES < count; block++) {
        size_t start = first + block * LANES, lanes = size_min(count - block * LANES, LANES);
        float *vectors = scratch->candidates + block * model->candidate.width * LANES;
        for (size_t i = 0; i < model->candidate.count; i++) {
            const struct vector_part *part = &model->candidate.parts[i];
            embed_lanes(part->embedding, &columns[i], start, lanes, vectors + part->offset * LANES);
        }
        if (model->bias != NULL)
            embed_lanes(model->bias, &columns[model->config.bias_index], start, lanes, scratch->bias + block * LANES);
    }
}

/* Copy a batch's attention scores out of the lanes: explained [candidates, T]. */
static void explain(const struct dien_scratch *scratch, size_t candidates, size_t length, float *explained) {
    for (size_t i = 0; i < candidates; i++)
        for (size_t step = 0; step < length; step++)
            explained[i * length + step] = scratch->scores[i / LANES][step * LANES + i % LANES];
}

void dien_score_range(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                      const struct dien_request *request, size_t first, size_t count, float *scores,
                      float *const *attention) {
    size_t end = first + count;
    fetch_candidates(model, request, first, size_min(count, BATCH));
    predict_shared(model, scratch, user, request);
    for (; first < end; first += BATCH) {
        size_t candidates = size_min(end - first, BATCH), next = first + candidates;
        fetch_candidates(model, request, next, size_min(end - next, BATCH)); /* they arrive during this batch */

        embed_candidates(model, scratch, request, first, candidates);
        for (size_t i = 0; i < user->interest_count; i++) {
            const struct interest *interest = &model->interests[i];
            const struct interest_layout *layout = &user->interests[i];
            float *final = scratch->finals + BLOCKS * interest->final_offset * LANES;
            attend(model, scratch, interest, user, layout, candidates);
            if (attention != NULL && attention[i] != NULL && interest->config->attention.kind != ATTENTION_NONE)
                explain(scratch, candidates, layout->length, attention[i] + first * layout->length);
            evolve(model, scratch, interest, user, layout, candidates, final);
        }
        predict(model, scratch, user, candidates, scores + first);
    }
}

void dien_score(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                const struct dien_request *request, float *scores, float *const *attention) {
    dien_score_range(model, scratch, user, request, 0, request->candidate_count, scores, attention);
}
