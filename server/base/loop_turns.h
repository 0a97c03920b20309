/* loop_turns.h: how long the event loop's turns take, and which handler made one long.
 *
 * A turn is the time from one poll to the next: while it lasts, no other descriptor, signal or deadline is served. The
 * functions belong to the loop's thread; any thread may read the histogram.
 */
#ifndef SERVER_BASE_LOOP_TURNS_H
#define SERVER_BASE_LOOP_TURNS_H

#include "server/base/counter.h"

#include <stdint.h>

/* A longer turn has a line in the log. */
#define LOOP_SLOW_TURN_SECONDS 0.05

/* Initialise with zeros. Times are clock_now()'s. */
struct loop_turns {
    struct histogram histogram;
    uint64_t began;         /* 0: the loop polls */
    const char *handler;    /* at work since handler_began */
    uint64_t handler_began; /* 0: none in this turn so far */
    const char *cause;      /* the handler that took longest in this turn */
    uint64_t cause_time;
    uint64_t processor_seen; /* the thread's own time at processor_seen_at */
    uint64_t processor_seen_at;
};

/* A handler begins, which ends the one before it. The name is for the log, and must stay. */
void loop_turns_handler(struct loop_turns *turns, const char *name, uint64_t now);
/* The loop is about to poll. Without a handler since the last poll there was no turn. */
void loop_turns_end(struct loop_turns *turns, uint64_t now);

#endif
