/* arena.h: the memory of one request. Decoders and encoders allocate from it, and one reset frees everything.
 *
 * A reset keeps up to `keep` bytes of blocks, so a warmed-up arena never calls malloc. An arena is for one thread at a
 * time.
 */
#ifndef PROTO_ARENA_H
#define PROTO_ARENA_H

#include <stdbool.h>
#include <stddef.h>

/* Each allocation takes a multiple of so many bytes. */
#define ARENA_ALIGNMENT ((size_t)64)

struct arena_block;

struct arena {
    struct arena_block *blocks; /* newest first */
    size_t used;                /* bytes handed out since the last reset */
    size_t limit;               /* bytes that may be handed out between resets; 0: no limit */
    size_t keep;                /* bytes of blocks that a reset keeps */
    size_t marked;              /* bytes handed out before the mark */
    struct arena_block *reserve_block;
    size_t reserved; /* bytes at the end of reserve_block that arena_alloc() must not take */
};

void arena_init(struct arena *arena, size_t limit, size_t keep);
void arena_free(struct arena *arena);
void arena_reset(struct arena *arena);

/* `size` bytes, aligned to 64, not zeroed, valid until the next reset. NULL if memory or the limit is out. */
void *arena_alloc(struct arena *arena, size_t size);
/* `count` items of `size` bytes each. NULL also if the product overflows. */
void *arena_array(struct arena *arena, size_t count, size_t size);

/* Remembers what has been handed out; arena_rewind() takes back all that was handed out since. An arena has one mark,
 * and no reserve meanwhile. */
void arena_mark(struct arena *arena);
void arena_rewind(struct arena *arena);

/* Sets memory aside, within the limit, that later allocations do not get. False if memory or the limit is out. An arena
 * has one reserve at a time. */
bool arena_reserve(struct arena *arena, size_t size);
/* Ends the reserve. From now on allocations of `size` bytes in all cannot fail, each rounded up to ARENA_ALIGNMENT. */
void arena_release(struct arena *arena);

#endif
