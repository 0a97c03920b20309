/* body.h: the bytes of a request's body as they come, and the memory that the bodies of all requests take.
 *
 * Slow clients must not keep all others out. A part of the memory is in reserve for small bodies. When the memory is
 * full, body_find_victim() finds the largest and slowest body that is not whole. A large body must also keep up a rate:
 * body_find_slow() finds one that does not. The caller then ends its request. Both take a bounded time, however many
 * bodies there are. Times are of one clock, in nanoseconds, and never go back.
 */
#ifndef SERVER_HTTP_BODY_H
#define SERVER_HTTP_BODY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct body;

/* A body's place in a queue. */
struct body_links {
    struct body *next, *previous;
    bool listed;
};

/* One body. Initialise with zeros. */
struct body {
    char *bytes; /* malloc'ed; NULL: empty */
    size_t size;
    size_t capacity;
    struct body_links by_size, by_window;
    uint64_t class_began;  /* by_size: when its size reached this class */
    uint64_t window_began; /* by_window */
    size_t window_size;    /* of the body at that time */
    unsigned size_class;   /* by_size: its queue */
    bool large;
};

/* First in, first out. */
struct body_queue {
    struct body *first, *last;
};

/* Class i holds bodies of 2^i to 2^(i+1)-1 bytes, the last one also all larger ones. */
enum { BODY_CLASSES = 40 };

/* The memory of all bodies. The caller sets the first group, and initialises the rest with zeros. */
struct body_budget {
    size_t most;       /* bytes */
    size_t reserve;    /* bytes of these that large bodies do not get; at most half of them */
    size_t small;      /* bytes of a body that is not large */
    uint64_t rate;     /* bytes a second that a large body must bring */
    uint64_t window;   /* in which the rate is measured, */
    uint64_t patience; /* and the least time for which a victim has stayed in its class */

    size_t held;                             /* bytes that have arrived */
    size_t held_large;                       /* of these, in large bodies */
    struct body_queue by_size[BODY_CLASSES]; /* bodies that are not whole, the longest in their class first */
    struct body_queue by_window;             /* the large ones of these, the earliest window first */
};

enum body_result { BODY_TAKEN, BODY_SATURATED, BODY_NO_MEMORY };

/* Appends a part. `expected` is the size of the whole body, or 0 where nobody knows it. The buffer has the size of the
 * whole body, or twice what has come; the budget counts only the bytes that have come. Untouched memory costs nothing,
 * so a client that promises much and sends little holds little. */
enum body_result body_append(struct body *body, struct body_budget *budget, const char *data, size_t size,
                             size_t expected, uint64_t now);
/* The body has come, or no more of it will. It is no victim from now on. */
void body_whole(struct body *body, struct body_budget *budget);
/* Hands the bytes over: they no longer count. */
char *body_take(struct body *body, struct body_budget *budget, size_t *size);
void body_free(struct body *body, struct body_budget *budget);

/* Of the bodies that are not whole, other than `except`, the one with the largest product of its size and the time
 * since it last doubled, more or less: of each class of sizes the one that has been there for longest is looked at.
 * NULL: all were shorter in their class than the patience. */
struct body *body_find_victim(const struct body_budget *budget, const struct body *except, uint64_t now);
/* A large body that brought less than the rate in a whole window. Ends the windows of at most `*looks` bodies that
 * brought enough, and takes those off `*looks`. NULL: none is found. */
struct body *body_find_slow(struct body_budget *budget, unsigned *looks, uint64_t now);
/* Whether a body that body_find_slow() found brought enough, with `unread` bytes that nobody has received yet. */
bool body_keeps_rate(const struct body *body, const struct body_budget *budget, size_t unread);
/* The body's next window begins. */
void body_next_window(struct body *body, struct body_budget *budget, uint64_t now);

#endif
