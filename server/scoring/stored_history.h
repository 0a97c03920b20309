/* stored_history.h: between requests and the records of a history store: lists of a model's interests, changes, and
 * records as the history of a request.
 *
 * A store keeps one list for the interests that share fields, under the name of the first of them. Nothing here knows a
 * store: a request that needs one is put aside, and runs once more when the store has answered.
 */
#ifndef SERVER_SCORING_STORED_HISTORY_H
#define SERVER_SCORING_STORED_HISTORY_H

#include "model/dien.h"
#include "proto/arena.h"
#include "proto/history_record.h"
#include "proto/problem.h"
#include "proto/score.h"
#include "server/scoring/event_batch.h"
#include "server/users/user_cache.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stored_want {
    STORED_NOTHING,
    STORED_GET,    /* the record of the user */
    STORED_APPEND, /* `change` to be applied, and then the record */
    STORED_EVENTS  /* the changes of `events` */
};

/* What a request asks of the store, and the answer. */
struct stored_history {
    enum stored_want want;
    bool replaces;      /* the change is the whole history */
    size_t user_length; /* bytes */
    size_t change_size; /* as history_addition_encode() wrote it */
    bool answered;      /* the rest is set, and the request may run again */
    bool failed;        /* the store gave no answer: only of STORED_GET, in whose place a state may serve */
    bool unchanged;     /* of STORED_GET: the store has the record `known`, and `record` is NULL */
    bool changed;       /* of STORED_APPEND: the record is not `known`, and nothing was applied */
    uint64_t known; /* of STORED_GET: the record of the state in memory; of STORED_APPEND: that it is for; 0: none */
    uint64_t asked; /* clock_now() */
    uint64_t delete_epoch; /* of the cache, when the store was asked; 0 without a cache */
    uint64_t count;        /* of the change: behaviours ever received, after it */
    char *record;          /* malloc'ed; NULL: the store does not know the user */
    size_t record_size;
    struct event_batch *events; /* STORED_EVENTS: owned */
    char detail[160];           /* if it failed */
    void *context;              /* whoever asks the store */
    char user[USER_ID_MAX];
    char change[];
};

/* The change and the user's id are copied. NULL: memory is out. */
struct stored_history *stored_history_new(enum stored_want want, struct user_key user, struct proto_string change,
                                          bool replaces);
void stored_history_free(struct stored_history *stored); /* NULL is allowed */

/* The decoded and resolved `table`, which is a history or a history_append, as a change. False with a problem whose
 * pointer begins with `name`: a behaviour has more than `behaviour_bytes`, or memory is out. */
bool stored_change(const struct dien_model *model, const struct proto_table *table, const char *name,
                   struct proto_string event_id, size_t behaviour_bytes, struct arena *arena,
                   struct proto_string *change, struct problem *problem);

/* A record as the history of a request to this model: each field of the behaviours has a column. A field that a list
 * lacks has absent values, or no column if it follows from its parent. *counts: behaviours ever received, by interest.
 * Fills in *source but for `checked`, and *count: behaviours ever received, of all lists. False if the record is
 * unreadable or memory is out. */
bool stored_table(const struct dien_model *model, struct proto_string record, struct arena *arena,
                  struct proto_table *table, const uint64_t **counts, uint64_t *count, struct user_source *source);

/* The list of a behaviour field, by the first interest of those that share it; beyond the last interest if none reads
 * the field. */
size_t stored_list_of(const struct dien_model *model, size_t place);

/* The behaviours received of all lists, from those of each interest. */
uint64_t stored_received(const struct dien_model *model, const struct proto_interest *described);

#endif
