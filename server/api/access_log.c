/* access_log.c: requests for health, metrics and the like are not scoring requests: their log lines are for debugging.
 */
#include "server/api/access_log.h"

#include "server/base/clock.h"
#include "server/base/log.h"

#include <math.h>

/* Left out of the line where there is no text. */
static struct proto_member text_member(const char *name, const char *text) {
    bool has_text = text != NULL && *text != '\0';
    return (struct proto_member){.name = name, .string = has_text ? text : NULL, .number = NAN};
}

void access_log_exchange(const struct exchange *exchange, const struct request_summary *summary,
                         struct scoring_counts *counts, enum access_lines lines) {
    const struct answer *answer = &exchange->answer;
    double seconds = exchange->began != 0 ? clock_seconds(clock_now() - exchange->began) : 0;
    bool has_body = routes_has_body(exchange->route), scored = answer->status == 200 && has_body;
    bool changes = exchange->plane == PLANE_ADMIN && routes_changes_state(exchange->method);
    enum log_level level = has_body || changes || exchange->route == ROUTE_NONE ? LEVEL_INFO : LEVEL_DEBUG;
    const char *problem = exchange->outcome == PROBLEM_NONE ? NULL : http_outcome_name(exchange->outcome);
    if (exchange->route == ROUTE_SCORE)
        histogram_add(&counts->phases[PHASE_TOTAL], seconds);
    if (lines == ACCESS_LINES_NONE || !log_wanted(level))
        return;
    bool old = lines == ACCESS_LINES_OLD;
    const char *path = exchange->path;
    log_line(level, "request", text_member("request_id", exchange->request_id),
             text_member("trace_id", exchange->trace.trace_id), text_member("span_id", exchange->trace.span_id),
             text_member("http.request.method", exchange->method),
             text_member("http.route", exchange->route != ROUTE_NONE ? path : NULL),
             text_member("url.path", exchange->route == ROUTE_NONE ? path : NULL),
             LOG_NUMBER("http.response.status_code", answer->status != 0 ? (double)answer->status : NAN),
             LOG_NUMBER("http.server.request.duration", seconds),
             LOG_NUMBER("candidates", scored ? (double)summary->candidates : NAN),
             LOG_NUMBER("behaviours", scored ? (double)summary->behaviours : NAN),
             text_member("user_state", answer->problem == PROBLEM_NONE ? summary->user_state : NULL),
             text_member("error.type", problem),
             LOG_NUMBER("unsent_status", exchange->unsent_status != 0 ? (double)exchange->unsent_status : NAN),
             text_member("method", old ? exchange->method : NULL), text_member("path", old ? path : NULL),
             LOG_NUMBER("status", old ? (double)answer->status : NAN), LOG_NUMBER("seconds", old ? seconds : NAN),
             text_member("problem", old ? problem : NULL));
}
