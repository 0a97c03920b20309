/* event_batch.c: events in the order of their lines, and a second order by user. */
#include "server/scoring/event_batch.h"

#include <stdlib.h>
#include <string.h>

const char *const event_outcome_names[HISTORY_OUTCOMES] = {[HISTORY_APPLIED] = "applied",
                                                           [HISTORY_DUPLICATE] = "duplicate",
                                                           [HISTORY_REFUSED] = "refused",
                                                           [HISTORY_UNAVAILABLE] = "unavailable"};

struct event_batch *event_batch_new(size_t most, size_t memory) {
    struct event_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        return NULL;
    arena_init(&batch->arena, memory, 0);
    batch->most = most;
    batch->events = arena_array(&batch->arena, most, sizeof *batch->events);
    if (batch->events != NULL)
        return batch;
    event_batch_free(batch);
    return NULL;
}

void event_batch_free(struct event_batch *batch) {
    if (batch != NULL)
        arena_free(&batch->arena);
    free(batch);
}

/* ---- events */

/* Both texts, one after the other. NULL: memory is out. */
static char *copy_texts(struct event_batch *batch, struct proto_string first, struct proto_string second) {
    char *copy = arena_alloc(&batch->arena, first.length + second.length + 1);
    if (copy == NULL)
        return NULL;
    memcpy(copy, first.data, first.length);
    memcpy(copy + first.length, second.data, second.length);
    return copy;
}

bool event_batch_add(struct event_batch *batch, size_t line, struct proto_string user, struct proto_string change) {
    char *copy = batch->count < batch->most ? copy_texts(batch, user, change) : NULL;
    if (copy == NULL)
        return false;
    batch->events[batch->count++] = (struct event){.line = line,
                                                   .user = {copy, user.length},
                                                   .change = {copy + user.length, change.length},
                                                   .outcome = HISTORY_UNAVAILABLE};
    return true;
}

bool event_batch_refuse(struct event_batch *batch, size_t line, const struct problem *problem) {
    struct proto_string detail = {problem->detail, strlen(problem->detail)};
    struct proto_string pointer = {problem->pointer, strlen(problem->pointer)};
    char *copy = batch->count < batch->most ? copy_texts(batch, detail, pointer) : NULL;
    if (copy == NULL)
        return false;
    batch->events[batch->count++] = (struct event){.line = line,
                                                   .outcome = HISTORY_REFUSED,
                                                   .problem = problem->kind,
                                                   .detail = {copy, detail.length},
                                                   .pointer = {copy + detail.length, pointer.length}};
    return true;
}

/* ---- groups */

/* By user, then by line. */
static int by_user(const void *left, const void *right) {
    const struct event *a = *(struct event *const *)left, *b = *(struct event *const *)right;
    if (a->user.length != b->user.length)
        return a->user.length < b->user.length ? -1 : 1;
    int order = memcmp(a->user.data, b->user.data, a->user.length);
    return order != 0 ? order : a->line < b->line ? -1 : 1;
}

bool event_batch_group(struct event_batch *batch, size_t most_of_user, struct problem *problem) {
    struct arena *arena = &batch->arena;
    size_t changes = 0;
    batch->changed = arena_array(arena, batch->count, sizeof(struct event *));
    batch->changes = arena_array(arena, batch->count, sizeof *batch->changes);
    batch->groups = arena_array(arena, batch->count, sizeof *batch->groups);
    if (batch->changed == NULL || batch->changes == NULL || batch->groups == NULL)
        return problem_out_of_memory(problem);
    for (size_t i = 0; i < batch->count; i++)
        if (batch->events[i].outcome != HISTORY_REFUSED)
            batch->changed[changes++] = &batch->events[i];
    qsort(batch->changed, changes, sizeof(struct event *), by_user);
    struct event_group *group = NULL;
    for (size_t i = 0; i < changes; i++) {
        const struct event *event = batch->changed[i];
        batch->changes[i] = (struct history_change){.encoded = event->change};
        if (group == NULL || !proto_string_is(&group->user, event->user.data, event->user.length)) {
            group = &batch->groups[batch->group_count++];
            *group = (struct event_group){.user = event->user, .first = i};
        }
        if (++group->count <= most_of_user)
            continue;
        problem_set(problem, PROBLEM_TOO_MANY_EVENTS, "",
                    "More than %zu events are one user's, which is all that --histories-dedupe remembers: the body "
                    "could not be sent again.",
                    most_of_user);
        problem_pointer_index(problem->pointer, sizeof problem->pointer, event->line - 1);
        return false;
    }
    return true;
}

/* ---- results */

static struct proto_string copy_reason(struct event_batch *batch, const char *reason) {
    struct proto_string text = {reason, strlen(reason)}, none = {"", 0};
    char *copy = copy_texts(batch, text, none);
    return copy != NULL ? (struct proto_string){copy, text.length} : none;
}

void event_batch_take(struct event_batch *batch, const struct event_group *group, const struct history_change *changes,
                      const char *reason) {
    static const char too_large[] = "The history of this user would have more bytes than the history store keeps.";
    struct proto_string detail = changes == NULL ? copy_reason(batch, reason) : (struct proto_string){"", 0};
    for (size_t i = 0; i < group->count; i++) {
        struct event *event = batch->changed[group->first + i];
        event->outcome = changes != NULL ? changes[i].outcome : HISTORY_UNAVAILABLE;
        event->detail = detail;
        if (event->outcome == HISTORY_REFUSED) {
            event->problem = PROBLEM_HISTORY_TOO_LARGE;
            event->detail = (struct proto_string){too_large, sizeof too_large - 1};
        }
        event->count = changes != NULL ? changes[i].count : 0;
    }
}
