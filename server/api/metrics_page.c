/* metrics_page.c: writes each family with its HELP and TYPE, every series of it from the start, with zeros. */
#include "server/api/metrics_page.h"

#include "server/base/cpu_quota.h"
#include "server/base/process.h"
#include "server/base/version.h"

#include <stdio.h>
#include <stdlib.h>

static void family(FILE *out, const char *name, const char *type, const char *help) {
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void single(FILE *out, const char *name, const char *type, const char *help, double value) {
    family(out, name, type, help);
    fprintf(out, "%s %.15g\n", name, value);
}

static void labelled(FILE *out, const char *name, const char *label, const char *value, double number) {
    fprintf(out, "%s{%s=\"%s\"} %.15g\n", name, label, value, number);
}

/* A label's value, with what the format wants escaped. */
static void quoted(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', out);
        fputs(*text == '\n' ? "\\n" : (char[]){*text, '\0'}, out);
    }
    fputc('"', out);
}

static void write_requests(FILE *out, const struct metrics *metrics) {
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
            fprintf(out, "%s{route=\"%s\",status=\"%s\"} %llu\n", name, routes_label(route), status,
                    (unsigned long long)counter_get(&metrics->http.responses[route][i]));
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

static void write_label(FILE *out, const struct series *series, const char *after) {
    if (series->label != NULL)
        fprintf(out, "%s=\"%s\"%s", series->label, series->value, after);
}

static void write_end(FILE *out, const struct series *series, const char *suffix) {
    fprintf(out, "%s%s", series->name, suffix);
    if (series->label != NULL)
        fprintf(out, "{%s=\"%s\"}", series->label, series->value);
}

static void write_series(FILE *out, const struct series *series, const uint64_t *buckets) {
    unsigned long long cumulative = 0;
    for (size_t i = 0; i <= series->count; i++) {
        char bound[32] = "+Inf";
        if (i < series->count)
            snprintf(bound, sizeof bound, "%g", series->bounds[i]);
        cumulative += buckets[i];
        fprintf(out, "%s_bucket{", series->name);
        write_label(out, series, ",");
        fprintf(out, "le=\"%s\"} %llu\n", bound, cumulative);
    }
    write_end(out, series, "_sum");
    fprintf(out, " %.9f\n", series->sum);
    write_end(out, series, "_count");
    fprintf(out, " %llu\n", cumulative);
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

static void write_durations(FILE *out, const struct metrics *metrics) {
    const char *name = "dien_request_duration_seconds";
    family(out, name, "histogram",
           "Time of scoring requests by phase. total: headers to the end of the answer, errors and refusals included.");
    for (unsigned phase = 0; phase < REQUEST_PHASES; phase++)
        write_histogram(out, name, "phase", request_phase_names[phase], &metrics->scoring.phases[phase]);
}

/* The states' counters are the histogram's, by a name of their own: it is the ratio that people look at first. */
static void write_states(FILE *out, const struct metrics *metrics) {
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

static void write_cache(FILE *out, const struct user_cache_counts *cache) {
    single(out, "dien_cache_entries", "gauge", "Users whose state is held.", (double)cache->entries);
    single(out, "dien_cache_bytes", "gauge", "Bytes of the user cache in use, its index included.",
           (double)cache->bytes);
    single(out, "dien_cache_capacity_bytes", "gauge", "Bytes that the user cache may use.", (double)cache->capacity);
    single(out, "dien_cache_evictions_total", "counter", "States dropped for lack of room.", (double)cache->evictions);
    single(out, "dien_cache_expired_total", "counter", "States dropped because they were older than the time to live.",
           (double)cache->expired);
    single(out, "dien_cache_forgotten_total", "counter", "States dropped by DELETE /users/{id}.",
           (double)cache->deleted);
    single(out, "dien_cache_refused_total", "counter", "States that found no room in the whole cache.",
           (double)cache->refused);
    single(out, "dien_cache_waits_total", "counter", "Requests that waited while another computed their user's state.",
           (double)cache->waits);
    struct series ages = {
        "dien_cache_eviction_age_seconds", NULL, NULL, USER_CACHE_AGES, user_cache_age_bounds, cache->age_seconds};
    family(out, ages.name, "histogram", "Time since a state dropped for lack of room was last used.");
    write_series(out, &ages, cache->ages);
}

static void write_scoring(FILE *out, const struct metrics *metrics, const struct metric_gauges *gauges) {
    single(out, "dien_candidates_total", "counter", "Candidates scored.",
           (double)counter_get(&metrics->scoring.candidates));
    single(out, "dien_behaviours_total", "counter", "Behaviours of the histories used.",
           (double)counter_get(&metrics->scoring.behaviours));
    family(out, "dien_unknown_ids_total", "counter", "Ids that the model does not know, by field.");
    for (size_t i = 0; gauges->model_name != NULL && i < metrics->scoring.fields; i++) {
        labelled(out, "dien_unknown_ids_total", "field", metrics->scoring.unknown_names[i],
                 (double)counter_get(&metrics->scoring.unknown_ids[i]));
    }
    single(out, "dien_queue_depth", "gauge", "Requests that wait for a scoring thread.", (double)gauges->queue_depth);
    single(out, "dien_queue_seconds", "gauge", "Time until a thread has taken all that wait now, as estimated.",
           gauges->queue_seconds);
    family(out, "dien_refusals_total", "counter", "Requests refused as saturated, by the limit that they met.");
    for (unsigned i = JOB_ADMITTED + 1; i < JOB_REFUSALS; i++)
        labelled(out, "dien_refusals_total", "limit", job_refusal_names[i],
                 (double)counter_get(&metrics->scoring.refusals[i]));
    single(out, "dien_requests_split_total", "counter", "Requests whose candidates several threads scored.",
           (double)counter_get(&metrics->scoring.requests_split));
    single(out, "dien_pieces_helped_total", "counter", "Pieces of such requests that another thread scored.",
           (double)counter_get(&metrics->scoring.chunks_helped));
    single(out, "dien_requests_interleaved_total", "counter", "Light requests done between two chunks of a heavy one.",
           (double)counter_get(&metrics->scoring.requests_interleaved));
    single(out, "dien_requests_aside_total", "counter", "The old name of dien_requests_interleaved_total.",
           (double)counter_get(&metrics->scoring.requests_interleaved));
    single(out, "dien_requests_in_flight", "gauge", "Requests from their headers to the end of their answer.",
           (double)gauges->requests_in_flight);
    single(out, "dien_threads", "gauge", "Scoring threads.", (double)gauges->threads);
    single(out, "dien_threads_busy", "gauge", "Scoring threads at work.", (double)gauges->threads_busy);
    single(out, "dien_buffered_bytes", "gauge", "Bytes of request bodies held.", (double)gauges->buffered_bytes);
}

static void write_connections(FILE *out, const struct metrics *metrics, const struct metric_gauges *gauges) {
    single(out, "dien_connections", "gauge", "Open connections.", (double)gauges->connections);
    single(out, "dien_connections_lingering", "gauge", "Refused connections that are read on until the client is done.",
           (double)gauges->connections_lingering);
    single(out, "dien_connections_accepted_total", "counter", "Connections accepted.",
           (double)counter_get(&metrics->http.connections_accepted));
    family(out, "dien_connections_closed_total", "counter", "Connections closed, by reason.");
    for (unsigned i = 0; i < CONNECTION_ENDS; i++) {
        labelled(out, "dien_connections_closed_total", "reason", connection_end_names[i],
                 (double)counter_get(&metrics->http.connections_ended[i]));
    }
}

static void write_log(FILE *out, const struct log_counts *log) {
    single(out, "dien_log_lines_total", "counter", "Lines of the log, those that were dropped included.",
           (double)log->lines);
    single(out, "dien_log_dropped_total", "counter",
           "Lines of the log that were dropped: nobody read it in time, or it cannot be written.",
           (double)log->dropped);
}

static void write_limits(FILE *out, const struct options *options) {
    struct options_limit limits[OPTIONS_MAX_LIMITS];
    size_t count = options_limits(options, limits);
    family(out, "dien_limit", "gauge", "Limits in force, by the flag that sets them.");
    for (size_t i = 0; i < count; i++)
        labelled(out, "dien_limit", "name", limits[i].name, limits[i].value);
}

static void write_server(FILE *out, const struct metric_gauges *gauges) {
    single(out, "dien_ready", "gauge", "1 while requests are scored and more are welcome.", gauges->ready);
    single(out, "dien_draining", "gauge", "1 once the server was told to stop.", gauges->draining);
    single(out, "dien_loop_stalls_total", "counter", "Times that the event loop stood still for a second or more.",
           (double)gauges->loop_stalls);
    single(out, "dien_uptime_seconds", "gauge", "Time since start.", gauges->uptime_seconds);
    family(out, "dien_build_info", "gauge", "What runs: always 1.");
    fputs("dien_build_info{version=\"" SERVER_VERSION "\",compiler=", out);
    quoted(out, __VERSION__);
    fputs(",kernels=", out);
    quoted(out, gauges->kernels);
    fputs(",blas_core=", out);
    quoted(out, gauges->blas_core);
    fputs("} 1\n", out);
    family(out, "dien_model_info", "gauge", "The model that is served: always 1.");
    if (gauges->model_name != NULL) {
        fputs("dien_model_info{name=", out);
        quoted(out, gauges->model_name);
        fputs(",version=", out);
        quoted(out, gauges->model_version);
        fputs(",precision=", out);
        quoted(out, gauges->model_precision);
        fputs("} 1\n", out);
    }
    single(out, "dien_model_mapped_bytes", "gauge", "Bytes of the model's file that are mapped.",
           (double)gauges->model_mapped_bytes);
    single(out, "dien_model_packed_bytes", "gauge", "Bytes of weights packed for the kernels.",
           (double)gauges->model_packed_bytes);
}

static void write_process(FILE *out, const struct metric_gauges *gauges) {
    struct process_usage usage;
    struct cpu_throttling throttling = cpu_quota_throttling("");
    process_read(&usage);
    single(out, "process_resident_memory_bytes", "gauge", "Resident memory.", usage.resident_bytes);
    single(out, "process_virtual_memory_bytes", "gauge", "Virtual memory.", usage.virtual_bytes);
    single(out, "process_cpu_seconds_total", "counter", "User and system CPU time.", usage.cpu_seconds);
    single(out, "process_start_time_seconds", "gauge", "Start, in seconds since 1970.", usage.start_time_seconds);
    single(out, "process_open_fds", "gauge", "Open descriptors.", usage.open_descriptors);
    single(out, "process_max_fds", "gauge", "The limit of open descriptors.", usage.max_descriptors);
    single(out, "process_threads", "gauge", "Threads of the process.", usage.threads);
    single(out, "dien_cpu_quota", "gauge", "CPUs that the cgroup allows; 0: no quota.", gauges->cpu_quota);
    single(out, "dien_cpu_throttled_periods_total", "counter", "Periods in which the cgroup ran out of CPU.",
           (double)throttling.count);
    single(out, "dien_cpu_throttled_seconds_total", "counter", "Time for which the cgroup's threads stood still.",
           throttling.seconds);
}

char *exposition_text(const struct metrics *metrics, const struct metric_gauges *gauges, const struct options *options,
                      size_t *size) {
    char *text = NULL;
    FILE *out = open_memstream(&text, size);
    if (out == NULL)
        return NULL;
    write_requests(out, metrics);
    write_durations(out, metrics);
    write_scoring(out, metrics, gauges);
    write_states(out, metrics);
    write_cache(out, &gauges->cache);
    write_connections(out, metrics, gauges);
    write_log(out, &gauges->log);
    write_limits(out, options);
    write_server(out, gauges);
    write_process(out, gauges);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
