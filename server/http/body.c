/* body.c: a growing buffer, counted in the budget of all bodies. */
#include "server/http/body.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 16384 }; /* of a body whose size nobody knows */

static enum body_result reserve(struct body *body, size_t size, size_t expected) {
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

enum body_result body_append(struct body *body, struct body_budget *budget, const char *data, size_t size,
                             size_t expected) {
    if (size > budget->most - budget->held)
        return BODY_SATURATED;
    enum body_result result = reserve(body, body->size + size, expected);
    if (result != BODY_TAKEN)
        return result;
    memcpy(body->bytes + body->size, data, size);
    body->size += size;
    budget->held += size;
    return BODY_TAKEN;
}

void body_free(struct body *body, struct body_budget *budget) {
    budget->held -= body->size;
    free(body->bytes);
    *body = (struct body){.bytes = NULL};
}
