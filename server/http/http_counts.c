/* http_counts.c: where a status and an outcome are counted. */
#include "server/http/http_counts.h"

const int http_statuses[HTTP_STATUSES] = {200, 204, 400, 403, 404, 405, 408, 409, 411, 413,
                                          414, 415, 422, 431, 500, 503, 504, 505, 0};

const char *http_outcome_name(unsigned outcome) {
    return outcome == OUTCOME_CANCELLED ? "cancelled" : problem_slug((enum problem_kind)outcome);
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
