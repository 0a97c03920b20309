/* http_counts.c: where a status and an outcome are counted. */
#include "server/http/http_counts.h"

const int http_statuses[HTTP_STATUSES] = {200, 202, 204, 400, 401, 403, 404, 405, 408, 409, 411,
                                          413, 414, 415, 422, 431, 500, 503, 504, 505, 507, 0};

const char *const body_drop_names[BODY_DROPS] = {[BODY_DROPPED_SLOW] = "slow", [BODY_DROPPED_FULL] = "full"};

const char *http_outcome_name(unsigned outcome) {
    static const char *const names[HTTP_OUTCOMES] = {
        [OUTCOME_CANCELLED] = "cancelled",         [OUTCOME_CLIENT_GONE] = "client_gone",
        [OUTCOME_REPLY_TIMEOUT] = "reply_timeout", [OUTCOME_REPLY_DROPPED] = "reply_dropped",
        [OUTCOME_REPLY_FAILED] = "reply_failed",   [OUTCOME_SHUTDOWN] = "shutdown",
    };
    return outcome >= PROBLEM_KINDS ? names[outcome] : problem_slug((enum problem_kind)outcome);
}

void http_counts_request(struct http_counts *counts, enum route route, int status, unsigned outcome) {
    unsigned index = 0;
    while (index < HTTP_STATUSES - 1 && http_statuses[index] != status)
        index++;
    if (status != 0)
        counter_add(&counts->responses[route][index], 1);
    if (routes_has_body(route) || route == ROUTE_NONE)
        counter_add(&counts->requests[outcome], 1);
}
