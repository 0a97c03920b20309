/* parse_memory.h: makes a parser of a library allocate from the request's arena. The request's memory limit then counts
 * the parsed tree too, and no piece of the tree can leak.
 *
 * jansson 2.14 ignores a refused allocation while it collects the text of a token, and then fails an assertion or reads
 * past its buffer. So it must never see one: longjmp leaves the parser instead. That is sound, because the arena owns
 * all memory that the parser took.
 */
#ifndef PROTO_PARSE_MEMORY_H
#define PROTO_PARSE_MEMORY_H

#include "proto/arena.h"

#include <stdbool.h>
#include <stddef.h>

/* Calls parse(context). Memory that the library allocates in this thread meanwhile belongs to the arena. It must not be
 * freed after this call, so there is no json_decref() for it. False if the arena ran out and `parse` was left midway.
 */
bool parse_memory_run(struct arena *arena, void (*parse)(void *), void *context);

/* Allocator for a library, such as for json_set_alloc_funcs(), which sets it for the whole process. Outside
 * parse_memory_run() these are malloc and free. */
void *parse_memory_malloc(size_t size);
void parse_memory_free(void *memory);

#endif
