/* job_queue.c: two lines and what they hold, in units of work. */
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

static double seconds_of(const struct job_queue *queue, double units) {
    return cost_seconds(&queue->rate, units) / (double)queue->threads;
}

double job_queue_seconds(const struct job_queue *queue) {
    return seconds_of(queue, queue->light_units + queue->heavy_units);
}

/* What is at work is half done, on average. Light jobs do not wait for heavy ones: threads do them in between. */
static double expected_wait(const struct job_queue *queue, bool heavy) {
    return heavy ? job_queue_seconds(queue) + seconds_of(queue, queue->working_units / 2)
                 : seconds_of(queue, queue->light_units);
}

bool job_queue_add(struct job_queue *queue, struct job *job) {
    job->heavy = cost_seconds(&queue->rate, job->units) > JOB_HEAVY_SECONDS;
    job->wait = expected_wait(queue, job->heavy);
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

static struct job *take_heavy(struct job_queue *queue) {
    struct job *job = job_remove_first(&queue->heavy);
    queue->heavy_count--;
    queue->heavy_units -= job->units;
    queue->working_units += job->units;
    return job;
}

struct job *job_queue_take(struct job_queue *queue) {
    const struct job *light = queue->light.first, *heavy = queue->heavy.first;
    if (heavy != NULL && (light == NULL || heavy->number < light->number))
        return take_heavy(queue);
    return job_queue_take_light(queue);
}

void job_queue_done(struct job_queue *queue, const struct job *job) {
    queue->working_units -= job->units;
    if (job->seconds > 0)
        cost_learn(&queue->rate, job->units, job->seconds);
}
