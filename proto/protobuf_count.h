/* protobuf_count.h: how many values a message of score.proto holds, by its wire format alone: no memory, no judgement.
 * For what must know the size of a request before it is decoded (server/scoring/cost_model.c).
 */
#ifndef PROTO_PROTOBUF_COUNT_H
#define PROTO_PROTOBUF_COUNT_H

#include <stdbool.h>
#include <stddef.h>

/* Values of all columns of a group; of a vector, its numbers. */
struct protobuf_counts {
    bool has_history;
    size_t history, candidates;
};

/* Of a ScoreRequest or a HistoryRequest: what it decodes to, if it decodes. Of any other bytes: what there is before
 * the first that is not wire format; never more than bytes. */
struct protobuf_counts protobuf_count_values(const char *body, size_t size);

#endif
