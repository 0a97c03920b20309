/* log.c: makes lines with json_encode_line() and hands them to the ring of log_ring.h, or, before there is one, to one
 * write(2) each.
 */
#include "server/base/log.h"

#include "server/base/log_ring.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const level_names[] = {"debug", "info", "warning", "error"};
enum { LEVELS = sizeof level_names / sizeof level_names[0], LINE_KEEP = 65536 };

static _Atomic enum log_level least_level = LEVEL_INFO;
static struct log_ring *_Atomic ring; /* once there, it stays: threads may log until the process ends */
static _Atomic uint64_t logged, dropped_directly;

/* A thread's lines are made in memory of its own, freed at the thread's end. */
static _Thread_local struct arena arena;
static pthread_key_t arena_key;
static pthread_once_t arena_once = PTHREAD_ONCE_INIT;

static void free_arena(void *own) {
    arena_free(own);
}

static void make_key(void) {
    pthread_key_create(&arena_key, free_arena);
}

static struct arena *own_arena(void) {
    if (arena.keep == 0) {
        pthread_once(&arena_once, make_key);
        arena_init(&arena, 0, LINE_KEEP);
        pthread_setspecific(arena_key, &arena);
    }
    return &arena;
}

bool log_level_named(const char *name, enum log_level *level) {
    for (size_t i = 0; i < LEVELS; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

bool log_wanted(enum log_level level) {
    return level >= least_level;
}

/* RFC 3339 in UTC with milliseconds. */
static void time_now(char *text, size_t size) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t at = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + at, size - at, ".%03ldZ", now.tv_nsec / 1000000);
}

/* The line with its line end in the thread's arena. */
static struct proto_string make_line(const struct proto_member *members, size_t count) {
    struct proto_string text = json_encode_line(members, count, own_arena());
    char *line = text.data != NULL ? arena_alloc(own_arena(), text.length + 1) : NULL;
    if (line == NULL)
        return (struct proto_string){NULL, 0};
    memcpy(line, text.data, text.length);
    line[text.length] = '\n';
    return (struct proto_string){line, text.length + 1};
}

static bool write_line(struct proto_string line) {
    ssize_t written = 0;
    for (size_t at = 0; at < line.length; at += (size_t)written) {
        do {
            written = write(STDERR_FILENO, line.data + at, line.length - at);
        } while (written < 0 && errno == EINTR);
        if (written <= 0)
            return false;
    }
    return true;
}

static void put_line(struct proto_string line) {
    struct log_ring *there = ring;
    logged++;
    if (there != NULL && line.data != NULL)
        log_ring_put(there, line.data, line.length);
    else if (line.data == NULL || !write_line(line))
        dropped_directly++;
}

/* The members that are there, behind those of every line. */
static struct proto_string make_event(enum log_level level, const char *event, const struct proto_member *members,
                                      size_t count) {
    char now[40];
    time_now(now, sizeof now);
    struct proto_member all[LOG_MAX_MEMBERS + 3] = {LOG_STRING("time", now), LOG_STRING("level", level_names[level]),
                                                    LOG_STRING("event", event)};
    size_t used = 3;
    for (size_t i = 0; i < count && i < LOG_MAX_MEMBERS; i++) {
        if (members[i].string != NULL || !isnan(members[i].number))
            all[used++] = members[i];
    }
    return make_line(all, used);
}

void log_members(enum log_level level, const char *event, const struct proto_member *members, size_t count) {
    if (!log_wanted(level))
        return;
    put_line(make_event(level, event, members, count));
    arena_reset(own_arena());
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
    struct proto_string line = make_event(LEVEL_WARNING, "log-dropped", &lines, 1);
    size_t length = line.data != NULL && line.length <= LOG_NOTICE_MOST ? line.length : 0;
    memcpy(text, line.data != NULL ? line.data : "", length);
    arena_reset(own_arena());
    return length;
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
    arena_free(&arena);
    arena = (struct arena){0};
}

struct log_counts log_count(void) {
    struct log_ring *there = ring;
    uint64_t dropped = dropped_directly + (there != NULL ? log_ring_dropped(there) : 0);
    return (struct log_counts){.lines = logged, .dropped = dropped};
}
