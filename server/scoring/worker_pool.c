/* worker_pool.c: a job from the queue to its answer.
 *
 * One mutex guards the job queue, the finished jobs and the open splits. A thread holds it for a few instructions and
 * the looks at EXAMINED sockets for each job, and never while it scores.
 */
#include "server/scoring/worker_pool.h"

#include "proto/content_coding.h"
#include "proto/json_encode.h"
#include "server/base/clock.h"
#include "server/base/peer.h"
#include "server/base/thread.h"
#include "server/scoring/event_lines.h"
#include "server/scoring/shadow.h"
#include "server/scoring/work_split.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct worker {
    struct worker_pool *pool;
    size_t index; /* of its scratch in each model */
    struct scorer scorer;
    struct scorer comparing;   /* for shadows: no cache, and an arena of its own */
    struct scorer interleaved; /* for light jobs between chunks of a heavy one: its own arena, the scorer's scratch */
    struct arena arena;        /* for problem details, since the scorer's arena may be full */
    struct job *job;           /* that it runs now, the interleaved one included */
    uint64_t random;           /* for the sample of requests that have a shadow */
    struct cost_rate rate;     /* of scoring alone, without decoding and encoding */
    int64_t excluded_ns;       /* of the job's elapsed time: spent on interleaved jobs, less the time helpers gave it */
    pthread_t thread;
    bool has_thread;
};

struct worker_pool {
    struct worker_pool_options options;
    pthread_mutex_t mutex;
    pthread_cond_t work_available; /* a job or a split is there, or the pool stops */
    pthread_cond_t helpers_left;   /* a split has no helpers any more */
    /* Guarded by the mutex. */
    struct job_queue queue;
    struct job_list done;
    struct work_split *splits;
    struct served_model *served; /* of the jobs that are taken from now on, as the next */
    struct rollout rollout;
    struct shadow *shadows; /* that wait, newest first */
    size_t shadow_count, shadow_bytes;
    size_t idle;    /* threads that wait for work_available */
    size_t applied; /* queued jobs whose changes the history store has: they are done before the threads end */
    bool stopping;
    /* Read without the mutex. */
    _Atomic size_t waiting_count, light_count;
    _Atomic size_t busy;
    struct worker *workers; /* [options.threads] */
    struct arena arena;     /* the event loop's thread's, for problem details */
};

/* EXAMINED: waiting jobs that are looked at for each job that comes or goes, so that clients that leave are noticed as
 * fast as they come.
 * ADMISSION_SHARE: a job is refused when its estimated wait exceeds this part of the deadline. The rest is a reserve
 * for errors of the estimate.
 * CHUNK_SECONDS: the target time of a chunk. Waking a thread takes some 20 us, and a queued job may wait for a chunk.
 */
enum { PROBLEM_ARENA_KEEP = 16384, INTERLEAVED_ARENA_KEEP = 65536, EXAMINED = 2, EXAMINED_A_TICK = 64 };
#define ADMISSION_SHARE 0.75
#define CHUNK_SECONDS   0.4e-3

/* Call after every change of the queue. */
static void publish_counts(struct worker_pool *pool) {
    pool->light_count = pool->queue.lanes[LANE_LIGHT].count;
    pool->waiting_count = job_queue_count(&pool->queue);
}

/* ---- one job */

static void drop_room(struct job *job) {
    free(job->reply);
    job->reply = NULL;
    job->reply_size = 0;
}

/* The scorer's make_room(). */
static bool make_room(struct scorer *scorer, struct request *request, size_t reply_most) {
    (void)request;
    struct job *job = ((struct worker *)scorer->parallel_context)->job;
    job->reply = malloc(reply_most);
    job->reply_size = job->reply != NULL ? reply_most : 0;
    return job->reply != NULL;
}

/* Copies the reply out of the arena, since the thread's next request resets that; into the room that was made for it,
 * if there is any. */
static void keep_reply(struct job *job, struct proto_string text) {
    if (text.data == NULL || text.length > job->reply_size) {
        drop_room(job);
        job->reply = text.data != NULL ? malloc(text.length + 1) : NULL;
    }
    if (job->reply == NULL) {
        job->problem = job->problem == PROBLEM_NONE ? PROBLEM_OUT_OF_MEMORY : job->problem;
        return;
    }
    memcpy(job->reply, text.data, text.length);
    char *fitting = job->reply_size > text.length ? realloc(job->reply, text.length + 1) : NULL;
    job->reply = fitting != NULL ? fitting : job->reply;
    job->reply_size = text.length;
}

static void reply_problem(struct worker *worker, struct job *job, const struct problem *problem) {
    job->problem = problem->kind;
    keep_reply(job, json_encode_problem(problem, job->request_id, &worker->arena));
    arena_reset(&worker->arena);
}

static size_t decoded_size(const struct job *job) {
    return content_claimed_size(job->coding, job->body, job->size);
}

/* The units of the work that was done for a request: of the behaviours that the model used, and the candidates that
 * were scored. */
static double units_done(const struct job *job, const struct request *request) {
    struct cost_work work = {.scored = 1};
    for (size_t i = 0; i < request->interest_count; i++)
        work.length = request->interests[i].length > work.length ? request->interests[i].length : work.length;
    work.held = (double)(work.length * request->decoded.candidates.columns);
    if (request->resolved.candidate_count > 0)
        work.scored = (double)request->scored / (double)request->resolved.candidate_count;
    return cost_of_work(&request->decoded, decoded_size(job), &work);
}

static void correct_units(struct worker_pool *pool, struct job *job, double units) {
    pthread_mutex_lock(&pool->mutex);
    pool->queue.working_units += units - job->units;
    job->units = units;
    pthread_mutex_unlock(&pool->mutex);
}

/* The scorer's weigh(). A job that hid its cost was taken too early. It goes back as a heavy one, unless nobody waits
 * or it has been weighed before; the deadline that its body gave stays with it. The thread of a heavy job must not
 * begin another one: there a history that the server holds counts with the most that the model uses. Nothing has been
 * changed by the request so far. */
static bool weigh(struct scorer *scorer, struct request *request) {
    struct worker *worker = scorer->parallel_context;
    struct worker_pool *pool = worker->pool;
    struct job *job = worker->job;
    bool interleaved = scorer == &worker->interleaved;
    struct cost_work usual = cost_work_expected(scorer->model, &request->decoded, 0);
    struct cost_work longest = cost_work_expected(scorer->model, &request->decoded, SIZE_MAX);
    double units = cost_of_work(&request->decoded, decoded_size(job), &usual);
    double most = interleaved ? cost_of_work(&request->decoded, decoded_size(job), &longest) : units;
    pthread_mutex_lock(&pool->mutex);
    bool is_heavy = cost_seconds(&pool->queue.rate, most) > JOB_HEAVY_SECONDS;
    pthread_mutex_unlock(&pool->mutex);
    request->postponed = is_heavy && !job->heavy && !job->weighed && (interleaved || pool->waiting_count > 0);
    if (request->postponed) {
        job->weight = units;
        job->deadline = request->deadline;
    }
    return !request->postponed;
}

/* ---- live model and candidate */

static void bind_scorer(const struct worker *worker, struct scorer *scorer, const struct served_model *served) {
    scorer->model = served->model;
    scorer->scratch = served->scratches[worker->index];
    scorer->version = served->version;
}

static void change_sides(const struct worker *worker, struct scorer *scorer, struct job *job) {
    struct served_model *other = job->rollout.candidate;
    job->rollout.candidate = job->served;
    job->served = other;
    job->is_canary = !job->is_canary;
    bind_scorer(worker, scorer, job->served);
}

/* The scorer's choose_model(): the candidate, for its share of users. */
static void choose_model(struct scorer *scorer, const struct request *request) {
    struct worker *worker = scorer->parallel_context;
    struct job *job = worker->job;
    struct user_key user = request_user(request);
    bool has_user = user.id != NULL;
    if (job->rollout.candidate == NULL || job->is_canary || job->is_rescued)
        return;
    if (rollout_choose(&job->rollout, job->served, has_user ? user.id : job->request_id,
                       has_user ? user.length : strlen(job->request_id)) != job->served)
        change_sides(worker, scorer, job);
}

/* The candidate's score is not a number: the live model answers, and the candidate's guard is told. */
static void rescue(struct worker *worker, struct scorer *scorer, struct job *job) {
    comparison_add_canary(worker->pool->options.comparison, job->rollout.round, true);
    job->is_rescued = true;
    change_sides(worker, scorer, job);
}

/* xorshift: one draw is enough of a random number for a sample. */
static bool is_sampled(struct worker *worker, double share) {
    worker->random ^= worker->random << 13;
    worker->random ^= worker->random >> 7;
    worker->random ^= worker->random << 17;
    return 0x1p-53 * (double)(worker->random >> 11) < share;
}

static void offer_shadow(struct worker *worker, const struct job *job, const struct request *request) {
    struct worker_pool *pool = worker->pool;
    struct comparison *comparison = pool->options.comparison;
    struct shadow *shadow = NULL;
    if (!request_has_history(request)) {
        comparison_add_shadow(comparison, job->rollout.round, SHADOW_NO_HISTORY);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    bool has_room = pool->shadow_count < pool->options.threads && !pool->stopping;
    size_t room = pool->options.shadow_buffer - pool->shadow_bytes;
    pthread_mutex_unlock(&pool->mutex);
    if (has_room)
        shadow = shadow_new(request, &job->rollout, room);
    if (shadow == NULL) {
        comparison_add_shadow(comparison, job->rollout.round, SHADOW_BUSY);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    has_room = pool->shadow_count < pool->options.threads && !pool->stopping &&
               shadow->bytes <= pool->options.shadow_buffer - pool->shadow_bytes &&
               pool->rollout.round == job->rollout.round && pool->rollout.candidate == job->rollout.candidate;
    if (has_room) {
        shadow->next = pool->shadows;
        pool->shadows = shadow;
        pool->shadow_count++;
        pool->shadow_bytes += shadow->bytes;
    }
    pthread_mutex_unlock(&pool->mutex);
    if (has_room)
        return;
    comparison_add_shadow(comparison, job->rollout.round, SHADOW_BUSY);
    shadow_free(shadow);
}

/* A request was scored while there is a candidate. */
static void compare(struct worker *worker, const struct job *job, const struct request *request) {
    struct comparison *comparison = worker->pool->options.comparison;
    const struct rollout *rollout = &job->rollout;
    bool scores = job->user.id == NULL && job->format != PROTO_LINES;
    if (job->is_canary)
        comparison_add_canary(comparison, rollout->round, false);
    if (!scores)
        return;
    if (rollout->shares.canary > 0)
        comparison_add_seconds(comparison, rollout->round, job->is_canary ? COMPARED_CANDIDATE : COMPARED_LIVE,
                               request->scoring_seconds);
    bool whole = request->scored == request->resolved.candidate_count;
    if (!job->is_canary && !job->is_rescued && whole && is_sampled(worker, rollout->shares.shadow))
        offer_shadow(worker, job, request);
}

/* With the mutex held. A thread that takes a shadow leaves an idle one for the next job, where there are several. */
static struct shadow *take_shadow(struct worker_pool *pool) {
    struct shadow *shadow = pool->idle > 0 || pool->options.threads == 1 ? pool->shadows : NULL;
    if (shadow == NULL)
        return NULL;
    pool->shadows = shadow->next;
    pool->shadow_count--;
    pool->shadow_bytes -= shadow->bytes;
    return shadow;
}

static void run_shadow(struct worker *worker, struct shadow *shadow) {
    bind_scorer(worker, &worker->comparing, shadow->rollout.candidate);
    shadow_run(shadow, &worker->comparing, worker->pool->options.comparison);
    shadow_free(shadow);
}

/* The score_parallel() of shadows: chunk by chunk on this thread alone, until a job waits. */
static void score_while_idle(struct scorer *scorer, struct request *request) {
    struct worker *worker = scorer->parallel_context;
    double units = cost_of_candidate(scorer->model, request->state.user);
    struct work_split split;
    struct range range;
    work_split_init(&split, scorer->model, request, CHUNK_SECONDS / cost_seconds(&worker->rate, units));
    while (!request->departed && work_split_take(&split, &range)) {
        uint64_t start = clock_now();
        work_split_score(&split, scorer->scratch, range);
        request->scoring_seconds += clock_seconds(clock_now() - start);
        request->departed = work_split_has_more(&split) && worker->pool->waiting_count > 0;
    }
}

/* ---- one job, on */

/* False when the job is to be put back. */
static bool score_request(struct scorer *scorer, const struct job *job, struct request *request) {
    *request = (struct request){.format = job->format,
                                .coding = job->coding,
                                .body = job->body,
                                .size = job->size,
                                .path_user = job->user,
                                .arrived = job->arrived != 0 ? job->arrived : job->submitted,
                                .deadline = job->deadline,
                                .event_id = {job->event_id, job->event_id_length},
                                .may_write = job->may_write,
                                .strict = job->strict,
                                .stored = job->stored};
    if (job->format == PROTO_LINES)
        request_events(scorer, request);
    else if (job->user.id == NULL)
        request_score(scorer, request);
    else
        request_update(scorer, request);
    return !request->postponed;
}

/* False when the job is to be put back. */
static bool serve(struct worker *worker, struct scorer *scorer, struct job *job) {
    struct request request;
    if (!score_request(scorer, job, &request))
        return false;
    if (job->is_canary && request.problem.kind == PROBLEM_MODEL_FAULT) {
        drop_room(job);
        rescue(worker, scorer, job);
        if (!score_request(scorer, job, &request))
            return false;
    }
    if (request.wants != STORED_NOTHING) {
        drop_room(job);
        stored_history_free(job->stored); /* a state of the record that it names has gone */
        job->stored = stored_history_new(request.wants, request_user(&request), request.change, request.replaces);
        if (job->stored != NULL) {
            job->stored->known = request.known;
            job->stored->events = request.events;
            if (scorer->cache != NULL && request.wants != STORED_EVENTS)
                job->stored->delete_epoch = user_cache_delete_epoch(scorer->cache, request_user(&request));
            return true;
        }
        problem_out_of_memory(&request.problem);
    }
    scoring_counts_request(worker->pool->options.counts, &request);
    job->summary = request.summary;
    job->cancelled = request.departed;
    if (worker->pool->options.observe != NULL && job->format != PROTO_LINES)
        worker->pool->options.observe(worker->pool->options.observer, job, &request);
    memcpy(job->model_tag, job->served->tag, sizeof job->model_tag);
    if (job->rollout.candidate != NULL && request.problem.kind == PROBLEM_NONE && !request.departed)
        compare(worker, job, &request);
    if (request.interest_count > 0)
        correct_units(worker->pool, job, units_done(job, &request));
    if (request.departed) {
        drop_room(job);
    } else if (request.problem.kind == PROBLEM_NONE) {
        keep_reply(job, request.reply);
    } else {
        drop_room(job);
        reply_problem(worker, job, &request.problem);
    }
    event_batch_free(request.events);
    return true;
}

/* ---- jobs that are not scored */

/* The end of a job's patience. */
static uint64_t expiry_of(const struct worker_pool *pool, const struct job *job) {
    uint64_t expiry = job->submitted + pool->options.deadline;
    return job->deadline != 0 && job->deadline < expiry ? job->deadline : expiry;
}

/* True when a job that has waited is of no more use: its time is over, or its client has left. The loop writes the
 * reply. */
static bool is_hopeless(struct worker_pool *pool, struct job *job, uint64_t now) {
    if (job_is_applied(job))
        return false;
    job->waited = now > job->submitted ? clock_seconds(now - job->submitted) : 0;
    if (job->waited > JOB_PRESSURE_SECONDS && peer_look(job->socket) == PEER_GONE) {
        job->cancelled = true;
        counter_add(&pool->options.counts->departures, 1);
        return true;
    }
    if (now < expiry_of(pool, job))
        return false;
    job->problem = PROBLEM_DEADLINE_PASSED;
    return true;
}

/* Looks at some of the jobs that wait, with the mutex held. */
static void examine(struct worker_pool *pool, size_t most, uint64_t now) {
    for (size_t i = 0; i < most && job_queue_count(&pool->queue) > 0; i++) {
        struct job *job = job_queue_examine(&pool->queue, now);
        if (job != NULL && is_hopeless(pool, job, now)) {
            job_queue_remove(&pool->queue, job);
            job_append(&pool->done, job);
        }
    }
    publish_counts(pool);
}

/* The reply to a job that was not scored, where its client still waits. */
static void explain(struct worker_pool *pool, struct job *job) {
    struct problem problem;
    double deadline = clock_seconds(expiry_of(pool, job) - job->submitted);
    if (job->problem == PROBLEM_DEADLINE_PASSED)
        problem_set(&problem, job->problem, "", "The request waited %.3f s; the deadline is %.3f s.", job->waited,
                    deadline);
    else if (job->problem == PROBLEM_DRAINING)
        problem_set(&problem, job->problem, "", "The server stopped before it came to this request.");
    else if (job->refusal == JOB_QUEUE_FULL)
        problem_set(&problem, job->problem, "", "The request left the full queue for a later one.");
    else
        problem_set(&problem, job->problem, "",
                    "The request left the queue for a later one: it would wait for about %.3f s more, too long for its "
                    "deadline of %.3f s.",
                    job->wait, deadline);
    keep_reply(job, json_encode_problem(&problem, job->request_id, &pool->arena));
    arena_reset(&pool->arena);
}

/* ---- one job's life */

/* A job was taken from the queue, with the mutex held: from here to its reply it has this model. */
static void hold_model(struct worker_pool *pool, struct job *job) {
    job->served = served_model_hold(pool->served);
    job->rollout = pool->rollout;
    job->is_canary = false;
    pool->applied -= job_is_applied(job);
    if (job->rollout.candidate != NULL)
        served_model_hold(job->rollout.candidate);
}

/* The life of a job after the queue: check that somebody still wants it in time, score it, measure its cost, and hand
 * it to the loop. False when it has gone back to the queue instead. */
static bool run_job(struct worker *worker, struct scorer *scorer, struct job *job) {
    struct worker_pool *pool = worker->pool;
    const struct worker_pool_options *options = &pool->options;
    uint64_t start = clock_now();
    worker->excluded_ns = 0;
    worker->job = job;
    bind_scorer(worker, scorer, job->served);
    bool ended = is_hopeless(pool, job, start) || serve(worker, scorer, job);
    served_model_release(job->served);
    served_model_release(job->rollout.candidate);
    job->served = job->rollout.candidate = NULL;
    if (ended && job->user.id == NULL && job->format != PROTO_LINES && !worker_pool_waits(job))
        histogram_add(&options->counts->phases[PHASE_QUEUE], clock_seconds(start - job->submitted));

    /* The cost is the time that one thread would have taken alone. */
    uint64_t end = clock_now();
    int64_t spent = (int64_t)(end - start) - worker->excluded_ns;
    bool whole = job->problem == PROBLEM_NONE && !job->cancelled && !worker_pool_waits(job) &&
                 job->format != PROTO_LINES; /* their lines say nothing of what scoring costs */
    job->seconds = whole ? 1e-9 * (double)spent : 0;

    pthread_mutex_lock(&pool->mutex);
    bool first = ended && pool->done.first == NULL;
    if (ended) {
        job_queue_done(&pool->queue, job, end);
        job_append(&pool->done, job);
    } else {
        job_queue_put_back(&pool->queue, job, job->weight, 1e-9 * (double)spent, end);
        pool->applied += job_is_applied(job);
        publish_counts(pool);
        if (pool->idle > 0)
            pthread_cond_signal(&pool->work_available);
    }
    if (scorer != &worker->interleaved)
        pool->busy--;
    pthread_mutex_unlock(&pool->mutex);
    if (first) { /* otherwise the loop has been woken and has not looked yet */
        options->wake(options->context);
    }
    return ended;
}

/* Run queued light jobs for as long as the last chunk took, so a heavy job uses at least half of its thread. */
static void run_light_jobs(struct worker *worker, uint64_t budget) {
    struct worker_pool *pool = worker->pool;
    uint64_t start = clock_now(), spent = 0;
    int64_t excluded_ns = worker->excluded_ns; /* the heavy job's; run_job() counts anew */
    struct job *heavy = worker->job;
    while (spent < budget && pool->light_count > 0) {
        pthread_mutex_lock(&pool->mutex);
        struct job *job = pool->stopping ? NULL : job_queue_take_light(&pool->queue, clock_now());
        if (job != NULL)
            hold_model(pool, job);
        publish_counts(pool);
        pthread_mutex_unlock(&pool->mutex);
        if (job == NULL)
            break;
        bool ended = run_job(worker, &worker->interleaved, job);
        spent = clock_now() - start;
        counter_add(&pool->options.counts->requests_interleaved, ended);
    }
    worker->excluded_ns = excluded_ns + (int64_t)spent;
    worker->job = heavy;
}

/* The scorer's pause(). */
static void pause_for_light_jobs(struct scorer *scorer, uint64_t nanoseconds) {
    run_light_jobs(scorer->parallel_context, nanoseconds);
}

/* ---- the scoring of one request by several threads */

/* Between two chunks: whether the time is over or the client has left. Then no other chunk is begun. */
static void look_again(struct worker *worker, struct work_split *split, struct request *request) {
    const struct job *job = worker->job;
    uint64_t now = clock_now();
    bool late =
        request->deadline != 0 && now >= request->deadline && (!request->runs_to_end || request->decoded.partial);
    bool looks =
        !request->runs_to_end && now > job->submitted && clock_seconds(now - job->submitted) > JOB_PRESSURE_SECONDS;
    if (!late && !(looks && peer_look(job->socket) == PEER_GONE))
        return;
    request->scored = work_split_stop(split);
    request->departed = !late && request->scored < request->candidates.candidate_count;
    if (request->departed)
        counter_add(&worker->pool->options.counts->departures, 1);
}

/* The scorer's score_parallel(): offer the request to idle threads, score chunks until none is left, and wait for those
 * that helpers have begun. */
static void score_parallel(struct scorer *scorer, struct request *request) {
    struct worker *worker = scorer->parallel_context;
    struct worker_pool *pool = worker->pool;
    double units = cost_of_candidate(scorer->model, request->state.user);
    struct work_split split;
    struct range range;
    work_split_init(&split, scorer->model, request, CHUNK_SECONDS / cost_seconds(&worker->rate, units));
    split.served = worker->job->served;
    size_t chunks = work_split_chunks(&split);
    uint64_t own_ns = 0;
    bool heavy = cost_seconds(&worker->rate, units * (double)request->candidates.candidate_count) > JOB_HEAVY_SECONDS;

    if (chunks > 1) { /* oldest first: a helper takes the first split that has chunks left */
        pthread_mutex_lock(&pool->mutex);
        struct work_split **end = &pool->splits;
        while (*end != NULL)
            end = &(*end)->next;
        *end = &split;
        for (size_t i = 0; i < chunks - 1 && i < pool->idle; i++)
            pthread_cond_signal(&pool->work_available);
        pthread_mutex_unlock(&pool->mutex);
    }

    while (work_split_take(&split, &range)) {
        uint64_t start = clock_now();
        work_split_score(&split, scorer->scratch, range);
        uint64_t spent = clock_now() - start;
        own_ns += spent;
        cost_learn(&worker->rate, units * (double)range.count, clock_seconds(spent));
        if (heavy)
            run_light_jobs(worker, spent);
        if (work_split_has_more(&split))
            look_again(worker, &split, request);
    }

    if (chunks > 1) {
        pthread_mutex_lock(&pool->mutex);
        struct work_split **link = &pool->splits;
        while (*link != &split)
            link = &(*link)->next;
        *link = split.next;
        while (split.helpers > 0)
            pthread_cond_wait(&pool->helpers_left, &pool->mutex);
        pthread_mutex_unlock(&pool->mutex);
    }
    request->scoring_seconds = clock_seconds(own_ns + split.helper_ns);
    worker->excluded_ns -= (int64_t)split.helper_ns;
    if (split.helper_chunks > 0) {
        counter_add(&pool->options.counts->requests_split, 1);
        counter_add(&pool->options.counts->chunks_helped, split.helper_chunks);
    }
}

/* ---- the threads */

/* Scores chunks of another thread's request until none is left or a job is queued. The owner keeps the split while it
 * has helpers. Called with the mutex, which it gives up meanwhile. */
static void help(const struct worker *worker, struct work_split *split) {
    struct worker_pool *pool = worker->pool;
    struct range range;
    size_t chunks = 0;
    split->helpers++;
    pool->busy++;
    pthread_mutex_unlock(&pool->mutex);
    uint64_t start = clock_now();
    while (pool->waiting_count == 0 && work_split_take(split, &range)) {
        work_split_score(split, split->served->scratches[worker->index], range);
        chunks++;
    }
    uint64_t spent = clock_now() - start;
    pthread_mutex_lock(&pool->mutex);
    pool->busy--;
    split->helper_chunks += chunks;
    split->helper_ns += spent;
    if (--split->helpers == 0)
        pthread_cond_broadcast(&pool->helpers_left);
}

/* Take jobs until the pool stops. A thread without a job helps another one, and otherwise sleeps. */
static void *work(void *argument) {
    struct worker *worker = argument;
    struct worker_pool *pool = worker->pool;
    /* A SCHED_BATCH thread that is woken on the loop's processor does not preempt the loop. The loop then reads several
     * jobs at once, and the two switch less often. If the kernel refuses, only that gain is lost. A policy other than
     * SCHED_OTHER is the choice of whoever started the process, and stays. */
    if (sched_getscheduler(0) == SCHED_OTHER)
        (void)!sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){.sched_priority = 0});

    pthread_mutex_lock(&pool->mutex);
    while (!pool->stopping || pool->applied > 0) {
        uint64_t now = clock_now();
        bool none_done = pool->done.first == NULL;
        examine(pool, EXAMINED, now);
        struct job *job = job_queue_take(&pool->queue, now);
        bool wakes = none_done && pool->done.first != NULL;
        if (job == NULL && wakes) {
            pthread_mutex_unlock(&pool->mutex);
            pool->options.wake(pool->options.context);
            pthread_mutex_lock(&pool->mutex);
            continue;
        }
        if (job != NULL) {
            publish_counts(pool);
            hold_model(pool, job);
            pool->busy++;
            pthread_mutex_unlock(&pool->mutex);
            if (wakes)
                pool->options.wake(pool->options.context);
            run_job(worker, &worker->scorer, job);
            pthread_mutex_lock(&pool->mutex);
            continue;
        }

        struct work_split *split = pool->splits;
        while (split != NULL && !work_split_has_more(split))
            split = split->next;
        struct shadow *shadow = split == NULL ? take_shadow(pool) : NULL;
        if (shadow != NULL) {
            pthread_mutex_unlock(&pool->mutex);
            run_shadow(worker, shadow);
            pthread_mutex_lock(&pool->mutex);
            continue;
        }
        if (split == NULL) {
            pool->idle++;
            pthread_cond_wait(&pool->work_available, &pool->mutex);
            pool->idle--;
            continue;
        }

        help(worker, split);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

struct worker_pool *worker_pool_start(const struct worker_pool_options *options) {
    struct worker_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) {
        served_model_release(options->served);
        return NULL;
    }
    pool->options = *options;
    pool->served = options->served;
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->work_available, NULL);
    pthread_cond_init(&pool->helpers_left, NULL);
    pool->queue = (struct job_queue){.max_jobs = options->queue,
                                     .threads = options->threads,
                                     .patience = ADMISSION_SHARE * clock_seconds(options->deadline),
                                     .rate = cost_rate_start()};
    arena_init(&pool->arena, 0, PROBLEM_ARENA_KEEP);
    pool->workers = calloc(options->threads, sizeof *pool->workers);
    bool good = pool->workers != NULL;
    for (size_t i = 0; good && i < options->threads; i++) {
        struct worker *worker = &pool->workers[i];
        worker->pool = pool;
        worker->rate = cost_rate_start();
        arena_init(&worker->arena, 0, PROBLEM_ARENA_KEEP);
        worker->index = i;
        scorer_init_unbound(&worker->scorer, &options->limits);
        worker->scorer.cache = options->cache;
        worker->random = clock_now() + i + 1;
        worker->scorer.choose_model = choose_model;
        worker->scorer.weigh = weigh;
        worker->scorer.make_room = make_room;
        worker->scorer.parallel_context = worker;
        worker->interleaved = worker->scorer;
        arena_init(&worker->interleaved.arena, options->limits.memory, INTERLEAVED_ARENA_KEEP);
        worker->scorer.score_parallel = score_parallel;
        worker->scorer.pause = pause_for_light_jobs;
        scorer_init_unbound(&worker->comparing, &options->limits);
        arena_init(&worker->comparing.arena, options->limits.memory, INTERLEAVED_ARENA_KEEP);
        worker->comparing.score_parallel = score_while_idle;
        worker->comparing.parallel_context = worker;
        worker->has_thread = thread_start(&worker->thread, "score", work, worker);
        good = worker->has_thread;
    }
    if (!good) {
        worker_pool_stop(pool);
        worker_pool_free(pool);
        return NULL;
    }
    return pool;
}

/* ---- the loop's side */

static void free_shadows(struct shadow *shadow) {
    for (struct shadow *next; shadow != NULL; shadow = next) {
        next = shadow->next;
        shadow_free(shadow);
    }
}

void worker_pool_serve(struct worker_pool *pool, struct served_model *live, const struct rollout *rollout) {
    served_model_hold(live);
    if (rollout->candidate != NULL)
        served_model_hold(rollout->candidate);
    pthread_mutex_lock(&pool->mutex);
    struct served_model *before = pool->served, *candidate = pool->rollout.candidate;
    struct shadow *shadows = NULL;
    if (rollout->round != pool->rollout.round || rollout->candidate != candidate) {
        shadows = pool->shadows;
        pool->shadows = NULL;
        pool->shadow_count = pool->shadow_bytes = 0;
    }
    pool->served = live;
    pool->rollout = *rollout;
    pthread_mutex_unlock(&pool->mutex);
    free_shadows(shadows);
    served_model_release(before);
    served_model_release(candidate);
}

bool worker_pool_submit(struct worker_pool *pool, struct job *job) {
    job->reply = NULL;
    job->reply_size = 0;
    /* cost_guess() reads the whole body, so not under the lock. */
    job->units = job->user.id != NULL || job->format == PROTO_LINES ? cost_guess_update(decoded_size(job))
                 : job->coding == PROTO_IDENTITY                    ? cost_guess(job->format, job->body, job->size)
                                                                    : cost_guess_compressed(decoded_size(job));
    /* In an overload the request may have waited in the kernel, too, until its client gave up. */
    if (pool->waiting_count > 0 && peer_look(job->socket) == PEER_GONE) {
        job->refusal = JOB_CLIENT_GONE;
        counter_add(&pool->options.counts->departures, 1);
        return false;
    }
    struct job_list dropped = {NULL, NULL};
    uint64_t now = clock_now();
    pthread_mutex_lock(&pool->mutex);
    bool none_done = pool->done.first == NULL;
    examine(pool, EXAMINED, now);
    bool admitted = !pool->stopping && job_queue_add(&pool->queue, job, now, &dropped);
    for (struct job *victim = dropped.first, *next; victim != NULL; victim = next) {
        next = victim->next;
        if (!is_hopeless(pool, victim, now)) {
            victim->problem = PROBLEM_SATURATED;
            counter_add(&pool->options.counts->refusals[victim->refusal], 1);
        }
        job_append(&pool->done, victim);
    }
    publish_counts(pool);
    bool wake_loop = none_done && pool->done.first != NULL;
    bool wake_one = admitted && pool->idle > 0;
    pthread_mutex_unlock(&pool->mutex);
    if (wake_one) /* after the unlock, because the woken thread needs the mutex first */
        pthread_cond_signal(&pool->work_available);
    if (wake_loop)
        pool->options.wake(pool->options.context);
    return admitted;
}

void worker_pool_resume(struct worker_pool *pool, struct job *job) {
    pthread_mutex_lock(&pool->mutex);
    bool stopping = pool->stopping, wake_one = !stopping && pool->idle > 0, first = pool->done.first == NULL;
    if (stopping) {
        job->problem = PROBLEM_DRAINING;
        job_append(&pool->done, job);
    } else {
        job_queue_resume(&pool->queue, job, clock_now());
        pool->applied += job_is_applied(job);
        publish_counts(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    if (wake_one)
        pthread_cond_signal(&pool->work_available);
    if (stopping && first)
        pool->options.wake(pool->options.context);
}

bool worker_pool_waits(const struct job *job) {
    return job->stored != NULL && !job->stored->answered && job->problem == PROBLEM_NONE && !job->cancelled;
}

struct job *worker_pool_take_done(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    struct job *first = pool->done.first;
    pool->done = (struct job_list){NULL, NULL};
    pthread_mutex_unlock(&pool->mutex);
    for (struct job *job = first; job != NULL; job = job->next) {
        bool unscored = job->problem == PROBLEM_DEADLINE_PASSED || job->problem == PROBLEM_SATURATED ||
                        job->problem == PROBLEM_DRAINING;
        if (unscored && job->reply == NULL)
            explain(pool, job);
    }
    return first;
}

void worker_pool_examine(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    bool none_done = pool->done.first == NULL;
    examine(pool, EXAMINED_A_TICK, clock_now());
    bool wake_loop = none_done && pool->done.first != NULL;
    pthread_mutex_unlock(&pool->mutex);
    if (wake_loop)
        pool->options.wake(pool->options.context);
}

double worker_pool_oldest_seconds(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    double seconds = job_queue_oldest_seconds(&pool->queue, clock_now());
    pthread_mutex_unlock(&pool->mutex);
    return seconds;
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

void worker_pool_stop(struct worker_pool *pool) {
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->work_available);
    pthread_mutex_unlock(&pool->mutex);
    for (size_t i = 0; pool->workers != NULL && i < pool->options.threads; i++) {
        if (pool->workers[i].has_thread) {
            pthread_join(pool->workers[i].thread, NULL);
            pool->workers[i].has_thread = false;
        }
    }
    /* All threads have ended, so the queue needs no lock. */
    for (struct job *job; (job = job_queue_take(&pool->queue, clock_now())) != NULL;) {
        job->problem = PROBLEM_DRAINING;
        job_append(&pool->done, job);
    }
    publish_counts(pool);
}

void worker_pool_free(struct worker_pool *pool) {
    for (size_t i = 0; pool->workers != NULL && i < pool->options.threads; i++) {
        arena_free(&pool->workers[i].scorer.arena); /* its scratch is the model's */
        arena_free(&pool->workers[i].interleaved.arena);
        arena_free(&pool->workers[i].comparing.arena);
        arena_free(&pool->workers[i].arena);
    }
    free(pool->workers);
    free_shadows(pool->shadows);
    served_model_release(pool->served);
    served_model_release(pool->rollout.candidate);
    arena_free(&pool->arena);
    pthread_cond_destroy(&pool->work_available);
    pthread_cond_destroy(&pool->helpers_left);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
