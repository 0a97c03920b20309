/* counter.c: the buckets of every duration that the server measures. */
#include "server/base/counter.h"

const double histogram_bounds[HISTOGRAM_BUCKETS] = {50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 750e-6, 1e-3,  1.5e-3, 2e-3,
                                                    3e-3,  5e-3,   7.5e-3, 10e-3,  15e-3,  25e-3,  50e-3, 0.1,    0.15,
                                                    0.25,  0.5,    1,      1.5,    2.5,    5,      10};

void histogram_add(struct histogram *histogram, double seconds) {
    unsigned bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS && seconds > histogram_bounds[bucket])
        bucket++;
    counter_add(&histogram->buckets[bucket], 1);
    counter_add(&histogram->nanoseconds, seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
}
