/* http_counts.h: what HTTP counts: connections, replies by route and status, requests by outcome. */
#ifndef SERVER_HTTP_COUNTS_H
#define SERVER_HTTP_COUNTS_H

#include "proto/problem.h"
#include "server/base/counter.h"
#include "server/http/connections.h"
#include "server/http/routes.h"

/* How a request with a body, or for no route, ended: PROBLEM_NONE is "ok", the other kinds are their slugs, and these
 * more. All but the first of them had an answer that did not go out whole. */
enum {
    OUTCOME_CANCELLED = PROBLEM_KINDS, /* the client left before there was an answer */
    OUTCOME_CLIENT_GONE,               /* the client closed or reset the connection */
    OUTCOME_REPLY_TIMEOUT,             /* it was not taken within --reply-timeout */
    OUTCOME_REPLY_DROPPED,             /* for the memory of others */
    OUTCOME_REPLY_FAILED,              /* libmicrohttpd could not send it */
    OUTCOME_SHUTDOWN,                  /* the server stopped */
    HTTP_OUTCOMES
};
const char *http_outcome_name(unsigned outcome);

/* Statuses that have a series from the start. Others are counted under the last, "other". */
enum { HTTP_STATUSES = 22 };
extern const int http_statuses[HTTP_STATUSES];

/* Why a request was refused while its body came. */
enum body_drop { BODY_DROPPED_SLOW, BODY_DROPPED_FULL, BODY_DROPS };
extern const char *const body_drop_names[BODY_DROPS];

/* Initialise with zeros. */
struct http_counts {
    _Atomic uint64_t requests[HTTP_OUTCOMES];
    _Atomic uint64_t responses[ROUTES][HTTP_STATUSES];
    _Atomic uint64_t bodies_dropped[BODY_DROPS];
    _Atomic uint64_t connections_accepted;
    _Atomic uint64_t connections_ended[CONNECTION_ENDS];
};

/* One request ended. `status` 0: it got no answer. */
void http_counts_request(struct http_counts *counts, enum route route, int status, unsigned outcome);

#endif
