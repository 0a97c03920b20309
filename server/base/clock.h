/* clock.h: monotonic time in nanoseconds, the unit of every deadline in server/. */
#ifndef SERVER_BASE_CLOCK_H
#define SERVER_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t clock_from_seconds(double seconds) {
    return (uint64_t)(seconds * 1e9);
}

static inline double clock_seconds(uint64_t nanoseconds) {
    return (double)nanoseconds / 1e9;
}

/* For waits on conditions whose clock is CLOCK_MONOTONIC. */
static inline struct timespec clock_timespec(uint64_t time) {
    return (struct timespec){.tv_sec = (time_t)(time / 1000000000u), .tv_nsec = (long)(time % 1000000000u)};
}

#endif
