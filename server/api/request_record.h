/* request_record.h: the facts about one request that the request log writes, kept from the end of its scoring until
 * the log's thread makes a line of them.
 *
 * A scoring thread copies the facts out of its arena, which it uses for the next request. Table rows become ids again,
 * and a body loses its user, on the log's thread.
 */
#ifndef SERVER_API_REQUEST_RECORD_H
#define SERVER_API_REQUEST_RECORD_H

#include "proto/arena.h"
#include "proto/record.h"
#include "server/http/http.h"
#include "server/scoring/job_queue.h"
#include "server/scoring/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request_record {
    struct request_record *next, *previous;
    struct job *job; /* whose record it is, until the exchange ends */
    size_t bytes;    /* of the record and its body */
    bool sampled;    /* its user is within the share */
    bool decoded;    /* the body is a valid request */
    /* Set on a scoring thread. */
    struct served_model *served; /* held; NULL: no model has scored it */
    size_t user_length;
    const char *user; /* NULL: none, or it is not to be written */
    size_t scored, results;
    const float *scores;   /* [scored] */
    const uint32_t *order; /* [results] */
    size_t columns;        /* of the behaviours that were used; 0: the body has them, or there are none */
    struct kept_column *column;
    int64_t received; /* behaviours of the longest interest, those that were cut off included; -1: none is known */
    /* Set on the loop's thread, when the answer is given and when it has gone. */
    char *body; /* malloc'ed */
    size_t body_size;
    enum proto_format format;
    enum proto_coding coding;
    uint64_t began; /* clock_now() at the end of the head */
    char request_id[REQUEST_ID_MAX + 1];
    struct trace_context trace;
    bool is_update; /* POST /users/{id}/history */
    struct request_summary summary;
    double waited; /* seconds in the queue */
    double total;  /* seconds, head to the end of the answer */
    int status;
    unsigned outcome;
};

/* One field of one interest's behaviours, oldest first. */
struct kept_column {
    size_t interest, field; /* `field`: its place in the interest's history */
    size_t count;
    const int32_t *rows; /* or */
    const float *values; /* [count, width] */
};

/* After request_score() or request_update(). `with_user`: the user's id is copied; `with_history`: the behaviours that
 * were used are, if the request did not bring all of them. NULL: memory is out. */
struct request_record *request_record_new(const struct request *request, struct served_model *served, bool with_user,
                                          bool with_history);
/* A request that no thread has scored. */
struct request_record *request_record_unscored(void);
void request_record_free(struct request_record *record); /* NULL is allowed */

/* The behaviours that were used, as a HistoryRecord in the arena. data NULL: none were kept, or memory is out. */
struct proto_string request_record_history(const struct request_record *record, struct arena *arena);

#endif
