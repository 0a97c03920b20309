/* options.h: what the server was told: flags, DIEN_* environment variables, defaults.
 *
 * One table in options.c names every option; parsing, --help, the metrics dien_limit_items, _bytes, _seconds and _ratio
 * and GET /model all read it.
 */
#ifndef SERVER_OPTIONS_H
#define SERVER_OPTIONS_H

#include "model/dien.h"
#include "server/base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { OPTIONS_WORDS = 2 };

struct options {
    const char *model;
    const char *listen;
    const char *admin_listen; /* NULL: no admin plane */
    const char *admin_token_file;
    const char *admin;          /* call the server at this address, or with "self" at admin_listen; NULL: serve */
    char *words[OPTIONS_WORDS]; /* of that call; NULL: no more */
    const char *admin_host;     /* HOST:PORT that its requests may name; NULL: the address alone */
    size_t admin_connections, admin_max_body, admin_max_buffered;
    const char *address_file; /* NULL: none */
    size_t backlog;
    size_t threads; /* 0: as many as the CPU quota allows */
    size_t queue;
    size_t max_body;
    size_t max_buffered;
    size_t buffer_reserve; /* at most half of max_buffered */
    size_t small_body;
    size_t body_rate; /* bytes a second; 0: any */
    size_t max_candidates;
    size_t max_history;
    size_t max_events;
    size_t max_reply_buffered;
    size_t max_connections;
    size_t reserved_connections;
    size_t connection_memory;
    size_t request_memory;
    size_t cache_bytes;    /* 0: no user states are kept */
    double cache_ttl;      /* seconds; 0: for ever */
    const char *histories; /* NULL: no history store */
    const char *histories_password_file;
    const char *histories_export, *histories_import; /* files, or "-"; NULL: serve */
    const char *histories_prefix;
    const char *histories_sync;  /* "commit", or seconds */
    double histories_timeout;    /* 0: the engine's own */
    double histories_ttl;        /* 0: for ever */
    double histories_freshness;  /* 0: the store is asked each time */
    size_t histories_redis_wait; /* replicas; 0: none */
    size_t histories_keep, histories_dedupe, histories_user_bytes, histories_behaviour_bytes, histories_map;
    const char *request_log;       /* a directory; NULL: no requests are recorded */
    const char *request_log_users; /* "hash", "plain" or "none" */
    double request_log_share;      /* 0 to 1 */
    double request_log_age;        /* seconds */
    double slow_request;           /* seconds */
    size_t request_log_buffer, request_log_file, request_log_disk;
    bool request_log_history;
    const char *user_write; /* "public", "token", "off"; NULL: by `histories` and `listen` */
    const char *user_write_token_file;
    double admin_timeout;
    double header_timeout; /* seconds, as all times here */
    double body_timeout;
    double reply_timeout;
    double idle_timeout;
    double linger_timeout;
    double deadline;
    const char *client_key; /* NULL: the address */
    double drain_delay;
    double drain_timeout;
    double watchdog; /* 0: a stalled loop is logged only */
    double samples_tolerance;
    size_t prefault;           /* bytes; 0: none; OPTIONS_AUTO: up to half of the memory that the process may have */
    double model_poll;         /* seconds; 0: never */
    const char *model_root;    /* of candidates; NULL: there are none */
    const char *hash_key_file; /* NULL: no share of users has a candidate */
    double candidate_p99_factor, candidate_difference; /* 0: any */
    size_t candidate_guard_after;                      /* requests */
    size_t shadow_buffer;
    size_t model_memory_limit; /* bytes; 0: any */
    size_t log_buffer;
    const char *probe;    /* ask this address, or with "self" that of `listen`, instead of serving; NULL: serve */
    unsigned listen_mode; /* permissions of the file at unix:PATH */
    enum dien_precision precision;
    enum log_level log_level;
    bool public_users, public_metrics; /* are on the public port */
    bool reuse_port;
    bool listen_when_ready; /* or reuse_port */
    bool explain_held;
    bool strict_protobuf;
    bool model_copy; /* the model's file is read into memory in place of being mapped */
    bool keep_previous;
    bool candidate_guard;
    bool access_log;
    bool old_names; /* renamed metrics and members of the log keep their old names beside the new */
    bool check;
};

#define OPTIONS_AUTO SIZE_MAX

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_BAD };

/* Read defaults, then the environment, then the flags. OPTIONS_DONE: --help or --version was asked for and written to
 * `out`. OPTIONS_BAD: `error` names the flag or variable. Strings belong to argv or the environment. */
enum options_result options_parse(struct options *options, int argc, char *const *argv, FILE *out, char *error,
                                  size_t error_size);

/* Overwrites the login in the address of the history store where the process list could show it. Not before the last
 * use of argv. */
void options_hide_secrets(struct options *options);

/* A limit of a score's difference has no unit, and is a ratio. */
enum options_unit { UNIT_COUNT, UNIT_BYTES, UNIT_SECONDS, UNIT_RATIO, OPTIONS_UNITS };
extern const char *const options_unit_names[OPTIONS_UNITS]; /* in plural: "items", "bytes" */

/* One limit, by its flag: "max_body". Its name has the unit at the end: "max_body_bytes", "body_timeout_seconds". */
struct options_limit {
    double value;
    enum options_unit unit;
    bool for_clients; /* a client meets it, so GET /model tells it */
    char flag[48], name[64];
};
enum { OPTIONS_MAX_LIMITS = 100 };
size_t options_limits(const struct options *options, struct options_limit limits[OPTIONS_MAX_LIMITS]);

#endif
