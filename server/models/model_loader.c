/* model_loader.c: open, check against samples.json, hand over. */
#include "server/models/model_loader.h"

#include "server/base/clock.h"
#include "server/base/thread.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loader {
    pthread_t thread;
    struct load load;
    void (*wake)(void *context);
    void *context;
    struct loaded loaded;
    atomic_bool finished; /* `loaded` is complete */
};

/* The limits of clients' requests do not apply to samples, since they are the model's own. */
static bool prove(struct dien_model *model, const struct load *load, struct loaded *loaded) {
    const struct request_limits unlimited = {.max_candidates = SIZE_MAX, .max_history = SIZE_MAX, .memory = 0};
    struct dien_reduction reduced = dien_reduced(model);
    loaded->tolerance = load->tolerance;
    loaded->reduced = reduced.products;
    if (loaded->reduced)
        loaded->tolerance = fmax(load->tolerance, DIEN_REDUCED_TOLERANCE);
    struct scorer scorer;
    bool good = scorer_init(&scorer, model, &unlimited);
    if (!good) {
        snprintf(loaded->message, sizeof loaded->message, "%s: no memory to score with", load->directory);
    } else {
        good = samples_prove(&scorer, load->directory, loaded->tolerance, &loaded->samples);
        snprintf(loaded->message, sizeof loaded->message, "%s", loaded->samples.message);
    }
    scorer_free(&scorer);
    return good;
}

static void prefault(const struct dien_model *model, size_t most, struct loaded *loaded) {
    uint64_t start = clock_now();
    loaded->prefaulted_bytes = dien_prefault(model, most);
    loaded->prefault_seconds = clock_seconds(clock_now() - start);
}

void loader_load(const struct load *load, struct loaded *loaded) {
    struct dien_error error = {""};
    uint64_t start = clock_now();
    memset(loaded, 0, sizeof *loaded);
    struct dien_model *model = dien_open_as(load->directory, load->precision, &error);
    if (model != NULL)
        prefault(model, load->prefault, loaded);
    if (model == NULL) {
        snprintf(loaded->message, sizeof loaded->message, "%s", error.message);
    } else if (prove(model, load, loaded)) {
        loaded->model = model;
    } else {
        dien_close(model);
    }
    loaded->seconds = clock_seconds(clock_now() - start);
}

static void *run(void *argument) {
    struct loader *loader = argument;
    void (*wake)(void *) = loader->wake;
    void *context = loader->context;
    loader_load(&loader->load, &loader->loaded);
    loader->finished = true; /* loader_take() may free the loader from here on */
    wake(context);
    return NULL;
}

struct loader *loader_start(const struct load *load, void (*wake)(void *context), void *context) {
    struct loader *loader = calloc(1, sizeof *loader);
    if (loader == NULL)
        return NULL;
    loader->load = *load;
    loader->wake = wake;
    loader->context = context;
    if (!thread_start(&loader->thread, "load-model", run, loader)) {
        free(loader);
        return NULL;
    }
    return loader;
}

bool loader_take(struct loader *loader, struct loaded *loaded) {
    if (!loader->finished)
        return false;
    pthread_join(loader->thread, NULL);
    *loaded = loader->loaded;
    free(loader);
    return true;
}
