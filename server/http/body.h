/* body.h: the bytes of a request's body as they come, and the memory that the bodies of all requests take.
 *
 * Slow clients with large bodies must not keep all others out. A part of the memory is in reserve for small bodies.
 * Large bodies that are not whole stand in a list: one that comes too slowly is found by body_find_slow(), and when the
 * memory is full, body_find_victim() finds the largest and slowest. The caller then ends its request. Times are of one
 * clock, in nanoseconds.
 */
#ifndef SERVER_HTTP_BODY_H
#define SERVER_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One body. Initialise with zeros. */
struct body {
    char *bytes; /* malloc'ed; NULL: empty */
    size_t size;
    size_t capacity;
    bool large, listed;
    struct body *next, *previous; /* listed: large, and not whole */
    uint64_t began;               /* listed: when it became so */
    uint64_t window_began;        /* listed: for the rate */
    size_t window_size;           /* of the body at that time */
};

/* The memory of all bodies. The caller sets the first group, and initialises the rest with zeros. */
struct body_budget {
    size_t most;       /* bytes */
    size_t reserve;    /* bytes of these that large bodies do not get; at most half of them */
    size_t small;      /* bytes of a body that is not large */
    uint64_t rate;     /* bytes a second that a large body must bring */
    uint64_t window;   /* in which the rate is measured, */
    uint64_t patience; /* and the least age of a victim */

    size_t held;       /* bytes that have arrived */
    size_t held_large; /* of these, in large bodies */
    struct body *first;
};

enum body_result { BODY_TAKEN, BODY_SATURATED, BODY_NO_MEMORY };

/* Appends a part. `expected` is the size of the whole body, or 0 where nobody knows it. The buffer has the size of the
 * whole body, or twice what has come; the budget counts only the bytes that have come. Untouched memory costs nothing,
 * so a client that promises much and sends little holds little. */
enum body_result body_append(struct body *body, struct body_budget *budget, const char *data, size_t size,
                             size_t expected, uint64_t now);
/* The body has come. It is no victim from now on. */
void body_whole(struct body *body, struct body_budget *budget);
void body_free(struct body *body, struct body_budget *budget);

/* Of the large bodies that are not whole, other than `except`, the one with the largest product of size and age: the
 * largest of equally old ones, and of equally large ones the slowest. NULL: all are younger than the patience. */
struct body *body_find_victim(const struct body_budget *budget, const struct body *except, uint64_t now);
/* A large body that brought less than the rate in the last window. NULL: none. */
struct body *body_find_slow(struct body_budget *budget, uint64_t now);

#endif
