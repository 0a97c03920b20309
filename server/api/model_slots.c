/* model_slots.c: the registry's slots, told to the worker pool, the user cache, the counters and the pages. */
#include "server/api/model_slots.h"

#include "server/base/file.h"
#include "server/base/log.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

enum { KEY_BYTES_MAX = 4096 };

size_t model_slots_key_text(const struct api *api, char *text, size_t size) {
    const char *path = api->options->hash_key_file;
    size_t length = path != NULL ? file_read(path, text, size) : 0;
    while (length > 0 && strchr("\r\n", text[length - 1]) != NULL)
        length--;
    return length;
}

bool model_slots_read_key(struct api *api, char *error, size_t error_size) {
    const char *path = api->options->hash_key_file;
    char text[KEY_BYTES_MAX + 1];
    if (path == NULL)
        return true;
    size_t length = model_slots_key_text(api, text, sizeof text);
    api->has_hash_key = length > 0;
    api->rollout.key = rollout_key(text, length);
    memset(text, 0, sizeof text);
    if (length == 0)
        snprintf(error, error_size, "--hash-key-file: %s cannot be read, or is empty", path);
    return length > 0;
}

/* ---- the live model */

void model_slots_serve(struct api *api) {
    struct served_model *live = registry_model(api->models, SLOT_LIVE);
    struct served_model *candidate = registry_model(api->models, SLOT_CANDIDATE);
    scoring_counts_model(&api->metrics.scoring, live->model);
    if (candidate != NULL)
        scoring_counts_model(&api->metrics.scoring, candidate->model);
    if (api->cache != NULL)
        user_cache_serve(api->cache, live->version, candidate != NULL ? candidate->version : 0);
    api->rollout.candidate = candidate;
    if (candidate != NULL) /* the last round stays to be read when its candidate is gone */
        api->rollout.round = comparison_begin(&api->comparison);
    worker_pool_serve(api->workers, live, &api->rollout);
    (void)!api_describe_model(api);
}

static void log_model(const char *event, const struct served_model *served) {
    log_line(LEVEL_INFO, event, LOG_STRING("model", dien_name(served->model)),
             LOG_STRING("version", dien_version(served->model)), LOG_STRING("config_sha256", served->config_sha256),
             LOG_STRING("weights_sha256", served->weights_sha256));
}

/* ---- the candidate */

static bool shares_are_allowed(const struct api *api, struct rollout_shares shares, char *reason, size_t reason_size) {
    bool allowed = shares.canary == 0 || api->has_hash_key;
    if (!allowed)
        snprintf(reason, reason_size,
                 "A share of users needs --hash-key-file, so that each replica finds the same users in it.");
    return allowed;
}

enum candidate_load model_slots_load_candidate(struct api *api, const char *directory, struct rollout_shares shares,
                                               const char *by, char *reason, size_t reason_size) {
    if (api->options->model_root == NULL) {
        snprintf(reason, reason_size, "Candidates are loaded from below --model-root, which is not set.");
        return CANDIDATE_REFUSED;
    }
    if (api->workers == NULL || api->state >= API_DRAINING) {
        snprintf(reason, reason_size, "The server is %s.", api->workers == NULL ? "loading its model" : "draining");
        return CANDIDATE_REFUSED;
    }
    if (strlen(directory) >= PATH_MAX) { /* cut, it would name another directory */
        snprintf(reason, reason_size, "The directory's name has %zu bytes; paths have fewer than %d.",
                 strlen(directory), PATH_MAX);
        return CANDIDATE_REFUSED;
    }
    if (!shares_are_allowed(api, shares, reason, reason_size))
        return CANDIDATE_REFUSED;
    if (!registry_load_candidate(api->models, directory, by, shares)) {
        snprintf(reason, reason_size, "Another model is being loaded; ask again when it is done.");
        return CANDIDATE_BUSY;
    }
    log_line(LEVEL_INFO, "candidate", LOG_STRING("model", directory), LOG_STRING("loaded_by", by),
             LOG_NUMBER("canary", shares.canary), LOG_NUMBER("shadow", shares.shadow));
    return CANDIDATE_LOADING;
}

void model_slots_set_candidate(struct api *api, struct served_model *served, struct rollout_shares shares) {
    registry_set_candidate(api->models, served);
    api->rollout.shares = shares;
    model_slots_serve(api);
    log_model("candidate-ready", served);
}

bool model_slots_share(struct api *api, struct rollout_shares shares, char *reason, size_t reason_size) {
    if (api->rollout.candidate == NULL) {
        snprintf(reason, reason_size, "There is no candidate.");
        return false;
    }
    if (!shares_are_allowed(api, shares, reason, reason_size))
        return false;
    api->rollout.shares = shares;
    worker_pool_serve(api->workers, registry_model(api->models, SLOT_LIVE), &api->rollout);
    log_line(LEVEL_INFO, "candidate-shares", LOG_NUMBER("canary", shares.canary), LOG_NUMBER("shadow", shares.shadow));
    return true;
}

bool model_slots_promote(struct api *api) {
    if (!registry_promote(api->models))
        return false;
    model_slots_serve(api);
    log_model("model-promoted", registry_model(api->models, SLOT_LIVE));
    return true;
}

static bool drop(struct api *api, enum candidate_drop reason, enum log_level level, const char *text) {
    struct served_model *candidate = registry_model(api->models, SLOT_CANDIDATE);
    if (candidate == NULL)
        return false;
    log_line(level, "candidate-dropped", LOG_STRING("reason", candidate_drop_names[reason]),
             LOG_STRING("version", dien_version(candidate->model)), LOG_STRING("message", text));
    registry_drop(api->models, reason);
    model_slots_serve(api);
    return true;
}

bool model_slots_drop(struct api *api) {
    return drop(api, DROP_ASKED, LEVEL_INFO, "The operator asked for it.");
}

void model_slots_guard(struct api *api) {
    const struct options *options = api->options;
    const struct candidate_guard guard = {.on = options->candidate_guard,
                                          .p99_factor = options->candidate_p99_factor,
                                          .difference = options->candidate_difference,
                                          .after_requests = options->candidate_guard_after};
    struct comparison_counts counts;
    enum candidate_drop reason;
    char text[256];
    if (api->rollout.candidate == NULL)
        return;
    comparison_read(&api->comparison, &counts);
    if (comparison_condemns(&counts, &guard, &reason, text, sizeof text))
        drop(api, reason, LEVEL_WARNING, text);
}
