/* json_decode.h: JSON in: the bodies of POST /score and POST /users/{id}/history, and the samples.json of a model
 * directory.
 *
 * jansson defines what JSON is: RFC 8259, no duplicate keys, no NaN, valid UTF-8, no U+0000. The wire has three bounds
 * of its own: 16 levels of nesting, 256 fields in a group, 256 bytes in user_id and in history_token.
 */
#ifndef PROTO_JSON_DECODE_H
#define PROTO_JSON_DECODE_H

#include "proto/arena.h"
#include "proto/problem.h"
#include "proto/score.h"

/* Once, before any thread uses jansson: seeds its hash, and has its parser take memory from the request's arena
 * (proto/parse_memory.h). */
void json_decode_init(void);

/* The request in `size` bytes of JSON. False on error, and then *problem says what and where. `request` and what it
 * points to are valid until the arena is reset; the body may be freed at once. */
bool json_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem);
/* Whether the members of a decoded POST /score go together; for a decoder of another form. False, with *problem, when
 * they do not. */
bool proto_check_request(const struct proto_request *request, struct problem *problem);
/* The same for POST /users/{id}/history. */
bool proto_check_history(const struct proto_request *request, struct problem *problem);

/* The same by jansson alone: what the scanner leaves, and what its tests hold it against. */
bool json_decode_request_tree(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                              struct problem *problem);

/* The same for the body of POST /users/{id}/history: a history, or a history_append with or without a token. */
bool json_decode_history(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem);

/* One sample of samples.json: a request and the scores that the training code gave for it. */
struct proto_sample {
    struct proto_request request;
    size_t score_count;
    const double *scores;
};

bool json_decode_samples(const char *text, size_t size, struct arena *arena, const struct proto_sample **samples,
                         size_t *count, struct problem *problem);

#endif
