/* metrics_page.h: the metrics as Prometheus reads them: text format 0.0.4. */
#ifndef SERVER_API_METRICS_PAGE_H
#define SERVER_API_METRICS_PAGE_H

#include "server/api/request_log.h"
#include "server/base/log.h"
#include "server/base/loop_turns.h"
#include "server/histories/history_store.h"
#include "server/http/http_counts.h"
#include "server/models/registry.h"
#include "server/options.h"
#include "server/scoring/comparison.h"
#include "server/scoring/scoring_counts.h"

#include <stdbool.h>
#include <stddef.h>

/* Everything that is counted. Initialise with zeros. */
struct metrics {
    struct http_counts http;
    struct scoring_counts scoring;
    struct loop_turns turns;
    struct history_counts histories;
    struct request_log_counts request_log;
};

/* The state of this moment, from the parts that know it. */
struct metric_gauges {
    bool ready, draining;
    double uptime_seconds;
    size_t threads, threads_busy;
    size_t queue_depth;
    double queue_seconds; /* until all of it is taken, as estimated */
    double queue_oldest_seconds;
    size_t requests_in_flight;
    size_t connections, connections_lingering;
    size_t buffered_bytes, reply_buffered_bytes;
    size_t admin_connections, admin_buffered_bytes;
    const struct served_model *live, *previous, *candidate; /* NULL: none */
    double canary_share, shadow_share;
    struct comparison_counts comparison;
    struct registry_counts models;
    bool model_loading;
    size_t model_mapped_bytes, model_packed_bytes, model_prefaulted_bytes;
    double model_prefault_seconds, model_load_seconds;
    const char *kernels, *blas_core;
    uint64_t loop_stalls;
    double cpu_quota; /* CPUs; 0: no quota */
    struct user_cache_counts cache;
    struct log_counts log;
};

#define METRICS_PAGE_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* A malloc'ed text of *size bytes, the caller's; NULL when memory is out. */
char *metrics_page_text(const struct metrics *metrics, const struct metric_gauges *gauges,
                        const struct options *options, size_t *size);

#endif
