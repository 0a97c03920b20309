/* body.h: the bytes of a request's body as they come, and the memory that the bodies of all requests take. */
#ifndef SERVER_HTTP_BODY_H
#define SERVER_HTTP_BODY_H

#include <stddef.h>
#include <stdint.h>

/* The memory of all bodies. Initialise with zeros but for `most`. */
struct body_budget {
    size_t most; /* bytes */
    size_t held; /* bytes that have arrived */
};

/* One body. Initialise with zeros. */
struct body {
    char *bytes; /* malloc'ed; NULL: empty */
    size_t size;
    size_t capacity;
};

enum body_result { BODY_TAKEN, BODY_SATURATED, BODY_NO_MEMORY };

/* Appends a part. `expected` is the size of the whole body, or 0 where nobody knows it. The buffer has the size of the
 * whole body, or twice what has come; the budget counts only the bytes that have come. Untouched memory costs nothing,
 * so a client that promises much and sends little holds little. */
enum body_result body_append(struct body *body, struct body_budget *budget, const char *data, size_t size,
                             size_t expected);
void body_free(struct body *body, struct body_budget *budget);

#endif
