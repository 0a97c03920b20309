/* body.c: growing buffers, counted in the budget of all bodies, and the list of large ones that are still to come. */
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

static void list(struct body *body, struct body_budget *budget, uint64_t now) {
    body->listed = true;
    body->began = now;
    body->window_began = now;
    body->window_size = body->size;
    body->next = budget->first;
    if (body->next != NULL)
        body->next->previous = body;
    budget->first = body;
}

void body_whole(struct body *body, struct body_budget *budget) {
    if (!body->listed)
        return;
    *(body->previous != NULL ? &body->previous->next : &budget->first) = body->next;
    if (body->next != NULL)
        body->next->previous = body->previous;
    body->next = body->previous = NULL;
    body->listed = false;
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
    if (large && !body->large) {
        body->large = true;
        list(body, budget, now);
    }
    return BODY_TAKEN;
}

void body_free(struct body *body, struct body_budget *budget) {
    body_whole(body, budget);
    budget->held -= body->size;
    budget->held_large -= body->large ? body->size : 0;
    free(body->bytes);
    *body = (struct body){.bytes = NULL};
}

struct body *body_find_victim(const struct body_budget *budget, const struct body *except, uint64_t now) {
    struct body *victim = NULL;
    double worst = 0;
    for (struct body *body = budget->first; body != NULL; body = body->next) {
        if (body == except || now - body->began < budget->patience)
            continue;
        double product = (double)body->size * (double)(now - body->began);
        if (product > worst) {
            worst = product;
            victim = body;
        }
    }
    return victim;
}

struct body *body_find_slow(struct body_budget *budget, uint64_t now) {
    for (struct body *body = budget->first; body != NULL; body = body->next) {
        uint64_t window = now - body->window_began;
        if (window < budget->window)
            continue;
        if ((double)(body->size - body->window_size) * 1e9 < (double)budget->rate * (double)window)
            return body;
        body->window_began = now;
        body->window_size = body->size;
    }
    return NULL;
}
