/* json_fast_decode.h: the body of POST /score straight into the structs of score.h, without a tree.
 *
 * It takes the common requests and refuses all others, valid or not: the caller then starts again with json_decode.c,
 * which defines the valid requests and finds the words for the others. tests/fuzz compares the two decoders.
 */
#ifndef PROTO_JSON_FAST_DECODE_H
#define PROTO_JSON_FAST_DECODE_H

#include "proto/arena.h"
#include "proto/score.h"

/* True: *request is valid until the arena is reset; the body may be freed at once. False: the body is not one for this
 * decoder, or memory is out. Then *request is undefined, and the arena may hold some memory of the attempt. */
bool json_fast_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request);

#endif
