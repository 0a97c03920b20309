/* parse_memory.h: jansson's memory while it parses: taken from the request's arena, so that the request's memory limit
 * counts the tree too, and so that no piece of it can be leaked.
 *
 * jansson's parser does not bear a refused allocation: jansson 2.14 ignores one while it collects the text of a token,
 * and then stops the process by an assertion or reads past what it has. So it never sees one: the parse is left by
 * longjmp instead, which is sound because all it had taken is in the arena.
 */
#ifndef PROTO_PARSE_MEMORY_H
#define PROTO_PARSE_MEMORY_H

#include "proto/arena.h"

#include <stdbool.h>
#include <stddef.h>

/* Call parse(context). What jansson allocates meanwhile, in this thread, belongs to the arena and must not be given
 * back later: there is no json_decref() for it. False when the arena had no more: parse was left where it stood. */
bool parse_memory_run(struct arena *arena, void (*parse)(void *), void *context);

/* For json_set_alloc_funcs(), which is for the whole process: outside parse_memory_run(), malloc and free. */
void *parse_memory_malloc(size_t size);
void parse_memory_free(void *memory);

#endif
