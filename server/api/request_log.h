/* request_log.h: the request log (server/REQUEST_LOG.md): which requests are written, and the thread that writes them.
 *
 * Nothing waits for it. A request whose record finds no room in the buffer is dropped from the log and counted; so are
 * records that the disk does not take.
 */
#ifndef SERVER_API_REQUEST_LOG_H
#define SERVER_API_REQUEST_LOG_H

#include "server/http/http.h"
#include "server/scoring/job_queue.h"
#include "server/scoring/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { REQUEST_LOG_KEY_MAX = 4096 };

enum record_users { RECORD_USERS_HASH, RECORD_USERS_PLAIN, RECORD_USERS_NONE };

/* Initialise with zeros. */
struct request_log_counts {
    _Atomic uint64_t written;  /* records that are in a file */
    _Atomic uint64_t dropped;  /* that are in none: no room in the buffer, or the disk took them not */
    _Atomic uint64_t bytes;    /* compressed */
    _Atomic uint64_t removed;  /* files that went to make room */
    _Atomic uint64_t buffered; /* bytes of records that wait */
};

struct request_log_options {
    const char *directory;
    double share;      /* of users, 0 to 1, all of whose requests are written */
    double slow;       /* seconds from head to reply, from which a request is written in any case */
    bool with_history; /* behaviours that the body does not have */
    enum record_users users;
    uint64_t share_key; /* of the share of users */
    const char *key;    /* of hashed users, [key_size]; copied. NULL: one is drawn */
    size_t key_size;    /* at most REQUEST_LOG_KEY_MAX */
    size_t max_body;    /* bytes of a decoded body */
    size_t buffer_bytes;
    size_t file_bytes; /* compressed */
    double file_seconds;
    size_t total_bytes; /* compressed, of all files */
    struct request_log_counts *counts;
};

struct request_log;

/* NULL, with the reason in `error`. */
struct request_log *request_log_start(const struct request_log_options *options, char *error, size_t error_size);

/* On the scoring thread, when a job's request is over and its arena still holds it. Sets job->record if the request is
 * to be written. */
void request_log_scored(struct request_log *log, struct job *job, const struct request *request);
/* On the loop's thread, when exchange->answer is filled in: takes the body of a request that is to be written. */
void request_log_answered(struct request_log *log, struct exchange *exchange, struct job *job);
/* On the loop's thread, at the exchange's end. */
void request_log_ended(struct request_log *log, const struct exchange *exchange, const struct job *job);

/* When no scoring thread runs any more, and while the models still may be released. Writes the records that wait, for
 * at most `seconds`, turns the file over, and ends; requests whose answers have not gone are not written. False: the
 * disk holds its thread, and the process can only exit. NULL is allowed. */
bool request_log_stop(struct request_log *log, double seconds);

#endif
