/* parse_memory.c: small allocations from chunks of an arena, and a longjmp when there are no more. */
#include "proto/parse_memory.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>

/* ALIGNMENT is malloc's. The arena's own 64 bytes would waste much on many small nodes. */
enum { ALIGNMENT = 16, CHUNK = 16 * 1024 };

struct parse_memory {
    struct arena *arena;
    char *next; /* free bytes of the current chunk */
    size_t left;
    jmp_buf out_of_memory;
};

static _Thread_local struct parse_memory *current; /* NULL outside parse_memory_run() */

bool parse_memory_run(struct arena *arena, void (*parse)(void *), void *context) {
    struct parse_memory memory = {.arena = arena};
    current = &memory;
    if (setjmp(memory.out_of_memory) != 0) {
        current = NULL;
        return false;
    }
    parse(context);
    current = NULL;
    return true;
}

void *parse_memory_malloc(size_t size) {
    struct parse_memory *memory = current;
    if (memory == NULL)
        return malloc(size);
    if (size > SIZE_MAX - ALIGNMENT)
        longjmp(memory->out_of_memory, 1);
    size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (rounded > memory->left) {
        size_t chunk = rounded > CHUNK ? rounded : CHUNK;
        memory->next = arena_alloc(memory->arena, chunk);
        if (memory->next == NULL)
            longjmp(memory->out_of_memory, 1);
        memory->left = chunk;
    }
    char *taken = memory->next;
    memory->next += rounded;
    memory->left -= rounded;
    return taken;
}

void parse_memory_free(void *memory) {
    if (current == NULL)
        free(memory);
}
