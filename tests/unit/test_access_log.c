/* test_access_log.c: which counters an exchange moves at its end, and which line it leaves in the log. */
#include "server/api/access_log.h"

#include "server/base/clock.h"
#include "server/base/log.h"

#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static struct exchange exchange;
static char log_text[8192];

/* ---- the only place that knows where counters are */

static struct http_counts http;
static struct scoring_counts scoring;
static struct request_summary summary;

static void account(enum access_lines lines) {
    access_log_exchange(&exchange, &summary, &scoring, lines);
    http_counts_request(&http, exchange.route, exchange.answer.status, exchange.outcome);
}

static size_t requests(unsigned outcome) {
    return counter_get(&http.requests[outcome]);
}

static size_t all_requests(void) {
    size_t sum = 0;
    for (unsigned i = 0; i < HTTP_OUTCOMES; i++)
        sum += requests(i);
    return sum;
}

static size_t responses(enum route route, int status) {
    unsigned place = 0;
    while (http_statuses[place] != status && place < HTTP_STATUSES - 1)
        place++;
    return counter_get(&http.responses[route][place]);
}

static size_t all_responses(void) {
    size_t sum = 0;
    for (unsigned i = 0; i < ROUTES; i++)
        for (unsigned j = 0; j < HTTP_STATUSES; j++)
            sum += counter_get(&http.responses[i][j]);
    return sum;
}

static size_t durations(void) {
    size_t sum = 0;
    for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++)
        sum += counter_get(&scoring.phases[PHASE_TOTAL].buckets[i]);
    return sum;
}

static double duration_seconds(void) {
    return 1e-9 * (double)counter_get(&scoring.phases[PHASE_TOTAL].nanoseconds);
}

static void make_exchange(enum route route, const char *method, const char *path, int status,
                          enum problem_kind problem) {
    memset(&http, 0, sizeof http);
    memset(&scoring, 0, sizeof scoring);
    memset(&summary, 0, sizeof summary);
    memset(&exchange, 0, sizeof exchange);
    exchange.route = route;
    snprintf(exchange.request_id, sizeof exchange.request_id, "id-7");
    snprintf(exchange.method, sizeof exchange.method, "%s", method);
    snprintf(exchange.path, sizeof exchange.path, "%s", path);
    exchange.answer = (struct answer){.status = status, .problem = problem};
    exchange.outcome = status != 0 ? (unsigned)problem : OUTCOME_CANCELLED;
    exchange.began = clock_now() - clock_from_seconds(0.25);
}

static void set_scored(size_t candidates, size_t behaviours, const char *user_state) {
    summary.candidates = candidates;
    summary.behaviours = behaviours;
    summary.user_state = user_state;
}

/* ---- the log */

/* Account for the exchange with standard error in log_text. */
static void account_logged(enum access_lines lines, enum log_level level) {
    int file = memfd_create("log", MFD_CLOEXEC), before = dup(STDERR_FILENO);
    assert_true(file >= 0 && before >= 0);
    dup2(file, STDERR_FILENO);
    log_start(level);
    account(lines);
    log_stop();
    dup2(before, STDERR_FILENO);
    ssize_t size = pread(file, log_text, sizeof log_text - 1, 0);
    log_text[size > 0 ? size : 0] = '\0';
    close(before);
    close(file);
}

/* The one line of the log, as JSON; the caller's. */
static json_t *logged_line(void) {
    account_logged(ACCESS_LINES_OLD, LEVEL_INFO);
    const char *end = strchr(log_text, '\n');
    assert_non_null(end);
    assert_string_equal(end, "\n");
    json_t *line = json_loads(log_text, 0, NULL);
    assert_non_null(line);
    return line;
}

static void assert_member(const json_t *line, const char *name, const char *expected) {
    const char *text = json_string_value(json_object_get(line, name));
    if (expected == NULL)
        assert_null(json_object_get(line, name));
    else if (text == NULL || strcmp(text, expected) != 0)
        fail_msg("%s is %s, not %s", name, text != NULL ? text : "absent", expected);
}

static void assert_number(const json_t *line, const char *name, int expected) {
    const json_t *number = json_object_get(line, name);
    if (expected < 0)
        assert_null(number);
    else if (!json_is_number(number) || (int)json_number_value(number) != expected)
        fail_msg("%s is not %d", name, expected);
}

/* ---- counters */

static void a_scored_request_is_counted_once(void **state) {
    (void)state;
    make_exchange(ROUTE_SCORE, "POST", "/score", 200, PROBLEM_NONE);
    account(ACCESS_LINES_NONE);
    assert_int_equal(requests(PROBLEM_NONE), 1);
    assert_int_equal(all_requests(), 1);
    assert_int_equal(responses(ROUTE_SCORE, 200), 1);
    assert_int_equal(all_responses(), 1);
    assert_int_equal(durations(), 1);
    assert_true(duration_seconds() >= 0.25 && duration_seconds() < 60);
    account(ACCESS_LINES_NONE);
    assert_int_equal(requests(PROBLEM_NONE), 2);
}

static void every_problem_has_its_count(void **state) {
    (void)state;
    for (enum problem_kind kind = PROBLEM_NONE + 1; kind < PROBLEM_KINDS; kind++) {
        make_exchange(ROUTE_SCORE, "POST", "/score", problem_status(kind), kind);
        account(ACCESS_LINES_NONE);
        assert_int_equal(requests(kind), 1);
        assert_int_equal(all_requests(), 1);
        assert_int_equal(responses(ROUTE_SCORE, problem_status(kind)), 1);
        assert_int_equal(durations(), 1);
    }
}

/* There was no answer, so there is no response to count. */
static void a_client_that_left_is_counted_as_cancelled(void **state) {
    (void)state;
    make_exchange(ROUTE_SCORE, "POST", "/score", 0, PROBLEM_NONE);
    account(ACCESS_LINES_NONE);
    assert_int_equal(requests(OUTCOME_CANCELLED), 1);
    assert_int_equal(all_requests(), 1);
    assert_int_equal(all_responses(), 0);
    assert_int_equal(durations(), 1);
}

/* Nor where the answer did not go out whole. */
static void a_lost_reply_is_counted_by_its_reason(void **state) {
    (void)state;
    for (unsigned outcome = OUTCOME_CLIENT_GONE; outcome < HTTP_OUTCOMES; outcome++) {
        make_exchange(ROUTE_SCORE, "POST", "/score", 0, PROBLEM_NONE);
        exchange.outcome = outcome;
        account(ACCESS_LINES_NONE);
        assert_int_equal(requests(outcome), 1);
        assert_int_equal(all_requests(), 1);
        assert_int_equal(all_responses(), 0);
        assert_int_equal(durations(), 1);
    }
}

/* How long an update takes is not how long a score takes. */
static void an_update_has_no_duration(void **state) {
    (void)state;
    make_exchange(ROUTE_HISTORY, "POST", "/users/{id}/history", 200, PROBLEM_NONE);
    account(ACCESS_LINES_NONE);
    assert_int_equal(requests(PROBLEM_NONE), 1);
    assert_int_equal(responses(ROUTE_HISTORY, 200), 1);
    assert_int_equal(durations(), 0);
}

static void a_path_that_is_none_is_a_request(void **state) {
    (void)state;
    make_exchange(ROUTE_NONE, "GET", "/x", 404, PROBLEM_NOT_FOUND);
    account(ACCESS_LINES_NONE);
    assert_int_equal(requests(PROBLEM_NOT_FOUND), 1);
    assert_int_equal(responses(ROUTE_NONE, 404), 1);
    assert_int_equal(durations(), 0);
}

static void health_and_metrics_are_responses_only(void **state) {
    (void)state;
    static const enum route routes[] = {ROUTE_MODEL, ROUTE_HEALTH, ROUTE_LIVE, ROUTE_READY, ROUTE_METRICS, ROUTE_USER};
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        make_exchange(routes[i], "GET", "/x", 200, PROBLEM_NONE);
        account(ACCESS_LINES_NONE);
        assert_int_equal(all_requests(), 0);
        assert_int_equal(responses(routes[i], 200), 1);
        assert_int_equal(durations(), 0);
    }
}

/* A request whose headers never were complete has no beginning. */
static void a_request_that_never_began_took_no_time(void **state) {
    (void)state;
    make_exchange(ROUTE_SCORE, "POST", "/score", 408, PROBLEM_REQUEST_TIMEOUT);
    exchange.began = 0;
    account(ACCESS_LINES_NONE);
    assert_true(duration_seconds() == 0);
    assert_int_equal(durations(), 1);
}

/* ---- lines */

static void the_line_of_a_scored_request(void **state) {
    (void)state;
    make_exchange(ROUTE_SCORE, "POST", "/score", 200, PROBLEM_NONE);
    set_scored(7, 3, "cached");
    json_t *line = logged_line();
    assert_member(line, "event", "request");
    assert_member(line, "level", "info");
    assert_member(line, "request_id", "id-7");
    assert_member(line, "http.request.method", "POST");
    assert_member(line, "http.route", "/score");
    assert_member(line, "url.path", NULL);
    assert_member(line, "user_state", "cached");
    assert_member(line, "error.type", NULL);
    assert_number(line, "http.response.status_code", 200);
    assert_number(line, "candidates", 7);
    assert_number(line, "behaviours", 3);
    double seconds = json_number_value(json_object_get(line, "http.server.request.duration"));
    assert_true(seconds >= 0.25 && seconds < 60);
    json_decref(line);
}

static void the_line_of_a_refused_request(void **state) {
    (void)state;
    make_exchange(ROUTE_SCORE, "POST", "/score", 400, PROBLEM_INVALID_JSON);
    json_t *line = logged_line();
    assert_member(line, "error.type", "invalid-json");
    assert_number(line, "http.response.status_code", 400);
    assert_number(line, "candidates", -1); /* not known, not zero */
    assert_number(line, "behaviours", -1);
    assert_member(line, "user_state", NULL);
    json_decref(line);
}

static void the_line_of_a_client_that_left(void **state) {
    (void)state;
    make_exchange(ROUTE_SCORE, "", "", 0, PROBLEM_NONE);
    exchange.request_id[0] = '\0';
    json_t *line = logged_line();
    assert_member(line, "error.type", "cancelled");
    assert_number(line, "http.response.status_code", -1);
    assert_number(line, "status", 0); /* the old name's way to say it */
    assert_number(line, "candidates", -1);
    assert_member(line, "http.request.method", NULL); /* nothing of it is known */
    assert_member(line, "http.route", NULL);
    assert_member(line, "request_id", NULL);
    json_decref(line);
}

static void the_line_of_a_reply_that_was_not_read(void **state) {
    (void)state;
    make_exchange(ROUTE_SCORE, "POST", "/score", 0, PROBLEM_NONE);
    set_scored(10, 20, "computed");
    exchange.outcome = OUTCOME_REPLY_TIMEOUT;
    exchange.unsent_status = 200;
    json_t *line = logged_line();
    assert_member(line, "error.type", "reply_timeout");
    assert_number(line, "status", 0);
    assert_number(line, "unsent_status", 200);
    json_decref(line);
    make_exchange(ROUTE_SCORE, "POST", "/score", 200, PROBLEM_NONE);
    line = logged_line();
    assert_number(line, "unsent_status", -1);
    json_decref(line);
}

static void an_empty_update_has_its_zeros(void **state) {
    (void)state;
    make_exchange(ROUTE_HISTORY, "POST", "/users/{id}/history", 200, PROBLEM_NONE);
    set_scored(0, 0, "computed");
    json_t *line = logged_line();
    assert_number(line, "candidates", 0);
    assert_number(line, "behaviours", 0);
    assert_member(line, "user_state", "computed");
    json_decref(line);
}

/* A path that is no route has no template: the path itself, as far as the log may show it. */
static void the_line_of_a_path_that_is_none(void **state) {
    (void)state;
    make_exchange(ROUTE_NONE, "GET", "/x/...", 404, PROBLEM_NOT_FOUND);
    json_t *line = logged_line();
    assert_member(line, "url.path", "/x/...");
    assert_member(line, "http.route", NULL);
    assert_member(line, "path", "/x/...");
    json_decref(line);
}

/* Each old name has the value of its new one, and without them the line is shorter by these members alone. */
static void old_names_have_the_same_values(void **state) {
    (void)state;
    static const char *const names[][2] = {{"method", "http.request.method"},
                                           {"path", "http.route"},
                                           {"status", "http.response.status_code"},
                                           {"seconds", "http.server.request.duration"},
                                           {"problem", "error.type"}};
    make_exchange(ROUTE_SCORE, "POST", "/score", 504, PROBLEM_DEADLINE_PASSED);
    json_t *both = logged_line();
    account_logged(ACCESS_LINES, LEVEL_INFO);
    json_t *one = json_loads(log_text, 0, NULL);
    assert_non_null(one);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(json_equal(json_object_get(both, names[i][0]), json_object_get(both, names[i][1])));
        assert_null(json_object_get(one, names[i][0]));
        assert_non_null(json_object_get(one, names[i][1]));
    }
    assert_int_equal(json_object_size(both), json_object_size(one) + sizeof names / sizeof *names);
    json_decref(both);
    json_decref(one);
}

/* Scoring requests at level info, the others at level debug, none with --access-log off. */
static void levels(void **state) {
    (void)state;
    static const struct {
        enum route route;
        enum log_level level;
        enum access_lines lines;
        bool logged;
    } cases[] = {
        {ROUTE_SCORE, LEVEL_INFO, ACCESS_LINES, true},     {ROUTE_HISTORY, LEVEL_INFO, ACCESS_LINES, true},
        {ROUTE_NONE, LEVEL_INFO, ACCESS_LINES, true},      {ROUTE_HEALTH, LEVEL_INFO, ACCESS_LINES, false},
        {ROUTE_USER, LEVEL_INFO, ACCESS_LINES, false},     {ROUTE_METRICS, LEVEL_DEBUG, ACCESS_LINES, true},
        {ROUTE_SCORE, LEVEL_WARNING, ACCESS_LINES, false}, {ROUTE_SCORE, LEVEL_DEBUG, ACCESS_LINES_NONE, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_exchange(cases[i].route, "GET", "/x", 200, PROBLEM_NONE);
        account_logged(cases[i].lines, cases[i].level);
        assert_int_equal(*log_text != '\0', cases[i].logged);
        assert_int_equal(all_responses(), 1); /* whatever is logged */
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scored_request_is_counted_once),
        cmocka_unit_test(every_problem_has_its_count),
        cmocka_unit_test(a_client_that_left_is_counted_as_cancelled),
        cmocka_unit_test(a_lost_reply_is_counted_by_its_reason),
        cmocka_unit_test(the_line_of_a_reply_that_was_not_read),
        cmocka_unit_test(an_update_has_no_duration),
        cmocka_unit_test(a_path_that_is_none_is_a_request),
        cmocka_unit_test(health_and_metrics_are_responses_only),
        cmocka_unit_test(a_request_that_never_began_took_no_time),
        cmocka_unit_test(the_line_of_a_scored_request),
        cmocka_unit_test(the_line_of_a_refused_request),
        cmocka_unit_test(the_line_of_a_client_that_left),
        cmocka_unit_test(an_empty_update_has_its_zeros),
        cmocka_unit_test(the_line_of_a_path_that_is_none),
        cmocka_unit_test(old_names_have_the_same_values),
        cmocka_unit_test(levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
