/* service.c: listens at once, scores once the model is proved, drains when told to stop.
 *
 *   LOADING -> READY -> DRAINING -> CLOSING -> stopped
 *
 * LOADING: liveness answers, readiness does not. DRAINING: no longer ready, but still accepting and scoring while load
 * balancers take notice (--drain-delay). CLOSING: nothing new is accepted, requests in flight finish (--drain-timeout).
 * Everything here runs on the loop's thread.
 */
#include "server/service.h"

#include "model/dien.h"
#include "proto/json_encode.h"
#include "server/api/metrics_page.h"
#include "server/api/model_page.h"
#include "server/api/user_page.h"
#include "server/base/clock.h"
#include "server/base/cpu_quota.h"
#include "server/base/listen.h"
#include "server/base/loop.h"
#include "server/base/process.h"
#include "server/base/watchdog.h"
#include "server/http/connections.h"
#include "server/http/http.h"
#include "server/models/model_loader.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum state { LOADING, READY, DRAINING, CLOSING };

struct service {
    const struct options *options;
    size_t threads;
    enum state state;
    uint64_t started;
    uint64_t state_began;
    int status; /* exit status */
    struct metrics metrics;
    struct loop *loop;
    struct http *http;
    struct watchdog *watchdog; /* NULL before the loop turns */
    struct loader *loader;     /* while LOADING */
    struct dien_model *model;
    struct worker_pool *workers; /* once there is a model */
    struct user_cache *cache;    /* NULL: no user states are kept */
    uint64_t version;            /* of the model, for the cache: the first is 1 */
    uint64_t tidied;             /* when the last of the ticks was that do more than look at connections */
    char *description;           /* GET /model's body */
    size_t description_size;
};

static const char json_type[] = "application/json";
/* GRACE_SECONDS: a request that is on its way when we stop accepting still gets its answer. */
enum { GRACE_SECONDS = 1, DESCRIPTOR_RESERVE = 64, LAST_RUNS = 100, ARENA_KEEP = 65536 };
/* LIVE_SECONDS: ticks that do not come for so long mean that the loop serves one thing and nothing else. */
enum { LIVE_SECONDS = 2 };

static void wake_loop(void *context) {
    loop_wake(context);
}

static struct request_limits request_limits(const struct options *options) {
    return (struct request_limits){.max_candidates = options->max_candidates,
                                   .max_history = options->max_history,
                                   .memory = options->request_memory};
}

static void enter(struct service *service, enum state state) {
    service->state = state;
    service->state_began = clock_now();
}

static double seconds_in_state(const struct service *service) {
    return clock_seconds(clock_now() - service->state_began);
}

/* Let http do what it can, and come back when it wants. */
static void run_http(struct service *service) {
    loop_after(service->loop, http_run(service->http));
}

/* ---- What each route answers. */

static const char *status_text(const struct service *service) {
    static const char *const texts[] = {
        [LOADING] = "loading", [READY] = "ready", [DRAINING] = "draining", [CLOSING] = "draining"};
    return texts[service->state];
}

static void answer_health(struct service *service, struct exchange *exchange, bool good) {
    struct arena arena;
    arena_init(&arena, 0, 0);
    const struct proto_health health = {
        .status = status_text(service),
        .model = service->model != NULL ? dien_name(service->model) : NULL,
        .version = service->model != NULL ? dien_version(service->model) : NULL,
        .uptime_seconds = clock_seconds(clock_now() - service->started),
    };
    struct proto_string text = json_encode_health(&health, &arena);
    http_text(exchange, good ? 200 : 503, json_type, text.data != NULL ? text.data : "", text.length);
    arena_free(&arena);
}

static void answer_model(struct service *service, struct exchange *exchange) {
    if (service->description == NULL) {
        http_problem(exchange, PROBLEM_NOT_READY, "The model is still loading.");
        return;
    }
    exchange->answer = (struct answer){.status = 200,
                                       .type = json_type,
                                       .body = service->description,
                                       .size = service->description_size,
                                       .memory = ANSWER_KEPT};
}

/* GET, HEAD. A state is looked up under its shard's lock, for as long as it takes to copy it. */
static void answer_user(struct service *service, struct exchange *exchange) {
    struct arena arena;
    struct proto_string text = {NULL, 0};
    struct user_key key = {exchange->user_id, exchange->user_id_length};
    if (service->model == NULL) {
        http_problem(exchange, PROBLEM_NOT_READY, "The model is still loading.");
        return;
    }
    arena_init(&arena, 0, 0);
    switch (users_describe(service->cache, service->model, service->version, key, &arena, &text)) {
    case USERS_DESCRIBED:
        http_text(exchange, 200, json_type, text.data, text.length);
        break;
    case USERS_ABSENT:
        http_problem(exchange, PROBLEM_NO_USER_STATE, "This server holds nothing of this user.");
        break;
    case USERS_NO_MEMORY:
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the answer.");
        break;
    }
    arena_free(&arena);
}

/* DELETE: whether there was something or not, there is nothing now. */
static void forget_user(struct service *service, struct exchange *exchange) {
    struct user_key key = {exchange->user_id, exchange->user_id_length};
    if (service->cache != NULL)
        user_cache_delete(service->cache, key);
    exchange->answer = (struct answer){.status = 204, .memory = ANSWER_KEPT};
}

static struct metric_gauges read_gauges(const struct service *service) {
    const struct dien_model *model = service->model;
    struct worker_pool *workers = service->workers;
    struct user_cache_counts cache = {0};
    if (service->cache != NULL)
        user_cache_count(service->cache, &cache);
    return (struct metric_gauges){
        .ready = service->state == READY,
        .draining = service->state > READY,
        .uptime_seconds = clock_seconds(clock_now() - service->started),
        .threads = workers != NULL ? service->threads : 0,
        .threads_busy = workers != NULL ? worker_pool_busy(workers) : 0,
        .queue_depth = workers != NULL ? worker_pool_waiting(workers) : 0,
        .queue_seconds = workers != NULL ? worker_pool_wait_seconds(workers) : 0,
        .requests_in_flight = http_in_flight(service->http),
        .connections = http_connections(service->http),
        .connections_lingering = http_lingering(service->http),
        .buffered_bytes = http_buffered(service->http),
        .model_name = model != NULL ? dien_name(model) : NULL,
        .model_version = model != NULL ? dien_version(model) : NULL,
        .model_precision = model != NULL ? dien_precision_name(model) : NULL,
        .model_mapped_bytes = model != NULL ? dien_mapped_bytes(model) : 0,
        .model_packed_bytes = model != NULL ? dien_packed_bytes(model) : 0,
        .kernels = dien_kernels_name(&(struct dien_error){""}),
        .blas_core = dien_blas_core(),
        .loop_stalls = watchdog_stalls(service->watchdog),
        .cpu_quota = cpu_quota_read(""),
        .cache = cache,
        .log = log_count(),
    };
}

static void answer_metrics(struct service *service, struct exchange *exchange) {
    const struct metric_gauges gauges = read_gauges(service);
    size_t size = 0;
    char *text = exposition_text(&service->metrics, &gauges, service->options, &size);
    if (text == NULL) {
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the metrics.");
        return;
    }
    exchange->answer =
        (struct answer){.status = 200, .type = EXPOSITION_TYPE, .body = text, .size = size, .memory = ANSWER_GIVEN};
}

/* To come back when what waits now has been taken. */
static void refuse(struct service *service, struct exchange *exchange) {
    const struct job *job = &exchange->job;
    metrics_add(&service->metrics.refusals[job->refusal], 1);
    if (job->refusal == JOB_DEADLINE_UNREACHABLE)
        http_problem(exchange, PROBLEM_SATURATED,
                     "The request would wait for about %.3f s, too long for its deadline of %.3f s.", job->wait,
                     service->options->deadline);
    else
        http_problem(exchange, PROBLEM_SATURATED, "%zu requests wait already.", service->options->queue);
    exchange->answer.retry_after = (unsigned)ceil(job->wait);
}

/* True when it is answered already, with a refusal. */
static bool submit(struct service *service, struct exchange *exchange) {
    if (service->workers == NULL) {
        http_problem(exchange, PROBLEM_NOT_READY, "The model is still loading.");
        return true;
    }
    exchange->job =
        (struct job){.owner = exchange,
                     .user = {exchange->user_id_length > 0 ? exchange->user_id : NULL, exchange->user_id_length},
                     .format = exchange->format,
                     .body = exchange->body != NULL ? exchange->body : "",
                     .size = exchange->body_size,
                     .request_id = exchange->request_id,
                     .submitted = clock_now(),
                     .socket = exchange->socket};
    if (worker_pool_submit(service->workers, &exchange->job))
        return false;
    refuse(service, exchange);
    return true;
}

static bool handle(void *context, struct exchange *exchange) {
    struct service *service = context;
    switch (exchange->route) {
    case ROUTE_SCORE:
    case ROUTE_HISTORY:
        return submit(service, exchange);
    case ROUTE_USER:
        if (strcmp(exchange->method, "DELETE") == 0)
            forget_user(service, exchange);
        else
            answer_user(service, exchange);
        break;
    case ROUTE_MODEL:
        answer_model(service, exchange);
        break;
    case ROUTE_LIVE:
        answer_health(service, exchange, watchdog_age(service->watchdog) < LIVE_SECONDS);
        break;
    case ROUTE_HEALTH:
    case ROUTE_READY:
        answer_health(service, exchange, service->state == READY);
        break;
    case ROUTE_METRICS:
        answer_metrics(service, exchange);
        break;
    case ROUTE_NONE:
    case ROUTES:
        break;
    }
    return true;
}

/* ---- Answers that come later. */

static void give_answer(struct job *job) {
    struct exchange *exchange = job->owner;
    bool scored = job->problem == PROBLEM_NONE;
    exchange->answer = (struct answer){
        .status = job->cancelled ? 0 : problem_status(job->problem),
        .problem = job->problem,
        .type = scored ? proto_media_types[job->format] : "application/problem+json",
        .body = job->reply,
        .size = job->reply_size,
        .memory = ANSWER_GIVEN,
    };
    http_answered(exchange);
}

static void give_answers(struct service *service) {
    struct job *next = NULL;
    for (struct job *job = worker_pool_take_done(service->workers); job != NULL; job = next) {
        next = job->next;
        give_answer(job);
    }
}

/* ---- The model. */

static bool describe(struct service *service) {
    struct arena arena;
    arena_init(&arena, 0, ARENA_KEEP);
    struct proto_string text = describe_model(service->model, service->options, &arena);
    service->description = text.data != NULL ? malloc(text.length) : NULL;
    if (service->description != NULL) {
        memcpy(service->description, text.data, text.length);
        service->description_size = text.length;
    }
    arena_free(&arena);
    return service->description != NULL;
}

static bool start_workers(struct service *service) {
    const struct worker_pool_options options = {
        .model = service->model,
        .limits = request_limits(service->options),
        .cache = service->cache,
        .version = service->version,
        .threads = service->threads,
        .queue = service->options->queue,
        .deadline = clock_from_seconds(service->options->deadline),
        .metrics = &service->metrics,
        .wake = wake_loop,
        .context = service->loop,
    };
    service->workers = worker_pool_start(&options);
    return service->workers != NULL;
}

static void fail(struct service *service) {
    service->status = 1;
    loop_stop(service->loop);
}

/* The loader is done: go live, or end with the reason in the log. */
static void take_model(struct service *service, const struct loaded *loaded) {
    if (loaded->model == NULL) {
        log_message(LEVEL_ERROR, "model-refused", "%s", loaded->message);
        fail(service);
        return;
    }
    service->model = loaded->model;
    service->version++;
    metrics_model(&service->metrics, service->model);
    if (!describe(service) || !start_workers(service)) {
        log_message(LEVEL_ERROR, "start-failed", "There is no memory for %zu scoring threads.", service->threads);
        fail(service);
        return;
    }
    log_line(LEVEL_INFO, "model-ready", LOG_STRING("model", dien_name(service->model)),
             LOG_STRING("version", dien_version(service->model)),
             LOG_STRING("precision", dien_precision_name(service->model)), LOG_NUMBER("seconds", loaded->seconds),
             LOG_NUMBER("samples", (double)loaded->samples.samples),
             LOG_NUMBER("scores", (double)loaded->samples.scores),
             LOG_NUMBER("largest_difference", loaded->samples.largest),
             LOG_NUMBER("mapped_bytes", (double)dien_mapped_bytes(service->model)),
             LOG_NUMBER("packed_bytes", (double)dien_packed_bytes(service->model)));
    if (service->options->precision == DIEN_REDUCED && !loaded->reduced)
        log_message(LEVEL_WARNING, "precision",
                    "Nothing of this model gains by reduced precision on this CPU: it is scored in float32.");
    if (service->state == LOADING)
        enter(service, READY);
}

static void look_for_model(struct service *service) {
    struct loaded loaded;
    if (service->loader != NULL && loader_take(service->loader, &loaded)) {
        service->loader = NULL;
        take_model(service, &loaded);
    }
}

/* ---- The end. */

static void close_listener(struct service *service) {
    log_line(LEVEL_INFO, "closing", LOG_NUMBER("requests_in_flight", (double)http_in_flight(service->http)),
             LOG_NUMBER("connections", (double)http_connections(service->http)));
    http_quiesce(service->http);
    enter(service, CLOSING);
}

/* Stop once nothing is left to be done, or the time is up. */
static void try_to_stop(struct service *service) {
    bool late = seconds_in_state(service) >= service->options->drain_timeout;
    if (seconds_in_state(service) >= GRACE_SECONDS)
        http_dismiss(service->http);
    if (late || (http_connections(service->http) == 0 && service->loader == NULL)) {
        if (http_in_flight(service->http) > 0) {
            log_line(LEVEL_WARNING, "drain-timeout",
                     LOG_NUMBER("requests_in_flight", (double)http_in_flight(service->http)));
        }
        loop_stop(service->loop);
    }
}

static void step_down(struct service *service) {
    if (service->state == DRAINING && seconds_in_state(service) >= service->options->drain_delay)
        close_listener(service);
    if (service->state == CLOSING)
        try_to_stop(service);
}

/* ---- What the loop calls. */

static void on_readable(void *context) {
    run_http(context);
}

static void on_linger(void *context) {
    struct service *service = context;
    http_linger(service->http);
}

static void on_wake(void *context) {
    struct service *service = context;
    look_for_model(service);
    if (service->workers != NULL)
        give_answers(service);
    run_http(service);
}

/* What is due a few times a second, however many connections there are. Half a tick is asked for because timers of
 * whole milliseconds may come a little early. */
static void tidy(struct service *service) {
    uint64_t now = clock_now();
    double seconds = clock_seconds(now - service->tidied);
    if (seconds < 0.5e-3 * LOOP_TICK_MILLISECONDS)
        return;
    service->tidied = now;
    if (service->cache != NULL)
        user_cache_sweep(service->cache, seconds);
    http_tidy(service->http);
    step_down(service);
}

/* Each connection's turn comes every LOOP_TICK_MILLISECONDS: with many of them a tick takes a part. */
_Static_assert((int)SWEEPS_A_ROUND <= (int)LOOP_TICK_MILLISECONDS, "a part has a millisecond or more");

static int on_tick(void *context) {
    struct service *service = context;
    watchdog_beat(service->watchdog);
    size_t parts = http_sweep(service->http);
    tidy(service);
    run_http(service);
    return LOOP_TICK_MILLISECONDS / (int)parts;
}

/* The first signal asks for an orderly end, the second for a fast one. */
static void on_signal(void *context, int signal) {
    struct service *service = context;
    if (service->state >= DRAINING) {
        log_message(LEVEL_WARNING, "killed", "A second signal: the process ends at once.");
        log_stop();
        _exit(1);
    }
    log_line(LEVEL_INFO, "draining", LOG_NUMBER("signal", signal),
             LOG_NUMBER("requests_in_flight", (double)http_in_flight(service->http)),
             LOG_NUMBER("drain_delay_seconds", service->options->drain_delay));
    http_drain(service->http);
    enter(service, DRAINING);
    step_down(service);
    run_http(service);
}

/* ---- Start and stop. */

/* The file appears with its whole content, for whoever waits for it. */
static bool write_address(const char *file, const char *address, char *error, size_t error_size) {
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.%ld", file, (long)getpid());
    FILE *out = fopen(temporary, "we");
    bool good = out != NULL && fprintf(out, "%s\n", address) > 0;
    good = out != NULL && fclose(out) == 0 && good;
    good = good && rename(temporary, file) == 0;
    if (!good)
        snprintf(error, error_size, "--address-file: %s: %s", file, strerror(errno));
    return good;
}

static void warn_of_descriptors(const struct options *options) {
    size_t most = process_raise_descriptors();
    if (options->max_connections + DESCRIPTOR_RESERVE > most) {
        log_message(LEVEL_WARNING, "descriptors", "--max-connections is %zu, but the process may open %zu descriptors.",
                    options->max_connections, most);
    }
}

static bool start_http(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->options;
    char address[ADDRESS_TEXT];
    int listening =
        listen_open(options->listen, options->reuse_port, (int)options->backlog, address, error, error_size);
    if (listening < 0)
        return false;
    const struct http_options http = {
        .options = options, .metrics = &service->metrics, .listening = listening, .context = service, .handle = handle};
    service->http = http_start(&http);
    if (service->http == NULL || !loop_watch(service->loop, http_descriptor(service->http), on_readable) ||
        !loop_watch(service->loop, http_linger_descriptor(service->http), on_linger)) {
        snprintf(error, error_size, "HTTP cannot start: %s", strerror(errno));
        return false;
    }
    log_line(LEVEL_INFO, "listening", LOG_STRING("address", address), LOG_NUMBER("pid", (double)getpid()));
    return options->address_file == NULL || write_address(options->address_file, address, error, error_size);
}

/* Address space only: the bytes are used as users come. */
static bool start_cache(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->options;
    if (options->cache_bytes == 0)
        return true;
    if (options->cache_bytes < USER_CACHE_MIN_BYTES) {
        snprintf(error, error_size, "--cache-bytes: %zu is neither 0 nor at least %d", options->cache_bytes,
                 USER_CACHE_MIN_BYTES);
        return false;
    }
    service->tidied = clock_now();
    service->cache = user_cache_new(options->cache_bytes, clock_from_seconds(options->cache_ttl));
    if (service->cache == NULL)
        snprintf(error, error_size, "--cache-bytes: there is no room for %zu bytes", options->cache_bytes);
    return service->cache != NULL;
}

static bool start(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->options;
    const struct loop_handlers handlers = {
        .context = service, .timer = on_readable, .wake = on_wake, .tick = on_tick, .signal = on_signal};
    warn_of_descriptors(options);
    if (!start_cache(service, error, error_size))
        return false;
    snprintf(error, error_size, "The event loop cannot start: %s", strerror(errno));
    service->loop = loop_new(&handlers);
    if (service->loop == NULL || !start_http(service, error, error_size))
        return false;
    service->loader = loader_start(&(struct load){options->model, options->precision, options->samples_tolerance},
                                   wake_loop, service->loop);
    if (service->loader == NULL)
        snprintf(error, error_size, "The model's thread cannot start: %s", strerror(errno));
    run_http(service);
    return service->loader != NULL;
}

/* Requests that still wait are refused, those at work finish, and all get their answer. */
static void stop_workers(struct service *service) {
    if (service->workers == NULL)
        return;
    worker_pool_stop(service->workers);
    give_answers(service);
    for (int i = 0; i < LAST_RUNS && http_in_flight(service->http) > 0; i++)
        http_run(service->http);
    worker_pool_free(service->workers);
}

static void stop(struct service *service) {
    struct loaded loaded = {.model = NULL};
    if (service->loader != NULL && !loader_take(service->loader, &loaded)) {
        log_message(LEVEL_WARNING, "drain-timeout", "The model is still loading: the process ends without it.");
        log_stop();
        _exit(service->status);
    }
    dien_close(loaded.model);
    stop_workers(service);
    if (service->loop != NULL) {
        loop_free(service->loop); /* before the descriptors that it watches */
    }
    if (service->http != NULL)
        http_stop(service->http);
    free(service->description);
    user_cache_free(service->cache);
    dien_close(service->model);
}

int service_run(const struct options *options) {
    static struct service service; /* large, and one a process */
    char error[512];
    service = (struct service){.options = options, .started = clock_now()};
    service.threads = options->threads > 0 ? options->threads : cpu_quota_threads("");
    enter(&service, LOADING);
    if (start(&service, error, sizeof error)) {
        service.watchdog = watchdog_start(options->watchdog);
        if (service.watchdog == NULL)
            log_message(LEVEL_WARNING, "watchdog", "Nothing watches the event loop: %s.", strerror(errno));
        loop_run(service.loop);
        watchdog_stop(service.watchdog);
        service.watchdog = NULL;
    } else {
        log_message(LEVEL_ERROR, "start-failed", "%s", error);
        service.status = 1;
    }
    stop(&service);
    log_line(LEVEL_INFO, "stopped", LOG_NUMBER("status", service.status));
    return service.status;
}
