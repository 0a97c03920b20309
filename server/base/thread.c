/* thread.c: pthread_create() with every signal blocked but those of a thread's own faults: the kernel ends a process at
 * once where such a signal is blocked, and crash.c could not say why.
 */
#include "server/base/thread.h"

#include <errno.h>
#include <signal.h>

static const int faults[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT};

bool thread_start(pthread_t *thread, const char *name, void *(*run)(void *), void *argument) {
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* a new thread inherits the mask */
    int status = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status == 0)
        pthread_setname_np(*thread, name);
    errno = status;
    return status == 0;
}
