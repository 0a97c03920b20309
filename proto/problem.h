/* problem.h: an error on the wire, as RFC 9457 problem details: what is wrong, and where.
 *
 * The list below is every problem that the server answers with; its status, type and title are derived in problem.c and
 * nowhere else.
 */
#ifndef PROTO_PROBLEM_H
#define PROTO_PROBLEM_H

#include <stdbool.h>
#include <stddef.h>

enum problem_kind {
    PROBLEM_NONE,
    PROBLEM_INVALID_JSON,        /* 400: not JSON (RFC 8259), a key twice, too deep */
    PROBLEM_INVALID_REQUEST,     /* 400: JSON, but not a request: a wrong type, an unknown or missing member */
    PROBLEM_INVALID_USER_ID,     /* 400: in the path */
    PROBLEM_INVALID_HTTP,        /* 400: headers that could smuggle a request */
    PROBLEM_NOT_FOUND,           /* 404 */
    PROBLEM_NO_USER_STATE,       /* 404: nothing is held of this user */
    PROBLEM_METHOD_NOT_ALLOWED,  /* 405 */
    PROBLEM_REQUEST_TIMEOUT,     /* 408: the body did not arrive in time */
    PROBLEM_UNKNOWN_TOKEN,       /* 409: the state that it names is not held (any more): send the history */
    PROBLEM_LENGTH_REQUIRED,     /* 411: chunked, or no length */
    PROBLEM_BODY_TOO_LARGE,      /* 413 */
    PROBLEM_UNSUPPORTED_MEDIA,   /* 415 */
    PROBLEM_TOO_MANY_CANDIDATES, /* 422: past --max-candidates */
    PROBLEM_HISTORY_TOO_LONG,    /* 422: past --max-history */
    PROBLEM_HEADERS_TOO_LARGE,   /* 431: they leave no room for a body and a reply in --connection-memory */
    PROBLEM_MODEL_FAULT,         /* 500: the model's numbers are not numbers */
    PROBLEM_OUT_OF_MEMORY,       /* 503: the request's memory limit, or the machine's */
    PROBLEM_SATURATED,           /* 503: the queue is full */
    PROBLEM_DRAINING,            /* 503: the server is stopping */
    PROBLEM_NOT_READY,           /* 503: no model yet */
    PROBLEM_DEADLINE_PASSED,     /* 504: it waited longer than --deadline */
    PROBLEM_KINDS
};

struct problem {
    enum problem_kind kind;
    char detail[320];  /* one sentence for a person, NUL-terminated */
    char pointer[320]; /* RFC 6901 JSON pointer to what is wrong in the body; "" is the whole body */
};

/* Fill in a problem. `format` makes the detail. Both texts are cut to fit, whole characters only. */
void problem_set(struct problem *problem, enum problem_kind kind, const char *pointer, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The request's arena or the machine has no more memory. Returns false, so that a decoder can return it. */
bool problem_out_of_memory(struct problem *problem);

int problem_status(enum problem_kind kind);        /* HTTP status */
const char *problem_title(enum problem_kind kind); /* a few words, the same for every problem of the kind */
const char *
problem_slug(enum problem_kind kind); /* "invalid-json": the last part of the type URI, and the metric's label */
/* The problem lies in the body: its details have the pointer, even when that is "". Else they have none. */
bool problem_in_body(enum problem_kind kind);

/* Append one reference token to a JSON pointer of `size` bytes, escaped as RFC 6901 says and cut to fit, whole
 * characters only. */
void problem_pointer_name(char *pointer, size_t size, const char *name, size_t length);
void problem_pointer_index(char *pointer, size_t size, size_t index);

#endif
