/* arena.h: a request's memory. Decode and encode allocate from it, one reset ends it.
 *
 * Blocks are kept across resets up to `keep` bytes, so that a warmed-up arena asks malloc for nothing. Not for two
 * threads at once.
 */
#ifndef PROTO_ARENA_H
#define PROTO_ARENA_H

#include <stddef.h>

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* bytes handed out since the last reset */
    size_t limit;               /* arena_alloc fails beyond this many bytes; 0: no limit */
    size_t keep;                /* bytes of blocks that a reset keeps */
};

void arena_init(struct arena *arena, size_t limit, size_t keep);
void arena_free(struct arena *arena);
void arena_reset(struct arena *arena);

/* `size` bytes aligned to 64, not zeroed, valid until the next reset. NULL when memory or the limit is out. */
void *arena_alloc(struct arena *arena, size_t size);
/* The same for `count` things of `size` bytes; NULL also when the product overflows. */
void *arena_array(struct arena *arena, size_t count, size_t size);

#endif
