/* arena.c: blocks of memory that one reset returns.
 *
 * An allocation takes the first block with room, newest first. Each new block is at least twice as large as the one
 * before, so there are few blocks to search. Under AddressSanitizer, all memory that is not handed out is poisoned.
 */
#include "proto/arena.h"

#include <stdint.h>
#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_POISON 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define ARENA_POISON 1
#endif

#ifdef ARENA_POISON
#include <sanitizer/asan_interface.h>
#define POISON(memory, size)   ASAN_POISON_MEMORY_REGION(memory, size)
#define UNPOISON(memory, size) ASAN_UNPOISON_MEMORY_REGION(memory, size)
#else
#define POISON(memory, size)   ((void)(memory), (void)(size))
#define UNPOISON(memory, size) ((void)(memory), (void)(size))
#endif

#define ALIGNMENT   ARENA_ALIGNMENT
#define FIRST_BLOCK ((size_t)64 * 1024)

struct arena_block {
    struct arena_block *next;
    size_t size; /* bytes after the header, a multiple of ALIGNMENT */
    size_t used;
    size_t marked; /* used at the mark; 0 in a newer block */
};

/* The header takes one unit, so that the data after it is aligned. */
_Static_assert(sizeof(struct arena_block) <= ALIGNMENT, "a block's header fits in one unit");

static char *block_data(struct arena_block *block) {
    return (char *)block + ALIGNMENT;
}

/* Adds a block for at least `needed` bytes. It is twice as large as the newest block, but no larger than the limit can
 * still use. */
static struct arena_block *block_new(struct arena *arena, size_t needed) {
    size_t size = arena->blocks == NULL ? FIRST_BLOCK : arena->blocks->size;
    if (arena->blocks != NULL && size <= SIZE_MAX / 4)
        size *= 2;
    if (arena->limit != 0) {
        size_t left = (arena->limit - arena->used) / ALIGNMENT * ALIGNMENT;
        size = size < left ? size : left;
    }
    size = size > needed ? size : needed;

    struct arena_block *block = aligned_alloc(ALIGNMENT, ALIGNMENT + size);
    if (block == NULL)
        return NULL;
    *block = (struct arena_block){.next = arena->blocks, .size = size};
    POISON(block_data(block), size);
    arena->blocks = block;
    return block;
}

void arena_init(struct arena *arena, size_t limit, size_t keep) {
    *arena = (struct arena){.limit = limit, .keep = keep};
}

void arena_free(struct arena *arena) {
    arena->keep = 0;
    arena_reset(arena);
}

void arena_reset(struct arena *arena) {
    arena_release(arena);
    struct arena_block **link = &arena->blocks;
    size_t kept = 0;
    while (*link != NULL) {
        struct arena_block *block = *link;
        if (block->size > arena->keep - kept) {
            *link = block->next;
            UNPOISON(block_data(block), block->size);
            free(block);
            continue;
        }
        kept += block->size;
        block->used = block->marked = 0;
        POISON(block_data(block), block->size);
        link = &block->next;
    }
    arena->used = arena->marked = 0;
}

/* A block with room for so many bytes, a multiple of ALIGNMENT. NULL if memory or the limit is out. */
static struct arena_block *block_for(struct arena *arena, size_t rounded) {
    if (arena->limit != 0 && (arena->used > arena->limit || rounded > arena->limit - arena->used))
        return NULL;
    struct arena_block *block = arena->blocks;
    while (block != NULL && block->size - block->used < rounded)
        block = block->next;
    return block != NULL ? block : block_new(arena, rounded);
}

static size_t round_up(size_t size) {
    return size == 0 ? ALIGNMENT : (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

void *arena_alloc(struct arena *arena, size_t size) {
    if (size > SIZE_MAX - 2 * ALIGNMENT)
        return NULL;
    size_t rounded = round_up(size);
    struct arena_block *block = block_for(arena, rounded);
    if (block == NULL)
        return NULL;

    char *memory = block_data(block) + block->used;
    block->used += rounded;
    arena->used += rounded;
    UNPOISON(memory, size);
    return memory;
}

void arena_mark(struct arena *arena) {
    arena->marked = arena->used;
    for (struct arena_block *block = arena->blocks; block != NULL; block = block->next)
        block->marked = block->used;
}

void arena_rewind(struct arena *arena) {
    arena->used = arena->marked;
    for (struct arena_block *block = arena->blocks; block != NULL; block = block->next) {
        POISON(block_data(block) + block->marked, block->used - block->marked);
        block->used = block->marked;
    }
}

bool arena_reserve(struct arena *arena, size_t size) {
    if (size > SIZE_MAX - 2 * ALIGNMENT)
        return false;
    size_t rounded = round_up(size);
    struct arena_block *block = block_for(arena, rounded);
    if (block == NULL)
        return false;
    block->size -= rounded;
    arena->used += rounded;
    arena->reserve_block = block;
    arena->reserved = rounded;
    return true;
}

void arena_release(struct arena *arena) {
    if (arena->reserve_block == NULL)
        return;
    arena->reserve_block->size += arena->reserved;
    arena->used -= arena->reserved;
    arena->reserve_block = NULL;
    arena->reserved = 0;
}

void *arena_array(struct arena *arena, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return arena_alloc(arena, bytes);
}
