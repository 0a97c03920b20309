/* log.c: makes lines with json_line.h in the ring of log_ring.h, or, before there is one, for one write(2) each. */
#include "server/base/log.h"

#include "server/base/log_ring.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warning", "error"};
/* LINE_FRAME: the braces, the line end, and the member that has the time. */
enum {
    LEVELS = sizeof level_names / sizeof level_names[0],
    SECOND_TEXT = sizeof "2026-11-27T12:00:00",
    LINE_FRAME = 64
};

static _Atomic enum log_level least_level = LEVEL_INFO;
static struct log_ring *_Atomic ring; /* once there, it stays: threads may log until the process ends */
static _Atomic uint64_t logged, dropped_directly;

bool log_level_named(const char *name, enum log_level *level) {
    for (size_t i = 0; i < LEVELS; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_set_level(enum log_level least) {
    least_level = least;
}

const char *log_level_name(enum log_level level) {
    return level_names[level];
}

bool log_wanted(enum log_level level) {
    return level >= least_level;
}

/* RFC 3339 in UTC with milliseconds. The calendar is asked once a second. */
static char *put_time(char *out) {
    static _Thread_local time_t second = -1;
    static _Thread_local char text[SECOND_TEXT];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != second) {
        struct tm parts;
        gmtime_r(&now.tv_sec, &parts);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
        second = now.tv_sec;
    }
    unsigned milliseconds = (unsigned)(now.tv_nsec / 1000000);
    memcpy(out, text, SECOND_TEXT - 1);
    out += SECOND_TEXT - 1;
    *out++ = '.';
    *out++ = (char)('0' + milliseconds / 100);
    *out++ = (char)('0' + milliseconds / 10 % 10);
    *out++ = (char)('0' + milliseconds % 10);
    *out++ = 'Z';
    return out;
}

static char *put_text(char *out, const char *text) {
    return mempcpy(out, text, strlen(text));
}

/* A line as it was given to log_members(). */
struct line {
    struct proto_member head[2]; /* level, event */
    const struct proto_member *members;
    size_t count;
};

static struct line line_of(enum log_level level, const char *event, const struct proto_member *members, size_t count) {
    return (struct line){.head = {LOG_STRING("level", level_names[level]), LOG_STRING("event", event)},
                         .members = members,
                         .count = count};
}

static size_t line_most(const struct line *line) {
    return LINE_FRAME + json_line_most(line->head, 2) + json_line_most(line->members, line->count);
}

/* Returns the line's length, with its line end. */
static size_t put_line(const struct line *line, char *out) {
    char *start = out;
    out = put_text(out, "{\"time\":\"");
    out = put_time(out);
    out = put_text(out, "\",");
    out = json_line_put(line->head, 2, out);
    char *end = json_line_put(line->members, line->count, out + 1);
    if (end > out + 1) { /* not one member may be left */
        *out = ',';
        out = end;
    }
    out = put_text(out, "}\n");
    return (size_t)(out - start);
}

static bool write_all(const char *bytes, size_t length) {
    ssize_t written = 0;
    for (size_t at = 0; at < length; at += (size_t)written) {
        do {
            written = write(STDERR_FILENO, bytes + at, length - at);
        } while (written < 0 && errno == EINTR);
        if (written <= 0)
            return false;
    }
    return true;
}

static void write_directly(const struct line *line) {
    char *text = malloc(line_most(line));
    if (text == NULL || !write_all(text, put_line(line, text)))
        dropped_directly++;
    free(text);
}

void log_members(enum log_level level, const char *event, const struct proto_member *members, size_t count) {
    if (!log_wanted(level))
        return;
    struct log_ring *there = ring;
    struct line line = line_of(level, event, members, count);
    logged++;
    if (there == NULL) {
        write_directly(&line);
        return;
    }
    char *room = log_ring_reserve(there, line_most(&line));
    if (room != NULL)
        log_ring_commit(there, put_line(&line, room));
}

void log_message(enum log_level level, const char *event, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    log_line(level, event, LOG_STRING("message", message));
}

/* The ring's notice, on its writer's thread. */
static size_t tell_dropped(uint64_t lost, char text[LOG_NOTICE_MOST]) {
    const struct proto_member lines = LOG_NUMBER("lines", (double)lost);
    struct line line = line_of(LEVEL_WARNING, "log-dropped", &lines, 1);
    return line_most(&line) <= LOG_NOTICE_MOST ? put_line(&line, text) : 0;
}

void log_start(enum log_level least) {
    least_level = least;
}

bool log_start_writer(size_t bytes) {
    ring = log_ring_start(STDERR_FILENO, bytes, tell_dropped);
    return ring != NULL;
}

void log_stop(void) {
    struct log_ring *there = ring;
    if (there != NULL)
        log_ring_stop(there, LOG_STOP_SECONDS);
}

struct log_counts log_count(void) {
    struct log_ring *there = ring;
    uint64_t dropped = dropped_directly + (there != NULL ? log_ring_dropped(there) : 0);
    return (struct log_counts){.lines = logged, .dropped = dropped};
}
