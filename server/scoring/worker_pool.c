/* worker_pool.c: one mutex guards queue, splits and what is done; a thread holds it for a few instructions a job. */
#include "server/scoring/worker_pool.h"

#include "proto/json_encode.h"
#include "server/base/clock.h"
#include "server/scoring/work_split.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct worker {
    struct worker_pool *pool;
    struct scorer scorer;
    struct scorer
        interleaved;       /* for jobs that are done in between: memory of its own for the request, the same scratch */
    struct arena arena;    /* problem details: the scorer's may be full */
    struct cost_rate rate; /* of scoring alone */
    int64_t excluded_ns;   /* nanoseconds of the job's time that were not its own, less those that helpers gave it */
    pthread_t thread;
    bool has_scorer, has_thread;
};

struct worker_pool {
    struct worker_pool_options options;
    pthread_mutex_t mutex;
    pthread_cond_t filled; /* a job or a split is there, or the pool stops */
    pthread_cond_t left;   /* a split has no helpers any more */
    /* Under the mutex. */
    struct job_queue queue;
    struct job_list done;
    struct work_split *splits;
    size_t idle; /* threads that wait for `filled` */
    bool stopping;
    /* Read without it. */
    _Atomic size_t waiting_count, light_count;
    _Atomic size_t busy;
    struct worker *workers; /* [options.threads] */
};

/* PATIENT_SHARE: of the deadline, before client_disconnected() is asked. ADMISSION_SHARE: a job that is expected to
 * wait for more of its deadline is refused; the rest is for what the estimate does not see. CHUNK_SECONDS: a chunk of a
 * split. To wake a thread takes some 20 us, and a job may wait for as long as a chunk. */
enum { PROBLEM_ARENA_KEEP = 16384, INTERLEAVED_ARENA_KEEP = 65536, PATIENT_SHARE = 4 };
#define ADMISSION_SHARE 0.75
#define CHUNK_SECONDS   0.4e-3

/* After every change of the queue. */
static void publish_counts(struct worker_pool *pool) {
    pool->light_count = pool->queue.light_count;
    pool->waiting_count = job_queue_count(&pool->queue);
}

/* ---- helping: all but score_parallel() and what it calls, with the lock held */

static struct work_split *find_split(const struct worker_pool *pool) {
    struct work_split *split = pool->splits;
    while (split != NULL && !work_split_has_more(split))
        split = split->next;
    return split;
}

/* Take chunks until there are none, or a job waits. Lets go of the lock in between. */
static void help(struct worker *worker, struct work_split *split) {
    struct worker_pool *pool = worker->pool;
    struct range range;
    size_t chunks = 0;
    split->helpers++;
    pool->busy++;
    pthread_mutex_unlock(&pool->mutex);
    uint64_t start = clock_now();
    while (pool->waiting_count == 0 && work_split_take(split, &range)) {
        work_split_score(split, worker->scorer.scratch, range);
        chunks++;
    }
    uint64_t spent = clock_now() - start;
    pthread_mutex_lock(&pool->mutex);
    pool->busy--;
    split->helped += chunks;
    split->helped_nanos += spent;
    if (--split->helpers == 0)
        pthread_cond_broadcast(&pool->left);
}

/* ---- jobs */

/* Next job, or NULL when the pool stops; until then, help others. */
static struct job *take(struct worker *worker) {
    struct worker_pool *pool = worker->pool;
    struct job *job = NULL;
    pthread_mutex_lock(&pool->mutex);
    while (!pool->stopping && (job = job_queue_take(&pool->queue)) == NULL) {
        struct work_split *split = find_split(pool);
        if (split != NULL) {
            help(worker, split);
            continue;
        }
        pool->idle++;
        pthread_cond_wait(&pool->filled, &pool->mutex);
        pool->idle--;
    }
    if (job != NULL)
        pool->busy++;
    publish_counts(pool);
    pthread_mutex_unlock(&pool->mutex);
    return job;
}

static struct job *take_light(struct worker_pool *pool) {
    if (pool->light_count == 0)
        return NULL;
    pthread_mutex_lock(&pool->mutex);
    struct job *job = pool->stopping ? NULL : job_queue_take_light(&pool->queue);
    publish_counts(pool);
    pthread_mutex_unlock(&pool->mutex);
    return job;
}

static void give_back(struct worker_pool *pool, struct job *job, bool was_interleaved) {
    pthread_mutex_lock(&pool->mutex);
    bool first = pool->done.first == NULL;
    job_queue_done(&pool->queue, job);
    job_append(&pool->done, job);
    if (!was_interleaved)
        pool->busy--;
    pthread_mutex_unlock(&pool->mutex);
    if (first) { /* else the loop has been woken and has not looked yet */
        pool->options.wake(pool->options.context);
    }
}

/* Has the client closed its side? It may still read (a half-closed connection), so a request that did not wait long is
 * scored all the same; in an overload most requests that did belong to clients that gave up. */
static bool client_disconnected(int socket) {
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

static void serve(struct worker *worker, struct scorer *scorer, struct job *job) {
    struct request_outcome outcome;
    bool scores = job->user.id == NULL;
    memset(&outcome, 0, sizeof outcome);
    if (scores)
        request_score(scorer, job->format, job->body, job->size, &outcome);
    else
        request_update(scorer, job->user, job->format, job->body, job->size, &outcome);
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

static void run(struct worker *worker, struct scorer *scorer, struct job *job) {
    const struct worker_pool_options *options = &worker->pool->options;
    uint64_t waited = clock_now() - job->submitted;
    if (job->user.id == NULL)
        metrics_duration(options->metrics, PHASE_QUEUE, clock_seconds(waited));
    if (waited > options->deadline / PATIENT_SHARE && client_disconnected(job->socket)) {
        job->cancelled = true;
    } else if (waited > options->deadline) {
        struct problem problem;
        problem_set(&problem, PROBLEM_DEADLINE_PASSED, "", "The request waited %.3f s; the deadline is %.3f s.",
                    clock_seconds(waited), clock_seconds(options->deadline));
        answer_problem(worker, job, &problem);
    } else {
        serve(worker, scorer, job);
    }
}

/* From queue to answer, and how long it took as if one thread had done that and nothing else. */
static void do_job(struct worker *worker, struct scorer *scorer, struct job *job) {
    uint64_t start = clock_now();
    worker->excluded_ns = 0;
    run(worker, scorer, job);
    int64_t spent = (int64_t)(clock_now() - start) - worker->excluded_ns;
    job->seconds = job->problem == PROBLEM_NONE && !job->cancelled ? 1e-9 * (double)spent : 0;
    give_back(worker->pool, job, scorer == &worker->interleaved);
}

/* Woken on the loop's own processor, a scoring thread lets the loop read on: it then finds several jobs at once, and
 * the two change places less often. Where the kernel does not allow it nothing is lost but that. */
static void yield_to_loop(void) {
    const struct sched_param none = {.sched_priority = 0};
    if (sched_getscheduler(0) == SCHED_OTHER) /* else whoever started us has chosen another */
        (void)!sched_setscheduler(0, SCHED_BATCH, &none);
}

static void *work(void *argument) {
    struct worker *worker = argument;
    struct job *job = NULL;
    pthread_setname_np(pthread_self(), "score");
    yield_to_loop();
    while ((job = take(worker)) != NULL)
        do_job(worker, &worker->scorer, job);
    return NULL;
}

/* ---- dividing */

/* Light jobs that wait, for as long as the last chunk took: a heavy job takes half of its thread's time, or all. */
static void do_light_jobs(struct worker *worker, uint64_t budget) {
    uint64_t start = clock_now(), spent = 0;
    int64_t excluded_ns = worker->excluded_ns;
    struct job *job = NULL;
    while (spent < budget && (job = take_light(worker->pool)) != NULL) {
        do_job(worker, &worker->interleaved, job);
        spent = clock_now() - start;
        metrics_add(&worker->pool->options.metrics->requests_interleaved, 1);
    }
    worker->excluded_ns = excluded_ns + (int64_t)spent;
}

static void score_chunks(struct worker *worker, struct work_split *split, double candidate_units) {
    double whole = candidate_units * (double)split->scoring->request->candidate_count;
    bool heavy = cost_seconds(&worker->rate, whole) > JOB_HEAVY_SECONDS;
    struct range range;
    while (work_split_take(split, &range)) {
        uint64_t start = clock_now();
        work_split_score(split, worker->scorer.scratch, range);
        uint64_t spent = clock_now() - start;
        cost_learn(&worker->rate, candidate_units * (double)range.count, clock_seconds(spent));
        if (heavy)
            do_light_jobs(worker, spent);
    }
}

static void offer(struct worker_pool *pool, struct work_split *split) {
    pthread_mutex_lock(&pool->mutex);
    struct work_split **last = &pool->splits;
    while (*last != NULL)
        last = &(*last)->next;
    *last = split;
    size_t wanted = work_split_chunks(split) - 1;
    for (size_t i = 0; i < wanted && i < pool->idle; i++)
        pthread_cond_signal(&pool->filled);
    pthread_mutex_unlock(&pool->mutex);
}

/* No chunk is left to be taken: wait for those that others have begun. */
static void withdraw(struct worker *worker, struct work_split *split) {
    struct worker_pool *pool = worker->pool;
    pthread_mutex_lock(&pool->mutex);
    struct work_split **place = &pool->splits;
    while (*place != split)
        place = &(*place)->next;
    *place = split->next;
    while (split->helpers > 0)
        pthread_cond_wait(&pool->left, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
    worker->excluded_ns -= (int64_t)split->helped_nanos;
    if (split->helped > 0) {
        metrics_add(&pool->options.metrics->requests_split, 1);
        metrics_add(&pool->options.metrics->chunks_helped, split->helped);
    }
}

/* The scorer's score_parallel(). */
static void score_parallel(struct scorer *scorer, const struct scoring *scoring) {
    struct worker *worker = scorer->parallel_context;
    double units = cost_of_candidate(scoring->model, scoring->user);
    struct work_split split;
    work_split_init(&split, scoring, CHUNK_SECONDS / cost_seconds(&worker->rate, units));
    bool many = work_split_chunks(&split) > 1;
    if (many)
        offer(worker->pool, &split);
    score_chunks(worker, &split, units);
    if (many)
        withdraw(worker, &split);
}

/* ---- start and stop */

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
    worker->interleaved = worker->scorer;
    arena_init(&worker->interleaved.arena, pool->options.limits.memory, INTERLEAVED_ARENA_KEEP);
    worker->scorer.score_parallel = score_parallel;
    worker->scorer.parallel_context = worker;
    worker->rate = cost_rate_start();
    return worker->has_scorer && start_thread(worker);
}

struct worker_pool *worker_pool_start(const struct worker_pool_options *options) {
    struct worker_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->options = *options;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->filled, NULL);
    pthread_cond_init(&pool->left, NULL);
    pool->queue = (struct job_queue){.max_jobs = options->queue,
                                     .threads = options->threads,
                                     .patience = ADMISSION_SHARE * clock_seconds(options->deadline),
                                     .rate = cost_rate_start()};
    pool->workers = calloc(options->threads, sizeof *pool->workers);
    bool good = pool->workers != NULL;
    for (size_t i = 0; good && i < options->threads; i++)
        good = start_worker(pool, &pool->workers[i]);
    if (!good) {
        worker_pool_stop(pool);
        worker_pool_free(pool);
        return NULL;
    }
    return pool;
}

bool worker_pool_submit(struct worker_pool *pool, struct job *job) {
    job->units = cost_guess(job->format, job->body, job->size); /* which reads the body: not under the lock */
    pthread_mutex_lock(&pool->mutex);
    bool welcome = !pool->stopping && job_queue_add(&pool->queue, job), wanted = welcome && pool->idle > 0;
    if (welcome)
        publish_counts(pool);
    pthread_mutex_unlock(&pool->mutex);
    if (wanted) /* not under the lock, for which the woken thread would have to wait */
        pthread_cond_signal(&pool->filled);
    return welcome;
}

struct job *worker_pool_take_done(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    struct job *first = pool->done.first;
    pool->done = (struct job_list){NULL, NULL};
    pthread_mutex_unlock(&pool->mutex);
    return first;
}

size_t worker_pool_waiting(const struct worker_pool *pool) {
    return pool->waiting_count;
}

double worker_pool_wait_seconds(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    double seconds = job_queue_seconds(&pool->queue);
    pthread_mutex_unlock(&pool->mutex);
    return seconds;
}

size_t worker_pool_busy(const struct worker_pool *pool) {
    return pool->busy;
}

/* The threads have ended, so no lock is needed. */
static void refuse_waiting(struct worker_pool *pool) {
    struct job *job = NULL;
    while ((job = job_queue_take(&pool->queue)) != NULL) {
        struct problem problem;
        problem_set(&problem, PROBLEM_DRAINING, "", "The server stopped before it came to this request.");
        answer_problem(&pool->workers[0], job, &problem);
        job_append(&pool->done, job);
    }
    publish_counts(pool);
}

void worker_pool_stop(struct worker_pool *pool) {
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

void worker_pool_free(struct worker_pool *pool) {
    for (size_t i = 0; pool->workers != NULL && i < pool->options.threads; i++) {
        if (pool->workers[i].has_scorer)
            scorer_free(&pool->workers[i].scorer);
        arena_free(&pool->workers[i].interleaved.arena);
        arena_free(&pool->workers[i].arena);
    }
    free(pool->workers);
    pthread_cond_destroy(&pool->filled);
    pthread_cond_destroy(&pool->left);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
