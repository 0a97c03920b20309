/* event_batch.h: the lines of one POST /events: their changes by user, and their outcomes.
 *
 * A scoring thread fills a batch from the body. The loop's thread takes it group by group, each with all events of one
 * user, and notes what the history store says. A scoring thread then writes the outcomes. One thread at a time has it.
 */
#ifndef SERVER_SCORING_EVENT_BATCH_H
#define SERVER_SCORING_EVENT_BATCH_H

#include "proto/arena.h"
#include "proto/history_record.h"
#include "proto/problem.h"
#include "proto/score.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern const char *const event_outcome_names[HISTORY_OUTCOMES]; /* "applied", ... */

struct event {
    size_t line; /* of the body, from 1 */
    struct proto_string user, change;
    enum history_outcome outcome;
    enum problem_kind problem;           /* of HISTORY_REFUSED */
    struct proto_string detail, pointer; /* length 0: none */
    uint64_t count;                      /* of HISTORY_APPLIED and HISTORY_DUPLICATE: behaviours ever received */
};

/* The events of one user, in the order of their lines. */
struct event_group {
    struct proto_string user;
    size_t first, count; /* in changes[] and changed[] */
    void *context;       /* whoever asks the store */
};

struct event_batch {
    struct arena arena; /* all that follows */
    size_t count, most;
    struct event *events; /* in the order of the lines */
    size_t group_count;
    struct event_group *groups;
    struct history_change *changes; /* of the events that are to be applied, group by group */
    struct event **changed;         /* the event of each */
    bool strict;                    /* unless all are applied, the whole request has failed */
    /* The loop's. */
    size_t next, running; /* groups: the first that was not asked for, and those without a result */
    bool asking, down;
};

/* Room for `most` events within `memory` bytes. NULL: memory is out. */
struct event_batch *event_batch_new(size_t most, size_t memory);
void event_batch_free(struct event_batch *batch); /* NULL is allowed */

/* Copies what is given. False: memory is out. */
bool event_batch_add(struct event_batch *batch, size_t line, struct proto_string user, struct proto_string change);
bool event_batch_refuse(struct event_batch *batch, size_t line, const struct problem *problem);

/* Makes the groups, after the last event. False with a problem: a user has more than `most_of_user` events, or memory
 * is out. */
bool event_batch_group(struct event_batch *batch, size_t most_of_user, struct problem *problem);

/* The store's results for a group, or, with `changes` NULL, the reason why there are none. */
void event_batch_take(struct event_batch *batch, const struct event_group *group, const struct history_change *changes,
                      const char *reason);

#endif
