/* metrics.c: recording. The text that Prometheus reads is exposition.c's. */
#include "server/api/metrics.h"

#include <string.h>

const double metric_bucket_bounds[METRIC_BUCKETS] = {50e-6,  100e-6, 200e-6, 300e-6, 500e-6, 750e-6, 1e-3,
                                                     1.5e-3, 2e-3,   3e-3,   5e-3,   7.5e-3, 10e-3,  25e-3,
                                                     50e-3,  0.1,    0.25,   1,      2.5,    10};

const int metric_statuses[METRIC_STATUSES] = {200, 204, 400, 404, 405, 408, 409, 411, 413,
                                              414, 415, 422, 431, 500, 503, 504, 505, 0};

const char *metrics_outcome_name(unsigned outcome) {
    return outcome == OUTCOME_CANCELLED ? "cancelled" : problem_slug((enum problem_kind)outcome);
}

const char *metrics_phase_name(unsigned phase) {
    return phase == PHASE_QUEUE ? "queue" : phase == PHASE_TOTAL ? "total" : request_phase_names[phase];
}

static void add_duration(struct histogram *histogram, double seconds) {
    unsigned bucket = 0;
    while (bucket < METRIC_BUCKETS && seconds > metric_bucket_bounds[bucket])
        bucket++;
    metrics_add(&histogram->buckets[bucket], 1);
    metrics_add(&histogram->nanoseconds, seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
}

void metrics_duration(struct metrics *metrics, unsigned phase, double seconds) {
    add_duration(&metrics->durations[phase], seconds);
}

void metrics_response(struct metrics *metrics, enum route route, int status) {
    unsigned place = 0;
    while (place < METRIC_STATUSES - 1 && metric_statuses[place] != status)
        place++;
    metrics_add(&metrics->responses[route][place], 1);
}

static void count_unknown(struct metrics *metrics, const struct proto_unknown *unknown) {
    if (unknown->count == 0)
        return;
    for (size_t i = 0; i < metrics->fields; i++) {
        if (strcmp(metrics->unknown_names[i], unknown->field) == 0) {
            metrics_add(&metrics->unknown_ids[i], unknown->count);
            return;
        }
    }
}

static void count_state(struct metrics *metrics, const struct request_outcome *outcome) {
    add_duration(&metrics->states[outcome->origin], outcome->seconds[PHASE_STATE]);
    if (outcome->has_miss)
        metrics_add(&metrics->misses[outcome->miss], 1);
    metrics_add(&metrics->behaviours, outcome->behaviours);
    for (size_t i = 0; i < outcome->unknown_count; i++)
        count_unknown(metrics, &outcome->unknown[i]);
}

void metrics_scored(struct metrics *metrics, const struct request_outcome *outcome, bool scores) {
    bool good = outcome->problem.kind == PROBLEM_NONE;
    if (scores)
        metrics_duration(metrics, PHASE_DECODE, outcome->seconds[PHASE_DECODE]);
    for (unsigned phase = PHASE_DECODE + 1; scores && good && phase < REQUEST_PHASES; phase++)
        metrics_duration(metrics, phase, outcome->seconds[phase]);
    if (!good)
        return;
    metrics_add(&metrics->candidates, outcome->candidates);
    count_state(metrics, outcome);
}

static void add_name(struct metrics *metrics, const char *name) {
    for (size_t i = 0; i < metrics->fields; i++) {
        if (strcmp(metrics->unknown_names[i], name) == 0) {
            return; /* a field of several groups is one series */
        }
    }
    if (metrics->fields < METRIC_FIELDS)
        metrics->unknown_names[metrics->fields++] = name;
}

void metrics_model(struct metrics *metrics, const struct dien_model *model) {
    for (enum dien_group group = DIEN_USER; group < DIEN_GROUPS; group++) {
        const struct dien_field *const *fields = NULL;
        size_t count = dien_fields(model, group, &fields);
        for (size_t i = 0; i < count; i++) {
            if (fields[i]->kind != DIEN_DENSE)
                add_name(metrics, fields[i]->name);
        }
    }
}
