/* json_fast_decode.h: the body of POST /score read straight into score.h's structs, by a scanner that knows what a
 * request looks like.
 *
 * jansson stays the definition of a valid request: the scanner takes a subset and leaves the rest, among it everything
 * that is wrong, to proto/json_decode.c. What it takes is field by field what decode.c makes of jansson's tree;
 * tests/fuzz holds the two side by side.
 */
#ifndef PROTO_JSON_FAST_DECODE_H
#define PROTO_JSON_FAST_DECODE_H

#include "proto/arena.h"
#include "proto/score.h"

/* True: *request is the request in `size` bytes of JSON, valid until the arena is reset; the body may be freed at once.
 * False: not a body for the scanner, or memory is out. *request is then undefined, and the arena may hold what was
 * taken meanwhile. */
bool json_fast_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request);

#endif
