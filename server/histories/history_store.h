/* history_store.h: the histories of users in a store that outlives the server: LMDB on this machine, Redis for a fleet.
 *
 * All calls are for the loop's thread, and none waits: the result comes by a callback on that thread, at the latest
 * when its time is up. The callback may come before the call returns. A breaker answers in place of a store that is
 * down. The store holds records of history.proto and knows no model.
 */
#ifndef SERVER_HISTORIES_HISTORY_STORE_H
#define SERVER_HISTORIES_HISTORY_STORE_H

#include "proto/history_record.h"
#include "server/base/counter.h"
#include "server/base/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history_store;

enum history_status {
    HISTORY_DONE,
    HISTORY_DOWN,        /* the store cannot be reached, or fails */
    HISTORY_LATE,        /* no answer in time */
    HISTORY_FULL,        /* no room: nothing changed */
    HISTORY_CHANGED,     /* the record is not the one that the change was to be applied to: nothing changed */
    HISTORY_BUSY,        /* other servers changed the user's record all the time: nothing changed */
    HISTORY_UNCONFIRMED, /* applied, but not at as many replicas as was asked: to be repeated with its event id */
    HISTORY_BAD_RECORD,  /* of another encoding, or damaged: neither read nor changed */
    HISTORY_STATUSES
};
extern const char *const history_status_names[HISTORY_STATUSES];

/* A prefix and the longest id of a user are within the 511 bytes of an LMDB key. */
enum { HISTORY_PREFIX_MOST = 100 };

/* Any thread may read them. Counts are of calls, by their status. */
struct history_counts {
    _Atomic uint64_t gets[HISTORY_STATUSES], appends[HISTORY_STATUSES], deletes[HISTORY_STATUSES];
    _Atomic uint64_t applied, duplicates, refused; /* changes */
    _Atomic uint64_t conflicts;                    /* records that another server changed meanwhile; tried again */
    _Atomic uint64_t syncs, sync_failures, connects, disconnects;
    _Atomic uint64_t breaker_opened;
    _Atomic uint64_t breaker_open; /* 1: now */
    _Atomic uint64_t pending;      /* calls without a result */
    struct histogram get_seconds, change_seconds;
};

struct history_store_options {
    const char *where;         /* lmdb:PATH; redis://[USER:PASSWORD@]HOST:PORT[/DB]; unix:PATH */
    const char *prefix;        /* of each key, at most HISTORY_PREFIX_MOST bytes; "" */
    const char *password_file; /* of Redis; NULL: the address has it, or there is none */
    double timeout;            /* seconds for a call; 0: the engine's own */
    double sync_seconds; /* LMDB: 0: a change is synced before its result; else the last commit may wait so long */
    size_t map_bytes;    /* LMDB: the file's largest size */
    double ttl;          /* Redis: seconds that an unchanged history is kept; 0: for ever */
    size_t replicas;     /* Redis: that must have a change before its result */
    struct history_limits limits;
    struct history_counts *counts; /* outlive the store */
};

/* NULL, with the reason in `error`. With `loop` NULL only history_store_export() and _import() may be called. */
struct history_store *history_store_open(const struct history_store_options *options, struct loop *loop, char *error,
                                         size_t error_size);
/* Every call without a result gets HISTORY_DOWN. Changes that are under way are finished. Before loop_free(). */
void history_store_close(struct history_store *store);

/* Valid during the callback, but for `record`. */
struct history_result {
    enum history_status status;
    bool uncertain; /* a change without a result may have been applied: repeat it with its event id */
    bool unchanged; /* get: the record still has the revision that the caller knows */
    bool existed;   /* delete */
    char *record;   /* malloc'ed, the callback's from now on; NULL: the user is unknown, or `unchanged` */
    size_t size;
    uint64_t revision;                    /* of the record; 0: the user is unknown */
    const struct history_change *changes; /* append: outcome and count of each */
    size_t change_count;
    char detail[160]; /* for a person, unless HISTORY_DONE */
};

typedef void history_done(void *context, struct history_result *result);

/* `known`: a revision that the caller has already, or 0. */
void history_store_get(struct history_store *store, struct proto_string user, uint64_t known, history_done *done,
                       void *context);
/* Applies the changes in order, all at once. Copies them. With `wants_record` the result has the record afterwards.
 * `expected`: the revision that the record must have, unless nothing is to be changed; 0: any. */
void history_store_append(struct history_store *store, struct proto_string user, const struct history_change *changes,
                          size_t count, uint64_t expected, bool wants_record, history_done *done, void *context);
void history_store_delete(struct history_store *store, struct proto_string user, history_done *done, void *context);

/* These two wait, and are for a process that serves nobody. False with the reason in `error`. */

/* Calls `each` for every user; it returns false to end early. */
bool history_store_export(struct history_store *store,
                          bool (*each)(void *context, struct proto_string user, struct proto_string record),
                          void *context, char *error, size_t error_size);
/* Stores what `next` gives until it returns false, in place of what the users have. */
bool history_store_import(struct history_store *store,
                          bool (*next)(void *context, struct proto_string *user, struct proto_string *record),
                          void *context, char *error, size_t error_size);

#endif
