/* problem.h: errors of the wire as RFC 9457 problem details: a kind, a sentence for a person, and a place in the body.
 *
 * The list below holds every problem that the server replies with. Only problem.c holds the status; comments repeat it
 * for readers, and openapi.json repeats the list, type and title of each.
 */
#ifndef PROTO_PROBLEM_H
#define PROTO_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>

enum problem_kind {
    PROBLEM_NONE,
    PROBLEM_INVALID_JSON,          /* 400: not JSON (RFC 8259), a key twice, too deep */
    PROBLEM_INVALID_REQUEST,       /* 400: JSON, but not a request: a wrong type, an unknown or missing member */
    PROBLEM_INVALID_USER_ID,       /* 400: in the path or, with a pointer, in the body */
    PROBLEM_INVALID_HTTP,          /* 400: headers or chunks that could smuggle a request */
    PROBLEM_INVALID_CODING,        /* 400: not compressed as Content-Encoding says */
    PROBLEM_UNAUTHORIZED,          /* 401: a call of the admin plane without its token */
    PROBLEM_WRITE_REFUSED,         /* 403: a change of a stored history, without the token of --user-write */
    PROBLEM_EXPLAIN_HELD,          /* 403: explain over a history that the server holds, without --explain-held */
    PROBLEM_FOREIGN_CALL,          /* 403: of the admin plane, with a Host or an Origin that is not its own */
    PROBLEM_NOT_FOUND,             /* 404 */
    PROBLEM_NO_USER_STATE,         /* 404: the server keeps no state of this user */
    PROBLEM_METHOD_NOT_ALLOWED,    /* 405 */
    PROBLEM_REQUEST_TIMEOUT,       /* 408: the body did not arrive in time */
    PROBLEM_UNKNOWN_TOKEN,         /* 409: its state is no longer kept; send the history */
    PROBLEM_LOAD_UNDER_WAY,        /* 409: another model is being loaded */
    PROBLEM_NO_PREVIOUS_MODEL,     /* 409: there is no model to go back to */
    PROBLEM_NO_CANDIDATE,          /* 409: there is no candidate to be promoted, dropped or given a share */
    PROBLEM_LENGTH_REQUIRED,       /* 411: neither a Content-Length nor chunked */
    PROBLEM_BODY_TOO_LARGE,        /* 413 */
    PROBLEM_UNSUPPORTED_MEDIA,     /* 415 */
    PROBLEM_UNSUPPORTED_CODING,    /* 415: a Content-Encoding other than gzip */
    PROBLEM_TOO_MANY_CANDIDATES,   /* 422: more than --max-candidates */
    PROBLEM_HISTORY_TOO_LONG,      /* 422: more than --max-history */
    PROBLEM_HISTORY_TOO_LARGE,     /* 422: more bytes than the history store keeps of a behaviour or a user */
    PROBLEM_TOO_MANY_EVENTS,       /* 422: more than --max-events, or of one user more than --histories-dedupe */
    PROBLEM_MODEL_REFUSED,         /* 422: the model that was to be loaded is not served */
    PROBLEM_HEADERS_TOO_LARGE,     /* 431: no room for a body and a reply within --connection-memory */
    PROBLEM_MODEL_FAULT,           /* 500: a score is not a finite number */
    PROBLEM_OUT_OF_MEMORY,         /* 503: at the request's memory limit, or the machine's */
    PROBLEM_SATURATED,             /* 503: the queue is full */
    PROBLEM_DRAINING,              /* 503: the server is stopping */
    PROBLEM_NOT_READY,             /* 503: no model is loaded yet */
    PROBLEM_HISTORIES_UNAVAILABLE, /* 503: the history store does not answer, or a record cannot be read */
    PROBLEM_DEADLINE_PASSED,       /* 504: the request waited longer than --deadline */
    PROBLEM_HTTP_VERSION,          /* 505: not HTTP/1 */
    PROBLEM_HISTORIES_FULL,        /* 507: the history store has no room */
    PROBLEM_KINDS
};

struct problem {
    enum problem_kind kind;
    char detail[320];  /* one sentence for a person, NUL-terminated */
    char pointer[320]; /* RFC 6901 JSON pointer to the mistake in the body; "" is the whole body */
};

/* Fills in a problem; `format` makes the detail. Both texts are cut to fit, between characters. */
void problem_set(struct problem *problem, enum problem_kind kind, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

void problem_clear(struct problem *problem);

/* The request's arena or the machine has no more memory. Returns false, so that a decoder can return it. */
bool problem_out_of_memory(struct problem *problem);

int problem_status(enum problem_kind kind);        /* HTTP status */
const char *problem_title(enum problem_kind kind); /* a few words, fixed for each kind */
/* The last part of the type URI, such as "invalid-json". It is also the metric's label. */
const char *problem_slug(enum problem_kind kind);
/* Whether the problem always lies at a place in the body. If so, its details have the pointer, even when that is "". */
bool problem_in_body(enum problem_kind kind);

/* Append one reference token to a JSON pointer in a buffer of `size` bytes. The token is escaped (RFC 6901) and cut to
 * fit, between characters. */
void problem_pointer_name(char *pointer, size_t size, const char *name, size_t length);
void problem_pointer_index(char *pointer, size_t size, size_t index);

#endif
