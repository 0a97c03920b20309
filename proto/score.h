/* score.h: the wire of POST /score as plain structs: what decode.c makes of a body and what encode.c makes a body of.
 *
 * Nothing here knows a model: ids are still integers, strings and numbers as the client sent them, fields are still
 * names. All memory belongs to the arena that the call was given and is valid until its reset. Strings are UTF-8, not
 * NUL-terminated unless said so.
 */
#ifndef PROTO_SCORE_H
#define PROTO_SCORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct proto_string {
    const char *data;
    size_t length;
};

enum proto_value_kind {
    PROTO_ABSENT, /* a row of the row form that lacks this field */
    PROTO_INTEGER,
    PROTO_REAL,
    PROTO_STRING,
    PROTO_VECTOR, /* an array of numbers */
    PROTO_OTHER   /* null, true, false, an object, or an array of something else: never a valid value */
};

struct proto_value {
    enum proto_value_kind kind;
    uint32_t length; /* string: bytes; vector: numbers */
    union {
        int64_t integer;
        double real;
        const char *string;
        const double *vector;
    };
};

struct proto_column {
    struct proto_string name;
    size_t count;
    const struct proto_value *values;
};

enum {
    PROTO_USER_ID_MAX = 256,       /* bytes */
    PROTO_HISTORY_TOKEN_MAX = 256, /* bytes */
    PROTO_FIELDS_MAX = 256         /* fields of one group: the row form costs rows x fields */
};

/* How a request came, and its reply goes. Problems are JSON always. */
enum proto_format {
    PROTO_JSON,
    PROTO_PROTOBUF /* score.proto */
};

extern const char *const proto_media_types[]; /* by format: "application/json", ... */

enum proto_form { PROTO_COLUMNS, PROTO_ROWS };

/* A group of fields. Column form: columns may differ in count. Row form: every column has one value a row. An object of
 * single values (user, context) is columns of count 1. */
struct proto_table {
    enum proto_form form;
    bool present; /* the client sent this member */
    size_t rows;  /* row form: rows; column form: the longest column */
    size_t columns;
    const struct proto_column *column;
};

/* POST /score, and POST /users/{id}/history, which has no more than a history, a token and what is appended. */
struct proto_request {
    bool has_user_id;
    struct proto_string user_id;
    struct proto_table user;
    struct proto_table context;
    struct proto_table history;
    bool has_history_token; /* in place of the history */
    struct proto_string history_token;
    struct proto_table history_append; /* to what the token names */
    struct proto_table candidates;
    size_t top_k; /* 0: all */
    bool explain;
};

/* One candidate of the answer. */
struct proto_result {
    size_t index; /* its place in the request */
    float score;  /* finite */
};

/* One interest's share of the history. */
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
    const char *user_state; /* "computed", "extended" or "cached" */
    /* Of the request: each result repeats its candidate's fields. A field named index, score or attention is left out:
     * those names are the reply's own. */
    const struct proto_table *candidates;
    size_t interest_count;
    const struct proto_interest *interests;
    struct proto_string token; /* the kept state's; data NULL: none is kept */
    size_t unknown_count;
    const struct proto_unknown *unknown;
    size_t result_count;                /* already in rank order and cut to top_k */
    const struct proto_result *results; /* NULL: of POST /users/{id}/history, which has none */
};

/* GET /users/{id}: what is held of a user. No behaviours. */
struct proto_user_summary {
    const char *model; /* NUL-terminated, as is version */
    const char *version;
    size_t interest_count;
    const struct proto_interest *interests;
    size_t bytes;
    double age_seconds;  /* since it was computed or extended */
    double idle_seconds; /* since it was last used */
};

#endif
