/* worker.h: scoring threads and the one bounded queue before them.
 *
 * A thread takes whole requests: it decodes, scores and encodes with working memory of its own. A job belongs to the
 * pool from worker_submit() until worker_take_done() hands it back; in between nobody else touches it. The pool wakes
 * the loop and never blocks it.
 */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include "server/metrics.h"
#include "server/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker_pool;

struct job {
    struct job *next; /* the pool's */
    void *owner;      /* the caller's */

    /* Asked. */
    struct user_key user;     /* id NULL: POST /score; else POST /users/{id}/history of this user */
    enum proto_format format; /* of the body, and of the reply; POST /score only */
    const char *body;
    size_t size;
    const char *request_id;
    uint64_t submitted; /* clock_now() */
    int socket;         /* a request whose client has closed this is not scored; -1: not looked at */

    /* Answered. */
    bool cancelled;            /* the client has gone: there is nobody to answer */
    enum problem_kind problem; /* PROBLEM_NONE: reply is the 200 */
    char *reply;               /* malloc'ed, the caller's to free; NULL when even that failed */
    size_t reply_size;
    size_t candidates;
    size_t behaviours;
    const char *user_state; /* a literal, or NULL */
};

struct worker_options {
    const struct dien_model *model; /* outlives the pool */
    struct request_limits limits;
    struct user_cache *cache; /* NULL: no state is kept; outlives the pool */
    uint64_t version;         /* the model's, for the cache */
    size_t threads;
    size_t queue;      /* jobs that may wait */
    uint64_t deadline; /* nanoseconds a job may wait */
    struct metrics *metrics;
    void (*wake)(void *context); /* called from a scoring thread: worker_take_done() has something */
    void *context;
};

/* NULL when memory or threads are out. */
struct worker_pool *worker_start(const struct worker_options *options);

/* False when the queue is full; the job is then still the caller's. */
bool worker_submit(struct worker_pool *pool, struct job *job);
/* The jobs done since the last call, in the order they were done, linked by `next`; NULL: none. */
struct job *worker_take_done(struct worker_pool *pool);

size_t worker_waiting(const struct worker_pool *pool); /* jobs in the queue */
size_t worker_busy(const struct worker_pool *pool);    /* threads at work */

/* Answer the jobs that wait with PROBLEM_DRAINING, wait for those at work, end the threads. The last jobs can then be
 * taken; nothing can be submitted. */
void worker_stop(struct worker_pool *pool);
void worker_free(struct worker_pool *pool);

#endif
