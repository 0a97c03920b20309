/* record.h: a request and its reply as one line of the request log (server/REQUEST_LOG.md), and bodies without the user
 * that they are about.
 */
#ifndef PROTO_RECORD_H
#define PROTO_RECORD_H

#include "proto/arena.h"
#include "proto/score.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PROTO_RECORD_PHASES = 8 };

/* Members that are NULL, have no data, or are negative where that is no value, are left out. */
struct proto_record {
    const char *time;
    const char *request_id, *trace_id, *span_id;
    bool sampled;
    struct proto_string user_id;
    const char *user_hash;
    const char *model, *version, *digest; /* `model` NULL: none of the three */
    const char *method, *route, *content_type;
    struct proto_string body;        /* JSON, put in as it is */
    struct proto_string body_base64; /* of other bytes, encoded already, as is the next */
    struct proto_string history;
    size_t score_count;
    const float *scores;
    size_t order_count;
    const uint32_t *order;
    const char *user_state, *history_origin;
    int64_t history_count;
    size_t phase_count;
    const char *phase_names[PROTO_RECORD_PHASES];
    double phase_seconds[PROTO_RECORD_PHASES]; /* negative: not come through */
    int status;                                /* 0: none went out */
    const char *outcome;
};

/* One JSON object without line ends. data NULL: memory is out. Defined in json_encode.c, beside the other documents. */
struct proto_string json_encode_record(const struct proto_record *record, struct arena *arena);

/* A valid JSON object without line ends, and without its member "user_id" unless `keep_user`. The values stay as they
 * were written. data NULL: the text is no object, or memory is out. */
struct proto_string record_json_body(struct proto_string text, bool keep_user, struct arena *arena);

/* A ScoreRequest without its user_id. data NULL: it is no message, or memory is out. */
struct proto_string record_protobuf_body(struct proto_string message, struct arena *arena);

#endif
