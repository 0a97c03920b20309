/* job_queue.c: the order of jobs, and who leaves a full queue. */
#include "server/scoring/job_queue.h"

#include "server/base/clock.h"

/* A larger share for the oldest would serve more clients that are about to give up. */
enum { OLDEST_TURN = 32 };

const char *const job_refusal_names[JOB_REFUSALS] = {"", "queue", "deadline", "client-gone"};

void job_append(struct job_list *list, struct job *job) {
    job->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = job;
    list->last = job;
}

static double seconds_for(const struct job_queue *queue, double units) {
    return cost_seconds(&queue->rate, units) / (double)queue->threads;
}

double job_queue_seconds(const struct job_queue *queue) {
    return seconds_for(queue, queue->lanes[LANE_LIGHT].units + queue->lanes[LANE_HEAVY].units);
}

static double waited_seconds(const struct job *job, uint64_t now) {
    return job != NULL && now > job->submitted ? clock_seconds(now - job->submitted) : 0;
}

double job_queue_oldest_seconds(const struct job_queue *queue, uint64_t now) {
    double light = waited_seconds(queue->lanes[LANE_LIGHT].oldest, now);
    double heavy = waited_seconds(queue->lanes[LANE_HEAVY].oldest, now);
    return light > heavy ? light : heavy;
}

/* ---- membership */

static enum job_lane lane_of(const struct job *job) {
    return job->heavy ? LANE_HEAVY : LANE_LIGHT;
}

static struct job_chain *chain_of(const struct job *job) {
    return &job->client->chains[job->priority][lane_of(job)];
}

static void enter(struct job_queue *queue, struct job *job) {
    struct job_chain *chain = chain_of(job), *lane = &queue->lanes[lane_of(job)];
    job->older = chain->newest;
    job->newer = NULL;
    *(chain->newest != NULL ? &chain->newest->newer : &chain->oldest) = job;
    chain->newest = job;
    chain->units += job->units;
    chain->count++;
    job->arrived_before = lane->newest;
    job->arrived_after = NULL;
    *(lane->newest != NULL ? &lane->newest->arrived_after : &lane->oldest) = job;
    lane->newest = job;
    lane->units += job->units;
    lane->count++;
    if (job->client->waiting++ == 0)
        client_table_activate(&queue->clients, job->client);
}

/* Sums of an empty chain are zero, whatever the roundings before. */
static void subtract(struct job_chain *chain, const struct job *job) {
    chain->units = --chain->count > 0 ? chain->units - job->units : 0;
}

void job_queue_remove(struct job_queue *queue, struct job *job) {
    struct job_chain *chain = chain_of(job), *lane = &queue->lanes[lane_of(job)];
    if (queue->next_examined == job)
        queue->next_examined = job->arrived_after;
    *(job->older != NULL ? &job->older->newer : &chain->oldest) = job->newer;
    *(job->newer != NULL ? &job->newer->older : &chain->newest) = job->older;
    *(job->arrived_before != NULL ? &job->arrived_before->arrived_after : &lane->oldest) = job->arrived_after;
    *(job->arrived_after != NULL ? &job->arrived_after->arrived_before : &lane->newest) = job->arrived_before;
    subtract(chain, job);
    subtract(lane, job);
    if (--job->client->waiting == 0)
        client_table_rest(&queue->clients, job->client);
}

/* ---- order */

static bool under_pressure(const struct job_queue *queue, enum job_lane lane, uint64_t now) {
    return waited_seconds(queue->lanes[lane].oldest, now) > JOB_PRESSURE_SECONDS;
}

static int level_of(const struct job_queue *queue, const struct job *job, uint64_t now) {
    return client_level(job->client, cost_seconds(&queue->rate, job->units), now);
}

/* Whether a job of a client goes before one of another, apart from their arrival: negative, or positive for the second,
 * or zero. */
static int compare(const struct job_queue *queue, const struct job *a, const struct job *b, uint64_t now) {
    if (a->priority != b->priority)
        return a->priority < b->priority ? -1 : 1;
    int difference = level_of(queue, a, now) - level_of(queue, b, now);
    return difference != 0 ? difference : (int)a->heavy - (int)b->heavy;
}

static bool goes_before(const struct job_queue *queue, const struct job *a, const struct job *b, uint64_t now) {
    int order = compare(queue, a, b, now);
    if (order != 0)
        return order < 0;
    return under_pressure(queue, lane_of(a), now) ? a->number > b->number : a->number < b->number;
}

/* The first job in order of the first `lanes` lanes. */
static struct job *first_in_order(const struct job_queue *queue, size_t lanes, uint64_t now) {
    const struct client_table *clients = &queue->clients;
    struct job *first = NULL;
    bool newest[JOB_LANES] = {under_pressure(queue, LANE_LIGHT, now), under_pressure(queue, LANE_HEAVY, now)};
    for (const struct client *client = client_table_next(clients, NULL); client != NULL;
         client = client_table_next(clients, client)) {
        for (size_t i = 0; i < JOB_PRIORITIES * lanes; i++) {
            size_t lane = i % lanes;
            const struct job_chain *chain = &client->chains[i / lanes][lane];
            struct job *job = newest[lane] ? chain->newest : chain->oldest;
            if (job != NULL && (first == NULL || goes_before(queue, job, first, now)))
                first = job;
        }
    }
    return first;
}

/* Units of the jobs that a new job has to wait for. Its own client's are among them while the oldest goes first. */
static double units_ahead(const struct job_queue *queue, const struct job *job, uint64_t now) {
    const struct client_table *clients = &queue->clients;
    double units = job->heavy ? queue->working_units / 2 : 0;
    for (const struct client *client = client_table_next(clients, NULL); client != NULL;
         client = client_table_next(clients, client)) {
        for (size_t priority = 0; priority < JOB_PRIORITIES; priority++) {
            for (size_t lane = 0; lane < JOB_LANES; lane++) {
                const struct job_chain *chain = &client->chains[priority][lane];
                /* A light job does not wait for heavy ones, because threads run it between chunks of those. */
                bool counts = chain->newest != NULL && (job->heavy || lane == LANE_LIGHT);
                if (counts && goes_before(queue, chain->newest, job, now))
                    units += chain->units;
            }
        }
    }
    return units;
}

/* ---- admission */

/* Among the jobs of the lowest priority that waits, in `wanted` or in either lane (JOB_LANES): the oldest of the client
 * that has most units waiting in one lane. A job whose change the history store has is not one of them. */
static struct job *find_victim(const struct job_queue *queue, enum job_lane wanted) {
    const struct client_table *clients = &queue->clients;
    struct job *victim = NULL;
    double most = 0;
    for (const struct client *client = client_table_next(clients, NULL); client != NULL;
         client = client_table_next(clients, client)) {
        for (size_t i = 0; i < (size_t)JOB_PRIORITIES * JOB_LANES; i++) {
            enum job_lane lane = i % JOB_LANES;
            enum job_priority priority = (enum job_priority)(i / JOB_LANES);
            const struct job_chain *chain = &client->chains[priority][lane];
            struct job *oldest = chain->oldest;
            while (oldest != NULL && job_is_applied(oldest))
                oldest = oldest->newer;
            if (oldest == NULL || (wanted != JOB_LANES && lane != wanted))
                continue;
            if (victim == NULL || priority > victim->priority ||
                (priority == victim->priority && chain->units > most)) {
                victim = oldest;
                most = chain->units;
            }
        }
    }
    return victim;
}

/* Drops one job in favour of a new one. False when none has to stand back for it. */
static bool drop_one(struct job_queue *queue, const struct job *job, enum job_lane lane, enum job_refusal why,
                     uint64_t now, struct job_list *dropped) {
    struct job *victim = find_victim(queue, lane);
    if (victim == NULL || victim->priority < job->priority)
        return false;
    bool others = victim->client != job->client || victim->priority != job->priority;
    if (others ? compare(queue, victim, job, now) < 0 : !under_pressure(queue, lane_of(victim), now))
        return false;
    victim->refusal = why;
    victim->wait = job_queue_seconds(queue);
    job_queue_remove(queue, victim);
    job_append(dropped, victim);
    return true;
}

/* Seconds of waiting work that count against a new job: a light one may come in however many heavy ones wait. */
static double waiting_seconds(const struct job_queue *queue, const struct job *job) {
    return job->heavy ? job_queue_seconds(queue) : seconds_for(queue, queue->lanes[LANE_LIGHT].units);
}

bool job_queue_add(struct job_queue *queue, struct job *job, uint64_t now, struct job_list *dropped) {
    job->heavy = cost_seconds(&queue->rate, job->units) > JOB_HEAVY_SECONDS;
    job->client = client_table_find(&queue->clients, job->client_key, now);
    job->client_key = job->client->key;
    job->number = queue->arrivals++;
    job->wait = seconds_for(queue, units_ahead(queue, job, now));
    job->refusal = JOB_DEADLINE_UNREACHABLE;
    double left = job->deadline > now ? clock_seconds(job->deadline - now) : 0;
    if (job->wait > queue->patience || (job->deadline != 0 && job->wait >= left))
        return false;
    while (waiting_seconds(queue, job) > queue->patience)
        if (!drop_one(queue, job, lane_of(job), JOB_DEADLINE_UNREACHABLE, now, dropped))
            return false;
    job->refusal = JOB_QUEUE_FULL;
    while (job_queue_count(queue) >= queue->max_jobs)
        if (!drop_one(queue, job, JOB_LANES, JOB_QUEUE_FULL, now, dropped))
            return false;
    job->refusal = JOB_ADMITTED;
    enter(queue, job);
    return true;
}

/* ---- out of the queue */

/* The client pays when its job is taken, so that it cannot have every thread at once. */
static struct job *give_out(struct job_queue *queue, struct job *job, uint64_t now) {
    if (job == NULL)
        return NULL;
    job_queue_remove(queue, job);
    queue->working_units += job->units;
    job->charged = cost_seconds(&queue->rate, job->units);
    client_charge(job->client, job->charged, now);
    return job;
}

struct job *job_queue_take_light(struct job_queue *queue, uint64_t now) {
    return give_out(queue, first_in_order(queue, LANE_LIGHT + 1, now), now);
}

struct job *job_queue_take(struct job_queue *queue, uint64_t now) {
    struct job *light = queue->lanes[LANE_LIGHT].oldest, *heavy = queue->lanes[LANE_HEAVY].oldest;
    bool pressure = under_pressure(queue, LANE_LIGHT, now) || under_pressure(queue, LANE_HEAVY, now);
    if (pressure && ++queue->turns % OLDEST_TURN == 0)
        return give_out(queue, heavy == NULL || (light != NULL && light->number < heavy->number) ? light : heavy, now);
    return give_out(queue, first_in_order(queue, JOB_LANES, now), now);
}

/* Corrects the charge of a job. The entry may be another client's by now. */
static void settle(struct job *job, double seconds, uint64_t now) {
    if (job->client->key == job->client_key)
        client_charge(job->client, seconds - job->charged, now);
}

static void cease_work(struct job_queue *queue, const struct job *job) {
    queue->working_units -= job->units;
    if (queue->working_units < 0) /* a rounding */
        queue->working_units = 0;
}

void job_queue_put_back(struct job_queue *queue, struct job *job, double units, double spent, uint64_t now) {
    cease_work(queue, job);
    settle(job, spent, now);
    job->units = units;
    job->weighed = job->heavy = true;
    job->client = client_table_find(&queue->clients, job->client_key, now);
    job->number = queue->arrivals++;
    enter(queue, job);
}

void job_queue_resume(struct job_queue *queue, struct job *job, uint64_t now) {
    job->client = client_table_find(&queue->clients, job->client_key, now);
    job->number = queue->arrivals++;
    enter(queue, job);
}

void job_queue_done(struct job_queue *queue, struct job *job, uint64_t now) {
    cease_work(queue, job);
    settle(job, job->seconds > 0 ? job->seconds : job->charged, now);
    if (job->seconds > 0)
        cost_learn(&queue->rate, job->units, job->seconds);
}

/* ---- jobs that may have been given up */

struct job *job_queue_examine(struct job_queue *queue, uint64_t now) {
    struct job *job = queue->next_examined;
    if (job == NULL)
        job = queue->lanes[queue->examined_lane].oldest;
    bool found = waited_seconds(job, now) > JOB_PRESSURE_SECONDS;
    queue->next_examined = found ? job->arrived_after : NULL;
    if (queue->next_examined == NULL)
        queue->examined_lane = queue->examined_lane == LANE_LIGHT ? LANE_HEAVY : LANE_LIGHT;
    return found ? job : NULL;
}
