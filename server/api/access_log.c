/* access_log.c: requests for health, metrics and the like are not scoring requests: they are counted by route and
 * status only, and their log lines are for debugging.
 */
#include "server/api/access_log.h"

#include "server/base/clock.h"
#include "server/base/log.h"

#include <math.h>

static bool is_scoring(const struct exchange *exchange) {
    return routes_has_body(exchange->route) || exchange->route == ROUTE_NONE;
}

static unsigned outcome_of(const struct answer *answer) {
    return answer->status == 0 ? OUTCOME_CANCELLED : (unsigned)answer->problem;
}

/* Left out of the line where there is no text. */
static struct proto_member text_member(const char *name, const char *text) {
    bool there = text != NULL && *text != '\0';
    return (struct proto_member){.name = name, .string = there ? text : NULL, .number = NAN};
}

static void log_access(const struct exchange *exchange, enum log_level level, double seconds) {
    const struct answer *answer = &exchange->answer;
    bool scored = answer->status == 200 && routes_has_body(exchange->route);
    bool good = answer->status != 0 && answer->problem == PROBLEM_NONE;
    log_line(level, "request", text_member("request_id", exchange->request_id), text_member("method", exchange->method),
             text_member("path", exchange->path), LOG_NUMBER("status", answer->status), LOG_NUMBER("seconds", seconds),
             LOG_NUMBER("candidates", scored ? (double)exchange->job.candidates : NAN),
             LOG_NUMBER("behaviours", scored ? (double)exchange->job.behaviours : NAN),
             text_member("user_state", exchange->job.user_state),
             text_member("problem", good ? NULL : metrics_outcome_name(outcome_of(answer))));
}

void account_exchange(const struct exchange *exchange, struct metrics *metrics, bool access_log) {
    const struct answer *answer = &exchange->answer;
    double seconds = exchange->began != 0 ? clock_seconds(clock_now() - exchange->began) : 0;
    enum log_level level = is_scoring(exchange) ? LEVEL_INFO : LEVEL_DEBUG;
    if (answer->status != 0)
        metrics_response(metrics, exchange->route, answer->status);
    if (is_scoring(exchange))
        metrics_add(&metrics->requests[outcome_of(answer)], 1);
    if (exchange->route == ROUTE_SCORE)
        metrics_duration(metrics, PHASE_TOTAL, seconds);
    if (access_log && log_wanted(level))
        log_access(exchange, level, seconds);
}
