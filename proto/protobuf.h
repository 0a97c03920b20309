/* protobuf.h: POST /score and POST /users/{id}/history as the messages of score.proto: the same structs in, the same
 * structs out as decode.h and encode.h, with the same limits and problems.
 */
#ifndef PROTO_PROTOBUF_H
#define PROTO_PROTOBUF_H

#include "proto/arena.h"
#include "proto/problem.h"
#include "proto/score.h"

/* The request in `size` bytes of a ScoreRequest. False on error, and then *problem says what and where, with the
 * pointer that the same mistake has in the column form of JSON. `request` and what it points to are valid until the
 * arena is reset; the body may be freed at once. */
bool protobuf_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                             struct problem *problem);
/* The same for a HistoryRequest. */
bool protobuf_decode_history(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                             struct problem *problem);

/* A ScoreReply, or without results a HistoryReply, to a request that came as a message; in the arena, data NULL when
 * memory is out. */
struct proto_string protobuf_encode_reply(const struct proto_reply *reply, struct arena *arena);

#endif
