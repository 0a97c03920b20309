/* vocabulary.h: ids to rows through the hash table that the model file holds: mapped, not parsed, nothing done at
 * start.
 *
 * FORMAT.md has the layout. What the table says is checked as it is read: a slot or an offset that points outside its
 * tensor finds nothing.
 */
#ifndef MODEL_FORMAT_VOCABULARY_H
#define MODEL_FORMAT_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vocabulary {
    size_t entries;
    size_t probe;           /* slots that a lookup reads at most */
    size_t slot_mask;       /* slots - 1 */
    const int32_t *slots;   /* 0: empty, else entry + 1 */
    const int64_t *keys;    /* [entries], integers; NULL: strings */
    const int64_t *offsets; /* [entries + 1], strings */
    const char *bytes;
    size_t byte_count;
};

/* The entry of an id, or -1. */
int64_t vocabulary_find_integer(const struct vocabulary *vocabulary, int64_t id);
int64_t vocabulary_find_string(const struct vocabulary *vocabulary, const char *id, size_t length);

#endif
