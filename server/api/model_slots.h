/* model_slots.h: a candidate beside the live model: its load, its shares, promotion, drop, and the guard that drops it
 * by itself. Everything here runs on the loop's thread.
 */
#ifndef SERVER_API_MODEL_SLOTS_H
#define SERVER_API_MODEL_SLOTS_H

#include "server/api/api.h"

#include <stdbool.h>
#include <stddef.h>

/* Reads --hash-key-file, if there is one. False, with the reason in `error`, when it cannot be read or is empty. */
bool model_slots_read_key(struct api *api, char *error, size_t error_size);
/* The text of that file without its line end, at most size - 1 bytes. Returns their count; 0: there is no key. */
size_t model_slots_key_text(const struct api *api, char *text, size_t size);

/* Requests that a scoring thread takes from now on have the models that are in the slots now. */
void model_slots_serve(struct api *api);

enum candidate_load {
    CANDIDATE_LOADING, /* service.c has the end: candidate-ready or model-refused in the log */
    CANDIDATE_REFUSED, /* the shares or the options do not allow it; `reason` has why */
    CANDIDATE_BUSY     /* another load is under way */
};
/* Begins to load the candidate from a directory below --model-root; `by` is a literal. */
enum candidate_load model_slots_load_candidate(struct api *api, const char *directory, struct rollout_shares shares,
                                               const char *by, char *reason, size_t reason_size);
/* A candidate was loaded, proved, and is served from now on. Takes the caller's reference. */
void model_slots_set_candidate(struct api *api, struct served_model *served, struct rollout_shares shares);
/* Other shares for the candidate that is there; the comparison goes on. False, with the reason, when there is none or
 * the shares are not allowed. */
bool model_slots_share(struct api *api, struct rollout_shares shares, char *reason, size_t reason_size);
/* The candidate becomes the live model, and the live one the previous one. False: there is no candidate. */
bool model_slots_promote(struct api *api);
/* There is no candidate any more. False: there was none. */
bool model_slots_drop(struct api *api);
/* Drops the candidate where --candidate-guard says so. Called a few times a second. */
void model_slots_guard(struct api *api);

#endif
