/* protobuf_count.h: walks a message of score.proto by its wire format alone, without decoding it, and counts its
 * values.
 *
 * It takes no memory and refuses nothing, so server/scoring/cost_model.c can estimate a request before it is decoded.
 */
#ifndef PROTO_PROTOBUF_COUNT_H
#define PROTO_PROTOBUF_COUNT_H

#include <stdbool.h>
#include <stddef.h>

/* Values of all columns of a group. A vector counts as its numbers. */
struct protobuf_counts {
    bool has_history;
    size_t history, candidates;
};

/* The bytes of the field at the start of a message, its tag included; 0: there is none, or it is not wire format.
 * *is_user_id: it is a ScoreRequest's user_id. */
size_t protobuf_field(const char *message, size_t size, bool *is_user_id);

/* Counts in a ScoreRequest or a HistoryRequest. For any other bytes it counts up to the first byte that is not wire
 * format. No count exceeds the number of bytes. */
struct protobuf_counts protobuf_count_values(const char *body, size_t size);

#endif
