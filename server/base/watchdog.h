/* watchdog.h: a thread that watches the event loop. The loop beats; a loop that has not beaten for a second is logged,
 * and one that stands still past a limit ends the process with a stack trace, so that its supervisor starts a new one.
 *
 * A process that was stopped as a whole (SIGSTOP, a paused machine) is no stalled loop: the watchdog counts its own
 * waking moments, not time.
 */
#ifndef SERVER_BASE_WATCHDOG_H
#define SERVER_BASE_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct watchdog;

/* Called on the loop's thread, whose stack is traced. `limit`: seconds until the process ends with SIGABRT; 0: never.
 * NULL with errno set when there is no memory or no thread. */
struct watchdog *watchdog_start(double limit);
void watchdog_stop(struct watchdog *watchdog); /* NULL is nothing */

/* The loop's thread is alive: at least a few times a second. */
void watchdog_beat(struct watchdog *watchdog);

/* Seconds since the last beat. NULL: 0. */
double watchdog_age(const struct watchdog *watchdog);
/* Stalls of a second and more so far. NULL: 0. */
uint64_t watchdog_stalls(const struct watchdog *watchdog);

#endif
