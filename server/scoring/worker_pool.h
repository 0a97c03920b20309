/* worker_pool.h: scoring threads and the one bounded queue before them.
 *
 * A thread takes whole requests: it decodes, scores and encodes with working memory of its own. The scoring of a large
 * one is divided: threads that have nothing else to do help, and leave as soon as a job waits; the thread that has it
 * does light jobs in between, for as long as it works on its own. A job belongs to the pool from worker_pool_submit()
 * until worker_pool_take_done() hands it back; in between nobody else touches it. The pool wakes the loop and never
 * blocks it.
 */
#ifndef SERVER_SCORING_WORKER_POOL_H
#define SERVER_SCORING_WORKER_POOL_H

#include "server/api/metrics.h"
#include "server/scoring/job_queue.h"
#include "server/scoring/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker_pool;

struct worker_pool_options {
    const struct dien_model *model; /* outlives the pool */
    struct request_limits limits;
    struct user_cache *cache; /* NULL: no state is kept; outlives the pool */
    uint64_t version;         /* the model's, for the cache */
    size_t threads;
    size_t queue;      /* jobs that may wait */
    uint64_t deadline; /* nanoseconds a job may wait */
    struct metrics *metrics;
    void (*wake)(void *context); /* called from a scoring thread: worker_pool_take_done() has something */
    void *context;
};

/* NULL when memory or threads are out. */
struct worker_pool *worker_pool_start(const struct worker_pool_options *options);

/* False when the job may not wait: job->refusal says why, and it is still the caller's. */
bool worker_pool_submit(struct worker_pool *pool, struct job *job);
/* The jobs done since the last call, in the order they were done, linked by `next`; NULL: none. */
struct job *worker_pool_take_done(struct worker_pool *pool);

size_t worker_pool_waiting(const struct worker_pool *pool); /* jobs in the queue */
double worker_pool_wait_seconds(struct worker_pool *pool);  /* until all of them are taken, as expected */
size_t worker_pool_busy(const struct worker_pool *pool);    /* threads at work */

/* Answer the jobs that wait with PROBLEM_DRAINING, wait for those at work, end the threads. The last jobs can then be
 * taken; nothing can be submitted. */
void worker_pool_stop(struct worker_pool *pool);
void worker_pool_free(struct worker_pool *pool);

#endif
