/* history_record.h: the stored form of a user's history (history.proto): encodes additions, merges them into a record,
 * reads a record.
 *
 * No function here knows a store, a model or a clock. A record of an unknown encoding, or one whose parts disagree, is
 * unreadable; it never reads as a shorter or an empty history.
 */
#ifndef PROTO_HISTORY_RECORD_H
#define PROTO_HISTORY_RECORD_H

#include "proto/arena.h"
#include "proto/score.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HISTORY_ENCODING = 1,
    HISTORY_REVISION_BYTES = 9, /* a record's first bytes: the tag of `revision`, and the number */
    HISTORY_EVENT_ID_MAX = 256, /* bytes */
    HISTORY_NO_REVISION = 2     /* of no record: our revisions are odd */
};

/* ---- Additions: what one request or one event adds. ---- */

/* Behaviours of one kind, oldest first: as many values in each column. A value of kind PROTO_ABSENT was not sent. */
struct history_list {
    struct proto_string name;
    uint64_t count; /* ever received; an addition's is not read */
    size_t length;
    size_t columns;
    const struct proto_column *column;
};

struct history_addition {
    struct proto_string event_id; /* length 0: none */
    size_t list_count;
    const struct history_list *lists;
};

enum history_fault {
    HISTORY_FAULT_NONE,
    HISTORY_FAULT_MEMORY,
    HISTORY_FAULT_VALUE, /* neither a number, a string nor a vector */
    HISTORY_FAULT_BYTES, /* a behaviour whose values have more bytes than allowed */
    HISTORY_FAULT_LENGTH /* a column whose count is not its list's length */
};

struct history_place {
    size_t list, column, behaviour;
};

/* Writes an addition as a message, into the arena. A behaviour may have `behaviour_bytes`: each string its length, each
 * number 8. On a fault, *place tells where. */
enum history_fault history_addition_encode(const struct history_addition *addition, size_t behaviour_bytes,
                                           struct arena *arena, struct proto_string *encoded,
                                           struct history_place *place);

/* ---- Merging. ---- */

struct history_limits {
    size_t keep;       /* behaviours of a list; the oldest go */
    size_t dedupe;     /* event ids of a user; the oldest go */
    size_t user_bytes; /* a record with more is not written */
};

enum history_outcome {
    HISTORY_APPLIED,
    HISTORY_DUPLICATE,   /* the event was applied before; nothing changed */
    HISTORY_REFUSED,     /* the record would be larger than user_bytes; nothing changed */
    HISTORY_UNAVAILABLE, /* the store gave no answer, or the record cannot be read */
    HISTORY_OUTCOMES
};

/* One addition in the order of its arrival, and its result. */
struct history_change {
    struct proto_string encoded;  /* by history_addition_encode() */
    bool replaces;                /* it is the whole history, in place of the lists that are held */
    enum history_outcome outcome; /* set by history_record_merge(), as is count */
    uint64_t count;               /* behaviours ever received, after the change; of a duplicate, after the first */
};

enum history_merge {
    HISTORY_MERGED,    /* the new record is to be stored */
    HISTORY_UNCHANGED, /* nothing was applied */
    HISTORY_UNREADABLE,
    HISTORY_NO_MEMORY
};

/* Applies the changes, in order, to a record (data NULL: the user has none). Writes the new record into the arena, with
 * this revision. A change that would make the record too large is refused; those behind it are looked at all the same.
 */
enum history_merge history_record_merge(struct proto_string record, struct history_change *changes, size_t count,
                                        const struct history_limits *limits, uint64_t revision, int64_t milliseconds,
                                        struct arena *arena, struct proto_string *merged);

/* ---- Reading. ---- */

struct history {
    uint64_t revision;
    uint64_t count;
    int64_t created_milliseconds, changed_milliseconds;
    size_t list_count;
    const struct history_list *lists;
    size_t event_count;
    const struct proto_string *event_ids;
    const uint64_t *event_counts;
};

/* False if the record is unreadable or memory is out. The history is valid until the arena is reset. */
bool history_record_read(struct proto_string record, struct arena *arena, struct history *history);

/* Writes a whole record, as it was read, with another revision. False if it would be unreadable or memory is out. */
bool history_record_encode(const struct history *history, uint64_t revision, struct arena *arena,
                           struct proto_string *record);

/* The revision in a record's first bytes; 0 if they are not one. */
uint64_t history_record_revision(struct proto_string record);
/* The first bytes of a record with this revision. */
void history_record_stamp(uint64_t revision, char stamp[HISTORY_REVISION_BYTES]);

#endif
