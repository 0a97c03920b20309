/* problem.c: the table of all problems, and JSON pointers to their places. */
#include "proto/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *slug;
    const char *title;
    int status;
    bool in_body; /* see problem_in_body() */
} table[PROBLEM_KINDS] = {
    [PROBLEM_NONE] = {"ok", "OK", 200, false},
    [PROBLEM_INVALID_JSON] = {"invalid-json", "The body is not valid JSON", 400, true},
    [PROBLEM_INVALID_REQUEST] = {"invalid-request", "The body is not a valid request", 400, true},
    [PROBLEM_INVALID_USER_ID] = {"invalid-user-id", "The user id is not valid", 400, false},
    [PROBLEM_INVALID_HTTP] = {"invalid-http", "The HTTP headers are ambiguous or malformed", 400, false},
    [PROBLEM_INVALID_CODING] = {"invalid-content-coding", "The body is not compressed as its headers say", 400, false},
    [PROBLEM_UNAUTHORIZED] = {"unauthorized", "The call needs the token of the admin plane", 401, false},
    [PROBLEM_WRITE_REFUSED] = {"write-refused", "The request may not change a stored history", 403, false},
    [PROBLEM_EXPLAIN_HELD] = {"explain-held", "A history that the server holds is not explained", 403, true},
    [PROBLEM_FOREIGN_CALL] = {"foreign-call", "The call names another host, or comes from another site", 403, false},
    [PROBLEM_NOT_FOUND] = {"not-found", "There is nothing at this path", 404, false},
    [PROBLEM_NO_USER_STATE] = {"no-user-state", "There is no state of this user", 404, false},
    [PROBLEM_METHOD_NOT_ALLOWED] = {"method-not-allowed", "This path does not take this method", 405, false},
    [PROBLEM_REQUEST_TIMEOUT] = {"request-timeout", "The request did not arrive in time", 408, false},
    [PROBLEM_UNKNOWN_TOKEN] = {"unknown-history-token", "The state that the token names is not held", 409, true},
    [PROBLEM_LOAD_UNDER_WAY] = {"load-under-way", "Another model is being loaded", 409, false},
    [PROBLEM_NO_PREVIOUS_MODEL] = {"no-previous-model", "There is no model to go back to", 409, false},
    [PROBLEM_NO_CANDIDATE] = {"no-candidate", "There is no candidate", 409, false},
    [PROBLEM_LENGTH_REQUIRED] = {"length-required", "A Content-Length is required", 411, false},
    [PROBLEM_BODY_TOO_LARGE] = {"body-too-large", "The body is too large", 413, false},
    [PROBLEM_UNSUPPORTED_MEDIA] = {"unsupported-media-type", "The body has another media type than this takes", 415,
                                   false},
    [PROBLEM_UNSUPPORTED_CODING] = {"unsupported-content-coding", "The body has another content coding than this takes",
                                    415, false},
    [PROBLEM_TOO_MANY_CANDIDATES] = {"too-many-candidates", "The request has too many candidates", 422, true},
    [PROBLEM_HISTORY_TOO_LONG] = {"history-too-long", "The request has too long a history", 422, true},
    [PROBLEM_HISTORY_TOO_LARGE] = {"history-too-large", "The history store keeps no history of this size", 422, false},
    [PROBLEM_TOO_MANY_EVENTS] = {"too-many-events", "The request has too many events", 422, true},
    [PROBLEM_MODEL_REFUSED] = {"model-refused", "The model is refused, and nothing has changed", 422, false},
    [PROBLEM_HEADERS_TOO_LARGE] = {"headers-too-large", "The request's headers are too large", 431, false},
    [PROBLEM_MODEL_FAULT] = {"model-fault", "The model gives no valid score", 500, false},
    [PROBLEM_OUT_OF_MEMORY] = {"out-of-memory", "The request needs more memory than there is", 503, false},
    [PROBLEM_SATURATED] = {"saturated", "The server is saturated", 503, false},
    [PROBLEM_DRAINING] = {"draining", "The server is stopping", 503, false},
    [PROBLEM_NOT_READY] = {"not-ready", "The server has no model yet", 503, false},
    [PROBLEM_HISTORIES_UNAVAILABLE] = {"histories-unavailable", "The history store does not answer", 503, false},
    [PROBLEM_DEADLINE_PASSED] = {"deadline-passed", "The request's deadline passed", 504, false},
    [PROBLEM_HTTP_VERSION] = {"http-version", "The version of HTTP is not supported", 505, false},
    [PROBLEM_HISTORIES_FULL] = {"histories-full", "The history store has no room", 507, false},
};

void problem_clear(struct problem *problem) {
    problem->kind = PROBLEM_NONE;
    problem->detail[0] = problem->pointer[0] = '\0';
}

int problem_status(enum problem_kind kind) {
    return table[kind].status;
}

const char *problem_title(enum problem_kind kind) {
    return table[kind].title;
}

const char *problem_slug(enum problem_kind kind) {
    return table[kind].slug;
}

bool problem_in_body(enum problem_kind kind) {
    return table[kind].in_body;
}

static bool is_continuation(char byte) {
    return ((unsigned char)byte & 0xC0) == 0x80;
}

/* Removes the part of a character that a cut has left at the end of the text. */
static void drop_partial_character(char *text) {
    size_t length = strlen(text), lead = length;
    while (lead > 0 && is_continuation(text[lead - 1]))
        lead--;
    if (lead == 0)
        return;
    unsigned char byte = (unsigned char)text[--lead];
    size_t size = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
    if (lead + size > length)
        text[lead] = '\0';
}

void problem_set(struct problem *problem, enum problem_kind kind, const char *pointer, const char *format, ...) {
    problem->kind = kind;
    size_t length = strnlen(pointer, sizeof problem->pointer - 1);
    memmove(problem->pointer, pointer, length);
    problem->pointer[length] = '\0';
    drop_partial_character(problem->pointer);

    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->detail, sizeof problem->detail, format, arguments);
    va_end(arguments);
    drop_partial_character(problem->detail);
}

bool problem_out_of_memory(struct problem *problem) {
    problem_set(problem, PROBLEM_OUT_OF_MEMORY, "", "The request needs more memory than it may have.");
    return false;
}

void problem_pointer_name(char *pointer, size_t size, const char *name, size_t length) {
    size_t end = strlen(pointer);
    if (end + 1 >= size)
        return;
    pointer[end++] = '/';
    for (size_t i = 0; i < length;) {
        const char *written = name + i;
        size_t read = 1, count;
        if (name[i] == '~' || name[i] == '/') { /* RFC 6901 */
            written = name[i] == '~' ? "~0" : "~1";
            count = 2;
        } else { /* a character with its continuation bytes */
            while (i + read < length && is_continuation(name[i + read]))
                read++;
            count = read;
        }
        if (end + count >= size)
            break;
        memcpy(pointer + end, written, count);
        end += count;
        i += read;
    }
    pointer[end] = '\0';
}

void problem_pointer_index(char *pointer, size_t size, size_t index) {
    char digits[24];
    int length = snprintf(digits, sizeof digits, "%zu", index);
    problem_pointer_name(pointer, size, digits, (size_t)length);
}
