/* counter.h: counters and histograms that any thread may record: relaxed atomics.
 *
 * A reading is not one instant: two series may differ by an event in flight.
 */
#ifndef SERVER_BASE_COUNTER_H
#define SERVER_BASE_COUNTER_H

#include <stdatomic.h>
#include <stdint.h>

static inline void counter_add(_Atomic uint64_t *counter, uint64_t amount) {
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

static inline uint64_t counter_get(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

enum { HISTOGRAM_BUCKETS = 25 };
/* Upper bounds in seconds, each at most twice the one before: a quantile is known within as much. +Inf follows. */
extern const double histogram_bounds[HISTOGRAM_BUCKETS];

/* Initialise with zeros. */
struct histogram {
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS + 1]; /* not cumulative */
    _Atomic uint64_t nanoseconds;
};

void histogram_add(struct histogram *histogram, double seconds);

#endif
