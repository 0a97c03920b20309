/* head_scan.h: the head of a request while it arrives, before libmicrohttpd parses it.
 *
 * libmicrohttpd 0.9.75 answers some heads by itself: an HTML page that nothing logs, a status line written twice, or
 * the connection's end and no byte. It takes a line that ends in a bare LF. The scan goes over each line once it is
 * whole and finds these heads first, so that the server answers every one in the same way. header_check.h then looks at
 * the names and values that libmicrohttpd has found.
 */
#ifndef SERVER_HTTP_HEAD_SCAN_H
#define SERVER_HTTP_HEAD_SCAN_H

#include "proto/problem.h"

#include <stdbool.h>
#include <stddef.h>

/* Bytes that libmicrohttpd's memory for a connection holds for each line, beside its text. */
enum { HEAD_LINE_COST = 64 };

/* The most that a head may have. */
struct head_limits {
    size_t bytes; /* of its text, and HEAD_LINE_COST for each line */
    unsigned lines;
};

/* Zeros are a start. */
struct head_scan {
    size_t scanned; /* bytes that were looked at */
    size_t line;    /* where the present line begins */
    unsigned lines; /* whole ones, without empty ones before the first */
    bool complete;
    bool is_head; /* the method is HEAD: a refusal has no body */
};

/* `head` has the bytes since the last request's end: all `size` of them, those of earlier calls first. Bytes behind the
 * head count for nothing, so that the verdict does not depend on where TCP cuts the stream. Moves white space from
 * behind a Content-Length's digits to before them, since libmicrohttpd refuses it there. False: the request must be
 * refused, and libmicrohttpd must not see these bytes. */
bool head_scan_take(struct head_scan *scan, char *head, size_t size, const struct head_limits *limits,
                    struct problem *problem);

#endif
