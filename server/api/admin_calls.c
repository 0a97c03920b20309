/* admin_calls.c: models, log level and drain, as an operator asks for them.
 *
 * A load takes seconds, so that the answer of a reload comes later. All other calls take effect before their answer.
 */
#include "server/api/admin_calls.h"

#include "model/dien.h"
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "server/api/model_slots.h"
#include "server/base/log.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CALL_MEMORY = 256 * 1024, ARENA_KEEP = 0 };

static const char by_admin[] = "admin";

/* ---- texts for people */

/* The command --admin asks for text; everybody else gets JSON. */
static bool wants_text(const struct exchange *exchange) {
    static const char text[] = "text/plain";
    const char *accept = http_header(exchange, "Accept");
    return accept != NULL && strncasecmp(accept, text, sizeof text - 1) == 0;
}

/* Fills in the answer with a text that was written, and frees it. */
static void answer_written(struct exchange *exchange, int status, bool written, char *text, size_t size) {
    if (written)
        http_text(exchange, status, "text/plain; charset=utf-8", text, size);
    else
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the answer.");
    free(text);
}

static void answer_table(struct exchange *exchange, const struct proto_slots *all) {
    enum { DIGITS_SHOWN = 16 };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) {
        answer_written(exchange, 200, false, NULL, 0);
        return;
    }
    fprintf(out, "%-10s %-16s %-16s %-16s %-16s %-20s %-8s %12s\n", "SLOT", "MODEL", "VERSION", "CONFIG", "WEIGHTS",
            "LOADED", "BY", "BYTES");
    for (size_t i = 0; i < all->count; i++) {
        const struct proto_slot *slot = &all->slots[i];
        fprintf(out, "%-10s %-16s %-16s %-16.*s %-16.*s %-20s %-8s %12zu\n", slot->slot, slot->name, slot->version,
                DIGITS_SHOWN, slot->config_sha256, DIGITS_SHOWN, slot->weights_sha256, slot->loaded_at, slot->loaded_by,
                slot->bytes);
    }
    for (size_t i = 0; i < all->count; i++)
        if (all->slots[i].has_shares)
            fprintf(out, "candidate: %g of users, and a shadow of %g of the others' requests\n", all->slots[i].canary,
                    all->slots[i].shadow);
    fprintf(out,
            "loads: %zu live, %zu candidate, %zu refused, %zu busy; rollbacks: %zu; promotions: %zu; drops: %zu%s\n",
            all->live, all->candidate, all->refused, all->busy, all->rollbacks, all->promotions, all->drops,
            all->loading ? "; a model is being loaded" : "");
    if (all->failure != NULL)
        fprintf(out, "last refusal, %s: %s\n", all->failed_at, all->failure);
    bool written = fclose(out) == 0;
    answer_written(exchange, 200, written, text, size);
}

/* ---- GET /models */

static size_t bytes_of(const struct served_model *served) {
    return dien_mapped_bytes(served->model) + dien_packed_bytes(served->model);
}

static void answer_models(struct api *api, struct exchange *exchange) {
    struct proto_slot slots[MODEL_SLOTS];
    struct registry_counts counts = registry_count(api->models);
    struct proto_slots all = {.slots = slots,
                              .loading = registry_is_loading(api->models),
                              .live = counts.lives,
                              .candidate = counts.candidates,
                              .refused = counts.refusals,
                              .busy = counts.busy,
                              .rollbacks = counts.rollbacks,
                              .promotions = counts.promotions,
                              .failed_at = counts.failure_at,
                              .failure = counts.failed_at > 0 ? counts.failure : NULL};
    for (size_t i = 0; i < CANDIDATE_DROPS; i++)
        all.drops += counts.drops[i];
    for (enum model_slot slot = SLOT_LIVE; slot < MODEL_SLOTS; slot++) {
        const struct served_model *served = registry_model(api->models, slot);
        if (served == NULL)
            continue;
        slots[all.count++] = (struct proto_slot){.slot = model_slot_names[slot],
                                                 .name = dien_name(served->model),
                                                 .version = dien_version(served->model),
                                                 .config_sha256 = served->config_sha256,
                                                 .weights_sha256 = served->weights_sha256,
                                                 .loaded_at = served->loaded_at,
                                                 .loaded_by = served->loaded_by,
                                                 .bytes = bytes_of(served),
                                                 .has_shares = slot == SLOT_CANDIDATE,
                                                 .canary = api->rollout.shares.canary,
                                                 .shadow = api->rollout.shares.shadow};
    }
    if (wants_text(exchange)) {
        answer_table(exchange, &all);
        return;
    }
    struct arena arena;
    arena_init(&arena, 0, ARENA_KEEP);
    struct proto_string text = json_encode_slots(&all, &arena);
    if (text.data != NULL)
        http_text(exchange, 200, "application/json", text.data, text.length);
    else
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the answer.");
    arena_free(&arena);
}

/* ---- calls that change something */

static void answer_member(struct exchange *exchange, int status, const char *name, const char *value) {
    struct arena arena;
    char line[64];
    if (wants_text(exchange)) {
        int length = snprintf(line, sizeof line, "%s: %s\n", name, value);
        http_text(exchange, status, "text/plain; charset=utf-8", line, (size_t)length);
        return;
    }
    arena_init(&arena, 0, ARENA_KEEP);
    struct proto_string text = json_encode_member(name, value, &arena);
    if (text.data != NULL)
        http_text(exchange, status, "application/json", text.data, text.length);
    else
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the answer.");
    arena_free(&arena);
}

/* The body's one member, or with NULL for its name none. False: the exchange is answered with a problem. */
static bool read_call(struct exchange *exchange, const char *name, struct arena *arena, struct proto_string *value) {
    struct problem problem;
    const char *body = exchange->body.bytes != NULL ? exchange->body.bytes : "";
    problem_clear(&problem);
    if (json_decode_call(body, exchange->body.size, name, arena, value, &problem))
        return true;
    http_refuse(exchange, &problem);
    return false;
}

/* A call without any member. */
static bool is_plain(struct exchange *exchange) {
    struct arena arena;
    struct proto_string nothing;
    arena_init(&arena, CALL_MEMORY, ARENA_KEEP);
    bool good = read_call(exchange, NULL, &arena, &nothing);
    arena_free(&arena);
    return good;
}

/* True when it is answered already. */
static bool reload(struct api *api, struct exchange *exchange) {
    if (api->state >= API_DRAINING) {
        http_problem(exchange, PROBLEM_DRAINING, "The server is stopping.");
        return true;
    }
    if (!api->operations.reload(api->operations.context)) {
        http_problem(exchange, PROBLEM_LOAD_UNDER_WAY, "Another model is being loaded; ask again when it is done.");
        return true;
    }
    api->waits_for_load = exchange;
    return false;
}

static void roll_back(struct api *api, struct exchange *exchange) {
    if (api->operations.roll_back(api->operations.context))
        answer_models(api, exchange);
    else
        http_problem(exchange, PROBLEM_NO_PREVIOUS_MODEL, "No model before the live one is in memory.");
}

/* True when it is answered already. */
static bool load_candidate(struct api *api, struct exchange *exchange, const struct proto_candidate *candidate) {
    const struct rollout_shares shares = {.canary = fmax(candidate->canary, 0), .shadow = fmax(candidate->shadow, 0)};
    char reason[256];
    switch (model_slots_load_candidate(api, candidate->directory.data, shares, by_admin, reason, sizeof reason)) {
    case CANDIDATE_LOADING:
        api->waits_for_load = exchange;
        return false;
    case CANDIDATE_BUSY:
        http_problem(exchange, PROBLEM_LOAD_UNDER_WAY, "%s", reason);
        break;
    case CANDIDATE_REFUSED:
        http_problem(exchange, PROBLEM_MODEL_REFUSED, "%s", reason);
        break;
    }
    return true;
}

/* Other shares, for the candidate that is there. One that the call does not name stays. */
static void share(struct api *api, struct exchange *exchange, const struct proto_candidate *candidate) {
    struct rollout_shares shares = api->rollout.shares;
    char reason[256];
    shares.canary = candidate->canary >= 0 ? candidate->canary : shares.canary;
    shares.shadow = candidate->shadow >= 0 ? candidate->shadow : shares.shadow;
    if (api->rollout.candidate == NULL)
        http_problem(exchange, PROBLEM_NO_CANDIDATE, "Name the directory of one.");
    else if (!model_slots_share(api, shares, reason, sizeof reason))
        http_problem(exchange, PROBLEM_MODEL_REFUSED, "%s", reason);
    else
        answer_models(api, exchange);
}

/* True when it is answered already. */
static bool set_candidate(struct api *api, struct exchange *exchange) {
    struct problem problem;
    struct proto_candidate candidate;
    struct arena arena;
    const char *body = exchange->body.bytes != NULL ? exchange->body.bytes : "";
    bool answered = true;
    arena_init(&arena, CALL_MEMORY, ARENA_KEEP);
    problem_clear(&problem);
    if (!json_decode_candidate(body, exchange->body.size, &arena, &candidate, &problem))
        http_refuse(exchange, &problem);
    else if (api->state >= API_DRAINING)
        http_problem(exchange, PROBLEM_DRAINING, "The server is stopping.");
    else if (candidate.directory.data != NULL)
        answered = load_candidate(api, exchange, &candidate);
    else
        share(api, exchange, &candidate);
    arena_free(&arena);
    return answered;
}

/* A promotion or a drop has been done, unless there was no candidate. */
static void answer_candidate_call(struct api *api, struct exchange *exchange, bool done) {
    if (done)
        answer_models(api, exchange);
    else
        http_problem(exchange, PROBLEM_NO_CANDIDATE, "No candidate is in memory.");
}

static void set_log_level(struct exchange *exchange) {
    struct arena arena;
    struct proto_string name;
    enum log_level level;
    arena_init(&arena, CALL_MEMORY, ARENA_KEEP);
    if (read_call(exchange, "level", &arena, &name)) {
        if (log_level_named(name.data, &level)) {
            log_line(LEVEL_WARNING, "log-level", LOG_STRING("to", name.data),
                     LOG_STRING("request_id", exchange->request_id));
            log_set_level(level);
            answer_member(exchange, 200, "level", log_level_name(level));
        } else {
            struct problem problem;
            problem_set(&problem, PROBLEM_INVALID_REQUEST, "/level",
                        "The level must be debug, info, warning or error.");
            http_refuse(exchange, &problem);
        }
    }
    arena_free(&arena);
}

bool admin_calls_handle(struct api *api, struct exchange *exchange) {
    if (exchange->route == ROUTE_MODELS) {
        answer_models(api, exchange);
        return true;
    }
    if (exchange->route == ROUTE_LOG_LEVEL) {
        set_log_level(exchange);
        return true;
    }
    if (exchange->route == ROUTE_CANDIDATE && strcmp(exchange->method, "POST") == 0)
        return set_candidate(api, exchange);
    if (!is_plain(exchange))
        return true;
    if (exchange->route == ROUTE_RELOAD)
        return reload(api, exchange);
    if (exchange->route == ROUTE_CANDIDATE && api->rollout.candidate == NULL && registry_is_loading(api->models))
        http_problem(exchange, PROBLEM_LOAD_UNDER_WAY, "A model is being loaded; ask again when it is done.");
    else if (exchange->route == ROUTE_CANDIDATE)
        answer_candidate_call(api, exchange, model_slots_drop(api));
    if (exchange->route == ROUTE_PROMOTE)
        answer_candidate_call(api, exchange, model_slots_promote(api));
    if (exchange->route == ROUTE_ROLLBACK)
        roll_back(api, exchange);
    if (exchange->route == ROUTE_DRAIN) {
        api->operations.drain(api->operations.context);
        answer_member(exchange, 202, "status", "draining");
    }
    return true;
}

void admin_calls_load_ended(struct api *api, const char *refusal) {
    struct exchange *exchange = api->waits_for_load;
    if (exchange == NULL)
        return;
    api->waits_for_load = NULL;
    if (refusal == NULL) {
        answer_models(api, exchange);
    } else if (*refusal == '\0') { /* the server ends, and the load with it */
        http_problem(exchange, PROBLEM_DRAINING, "The server is stopping.");
    } else {
        struct problem problem;
        problem_set(&problem, PROBLEM_MODEL_REFUSED, "", "%s", refusal);
        http_refuse(exchange, &problem);
    }
    http_answered(exchange);
}
