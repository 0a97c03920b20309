/* breaker.h: a circuit breaker: after a few failures in a row nobody waits for a store that is down.
 *
 * Closed: every call passes. Open: none does, for a pause. Then one call passes as a probe: its success closes the
 * breaker, its failure opens it for twice as long. For one thread.
 */
#ifndef SERVER_HISTORIES_BREAKER_H
#define SERVER_HISTORIES_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum { BREAKER_FAILURES = 5 };           /* in a row, and it opens */
#define BREAKER_FIRST_PAUSE 100000000ull /* nanoseconds */
#define BREAKER_MOST_PAUSE  1000000000ull

/* Zeros are a closed breaker. Times are those of clock_now(). */
struct breaker {
    unsigned failures;
    bool open, probing;
    uint64_t pause, until, opened; /* `opened`: how often */
};

/* Whether a call may be made now. The caller then reports its result. */
bool breaker_allows(struct breaker *breaker, uint64_t now);
void breaker_report(struct breaker *breaker, uint64_t now, bool good);

#endif
