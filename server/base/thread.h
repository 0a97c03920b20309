/* thread.h: starts the threads of this process other than the loop's. */
#ifndef SERVER_BASE_THREAD_H
#define SERVER_BASE_THREAD_H

#include <pthread.h>
#include <stdbool.h>

/* Start a thread that takes no signals but those of its own faults, since they are the loop's to handle. The name, at
 * most 15 characters, is the one that top and gdb show. False with errno set when there is no thread to be had;
 * otherwise the caller joins it. */
bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument);

#endif
