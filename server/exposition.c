/* exposition.c: writes each family with its HELP and TYPE, every series of it from the start, with zeros. */
#include "server/exposition.h"

#include "server/cpu_quota.h"
#include "server/process.h"
#include "server/version.h"

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
    family(out, name, "counter", "Scoring requests, and requests for no route, by how they ended.");
    for (unsigned i = 0; i < METRIC_OUTCOMES; i++)
        labelled(out, name, "outcome", metrics_outcome_name(i), (double)metrics_get(&metrics->requests[i]));
    name = "dien_http_responses_total";
    family(out, name, "counter", "All HTTP answers by route and status.");
    for (enum route route = ROUTE_NONE; route < ROUTES; route++) {
        for (unsigned i = 0; i < METRIC_STATUSES; i++) {
            char status[16] = "other";
            if (metric_statuses[i] != 0)
                snprintf(status, sizeof status, "%d", metric_statuses[i]);
            fprintf(out, "%s{route=\"%s\",status=\"%s\"} %llu\n", name, routes_label(route), status,
                    (unsigned long long)metrics_get(&metrics->responses[route][i]));
        }
    }
}

static void write_histogram(FILE *out, const char *name, const char *phase, const struct histogram *histogram) {
    unsigned long long cumulative = 0;
    for (unsigned i = 0; i <= METRIC_BUCKETS; i++) {
        char bound[32] = "+Inf";
        if (i < METRIC_BUCKETS)
            snprintf(bound, sizeof bound, "%g", metric_bucket_bounds[i]);
        cumulative += metrics_get(&histogram->buckets[i]);
        fprintf(out, "%s_bucket{phase=\"%s\",le=\"%s\"} %llu\n", name, phase, bound, cumulative);
    }
    fprintf(out, "%s_sum{phase=\"%s\"} %.9f\n", name, phase, (double)metrics_get(&histogram->nanoseconds) / 1e9);
    fprintf(out, "%s_count{phase=\"%s\"} %llu\n", name, phase, cumulative);
}

static void write_durations(FILE *out, const struct metrics *metrics) {
    const char *name = "dien_request_duration_seconds";
    family(out, name, "histogram",
           "Time of scoring requests by phase. total: headers to the end of the answer, errors and refusals included.");
    for (unsigned phase = 0; phase < METRIC_PHASES; phase++)
        write_histogram(out, name, metrics_phase_name(phase), &metrics->durations[phase]);
}

static void write_scoring(FILE *out, const struct metrics *metrics, const struct metric_gauges *gauges) {
    single(out, "dien_candidates_total", "counter", "Candidates scored.", (double)metrics_get(&metrics->candidates));
    single(out, "dien_behaviours_total", "counter", "Behaviours of the histories used.",
           (double)metrics_get(&metrics->behaviours));
    family(out, "dien_user_states_total", "counter", "User states by how they came about.");
    for (unsigned i = 0; i < METRIC_STATES; i++) {
        labelled(out, "dien_user_states_total", "state", metric_state_names[i],
                 (double)metrics_get(&metrics->states[i]));
    }
    family(out, "dien_unknown_ids_total", "counter", "Ids that the model does not know, by field.");
    for (size_t i = 0; gauges->model_name != NULL && i < metrics->fields; i++) {
        labelled(out, "dien_unknown_ids_total", "field", metrics->unknown_names[i],
                 (double)metrics_get(&metrics->unknown_ids[i]));
    }
    single(out, "dien_queue_depth", "gauge", "Requests that wait for a scoring thread.", (double)gauges->queue_depth);
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
           (double)metrics_get(&metrics->connections_accepted));
    family(out, "dien_connections_closed_total", "counter", "Connections closed, by reason.");
    for (unsigned i = 0; i < CONNECTION_ENDS; i++) {
        labelled(out, "dien_connections_closed_total", "reason", connection_end_names[i],
                 (double)metrics_get(&metrics->connections_ended[i]));
    }
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
    write_connections(out, metrics, gauges);
    write_limits(out, options);
    write_server(out, gauges);
    write_process(out, gauges);
    if (fclose(out) != 0) {
        free(text);
        return NULL;
    }
    return text;
}
