/* job_queue.h: a job, and the queue of those that wait for a thread: how long a job would wait, and whether it may.
 *
 * Light jobs and heavy ones wait in lines of their own, each in order of arrival: a thread takes whichever job came
 * first, and one that is busy with a heavy job may do light ones in between. Knows no threads: the worker pool's lock
 * guards it.
 */
#ifndef SERVER_SCORING_JOB_QUEUE_H
#define SERVER_SCORING_JOB_QUEUE_H

#include "proto/problem.h"
#include "proto/score.h"
#include "server/scoring/cost_model.h"
#include "server/users/user_cache.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum job_refusal {
    JOB_ADMITTED,
    JOB_QUEUE_FULL,           /* as many wait as may */
    JOB_DEADLINE_UNREACHABLE, /* its deadline would pass before its turn */
    JOB_REFUSALS
};
extern const char *const job_refusal_names[JOB_REFUSALS]; /* of the last two: "queue", "deadline" */

struct job {
    struct job *next; /* the pool's */
    void *owner;      /* the caller's */

    /* Asked. */
    struct user_key user;     /* id NULL: POST /score; else POST /users/{id}/history of this user */
    enum proto_format format; /* of the body, and of the reply */
    const char *body;
    size_t size;
    const char *request_id;
    uint64_t submitted; /* clock_now() */
    int socket;         /* a request whose client has closed this is not scored; -1: not looked at */

    /* The pool's estimate. */
    enum job_refusal refusal; /* why it may not wait */
    double units;             /* of work: cost_guess() */
    double wait;              /* seconds until its turn, as expected when it came */
    double seconds;           /* that it took; 0: it proves nothing of the cost */
    uint64_t number;          /* in order of arrival */
    bool heavy;

    /* Answered. */
    bool cancelled;            /* the client has gone: there is nobody to answer */
    enum problem_kind problem; /* PROBLEM_NONE: reply is the 200 */
    char *reply;               /* malloc'ed, the caller's to free; NULL when even that failed */
    size_t reply_size;
    size_t candidates;
    size_t behaviours;
    const char *user_state; /* a literal, or NULL */
};

struct job_list {
    struct job *first, *last;
};
void job_append(struct job_list *list, struct job *job);
struct job *job_remove_first(struct job_list *list); /* NULL: there is none */

/* A job that takes longer is heavy: long enough for others to feel it, many times what a light one takes. */
#define JOB_HEAVY_SECONDS 5e-3

/* Zeros, the first three and a rate are a start. */
struct job_queue {
    size_t max_jobs; /* jobs */
    size_t threads;  /* that serve it */
    double patience; /* seconds that a job may be expected to wait */
    struct cost_rate rate;
    struct job_list light, heavy;
    double light_units, heavy_units, working_units;
    size_t light_count, heavy_count;
    uint64_t arrivals;
};

/* False: it may not wait, and job->refusal says why. job->units is set. */
bool job_queue_add(struct job_queue *queue, struct job *job);
/* The job that came first, of all or of the light ones. NULL: there is none. */
struct job *job_queue_take(struct job_queue *queue);
struct job *job_queue_take_light(struct job_queue *queue);
/* A job that was taken has been done, in job->seconds. */
void job_queue_done(struct job_queue *queue, const struct job *job);

static inline size_t job_queue_count(const struct job_queue *queue) {
    return queue->light_count + queue->heavy_count;
}
/* Seconds until all that wait now have been taken, as expected. */
double job_queue_seconds(const struct job_queue *queue);

#endif
