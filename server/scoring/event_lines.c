/* event_lines.c: a line is decoded, resolved and encoded as a change by itself, so that a bad one stops no other. */
#include "server/scoring/event_lines.h"

#include "proto/content_coding.h"
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "server/base/clock.h"
#include "server/scoring/resolve.h"

#include <string.h>

/* Lines are read for so long at a time, and then light requests have their turn on this thread. */
#define SLICE_SECONDS 0.4e-3

/* ---- lines */

struct line {
    const char *text;
    size_t length, number; /* from 1 */
};

/* The next line that is not blank, after `line`. False at the end of the body. */
static bool next_line(struct proto_string body, struct line *line) {
    const char *end = body.data + body.length;
    const char *at = line->number == 0 ? body.data : line->text + line->length + 1;
    for (; at < end; at = line->text + line->length + 1) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        line->text = at;
        line->length = (size_t)((newline != NULL ? newline : end) - at);
        line->number++;
        size_t blanks = 0;
        while (blanks < line->length && strchr(" \t\r", at[blanks]) != NULL && at[blanks] != '\0')
            blanks++;
        if (blanks < line->length)
            return true;
    }
    return false;
}

static size_t count_lines(struct proto_string body) {
    struct line line = {NULL, 0, 0};
    size_t count = 0;
    while (next_line(body, &line))
        count++;
    return count;
}

/* ---- reading */

/* A place in a line becomes one in the body: the line's index is its first part. */
static void locate(struct problem *problem, const struct line *line) {
    struct problem whole = *problem;
    problem->pointer[0] = '\0';
    problem_pointer_index(problem->pointer, sizeof problem->pointer, line->number - 1);
    size_t length = strlen(problem->pointer);
    if (strlen(whole.pointer) < sizeof problem->pointer - length)
        memcpy(problem->pointer + length, whole.pointer, strlen(whole.pointer) + 1);
}

/* A line as a change of its user's history. False with request->problem. */
static bool read_line(struct scorer *scorer, struct request *request, const struct line *line,
                      struct proto_string *change) {
    struct proto_request *decoded = &request->decoded;
    return json_decode_event(line->text, line->length, &scorer->arena, decoded, &request->problem) &&
           resolve(scorer->model, &scorer->limits, &scorer->arena, decoded, &request->resolved, &request->problem) &&
           stored_change(scorer->model, &decoded->history_append, "history_append", decoded->event_id,
                         scorer->limits.behaviour_bytes, &scorer->arena, change, &request->problem);
}

/* The arena has the body below its mark, and one line at a time above. */
static bool read_lines(struct scorer *scorer, struct request *request, struct proto_string body) {
    struct event_batch *batch = request->events;
    struct problem *problem = &request->problem;
    struct line line = {NULL, 0, 0};
    uint64_t began = clock_now();
    arena_mark(&scorer->arena);
    while (next_line(body, &line)) {
        struct proto_string change;
        bool good = read_line(scorer, request, &line, &change), kept;
        if (good) {
            kept = event_batch_add(batch, line.number, request->decoded.user_id, change);
        } else if (problem->kind == PROBLEM_OUT_OF_MEMORY) {
            return false;
        } else if (batch->strict) {
            locate(problem, &line);
            return false;
        } else {
            kept = event_batch_refuse(batch, line.number, problem);
            problem_clear(problem);
        }
        arena_rewind(&scorer->arena);
        arena_mark(&scorer->arena);
        if (!kept)
            return problem_out_of_memory(problem);
        if (scorer->pause != NULL && clock_seconds(clock_now() - began) > SLICE_SECONDS) {
            scorer->pause(scorer, clock_now() - began);
            began = clock_now();
        }
    }
    request->decoded = (struct proto_request){0}; /* the last line's memory is the arena's again */
    return true;
}

static bool is_in_time(const struct request *request) {
    return request->deadline == 0 || clock_now() < request->deadline;
}

/* The body to groups of changes. */
static bool read_body(struct scorer *scorer, struct request *request) {
    const struct request_limits *limits = &scorer->limits;
    struct problem *problem = &request->problem;
    struct proto_string body = {request->body, request->size};
    if (!is_in_time(request)) {
        problem_set(problem, PROBLEM_DEADLINE_PASSED, "", "The time that the request gave ran out: %.3f s.",
                    clock_seconds(request->deadline - request->arrived));
        return false;
    }
    if (!content_decode(request->coding, limits->max_body, &scorer->arena, &body, problem))
        return false;
    size_t lines = count_lines(body);
    if (lines == 0 || lines > limits->max_events) {
        problem_set(problem, lines == 0 ? PROBLEM_INVALID_REQUEST : PROBLEM_TOO_MANY_EVENTS, "",
                    lines == 0 ? "The body has no event." : "The body has %zu events; this server takes at most %zu.",
                    lines, limits->max_events);
        return false;
    }
    request->events = event_batch_new(lines, limits->memory);
    if (request->events == NULL)
        return problem_out_of_memory(problem);
    request->events->strict = request->strict;
    return read_lines(scorer, request, body) && event_batch_group(request->events, limits->dedupe, problem);
}

/* ---- the reply */

/* A client that asked for all or nothing gets an error for the first event that was not applied. */
static bool check_strict(const struct event_batch *batch, struct problem *problem) {
    for (size_t i = 0; batch->strict && i < batch->count; i++) {
        const struct event *event = &batch->events[i];
        if (event->outcome != HISTORY_REFUSED && event->outcome != HISTORY_UNAVAILABLE)
            continue;
        problem_set(problem, event->outcome == HISTORY_REFUSED ? event->problem : PROBLEM_HISTORIES_UNAVAILABLE, "",
                    "%.*s", (int)event->detail.length, event->detail.data);
        problem_pointer_index(problem->pointer, sizeof problem->pointer, event->line - 1);
        return false;
    }
    return true;
}

static void write_reply(struct scorer *scorer, struct request *request, const struct event_batch *batch) {
    struct proto_outcome *outcomes = arena_array(&scorer->arena, batch->count, sizeof *outcomes);
    for (size_t i = 0; outcomes != NULL && i < batch->count; i++) {
        const struct event *event = &batch->events[i];
        outcomes[i] = (struct proto_outcome){.line = event->line,
                                             .name = event_outcome_names[event->outcome],
                                             .problem = event->problem,
                                             .detail = event->detail,
                                             .pointer = event->pointer,
                                             .count = event->count,
                                             .has_count = event->outcome == HISTORY_APPLIED ||
                                                          event->outcome == HISTORY_DUPLICATE};
    }
    if (outcomes != NULL)
        request->reply = json_encode_outcomes(outcomes, batch->count, &scorer->arena);
    if (request->reply.data == NULL)
        problem_out_of_memory(&request->problem);
}

static void count_outcomes(struct request *request, const struct event_batch *batch) {
    for (size_t i = 0; i < batch->count; i++)
        request->summary.events[batch->events[i].outcome]++;
}

void request_events(struct scorer *scorer, struct request *request) {
    const struct event_batch *batch = request->stored != NULL ? request->stored->events : NULL;
    arena_reset(&scorer->arena);
    if (batch == NULL) {
        if (!read_body(scorer, request))
            return;
        batch = request->events;
        if (batch->group_count > 0) {
            request->wants = STORED_EVENTS;
            return;
        }
    }
    arena_reset(&scorer->arena);
    count_outcomes(request, batch);
    if (check_strict(batch, &request->problem))
        write_reply(scorer, request, batch);
}
