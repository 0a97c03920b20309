/* vocabulary.c: hash an id and probe a mapped table for it. */
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

const char *vocabulary_string(const struct vocabulary *vocabulary, size_t entry, size_t *length) {
    int64_t begin = vocabulary->offsets[entry], end = vocabulary->offsets[entry + 1];
    if (begin < 0 || end < begin || (uint64_t)end > vocabulary->byte_count)
        return NULL;
    *length = (size_t)(end - begin);
    return vocabulary->bytes + begin;
}

static bool entry_is_string(const struct vocabulary *vocabulary, size_t entry, const char *id, size_t length) {
    size_t size = 0;
    const char *string = vocabulary_string(vocabulary, entry, &size);
    return string != NULL && size == length && memcmp(string, id, length) == 0;
}

/* Entry + 1 of slot number `i` of a hash's probe sequence; 0 if the slot is empty or points outside the table. */
static size_t probe_slot(const struct vocabulary *vocabulary, uint64_t hash, size_t i) {
    int32_t slot = vocabulary->slots[(hash + i) & vocabulary->slot_mask];
    return slot <= 0 || (size_t)slot > vocabulary->entries ? 0 : (size_t)slot;
}

int64_t vocabulary_find_integer(const struct vocabulary *vocabulary, int64_t id) {
    uint64_t hash = mix((uint64_t)id);
    size_t slot = 1;
    for (size_t i = 0; slot > 0 && i < vocabulary->probe; i++) {
        slot = probe_slot(vocabulary, hash, i);
        if (slot > 0 && vocabulary->keys[slot - 1] == id)
            return (int64_t)slot - 1;
    }
    return -1;
}

int64_t vocabulary_find_string(const struct vocabulary *vocabulary, const char *id, size_t length) {
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a, 64 bit (Fowler, Noll, Vo) */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)id[i]) * 0x100000001b3U;
    hash = mix(hash);
    size_t slot = 1;
    for (size_t i = 0; slot > 0 && i < vocabulary->probe; i++) {
        slot = probe_slot(vocabulary, hash, i);
        if (slot > 0 && entry_is_string(vocabulary, slot - 1, id, length))
            return (int64_t)slot - 1;
    }
    return -1;
}
