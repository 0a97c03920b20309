/* worker.c: one mutex guards both lists; a scoring thread holds it for a few instructions a job. */
#include "server/worker.h"

#include "proto/encode.h"
#include "server/clock.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct list {
    struct job *first, *last;
};

struct worker {
    struct worker_pool *pool;
    struct scorer scorer;
    struct arena arena; /* problem details: the scorer's may be full */
    pthread_t thread;
    bool has_scorer, has_thread;
};

struct worker_pool {
    struct worker_options options;
    pthread_mutex_t mutex;
    pthread_cond_t filled;
    struct list waiting, done; /* under the mutex */
    bool stopping;             /* under the mutex */
    _Atomic size_t waiting_count;
    _Atomic size_t busy;
    struct worker *workers; /* [options.threads] */
};

enum { PROBLEM_ARENA_KEEP = 16384, PATIENT_SHARE = 4 }; /* of the deadline, before has_left() is asked */

static void append(struct list *list, struct job *job) {
    job->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = job;
    list->last = job;
}

static struct job *remove_first(struct list *list) {
    struct job *job = list->first;
    if (job != NULL) {
        list->first = job->next;
        list->last = list->first != NULL ? list->last : NULL;
    }
    return job;
}

/* Next job, or NULL when the pool stops. */
static struct job *take(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    while (pool->waiting.first == NULL && !pool->stopping)
        pthread_cond_wait(&pool->filled, &pool->mutex);
    struct job *job = pool->stopping ? NULL : remove_first(&pool->waiting);
    if (job != NULL) {
        pool->waiting_count--;
        pool->busy++;
    }
    pthread_mutex_unlock(&pool->mutex);
    return job;
}

static void give_back(struct worker_pool *pool, struct job *job) {
    pthread_mutex_lock(&pool->mutex);
    bool first = pool->done.first == NULL;
    append(&pool->done, job);
    pool->busy--;
    pthread_mutex_unlock(&pool->mutex);
    if (first) { /* else the loop has been woken and has not looked yet */
        pool->options.wake(pool->options.context);
    }
}

/* Has the client closed its side? It may still read (a half-closed connection), so a request that did not wait long is
 * scored all the same; in an overload most requests that did belong to clients that gave up. */
static bool has_left(int socket) {
    struct pollfd one = {.fd = socket, .events = POLLRDHUP};
    return socket >= 0 && poll(&one, 1, 0) == 1;
}

/* The reply leaves the arena, which the thread's next request will reset. */
static void keep_reply(struct job *job, struct proto_string text) {
    job->reply = text.data != NULL ? malloc(text.length + 1) : NULL;
    if (job->reply == NULL) {
        job->problem = job->problem == PROBLEM_NONE ? PROBLEM_OUT_OF_MEMORY : job->problem;
        job->reply_size = 0;
        return;
    }
    memcpy(job->reply, text.data, text.length);
    job->reply_size = text.length;
}

static void answer_problem(struct worker *worker, struct job *job, const struct problem *problem) {
    job->problem = problem->kind;
    keep_reply(job, proto_encode_problem(problem, job->request_id, &worker->arena));
    arena_reset(&worker->arena);
}

static void serve(struct worker *worker, struct job *job) {
    struct request_outcome outcome;
    bool scores = job->user.id == NULL;
    memset(&outcome, 0, sizeof outcome);
    if (scores)
        request_score(&worker->scorer, job->format, job->body, job->size, &outcome);
    else
        request_update(&worker->scorer, job->user, job->body, job->size, &outcome);
    metrics_scored(worker->pool->options.metrics, &outcome, scores);
    if (outcome.problem.kind != PROBLEM_NONE) {
        answer_problem(worker, job, &outcome.problem);
        return;
    }
    job->candidates = outcome.candidates;
    job->behaviours = outcome.behaviours;
    job->user_state = user_origin_names[outcome.origin];
    keep_reply(job, outcome.body);
}

static void run(struct worker *worker, struct job *job) {
    const struct worker_options *options = &worker->pool->options;
    uint64_t waited = clock_now() - job->submitted;
    metrics_duration(options->metrics, PHASE_QUEUE, clock_seconds(waited));
    if (waited > options->deadline / PATIENT_SHARE && has_left(job->socket)) {
        job->cancelled = true;
    } else if (waited > options->deadline) {
        struct problem problem;
        problem_set(&problem, PROBLEM_DEADLINE_PASSED, "", "The request waited %.3f s; the deadline is %.3f s.",
                    clock_seconds(waited), clock_seconds(options->deadline));
        answer_problem(worker, job, &problem);
    } else {
        serve(worker, job);
    }
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct job *job = NULL;
    pthread_setname_np(pthread_self(), "score");
    while ((job = take(worker->pool)) != NULL) {
        run(worker, job);
        give_back(worker->pool, job);
    }
    return NULL;
}

/* Signals are the loop's thread's: a scoring thread takes none. */
static bool start_thread(struct worker *worker) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    worker->has_thread = pthread_create(&worker->thread, NULL, work, worker) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return worker->has_thread;
}

static bool start_worker(struct worker_pool *pool, struct worker *worker) {
    worker->pool = pool;
    arena_init(&worker->arena, 0, PROBLEM_ARENA_KEEP);
    worker->has_scorer = scorer_init(&worker->scorer, pool->options.model, &pool->options.limits);
    worker->scorer.cache = pool->options.cache;
    worker->scorer.version = pool->options.version;
    return worker->has_scorer && start_thread(worker);
}

struct worker_pool *worker_start(const struct worker_options *options) {
    struct worker_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->options = *options;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->filled, NULL);
    pool->workers = calloc(options->threads, sizeof *pool->workers);
    bool good = pool->workers != NULL;
    for (size_t i = 0; good && i < options->threads; i++)
        good = start_worker(pool, &pool->workers[i]);
    if (!good) {
        worker_stop(pool);
        worker_free(pool);
        return NULL;
    }
    return pool;
}

bool worker_submit(struct worker_pool *pool, struct job *job) {
    pthread_mutex_lock(&pool->mutex);
    bool room = pool->waiting_count < pool->options.queue && !pool->stopping;
    if (room) {
        append(&pool->waiting, job);
        pool->waiting_count++;
        pthread_cond_signal(&pool->filled);
    }
    pthread_mutex_unlock(&pool->mutex);
    return room;
}

struct job *worker_take_done(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    struct job *first = pool->done.first;
    pool->done = (struct list){NULL, NULL};
    pthread_mutex_unlock(&pool->mutex);
    return first;
}

size_t worker_waiting(const struct worker_pool *pool) {
    return pool->waiting_count;
}

size_t worker_busy(const struct worker_pool *pool) {
    return pool->busy;
}

/* The threads have ended, so no lock is needed. */
static void refuse_waiting(struct worker_pool *pool) {
    struct job *job = NULL;
    while ((job = remove_first(&pool->waiting)) != NULL) {
        struct problem problem;
        problem_set(&problem, PROBLEM_DRAINING, "", "The server stopped before it came to this request.");
        answer_problem(&pool->workers[0], job, &problem);
        append(&pool->done, job);
    }
    pool->waiting_count = 0;
}

void worker_stop(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->filled);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; pool->workers != NULL && i < pool->options.threads; i++) {
        if (pool->workers[i].has_thread) {
            pthread_join(pool->workers[i].thread, NULL);
            pool->workers[i].has_thread = false;
        }
    }
    refuse_waiting(pool);
}

void worker_free(struct worker_pool *pool) {
    for (size_t i = 0; pool->workers != NULL && i < pool->options.threads; i++) {
        if (pool->workers[i].has_scorer)
            scorer_free(&pool->workers[i].scorer);
        arena_free(&pool->workers[i].arena);
    }
    free(pool->workers);
    pthread_cond_destroy(&pool->filled);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
