/* model_loader.h: opens a model on a thread of its own, so that the server answers liveness checks meanwhile.
 *
 * A model goes live only when its files are complete and it reproduces the training code's scores of samples.json.
 */
#ifndef SERVER_MODELS_MODEL_LOADER_H
#define SERVER_MODELS_MODEL_LOADER_H

#include "server/scoring/request.h"
#include "server/scoring/sample_check.h"

#include <stdbool.h>

struct loader;

struct load {
    const char *directory;
    enum dien_precision precision;
    double tolerance; /* of the samples' scores; at least DIEN_REDUCED_TOLERANCE where the precision is reduced */
    size_t prefault;  /* bytes of the model's file to read into memory, at most */
};

struct loaded {
    struct dien_model *model; /* open, checked, and now the caller's; NULL: refused */
    char message[600];        /* the reason of a refusal */
    struct samples_report samples;
    double tolerance; /* that was applied */
    bool reduced;     /* the model scores in reduced precision */
    double seconds;
    size_t prefaulted_bytes;
    double prefault_seconds; /* of `seconds` */
};

/* Open and check a model directory on the calling thread. */
void loader_load(const struct load *load, struct loaded *loaded);

/* Start loader_load() on a new thread, which calls wake(context) at its end. load->directory must outlive the loader.
 * NULL when there is no thread to be had. */
struct loader *loader_start(const struct load *load, void (*wake)(void *context), void *context);
/* False while the model still loads; otherwise fills in *loaded and frees the loader. */
bool loader_take(struct loader *loader, struct loaded *loaded);

#endif
