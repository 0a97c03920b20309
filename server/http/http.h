/* http.h: HTTP/1.1 for one handler: connections, headers, bodies, answers. libmicrohttpd comes in here and nowhere
 * else.
 *
 * http.c reads a request and refuses it if its headers, route, length, media type or timing are wrong. Every other
 * request becomes an exchange. The handler answers at once, or says that the answer comes later and calls
 * http_answered() then. All calls are the loop's thread's.
 */
#ifndef SERVER_HTTP_H
#define SERVER_HTTP_H

#include "proto/problem.h"
#include "proto/score.h"
#include "server/http/body.h"
#include "server/http/body_framing.h"
#include "server/http/connections.h"
#include "server/http/http_counts.h"
#include "server/http/request_id.h"
#include "server/http/routes.h"
#include "server/http/trace_context.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http;
struct sockaddr;

enum answer_memory {
    ANSWER_OWNED,   /* malloc'ed, and http's from now on */
    ANSWER_BORROWED /* the handler's, for as long as the server lives */
};

struct answer {
    int status;                /* 0: there is no answer, the connection is closed; or it did not go out whole */
    enum problem_kind problem; /* PROBLEM_NONE: success */
    const char *type;          /* Content-Type */
    char *body;
    size_t size;
    enum answer_memory memory;
    unsigned retry_after;  /* seconds, of a 503; 0: one */
    const char *model_tag; /* of the model that it is from; NULL or "": none; valid until the exchange ends */
};

enum { METHOD_MAX = 15, PATH_TEXT_MAX = 127 };

/* One request and its answer. Lives from the request's first line until the answer has gone or the connection is lost;
 * never ends while its answer is pending. */
struct exchange {
    enum route route;
    enum plane plane;
    char request_id[REQUEST_ID_MAX + 1];
    struct trace_context trace;
    char method[METHOD_MAX + 1];      /* for the log, cut to fit, as the path */
    char path[PATH_TEXT_MAX + 1];     /* without the user's id */
    char user_id[ROUTES_USER_ID_MAX]; /* of the path, where the route has one */
    size_t user_id_length;
    enum proto_format format; /* of the body */
    enum proto_coding coding; /* of the body, which is kept as it came */
    struct body body;         /* http's */
    int socket;

    struct answer answer; /* the handler's to fill in */

    /* At the end. */
    unsigned outcome;  /* PROBLEM_NONE, the problem that was told, or an OUTCOME_ of http_counts.h */
    int unsent_status; /* of an answer that was begun and did not go out whole; else 0 */

    /* http's own. */
    struct http *http;
    void *handle; /* libmicrohttpd's connection */
    struct connection *connection;
    uint64_t began;         /* headers complete; 0: not yet */
    uint64_t body_expected; /* Content-Length */
    bool chunked;           /* no Content-Length: the body's size is not known before its end */
    struct body_framing framing;
    size_t target_length;                                   /* with its query, as far as it is well formed */
    struct problem problem;                                 /* kind PROBLEM_NONE: not refused */
    enum { REPLY_NONE, REPLY_QUEUED, REPLY_WRITTEN } reply; /* given to libmicrohttpd, or written past it */
    size_t reply_bytes;                                     /* counted in http_reply_buffered() */
    size_t body_buffer; /* bytes that libmicrohttpd's buffer for the body is to have at least */
    unsigned growths;   /* of that buffer */
    bool keeps;         /* the connection, after its answer: else the answer says close */
    bool set_aside;     /* see set_aside() */
    bool handled;       /* the handler was called */
    bool pending;       /* and its answer comes later */
    bool discarding;    /* the body is read and thrown away */
    bool counted;       /* in http_in_flight() */

    max_align_t
        work[]; /* http_options.work_size bytes, zeros at first: the handler's, for an answer that comes later */
};

/* Times in seconds. */
struct http_limits {
    size_t max_body;           /* bytes of one body */
    size_t max_call;           /* bytes of the body of a call of the admin plane */
    size_t max_buffered;       /* bytes of all bodies */
    size_t max_reply_buffered; /* bytes of all replies that their clients have not taken */
    size_t buffer_reserve;     /* of these, for bodies of at most small_body bytes */
    size_t small_body;
    size_t body_rate; /* bytes a second of larger ones, at the least */
    size_t max_connections;
    size_t reserved_connections; /* beside them, for health and metrics */
    size_t connection_memory;    /* bytes of a connection's head, body buffer and reply head */
    double header_timeout, body_timeout, reply_timeout, idle_timeout, linger_timeout;
};

/* Refused clients that are read on from, at most, and never more than max_connections. Each takes a descriptor. */
enum { HTTP_LINGERING_MOST = 1024 };

struct http_options {
    struct http_limits limits;
    struct http_counts *counts;
    size_t work_size; /* bytes of exchange->work */
    int listening;    /* socket; http's from now on */
    enum plane plane;
    uint32_t hidden_routes; /* those of the plane that do not exist all the same: a bit, 1 << route, for each */
    void *context;
    /* Whether the request may be made at all. Called with its headers; sets *problem, or leaves it as it is. NULL: all
     * may be. `target` is that of the request line. */
    void (*admit)(void *context, const struct exchange *exchange, const char *target, struct problem *problem);
    /* A request is over, with exchange->outcome. Its answer's status is 0 when none went out whole. */
    void (*ended)(void *context, const struct exchange *exchange);
    /* Fill in exchange->answer and return true; or return false, and call http_answered() later. */
    bool (*handle)(void *context, struct exchange *exchange);
};

/* NULL when it cannot start: then the socket is closed. */
struct http *http_start(const struct http_options *options);

/* Two descriptors to watch; http_run() when the first is readable, http_linger() when the second is. */
int http_descriptor(const struct http *http);
int http_linger_descriptor(const struct http *http);
/* Serves each ready connection, for about a tenth of a millisecond. Returns the milliseconds after which to call it
 * again in any case; 0: after the next poll; negative: only when readable. */
int http_run(struct http *http);
void http_linger(struct http *http);
/* Looks at the deadlines of some of the connections and at the rates of some of the bodies; call http_run() after it.
 * Returns the number of calls, 1 to SWEEPS_A_ROUND, that look at every one once; make that many within
 * LOOP_TICK_MILLISECONDS. */
size_t http_sweep(struct http *http);
/* Let go of clients that were read on from after a refusal for long enough; a few times a second. */
void http_expire_lingering(struct http *http);

/* The answer that was to come later is there, in exchange->answer; from within the handler's call at the earliest. Call
 * http_run() when all that are there have been given. */
void http_answered(struct exchange *exchange);
/* Fill in the answer with a copy of a text; out of memory, with a problem. */
void http_text(struct exchange *exchange, int status, const char *type, const char *text, size_t size);
/* A header's value while the handler runs, or NULL; and the socket address of the client's end, or NULL. */
const char *http_header(const struct exchange *exchange, const char *name);
const struct sockaddr *http_client_address(const struct exchange *exchange);
/* Hands the body over, malloc'ed: it no longer counts as one of the bodies that are held. Call when the answer is
 * filled in. NULL: there is none. */
char *http_take_body(struct exchange *exchange, size_t *size);
/* Fill in the answer with a problem. */
void http_refuse(struct exchange *exchange, const struct problem *problem);
void http_problem(struct exchange *exchange, enum problem_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

size_t http_in_flight(const struct http *http); /* requests from headers to the end of the answer */
size_t http_connections(const struct http *http);
size_t http_lingering(const struct http *http);
size_t http_buffered(const struct http *http);       /* bytes of bodies */
size_t http_reply_buffered(const struct http *http); /* bytes of replies that are being taken */

/* The end, in this order: every answer closes its connection; no connection is accepted; those that have been silent
 * for a second are closed; all are closed. No exchange may be pending at the last. */
void http_drain(struct http *http);
void http_close_listener(struct http *http);
void http_close_idle(struct http *http);
void http_stop(struct http *http);

#endif
