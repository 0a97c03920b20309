/* protobuf_count.h: counts the values in a message of score.proto by its wire format alone, without decoding it.
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

/* Counts in a ScoreRequest or a HistoryRequest. For any other bytes it counts up to the first byte that is not wire
 * format. No count exceeds the number of bytes. */
struct protobuf_counts protobuf_count_values(const char *body, size_t size);

#endif
