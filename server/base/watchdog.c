/* watchdog.c: the watching thread, and the signal by which the stalled thread traces its own stack. */
#include "server/base/watchdog.h"

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/thread.h"

#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* PERIODS_A_STALL periods make a second. */
enum { PERIOD_MILLISECONDS = 250, PERIODS_A_STALL = 4, FRAMES = 64, LAST_WORDS_SECONDS = 2 };

struct watchdog {
    pthread_t thread, watched;
    pthread_mutex_t mutex;
    pthread_cond_t stopped;
    bool stopping;
    uint64_t limit_periods;  /* 0: none */
    _Atomic uint64_t beaten; /* clock_now() of the last beat */
    _Atomic uint64_t stalls;
};

static int trace_signal(void) {
    return SIGRTMIN;
}

/* On the stalled thread: only calls that are safe in a signal handler. */
static void trace_and_abort(int signal) {
    void *frames[FRAMES];
    (void)signal;
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
    abort();
}

/* Traced, the process ends there. A thread that takes no signal, in an uninterruptible sleep, is not waited for. */
static void end_process(struct watchdog *watchdog, double seconds) {
    log_line(LEVEL_ERROR, "watchdog", LOG_NUMBER("seconds", seconds),
             LOG_STRING("message", "The event loop stands still: the process ends, after its stack trace."));
    log_stop();
    pthread_kill(watchdog->watched, trace_signal());
    nanosleep(&(struct timespec){.tv_sec = LAST_WORDS_SECONDS}, NULL);
    abort();
}

/* False when it is time to end. */
static bool wait_a_period(struct watchdog *watchdog) {
    uint64_t until = clock_now() + PERIOD_MILLISECONDS * 1000000ull;
    const struct timespec time = {.tv_sec = (time_t)(until / 1000000000u), .tv_nsec = (long)(until % 1000000000u)};
    pthread_mutex_lock(&watchdog->mutex);
    while (!watchdog->stopping && pthread_cond_timedwait(&watchdog->stopped, &watchdog->mutex, &time) == 0) {
    }
    bool stopping = watchdog->stopping;
    pthread_mutex_unlock(&watchdog->mutex);
    return !stopping;
}

static void *watch(void *argument) {
    struct watchdog *watchdog = argument;
    uint64_t seen = watchdog->beaten, silent = 0; /* periods without a beat */
    while (wait_a_period(watchdog)) {
        uint64_t beaten = watchdog->beaten;
        double seconds = 1e-3 * PERIOD_MILLISECONDS * (double)silent;
        if (beaten != seen) {
            if (silent >= PERIODS_A_STALL)
                log_line(LEVEL_WARNING, "loop-resumed", LOG_NUMBER("seconds", seconds));
            seen = beaten;
            silent = 0;
            continue;
        }
        silent++;
        if (silent == PERIODS_A_STALL) {
            watchdog->stalls++;
            log_line(LEVEL_ERROR, "loop-stalled", LOG_NUMBER("seconds", seconds));
        }
        if (watchdog->limit_periods > 0 && silent >= watchdog->limit_periods)
            end_process(watchdog, seconds);
    }
    return NULL;
}

struct watchdog *watchdog_start(double limit) {
    struct watchdog *watchdog = calloc(1, sizeof *watchdog);
    if (watchdog == NULL)
        return NULL;
    pthread_condattr_t monotonic;
    void *frame[1];
    struct sigaction action = {.sa_handler = trace_and_abort};
    backtrace(frame, 1); /* the first call loads a library, which a signal handler must not */
    sigemptyset(&action.sa_mask);
    sigaction(trace_signal(), &action, NULL);
    watchdog->watched = pthread_self();
    watchdog->limit_periods = (uint64_t)(limit * 1e3 / PERIOD_MILLISECONDS);
    if (limit > 0 && watchdog->limit_periods == 0)
        watchdog->limit_periods = 1;
    watchdog->beaten = clock_now();
    pthread_mutex_init(&watchdog->mutex, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog->stopped, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!thread_start(&watchdog->thread, "watchdog", watch, watchdog)) {
        pthread_cond_destroy(&watchdog->stopped);
        pthread_mutex_destroy(&watchdog->mutex);
        free(watchdog);
        return NULL;
    }
    return watchdog;
}

void watchdog_stop(struct watchdog *watchdog) {
    if (watchdog == NULL)
        return;
    pthread_mutex_lock(&watchdog->mutex);
    watchdog->stopping = true;
    pthread_cond_signal(&watchdog->stopped);
    pthread_mutex_unlock(&watchdog->mutex);
    pthread_join(watchdog->thread, NULL);
    pthread_cond_destroy(&watchdog->stopped);
    pthread_mutex_destroy(&watchdog->mutex);
    free(watchdog);
}

void watchdog_beat(struct watchdog *watchdog) {
    if (watchdog != NULL)
        watchdog->beaten = clock_now();
}

double watchdog_age(const struct watchdog *watchdog) {
    return watchdog != NULL ? clock_seconds(clock_now() - watchdog->beaten) : 0;
}

uint64_t watchdog_stalls(const struct watchdog *watchdog) {
    return watchdog != NULL ? watchdog->stalls : 0;
}
