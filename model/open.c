/* open.c: open a model directory: choose kernels, read the config, map the tensors, bind and pack them. */
#include "model/dien.h"
#include "model/error.h"
#include "model/fields.h"
#include "model/format/file.h"
#include "model/format/pack.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Static_assert((int)DIEN_CONFIG_BYTES_MAX == (int)CONFIG_BYTES_MAX, "one limit of a config");

/* The kernels of DIEN_ISA, or the best. NULL on error: *error lists the names that DIEN_ISA may have. */
static const struct kernels *choose_kernels(struct dien_error *error) {
    char names[128] = "";
    const struct kernels *chosen = kernels_choose(), *kernels;
    if (chosen != NULL)
        return chosen;
    for (size_t i = 0; (kernels = kernels_available(i)) != NULL; i++) {
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s", i > 0 ? ", " : "", kernels->name);
    }
    dien_fail(error, "DIEN_ISA=%s: must be one of %s", getenv("DIEN_ISA"), names);
    return NULL;
}

static bool join_path(char *path, size_t size, const char *directory, const char *file, struct dien_error *error) {
    int length = snprintf(path, size, "%s/%s", directory, file);
    return (length >= 0 && (size_t)length < size) || dien_fail(error, "%.100s...: the path is too long", directory);
}

static bool open_source(struct dien_model *model, const struct dien_source *source, enum dien_precision precision,
                        struct dien_error *error) {
    char path[PATH_MAX];
    model->kernels = choose_kernels(error);
    if (model->kernels == NULL ||
        !config_parse(&model->config, source->config, source->config_size, &model->pool, error))
        return false;

    /* Integer products serve an attention network, and an evolution whose states stay within 1. */
    bool gains = false;
    for (size_t i = 0; i < model->config.interest_count; i++) {
        const struct interest_config *interest = &model->config.interests[i];
        gains |= interest->attention.kind == ATTENTION_MLP ||
                 (!config_evolves_alone(interest) && config_keeps_within_one(interest));
    }
    if (precision == DIEN_REDUCED && gains && kernels_reduce(model->kernels, &model->reduced_kernels)) {
        model->reduced.products = true;
        model->kernels = &model->reduced_kernels;
    }

    if (!join_path(path, sizeof path, source->directory, "model.safetensors", error) ||
        !safetensors_take(&model->file, source->weights, source->weights_size, source->copy, path, error) ||
        !model_bind(model, error))
        return false;
    return (model_pack(model) && model_describe(model)) || dien_out_of_memory(error);
}

struct dien_model *dien_open(const char *directory, struct dien_error *error) {
    return dien_open_as(directory, DIEN_FLOAT32, error);
}

struct dien_model *dien_open_source(const struct dien_source *source, enum dien_precision precision,
                                    struct dien_error *error) {
    struct dien_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        dien_out_of_memory(error);
        return NULL;
    }
    if (open_source(model, source, precision, error))
        return model;
    dien_close(model);
    return NULL;
}

struct dien_model *dien_open_as(const char *directory, enum dien_precision precision, struct dien_error *error) {
    char path[PATH_MAX];
    struct dien_source source = {.directory = directory, .weights = -1};
    struct dien_model *model = NULL;
    char *config = NULL;
    if (join_path(path, sizeof path, directory, "config.json", error))
        source.config = config = file_read_whole(path, CONFIG_BYTES_MAX, &source.config_size, error);
    if (config != NULL && join_path(path, sizeof path, directory, "model.safetensors", error))
        source.weights = file_open(path, &source.weights_size, error);
    if (source.weights >= 0) {
        model = dien_open_source(&source, precision, error);
        close(source.weights);
    }
    free(config);
    return model;
}

void dien_close(struct dien_model *model) {
    if (model == NULL)
        return;
    safetensors_close(&model->file);
    pool_free(&model->pool);
    free(model);
}

const char *dien_kernels_name(struct dien_error *error) {
    const struct kernels *kernels = choose_kernels(error);
    return kernels != NULL ? kernels->name : NULL;
}
