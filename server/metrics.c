/* metrics.c: recording. The text that Prometheus reads is exposition.c's. */
#include "server/metrics.h"

#include <string.h>

const double metric_bucket_bounds[METRIC_BUCKETS] = {50e-6,  100e-6, 200e-6, 300e-6, 500e-6, 750e-6, 1e-3,
                                                     1.5e-3, 2e-3,   3e-3,   5e-3,   7.5e-3, 10e-3,  25e-3,
                                                     50e-3,  0.1,    0.25,   1,      2.5,    10};

const int metric_statuses[METRIC_STATUSES] = {200, 400, 404, 405, 408, 411, 413, 414,
                                              415, 422, 431, 500, 503, 504, 505, 0};

const char *const metric_state_names[METRIC_STATES] = {"computed", "extended", "cached"};

const char *metrics_outcome_name(unsigned outcome) {
    return outcome == OUTCOME_CANCELLED ? "cancelled" : problem_slug((enum problem_kind)outcome);
}

const char *metrics_phase_name(unsigned phase) {
    return phase == PHASE_QUEUE ? "queue" : phase == PHASE_TOTAL ? "total" : request_phase_names[phase];
}

void metrics_duration(struct metrics *metrics, unsigned phase, double seconds) {
    unsigned bucket = 0;
    while (bucket < METRIC_BUCKETS && seconds > metric_bucket_bounds[bucket])
        bucket++;
    struct histogram *histogram = &metrics->durations[phase];
    metrics_add(&histogram->buckets[bucket], 1);
    metrics_add(&histogram->nanoseconds, seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
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

void metrics_scored(struct metrics *metrics, const struct request_outcome *outcome) {
    metrics_duration(metrics, PHASE_DECODE, outcome->seconds[PHASE_DECODE]);
    if (outcome->problem.kind != PROBLEM_NONE)
        return;
    for (unsigned phase = PHASE_DECODE + 1; phase < REQUEST_PHASES; phase++)
        metrics_duration(metrics, phase, outcome->seconds[phase]);
    metrics_add(&metrics->candidates, outcome->candidates);
    metrics_add(&metrics->behaviours, outcome->behaviours);
    for (size_t i = 0; i < METRIC_STATES; i++) {
        if (strcmp(metric_state_names[i], outcome->user_state) == 0)
            metrics_add(&metrics->states[i], 1);
    }
    for (size_t i = 0; i < outcome->unknown_count; i++)
        count_unknown(metrics, &outcome->unknown[i]);
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
