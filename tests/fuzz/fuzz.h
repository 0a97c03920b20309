/* fuzz.h: what the fuzz targets share.
 */
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

/* Bytes of memory, less than 64 + most, that differ from input to input: it runs out in all places. */
static inline size_t little_memory(const void *data, size_t size, size_t most) {
    const unsigned char *bytes = data;
    size_t hash = size;
    for (size_t i = 0; i < size; i++)
        hash = hash * 31 + bytes[i];
    return 64 + hash % most;
}

#endif
