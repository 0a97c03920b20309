/* vocabulary.c: look an id up in a mapped hash table. */
#include "model/format/vocabulary.h"

#include <string.h>

/* The finaliser of MurmurHash3 (Austin Appleby, public domain), as FORMAT.md states it. */
static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xff51afd7ed558ccdU;
    x ^= x >> 33;
    x *= 0xc4ceb9fe1a85ec53U;
    return x ^ x >> 33;
}

/* FNV-1a, 64 bit (Fowler, Noll, Vo). */
static uint64_t fnv1a(const char *bytes, size_t length) {
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3U;
    return hash;
}

static bool is_string(const struct vocabulary *vocabulary, size_t entry, const char *id, size_t length) {
    int64_t begin = vocabulary->offsets[entry], end = vocabulary->offsets[entry + 1];
    return begin >= 0 && end >= begin && (uint64_t)end <= vocabulary->byte_count && (size_t)(end - begin) == length &&
           memcmp(vocabulary->bytes + begin, id, length) == 0;
}

int64_t vocabulary_find_integer(const struct vocabulary *vocabulary, int64_t id) {
    uint64_t hash = mix((uint64_t)id);
    for (size_t i = 0; i < vocabulary->probe; i++) {
        int32_t slot = vocabulary->slots[(hash + i) & vocabulary->slot_mask];
        if (slot <= 0 || (size_t)slot > vocabulary->entries)
            return -1;
        if (vocabulary->keys[slot - 1] == id)
            return slot - 1;
    }
    return -1;
}

int64_t vocabulary_find_string(const struct vocabulary *vocabulary, const char *id, size_t length) {
    uint64_t hash = mix(fnv1a(id, length));
    for (size_t i = 0; i < vocabulary->probe; i++) {
        int32_t slot = vocabulary->slots[(hash + i) & vocabulary->slot_mask];
        if (slot <= 0 || (size_t)slot > vocabulary->entries)
            return -1;
        if (is_string(vocabulary, (size_t)slot - 1, id, length))
            return slot - 1;
    }
    return -1;
}
