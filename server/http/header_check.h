/* header_check.h: heads of requests that two servers could read differently, which is how requests are smuggled past a
 * proxy.
 *
 * libmicrohttpd 0.9.75 takes requests that RFC 9112 tells a server to refuse: Content-Length twice, or beside
 * Transfer-Encoding; a space before the colon (it then ignores the header); lines that end in a bare LF; lines folded
 * onto the next; spaces, NULs and bare CRs where none may be. The guard walks the head once, in the order in which it
 * came, and finds these.
 *
 * Bare LF and folding cannot be seen in the strings themselves. Names and values, though, still lie where they were
 * received: from the end of one line to the start of the next there are exactly two bytes, CR and LF. Where a later
 * libmicrohttpd keeps its strings elsewhere, that part of the guard stands aside.
 */
#ifndef SERVER_HTTP_HEADER_CHECK_H
#define SERVER_HTTP_HEADER_CHECK_H

#include "proto/problem.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A request's head as it was received: [begin, end), from the method to the empty line's end. All fields but the first
 * group belong to the guard. */
struct header_check {
    const char *begin;
    const char *end;
    const char *line_end; /* where the last line seen ends, before its CR LF */
    bool http_1_1;        /* or later */
    unsigned lengths;     /* headers of this name seen */
    unsigned encodings;
    unsigned hosts;
    bool chunked; /* the value of Transfer-Encoding, and nothing more */
    bool length_is_digits;
    bool closes, keeps_alive; /* Connection says "close", or "keep-alive" */
    uint64_t length;
    const char *fault; /* the first one found, or NULL */
};

/* `version` is the end of the request line, as "HTTP/1.1". */
void header_check_begin(struct header_check *guard, const char *begin, size_t size, const char *version);
/* The bytes at the start of `text` that a request's target may have. Bytes beyond ASCII are let pass, as by other
 * servers. */
size_t header_check_target(const char *text);
/* `method` and `target` as libmicrohttpd has cut them, and header_check_target() of the target as it was received. */
void header_check_line(struct header_check *guard, const char *method, const char *target, size_t target_length,
                       const char *version);
void header_check_add(struct header_check *guard, const char *name, size_t name_length, const char *value,
                      size_t value_length);

/* False when the request must be refused and its connection closed, as where its body ends is not known. */
bool header_check_end(struct header_check *guard, struct problem *problem);

#endif
