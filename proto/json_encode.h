/* json_encode.h: JSON out: replies, problem details, health and the model's description. Each returns a body in the
 * arena (not NUL-terminated; data NULL when memory is out).
 */
#ifndef PROTO_JSON_ENCODE_H
#define PROTO_JSON_ENCODE_H

#include "proto/arena.h"
#include "proto/problem.h"
#include "proto/score.h"

/* 200 of POST /score and of POST /users/{id}/history. A score is written with nine significant digits: the float,
 * exactly. A candidate's own numbers are written with as many as give back the double that was decoded. */
struct proto_string json_encode_reply(const struct proto_reply *reply, struct arena *arena);

/* 200 of GET /users/{id}. */
struct proto_string json_encode_user_summary(const struct proto_user_summary *held, struct arena *arena);

/* application/problem+json. `request_id`, or NULL, becomes its `instance`, the URI "urn:dien:request:ID". */
struct proto_string json_encode_problem(const struct problem *problem, const char *request_id, struct arena *arena);

struct proto_health {
    const char *status; /* "ready", "draining", ... */
    const char *model;  /* NULL before there is one, as version */
    const char *version;
    double uptime_seconds;
};
struct proto_string json_encode_health(const struct proto_health *health, struct arena *arena);

/* GET /model: what a client must send. */
struct proto_model_field {
    const char *name;
    const char *kind;         /* "index", "integer", "string", "dense" */
    size_t rows;              /* categorical: rows of its table */
    size_t width;             /* dense: numbers a value */
    const char *attribute_of; /* NULL: must be sent */
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
};
struct proto_string json_encode_model(const struct proto_model *model, struct arena *arena);

/* One line of the log, without the line's end: an object of strings and numbers. A whole number is written as an
 * integer, one that is not finite as null; in a string that is not UTF-8, every byte that is not ASCII becomes '?', as
 * in a problem's texts. */
struct proto_member {
    const char *name;
    const char *string; /* NULL: the number */
    double number;
};
struct proto_string json_encode_line(const struct proto_member *members, size_t count, struct arena *arena);

#endif
