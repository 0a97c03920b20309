/* random_bits.h: splitmix64 (Steele, Lea, Flood 2014), which gives equal numbers on every machine. */
#ifndef TESTS_SUPPORT_RANDOM_BITS_H
#define TESTS_SUPPORT_RANDOM_BITS_H

#include <stdint.h>

static inline uint64_t mix(uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

static inline uint64_t random_bits(uint64_t *state) {
    return mix(*state += 0x9e3779b97f4a7c15ULL);
}

#endif
