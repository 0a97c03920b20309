/* loop_handles.h: timers, wake-ups and sockets of the stores on the server's event loop. Beside server/base/loop.c,
 * only loop_handles.c knows libuv.
 *
 * All calls but loop_signal_send() are for the loop's thread. A handle that was freed never calls again; its memory
 * goes at the loop's next turn, or in loop_free().
 */
#ifndef SERVER_HISTORIES_LOOP_HANDLES_H
#define SERVER_HISTORIES_LOOP_HANDLES_H

#include "server/base/loop.h"

#include <stdbool.h>

typedef void loop_call(void *context);

struct loop_timer;
struct loop_timer *loop_timer_new(struct loop *loop, loop_call *fire, void *context); /* NULL: no memory */
/* Once, after this many milliseconds, in place of an earlier time; negative: not at all. */
void loop_timer_set(struct loop_timer *timer, int milliseconds);
void loop_timer_free(struct loop_timer *timer);

struct loop_signal;
struct loop_signal *loop_signal_new(struct loop *loop, loop_call *wake,
                                    void *context); /* NULL: no memory, no descriptor */
/* From any thread. Calls that come before the loop has looked are one. */
void loop_signal_send(struct loop_signal *signal);
void loop_signal_free(struct loop_signal *signal);

/* `ready` is told what can be done without waiting. An error of the socket counts as all that is watched, so that the
 * next read or write meets it. */
struct loop_socket;
struct loop_socket *loop_socket_new(struct loop *loop, int descriptor,
                                    void (*ready)(void *context, bool readable, bool writable), void *context);
void loop_socket_watch(struct loop_socket *socket, bool readable, bool writable);
void loop_socket_free(struct loop_socket *socket);

/* Looks a host name up on another thread. `found` gets the first address as text, or NULL; the handle ends with that.
 */
struct loop_lookup;
struct loop_lookup *loop_lookup_start(struct loop *loop, const char *host,
                                      void (*found)(void *context, const char *address), void *context);
/* `found` will not be called. */
void loop_lookup_cancel(struct loop_lookup *lookup);

#endif
