/* body.c: growing buffers, counted in the budget of all bodies, and the queues of bodies that are still to come. */
#include "server/http/body.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 16384 }; /* of a body whose size nobody knows */

static enum body_result reserve_room(struct body *body, size_t size, size_t expected) {
    if (size <= body->capacity)
        return BODY_TAKEN;
    size_t capacity = body->capacity > 0 ? 2 * body->capacity : FIRST_CAPACITY;
    capacity = expected > 0 ? expected : capacity > size ? capacity : size;
    if (size > capacity)
        return BODY_NO_MEMORY;
    char *bytes = realloc(body->bytes, capacity);
    if (bytes == NULL)
        return BODY_NO_MEMORY;
    body->bytes = bytes;
    body->capacity = capacity;
    return BODY_TAKEN;
}

/* A queue, and the place of a body's links for it. */
struct line {
    struct body_queue *queue;
    size_t links;
};

static struct body_links *links_of(struct body *body, struct line line) {
    return (struct body_links *)((char *)body + line.links);
}

static struct line size_line(struct body_budget *budget, const struct body *body) {
    return (struct line){&budget->by_size[body->size_class], offsetof(struct body, by_size)};
}

static struct line window_line(struct body_budget *budget) {
    return (struct line){&budget->by_window, offsetof(struct body, by_window)};
}

static void leave(struct line line, struct body *body) {
    struct body_links *links = links_of(body, line);
    if (!links->listed)
        return;
    *(links->previous != NULL ? &links_of(links->previous, line)->next : &line.queue->first) = links->next;
    *(links->next != NULL ? &links_of(links->next, line)->previous : &line.queue->last) = links->previous;
    *links = (struct body_links){.listed = false};
}

/* At the end of the queue, where the body may stand already. */
static void join(struct line line, struct body *body) {
    leave(line, body);
    struct body *last = line.queue->last;
    *links_of(body, line) = (struct body_links){.previous = last, .listed = true};
    *(last != NULL ? &links_of(last, line)->next : &line.queue->first) = body;
    line.queue->last = body;
}

static unsigned class_of(size_t size) {
    unsigned class = size > 0 ? 63u - (unsigned)__builtin_clzll(size) : 0;
    return class < BODY_CLASSES ? class : BODY_CLASSES - 1;
}

static void enter_class(struct body *body, struct body_budget *budget, uint64_t now) {
    unsigned class = class_of(body->size);
    if (body->by_size.listed && body->size_class == class)
        return;
    leave(size_line(budget, body), body);
    body->size_class = class;
    body->class_began = now;
    join(size_line(budget, body), body);
}

void body_next_window(struct body *body, struct body_budget *budget, uint64_t now) {
    body->window_began = now;
    body->window_size = body->size;
    join(window_line(budget), body);
}

void body_whole(struct body *body, struct body_budget *budget) {
    leave(size_line(budget, body), body);
    leave(window_line(budget), body);
}

/* Bytes that large bodies may hold. */
static size_t most_large(const struct body_budget *budget) {
    return budget->most - (budget->reserve < budget->most / 2 ? budget->reserve : budget->most / 2);
}

enum body_result body_append(struct body *body, struct body_budget *budget, const char *data, size_t size,
                             size_t expected, uint64_t now) {
    bool large = body->large || body->size + size > budget->small || expected > budget->small;
    size_t added_large = large ? size + (body->large ? 0 : body->size) : 0;
    if (size > budget->most - budget->held || (large && budget->held_large + added_large > most_large(budget)))
        return BODY_SATURATED;
    enum body_result result = reserve_room(body, body->size + size, expected);
    if (result != BODY_TAKEN)
        return result;
    memcpy(body->bytes + body->size, data, size);
    body->size += size;
    budget->held += size;
    budget->held_large += added_large;
    enter_class(body, budget, now);
    if (large && !body->large) {
        body->large = true;
        body_next_window(body, budget, now);
    }
    return BODY_TAKEN;
}

char *body_take(struct body *body, struct body_budget *budget, size_t *size) {
    char *bytes = body->bytes;
    *size = body->size;
    body_whole(body, budget);
    budget->held -= body->size;
    budget->held_large -= body->large ? body->size : 0;
    *body = (struct body){.bytes = NULL};
    return bytes;
}

void body_free(struct body *body, struct body_budget *budget) {
    size_t size;
    free(body_take(body, budget, &size));
}

struct body *body_find_victim(const struct body_budget *budget, const struct body *except, uint64_t now) {
    struct body *victim = NULL;
    double worst = 0;
    for (unsigned i = 0; i < BODY_CLASSES; i++) {
        struct body *body = budget->by_size[i].first;
        if (body != NULL && body == except)
            body = body->by_size.next;
        if (body == NULL || now - body->class_began < budget->patience)
            continue;
        double product = (double)body->size * (double)(now - body->class_began);
        if (product > worst) {
            worst = product;
            victim = body;
        }
    }
    return victim;
}

/* A window that became longer because nobody looked is one all the same. */
bool body_keeps_rate(const struct body *body, const struct body_budget *budget, size_t unread) {
    double brought = (double)(body->size - body->window_size) + (double)unread;
    return brought * 1e9 >= (double)budget->rate * (double)budget->window;
}

struct body *body_find_slow(struct body_budget *budget, unsigned *looks, uint64_t now) {
    struct body *body = NULL;
    for (; *looks > 0 && (body = budget->by_window.first) != NULL; --*looks) {
        if (now - body->window_began < budget->window)
            return NULL;
        if (!body_keeps_rate(body, budget, 0))
            return body;
        body_next_window(body, budget, now);
    }
    return NULL;
}
