/* log.c: lines are made by proto_encode_line() and written with one write(2) each, so that lines of several threads, or
 * of several servers on one pipe, never mix.
 *
 * A reader that stops reading stops the server's loop at its next line: give it a log that is read, or --access-log
 * off.
 */
#include "server/log.h"

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

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct arena arena; /* under the mutex */
static _Atomic enum log_level least_level = LEVEL_INFO;

bool log_level_named(const char *name, enum log_level *level) {
    for (size_t i = 0; i < LEVELS; i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum log_level)i;
            return true;
        }
    }
    return false;
}

void log_start(enum log_level least) {
    least_level = least;
    arena_init(&arena, 0, LINE_KEEP);
}

void log_stop(void) {
    pthread_mutex_lock(&mutex);
    arena_free(&arena);
    pthread_mutex_unlock(&mutex);
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

/* The line with its line end in the arena. */
static struct proto_string make_line(const struct proto_member *members, size_t count) {
    struct proto_string text = proto_encode_line(members, count, &arena);
    char *line = text.data != NULL ? arena_alloc(&arena, text.length + 1) : NULL;
    if (line == NULL)
        return (struct proto_string){NULL, 0};
    memcpy(line, text.data, text.length);
    line[text.length] = '\n';
    return (struct proto_string){line, text.length + 1};
}

static void write_line(struct proto_string line) {
    ssize_t written = 0;
    do {
        written = write(STDERR_FILENO, line.data, line.length);
    } while (written < 0 && errno == EINTR);
}

void log_members(enum log_level level, const char *event, const struct proto_member *members, size_t count) {
    if (!log_wanted(level))
        return;
    char now[40];
    time_now(now, sizeof now);
    struct proto_member all[LOG_MAX_MEMBERS + 3] = {LOG_STRING("time", now), LOG_STRING("level", level_names[level]),
                                                    LOG_STRING("event", event)};
    size_t used = 3;
    for (size_t i = 0; i < count && i < LOG_MAX_MEMBERS; i++) {
        if (members[i].string != NULL || !isnan(members[i].number))
            all[used++] = members[i];
    }
    pthread_mutex_lock(&mutex);
    struct proto_string line = make_line(all, used);
    if (line.data != NULL)
        write_line(line);
    arena_reset(&arena);
    pthread_mutex_unlock(&mutex);
}

void log_message(enum log_level level, const char *event, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    log_line(level, event, LOG_STRING("message", message));
}
