/* trace_context.c: version 00 of the header, and the part of it that later versions promise to keep. */
#include "server/http/trace_context.h"

#include "proto/digits.h"
#include "server/base/clock.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

/* version "-" trace-id "-" parent-id "-" trace-flags */
enum {
    VERSION = 2,
    TRACE_ID = 32,
    PARENT_ID = 16,
    FLAGS = 2,
    TRACE_AT = 3,
    PARENT_AT = 36,
    FLAGS_AT = 53,
    LENGTH = 55
};
static const char digits[] = "0123456789abcdef";

static bool is_hexadecimal(const char *text, size_t length) {
    return strspn(text, digits) >= length;
}

static bool is_id(const char *text, size_t length) {
    return is_hexadecimal(text, length) && strspn(text, "0") < length;
}

/* A later version may have more behind a hyphen. */
static bool is_traceparent(const char *text) {
    if (strnlen(text, LENGTH) < LENGTH || strncmp(text, "ff", VERSION) == 0 || !is_hexadecimal(text, VERSION) ||
        !is_id(text + TRACE_AT, TRACE_ID) || !is_id(text + PARENT_AT, PARENT_ID) ||
        !is_hexadecimal(text + FLAGS_AT, FLAGS))
        return false;
    bool hyphens = text[TRACE_AT - 1] == '-' && text[PARENT_AT - 1] == '-' && text[FLAGS_AT - 1] == '-';
    bool ends = text[LENGTH] == '\0' || (text[LENGTH] == '-' && strncmp(text, "00", VERSION) != 0);
    return hyphens && ends;
}

/* Spans must differ, and are no secret. The loop's thread alone is here. */
static void make_span_id(char id[SPAN_ID_TEXT]) {
    static uint64_t number;
    if (number == 0 && getrandom(&number, sizeof number, GRND_NONBLOCK) != (ssize_t)sizeof number)
        number = clock_now();
    number = number * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    uint64_t mixed = (number ^ number >> 29) | 1;
    for (size_t i = 0; i < PARENT_ID; i++)
        id[i] = digits_hex((unsigned)(mixed >> (4 * i)) & 15);
    id[PARENT_ID] = '\0';
}

void trace_context_read(const char *traceparent, struct trace_context *trace) {
    *trace = (struct trace_context){.sampled = false};
    if (traceparent == NULL || !is_traceparent(traceparent))
        return;
    memcpy(trace->trace_id, traceparent + TRACE_AT, TRACE_ID);
    trace->sampled = strchr("13579bdf", traceparent[FLAGS_AT + 1]) != NULL;
    make_span_id(trace->span_id);
}

void trace_context_write(const struct trace_context *trace, char text[TRACEPARENT_TEXT]) {
    snprintf(text, TRACEPARENT_TEXT, "00-%s-%s-%s", trace->trace_id, trace->span_id, trace->sampled ? "01" : "00");
}
