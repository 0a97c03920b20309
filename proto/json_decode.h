/* json_decode.h: JSON bodies of POST /score and POST /users/{id}/history, and the samples.json of a model directory.
 *
 * jansson defines valid JSON: RFC 8259, no duplicate keys, no NaN, valid UTF-8, no U+0000. The wire adds limits of its
 * own: 16 levels of nesting here, the others in score.h.
 *
 * Every decoder returns false on error and sets *problem. The decoded structs are valid until the arena is reset; the
 * body may be freed at once.
 */
#ifndef PROTO_JSON_DECODE_H
#define PROTO_JSON_DECODE_H

#include "proto/arena.h"
#include "proto/history_record.h"
#include "proto/problem.h"
#include "proto/score.h"

/* Seeds jansson's hash and makes its parser allocate from the request's arena (parse_memory.h). Call it once, before
 * any thread uses jansson. */
void json_decode_init(void);

/* POST /score. Tries json_fast_decode.h first. */
bool json_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem);
/* POST /score by jansson alone. This is the definition of a valid request, to test the fast decoder against. */
bool json_decode_request_tree(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                              struct problem *problem);

/* POST /users/{id}/history: a history, or a history_append with or without a token. */
bool json_decode_history(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem);

/* One line of POST /events: a user_id, an event_id and a history_append. */
bool json_decode_event(const char *line, size_t size, struct arena *arena, struct proto_request *request,
                       struct problem *problem);

/* POST /models/candidate: {"directory": "2026-11-28", "canary": 0.05, "shadow": 0.1}, each of which may be absent. */
struct proto_candidate {
    struct proto_string directory; /* ends with a NUL; data NULL: absent */
    double canary, shadow;         /* 0 to 1; -1: absent */
};
bool json_decode_candidate(const char *body, size_t size, struct arena *arena, struct proto_candidate *candidate,
                           struct problem *problem);

/* A call of the admin plane: an object with the one member `name`, a string, and nothing else. The value ends with a
 * NUL. With NULL for the name: an object without members, or no text at all. */
bool json_decode_call(const char *body, size_t size, const char *name, struct arena *arena, struct proto_string *value,
                      struct problem *problem);

/* A text member of any object, as json_decode_call() gives it. False where there is none; nothing says why. */
bool json_decode_member(const char *text, size_t size, const char *name, struct arena *arena,
                        struct proto_string *value);
/* A line of --histories-export. *record: the member of that name as bytes, or data NULL. */
bool json_decode_record(const char *line, size_t size, struct arena *arena, struct proto_string *user,
                        struct history *history, struct proto_string *record, struct problem *problem);

/* One sample of samples.json: a request and the scores that the training code computed for it. */
struct proto_sample {
    struct proto_request request;
    size_t score_count;
    const double *scores;
};

bool json_decode_samples(const char *text, size_t size, struct arena *arena, const struct proto_sample **samples,
                         size_t *count, struct problem *problem);

#endif
