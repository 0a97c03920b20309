/* api.c: the answer of each route. Everything here runs on the event loop's thread.
 *
 * Health, the model, a user and the metrics are answered at once. Requests that score or update a history become jobs
 * of the worker pool, and api_give_answers() hands their replies over later.
 */
#include "server/api/api.h"

#include "model/dien.h"
#include "proto/content_coding.h"
#include "proto/json_encode.h"
#include "server/api/access_log.h"
#include "server/api/admin_access.h"
#include "server/api/admin_calls.h"
#include "server/api/history_calls.h"
#include "server/api/model_page.h"
#include "server/api/openapi_page.h"
#include "server/api/request_headers.h"
#include "server/api/request_log.h"
#include "server/api/user_page.h"
#include "server/base/clock.h"
#include "server/base/cpu_quota.h"
#include "server/base/log.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char json_type[] = "application/json";
/* LIVE_SECONDS: ticks that do not come for so long mean that the loop serves one thing and nothing else. */
enum { LIVE_SECONDS = 2, ARENA_KEEP = 65536 };

_Static_assert((int)ROUTES_USER_ID_MAX <= (int)USER_ID_MAX, "the cache can hold every id that a path may have");

/* http keeps room for it with each exchange. */
static struct job *job_of(struct exchange *exchange) {
    return (struct job *)exchange->work;
}

struct served_model *api_live(const struct api *api) {
    return api->models != NULL ? registry_model(api->models, SLOT_LIVE) : NULL;
}

static void answer_health(struct api *api, struct exchange *exchange, bool good) {
    static const char *const statuses[] = {
        [API_LOADING] = "loading", [API_READY] = "ready", [API_DRAINING] = "draining", [API_CLOSING] = "draining"};
    struct arena arena;
    arena_init(&arena, 0, 0);
    const struct served_model *live = api_live(api);
    const struct proto_health health = {
        .status = statuses[api->state],
        .model = live != NULL ? dien_name(live->model) : NULL,
        .version = live != NULL ? dien_version(live->model) : NULL,
        .uptime_seconds = clock_seconds(clock_now() - api->started),
    };
    struct proto_string text = json_encode_health(&health, &arena);
    http_text(exchange, good ? 200 : 503, json_type, text.data != NULL ? text.data : "", text.length);
    arena_free(&arena);
}

static void answer_model(struct api *api, struct exchange *exchange) {
    if (api->description == NULL) { /* there is a live model where there is a description */
        http_problem(exchange, PROBLEM_NOT_READY, "The model is still loading.");
        return;
    }
    exchange->answer.model_tag = api_live(api)->tag;
    http_text(exchange, 200, json_type, api->description, api->description_size);
}

/* GET, HEAD. A state is looked up under its shard's lock, for as long as it takes to copy it. */
void api_answer_user(struct api *api, struct exchange *exchange, struct proto_string record) {
    struct arena arena;
    struct proto_string text = {NULL, 0};
    struct user_key key = {exchange->user_id, exchange->user_id_length};
    struct served_model *served = api_live(api);
    if (served == NULL) {
        http_problem(exchange, PROBLEM_NOT_READY, "The model is still loading.");
        return;
    }
    served = rollout_choose(&api->rollout, served, key.id, key.length);
    arena_init(&arena, 0, 0);
    switch (user_page_describe(api->cache, served->model, served->version, key, record, &arena, &text)) {
    case USER_PAGE_DESCRIBED:
        /* The answer may be sent later, when the model is gone. */
        memcpy(job_of(exchange)->model_tag, served->tag, sizeof served->tag);
        exchange->answer.model_tag = job_of(exchange)->model_tag;
        http_text(exchange, 200, json_type, text.data, text.length);
        break;
    case USER_PAGE_ABSENT:
        http_problem(exchange, PROBLEM_NO_USER_STATE, "This server holds nothing of this user.");
        break;
    case USER_PAGE_UNREADABLE:
        http_problem(exchange, PROBLEM_HISTORIES_UNAVAILABLE,
                     "The user's history in the store cannot be read: another encoding, or damaged.");
        break;
    case USER_PAGE_NO_MEMORY:
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the answer.");
        break;
    }
    arena_free(&arena);
}

/* 204 for an unknown user, too: nothing is held now. The line is an audit trail, so --access-log does not rule it. It
 * has no id: whoever must know the user finds the request's id in the caller's records. */
static void delete_user(struct api *api, struct exchange *exchange) {
    struct user_key key = {exchange->user_id, exchange->user_id_length};
    bool held = api->cache != NULL && user_cache_delete(api->cache, key);
    log_line(LEVEL_INFO, "user-deleted", LOG_STRING("request_id", exchange->request_id), LOG_NUMBER("states", held));
    exchange->answer = (struct answer){.status = 204, .memory = ANSWER_BORROWED};
}

static struct metric_gauges read_gauges(struct api *api) {
    const struct served_model *live = api_live(api);
    const struct dien_model *model = live != NULL ? live->model : NULL;
    struct worker_pool *workers = api->workers;
    struct user_cache_counts cache = {0};
    static const char *kernels; /* asked for once: in a virtual machine the CPUID instruction is slow */
    if (kernels == NULL)
        kernels = dien_kernels_name(&(struct dien_error){""});
    if (api->cache != NULL)
        user_cache_count(api->cache, &cache);
    struct comparison_counts comparison;
    comparison_read(&api->comparison, &comparison);
    return (struct metric_gauges){
        .comparison = comparison,
        .candidate = api->rollout.candidate,
        .canary_share = api->rollout.candidate != NULL ? api->rollout.shares.canary : 0,
        .shadow_share = api->rollout.candidate != NULL ? api->rollout.shares.shadow : 0,
        .ready = api->state == API_READY,
        .draining = api->state > API_READY,
        .uptime_seconds = clock_seconds(clock_now() - api->started),
        .threads = workers != NULL ? api->threads : 0,
        .threads_busy = workers != NULL ? worker_pool_busy(workers) : 0,
        .queue_depth = workers != NULL ? worker_pool_waiting(workers) : 0,
        .queue_seconds = workers != NULL ? worker_pool_wait_seconds(workers) : 0,
        .queue_oldest_seconds = workers != NULL ? worker_pool_oldest_seconds(workers) : 0,
        .requests_in_flight = api->http != NULL ? http_in_flight(api->http) : 0,
        .connections = api->http != NULL ? http_connections(api->http) : 0,
        .connections_lingering = api->http != NULL ? http_lingering(api->http) : 0,
        .buffered_bytes = api->http != NULL ? http_buffered(api->http) : 0,
        .reply_buffered_bytes = api->http != NULL ? http_reply_buffered(api->http) : 0,
        .admin_connections = api->admin != NULL ? http_connections(api->admin) : 0,
        .admin_buffered_bytes = api->admin != NULL ? http_buffered(api->admin) : 0,
        .live = live,
        .previous = api->models != NULL ? registry_model(api->models, SLOT_PREVIOUS) : NULL,
        .models = api->models != NULL ? registry_count(api->models) : (struct registry_counts){.failure = ""},
        .model_loading = api->models != NULL && registry_is_loading(api->models),
        .model_mapped_bytes = model != NULL ? dien_mapped_bytes(model) : 0,
        .model_packed_bytes = model != NULL ? dien_packed_bytes(model) : 0,
        .model_prefaulted_bytes = live != NULL ? live->prefaulted_bytes : 0,
        .model_prefault_seconds = live != NULL ? live->prefault_seconds : 0,
        .model_load_seconds = live != NULL ? live->load_seconds : 0,
        .kernels = kernels,
        .blas_core = dien_blas_core(),
        .loop_stalls = watchdog_stalls(api->watchdog),
        .cpu_quota = cpu_quota_read(""),
        .cache = cache,
        .log = log_count(),
    };
}

static void answer_metrics(struct api *api, struct exchange *exchange) {
    const struct metric_gauges gauges = read_gauges(api);
    size_t size = 0;
    char *text = metrics_page_text(&api->metrics, &gauges, api->options, &size);
    if (text == NULL) {
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the metrics.");
        return;
    }
    exchange->answer =
        (struct answer){.status = 200, .type = METRICS_PAGE_TYPE, .body = text, .size = size, .memory = ANSWER_OWNED};
}

/* To come back when what waits now has been taken. */
static void refuse(struct api *api, struct exchange *exchange) {
    const struct job *job = job_of(exchange);
    if (job->refusal == JOB_CLIENT_GONE)
        return;                         /* without an answer */
    if (job->refusal == JOB_ADMITTED) { /* by the queue, but the pool stops */
        http_problem(exchange, PROBLEM_DRAINING, "The server is stopping.");
        return;
    }
    counter_add(&api->metrics.scoring.refusals[job->refusal], 1);
    double deadline = api->options->deadline;
    if (job->deadline != 0 && clock_seconds(job->deadline - job->arrived) < deadline)
        deadline = clock_seconds(job->deadline - job->arrived);
    if (job->refusal == JOB_DEADLINE_UNREACHABLE)
        http_problem(exchange, PROBLEM_SATURATED,
                     "The request would wait for about %.3f s, too long for its deadline of %.3f s.", job->wait,
                     deadline);
    else
        http_problem(exchange, PROBLEM_SATURATED, "%zu requests wait already.", api->options->queue);
    exchange->answer.retry_after = (unsigned)ceil(job->wait);
}

/* RFC 7240: a sender of events that looks at no outcome wants an error in place of one that was not applied. */
static bool is_strict(const struct exchange *exchange) {
    const char *prefer = exchange->route == ROUTE_EVENTS ? http_header(exchange, "Prefer") : NULL;
    return prefer != NULL && strcasecmp(prefer, "handling=strict") == 0;
}

/* True when it is answered already, with a refusal. */
static bool submit(struct api *api, struct exchange *exchange) {
    if (api->workers == NULL) {
        http_problem(exchange, PROBLEM_NOT_READY, "The model is still loading.");
        return true;
    }
    struct job *job = job_of(exchange);
    size_t decoded_size = content_claimed_size(exchange->coding, exchange->body.bytes, exchange->body.size);
    if (decoded_size > api->options->max_body) {
        struct problem problem;
        content_too_large(decoded_size, api->options->max_body, &problem);
        http_problem(exchange, problem.kind, "%s", problem.detail);
        return true;
    }
    *job = (struct job){.owner = exchange,
                        .user = {exchange->user_id_length > 0 ? exchange->user_id : NULL, exchange->user_id_length},
                        .format = exchange->format,
                        .coding = exchange->coding,
                        .body = exchange->body.bytes != NULL ? exchange->body.bytes : "",
                        .size = exchange->body.size,
                        .request_id = exchange->request_id,
                        .strict = is_strict(exchange),
                        .submitted = clock_now(),
                        .arrived = exchange->began,
                        .socket = exchange->socket};
    if (!request_headers_read(exchange, api->options->client_key, job))
        return true;
    if (exchange->route == ROUTE_EVENTS) {
        if (!history_calls_may_send_events(api, exchange))
            return true;
    } else {
        job->may_write = api->histories != NULL && history_calls_may_write(api, exchange);
        if (!history_calls_read_event_id(exchange, job)) /* without a store an append with one is refused */
            return true;
    }
    if (worker_pool_submit(api->workers, job))
        return false;
    refuse(api, exchange);
    return true;
}

void api_admit(void *context, const struct exchange *exchange, const char *target, struct problem *problem) {
    const struct api *api = context;
    admin_access_check(api->access, exchange, target, problem);
}

bool api_handle(void *context, struct exchange *exchange) {
    struct api *api = context;
    switch (exchange->route) {
    case ROUTE_SCORE:
    case ROUTE_HISTORY:
    case ROUTE_EVENTS:
        if (!submit(api, exchange))
            return false;
        if (api->request_log != NULL)
            request_log_answered(api->request_log, exchange, job_of(exchange));
        break;
    case ROUTE_USER:
        if (strcmp(exchange->method, "DELETE") != 0) {
            if (api->histories != NULL && api_live(api) != NULL)
                return history_calls_describe(api, exchange);
            api_answer_user(api, exchange, (struct proto_string){NULL, 0});
            break;
        }
        if (api->histories != NULL)
            return history_calls_delete(api, exchange);
        delete_user(api, exchange);
        break;
    case ROUTE_MODEL:
        answer_model(api, exchange);
        break;
    case ROUTE_LIVE:
        answer_health(api, exchange, watchdog_age(api->watchdog) < LIVE_SECONDS);
        break;
    case ROUTE_HEALTH:
    case ROUTE_READY:
        answer_health(api, exchange, api->state == API_READY);
        break;
    case ROUTE_METRICS:
        answer_metrics(api, exchange);
        break;
    case ROUTE_OPENAPI:
        http_text(exchange, 200, json_type, openapi_page, openapi_page_size);
        break;
    case ROUTE_MODELS:
    case ROUTE_RELOAD:
    case ROUTE_ROLLBACK:
    case ROUTE_CANDIDATE:
    case ROUTE_PROMOTE:
    case ROUTE_LOG_LEVEL:
    case ROUTE_DRAIN:
        return admin_calls_handle(api, exchange);
    case ROUTE_NONE:
    case ROUTES:
        break;
    }
    return true;
}

/* ---- Answers that come later. */

static void give_answer(struct api *api, struct job *job) {
    struct exchange *exchange = job->owner;
    stored_history_free(job->stored);
    job->stored = NULL;
    bool scored = job->problem == PROBLEM_NONE;
    exchange->answer = (struct answer){
        .status = job->cancelled ? 0 : problem_status(job->problem),
        .problem = job->problem,
        .type = scored ? proto_media_types[job->format] : "application/problem+json",
        .body = job->reply,
        .size = job->reply_size,
        .memory = ANSWER_OWNED,
        .retry_after = job->problem == PROBLEM_SATURATED ? (unsigned)ceil(job->wait) : 0,
        .model_tag = job->model_tag,
    };
    if (api->request_log != NULL)
        request_log_answered(api->request_log, exchange, job);
    http_answered(exchange);
}

void api_give_answers(struct api *api) {
    struct job *next = NULL;
    for (struct job *job = worker_pool_take_done(api->workers); job != NULL; job = next) {
        next = job->next;
        if (worker_pool_waits(job))
            history_calls_ask(api, job);
        else
            give_answer(api, job);
    }
}

bool api_describe_model(struct api *api) {
    struct arena arena;
    arena_init(&arena, 0, ARENA_KEEP);
    const struct registry_counts counts = registry_count(api->models);
    struct proto_string text = model_page_describe(api_live(api), &counts, api->options, &arena);
    char *description = text.data != NULL ? malloc(text.length) : NULL;
    if (description != NULL) {
        memcpy(description, text.data, text.length);
        free(api->description);
        api->description = description;
        api->description_size = text.length;
    }
    arena_free(&arena);
    return description != NULL;
}

void api_ended(void *context, const struct exchange *exchange) {
    struct api *api = context;
    const struct job *job = (const struct job *)exchange->work;
    if (api->request_log != NULL)
        request_log_ended(api->request_log, exchange, job);
    enum access_lines lines = !api->options->access_log ? ACCESS_LINES_NONE
                              : api->options->old_names ? ACCESS_LINES_OLD
                                                        : ACCESS_LINES;
    access_log_exchange(exchange, &job->summary, &api->metrics.scoring, lines);
}
