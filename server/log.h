/* log.h: the log: one JSON object a line on standard error. Any thread may log. */
#ifndef SERVER_LOG_H
#define SERVER_LOG_H

#include "proto/encode.h"

#include <stdbool.h>
#include <stddef.h>

enum log_level { LEVEL_DEBUG, LEVEL_INFO, LEVEL_WARNING, LEVEL_ERROR };

bool log_level_named(const char *name, enum log_level *level);

/* Once before the first line, and once after the last. */
void log_start(enum log_level least);
void log_stop(void);

bool log_wanted(enum log_level level);

/* One line: time, level, event, then the members, of which those without a string and with NaN are left out. */
enum { LOG_MAX_MEMBERS = 16 };
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
