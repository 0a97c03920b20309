/* job_queue.h: a job, and the queue of jobs that wait for a scoring thread: admission, order, and who must leave.
 *
 * The next job is of the higher priority first, then of the client that has used least, the job's own cost included,
 * then light before heavy. Among equals the oldest goes first, until a job has waited for JOB_PRESSURE_SECONDS. From
 * then on the newest goes first: in an overload somebody must be late, and the newest can still be in time. Every
 * OLDEST_TURN-th turn under pressure is the oldest job's. A full queue drops the oldest job of the client that has most
 * work waiting. The queue has no lock: the worker pool's mutex guards it.
 */
#ifndef SERVER_SCORING_JOB_QUEUE_H
#define SERVER_SCORING_JOB_QUEUE_H

#include "proto/problem.h"
#include "proto/score.h"
#include "server/scoring/client_table.h"
#include "server/scoring/cost_model.h"
#include "server/scoring/request.h"
#include "server/scoring/rollout.h"
#include "server/scoring/served_model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum job_refusal {
    JOB_ADMITTED,
    JOB_QUEUE_FULL,           /* the queue holds max_jobs */
    JOB_DEADLINE_UNREACHABLE, /* the estimated wait is too long for the deadline */
    JOB_CLIENT_GONE,          /* nobody waits for an answer */
    JOB_REFUSALS
};
extern const char *const job_refusal_names[JOB_REFUSALS]; /* "", "queue", "deadline", "client-gone" */

struct job {
    struct job *next; /* the pool's */
    void *owner;      /* the caller's */

    /* The request. */
    struct user_key user; /* id NULL: POST /score, or with PROTO_LINES /events; else POST /users/{id}/history */
    const char *body;
    size_t size;
    const char *request_id;
    char event_id[PROTO_EVENT_ID_MAX]; /* of a header */
    size_t event_id_length;            /* 0: none */
    uint64_t arrived;                  /* clock_now() at the end of its head; 0: when it was submitted */
    uint64_t submitted;                /* clock_now() */
    uint64_t deadline;                 /* the request's own, by clock_now(); 0: none */
    uint64_t client_key;
    enum proto_format format; /* of the body, and of the reply */
    enum proto_coding coding; /* of the body */
    enum job_priority priority;
    int socket; /* checked for a disconnect in a wait; -1: never checked */

    bool may_write; /* what the history store keeps */
    bool strict;    /* POST /events: all lines, or an error */
    bool cancelled; /* the client disconnected, so there is no reply */
    bool heavy;     /* the queue's, as all that follows */
    bool weighed;   /* units are of the decoded request */
    enum job_refusal refusal;
    struct job *older, *newer;                  /* of the client, of one priority and lane */
    struct job *arrived_before, *arrived_after; /* of the lane */
    struct client *client;
    double units;                /* of work, by cost_guess(), or of the decoded request; set before job_queue_add() */
    double weight;               /* units of a job that is put back */
    double wait;                 /* estimated seconds until a thread takes it */
    double waited;               /* seconds, at its end */
    double charged;              /* seconds that its client was charged */
    double seconds;              /* measured cost; 0: nothing was learned from it */
    uint64_t number;             /* in order of arrival */
    struct served_model *served; /* while a thread has it, as the next: the model that it is scored with, */
    struct rollout rollout;      /* and the other one of live and candidate, if there is a candidate */

    /* What the request asks of the history store, or its answer; NULL: nothing. The caller's to free. */
    struct stored_history *stored;

    struct request_record *record; /* the observer's (worker_pool.h); NULL: none */

    /* The answer. */
    enum problem_kind problem;      /* PROBLEM_NONE: the reply is a 200's body */
    char model_tag[MODEL_TAG_TEXT]; /* of the model that it was scored with, or "" */
    bool is_canary;                 /* that was the candidate */
    bool is_rescued;                /* the candidate failed it, so that the live model scored it */
    char *reply;                    /* malloc'ed, the caller's to free; NULL when memory for it was out */
    size_t reply_size;
    struct request_summary summary;
};

/* The history store has its change, so that its answer must say so: it is neither dropped nor given up. */
static inline bool job_is_applied(const struct job *job) {
    return job->stored != NULL && job->stored->answered && job->stored->want != STORED_GET;
}

struct job_list {
    struct job *first, *last;
};
void job_append(struct job_list *list, struct job *job);

/* A job with a higher estimated cost is heavy: long enough to delay others, and many times a light job's cost. */
#define JOB_HEAVY_SECONDS 5e-3
/* A wait of more than this is a sign of overload. */
#define JOB_PRESSURE_SECONDS 5e-3

/* To start, set the first three and a rate; the rest is zero. */
struct job_queue {
    size_t max_jobs;
    size_t threads;  /* that serve the queue */
    double patience; /* the longest estimated wait, in seconds, of a job that is admitted */
    struct cost_rate rate;
    struct client_table clients;
    struct job_chain lanes[JOB_LANES]; /* in order of arrival */
    double working_units;
    uint64_t arrivals, turns;
    struct job *next_examined; /* NULL: the oldest of the lane */
    enum job_lane examined_lane;
};

/* False when the job is not admitted: job->refusal has the reason. Jobs that have to leave in its place are appended to
 * `dropped`, with the reason in their refusal, and in `wait` the estimated seconds until all that wait have been taken.
 */
bool job_queue_add(struct job_queue *queue, struct job *job, uint64_t now, struct job_list *dropped);
/* Takes the next job of all, or the next light one. NULL when there is none. */
struct job *job_queue_take(struct job_queue *queue, uint64_t now);
struct job *job_queue_take_light(struct job_queue *queue, uint64_t now);
/* Puts a job back that was taken and turned out to be heavy: it has so many units, and took `spent` seconds so far. */
void job_queue_put_back(struct job_queue *queue, struct job *job, double units, double spent, uint64_t now);
/* Takes a job in again that was given out and done, and is to run once more; it is not refused. */
void job_queue_resume(struct job_queue *queue, struct job *job, uint64_t now);
/* Tells the queue that a job it gave out is finished, and learns from job->seconds. */
void job_queue_done(struct job_queue *queue, struct job *job, uint64_t now);
/* Walks the jobs that have waited for JOB_PRESSURE_SECONDS, one a call, oldest first, lane by lane, and begins again at
 * the end. NULL: none in this lane now. */
struct job *job_queue_examine(struct job_queue *queue, uint64_t now);
/* Takes a waiting job out, to be answered unscored. */
void job_queue_remove(struct job_queue *queue, struct job *job);

static inline size_t job_queue_count(const struct job_queue *queue) {
    return queue->lanes[LANE_LIGHT].count + queue->lanes[LANE_HEAVY].count;
}
/* Estimated seconds until all jobs that wait now have been taken. */
double job_queue_seconds(const struct job_queue *queue);
/* Seconds for which the oldest job has waited. */
double job_queue_oldest_seconds(const struct job_queue *queue, uint64_t now);

#endif
