/* score.h: the requests and replies of POST /score and of the routes about users, as plain structs.
 *
 * The decoders (json_decode.c, json_fast_decode.c, protobuf.c) fill in a request, the encoders (json_encode.c,
 * protobuf.c) write a reply. Nothing here depends on a model: ids are still the integers, strings and numbers that the
 * client sent, and fields are still names. The memory belongs to the arena that the caller passed in, and is valid
 * until that arena is reset. Strings are UTF-8; they end in a NUL only where a comment says so.
 */
#ifndef PROTO_SCORE_H
#define PROTO_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct problem;

/* Limits of the wire, for JSON and protobuf alike. */
enum {
    PROTO_USER_ID_MAX = 256,       /* characters, see proto_is_user_id() */
    PROTO_USER_ID_BYTES = 400,     /* of the longest */
    PROTO_HISTORY_TOKEN_MAX = 256, /* characters */
    PROTO_EVENT_ID_MAX = 128,      /* characters of ASCII, see proto_is_event_id() */
    PROTO_TIMEOUT_MAX = 86400000,  /* milliseconds: a day */
    PROTO_FIELDS_MAX = 256         /* fields of one group: the row form costs rows x fields */
};

struct proto_string {
    const char *data;
    size_t length;
};

static inline bool proto_string_is(const struct proto_string *string, const char *data, size_t length) {
    return string->length == length && memcmp(string->data, data, length) == 0;
}

/* Format of a request's body and of its reply. Problems are always JSON. */
enum proto_format {
    PROTO_JSON,
    PROTO_PROTOBUF, /* score.proto */
    PROTO_LINES     /* POST /events alone: JSON, a document a line */
};

/* Content-Encoding of a request's body. No reply is compressed. */
enum proto_coding { PROTO_IDENTITY, PROTO_GZIP };

extern const char *const proto_media_types[]; /* of replies, by format: "application/json", ... */

enum proto_value_kind {
    PROTO_ABSENT,   /* null, or the row form: this row lacks the field */
    PROTO_INTEGER,  /* from -2^63 to 2^63 - 1 */
    PROTO_UNSIGNED, /* an integer from 2^63 to 2^64 - 1 */
    PROTO_REAL,
    PROTO_STRING,
    PROTO_VECTOR,  /* an array of numbers, or of nothing */
    PROTO_STRINGS, /* an array of one string or more, none with U+0000 */
    PROTO_OTHER    /* true, false, an object, any other array, or a string with U+0000: never valid */
};

struct proto_value {
    enum proto_value_kind kind;
    uint32_t length; /* string: bytes; vector: numbers; strings: how many */
    union {
        int64_t integer;
        uint64_t unsigned_integer;
        double real;
        const char *string;
        const double *vector;
        const struct proto_string *strings;
    };
};

struct proto_column {
    struct proto_string name;
    size_t count;
    const struct proto_value *values;
};

enum proto_form { PROTO_COLUMNS, PROTO_ROWS };

/* A group of fields. In the column form the columns may differ in count; in the row form each has one value per row.
 * An object of single values (user, context) becomes columns of count 1. */
struct proto_table {
    enum proto_form form;
    bool present; /* the client sent this member */
    size_t rows;  /* row form: rows; column form: the longest column */
    size_t columns;
    const struct proto_column *column;
};

/* The body of POST /score. POST /users/{id}/history uses only history, history_token, history_append and event_id. */
struct proto_request {
    bool has_user_id;
    struct proto_string user_id;
    struct proto_table user;
    struct proto_table context;
    struct proto_table history;
    bool has_history_token; /* replaces the history */
    struct proto_string history_token;
    struct proto_table history_append; /* behaviours to append to the history of the token, or of the user */
    bool history_is_stored;            /* by the history store, and not sent: what does not fit the model is unknown */
    bool has_event_id;
    struct proto_string event_id; /* of the append, or of the whole history that POST /users/{id}/history brings */
    struct proto_table candidates;
    size_t top_k;        /* 0: all */
    uint32_t timeout_ms; /* for which the client waits; 0: not said */
    bool explain;
    bool partial; /* when the time runs out, results of the candidates that were scored are welcome */
};

/* Whether this is a user's id: UTF-8 without U+0000, of 1 to PROTO_USER_ID_MAX characters. The number of characters
 * times the bytes of the widest must not exceed PROTO_USER_ID_BYTES, so that a pattern can state the rule: 256
 * characters of ASCII, 200 up to U+07FF, 133 up to U+FFFF, 100 of any kind. */
bool proto_is_user_id(const char *text, size_t length);
/* The rule in words, for problems. */
extern const char proto_user_id_rule[];

/* Whether this is an event's id: 1 to PROTO_EVENT_ID_MAX characters from "!" to "~". */
bool proto_is_event_id(const char *text, size_t length);
extern const char proto_event_id_rule[];

/* Check that the members of a decoded POST /score are allowed together. On error both functions return false and set
 * *problem; its pointer starts with `prefix`, the JSON pointer to the request within the body ("" for the whole). */
bool proto_check_request(const struct proto_request *request, const char *prefix, struct problem *problem);
/* Check a decoded POST /users/{id}/history. */
bool proto_check_history(const struct proto_request *request, const char *prefix, struct problem *problem);

/* Check a decoded event: one line of POST /events, which has a user_id, an event_id and a history_append. */
bool proto_check_event(const struct proto_request *request, const char *prefix, struct problem *problem);

struct proto_result {
    size_t index; /* of the candidate in the request */
    float score;  /* finite */
};

/* One interest (one sequence of the model) and how much of the history it used. */
struct proto_interest {
    const char *name;       /* NUL-terminated */
    size_t received;        /* behaviours in the request */
    size_t length;          /* behaviours used */
    const float *attention; /* explain: [candidates of the request, length], else NULL */
};

/* How many ids of a field the model did not know. */
struct proto_unknown {
    const char *field; /* NUL-terminated */
    size_t count;
};

struct proto_reply {
    const char *model; /* NUL-terminated, as are version and user_state */
    const char *version;
    const char *user_state; /* "computed", "extended", "cached" or "absent" */
    /* The candidates of the request: each result repeats its candidate's fields. A field named index, score or
     * attention is left out, because the reply uses these names itself. */
    const struct proto_table *candidates;
    size_t interest_count;
    const struct proto_interest *interests;
    struct proto_string token;  /* of the kept state; data NULL: no state is kept */
    const char *history_origin; /* with a history store: "request", "store", "state" or "none"; NULL: left out */
    uint64_t history_count;     /* beside it: behaviours ever received, of all lists */
    bool stale;                 /* the store did not answer, and a state in memory took its place */
    size_t unknown_count;
    const struct proto_unknown *unknown;
    double coverage;                    /* the share of the candidates that were scored; 0: left out */
    size_t result_count;                /* already in rank order and cut to top_k */
    const struct proto_result *results; /* NULL in a reply to POST /users/{id}/history */
    size_t room; /* bytes that the encoder takes at first, json_reply_most() for example; 0: a usual size */
};

/* A user's record in the history store. */
struct proto_stored_list {
    struct proto_string name;
    uint64_t count; /* behaviours ever received */
    size_t length;  /* of them, kept */
};
struct proto_stored_summary {
    uint64_t count; /* behaviours ever received, of all lists */
    size_t bytes, event_count, list_count;
    const struct proto_stored_list *lists;
    const char *created_at, *changed_at; /* RFC 3339, NUL-terminated */
};

/* The reply to GET /users/{id}. It repeats no behaviours. */
struct proto_user_summary {
    const char *model; /* NUL-terminated, as is version */
    const char *version;
    const struct proto_stored_summary *stored; /* NULL: there is no record */
    size_t interest_count;                     /* 0: no state is held, and none of what follows is told */
    const struct proto_interest *interests;
    size_t bytes;
    double age_seconds;  /* since the state was computed or extended */
    double idle_seconds; /* since the state was last used */
};

#endif
