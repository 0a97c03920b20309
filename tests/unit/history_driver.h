/* history_driver.h: a history store on an event loop of the test's own, and calls to it that wait for their result. */
#ifndef TESTS_UNIT_HISTORY_DRIVER_H
#define TESTS_UNIT_HISTORY_DRIVER_H

#include "proto/history_record.h"
#include "server/base/loop.h"
#include "server/histories/history_store.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct driver {
    struct loop *loop;
    struct loop_turns turns;
    struct history_store *store;
    struct history_counts counts;
    struct history_store_options options;
    char error[512];
    struct arena arena;
    size_t waiting; /* calls without a result */
    bool running;   /* the loop */
    struct history_result result;
    struct history_change changes[64]; /* the result's, which outlive the callback here */
};

static inline void driver_nothing(void *context) {
    (void)context;
}

/* The end of driver_turn(). */
static inline void driver_rested(void *context) {
    loop_stop(((struct driver *)context)->loop);
}

static inline int driver_tick(void *context) {
    (void)context;
    return LOOP_TICK_MILLISECONDS;
}

static inline void driver_signal(void *context, int signal) {
    (void)context;
    (void)signal;
}

static inline void driver_begin(struct driver *driver) {
    const struct loop_handlers handlers = {.context = driver,
                                           .timer = driver_rested,
                                           .wake = driver_nothing,
                                           .tick = driver_tick,
                                           .signal = driver_signal,
                                           .timer_name = "driver",
                                           .turns = &driver->turns};
    memset(driver, 0, sizeof *driver);
    arena_init(&driver->arena, 0, 1 << 20);
    driver->loop = loop_new(&handlers);
    driver->options = (struct history_store_options){
        .prefix = "",
        .timeout = 60, /* only what hangs */
        .map_bytes = 1 << 26,
        .limits = {.keep = 1000, .dedupe = 1024, .user_bytes = 1 << 20},
        .counts = &driver->counts,
    };
}

static inline bool driver_open(struct driver *driver) {
    driver->store = history_store_open(&driver->options, driver->loop, driver->error, sizeof driver->error);
    return driver->store != NULL;
}

static inline void driver_close(struct driver *driver) {
    history_store_close(driver->store);
    driver->store = NULL;
}

static inline void driver_end(struct driver *driver) {
    driver_close(driver);
    loop_free(driver->loop);
    free(driver->result.record);
    arena_free(&driver->arena);
}

static inline void driver_done(void *context, struct history_result *result) {
    struct driver *driver = context;
    free(driver->result.record);
    driver->result = *result;
    if (result->change_count <= sizeof driver->changes / sizeof driver->changes[0] && result->change_count > 0)
        memcpy(driver->changes, result->changes, result->change_count * sizeof *result->changes);
    driver->result.changes = driver->changes;
    if (--driver->waiting == 0 && driver->running)
        loop_stop(driver->loop);
}

/* Results may come before the call returns: then there is nothing to wait for. */
static inline const struct history_result *driver_wait(struct driver *driver) {
    driver->running = true;
    if (driver->waiting > 0)
        loop_run(driver->loop);
    driver->running = false;
    return &driver->result;
}

/* Lets the loop turn for a while, with nobody waiting. */
static inline void driver_turn(struct driver *driver, int milliseconds) {
    loop_after(driver->loop, milliseconds);
    loop_run(driver->loop);
}

static inline struct proto_string driver_text(const char *text) {
    return (struct proto_string){text, strlen(text)};
}

static inline const struct history_result *driver_get(struct driver *driver, const char *user, uint64_t known) {
    driver->waiting++;
    history_store_get(driver->store, driver_text(user), known, driver_done, driver);
    return driver_wait(driver);
}

static inline const struct history_result *driver_delete(struct driver *driver, const char *user) {
    driver->waiting++;
    history_store_delete(driver->store, driver_text(user), driver_done, driver);
    return driver_wait(driver);
}

/* One behaviour or more, "item" counting from `first`, in the driver's arena. */
static inline struct history_change driver_change(struct driver *driver, const char *event_id, int64_t first,
                                                  size_t count) {
    struct proto_value *values = arena_array(&driver->arena, count, sizeof *values);
    for (size_t i = 0; i < count; i++)
        values[i] = (struct proto_value){.kind = PROTO_INTEGER, .integer = first + (int64_t)i};
    const struct proto_column column = {driver_text("item"), count, values};
    const struct history_list list = {.name = driver_text("clicks"), .length = count, .columns = 1, .column = &column};
    const struct history_addition addition = {driver_text(event_id), 1, &list};
    struct history_place place;
    struct history_change change = {.replaces = false};
    history_addition_encode(&addition, 1024, &driver->arena, &change.encoded, &place);
    return change;
}

static inline void driver_start_append(struct driver *driver, const char *user, const char *event_id, int64_t first,
                                       size_t count) {
    struct history_change change = driver_change(driver, event_id, first, count);
    driver->waiting++;
    history_store_append(driver->store, driver_text(user), &change, 1, 0, true, driver_done, driver);
}

static inline const struct history_result *driver_append(struct driver *driver, const char *user, const char *event_id,
                                                         int64_t first, size_t count) {
    driver_start_append(driver, user, event_id, first, count);
    return driver_wait(driver);
}

/* The items of the record that the last get brought, at most `room`; -1: there is none that can be read. */
static inline long driver_items(struct driver *driver, int64_t *items, size_t room, struct history *history) {
    const struct history_result *result = &driver->result;
    *history = (struct history){.revision = 0};
    if (result->record == NULL ||
        !history_record_read((struct proto_string){result->record, result->size}, &driver->arena, history))
        return -1;
    long count = 0;
    for (size_t i = 0; i < history->list_count; i++)
        for (size_t j = 0; j < history->lists[i].columns; j++)
            for (size_t k = 0; k < history->lists[i].length && (size_t)count < room; k++)
                items[count++] = history->lists[i].column[j].values[k].integer;
    return count;
}

#endif
