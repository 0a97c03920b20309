/* protobuf.h: the messages of score.proto, decoded to and encoded from the structs of score.h.
 *
 * Limits and problems are those of JSON, and a problem's pointer is the one that the mistake has in the column form.
 */
#ifndef PROTO_PROTOBUF_H
#define PROTO_PROTOBUF_H

#include "proto/arena.h"
#include "proto/problem.h"
#include "proto/score.h"

/* Both decoders return false on error and set *problem. The request is valid until the arena is reset; the body may be
 * freed at once. `strict`: a field that score.proto does not have is an error; otherwise it is ignored, so that newer
 * clients can talk to this server. */
bool protobuf_decode_request(const char *body, size_t size, bool strict, struct arena *arena,
                             struct proto_request *request, struct problem *problem); /* a ScoreRequest */
bool protobuf_decode_history(const char *body, size_t size, bool strict, struct arena *arena,
                             struct proto_request *request, struct problem *problem); /* a HistoryRequest */

/* A ScoreReply, or a HistoryReply if there are no results, to a request that came as a message. The bytes are in the
 * arena; data is NULL if memory is out. */
struct proto_string protobuf_encode_reply(const struct proto_reply *reply, struct arena *arena);
/* The most bytes of the arena that encoding takes, as json_reply_most(). The reply itself has fewer. */
size_t protobuf_reply_most(const struct proto_reply *reply);

#endif
