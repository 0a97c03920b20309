/* vocabulary.h: look ids up in the hash table that the model file holds. FORMAT.md has its layout.
 *
 * The table is mapped and used as it lies in the file, so that a vocabulary of any size costs nothing at start. Its
 * slots and offsets are checked when they are read: one that points outside its tensor finds nothing.
 */
#ifndef MODEL_FORMAT_VOCABULARY_H
#define MODEL_FORMAT_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vocabulary {
    size_t entries;
    size_t probe;           /* slots that a lookup reads at most */
    size_t slot_mask;       /* number of slots - 1 */
    const int32_t *slots;   /* 0: empty, else entry + 1 */
    const int64_t *keys;    /* [entries], integers; NULL: strings */
    bool is_unsigned;       /* the keys are uint64_t: their bits lie in `keys` */
    const int64_t *offsets; /* [entries + 1], strings */
    const char *bytes;
    size_t byte_count;
};

/* The entry of an id, or -1. An integer of an unsigned vocabulary is looked up by its bits. */
int64_t vocabulary_find_integer(const struct vocabulary *vocabulary, int64_t id);
int64_t vocabulary_find_string(const struct vocabulary *vocabulary, const char *id, size_t length);

/* The bytes of a string entry; NULL: its offsets point outside the tensor. */
const char *vocabulary_string(const struct vocabulary *vocabulary, size_t entry, size_t *length);

#endif
