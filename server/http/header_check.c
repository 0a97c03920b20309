/* header_check.c: the rules of RFC 9112, sections 2.2, 3, 5.1, 5.2, 6.1 and 6.3, and RFC 9110, sections 5.5, 5.6.2 and
 * 7.2. */
#include "server/http/header_check.h"

#include <string.h>
#include <strings.h>

enum { LINE_BREAK = 2 /* CR LF */, CONTENT_LENGTH_DIGITS = 18 /* fit in 64 bits */ };

static void fault(struct header_check *guard, const char *text) {
    if (guard->fault == NULL)
        guard->fault = text;
}

static bool received(const struct header_check *guard, const char *place) {
    uintptr_t at = (uintptr_t)place;
    return at >= (uintptr_t)guard->begin && at < (uintptr_t)guard->end;
}

/* From the last line's end to `place` there must be `bytes` bytes. */
static void expect_gap(struct header_check *guard, const char *place, ptrdiff_t bytes) {
    if (received(guard, guard->line_end) && place - guard->line_end != bytes)
        fault(guard, "a line is folded, holds a NUL, or does not end in CR LF");
}

static bool is_token_character(unsigned char byte) {
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') ||
           (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_token(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (!is_token_character((unsigned char)text[i]))
            return false;
    }
    return length > 0;
}

/* Tabs are allowed in a value, other control characters are not: a bare CR ends a line for some readers. */
static bool has_control(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7F)
            return true;
    }
    return false;
}

/* Whether a Host header's value may be one host, with or without a port. Commas are no part of it, so that a list of
 * hosts is not taken for one. */
static bool is_host(const char *text, size_t length) {
    while (length > 0 && (text[length - 1] == ' ' || text[length - 1] == '\t'))
        length--;
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (!is_token_character(byte) ? strchr("()=;:[]", byte) == NULL : strchr("#^`|", byte) != NULL)
            return false;
    }
    return true;
}

static bool is_named(const char *name, size_t length, const char *expected) {
    return length == strlen(expected) && strncasecmp(name, expected, length) == 0;
}

/* Whether a token stands in a list with commas, in any case: RFC 9110, section 5.6.1. */
static bool has_token(const char *list, size_t length, const char *token) {
    const char *end = list + length, *comma = NULL;
    for (const char *at = list; at <= end; at = comma + 1) {
        comma = memchr(at, ',', (size_t)(end - at));
        comma = comma != NULL ? comma : end;
        const char *last = comma;
        while (at < last && (*at == ' ' || *at == '\t'))
            at++;
        while (at < last && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        if (is_named(at, (size_t)(last - at), token))
            return true;
    }
    return false;
}

static void read_length(struct header_check *guard, const char *value, size_t length) {
    guard->length_is_digits = length > 0 && length <= CONTENT_LENGTH_DIGITS;
    guard->length = 0;
    for (size_t i = 0; i < length && guard->length_is_digits; i++) {
        guard->length_is_digits = value[i] >= '0' && value[i] <= '9';
        guard->length = guard->length * 10 + (uint64_t)(value[i] - '0');
    }
}

void header_check_begin(struct header_check *guard, const char *begin, size_t size, const char *version) {
    *guard = (struct header_check){.begin = begin, .end = begin + size, .line_end = version + strlen(version)};
    guard->http_1_1 = strcmp(version, "HTTP/1.0") != 0;
}

size_t header_check_target(const char *text) {
    size_t length = 0;
    while ((unsigned char)text[length] > ' ' && text[length] != 0x7F)
        length++;
    return length;
}

void header_check_line(struct header_check *guard, const char *method, const char *target, size_t target_length,
                       const char *version) {
    size_t method_length = strlen(method);
    if (!is_token(method, method_length))
        fault(guard, "the method has a character that methods may not have");
    if (received(guard, target) &&
        (target - method != (ptrdiff_t)method_length + 1 || version - target != (ptrdiff_t)target_length + 1))
        fault(guard, "the request line has a space too many, or a control character");
}

void header_check_add(struct header_check *guard, const char *name, size_t name_length, const char *value,
                      size_t value_length) {
    if (received(guard, name)) {
        expect_gap(guard, name, LINE_BREAK);
    } else if (received(guard, value)) {
        fault(guard, "a header is folded onto a second line");
    }
    guard->line_end = value + value_length;
    if (!is_token(name, name_length))
        fault(guard, "a header's name has a character that names may not have");
    if (has_control(value, value_length))
        fault(guard, "a header's value has a control character");
    if (is_named(name, name_length, "content-length")) {
        guard->lengths++;
        read_length(guard, value, value_length);
    }
    if (is_named(name, name_length, "connection")) {
        guard->closes = guard->closes || has_token(value, value_length, "close");
        guard->keeps_alive = guard->keeps_alive || has_token(value, value_length, "keep-alive");
    }
    if (is_named(name, name_length, "transfer-encoding")) {
        guard->encodings++;
        guard->chunked = is_named(value, value_length, "chunked");
    }
    if (is_named(name, name_length, "host")) {
        guard->hosts++;
        if (!is_host(value, value_length))
            fault(guard, "Host is not one host");
    }
}

static void check_counts(struct header_check *guard) {
    if (guard->lengths + guard->encodings > 1)
        fault(guard, "Content-Length or Transfer-Encoding is repeated, or both are there");
    if (guard->lengths == 1 && !guard->length_is_digits)
        fault(guard, "Content-Length is not a number");
    if (guard->encodings == 1 && !guard->chunked)
        fault(guard, "Transfer-Encoding is not \"chunked\" and nothing more");
    if (guard->encodings > 0 && !guard->http_1_1)
        fault(guard, "Transfer-Encoding belongs to HTTP/1.1");
    if (guard->hosts > 1 || (guard->hosts == 0 && guard->http_1_1))
        fault(guard, "there must be one Host header");
}

bool header_check_end(struct header_check *guard, struct problem *problem) {
    expect_gap(guard, guard->end, (ptrdiff_t)2 * LINE_BREAK);
    check_counts(guard);
    if (guard->fault != NULL) {
        problem_set(problem, PROBLEM_INVALID_HTTP, "", "The request's headers are refused: %s.", guard->fault);
        return false;
    }
    return true;
}
