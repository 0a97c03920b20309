/* loop.h: the event loop: descriptors to watch, one timer, a tick, signals, and a wake-up from other threads. libuv
 * comes in here and nowhere else.
 */
#ifndef SERVER_BASE_LOOP_H
#define SERVER_BASE_LOOP_H

#include "server/base/loop_turns.h"

#include <stdbool.h>

enum { LOOP_WATCHES = 4, LOOP_TICK_MILLISECONDS = 250 };

struct loop;

/* Called on the loop's thread; `context` is that of loop_handlers. */
struct loop_handlers {
    void *context;
    void (*timer)(void *context); /* the time of loop_after() is up */
    void (*wake)(void *context);  /* loop_wake() was called, at least once since the last time */
    int (*tick)(
        void *context); /* LOOP_TICK_MILLISECONDS after the start; returns the milliseconds until the next, >= 1 */
    void (*signal)(void *context, int signal); /* SIGTERM, SIGINT or SIGHUP came */
    const char *timer_name;                    /* the timer's, in the log of slow turns */
    struct loop_turns *turns;                  /* where turns are measured; must outlive the loop */
};

/* NULL when memory or descriptors are out. */
struct loop *loop_new(const struct loop_handlers *handlers);
/* After loop_run(). The descriptors watched must still be open. */
void loop_free(struct loop *loop);

/* Call `ready` whenever the descriptor is readable. At most LOOP_WATCHES. `name` is for the log of slow turns. */
bool loop_watch(struct loop *loop, int descriptor, const char *name, void (*ready)(void *context));
/* Arm the timer anew; a negative time disarms it. With 0 it fires after the next poll: descriptors, signals, ticks and
 * wake-ups have their turn before it, however often it is armed. */
void loop_after(struct loop *loop, int milliseconds);
/* From any thread. Calls that come before the loop has looked are one. */
void loop_wake(struct loop *loop);

/* The uv_loop_t, for handles of a library that knows libuv (server/histories/loop_handles.c). */
void *loop_native(struct loop *loop);

/* Until loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

#endif
