/* job_queue.c: two lists, and the units of work in each. */
#include "server/scoring/job_queue.h"

const char *const job_refusal_names[JOB_REFUSALS] = {"", "queue", "deadline"};

void job_append(struct job_list *list, struct job *job) {
    job->next = NULL;
    *(list->last != NULL ? &list->last->next : &list->first) = job;
    list->last = job;
}

struct job *job_remove_first(struct job_list *list) {
    struct job *job = list->first;
    if (job != NULL) {
        list->first = job->next;
        list->last = list->first != NULL ? list->last : NULL;
    }
    return job;
}

static double seconds_for(const struct job_queue *queue, double units) {
    return cost_seconds(&queue->rate, units) / (double)queue->threads;
}

double job_queue_seconds(const struct job_queue *queue) {
    return seconds_for(queue, queue->light_units + queue->heavy_units);
}

bool job_queue_add(struct job_queue *queue, struct job *job) {
    /* A heavy job waits for all that came before, and jobs being scored are half finished on average. A light job waits
     * for light ones only, because threads run them between chunks of heavy ones. */
    job->heavy = cost_seconds(&queue->rate, job->units) > JOB_HEAVY_SECONDS;
    job->wait = job->heavy ? job_queue_seconds(queue) + seconds_for(queue, queue->working_units / 2)
                           : seconds_for(queue, queue->light_units);
    job->refusal = job_queue_count(queue) >= queue->max_jobs ? JOB_QUEUE_FULL
                   : job->wait > queue->patience             ? JOB_DEADLINE_UNREACHABLE
                                                             : JOB_ADMITTED;
    if (job->refusal != JOB_ADMITTED)
        return false;
    job->number = queue->arrivals++;
    job_append(job->heavy ? &queue->heavy : &queue->light, job);
    *(job->heavy ? &queue->heavy_units : &queue->light_units) += job->units;
    *(job->heavy ? &queue->heavy_count : &queue->light_count) += 1;
    return true;
}

struct job *job_queue_take_light(struct job_queue *queue) {
    struct job *job = job_remove_first(&queue->light);
    if (job != NULL) {
        queue->light_count--;
        queue->light_units -= job->units;
        queue->working_units += job->units;
    }
    return job;
}

struct job *job_queue_take(struct job_queue *queue) {
    const struct job *light = queue->light.first, *heavy = queue->heavy.first;
    if (heavy == NULL || (light != NULL && light->number < heavy->number))
        return job_queue_take_light(queue);
    struct job *job = job_remove_first(&queue->heavy);
    queue->heavy_count--;
    queue->heavy_units -= job->units;
    queue->working_units += job->units;
    return job;
}

void job_queue_done(struct job_queue *queue, const struct job *job) {
    queue->working_units -= job->units;
    if (job->seconds > 0)
        cost_learn(&queue->rate, job->units, job->seconds);
}
