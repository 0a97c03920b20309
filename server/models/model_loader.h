/* model_loader.h: opens a model directory, checks it, and makes it ready to be served.
 *
 * A model goes live only when its files are complete, did not change meanwhile, and it reproduces the training code's
 * scores of samples.json.
 */
#ifndef SERVER_MODELS_MODEL_LOADER_H
#define SERVER_MODELS_MODEL_LOADER_H

#include "server/scoring/request.h"
#include "server/scoring/rollout.h"
#include "server/scoring/sample_check.h"
#include "server/scoring/served_model.h"

#include <stdatomic.h>
#include <stdbool.h>

struct load {
    const char *root; /* that the directory must lie below; NULL: anywhere, and links are followed */
    const char *directory;
    enum dien_precision precision;
    double tolerance;    /* of the samples' scores; at least DIEN_REDUCED_TOLERANCE where the precision is reduced */
    size_t prefault;     /* bytes of the model's file to read into memory, at most */
    size_t threads;      /* that will score with it */
    bool copy;           /* the model's file is read into memory in place of being mapped */
    size_t memory_limit; /* bytes that all models may have in memory; 0: any */
    size_t memory_held;  /* bytes that those which stay have */
    struct served_model *previous; /* may be found again, unread, where its files are unchanged; NULL: none */
    const atomic_bool *cancelled;  /* true: the load ends soon, refused without a message; NULL: never */
};

struct loaded {
    struct served_model *served; /* open, checked, and the caller's; NULL: refused, or the previous one */
    bool is_previous;            /* the directory is that of load.previous, which needs no loading */
    uint64_t previous_version;   /* the registry's: that model's, which may have changed its slot meanwhile */
    bool is_candidate;           /* the registry's, as the next: it was loaded to be tried out */
    struct rollout_shares shares;
    char message[600]; /* the reason of a refusal */
    struct samples_report samples;
    double tolerance; /* that was applied */
    bool reduced;     /* the model scores in reduced precision */
    double seconds;
};

/* Open and check a model directory on the calling thread. */
void loader_load(const struct load *load, struct loaded *loaded);

#endif
