/* model_loader.c: open, digest, map, prefault, check against samples.json, in this order. */
#include "server/models/model_loader.h"

#include "server/base/clock.h"
#include "server/models/model_files.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The limits of clients' requests do not apply to samples, since they are the model's own. */
static bool prove(struct dien_model *model, const struct model_files *files, const struct load *load,
                  struct loaded *loaded) {
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
        good = samples_prove_text(&scorer, files->samples_text, (size_t)files->samples.status.st_size,
                                  loaded->tolerance, &loaded->samples);
        snprintf(loaded->message, sizeof loaded->message, "%s", loaded->samples.message);
    }
    scorer_free(&scorer);
    return good;
}

static bool is_cancelled(const struct load *load) {
    return load->cancelled != NULL && *load->cancelled;
}

/* Takes the model over, which is closed on error. */
static struct served_model *make_served(struct dien_model *model, const struct model_files *files,
                                        const struct load *load, struct loaded *loaded) {
    struct served_model *served = served_model_new(model, load->threads);
    if (served == NULL) {
        snprintf(loaded->message, sizeof loaded->message, "%s: no memory for %zu scoring threads", load->directory,
                 load->threads);
        return NULL;
    }
    memcpy(served->config_sha256, files->config_sha256, sizeof served->config_sha256);
    memcpy(served->weights_sha256, files->weights_sha256, sizeof served->weights_sha256);
    snprintf(served->tag, sizeof served->tag, "%.16s-%.16s", served->config_sha256, served->weights_sha256);
    return served;
}

static void note_files(const struct model_files *files, struct served_model *served) {
    const struct stat *all[] = {&files->config.status, &files->weights.status};
    for (size_t i = 0; i < 2; i++) {
        served->file_times[i] = all[i]->st_ctim;
        served->file_numbers[2 * i] = (uint64_t)all[i]->st_dev;
        served->file_numbers[2 * i + 1] = (uint64_t)all[i]->st_ino;
    }
}

/* Whether these very files were loaded as that model, and nobody has written to them since. */
static bool are_of(const struct model_files *files, const struct served_model *served) {
    struct served_model now;
    note_files(files, &now);
    for (size_t i = 0; i < 2; i++) {
        if (now.file_times[i].tv_sec != served->file_times[i].tv_sec ||
            now.file_times[i].tv_nsec != served->file_times[i].tv_nsec)
            return false;
    }
    return memcmp(now.file_numbers, served->file_numbers, sizeof now.file_numbers) == 0;
}

/* A model's packed weights are smaller than its file, except where the file is small. */
static bool fits(const struct model_files *files, const struct load *load, struct loaded *loaded) {
    size_t wanted = (size_t)files->weights.status.st_size;
    if (load->memory_limit == 0 ||
        (load->memory_held <= load->memory_limit && wanted <= load->memory_limit - load->memory_held))
        return true;
    snprintf(loaded->message, sizeof loaded->message,
             "%s: the model has %zu bytes, the models that stay in memory have %zu, and --model-memory-limit is %zu",
             load->directory, wanted, load->memory_held, load->memory_limit);
    return false;
}

static struct served_model *open_and_prove(struct model_files *files, const struct load *load, struct loaded *loaded) {
    struct dien_error error = {""};
    char *message = loaded->message;
    if (!model_files_open(files, load->root, load->directory, message, sizeof loaded->message))
        return NULL;
    loaded->is_previous = load->previous != NULL && are_of(files, load->previous);
    if (loaded->is_previous || !fits(files, load, loaded) ||
        !model_files_digest(files, load->cancelled, message, sizeof loaded->message))
        return NULL;
    const struct dien_source source = {.directory = load->directory,
                                       .config = files->config_text,
                                       .config_size = (size_t)files->config.status.st_size,
                                       .weights = files->weights.descriptor,
                                       .weights_size = (size_t)files->weights.status.st_size,
                                       .copy = load->copy};
    struct dien_model *model = is_cancelled(load) ? NULL : dien_open_source(&source, load->precision, &error);
    if (model == NULL) {
        snprintf(message, sizeof loaded->message, "%s", error.message);
        return NULL;
    }
    uint64_t start = clock_now();
    size_t prefaulted = dien_prefault(model, load->prefault);
    double seconds = clock_seconds(clock_now() - start);
    if (is_cancelled(load) || !prove(model, files, load, loaded) ||
        !model_files_unchanged(files, message, sizeof loaded->message)) {
        dien_close(model);
        return NULL;
    }
    struct served_model *served = make_served(model, files, load, loaded);
    if (served != NULL) {
        note_files(files, served);
        served->prefaulted_bytes = prefaulted;
        served->prefault_seconds = seconds;
    }
    return served;
}

void loader_load(const struct load *load, struct loaded *loaded) {
    struct model_files files;
    uint64_t start = clock_now();
    memset(loaded, 0, sizeof *loaded);
    loaded->served = open_and_prove(&files, load, loaded);
    model_files_close(&files);
    loaded->seconds = clock_seconds(clock_now() - start);
    if (loaded->served == NULL)
        return;
    time_t now = time(NULL);
    struct tm parts;
    gmtime_r(&now, &parts);
    strftime(loaded->served->loaded_at, sizeof loaded->served->loaded_at, "%Y-%m-%dT%H:%M:%SZ", &parts);
    loaded->served->load_seconds = loaded->seconds;
}
