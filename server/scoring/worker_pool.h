/* worker_pool.h: the scoring threads, fed by one bounded job queue.
 *
 * A thread takes a whole job: it decodes, scores and encodes with working memory of its own. The candidates of a large
 * request are split into chunks. Idle threads help to score them and leave as soon as a job is queued. The thread that
 * owns a heavy request runs light jobs between two of its chunks.
 *
 * A candidate serves its share of users, and scores a share of the live model's requests after their answer: only on a
 * thread that has nothing else to do while another thread is idle, and only until a job waits.
 *
 * A job belongs to the pool from worker_pool_submit() until worker_pool_take_done() returns it; nobody else touches it
 * meanwhile. The pool wakes the event loop and never blocks it.
 */
#ifndef SERVER_SCORING_WORKER_POOL_H
#define SERVER_SCORING_WORKER_POOL_H

#include "server/scoring/comparison.h"
#include "server/scoring/job_queue.h"
#include "server/scoring/request.h"
#include "server/scoring/scoring_counts.h"
#include "server/scoring/served_model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct worker_pool;

struct worker_pool_options {
    struct served_model *served; /* the first model; the pool takes the caller's reference, also when it cannot start */
    struct request_limits limits;
    struct user_cache *cache; /* outlives the pool; NULL: no user states are kept */
    size_t threads;
    size_t queue;      /* the most jobs that may wait */
    uint64_t deadline; /* the longest time that a job may wait, in nanoseconds */
    struct scoring_counts *counts;
    struct comparison *comparison; /* of a candidate with the live model; outlives the pool */
    size_t shadow_buffer;          /* bytes of requests that wait to be scored by the candidate, too */
    /* Called on the scoring thread when a request that scores or updates a history is over, while all that it points to
     * is there. NULL: nobody looks. */
    void (*observe)(void *observer, struct job *job, const struct request *request);
    void *observer;
    void (*wake)(void *context); /* called from a scoring thread when worker_pool_take_done() has a job */
    void *context;
};

/* NULL when there is no memory or no thread to be had. */
struct worker_pool *worker_pool_start(const struct worker_pool_options *options);

/* Jobs that a thread takes from now on are scored with this model, or with the rollout's candidate where there is one;
 * those that one has begun keep theirs. The pool takes references of its own. */
void worker_pool_serve(struct worker_pool *pool, struct served_model *live, const struct rollout *rollout);

/* False when the job is not admitted: job->refusal has the reason, and the job stays the caller's. */
bool worker_pool_submit(struct worker_pool *pool, struct job *job);
/* A job that worker_pool_take_done() returned with a wish in `stored`, and that has the answer now, runs once more. */
void worker_pool_resume(struct worker_pool *pool, struct job *job);
/* Whether a job that is done waits for the history store, and has no reply yet. */
bool worker_pool_waits(const struct job *job);
/* Returns the jobs finished since the last call, oldest first, linked by `next`; NULL when there is none. */
struct job *worker_pool_take_done(struct worker_pool *pool);

/* Ends waiting jobs whose time is over or whose client has left. Submitting and taking jobs do so too; the loop's
 * thread calls this a few times a second for the time when no job comes or goes. */
void worker_pool_examine(struct worker_pool *pool);

size_t worker_pool_waiting(const struct worker_pool *pool);  /* jobs in the queue */
double worker_pool_wait_seconds(struct worker_pool *pool);   /* the estimated time until the queue is empty */
double worker_pool_oldest_seconds(struct worker_pool *pool); /* for which the oldest job has waited */
size_t worker_pool_busy(const struct worker_pool *pool);     /* threads that score */

/* Stop: jobs being scored are finished, jobs in the queue are answered with PROBLEM_DRAINING, the threads end. After
 * this worker_pool_take_done() still returns the last jobs, and worker_pool_submit() admits none. */
void worker_pool_stop(struct worker_pool *pool);
void worker_pool_free(struct worker_pool *pool);

#endif
