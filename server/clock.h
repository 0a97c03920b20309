/* clock.h: monotonic time in nanoseconds, the unit of every deadline here. */
#ifndef SERVER_CLOCK_H
#define SERVER_CLOCK_H

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

#endif
