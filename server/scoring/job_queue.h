/* job_queue.h: a job, and the queue of jobs that wait for a scoring thread: admission by estimated wait.
 *
 * Light and heavy jobs wait in lists of their own, each in order of arrival. A thread takes the job that came first of
 * both; a thread with a heavy job may run light ones in between. The queue has no lock: the worker pool's mutex guards
 * it.
 */
#ifndef SERVER_SCORING_JOB_QUEUE_H
#define SERVER_SCORING_JOB_QUEUE_H

#include "proto/problem.h"
#include "proto/score.h"
#include "server/scoring/cost_model.h"
#include "server/scoring/request.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum job_refusal {
    JOB_ADMITTED,
    JOB_QUEUE_FULL,           /* the queue holds max_jobs */
    JOB_DEADLINE_UNREACHABLE, /* the estimated wait is too long for the deadline */
    JOB_REFUSALS
};
extern const char *const job_refusal_names[JOB_REFUSALS]; /* of the last two: "queue", "deadline" */

struct job {
    struct job *next; /* the pool's */
    void *owner;      /* the caller's */

    /* The request. */
    struct user_key user;     /* id NULL: POST /score; otherwise POST /users/{id}/history */
    enum proto_format format; /* of the body, and of the reply */
    const char *body;
    size_t size;
    const char *request_id;
    uint64_t submitted; /* clock_now() */
    int socket;         /* checked for a disconnect after a long wait; -1: never checked */

    /* The queue's estimates. */
    enum job_refusal refusal;
    double units;    /* of work, by cost_guess(); set before job_queue_add() */
    double wait;     /* estimated seconds until a thread takes it */
    double seconds;  /* measured cost; 0: nothing was learned from it */
    uint64_t number; /* in order of arrival */
    bool heavy;

    /* The answer. */
    bool cancelled;            /* the client disconnected, so there is no reply */
    enum problem_kind problem; /* PROBLEM_NONE: the reply is a 200's body */
    char *reply;               /* malloc'ed, the caller's to free; NULL when memory for it was out */
    size_t reply_size;
    struct request_summary summary;
};

struct job_list {
    struct job *first, *last;
};
void job_append(struct job_list *list, struct job *job);
struct job *job_remove_first(struct job_list *list); /* NULL when the list is empty */

/* A job with a higher estimated cost is heavy: long enough to delay others, and many times a light job's cost. */
#define JOB_HEAVY_SECONDS 5e-3

/* To start, set the first three and a rate; the rest is zero. */
struct job_queue {
    size_t max_jobs;
    size_t threads;  /* that serve the queue */
    double patience; /* the longest estimated wait, in seconds, of a job that is admitted */
    struct cost_rate rate;
    struct job_list light, heavy;
    double light_units, heavy_units, working_units;
    size_t light_count, heavy_count;
    uint64_t arrivals;
};

/* False when the job is not admitted: job->refusal has the reason. */
bool job_queue_add(struct job_queue *queue, struct job *job);
/* Takes the oldest job of all, or the oldest light one. NULL when there is none. */
struct job *job_queue_take(struct job_queue *queue);
struct job *job_queue_take_light(struct job_queue *queue);
/* Tells the queue that a job it gave out is finished, and learns from job->seconds. */
void job_queue_done(struct job_queue *queue, const struct job *job);

static inline size_t job_queue_count(const struct job_queue *queue) {
    return queue->light_count + queue->heavy_count;
}
/* Estimated seconds until all jobs that wait now have been taken. */
double job_queue_seconds(const struct job_queue *queue);

#endif
