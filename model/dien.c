/* dien.c: the network as one story: open a model, then for a user and candidates: embed, extract (user.c), attend,
 * evolve, predict. Deep Interest Evolution Network for Click-Through Rate Prediction, Zhou et al., AAAI 2019.
 */
#include "model/dien.h"

#include "model/format/error.h"
#include "model/network/embed.h"
#include "model/network/stages.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- scoring
 * --------------------------------------------------------------------------------------------------------- */

/* The attention scores of a block, out of the lanes: explain [count, T]. */
static void keep_attention(const float *scores, size_t count, size_t length, float *explain) {
    for (size_t lane = 0; lane < count; lane++)
        for (size_t step = 0; step < length; step++)
            explain[lane * length + step] = scores[step * LANES + lane];
}

static bool attends(const struct interest *interest) {
    return interest->config->attention.kind != ATTENTION_NONE;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* A few blocks of candidates: number first .. first + count of the request. */
struct batch {
    const struct dien_request *request;
    size_t first, count, blocks;
};

/* How many candidates of a block there are. */
static size_t in_block(const struct batch *batch, size_t block) {
    return smaller(batch->count - block * LANES, LANES);
}

/* The rows of candidates first .. first + count, before they are embedded. */
static void fetch_candidates(const struct dien_model *model, const struct dien_request *request, size_t first,
                             size_t count) {
    const struct places *fields = &model->config.groups[DIEN_CANDIDATE];
    const struct dien_column *columns = request->candidates.column;
    for (size_t i = 0; i < fields->count; i++)
        embed_fetch(model, fields->at[i], &columns[i], first, count);
    if (model->config.bias_place != CONFIG_NONE)
        embed_fetch_bias(model, &columns[model->config.bias_place], first, count);
}

static void embed_candidates(const struct dien_model *model, struct dien_scratch *scratch, const struct batch *batch) {
    const struct places *fields = &model->config.groups[DIEN_CANDIDATE];
    const struct dien_column *columns = batch->request->candidates.column;
    for (size_t block = 0; block < batch->blocks; block++) {
        size_t first = batch->first + block * LANES, count = in_block(batch, block);
        embed_lanes(model, fields->count, fields->at, columns, first, count,
                    scratch->candidates + block * scratch->candidate_width * LANES);
        if (model->config.bias_place != CONFIG_NONE)
            embed_bias(model, &columns[model->config.bias_place], first, count, scratch->bias + block * LANES);
    }
}

/* The final state of one interest, [blocks, G, LANES]. */
static void score_interest(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                           const struct batch *batch, size_t i, float *explain, float *final) {
    const struct interest *interest = &model->interests[i];
    const struct user_interest *placed = &user->interests[i];
    if (placed->length == 0) {
        memset(final, 0, batch->blocks * interest->evolution.units * LANES * sizeof *final);
        return;
    }
    for (size_t block = 0; block < batch->blocks && attends(interest); block++) {
        float *scores = scratch->scores[block];
        take_target(model, scratch, interest, block, scratch->target);
        attend(model, scratch, interest, user, placed, in_block(batch, block), scores);
        if (explain != NULL)
            keep_attention(scores, in_block(batch, block), placed->length,
                           explain + (batch->first + block * LANES) * placed->length);
    }
    evolve(model, scratch, interest, user, placed, batch->count, final);
}

static void score_batch(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                        const struct batch *batch, float *scores, float *const *explain) {
    embed_candidates(model, scratch, batch);
    float *final = scratch->finals;
    for (size_t i = 0; i < user->interest_count; i++) {
        score_interest(model, scratch, user, batch, i, explain != NULL ? explain[i] : NULL, final);
        final += BLOCKS * model->interests[i].evolution.units * LANES;
    }
    float lanes[BLOCKS * LANES];
    predict(model, scratch, user, batch->count, lanes);
    memcpy(scores + batch->first, lanes, batch->count * sizeof *scores);
}

_Static_assert(DIEN_BATCH % (BLOCKS * LANES) == 0, "a range that starts at a batch starts at a block");

void dien_score_range(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                      const struct dien_request *request, size_t first, size_t count, float *scores,
                      float *const *attention) {
    const size_t most = (size_t)BLOCKS * LANES;
    fetch_candidates(model, request, first, smaller(count, most));
    predict_shared(model, scratch, user, request);
    for (size_t end = first + count; first < end; first += most) {
        size_t some = smaller(end - first, most), next = first + some;
        struct batch batch = {request, first, some, (some + LANES - 1) / LANES};
        fetch_candidates(model, request, next, smaller(end - next, most));
        score_batch(model, scratch, user, &batch, scores, attention);
    }
}

void dien_score(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                const struct dien_request *request, float *scores, float *const *attention) {
    dien_score_range(model, scratch, user, request, 0, request->candidate_count, scores, attention);
}

/* ---- ids to rows
 * ----------------------------------------------------------------------------------------------------- */

/* The row of entry or index i of a field; the unknown row when it has none. */
static int32_t row_of(const struct dien_model *model, const struct field_config *field, int64_t i, bool *known) {
    int64_t rows = (int64_t)model->config.tables[field->table].rows;
    *known = i >= 0 && i < rows - field->first_row;
    return *known ? (int32_t)(field->first_row + i) : field->unknown_row;
}

int32_t dien_row_of_integer(const struct dien_model *model, const struct dien_field *field, int64_t id, bool *known) {
    const struct field_config *config = &model->config.fields[field->index];
    if (config->vocabulary != CONFIG_NONE)
        id = vocabulary_find_integer(&model->vocabularies[config->vocabulary], id);
    return row_of(model, config, id, known);
}

int32_t dien_row_of_string(const struct dien_model *model, const struct dien_field *field, const char *id,
                           size_t length, bool *known) {
    const struct field_config *config = &model->config.fields[field->index];
    return row_of(model, config, vocabulary_find_string(&model->vocabularies[config->vocabulary], id, length), known);
}

int32_t dien_attribute_row(const struct dien_model *model, const struct dien_field *field, int32_t parent_row) {
    return model->attributes[field->index].rows[parent_row];
}

const float *dien_attribute_values(const struct dien_model *model, const struct dien_field *field, int32_t parent_row) {
    return model->attributes[field->index].values + (size_t)parent_row * field->width;
}

/* ---- opening
 * --------------------------------------------------------------------------------------------------------- */

static enum dien_field_kind public_kind(const struct config *config, const struct field_config *field) {
    if (field->dense)
        return DIEN_DENSE;
    if (field->vocabulary == CONFIG_NONE)
        return DIEN_INDEX;
    return config->vocabularies[field->vocabulary].strings ? DIEN_STRING_VOCABULARY : DIEN_INTEGER_VOCABULARY;
}

/* Describe the fields and interests as dien.h shows them. */
static bool describe(struct dien_model *model, struct dien_error *error) {
    const struct config *config = &model->config;
    model->fields = pool_array(&model->pool, config->field_count, sizeof *model->fields);
    model->public_interests = pool_array(&model->pool, config->interest_count, sizeof *model->public_interests);
    if (model->fields == NULL || model->public_interests == NULL)
        return dien_fail(error, "out of memory");
    for (size_t i = 0; i < config->field_count; i++) {
        const struct field_config *field = &config->fields[i];
        model->fields[i] =
            (struct dien_field){.name = field->name,
                                .kind = public_kind(config, field),
                                .width = (uint32_t)(field->dense ? field->width : config->tables[field->table].width),
                                .rows = field->dense ? 0 : (int32_t)config->tables[field->table].rows,
                                .parent = field->parent != CONFIG_NONE ? &model->fields[field->parent] : NULL,
                                .index = i};
    }
    for (int group = 0; group < DIEN_GROUPS; group++) {
        const struct places *members = &config->groups[group];
        model->group_fields[group] = pool_array(&model->pool, members->count, sizeof(const void *));
        if (model->group_fields[group] == NULL)
            return dien_fail(error, "out of memory");
        for (size_t i = 0; i < members->count; i++)
            model->group_fields[group][i] = &model->fields[members->at[i]];
    }
    for (size_t i = 0; i < config->interest_count; i++) {
        const struct interest_config *interest = &config->interests[i];
        model->public_interests[i] = (struct dien_interest){.name = interest->name,
                                                            .max_length = interest->max_length,
                                                            .history = interest->history.at,
                                                            .history_count = interest->history.count,
                                                            .attends = attends(&model->interests[i])};
    }
    return true;
}

static bool join_path(char *path, size_t size, const char *directory, const char *file, struct dien_error *error) {
    int length = snprintf(path, size, "%s/%s", directory, file);
    if (length < 0 || (size_t)length >= size)
        return dien_fail(error, "%.100s...: the path is too long", directory);
    return true;
}

/* DIEN_ISA names no kernels: say which there are. */
static bool no_such_kernels(struct dien_error *error) {
    char names[128] = "";
    const struct kernels *kernels;
    for (size_t i = 0; (kernels = kernels_available(i)) != NULL; i++) {
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s", i > 0 ? ", " : "", kernels->name);
    }
    return dien_fail(error, "DIEN_ISA=%s: must be one of %s", getenv("DIEN_ISA"), names);
}

/* Kernels and stages in reduced precision, if wanted, where the model has any use of them. */
static void reduce(struct dien_model *model, enum dien_precision precision) {
    bool evolves = false;
    if (precision == DIEN_FLOAT32)
        return;
    for (size_t i = 0; i < model->config.interest_count; i++) {
        const struct interest_config *interest = &model->config.interests[i];
        evolves |= interest->attention.kind == ATTENTION_MLP;
        evolves |= !config_evolves_alone(interest) && config_keeps_within_one(interest);
    }
    model->reduced.products = evolves && kernels_reduce(model->kernels, &model->reduced_kernels);
    if (model->reduced.products)
        model->kernels = &model->reduced_kernels;
}

static bool open_directory(struct dien_model *model, const char *directory, enum dien_precision precision,
                           struct dien_error *error) {
    char path[PATH_MAX];
    model->kernels = kernels_choose();
    if (model->kernels == NULL)
        return no_such_kernels(error);
    if (!join_path(path, sizeof path, directory, "config.json", error) ||
        !config_read(&model->config, path, &model->pool, error))
        return false;
    reduce(model, precision);
    return join_path(path, sizeof path, directory, "model.safetensors", error) &&
           safetensors_open(&model->file, path, error) && weights_bind(model, error) && describe(model, error);
}

struct dien_model *dien_open(const char *directory, struct dien_error *error) {
    return dien_open_as(directory, DIEN_FLOAT32, error);
}

struct dien_model *dien_open_as(const char *directory, enum dien_precision precision, struct dien_error *error) {
    struct dien_model *model = calloc(1, sizeof *model);
    if (model == NULL) {
        dien_fail(error, "out of memory");
        return NULL;
    }
    if (open_directory(model, directory, precision, error))
        return model;
    dien_close(model);
    return NULL;
}

void dien_close(struct dien_model *model) {
    if (model == NULL)
        return;
    safetensors_close(&model->file);
    pool_free(&model->pool);
    free(model);
}

/* ---- what a model says of itself
 * --------------------------------------------------------------------------------------- */

const char *dien_name(const struct dien_model *model) {
    return model->config.name;
}

const char *dien_version(const struct dien_model *model) {
    return model->config.version;
}

size_t dien_mapped_bytes(const struct dien_model *model) {
    return model->file.size;
}

size_t dien_packed_bytes(const struct dien_model *model) {
    return model->pool.bytes;
}

size_t dien_fields(const struct dien_model *model, enum dien_group group, const struct dien_field *const **fields) {
    *fields = model->group_fields[group];
    return model->config.groups[group].count;
}

size_t dien_field_count(const struct dien_model *model) {
    return model->config.field_count;
}

size_t dien_interests(const struct dien_model *model, const struct dien_interest **interests) {
    *interests = model->public_interests;
    return model->config.interest_count;
}

struct dien_reduction dien_reduced(const struct dien_model *model) {
    return model->reduced;
}

const char *dien_precision_name(const struct dien_model *model) {
    static const char *const names[] = {"float32", "int16 products", "int16 and int8 products"};
    return names[model->reduced.products + model->reduced.int8];
}

const char *dien_kernels_name(struct dien_error *error) {
    const struct kernels *kernels = kernels_choose();
    if (kernels != NULL)
        return kernels->name;
    no_such_kernels(error);
    return NULL;
}
