/* test_metrics.c: recording, and the text that Prometheus reads. */
#include "server/api/metrics_page.h"

#include <ctype.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct metrics metrics;
static struct options options;
static struct metric_gauges gauges;
static char *text;

static int start(void **state) {
    (void)state;
    char name[] = "dien-server";
    char model[] = "--model=m";
    char *const argv[] = {name, model, NULL};
    char error[128];
    memset(&metrics, 0, sizeof metrics);
    gauges = (struct metric_gauges){.kernels = "ref", .blas_core = "a \"b\" \\ c\nd"};
    text = NULL;
    return options_parse(&options, 2, argv, stdout, error, sizeof error) == OPTIONS_RUN ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    free(text);
    return 0;
}

static void write_text(void) {
    size_t size = 0;
    free(text);
    text = metrics_page_text(&metrics, &gauges, &options, &size);
    assert_non_null(text);
    assert_int_equal(size, strlen(text));
}

/* The value of a series, NaN where there is none. */
static double value_of(const char *series) {
    size_t length = strlen(series);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, series, length) == 0 && line[length] == ' ')
            return strtod(line + length, NULL);
    }
    return NAN;
}

static void assert_value(const char *series, double expected) {
    double value = value_of(series);
    if (!(fabs(value - expected) < 1e-9))
        fail_msg("%s is %g, not %g", series, value, expected);
}

static void every_series_is_there_from_the_start(void **state) {
    (void)state;
    write_text();
    for (unsigned i = 0; i < HTTP_OUTCOMES; i++) {
        char series[128];
        snprintf(series, sizeof series, "dien_requests_total{outcome=\"%s\"}", http_outcome_name(i));
        assert_value(series, 0);
    }
    for (unsigned i = 0; i < REQUEST_PHASES; i++) {
        char series[128];
        snprintf(series, sizeof series, "dien_request_duration_seconds_bucket{phase=\"%s\",le=\"5e-05\"}",
                 request_phase_names[i]);
        assert_value(series, 0);
    }
    assert_value("dien_limit_bytes{name=\"max_body\"}", 4 << 20);
    assert_value("dien_connections_closed_total{reason=\"header-timeout\"}", 0);
    for (unsigned i = 0; i < USER_ORIGINS; i++) {
        char series[128];
        snprintf(series, sizeof series, "dien_user_states_total{state=\"%s\"}", user_origin_names[i]);
        assert_value(series, 0);
        snprintf(series, sizeof series, "dien_user_state_duration_seconds_count{state=\"%s\"}", user_origin_names[i]);
        assert_value(series, 0);
    }
    for (unsigned i = 0; i < USER_MISSES; i++) {
        char series[128];
        snprintf(series, sizeof series, "dien_user_state_misses_total{reason=\"%s\"}", user_miss_names[i]);
        assert_value(series, 0);
    }
    static const char *const cache[] = {"entries",
                                        "bytes",
                                        "capacity_bytes",
                                        "evictions_total",
                                        "expired_total",
                                        "forgotten_total",
                                        "refused_total",
                                        "waits_total",
                                        "eviction_age_seconds_bucket{le=\"1\"}",
                                        "eviction_age_seconds_count"};
    for (size_t i = 0; i < sizeof cache / sizeof cache[0]; i++) {
        char series[128];
        snprintf(series, sizeof series, "dien_cache_%s", cache[i]);
        assert_value(series, 0);
    }
    assert_value("dien_http_responses_total{route=\"/score\",status=\"200\"}", 0);
    assert_value("dien_http_responses_total{route=\"/users/{id}\",status=\"204\"}", 0);
    assert_true(value_of("process_resident_memory_bytes") > 0);
    assert_true(value_of("process_start_time_seconds") > 1e9);
    assert_true(value_of("process_open_fds") >= 3);
}

/* Bounds are upper bounds and belong to their bucket; buckets are cumulative. */
static void histograms_add_up(void **state) {
    (void)state;
    histogram_add(&metrics.scoring.phases[PHASE_SCORE], 0);
    histogram_add(&metrics.scoring.phases[PHASE_SCORE], 50e-6);
    histogram_add(&metrics.scoring.phases[PHASE_SCORE], 51e-6);
    histogram_add(&metrics.scoring.phases[PHASE_SCORE], 0.004);
    histogram_add(&metrics.scoring.phases[PHASE_SCORE], 100);
    write_text();
#define SERIES(suffix) "dien_request_duration_seconds_" suffix
    assert_value(SERIES("bucket{phase=\"score\",le=\"5e-05\"}"), 2);
    assert_value(SERIES("bucket{phase=\"score\",le=\"0.0001\"}"), 3);
    assert_value(SERIES("bucket{phase=\"score\",le=\"0.003\"}"), 3);
    assert_value(SERIES("bucket{phase=\"score\",le=\"0.005\"}"), 4);
    assert_value(SERIES("bucket{phase=\"score\",le=\"10\"}"), 4);
    assert_value(SERIES("bucket{phase=\"score\",le=\"+Inf\"}"), 5);
    assert_value(SERIES("count{phase=\"score\"}"), 5);
    assert_value(SERIES("sum{phase=\"score\"}"), 100.004101);
    assert_value(SERIES("count{phase=\"state\"}"), 0);
}

static void responses_have_route_and_status(void **state) {
    (void)state;
    http_counts_request(&metrics.http, ROUTE_SCORE, 200, PROBLEM_NONE);
    http_counts_request(&metrics.http, ROUTE_SCORE, 200, PROBLEM_NONE);
    http_counts_request(&metrics.http, ROUTE_NONE, 404, PROBLEM_NONE);
    http_counts_request(&metrics.http, ROUTE_NONE, 418, PROBLEM_NONE);
    write_text();
    assert_value("dien_http_responses_total{route=\"/score\",status=\"200\"}", 2);
    assert_value("dien_http_responses_total{route=\"other\",status=\"404\"}", 1);
    assert_value("dien_http_responses_total{route=\"other\",status=\"other\"}", 1);
}

/* Every status that a problem has is a label of its own. */
static void every_problem_has_its_status(void **state) {
    (void)state;
    for (enum problem_kind kind = PROBLEM_NONE; kind < PROBLEM_KINDS; kind++) {
        memset(&metrics, 0, sizeof metrics);
        http_counts_request(&metrics.http, ROUTE_SCORE, problem_status(kind), PROBLEM_NONE);
        if (metrics.http.responses[ROUTE_SCORE][HTTP_STATUSES - 1] != 0)
            fail_msg("%s has no status of its own", problem_slug(kind));
    }
}

static void a_scored_request_is_counted(void **state) {
    (void)state;
    const struct proto_unknown unknown[] = {{.field = "item", .count = 2}, {.field = "colour", .count = 0}};
    const struct request request = {
        .summary = {.candidates = 5, .behaviours = 7, .seconds = {1e-3, 2e-3, 3e-3, 4e-3, 5e-3}},
        .state = {.origin = USER_EXTENDED},
        .resolved = {.unknown = unknown, .unknown_count = 2}};
    metrics.scoring.fields = 2;
    metrics.scoring.unknown_names[0] = "colour";
    metrics.scoring.unknown_names[1] = "item";
    scoring_counts_request(&metrics.scoring, &request);
    scoring_counts_request(&metrics.scoring, &request);
    write_text();
    assert_value("dien_candidates_total", 10);
    assert_value("dien_behaviours_total", 14);
    assert_value("dien_user_states_total{state=\"extended\"}", 2);
    assert_value("dien_user_states_total{state=\"computed\"}", 0);
    assert_value("dien_user_state_duration_seconds_sum{state=\"extended\"}", 6e-3);
    assert_value("dien_unknown_ids_total{field=\"item\"}", 4);
    assert_value("dien_unknown_ids_total{field=\"colour\"}", 0);
    assert_value("dien_request_duration_seconds_sum{phase=\"resolve\"}", 4e-3);
    assert_value("dien_request_duration_seconds_sum{phase=\"state\"}", 6e-3);
    assert_value("dien_request_duration_seconds_sum{phase=\"encode\"}", 10e-3);
}

/* The phases are those of scoring; an update of a history has none of them, but its state counts. */
static void an_update_is_no_scoring_request(void **state) {
    (void)state;
    const struct request request = {.path_user = {"u", 1},
                                    .summary = {.behaviours = 3, .seconds = {1e-3, 2e-3, 3e-3}},
                                    .state = {.origin = USER_COMPUTED, .miss = MISS_WINDOW_MOVED},
                                    .has_miss = true};
    scoring_counts_request(&metrics.scoring, &request);
    write_text();
    for (unsigned i = 0; i < REQUEST_PHASES; i++) {
        char series[128];
        snprintf(series, sizeof series, "dien_request_duration_seconds_count{phase=\"%s\"}", request_phase_names[i]);
        assert_value(series, 0);
    }
    assert_value("dien_behaviours_total", 3);
    assert_value("dien_user_states_total{state=\"computed\"}", 1);
    assert_value("dien_user_state_misses_total{reason=\"slid\"}", 1);
    assert_value("dien_user_state_misses_total{reason=\"absent\"}", 0);
}

static void a_state_without_a_key_is_no_miss(void **state) {
    (void)state;
    const struct request request = {.state = {.origin = USER_COMPUTED}};
    scoring_counts_request(&metrics.scoring, &request);
    write_text();
    assert_value("dien_user_states_total{state=\"computed\"}", 1);
    for (unsigned i = 0; i < USER_MISSES; i++) {
        char series[128];
        snprintf(series, sizeof series, "dien_user_state_misses_total{reason=\"%s\"}", user_miss_names[i]);
        assert_value(series, 0);
    }
}

static void the_cache_is_shown(void **state) {
    (void)state;
    gauges.cache = (struct user_cache_counts){
        .entries = 1, .bytes = 2, .capacity = 3, .evictions = 4, .expired = 5, .deleted = 6, .refused = 7, .waits = 8};
    gauges.cache.ages[0] = 1;
    gauges.cache.ages[4] = 2;
    gauges.cache.ages[USER_CACHE_AGES] = 1;
    gauges.cache.age_seconds = 1e7;
    write_text();
    assert_value("dien_cache_entries", 1);
    assert_value("dien_cache_bytes", 2);
    assert_value("dien_cache_capacity_bytes", 3);
    assert_value("dien_cache_evictions_total", 4);
    assert_value("dien_cache_expired_total", 5);
    assert_value("dien_cache_forgotten_total", 6);
    assert_value("dien_cache_refused_total", 7);
    assert_value("dien_cache_waits_total", 8);
    assert_value("dien_cache_eviction_age_seconds_bucket{le=\"1\"}", 1);
    assert_value("dien_cache_eviction_age_seconds_bucket{le=\"10\"}", 1);
    assert_value("dien_cache_eviction_age_seconds_bucket{le=\"60\"}", 3);
    assert_value("dien_cache_eviction_age_seconds_bucket{le=\"+Inf\"}", 4);
    assert_value("dien_cache_eviction_age_seconds_count", 4);
    assert_value("dien_cache_eviction_age_seconds_sum", 1e7);
}

/* A request that failed in decoding has no later phases. */
static void a_failed_request_counts_its_decoding(void **state) {
    (void)state;
    const struct request request = {.summary = {.seconds = {1e-3}}, .problem = {.kind = PROBLEM_INVALID_JSON}};
    scoring_counts_request(&metrics.scoring, &request);
    write_text();
    assert_value("dien_request_duration_seconds_count{phase=\"decode\"}", 1);
    assert_value("dien_request_duration_seconds_count{phase=\"score\"}", 0);
    assert_value("dien_user_states_total{state=\"computed\"}", 0);
}

static void the_log_is_shown(void **state) {
    (void)state;
    gauges.log = (struct log_counts){.lines = 7, .dropped = 3};
    write_text();
    assert_value("dien_log_lines_total", 7);
    assert_value("dien_log_dropped_total", 3);
    assert_value("dien_limit_bytes{name=\"log_buffer\"}", 1 << 20);
}

/* A family has one unit; the flag's own name says it, whatever words the flag ends with. */
static void limits_have_a_family_for_each_unit(void **state) {
    (void)state;
    write_text();
    assert_value("dien_limit_items{name=\"max_candidates\"}", 4096);
    assert_value("dien_limit_bytes{name=\"cache_bytes\"}", 256 << 20);
    assert_value("dien_limit_seconds{name=\"deadline\"}", 1);
    assert_value("dien_limit_ratio{name=\"samples_tolerance\"}", 1e-5);
}

/* They have the values of the new ones, and --old-names off leaves them out. */
static void old_names_stay_for_a_version(void **state) {
    (void)state;
    metrics.scoring.requests_interleaved = 3;
    write_text();
    assert_value("dien_requests_interleaved_total", 3);
    assert_value("dien_requests_aside_total", 3);
    assert_value("dien_limit{name=\"max_body_bytes\"}", 4 << 20);
    assert_value("dien_limit{name=\"cache_bytes_bytes\"}", 256 << 20);
    options.old_names = false;
    write_text();
    assert_value("dien_requests_interleaved_total", 3);
    assert_null(strstr(text, "dien_requests_aside_total"));
    assert_null(strstr(text, "dien_limit{"));
    assert_null(strstr(text, "old name"));
}

/* A quantile is known within the ratio of two neighbouring bounds. */
static void buckets_have_no_gaps(void **state) {
    (void)state;
    for (unsigned i = 1; i < HISTOGRAM_BUCKETS; i++) {
        double ratio = histogram_bounds[i] / histogram_bounds[i - 1];
        if (ratio <= 1 || ratio > 2 + 1e-9)
            fail_msg("%g comes after %g", histogram_bounds[i], histogram_bounds[i - 1]);
    }
    for (unsigned i = 1; i < USER_CACHE_AGES; i++) {
        double ratio = user_cache_age_bounds[i] / user_cache_age_bounds[i - 1];
        if (ratio <= 1 || ratio > 10. / 3 + 1e-9)
            fail_msg("%g comes after %g", user_cache_age_bounds[i], user_cache_age_bounds[i - 1]);
    }
}

static void labels_are_escaped(void **state) {
    (void)state;
    write_text();
    assert_non_null(strstr(text, "blas_core=\"a \\\"b\\\" \\\\ c\\nd\"} 1\n"));
}

/* The name in "# TYPE name type" or "name{labels} value". */
static size_t name_length(const char *name) {
    size_t length = 0;
    while (isalnum((unsigned char)name[length]) || name[length] == '_')
        length++;
    return length;
}

/* Each line is a comment of a family or a series of the family that was announced last. */
static void families_are_in_order(void **state) {
    (void)state;
    char family[128] = "";
    write_text();
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "# HELP ", 7) == 0) {
            snprintf(family, sizeof family, "%.*s", (int)name_length(line + 7), line + 7);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            assert_memory_equal(line + 7, family, name_length(line + 7));
        } else if (strncmp(line, family, strlen(family)) != 0 || strrchr(line, ' ') == NULL) {
            fail_msg("\"%s\" is not of %s", line, family);
        }
    }
}

static void *record_many(void *unused) {
    for (int i = 0; i < 20000; i++) {
        histogram_add(&metrics.scoring.phases[PHASE_QUEUE], i % 2 == 0 ? 1e-5 : 1.0);
        counter_add(&metrics.scoring.candidates, 3);
    }
    return unused;
}

static void threads_lose_nothing(void **state) {
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, record_many, NULL), 0);
    write_text(); /* a scrape in between harms nobody */
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    write_text();
    assert_value("dien_candidates_total", 240000);
    assert_value("dien_request_duration_seconds_count{phase=\"queue\"}", 80000);
    assert_value("dien_request_duration_seconds_bucket{phase=\"queue\",le=\"5e-05\"}", 40000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_series_is_there_from_the_start, start, stop),
        cmocka_unit_test_setup_teardown(histograms_add_up, start, stop),
        cmocka_unit_test_setup_teardown(responses_have_route_and_status, start, stop),
        cmocka_unit_test_setup_teardown(every_problem_has_its_status, start, stop),
        cmocka_unit_test_setup_teardown(a_scored_request_is_counted, start, stop),
        cmocka_unit_test_setup_teardown(a_failed_request_counts_its_decoding, start, stop),
        cmocka_unit_test_setup_teardown(an_update_is_no_scoring_request, start, stop),
        cmocka_unit_test_setup_teardown(a_state_without_a_key_is_no_miss, start, stop),
        cmocka_unit_test_setup_teardown(the_cache_is_shown, start, stop),
        cmocka_unit_test_setup_teardown(the_log_is_shown, start, stop),
        cmocka_unit_test_setup_teardown(limits_have_a_family_for_each_unit, start, stop),
        cmocka_unit_test_setup_teardown(old_names_stay_for_a_version, start, stop),
        cmocka_unit_test(buckets_have_no_gaps),
        cmocka_unit_test_setup_teardown(labels_are_escaped, start, stop),
        cmocka_unit_test_setup_teardown(families_are_in_order, start, stop),
        cmocka_unit_test_setup_teardown(threads_lose_nothing, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
