/* registry.h: the versions of the model in this process: the live one, the one before, a candidate that is tried out,
 * and the load that is under way.
 *
 * One thread loads models and closes those that nobody uses any more. After the first load it has lowest priority.
 * All calls are the loop's thread's.
 */
#ifndef SERVER_MODELS_REGISTRY_H
#define SERVER_MODELS_REGISTRY_H

#include "server/models/model_loader.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct registry;

enum model_slot { SLOT_LIVE, SLOT_PREVIOUS, SLOT_CANDIDATE, MODEL_SLOTS };
extern const char *const model_slot_names[MODEL_SLOTS];

struct registry_options {
    enum dien_precision precision;
    double tolerance;
    size_t prefault; /* bytes */
    size_t threads;  /* that score */
    bool copy;
    bool keep_previous;
    size_t memory_limit;         /* bytes that all models may have in memory; 0: any */
    const char *root;            /* that candidates' directories lie below; NULL: there are no candidates */
    const char *poll_path;       /* a symbolic link whose target is looked at */
    double poll_seconds;         /* every so often; a new target is loaded, by "poll"; 0: never */
    void (*wake)(void *context); /* called from the registry's thread when registry_take() has a load */
    void *context;
};

/* NULL with errno when there is no memory or no thread to be had. */
struct registry *registry_start(const struct registry_options *options);

/* Begins to load what `path` names now. `by` is a literal that says who asked. False: another load is under way, and
 * nothing has changed. */
bool registry_load(struct registry *registry, const char *path, const char *by);
/* Begins to load a directory below options.root as the candidate, which is to have these shares. False as above. The
 * end comes by registry_take(), as with any load; it is for the caller to call registry_set_candidate() then. */
bool registry_load_candidate(struct registry *registry, const char *path, const char *by, struct rollout_shares shares);
bool registry_is_loading(struct registry *registry);
/* False while no load has ended since the last call. Otherwise fills in *loaded, whose model is the caller's. A refusal
 * is noted as the last failure. loaded->is_previous: the files are those of the previous model, unchanged, which
 * registry_roll_back() makes the live one. */
bool registry_take(struct registry *registry, struct loaded *loaded);
/* Notes that a model which was loaded is refused after all, and takes the caller's reference. */
void registry_refuse(struct registry *registry, struct served_model *served, const char *message);
/* True when the load that is under way ended within some seconds of being told to. Otherwise its thread is stuck in
 * the kernel, and the process can only exit. */
bool registry_cancel(struct registry *registry);

/* Makes a model the live one; the registry takes the caller's reference. The live one becomes the previous one, unless
 * both are of the same files, or no previous one is kept. */
void registry_go_live(struct registry *registry, struct served_model *served);
/* Lets the live model and the previous one change places. False when there is no previous one. */
bool registry_roll_back(struct registry *registry);
/* Makes a model the candidate, in place of the one before; the registry takes the caller's reference. */
void registry_set_candidate(struct registry *registry, struct served_model *served);
/* The candidate becomes the live model, and the live one the previous one, as by registry_go_live(). No file is looked
 * at. False when there is no candidate. */
bool registry_promote(struct registry *registry);
/* There is no candidate any more. False when there was none. */
bool registry_drop(struct registry *registry, enum candidate_drop reason);
/* The model of a slot, or NULL. Valid until the next of these calls; hold it for longer. */
struct served_model *registry_model(const struct registry *registry, enum model_slot slot);
/* Bytes of all models in slots: mapped or copied, and packed. */
size_t registry_bytes(const struct registry *registry);

struct registry_counts {
    uint64_t lives, candidates, refusals, busy; /* loads by their end; busy: not begun */
    uint64_t rollbacks, promotions;
    uint64_t drops[CANDIDATE_DROPS]; /* of candidates */
    double failed_at;                /* seconds since 1970; 0: never */
    const char *failure;             /* the reason of the last refusal; "" */
    char failure_at[32];             /* RFC 3339 */
};
struct registry_counts registry_count(const struct registry *registry);

/* When no scoring thread runs any more and no load is under way. NULL is allowed. */
void registry_free(struct registry *registry);

#endif
