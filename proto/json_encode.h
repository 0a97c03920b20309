/* json_encode.h: JSON bodies of replies, problems, health and the model's description.
 *
 * Each function returns bytes in the arena, not NUL-terminated; data is NULL if memory is out.
 */
#ifndef PROTO_JSON_ENCODE_H
#define PROTO_JSON_ENCODE_H

#include "proto/arena.h"
#include "proto/history_record.h"
#include "proto/problem.h"
#include "proto/score.h"

/* The 200 of POST /score and of POST /users/{id}/history. Scores have nine significant digits, which give back the
 * float exactly. A candidate's own numbers have as many digits as give back the decoded double. */
struct proto_string json_encode_reply(const struct proto_reply *reply, struct arena *arena);
/* The most bytes that such a reply can have, whatever its results, counts and lengths turn out to be: `results` may be
 * NULL, and an interest counts with its `length`. With `room` set to it, encoding takes just so much of the arena. */
size_t json_reply_most(const struct proto_reply *reply);

/* The 200 of GET /users/{id}. */
struct proto_string json_encode_user_summary(const struct proto_user_summary *summary, struct arena *arena);

/* The outcome of an event of POST /events. */
struct proto_outcome {
    size_t line;      /* of the request's body, from 1 */
    const char *name; /* NUL-terminated */
    uint64_t count;   /* behaviours ever received */
    bool has_count;
    enum problem_kind problem;           /* PROBLEM_NONE: none is told */
    struct proto_string detail, pointer; /* length 0: none; with a problem the pointer is told in any case */
};
/* The 200 of POST /events: a line for each. */
struct proto_string json_encode_outcomes(const struct proto_outcome *outcomes, size_t count, struct arena *arena);

/* A line of --histories-export, with its line break: a user's whole record. `record`, if not NULL, is told as it is
 * beside the rest: it has parts that this version does not know. */
struct proto_string json_encode_history(struct proto_string user, const struct history *history,
                                        const struct proto_string *record, struct arena *arena);

/* application/problem+json. `request_id`, if not NULL, becomes its `instance`: the URI "urn:dien:request:ID". */
struct proto_string json_encode_problem(const struct problem *problem, const char *request_id, struct arena *arena);

struct proto_health {
    const char *status; /* "ready", "draining", ... */
    const char *model;  /* NULL, as is version, until a model is loaded */
    const char *version;
    double uptime_seconds;
};
struct proto_string json_encode_health(const struct proto_health *health, struct arena *arena);

/* GET /model: the fields that a client must send, and the limits. */
struct proto_model_field {
    const char *name;
    const char *kind;         /* "index", "integer", "string", "dense" */
    size_t rows;              /* categorical: rows of its table */
    size_t width;             /* dense: numbers per value */
    size_t values;            /* multi-valued: ids per value at most; else 0 */
    const char *attribute_of; /* NULL: the field is required */
};
struct proto_model_group {
    const char *name;
    size_t count;
    const struct proto_model_field *fields;
};
struct proto_model_interest {
    const char *name;
    size_t max_length;
    size_t count;
    const char *const *history; /* names of its behaviour fields */
};
struct proto_limit {
    const char *name;
    size_t value;
};
struct proto_model {
    const char *name;
    const char *version;
    size_t group_count;
    const struct proto_model_group *groups;
    size_t interest_count;
    const struct proto_model_interest *interests;
    size_t limit_count;
    const struct proto_limit *limits;
    const char *config_sha256, *weights_sha256; /* in hexadecimal digits; NULL: left out, as are all that follow */
    const char *loaded_at, *loaded_by;
    const char *last_failure_at; /* NULL: no model was refused */
};
struct proto_string json_encode_model(const struct proto_model *model, struct arena *arena);

/* GET /models: those in memory, and how loads ended. */
struct proto_slot {
    const char *slot; /* "live", "previous", "candidate" */
    const char *name, *version;
    const char *config_sha256, *weights_sha256;
    const char *loaded_at, *loaded_by;
    size_t bytes;
    bool has_shares; /* of requests; the candidate's */
    double canary, shadow;
};
struct proto_slots {
    size_t count;
    const struct proto_slot *slots;
    bool loading;
    size_t live, candidate, refused, busy; /* loads by their end */
    size_t rollbacks, promotions, drops;
    const char *failed_at, *failure; /* the last refusal; NULL: none */
};
struct proto_string json_encode_slots(const struct proto_slots *slots, struct arena *arena);
/* One member, a string. */
struct proto_string json_encode_member(const char *name, const char *value, struct arena *arena);

#endif
