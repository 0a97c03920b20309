/* fuzz.h: helpers of the fuzz targets. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void require(bool condition) {
    if (!condition)
        abort();
}

/* A memory limit below 64 + `max` bytes that depends on the input, so that memory runs out at every place. */
static inline size_t little_memory(const void *data, size_t size, size_t max) {
    const unsigned char *bytes = data;
    size_t hash = size;
    for (size_t i = 0; i < size; i++)
        hash = hash * 31 + bytes[i];
    return 64 + hash % max;
}

#endif
