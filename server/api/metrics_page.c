/* metrics_page.c: one table lists every family in the order of the page; each series is there from the start, with
 * zeros. A row with one series says where its value lies. A row with several has a function that writes them.
 */
#include "server/api/metrics_page.h"

#include "proto/digits.h"
#include "server/base/cpu_quota.h"
#include "server/base/process.h"
#include "server/base/version.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* The sources of one page. */
struct page {
    const struct metrics *metrics;
    const struct metric_gauges *gauges;
    const struct options *options;
    struct process_usage usage;
    struct cpu_throttling throttling;
};

/* The page has a thousand lines and is written on the loop's thread, where fprintf would take half a millisecond. */
static void put(FILE *out, const char *text) {
    fputs_unlocked(text, out);
}

static void put_count(FILE *out, uint64_t count) {
    char text[DIGITS_ROOM];
    fwrite_unlocked(text, 1, digits_of_integer((int64_t)count, text), out);
}

static void put_number(FILE *out, double number) {
    char text[DIGITS_ROOM];
    size_t size = number == 0 ? digits_of_integer(0, text) : digits_of_double(number, text);
    if (size == 0)
        size = (size_t)snprintf(text, sizeof text, "%.15g", number);
    fwrite_unlocked(text, 1, size, out);
}

static void family(FILE *out, const char *name, const char *type, const char *help) {
    const char *const parts[] = {"# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        put(out, parts[i]);
}

/* NAME{LABEL="VALUE"; the caller closes it. */
static void open_series(FILE *out, const char *name, const char *label, const char *value) {
    const char *const parts[] = {name, "{", label, "=\"", value, "\""};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        put(out, parts[i]);
}

static void labelled(FILE *out, const char *name, const char *label, const char *value, double number) {
    open_series(out, name, label, value);
    put(out, "} ");
    put_number(out, number);
    put(out, "\n");
}

/* A label's value, with the escapes of the format. */
static void quoted(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputs(*text == '\n' ? "\\n" : (char[]){*text, '\0'}, out);
    }
    fputc('"', out);
}

static void write_requests(FILE *out, const struct page *page) {
    const struct metrics *metrics = page->metrics;
    const char *name = "dien_requests_total";
    family(out, name, "counter",
           "Requests that score or update a history, and requests for no route, by how they ended.");
    for (unsigned i = 0; i < HTTP_OUTCOMES; i++)
        labelled(out, name, "outcome", http_outcome_name(i), (double)counter_get(&metrics->http.requests[i]));
    name = "dien_http_responses_total";
    family(out, name, "counter", "All HTTP answers by route and status.");
    for (enum route route = ROUTE_NONE; route < ROUTES; route++) {
        for (unsigned i = 0; i < HTTP_STATUSES; i++) {
            char status[16] = "other";
            if (http_statuses[i] != 0)
                snprintf(status, sizeof status, "%d", http_statuses[i]);
            open_series(out, name, "route", routes_label(route));
            put(out, ",status=\"");
            put(out, status);
            put(out, "\"} ");
            put_count(out, counter_get(&metrics->http.responses[route][i]));
            put(out, "\n");
        }
    }
}

/* The series of a histogram with one label, or with none (NULL). `buckets` is [count + 1], not cumulative. */
struct series {
    const char *name, *label, *value;
    size_t count;
    const double *bounds;
    double sum;
};

static void write_label(FILE *out, const struct series *series, const char *before, const char *after) {
    if (series->label != NULL) {
        const char *const parts[] = {before, series->label, "=\"", series->value, "\"", after};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
            put(out, parts[i]);
    }
}

static void write_end(FILE *out, const struct series *series, const char *suffix) {
    put(out, series->name);
    put(out, suffix);
    write_label(out, series, "{", "}");
    put(out, " ");
}

static void write_series(FILE *out, const struct series *series, const uint64_t *buckets) {
    uint64_t cumulative = 0;
    for (size_t i = 0; i <= series->count; i++) {
        cumulative += buckets[i];
        put(out, series->name);
        put(out, "_bucket{");
        write_label(out, series, "", ",");
        put(out, "le=\"");
        if (i < series->count)
            put_number(out, series->bounds[i]);
        else
            put(out, "+Inf");
        put(out, "\"} ");
        put_count(out, cumulative);
        put(out, "\n");
    }
    write_end(out, series, "_sum");
    fprintf(out, "%.9f\n", series->sum);
    write_end(out, series, "_count");
    put_count(out, cumulative);
    put(out, "\n");
}

static void write_histogram(FILE *out, const char *name, const char *label, const char *value,
                            const struct histogram *histogram) {
    uint64_t buckets[HISTOGRAM_BUCKETS + 1];
    for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++)
        buckets[i] = counter_get(&histogram->buckets[i]);
    struct series series = {
        name, label, value, HISTOGRAM_BUCKETS, histogram_bounds, (double)counter_get(&histogram->nanoseconds) / 1e9};
    write_series(out, &series, buckets);
}

static void write_durations(FILE *out, const struct page *page) {
    const struct metrics *metrics = page->metrics;
    const char *name = "dien_request_duration_seconds";
    family(out, name, "histogram",
           "Time of scoring requests by phase. total: headers to the end of the answer, errors and refusals included.");
    for (unsigned phase = 0; phase < REQUEST_PHASES; phase++)
        write_histogram(out, name, "phase", request_phase_names[phase], &metrics->scoring.phases[phase]);
}

/* The states' counters are the histogram's, by a name of their own: it is the ratio that people look at first. */
static void write_states(FILE *out, const struct page *page) {
    const struct metrics *metrics = page->metrics;
    const char *name = "dien_user_states_total";
    family(out, name, "counter", "User states by how they came about.");
    for (unsigned i = 0; i < USER_ORIGINS; i++) {
        uint64_t count = 0;
        for (unsigned j = 0; j <= HISTOGRAM_BUCKETS; j++)
            count += counter_get(&metrics->scoring.states[i].buckets[j]);
        labelled(out, name, "state", user_origin_names[i], (double)count);
    }
    name = "dien_user_state_misses_total";
    family(out, name, "counter", "Users' states that had to be computed, by why the state held was of no use.");
    for (unsigned i = 0; i < USER_MISSES; i++)
        labelled(out, name, "reason", user_miss_names[i], (double)counter_get(&metrics->scoring.misses[i]));
    name = "dien_user_state_duration_seconds";
    family(out, name, "histogram", "Time to get a user state, by how it came about.");
    for (unsigned i = 0; i < USER_ORIGINS; i++)
        write_histogram(out, name, "state", user_origin_names[i], &metrics->scoring.states[i]);
}

static void write_eviction_ages(FILE *out, const struct page *page) {
    const struct user_cache_counts *cache = &page->gauges->cache;
    struct series ages = {
        "dien_cache_eviction_age_seconds", NULL, NULL, USER_CACHE_AGES, user_cache_age_bounds, cache->age_seconds};
    family(out, ages.name, "histogram", "Time since a state dropped for lack of room was last used.");
    write_series(out, &ages, cache->ages);
}

static void write_unknown_ids(FILE *out, const struct page *page) {
    const struct scoring_counts *counts = &page->metrics->scoring;
    family(out, "dien_unknown_ids_total", "counter", "Ids that the model does not know, by field.");
    for (size_t i = 0; i < counts->fields; i++) {
        labelled(out, "dien_unknown_ids_total", "field", counts->unknown_names[i],
                 (double)counter_get(&counts->unknown_ids[i]));
    }
}

static void write_refusals(FILE *out, const struct page *page) {
    family(out, "dien_refusals_total", "counter", "Requests refused as saturated, by the limit that they met.");
    for (unsigned i = JOB_ADMITTED + 1; i < JOB_CLIENT_GONE; i++)
        labelled(out, "dien_refusals_total", "limit", job_refusal_names[i],
                 (double)counter_get(&page->metrics->scoring.refusals[i]));
}

static void write_history_calls(FILE *out, const struct page *page) {
    const struct history_counts *counts = &page->metrics->histories;
    const struct {
        const char *call;
        const _Atomic uint64_t *by_status;
    } calls[] = {{"get", counts->gets}, {"append", counts->appends}, {"delete", counts->deletes}};
    family(out, "dien_histories_calls_total", "counter", "Calls of the history store by their result.");
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        for (unsigned j = 0; j < HISTORY_STATUSES; j++)
            fprintf(out, "dien_histories_calls_total{call=\"%s\",result=\"%s\"} %.17g\n", calls[i].call,
                    history_status_names[j], (double)counter_get(&calls[i].by_status[j]));
    family(out, "dien_histories_changes_total", "counter", "Changes of stored histories by their outcome.");
    labelled(out, "dien_histories_changes_total", "outcome", "applied", (double)counter_get(&counts->applied));
    labelled(out, "dien_histories_changes_total", "outcome", "duplicate", (double)counter_get(&counts->duplicates));
    labelled(out, "dien_histories_changes_total", "outcome", "refused", (double)counter_get(&counts->refused));
    family(out, "dien_histories_states_dropped_total", "counter",
           "States in memory whose record the history store no longer has, by reason.");
    for (unsigned i = DROP_NONE + 1; i < STATE_DROPS; i++)
        labelled(out, "dien_histories_states_dropped_total", "reason", state_drop_names[i],
                 (double)counter_get(&page->metrics->scoring.dropped_states[i]));
    family(out, "dien_events_total", "counter", "Events of POST /events by their outcome.");
    for (size_t i = 0; i < HISTORY_OUTCOMES; i++)
        labelled(out, "dien_events_total", "outcome", event_outcome_names[i],
                 (double)counter_get(&page->metrics->scoring.events[i]));
    family(out, "dien_histories_duration_seconds", "histogram", "Time until the history store's result.");
    write_histogram(out, "dien_histories_duration_seconds", "call", "get", &counts->get_seconds);
    write_histogram(out, "dien_histories_duration_seconds", "call", "change", &counts->change_seconds);
}

static void write_closed_connections(FILE *out, const struct page *page) {
    family(out, "dien_connections_closed_total", "counter", "Connections closed, by reason.");
    for (unsigned i = 0; i < CONNECTION_ENDS; i++) {
        labelled(out, "dien_connections_closed_total", "reason", connection_end_names[i],
                 (double)counter_get(&page->metrics->http.connections_ended[i]));
    }
}

static void write_dropped_bodies(FILE *out, const struct page *page) {
    family(out, "dien_bodies_dropped_total", "counter",
           "Large bodies given up before they were whole: too slow, or in the way of others.");
    for (unsigned i = 0; i < BODY_DROPS; i++)
        labelled(out, "dien_bodies_dropped_total", "reason", body_drop_names[i],
                 (double)counter_get(&page->metrics->http.bodies_dropped[i]));
}

/* A family holds numbers of one unit, so that they can be compared. */
static void write_limits(FILE *out, const struct page *page) {
    struct options_limit limits[OPTIONS_MAX_LIMITS];
    size_t count = options_limits(page->options, limits);
    for (enum options_unit unit = UNIT_COUNT; unit < OPTIONS_UNITS; unit++) {
        char name[32];
        snprintf(name, sizeof name, "dien_limit_%s", options_unit_names[unit]);
        family(out, name, "gauge", "Limits in force of this unit, by the flag that sets them.");
        for (size_t i = 0; i < count; i++) {
            if (limits[i].unit == unit)
                labelled(out, name, "name", limits[i].flag, limits[i].value);
        }
    }
}

static void write_limits_by_old_names(FILE *out, const struct page *page) {
    struct options_limit limits[OPTIONS_MAX_LIMITS];
    size_t count = options_limits(page->options, limits);
    family(out, "dien_limit", "gauge", "The old name of dien_limit_items, _bytes, _seconds and _ratio.");
    for (size_t i = 0; i < count; i++)
        labelled(out, "dien_limit", "name", limits[i].name, limits[i].value);
}

static void write_turns(FILE *out, const struct page *page) {
    static const char name[] = "dien_loop_turn_seconds";
    family(out, name, "histogram",
           "Time from one poll of the event loop to the next, in which it serves nothing else.");
    write_histogram(out, name, NULL, NULL, &page->metrics->turns.histogram);
}

static void write_build(FILE *out, const struct page *page) {
    family(out, "dien_build_info", "gauge", "What runs: always 1.");
    fputs("dien_build_info{version=\"" SERVER_VERSION "\",compiler=", out);
    quoted(out, __VERSION__);
    fputs(",kernels=", out);
    quoted(out, page->gauges->kernels);
    fputs(",blas_core=", out);
    quoted(out, page->gauges->blas_core);
    fputs("} 1\n", out);
}

static void write_model(FILE *out, const struct page *page) {
    const struct served_model *const models[MODEL_SLOTS] = {[SLOT_LIVE] = page->gauges->live,
                                                            [SLOT_PREVIOUS] = page->gauges->previous,
                                                            [SLOT_CANDIDATE] = page->gauges->candidate};
    family(out, "dien_model_info", "gauge", "The models in memory, by their slot: always 1.");
    for (unsigned i = 0; i < MODEL_SLOTS; i++) {
        if (models[i] == NULL)
            continue;
        fputs("dien_model_info{name=", out);
        quoted(out, dien_name(models[i]->model));
        fputs(",version=", out);
        quoted(out, dien_version(models[i]->model));
        fputs(",precision=", out);
        quoted(out, dien_precision_name(models[i]->model));
        fprintf(out, ",slot=\"%s\",config_sha256=\"%s\",weights_sha256=\"%s\"} 1\n", model_slot_names[i],
                models[i]->config_sha256, models[i]->weights_sha256);
    }
}

static void write_loads(FILE *out, const struct page *page) {
    const struct registry_counts *counts = &page->gauges->models;
    static const char name[] = "dien_model_loads_total";
    family(out, name, "counter", "Loads of a model by their end; busy: not begun, since another was under way.");
    labelled(out, name, "result", "live", (double)counts->lives);
    labelled(out, name, "result", "candidate", (double)counts->candidates);
    labelled(out, name, "result", "refused", (double)counts->refusals);
    labelled(out, name, "result", "busy", (double)counts->busy);
}

/* The sum and the count of numbers that have no buckets. */
static void write_mean(FILE *out, const char *name, const char *top, double sum, uint64_t count) {
    struct series series = {name, top != NULL ? "top" : NULL, top, 0, NULL, sum};
    write_end(out, &series, "_sum");
    fprintf(out, "%.9f\n", sum);
    write_end(out, &series, "_count");
    put_count(out, count);
    put(out, "\n");
}

static void write_candidate_requests(FILE *out, const struct page *page) {
    const struct comparison_counts *counts = &page->gauges->comparison;
    const char *name = "dien_candidate_drops_total";
    family(out, name, "counter", "Candidates dropped, by the reason.");
    for (unsigned i = 0; i < CANDIDATE_DROPS; i++)
        labelled(out, name, "reason", candidate_drop_names[i], (double)page->gauges->models.drops[i]);
    name = "dien_candidate_requests_total";
    family(
        out, name, "counter",
        "Requests of the candidate's share of users, by who answered; live: the candidate's scores were no numbers.");
    labelled(out, name, "answered_by", "candidate", (double)counts->canary_requests);
    labelled(out, name, "answered_by", "live", (double)counts->canary_rescued);
    name = "dien_candidate_shadows_total";
    family(out, name, "counter", "Requests sampled to be scored by the candidate as well, by how that ended.");
    for (unsigned i = 0; i < SHADOW_ENDS; i++)
        labelled(out, name, "end", shadow_end_names[i], (double)counts->shadows[i]);
}

/* All are of the last candidate, and begin anew with each, and with another live model. */
static void write_candidate_comparison(FILE *out, const struct page *page) {
    const struct comparison_counts *counts = &page->gauges->comparison;
    const char *name = "dien_candidate_difference";
    struct series series = {
        name, NULL, NULL, COMPARISON_DIFFERENCES, comparison_difference_bounds, counts->difference_sum};
    family(out, name, "histogram", "Differences between the candidate's scores and the live model's, without sign.");
    write_series(out, &series, counts->differences);
    name = "dien_candidate_score";
    family(out, name, "histogram", "Scores of the same items by both models.");
    for (unsigned i = 0; i < COMPARED; i++) {
        series = (struct series){
            name, "model", compared_names[i], COMPARISON_SCORES, comparison_score_bounds, counts->score_sum[i]};
        write_series(out, &series, counts->scores[i]);
    }
    name = "dien_candidate_overlap";
    family(out, name, "summary", "The part of the live model's first items that are among the candidate's first.");
    for (unsigned i = 0; i < COMPARISON_TOPS; i++) {
        char top[DIGITS_ROOM];
        snprintf(top, sizeof top, "%zu", comparison_tops[i]);
        write_mean(out, name, top, counts->overlap_sum[i], counts->requests);
    }
    name = "dien_candidate_rank_correlation";
    family(out, name, "summary", "Spearman's rank correlation of both orders of a request's items.");
    write_mean(out, name, NULL, counts->correlation_sum, counts->correlations);
    name = "dien_candidate_scoring_seconds";
    family(out, name, "histogram", "The threads' time of scoring a request, without its user's state, by model.");
    for (unsigned i = 0; i < COMPARED; i++) {
        series = (struct series){
            name, "model", compared_names[i], HISTOGRAM_BUCKETS, histogram_bounds, counts->seconds_sum[i]};
        write_series(out, &series, counts->seconds[i]);
    }
}

/* Where a single value lies, and its type there. */
enum source {
    FAMILY,
    COUNTED,
    GAUGE_SIZE,
    GAUGE_COUNT,
    GAUGE_REAL,
    GAUGE_FLAG,
    USAGE,
    THROTTLED_COUNT,
    THROTTLED_SECONDS
};

struct row {
    enum source source;
    size_t offset; /* in the source */
    const char *name, *type, *help;
    void (*write)(FILE *out, const struct page *page); /* FAMILY */
};

#define COUNTED(field)     COUNTED, offsetof(struct metrics, field)
#define GAUGE(type, field) GAUGE_##type, offsetof(struct metric_gauges, field)
#define USAGE(field)       USAGE, offsetof(struct process_usage, field)
#define FAMILY(function)                                                                                               \
    { FAMILY, 0, NULL, NULL, NULL, function }

static const struct row rows[] = {
    FAMILY(write_requests),
    FAMILY(write_durations),
    {COUNTED(scoring.candidates), "dien_candidates_total", "counter", "Candidates scored.", NULL},
    {COUNTED(scoring.behaviours), "dien_behaviours_total", "counter", "Behaviours of the histories used.", NULL},
    FAMILY(write_unknown_ids),
    {GAUGE(SIZE, queue_depth), "dien_queue_depth", "gauge", "Requests that wait for a scoring thread.", NULL},
    {GAUGE(REAL, queue_seconds), "dien_queue_seconds", "gauge",
     "Time until a thread has taken all that wait now, as estimated.", NULL},
    {GAUGE(REAL, queue_oldest_seconds), "dien_queue_oldest_seconds", "gauge",
     "Time for which the oldest of them has waited.", NULL},
    {COUNTED(scoring.departures), "dien_requests_departed_total", "counter",
     "Requests not scored, or not to their end, because their client had left.", NULL},
    FAMILY(write_refusals),
    {COUNTED(scoring.requests_split), "dien_requests_split_total", "counter",
     "Requests whose candidates several threads scored.", NULL},
    {COUNTED(scoring.chunks_helped), "dien_pieces_helped_total", "counter",
     "Pieces of such requests that another thread scored.", NULL},
    {COUNTED(scoring.requests_interleaved), "dien_requests_interleaved_total", "counter",
     "Light requests done between two chunks of a heavy one.", NULL},
    {GAUGE(SIZE, requests_in_flight), "dien_requests_in_flight", "gauge",
     "Requests from their headers to the end of their answer.", NULL},
    {GAUGE(SIZE, threads), "dien_threads", "gauge", "Scoring threads.", NULL},
    {GAUGE(SIZE, threads_busy), "dien_threads_busy", "gauge", "Scoring threads at work.", NULL},
    {GAUGE(SIZE, buffered_bytes), "dien_buffered_bytes", "gauge", "Bytes of request bodies held.", NULL},
    {GAUGE(SIZE, reply_buffered_bytes), "dien_reply_buffered_bytes", "gauge",
     "Bytes of replies that their clients have not taken yet.", NULL},
    FAMILY(write_states),
    {GAUGE(COUNT, cache.entries), "dien_cache_entries", "gauge", "Users whose state is held.", NULL},
    {GAUGE(COUNT, cache.bytes), "dien_cache_bytes", "gauge", "Bytes of the user cache in use, its index included.",
     NULL},
    {GAUGE(COUNT, cache.capacity), "dien_cache_capacity_bytes", "gauge", "Bytes that the user cache may use.", NULL},
    {GAUGE(COUNT, cache.evictions), "dien_cache_evictions_total", "counter", "States dropped for lack of room.", NULL},
    {GAUGE(COUNT, cache.expired), "dien_cache_expired_total", "counter",
     "States dropped because they were older than the time to live.", NULL},
    {GAUGE(COUNT, cache.deleted), "dien_cache_forgotten_total", "counter", "States dropped by DELETE /users/{id}.",
     NULL},
    {GAUGE(COUNT, cache.refused), "dien_cache_refused_total", "counter",
     "States that found no room in the whole cache.", NULL},
    {GAUGE(COUNT, cache.waits), "dien_cache_waits_total", "counter",
     "Requests that waited while another computed their user's state.", NULL},
    FAMILY(write_eviction_ages),
    FAMILY(write_history_calls),
    {COUNTED(histories.pending), "dien_histories_pending", "gauge", "Calls of the history store without a result.",
     NULL},
    {COUNTED(histories.conflicts), "dien_histories_conflicts_total", "counter",
     "Changes that began anew, because another server changed the record meanwhile.", NULL},
    {COUNTED(histories.breaker_open), "dien_histories_breaker_open", "gauge",
     "1 while the history store counts as down, and is not asked.", NULL},
    {COUNTED(histories.breaker_opened), "dien_histories_breaker_opened_total", "counter",
     "Times that it was found to be down.", NULL},
    {COUNTED(histories.syncs), "dien_histories_syncs_total", "counter", "LMDB: syncs of the file.", NULL},
    {COUNTED(histories.sync_failures), "dien_histories_sync_failures_total", "counter",
     "LMDB: syncs that failed and are tried again.", NULL},
    {COUNTED(histories.connects), "dien_histories_connects_total", "counter", "Redis: connections made.", NULL},
    {COUNTED(histories.disconnects), "dien_histories_disconnects_total", "counter", "Redis: connections lost.", NULL},
    {GAUGE(SIZE, connections), "dien_connections", "gauge", "Open connections.", NULL},
    {GAUGE(SIZE, connections_lingering), "dien_connections_lingering", "gauge",
     "Refused connections that are read on until the client is done.", NULL},
    {GAUGE(SIZE, admin_connections), "dien_admin_connections", "gauge", "Open connections to the admin plane.", NULL},
    {GAUGE(SIZE, admin_buffered_bytes), "dien_admin_buffered_bytes", "gauge",
     "Bytes of request bodies that the admin plane holds.", NULL},
    {COUNTED(http.connections_accepted), "dien_connections_accepted_total", "counter", "Connections accepted.", NULL},
    FAMILY(write_closed_connections),
    FAMILY(write_dropped_bodies),
    {GAUGE(COUNT, log.lines), "dien_log_lines_total", "counter", "Lines of the log, those that were dropped included.",
     NULL},
    {GAUGE(COUNT, log.dropped), "dien_log_dropped_total", "counter",
     "Lines of the log that were dropped: nobody read it in time, or it cannot be written.", NULL},
    {COUNTED(request_log.written), "dien_request_log_records_total", "counter", "Records of the request log in a file.",
     NULL},
    {COUNTED(request_log.dropped), "dien_request_log_dropped_total", "counter",
     "Records that are in no file: no room in the buffer, or the disk did not take them.", NULL},
    {COUNTED(request_log.bytes), "dien_request_log_bytes_total", "counter", "Compressed bytes written.", NULL},
    {COUNTED(request_log.removed), "dien_request_log_files_removed_total", "counter",
     "Files that went to stay within --request-log-disk.", NULL},
    {COUNTED(request_log.buffered), "dien_request_log_buffered_bytes", "gauge", "Bytes of records that wait.", NULL},
    FAMILY(write_limits),
    {GAUGE(FLAG, ready), "dien_ready", "gauge", "1 while requests are scored and more are welcome.", NULL},
    {GAUGE(FLAG, draining), "dien_draining", "gauge", "1 once the server was told to stop.", NULL},
    FAMILY(write_turns),
    {GAUGE(COUNT, loop_stalls), "dien_loop_stalls_total", "counter",
     "Times that the event loop stood still for a second or more.", NULL},
    {GAUGE(REAL, uptime_seconds), "dien_uptime_seconds", "gauge", "Time since start.", NULL},
    FAMILY(write_build),
    FAMILY(write_model),
    FAMILY(write_loads),
    {GAUGE(COUNT, models.rollbacks), "dien_model_rollbacks_total", "counter",
     "Times that the previous model became the live one.", NULL},
    {GAUGE(COUNT, models.promotions), "dien_model_promotions_total", "counter",
     "Times that the candidate became the live model.", NULL},
    {GAUGE(REAL, canary_share), "dien_candidate_canary_share", "gauge", "Share of users whom the candidate serves.",
     NULL},
    {GAUGE(REAL, shadow_share), "dien_candidate_shadow_share", "gauge",
     "Share of the live model's requests that the candidate scores as well.", NULL},
    FAMILY(write_candidate_requests),
    FAMILY(write_candidate_comparison),
    {GAUGE(FLAG, model_loading), "dien_model_loading", "gauge", "1 while a model is loaded.", NULL},
    {GAUGE(REAL, model_load_seconds), "dien_model_load_seconds", "gauge", "Time that loading the live model took.",
     NULL},
    {GAUGE(REAL, models.failed_at), "dien_model_last_failure_timestamp_seconds", "gauge",
     "When a model was refused last, in seconds since 1970; 0: never.", NULL},
    {GAUGE(SIZE, model_mapped_bytes), "dien_model_mapped_bytes", "gauge", "Bytes of the model's file that are mapped.",
     NULL},
    {GAUGE(SIZE, model_prefaulted_bytes), "dien_model_prefaulted_bytes", "gauge",
     "Bytes of the model's file that were read into memory before it was ready.", NULL},
    {GAUGE(REAL, model_prefault_seconds), "dien_model_prefault_seconds", "gauge", "Time that this reading took.", NULL},
    {GAUGE(SIZE, model_packed_bytes), "dien_model_packed_bytes", "gauge", "Bytes of weights packed for the kernels.",
     NULL},
    {USAGE(resident_bytes), "process_resident_memory_bytes", "gauge", "Resident memory.", NULL},
    {USAGE(virtual_bytes), "process_virtual_memory_bytes", "gauge", "Virtual memory.", NULL},
    {USAGE(cpu_seconds), "process_cpu_seconds_total", "counter", "User and system CPU time.", NULL},
    {USAGE(start_time_seconds), "process_start_time_seconds", "gauge", "Start, in seconds since 1970.", NULL},
    {USAGE(open_descriptors), "process_open_fds", "gauge", "Open descriptors.", NULL},
    {USAGE(max_descriptors), "process_max_fds", "gauge", "The limit of open descriptors.", NULL},
    {USAGE(threads), "process_threads", "gauge", "Threads of the process.", NULL},
    {GAUGE(REAL, cpu_quota), "dien_cpu_quota", "gauge", "CPUs that the cgroup allows; 0: no quota.", NULL},
    {THROTTLED_COUNT, 0, "dien_cpu_throttled_periods_total", "counter", "Periods in which the cgroup ran out of CPU.",
     NULL},
    {THROTTLED_SECONDS, 0, "dien_cpu_throttled_seconds_total", "counter",
     "Time for which the cgroup's threads stood still.", NULL},
};

/* Names of the version before; --old-names off leaves them out. */
static const struct row old_rows[] = {
    {COUNTED(scoring.requests_interleaved), "dien_requests_aside_total", "counter",
     "The old name of dien_requests_interleaved_total.", NULL},
    FAMILY(write_limits_by_old_names),
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static double value_of(const struct row *row, const struct page *page) {
    const char *gauge = (const char *)page->gauges + row->offset;
    switch (row->source) {
    case COUNTED:
        return (double)counter_get((const void *)((const char *)page->metrics + row->offset));
    case GAUGE_SIZE:
        return (double)*(const size_t *)(const void *)gauge;
    case GAUGE_COUNT:
        return (double)*(const uint64_t *)(const void *)gauge;
    case GAUGE_REAL:
        return *(const double *)(const void *)gauge;
    case GAUGE_FLAG:
        return *(const bool *)gauge;
    case USAGE:
        return *(const double *)(const void *)((const char *)&page->usage + row->offset);
    case THROTTLED_COUNT:
        return (double)page->throttling.count;
    case THROTTLED_SECONDS:
        return page->throttling.seconds;
    case FAMILY:
        break;
    }
    return 0;
}

static void write_rows(FILE *out, const struct page *page, const struct row *table, size_t count) {
    for (const struct row *row = table; row < table + count; row++) {
        if (row->source == FAMILY) {
            row->write(out, page);
            continue;
        }
        family(out, row->name, row->type, row->help);
        put(out, row->name);
        put(out, " ");
        put_number(out, value_of(row, page));
        put(out, "\n");
    }
}

char *metrics_page_text(const struct metrics *metrics, const struct metric_gauges *gauges,
                        const struct options *options, size_t *size) {
    struct page page = {
        .metrics = metrics, .gauges = gauges, .options = options, .throttling = cpu_quota_throttling("")};
    char *text = NULL;
    FILE *out = open_memstream(&text, size);
    if (out == NULL)
        return NULL;
    process_read(&page.usage, gauges->connections + gauges->connections_lingering);
    write_rows(out, &page, rows, COUNT(rows));
    if (options->old_names)
        write_rows(out, &page, old_rows, COUNT(old_rows));
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
