/* service.c: listens at once or when it is ready, scores once the model is proved, drains when told to stop.
 *
 *   LOADING -> READY -> DRAINING -> CLOSING -> stopped
 *
 * LOADING: liveness answers, readiness does not; with --listen-when-ready there is no HTTP yet. DRAINING: no longer
 * ready, but still accepting and scoring while load balancers take notice (--drain-delay). CLOSING: nothing new is
 * accepted, requests in flight finish (--drain-timeout). Everything here runs on the loop's thread.
 */
#include "server/service.h"

#include "model/dien.h"
#include "proto/json_encode.h"
#include "server/api/admin_access.h"
#include "server/api/admin_calls.h"
#include "server/api/api.h"
#include "server/api/model_page.h"
#include "server/api/model_slots.h"
#include "server/api/request_log.h"
#include "server/api/user_page.h"
#include "server/base/address.h"
#include "server/base/clock.h"
#include "server/base/cpu_quota.h"
#include "server/base/listen.h"
#include "server/base/loop.h"
#include "server/base/memory_limit.h"
#include "server/base/notify.h"
#include "server/base/process.h"
#include "server/base/watchdog.h"
#include "server/histories/history_store.h"
#include "server/history_command.h"
#include "server/http/connections.h"
#include "server/http/http.h"
#include "server/models/registry.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct service {
    struct api api;
    uint64_t state_began;
    int status; /* exit status */
    struct loop *loop;
    bool drain_wanted; /* by a call of the admin plane */
    bool signalled;    /* SIGTERM or SIGINT has come */
    struct listen_socket listening, admin_listening;
    struct admin_access access;
    uint64_t due, admin_due;    /* clock_now() when HTTP and the admin plane want their next turns; UINT64_MAX: never */
    uint64_t housekeeping_done; /* clock_now() of the last keep_house() */
};

/* GRACE_SECONDS: a request that is on its way when we stop accepting still gets its answer. */
enum { GRACE_SECONDS = 1, DESCRIPTOR_RESERVE = 64, LAST_RUNS = 100, ADMIN_RESERVE = 32, REQUEST_LOG_STOP_SECONDS = 2 };

static const uint64_t nanoseconds_per_millisecond = 1000000;

static void wake_loop(void *context) {
    loop_wake(context);
}

static void enter(struct service *service, enum api_state state) {
    service->api.state = state;
    service->state_began = clock_now();
}

static double seconds_in_state(const struct service *service) {
    return clock_seconds(clock_now() - service->state_began);
}

/* Serves the connections of a listener that are ready. NULL: there is none. Returns when its next turn is due. */
static uint64_t run_listener(struct http *http) {
    int milliseconds = http != NULL ? http_run(http) : -1;
    return milliseconds < 0 ? UINT64_MAX : clock_now() + (uint64_t)milliseconds * nanoseconds_per_millisecond;
}

/* The loop's one timer is for whichever of the two is due first. */
static void arm_timer(struct service *service) {
    uint64_t now = clock_now(), due = service->due < service->admin_due ? service->due : service->admin_due;
    uint64_t wait = due > now ? due - now : 0;
    if (due == UINT64_MAX)
        loop_after(service->loop, -1);
    else
        loop_after(service->loop, (int)((wait + nanoseconds_per_millisecond - 1) / nanoseconds_per_millisecond));
}

static void run_http(struct service *service) {
    service->due = run_listener(service->api.http);
    service->admin_due = run_listener(service->api.admin);
    arm_timer(service);
}

/* ---- HTTP. */

static void on_timer(void *context) {
    struct service *service = context;
    uint64_t now = clock_now();
    if (service->due <= now)
        service->due = run_listener(service->api.http);
    if (service->admin_due <= now)
        service->admin_due = run_listener(service->api.admin);
    arm_timer(service);
}

static void on_readable(void *context) {
    struct service *service = context;
    service->due = run_listener(service->api.http);
    arm_timer(service);
}

static void on_admin_readable(void *context) {
    struct service *service = context;
    service->admin_due = run_listener(service->api.admin);
    arm_timer(service);
}

static void on_admin_linger(void *context) {
    struct service *service = context;
    http_linger(service->api.admin);
}

static void on_linger(void *context) {
    struct service *service = context;
    http_linger(service->api.http);
}

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

static size_t lingering(size_t connections) {
    return connections < HTTP_LINGERING_MOST ? connections : HTTP_LINGERING_MOST;
}

/* As many as there are descriptors for: without one the listener stands still, and health with it. A refused client
 * that is read on from has a descriptor beside that of its connection, or of the next client's. */
static size_t max_connections(const struct options *options) {
    size_t descriptors = process_raise_descriptors();
    size_t admin =
        options->admin_listen != NULL ? options->admin_connections + lingering(options->admin_connections) : 0;
    size_t others = options->reserved_connections + DESCRIPTOR_RESERVE + admin + (admin > 0 ? ADMIN_RESERVE : 0);
    if (options->max_connections + lingering(options->max_connections) + others <= descriptors)
        return options->max_connections;
    size_t room = descriptors > 2 * others ? descriptors - others : descriptors / 2;
    size_t most = room - lingering(room / 2);
    log_message(LEVEL_WARNING, "descriptors",
                "--max-connections is %zu, but the process may open %zu descriptors: %zu connections are held.",
                options->max_connections, descriptors, most);
    return most;
}

/* Limits and handler that the two listeners share. The one that is returned has no socket yet. */
static struct http_options http_options(struct service *service) {
    const struct options *options = service->api.options;
    return (struct http_options){
        .limits = {.max_body = options->max_body,
                   .max_call = options->admin_max_body,
                   .max_buffered = options->max_buffered,
                   .max_reply_buffered = options->max_reply_buffered,
                   .reserved_connections = options->reserved_connections,
                   .buffer_reserve = options->buffer_reserve,
                   .small_body = options->small_body,
                   .body_rate = options->body_rate,
                   .connection_memory = options->connection_memory,
                   .header_timeout = options->header_timeout,
                   .body_timeout = options->body_timeout,
                   .reply_timeout = options->reply_timeout,
                   .idle_timeout = options->idle_timeout,
                   .linger_timeout = options->linger_timeout},
        .counts = &service->api.metrics.http,
        .work_size = sizeof(struct job),
        .context = &service->api,
        .handle = api_handle,
        .ended = api_ended,
    };
}

/* Operators are let in from here on. Their connections and bodies have budgets of their own, so that a flood at the
 * public port leaves room for them. */
static bool start_admin(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->api.options;
    struct http_options http = http_options(service);
    if (options->admin_listen == NULL)
        return true;
    if (!listen_begin(&service->admin_listening, (int)options->backlog, error, error_size))
        return false;
    http.limits.max_connections = options->admin_connections;
    http.limits.reserved_connections = ADMIN_RESERVE;
    http.limits.max_buffered = options->admin_max_buffered;
    http.limits.buffer_reserve = 0;
    http.plane = PLANE_ADMIN;
    http.admit = api_admit;
    http.listening = service->admin_listening.descriptor;
    service->api.admin = http_start(&http);
    service->admin_listening.descriptor = -1; /* http's */
    if (service->api.admin == NULL ||
        !loop_watch(service->loop, http_descriptor(service->api.admin), "admin", on_admin_readable) ||
        !loop_watch(service->loop, http_linger_descriptor(service->api.admin), "admin-linger", on_admin_linger)) {
        snprintf(error, error_size, "--admin-listen: HTTP cannot start: %s", strerror(errno));
        return false;
    }
    log_line(LEVEL_INFO, "admin-listening", LOG_STRING("address", service->admin_listening.address));
    return true;
}

/* Of the public port: those that --public-users and --public-metrics leave to the admin plane. */
static uint32_t hidden_routes(const struct options *options) {
    uint32_t hidden = options->public_metrics ? 0 : UINT32_C(1) << ROUTE_METRICS;
    for (enum route route = ROUTE_NONE + 1; route < ROUTES; route++)
        hidden |= !options->public_users && routes_about_users(route) ? UINT32_C(1) << route : 0;
    return hidden;
}

/* Connections are accepted from here on. */
static bool start_http(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->api.options;
    const char *address = service->listening.address;
    struct http_options http = http_options(service);
    if (!listen_begin(&service->listening, (int)options->backlog, error, error_size))
        return false;
    http.limits.max_connections = max_connections(options);
    http.hidden_routes = hidden_routes(options);
    http.listening = service->listening.descriptor;
    service->api.http = http_start(&http);
    service->listening.descriptor = -1; /* http's */
    if (service->api.http == NULL ||
        !loop_watch(service->loop, http_descriptor(service->api.http), "http", on_readable) ||
        !loop_watch(service->loop, http_linger_descriptor(service->api.http), "linger", on_linger)) {
        snprintf(error, error_size, "HTTP cannot start: %s", strerror(errno));
        return false;
    }
    log_line(LEVEL_INFO, "listening", LOG_STRING("address", address), LOG_NUMBER("pid", (double)getpid()));
    return options->address_file == NULL || write_address(options->address_file, address, error, error_size);
}

/* ---- The model. */

static void fail(struct service *service) {
    service->status = 1;
    loop_stop(service->loop);
}

/* Cut at the start, a history would lack the behaviours that such a model reads. */
static bool model_fits_store(const struct service *service, const struct dien_model *model, char *reason,
                             size_t reason_size) {
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests), keep = service->api.options->histories_keep;
    for (size_t i = 0; service->api.histories != NULL && i < count; i++) {
        if (interests[i].max_length <= keep && !interests[i].keeps_first)
            continue;
        if (interests[i].keeps_first)
            snprintf(reason, reason_size,
                     "The interest \"%s\" keeps the first behaviours of a history, and the history store the last "
                     "(--histories).",
                     interests[i].name);
        else
            snprintf(reason, reason_size,
                     "The interest \"%s\" reads %zu behaviours, and the history store keeps %zu (--histories-keep).",
                     interests[i].name, interests[i].max_length, keep);
        return false;
    }
    return true;
}

static const char by_start[] = "start", by_signal[] = "signal", by_admin[] = "admin";

static void log_ready(const struct service *service, const struct loaded *loaded) {
    const struct served_model *served = loaded->served;
    log_line(LEVEL_INFO, "model-ready", LOG_STRING("model", dien_name(served->model)),
             LOG_STRING("version", dien_version(served->model)), LOG_STRING("config_sha256", served->config_sha256),
             LOG_STRING("weights_sha256", served->weights_sha256), LOG_STRING("loaded_by", served->loaded_by),
             LOG_STRING("precision", dien_precision_name(served->model)), LOG_NUMBER("seconds", loaded->seconds),
             LOG_NUMBER("samples", (double)loaded->samples.samples),
             LOG_NUMBER("scores", (double)loaded->samples.scores),
             LOG_NUMBER("largest_difference", loaded->samples.largest),
             LOG_NUMBER("mapped_bytes", (double)dien_mapped_bytes(served->model)),
             LOG_NUMBER("packed_bytes", (double)dien_packed_bytes(served->model)),
             LOG_NUMBER("prefaulted_bytes", (double)served->prefaulted_bytes),
             LOG_NUMBER("prefault_seconds", served->prefault_seconds));
    if (service->api.options->precision == DIEN_REDUCED && !loaded->reduced)
        log_message(LEVEL_WARNING, "precision",
                    "Nothing of this model gains by reduced precision on this CPU: it is scored in float32.");
}

/* On a scoring thread. */
static void observe_request(void *observer, struct job *job, const struct request *request) {
    request_log_scored(observer, job, request);
}

/* The scoring threads start with the first model, of which the pool takes a reference. False when they cannot. */
static bool start_workers(struct service *service, struct served_model *served) {
    const struct options *options = service->api.options;
    const struct worker_pool_options pool = {
        .served = served,
        .limits = {.max_candidates = options->max_candidates,
                   .max_history = options->max_history,
                   .max_body = options->max_body,
                   .memory = options->request_memory,
                   .explain_held = options->explain_held,
                   .strict_protobuf = options->strict_protobuf,
                   .has_store = service->api.histories != NULL,
                   .refuses_appends = !options->public_users,
                   .behaviour_bytes = options->histories_behaviour_bytes,
                   .freshness = clock_from_seconds(options->histories_freshness),
                   .max_events = options->max_events,
                   .dedupe = options->histories_dedupe},
        .cache = service->api.cache,
        .threads = service->api.threads,
        .queue = options->queue,
        .deadline = clock_from_seconds(options->deadline),
        .counts = &service->api.metrics.scoring,
        .comparison = &service->api.comparison,
        .shadow_buffer = options->shadow_buffer,
        .observe = service->api.request_log != NULL ? observe_request : NULL,
        .observer = service->api.request_log,
        .wake = wake_loop,
        .context = service->loop,
    };
    service->api.workers = worker_pool_start(&pool);
    return service->api.workers != NULL;
}

/* Requests that a scoring thread takes from now on are scored with the live model of the registry. False when the
 * scoring threads cannot start. */
static bool serve_live(struct service *service) {
    if (service->api.workers == NULL && !start_workers(service, served_model_hold(api_live(&service->api))))
        return false;
    model_slots_serve(&service->api);
    return service->api.description != NULL;
}

/* The previous model is in memory and proved: it takes the live one's place at once. False when there is none. */
static bool roll_back(struct service *service) {
    if (!registry_roll_back(service->api.models) || !serve_live(service))
        return false;
    const struct served_model *live = api_live(&service->api);
    log_line(LEVEL_INFO, "model-rolled-back", LOG_STRING("model", dien_name(live->model)),
             LOG_STRING("version", dien_version(live->model)), LOG_STRING("config_sha256", live->config_sha256),
             LOG_STRING("weights_sha256", live->weights_sha256));
    return true;
}

/* The files of the load are those of a model that was the previous one when the load began. */
static bool return_to(struct service *service, struct loaded *loaded) {
    const struct served_model *live = api_live(&service->api);
    const struct served_model *previous = registry_model(service->api.models, SLOT_PREVIOUS);
    if (live->version == loaded->previous_version)
        return true;
    if (previous != NULL && previous->version == loaded->previous_version)
        return roll_back(service);
    snprintf(loaded->message, sizeof loaded->message, "The models have changed places meanwhile; ask again.");
    log_message(LEVEL_ERROR, "model-refused", "%s", loaded->message);
    return false;
}

/* A load has ended: go live, or stay with the model before. Without one the process ends, with the reason in the log.
 * False: it was refused, for the reason in loaded->message, which is "" where the load was given up. */
static bool take_model(struct service *service, struct loaded *loaded) {
    bool first = service->api.workers == NULL;
    if (service->api.state >= API_DRAINING) { /* whoever asked for it was told so */
        served_model_release(loaded->served);
        *loaded->message = '\0';
        return false;
    }
    if (loaded->is_previous)
        return return_to(service, loaded);
    bool fits = loaded->served != NULL &&
                model_fits_store(service, loaded->served->model, loaded->message, sizeof loaded->message);
    if (!fits) {
        if (*loaded->message != '\0')
            log_message(LEVEL_ERROR, "model-refused", "%s", loaded->message);
        if (loaded->served != NULL)
            registry_refuse(service->api.models, loaded->served, loaded->message);
        if (first)
            fail(service);
        else
            (void)!api_describe_model(&service->api);
        return false;
    }
    if (loaded->is_candidate) {
        model_slots_set_candidate(&service->api, loaded->served, loaded->shares);
        return true;
    }
    registry_go_live(service->api.models, loaded->served);
    if (!serve_live(service)) {
        log_message(LEVEL_ERROR, "start-failed", "There is no memory for %zu scoring threads.", service->api.threads);
        fail(service);
        return false;
    }
    log_ready(service, loaded);
    if (service->api.state != API_LOADING)
        return true;
    char error[512];
    if (service->api.http == NULL && !start_http(service, error, sizeof error)) {
        log_message(LEVEL_ERROR, "start-failed", "%s", error);
        fail(service);
        return false;
    }
    enter(service, API_READY);
    notify("READY=1");
    return true;
}

/* Load what --model names now. systemd waits for the end of a reload that it asked for, so a refusal ends it. False: it
 * is refused. */
static bool reload(struct service *service, const char *by) {
    const char *model = service->api.options->model;
    if (service->api.state >= API_DRAINING) {
        log_message(LEVEL_WARNING, "reload-refused", "The server is draining.");
        return false;
    }
    if (service->api.state == API_READY)
        notify_reloading();
    if (registry_load(service->api.models, model, by)) {
        log_line(LEVEL_INFO, "reload", LOG_STRING("model", model), LOG_STRING("loaded_by", by));
        return true;
    }
    log_message(LEVEL_WARNING, "reload-refused", "Another model is being loaded; ask again when it is done.");
    if (service->api.state == API_READY)
        notify("READY=1");
    return false;
}

/* ---- What the admin plane asks for. */

static bool on_admin_reload(void *context) {
    return reload(context, by_admin);
}

static bool on_admin_roll_back(void *context) {
    return roll_back(context);
}

static void on_admin_drain(void *context) {
    struct service *service = context;
    service->drain_wanted = true;
    loop_wake(service->loop);
}

/* ---- The end. */

static size_t requests_in_flight(const struct service *service) {
    const struct http *http = service->api.http, *admin = service->api.admin;
    return (http != NULL ? http_in_flight(http) : 0) + (admin != NULL ? http_in_flight(admin) : 0);
}

/* Closes the listeners after --drain-delay. Stops the loop once nothing is left to be done, or after --drain-timeout.
 */
static void step_down(struct service *service) {
    struct http *http = service->api.http, *admin = service->api.admin;
    if (http == NULL) { /* no client has been let in */
        loop_stop(service->loop);
        return;
    }
    double in_flight = (double)requests_in_flight(service);
    if (service->api.state == API_DRAINING && seconds_in_state(service) >= service->api.options->drain_delay) {
        log_line(LEVEL_INFO, "closing", LOG_NUMBER("requests_in_flight", in_flight),
                 LOG_NUMBER("connections", (double)http_connections(http)));
        http_close_listener(http);
        listen_remove(&service->listening);
        if (admin != NULL)
            http_close_listener(admin);
        listen_remove(&service->admin_listening);
        enter(service, API_CLOSING);
    }
    if (service->api.state != API_CLOSING)
        return;
    bool late = seconds_in_state(service) >= service->api.options->drain_timeout;
    if (seconds_in_state(service) >= GRACE_SECONDS)
        http_close_idle(http);
    if (seconds_in_state(service) >= GRACE_SECONDS && admin != NULL)
        http_close_idle(admin);
    if (late || http_connections(http) + (admin != NULL ? http_connections(admin) : 0) == 0) {
        in_flight = (double)requests_in_flight(service);
        if (in_flight > 0)
            log_line(LEVEL_WARNING, "drain-timeout", LOG_NUMBER("requests_in_flight", in_flight));
        loop_stop(service->loop);
    }
}

/* No longer ready: the end begins. `signal` is NaN where the admin plane asked for it. */
static void begin_drain(struct service *service, double signal) {
    log_line(LEVEL_INFO, "draining", LOG_NUMBER("signal", signal),
             LOG_NUMBER("requests_in_flight", (double)requests_in_flight(service)),
             LOG_NUMBER("drain_delay_seconds", service->api.options->drain_delay));
    if (service->api.http != NULL)
        http_drain(service->api.http);
    if (service->api.admin != NULL)
        http_drain(service->api.admin);
    enter(service, API_DRAINING);
    admin_calls_load_ended(&service->api, ""); /* the end does not wait for a load */
    notify("STOPPING=1");
    step_down(service);
    run_http(service);
}

/* ---- The loop's handlers. */

static void on_wake(void *context) {
    struct service *service = context;
    struct loaded loaded;
    if (registry_take(service->api.models, &loaded)) {
        bool was_ready = service->api.state == API_READY;
        bool live = take_model(service, &loaded);
        admin_calls_load_ended(&service->api, live ? NULL : loaded.message);
        if (was_ready) /* a reload has ended */
            notify("READY=1");
    }
    if (service->api.workers != NULL)
        api_give_answers(&service->api);
    run_http(service);
    if (service->drain_wanted && service->api.state < API_DRAINING)
        begin_drain(service, NAN);
}

/* Work that is due a few times a second, however many connections there are. It runs after half a tick already, because
 * timers of whole milliseconds may come a little early. */
static void keep_house(struct service *service) {
    uint64_t now = clock_now();
    double seconds = clock_seconds(now - service->housekeeping_done);
    if (seconds < 0.5e-3 * LOOP_TICK_MILLISECONDS)
        return;
    service->housekeeping_done = now;
    if (service->api.cache != NULL)
        user_cache_sweep(service->api.cache, seconds);
    if (service->api.http != NULL)
        http_expire_lingering(service->api.http);
    if (service->api.admin != NULL)
        http_expire_lingering(service->api.admin);
    if (service->api.workers != NULL)
        worker_pool_examine(service->api.workers);
    model_slots_guard(&service->api);
    if (service->api.state >= API_DRAINING)
        step_down(service);
}

/* Each connection's turn comes every LOOP_TICK_MILLISECONDS: with many of them a tick takes a part. */
_Static_assert((int)SWEEPS_A_ROUND <= (int)LOOP_TICK_MILLISECONDS, "a part has a millisecond or more");

static int on_tick(void *context) {
    struct service *service = context;
    watchdog_beat(service->api.watchdog);
    notify_alive();
    size_t parts = service->api.http != NULL ? http_sweep(service->api.http) : 1;
    size_t admin_parts = service->api.admin != NULL ? http_sweep(service->api.admin) : 1;
    parts = admin_parts > parts ? admin_parts : parts;
    keep_house(service);
    run_http(service);
    return LOOP_TICK_MILLISECONDS / (int)parts;
}

/* The files of tokens are read again: a token may be replaced without a restart. */
static void renew_tokens(struct service *service) {
    const char *file = service->api.options->user_write_token_file;
    char reason[400];
    if (!admin_access_renew(&service->access, reason, sizeof reason))
        log_message(LEVEL_ERROR, "token-refused", "%s; the token before stays in force", reason);
    if (file != NULL && *service->api.write_token.text != '\0' &&
        !secret_read(&service->api.write_token, file, reason, sizeof reason))
        log_message(LEVEL_ERROR, "token-refused", "--user-write-token-file: %s; the token before stays in force",
                    reason);
}

/* The first signal asks for an orderly end, the second for a fast one; SIGHUP asks for the model that is there now. */
static void on_signal(void *context, int signal) {
    struct service *service = context;
    if (signal == SIGHUP) {
        renew_tokens(service);
        (void)reload(service, by_signal);
        return;
    }
    bool again = service->signalled;
    service->signalled = true;
    if (service->api.state >= API_DRAINING && !again)
        return; /* the admin plane has asked for that already */
    if (again) {
        log_message(LEVEL_WARNING, "killed", "A second signal: the process ends at once.");
        log_stop();
        _exit(1);
    }
    begin_drain(service, signal);
}

/* ---- Start and stop. */

/* Address space only: the bytes are used as users come. */
static bool start_cache(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->api.options;
    if (options->cache_bytes == 0)
        return true;
    if (options->cache_bytes < USER_CACHE_MIN_BYTES) {
        snprintf(error, error_size, "--cache-bytes: %zu is neither 0 nor at least %d", options->cache_bytes,
                 USER_CACHE_MIN_BYTES);
        return false;
    }
    service->housekeeping_done = clock_now();
    service->api.cache = user_cache_new(options->cache_bytes, clock_from_seconds(options->cache_ttl));
    if (service->api.cache == NULL)
        snprintf(error, error_size, "--cache-bytes: there is no room for %zu bytes", options->cache_bytes);
    return service->api.cache != NULL;
}

/* ---- The history store. */

/* With a store a write lasts, so that by default only whoever is on this machine may write without a token. */
static bool read_user_write(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->api.options;
    const char *rule = options->user_write;
    if (rule == NULL)
        rule = address_is_loopback(options->listen) && options->user_write_token_file == NULL ? "public" : "token";
    service->api.writes_are_free = strcmp(rule, "public") == 0;
    if (service->api.writes_are_free || strcmp(rule, "off") == 0)
        return true;
    if (strcmp(rule, "token") != 0) {
        snprintf(error, error_size, "--user-write: \"%s\" is neither public, token nor off", rule);
        return false;
    }
    char reason[400] = "no file is named";
    const char *file = options->user_write_token_file;
    if (file != NULL && secret_read(&service->api.write_token, file, reason, sizeof reason))
        return true;
    snprintf(error, error_size,
             "--user-write-token-file: a token is needed to write stored histories: %s; --user-write says who may "
             "write: public, token or off",
             reason);
    return false;
}

static bool start_histories(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->api.options;
    struct history_store_options store;
    char reason[400];
    if (options->histories == NULL)
        return true;
    if (!history_options(options, &service->api.metrics.histories, &store, error, error_size) ||
        !read_user_write(service, error, error_size))
        return false;
    service->api.histories = history_store_open(&store, service->loop, reason, sizeof reason);
    if (service->api.histories == NULL)
        snprintf(error, error_size, "--histories: %s", reason);
    return service->api.histories != NULL;
}

/* Its file has the owner's permissions alone: with them, who may connect is who may operate. */
static bool bind_admin(struct service *service, char *error, size_t error_size) {
    enum { OWNER_ALONE = 0600 };
    const struct options *options = service->api.options;
    char reason[400];
    if (options->admin_listen == NULL)
        return true;
    if (!listen_bind(&service->admin_listening, options->admin_listen, false, OWNER_ALONE, reason, sizeof reason)) {
        static const char flag[] = "--listen: "; /* listen.h's errors are about --listen */
        snprintf(error, error_size, "--admin-listen: %s",
                 reason + (strncmp(reason, flag, sizeof flag - 1) == 0 ? sizeof flag - 1 : 0));
        return false;
    }
    service->api.access = &service->access;
    return admin_access_start(&service->access, &service->admin_listening, options->admin_listen, options->admin_host,
                              options->admin_token_file, error, error_size);
}

/* ---- The request log. */

static bool start_request_log(struct service *service, char *error, size_t error_size) {
    static const char *const users[] = {
        [RECORD_USERS_HASH] = "hash", [RECORD_USERS_PLAIN] = "plain", [RECORD_USERS_NONE] = "none"};
    const struct options *options = service->api.options;
    char reason[400], key[REQUEST_LOG_KEY_MAX + 1];
    size_t rule = 0;
    if (options->request_log == NULL)
        return true;
    while (rule < sizeof users / sizeof *users && strcmp(options->request_log_users, users[rule]) != 0)
        rule++;
    if (rule == sizeof users / sizeof *users) {
        snprintf(error, error_size, "--request-log-users: \"%s\" is neither hash, plain nor none",
                 options->request_log_users);
        return false;
    }
    size_t key_size = model_slots_key_text(&service->api, key, sizeof key);
    const struct request_log_options log = {.directory = options->request_log,
                                            .share = options->request_log_share,
                                            .slow = options->slow_request,
                                            .with_history = options->request_log_history,
                                            .users = (enum record_users)rule,
                                            .share_key = service->api.rollout.key,
                                            .key = key_size > 0 ? key : NULL,
                                            .key_size = key_size,
                                            .max_body = options->max_body,
                                            .buffer_bytes = options->request_log_buffer,
                                            .file_bytes = options->request_log_file,
                                            .file_seconds = options->request_log_age,
                                            .total_bytes = options->request_log_disk,
                                            .counts = &service->api.metrics.request_log};
    service->api.request_log = request_log_start(&log, reason, sizeof reason);
    memset(key, 0, sizeof key);
    if (service->api.request_log == NULL)
        snprintf(error, error_size, "--request-log: %s", reason);
    return service->api.request_log != NULL;
}

static size_t prefault_bytes(const struct options *options) {
    return options->prefault == OPTIONS_AUTO ? memory_limit_read("") / 2 : options->prefault;
}

static bool start(struct service *service, char *error, size_t error_size) {
    const struct options *options = service->api.options;
    const struct loop_handlers handlers = {.context = service,
                                           .timer = on_timer,
                                           .wake = on_wake,
                                           .tick = on_tick,
                                           .signal = on_signal,
                                           .timer_name = "http",
                                           .turns = &service->api.metrics.turns};
    if (!model_slots_read_key(&service->api, error, error_size) || !start_cache(service, error, error_size))
        return false;
    snprintf(error, error_size, "The event loop cannot start: %s", strerror(errno));
    service->loop = loop_new(&handlers);
    service->api.wake = wake_loop;
    service->api.wake_context = service->loop;
    service->api.operations = (struct api_operations){
        .context = service, .reload = on_admin_reload, .roll_back = on_admin_roll_back, .drain = on_admin_drain};
    if (service->loop == NULL || !listen_bind(&service->listening, options->listen, options->reuse_port,
                                              options->listen_mode, error, error_size))
        return false;
    if (!bind_admin(service, error, error_size) || !start_histories(service, error, error_size) ||
        !start_request_log(service, error, error_size))
        return false;
    if (!options->reuse_port && !options->listen_when_ready && !start_http(service, error, error_size))
        return false;
    const struct registry_options models = {.precision = options->precision,
                                            .tolerance = options->samples_tolerance,
                                            .prefault = prefault_bytes(options),
                                            .threads = service->api.threads,
                                            .copy = options->model_copy,
                                            .keep_previous = options->keep_previous,
                                            .memory_limit = options->model_memory_limit,
                                            .root = options->model_root,
                                            .poll_path = options->model,
                                            .poll_seconds = options->model_poll,
                                            .wake = wake_loop,
                                            .context = service->loop};
    service->api.models = registry_start(&models);
    if (service->api.models == NULL) {
        snprintf(error, error_size, "The model's thread cannot start: %s", strerror(errno));
        return false;
    }
    registry_load(service->api.models, options->model, by_start);
    if (!start_admin(service, error, error_size))
        return false;
    run_http(service);
    return true;
}

/* Requests that still wait are refused, those at work finish, and all get their answer. */
static void stop_workers(struct service *service) {
    if (service->api.workers == NULL)
        return;
    worker_pool_stop(service->api.workers);
    api_give_answers(&service->api);
    for (int i = 0; i < LAST_RUNS && requests_in_flight(service) > 0; i++) {
        (void)run_listener(service->api.http);
        (void)run_listener(service->api.admin);
    }
    worker_pool_free(service->api.workers);
}

static void stop(struct service *service) {
    /* Calls that are under way end now, and their requests are answered. */
    struct history_store *histories = service->api.histories;
    service->api.histories = NULL;
    history_store_close(histories);
    stop_workers(service);
    if (!request_log_stop(service->api.request_log, REQUEST_LOG_STOP_SECONDS)) {
        log_message(LEVEL_WARNING, "drain-timeout",
                    "The request log's disk does not answer: the process ends without it.");
        log_stop();
        _exit(service->status);
    }
    service->api.request_log = NULL;
    if (service->api.models != NULL && !registry_cancel(service->api.models)) {
        log_message(LEVEL_WARNING, "drain-timeout", "The model is still loading: the process ends without it.");
        log_stop();
        _exit(service->status);
    }
    registry_free(service->api.models); /* whose thread wakes the loop */
    if (service->loop != NULL) {
        loop_free(service->loop); /* before the descriptors that it watches */
    }
    if (service->api.http != NULL)
        http_stop(service->api.http);
    else if (service->listening.descriptor >= 0)
        close(service->listening.descriptor);
    listen_remove(&service->listening);
    if (service->api.admin != NULL)
        http_stop(service->api.admin);
    else if (service->admin_listening.descriptor >= 0)
        close(service->admin_listening.descriptor);
    listen_remove(&service->admin_listening);
    free(service->api.description);
    user_cache_free(service->api.cache);
    comparison_free(&service->api.comparison);
}

int service_run(const struct options *options) {
    static struct service service; /* large, and one a process */
    char error[1024];
    service = (struct service){.api = {.options = options, .started = clock_now()},
                               .listening = {.descriptor = -1},
                               .admin_listening = {.descriptor = -1},
                               .due = UINT64_MAX,
                               .admin_due = UINT64_MAX};
    service.api.threads = options->threads > 0 ? options->threads : cpu_quota_threads("");
    comparison_init(&service.api.comparison);
    enter(&service, API_LOADING);
    if (start(&service, error, sizeof error)) {
        service.api.watchdog = watchdog_start(options->watchdog);
        if (service.api.watchdog == NULL)
            log_message(LEVEL_WARNING, "watchdog", "Nothing watches the event loop: %s.", strerror(errno));
        loop_run(service.loop);
        watchdog_stop(service.api.watchdog);
        service.api.watchdog = NULL;
    } else {
        log_message(LEVEL_ERROR, "start-failed", "%s", error);
        service.status = 1;
    }
    stop(&service);
    log_line(LEVEL_INFO, "stopped", LOG_NUMBER("status", service.status));
    return service.status;
}
