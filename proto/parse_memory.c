/* parse_memory.c: small allocations out of an arena's chunks, and the way out when there are no more. */
#include "proto/parse_memory.h"

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>

/* What malloc promises, and far less than the arena's 64 bytes for each of many small nodes. */
enum { ALIGNMENT = 16, CHUNK = 16 * 1024 };

struct parse_memory {
    struct arena *arena;
    char *next; /* free bytes of the chunk in hand */
    size_t left;
    jmp_buf out;
};

static _Thread_local struct parse_memory *current;

static bool run(struct parse_memory *memory, void (*parse)(void *), void *context) {
    if (setjmp(memory->out) != 0)
        return false;
    parse(context);
    return true;
}

bool parse_memory_run(struct arena *arena, void (*parse)(void *), void *context) {
    struct parse_memory memory = {.arena = arena};
    current = &memory;
    bool finished = run(&memory, parse, context);
    current = NULL;
    return finished;
}

static void *take(struct parse_memory *memory, size_t size) {
    size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (rounded > memory->left) {
        size_t chunk = rounded > CHUNK ? rounded : CHUNK;
        memory->next = arena_alloc(memory->arena, chunk);
        memory->left = memory->next != NULL ? chunk : 0;
    }
    if (rounded > memory->left)
        return NULL;
    char *taken = memory->next;
    memory->next += rounded;
    memory->left -= rounded;
    return taken;
}

void *parse_memory_malloc(size_t size) {
    if (current == NULL)
        return malloc(size);
    void *memory = size <= SIZE_MAX - ALIGNMENT ? take(current, size) : NULL;
    if (memory == NULL)
        longjmp(current->out, 1);
    return memory;
}

void parse_memory_free(void *memory) {
    if (current == NULL)
        free(memory);
}
