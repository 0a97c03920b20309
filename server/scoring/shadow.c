/* shadow.c: copies of requests, and the candidate's scores of them beside the live model's. */
#include "server/scoring/shadow.h"

#include <stdlib.h>
#include <string.h>

/* The store's answer to the live model's request, as if it had only asked. NULL: memory is out. */
static struct stored_history *copy_stored(const struct stored_history *stored) {
    const struct proto_string no_change = {"", 0};
    struct user_key user = {stored->user, stored->user_length};
    struct stored_history *copy = stored_history_new(STORED_GET, user, no_change, false);
    if (copy == NULL)
        return NULL;
    copy->answered = true;
    if (stored->record == NULL) /* a user whom the store does not know */
        return copy;
    copy->record = malloc(stored->record_size > 0 ? stored->record_size : 1);
    if (copy->record == NULL) {
        stored_history_free(copy);
        return NULL;
    }
    memcpy(copy->record, stored->record, stored->record_size);
    copy->record_size = stored->record_size;
    return copy;
}

struct shadow *shadow_new(const struct request *request, const struct rollout *rollout, size_t most) {
    const struct stored_history *stored = request->stored;
    size_t count = request->scored, scores = count * sizeof(float),
           places = 2 * count * sizeof(struct comparison_place);
    size_t bytes = sizeof(struct shadow) + places + scores + request->size;
    bytes += stored != NULL ? sizeof *stored + stored->record_size : 0;
    struct shadow *shadow = bytes <= most ? calloc(1, sizeof *shadow + places + scores + request->size) : NULL;
    if (shadow == NULL)
        return NULL;
    shadow->room = (struct comparison_place *)(shadow + 1);
    float *copied = (float *)(shadow->room + 2 * count);
    char *body = (char *)(copied + count);
    memcpy(copied, request->scores, scores);
    memcpy(body, request->body, request->size);
    shadow->scores = copied;
    shadow->count = count;
    shadow->bytes = bytes;
    shadow->live_seconds = request->scoring_seconds;
    shadow->request =
        (struct request){.format = request->format, .coding = request->coding, .body = body, .size = request->size};
    if (stored != NULL && (shadow->request.stored = copy_stored(stored)) == NULL) {
        free(shadow);
        return NULL;
    }
    shadow->rollout = *rollout;
    served_model_hold(rollout->candidate);
    return shadow;
}

void shadow_free(struct shadow *shadow) {
    served_model_release(shadow->rollout.candidate);
    stored_history_free(shadow->request.stored);
    free(shadow);
}

void shadow_run(struct shadow *shadow, struct scorer *scorer, struct comparison *comparison) {
    struct request *request = &shadow->request;
    uint64_t round = shadow->rollout.round;
    request_rescore(scorer, request);
    if (request->departed) {
        comparison_add_shadow(comparison, round, SHADOW_INTERRUPTED);
        return;
    }
    if (request->problem.kind == PROBLEM_MODEL_FAULT)
        comparison_add_no_number(comparison, round);
    if (request->problem.kind != PROBLEM_NONE || request->scored != shadow->count) {
        comparison_add_shadow(comparison, round, SHADOW_REFUSED);
        return;
    }
    comparison_add_scores(comparison, round, shadow->scores, request->scores, shadow->count, shadow->room);
    comparison_add_seconds(comparison, round, COMPARED_CANDIDATE, request->scoring_seconds);
    if (shadow->rollout.shares.canary == 0) /* otherwise each request of the live model is recorded */
        comparison_add_seconds(comparison, round, COMPARED_LIVE, shadow->live_seconds);
    comparison_add_shadow(comparison, round, SHADOW_COMPARED); /* last: whoever waits for it finds the rest */
}
