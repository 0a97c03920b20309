/* log.h: the log: one JSON object a line on standard error. Any thread may log, and none waits for who reads it once
 * log_start_writer() was called.
 */
#ifndef SERVER_BASE_LOG_H
#define SERVER_BASE_LOG_H

#include "proto/json_line.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARNING, LEVEL_ERROR };

bool log_level_named(const char *name, enum log_level *level);

/* From here on lines of at least this level are written, each by the thread that logs it. */
void log_start(enum log_level least);

/* From here on lines wait in `bytes` of memory for a thread that writes them. Once a process, and not before a fork or
 * an exec. False with errno set: no memory or no thread, and nothing has changed. */
bool log_start_writer(size_t bytes);

/* Writes the lines that wait, for at most LOG_STOP_SECONDS. Call it before every end of the process. Lines that other
 * threads log from then on are dropped. */
#define LOG_STOP_SECONDS 1.0
void log_stop(void);

struct log_counts {
    uint64_t lines; /* logged, the dropped ones included */
    uint64_t dropped;
};
struct log_counts log_count(void);

bool log_wanted(enum log_level level);
/* Another least level, at any time. */
void log_set_level(enum log_level least);
const char *log_level_name(enum log_level level);

/* One line: time, level, event, then the members, of which those without a string and with NaN are left out. The text
 * is made in its place among the lines that wait. */
void log_members(enum log_level level, const char *event, const struct proto_member *members, size_t count);

#define LOG_STRING(key, text)                                                                                          \
    { .name = (key), .string = (text) }
#define LOG_NUMBER(key, amount)                                                                                        \
    { .name = (key), .number = (amount) }
#define log_line(level, event, ...)                                                                                    \
    log_members((level), (event), (const struct proto_member[]){__VA_ARGS__},                                          \
                sizeof((const struct proto_member[]){__VA_ARGS__}) / sizeof(struct proto_member))

/* A line with a formatted "message". */
void log_message(enum log_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
