/* model_loader.h: opening a model on a thread of its own, so that liveness answers while a large one loads. */
#ifndef SERVER_MODELS_MODEL_LOADER_H
#define SERVER_MODELS_MODEL_LOADER_H

#include "server/scoring/request.h"
#include "server/scoring/sample_check.h"

#include <stdbool.h>

struct loader;

/* What to load. Samples of a model whose arithmetic is reduced may be off by DIEN_REDUCED_TOLERANCE, if that is more.
 */
struct load {
    const char *directory;
    enum dien_precision precision;
    double tolerance;
};

struct loaded {
    struct dien_model *model; /* opened and proved, now the caller's; NULL: refused */
    char message[600];        /* why it was refused */
    struct samples_report samples;
    double tolerance; /* of the samples */
    bool reduced;     /* the precision is */
    double seconds;
};

/* Open the model directory and prove its samples, on the calling thread. */
void loader_load(const struct load *load, struct loaded *loaded);

/* The same on a new thread, which calls wake(context) at its end. The directory's name outlives the loader. NULL when
 * there is no thread to be had. */
struct loader *loader_start(const struct load *load, void (*wake)(void *context), void *context);
/* False while it still loads. Else *loaded is filled in and the loader is gone. */
bool loader_take(struct loader *loader, struct loaded *loaded);

#endif
