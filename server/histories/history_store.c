/* history_store.c: calls on their way to an engine and back: their time, the breaker, the counts. */
#include "server/histories/history_store.h"

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/histories/breaker.h"
#include "server/histories/history_engine.h"
#include "server/histories/loop_handles.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

const char *const history_status_names[HISTORY_STATUSES] = {[HISTORY_DONE] = "done",
                                                            [HISTORY_DOWN] = "down",
                                                            [HISTORY_LATE] = "late",
                                                            [HISTORY_FULL] = "full",
                                                            [HISTORY_CHANGED] = "changed",
                                                            [HISTORY_BUSY] = "busy",
                                                            [HISTORY_UNCONFIRMED] = "unconfirmed",
                                                            [HISTORY_BAD_RECORD] = "bad_record"};

enum { PENDING_MOST = 10000 }; /* calls without a result; more: HISTORY_DOWN */

struct history_store {
    struct history_engine *engine;
    struct history_counts *counts;
    char *prefix;
    size_t prefix_length;
    uint64_t timeout;
    struct breaker breaker;
    size_t pending;
    struct history_call *first, *last; /* calls with a deadline, which is the order of their coming */
    struct loop_timer *timer;
    struct loop_signal *signal;
    pthread_mutex_t mutex; /* for what follows */
    struct history_call *posted, **posted_end;
};

/* ---- calls */

static void free_call(struct history_call *call) {
    for (size_t i = 0; i < call->change_count; i++) {
        union {
            const char *borrowed;
            void *owned;
        } cast = {call->changes[i].encoded.data};
        free(cast.owned);
    }
    free(call->changes);
    free(call->result.record);
    free(call);
}

/* The key's bytes follow the call in its memory. */
static struct history_call *new_call(struct history_store *store, enum history_action action, struct proto_string user,
                                     history_done *done, void *context) {
    struct history_call *call = calloc(1, sizeof *call + store->prefix_length + user.length);
    if (call == NULL)
        return NULL;
    char *key = (char *)(call + 1);
    memcpy(key, store->prefix, store->prefix_length);
    memcpy(key + store->prefix_length, user.data, user.length);
    call->action = action;
    call->key = (struct proto_string){key, store->prefix_length + user.length};
    call->done = done;
    call->context = context;
    return call;
}

static bool copy_changes(struct history_call *call, const struct history_change *changes, size_t count) {
    call->changes = calloc(count > 0 ? count : 1, sizeof *call->changes);
    for (size_t i = 0; call->changes != NULL && i < count; i++) {
        struct proto_string encoded = changes[i].encoded;
        char *copy = malloc(encoded.length > 0 ? encoded.length : 1);
        if (copy == NULL)
            return false;
        memcpy(copy, encoded.data, encoded.length);
        call->changes[i] = (struct history_change){.encoded = {copy, encoded.length}, .replaces = changes[i].replaces};
        call->change_count++;
    }
    return call->changes != NULL;
}

void history_call_fail(struct history_call *call, enum history_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(call->result.detail, sizeof call->result.detail, format, arguments);
    va_end(arguments);
    call->result.status = status;
}

bool history_call_refuses(struct history_call *call, struct proto_string record) {
    if (call->expected == 0 || call->expected == history_record_revision(record))
        return false;
    history_call_fail(call, HISTORY_CHANGED, "The user's history has changed since.");
    return true;
}

bool history_call_keep_record(struct history_call *call, struct proto_string record) {
    struct history_result *result = &call->result;
    if (call->action == HISTORY_APPEND && !call->wants_record)
        return true;
    free(result->record);
    result->record = malloc(record.length > 0 ? record.length : 1);
    if (result->record == NULL)
        return false;
    memcpy(result->record, record.data, record.length);
    result->size = record.length;
    result->revision = history_record_revision(record);
    return true;
}

void history_call_drop_record(struct history_call *call) {
    free(call->result.record);
    call->result.record = NULL;
    call->result.size = 0;
    call->result.revision = 0;
}

/* ---- deadlines */

static void unlink_call(struct history_store *store, struct history_call *call) {
    if (call->deadline == 0)
        return;
    *(call->earlier != NULL ? &call->earlier->later : &store->first) = call->later;
    *(call->later != NULL ? &call->later->earlier : &store->last) = call->earlier;
    call->deadline = 0;
}

static void link_call(struct history_store *store, struct history_call *call) {
    call->deadline = call->began + store->timeout;
    call->earlier = store->last;
    *(store->last != NULL ? &store->last->later : &store->first) = call;
    store->last = call;
}

/* The timer stays armed for a deadline that is gone: that costs one look, where arming costs one for each call. */
static void arm(struct history_store *store) {
    if (store->first == NULL)
        return;
    uint64_t now = clock_now(), deadline = store->first->deadline;
    loop_timer_set(store->timer, deadline > now ? (int)((deadline - now) / 1000000 + 1) : 0);
}

/* ---- results */

static void note_breaker(struct history_store *store, bool good) {
    bool was_open = store->breaker.open;
    uint64_t opened = store->breaker.opened;
    breaker_report(&store->breaker, clock_now(), good);
    if (store->breaker.opened != opened) {
        counter_add(&store->counts->breaker_opened, 1);
        log_message(LEVEL_WARNING, "histories-down", "%s failed %d times in a row: calls end at once.",
                    store->engine->name, BREAKER_FAILURES);
    } else if (was_open && !store->breaker.open) {
        log_message(LEVEL_INFO, "histories-back", "%s answers again.", store->engine->name);
    }
    atomic_store_explicit(&store->counts->breaker_open, store->breaker.open, memory_order_relaxed);
}

static void count_result(struct history_store *store, const struct history_call *call,
                         const struct history_result *result) {
    struct history_counts *counts = store->counts;
    _Atomic uint64_t *by_status = call->action == HISTORY_GET      ? counts->gets
                                  : call->action == HISTORY_APPEND ? counts->appends
                                                                   : counts->deletes;
    counter_add(&by_status[result->status], 1);
    for (size_t i = 0; result->status == HISTORY_DONE && i < result->change_count; i++) {
        enum history_outcome outcome = result->changes[i].outcome;
        counter_add(outcome == HISTORY_APPLIED     ? &counts->applied
                    : outcome == HISTORY_DUPLICATE ? &counts->duplicates
                                                   : &counts->refused,
                    1);
    }
    if (call->began != 0)
        histogram_add(call->action == HISTORY_GET ? &counts->get_seconds : &counts->change_seconds,
                      clock_seconds(clock_now() - call->began));
}

/* The caller gets its result, and no second one. The record becomes the callback's. */
static void answer(struct history_store *store, struct history_call *call, struct history_result *result) {
    history_done *done = call->done;
    call->done = NULL;
    unlink_call(store, call);
    count_result(store, call, result);
    struct history_result copy = *result;
    result->record = NULL;
    done(call->context, &copy);
}

void history_call_finish(struct history_store *store, struct history_call *call) {
    store->pending--;
    atomic_store_explicit(&store->counts->pending, store->pending, memory_order_relaxed);
    if (call->done != NULL) {
        struct history_result *result = &call->result;
        if (call->action == HISTORY_APPEND && result->status == HISTORY_DONE) {
            result->changes = call->changes;
            result->change_count = call->change_count;
        }
        note_breaker(store, result->status != HISTORY_DOWN && result->status != HISTORY_LATE);
        answer(store, call, result);
    }
    free_call(call);
}

void history_call_post(struct history_store *store, struct history_call *call) {
    call->next = NULL;
    pthread_mutex_lock(&store->mutex);
    bool first = store->posted == NULL;
    *store->posted_end = call;
    store->posted_end = &call->next;
    pthread_mutex_unlock(&store->mutex);
    if (first)
        loop_signal_send(store->signal);
}

static void take_posted(void *context) {
    struct history_store *store = context;
    pthread_mutex_lock(&store->mutex);
    struct history_call *call = store->posted;
    store->posted = NULL;
    store->posted_end = &store->posted;
    pthread_mutex_unlock(&store->mutex);
    while (call != NULL) {
        struct history_call *next = call->next;
        history_call_finish(store, call);
        call = next;
    }
}

/* Results that have come already go first: they are in time if the loop was late. */
static void on_timer(void *context) {
    struct history_store *store = context;
    take_posted(store);
    while (store->first != NULL && store->first->deadline <= clock_now()) {
        struct history_call *call = store->first;
        bool uncertain = false;
        if (!store->engine->give_up(store->engine, call, &uncertain)) {
            unlink_call(store, call);
            continue;
        }
        /* Conflicts are answers, too: one user who changes all the time must not end the calls of all others. */
        bool busy = call->conflicts > 0;
        struct history_result late = {.status = busy ? HISTORY_BUSY : HISTORY_LATE, .uncertain = uncertain};
        snprintf(late.detail, sizeof late.detail, "%s within %g seconds.",
                 busy ? "The user's record changed again and again" : "The history store did not answer",
                 clock_seconds(store->timeout));
        note_breaker(store, busy);
        answer(store, call, &late);
    }
    arm(store);
}

/* ---- the interface */

static void start(struct history_store *store, struct history_call *call) {
    call->began = clock_now();
    bool allowed = breaker_allows(&store->breaker, call->began), room = store->pending < PENDING_MOST;
    if (!allowed || !room) {
        history_call_fail(call, HISTORY_DOWN,
                          !allowed ? "The history store is down." : "The history store is too slow.");
        if (allowed)
            note_breaker(store, false); /* a probe that was not made must not stay open */
        answer(store, call, &call->result);
        free_call(call);
        return;
    }
    store->pending++;
    atomic_store_explicit(&store->counts->pending, store->pending, memory_order_relaxed);
    bool first = store->first == NULL;
    link_call(store, call);
    if (first)
        arm(store);
    store->engine->submit(store->engine, call);
}

static void no_memory(struct history_store *store, struct history_call *call, history_done *done, void *context) {
    struct history_result result = {.status = HISTORY_DOWN, .detail = "There is no memory for the call."};
    (void)store;
    if (call != NULL)
        free_call(call);
    done(context, &result);
}

void history_store_get(struct history_store *store, struct proto_string user, uint64_t known, history_done *done,
                       void *context) {
    struct history_call *call = new_call(store, HISTORY_GET, user, done, context);
    if (call == NULL) {
        no_memory(store, call, done, context);
        return;
    }
    call->known = known;
    start(store, call);
}

void history_store_append(struct history_store *store, struct proto_string user, const struct history_change *changes,
                          size_t count, uint64_t expected, bool wants_record, history_done *done, void *context) {
    struct history_call *call = new_call(store, HISTORY_APPEND, user, done, context);
    if (call == NULL || !copy_changes(call, changes, count)) {
        no_memory(store, call, done, context);
        return;
    }
    call->wants_record = wants_record;
    call->expected = expected;
    start(store, call);
}

void history_store_delete(struct history_store *store, struct proto_string user, history_done *done, void *context) {
    struct history_call *call = new_call(store, HISTORY_DELETE, user, done, context);
    if (call == NULL)
        no_memory(store, call, done, context);
    else
        start(store, call);
}

bool history_store_export(struct history_store *store, history_each *each, void *context, char *error,
                          size_t error_size) {
    return store->engine->export(store->engine, each, context, error, error_size);
}

bool history_store_import(struct history_store *store, history_next *next, void *context, char *error,
                          size_t error_size) {
    return store->engine->import(store->engine, next, context, error, error_size);
}

/* ---- opening and closing */

uint64_t history_new_revision(void) {
    uint64_t revision = 0;
    if (getrandom(&revision, sizeof revision, 0) != sizeof revision)
        revision = clock_now() * 0x9e3779b97f4a7c15u;
    return revision | 1;
}

int64_t history_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct history_store *history_store_new(const struct history_store_options *options, struct loop *loop) {
    struct history_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    pthread_mutex_init(&store->mutex, NULL);
    store->posted_end = &store->posted;
    store->counts = options->counts;
    store->prefix = strdup(options->prefix);
    store->prefix_length = strlen(options->prefix);
    store->timeout = clock_from_seconds(options->timeout);
    if (loop != NULL) {
        store->timer = loop_timer_new(loop, on_timer, store);
        store->signal = loop_signal_new(loop, take_posted, store);
    }
    if (store->prefix == NULL || (loop != NULL && (store->timer == NULL || store->signal == NULL))) {
        history_store_close(store);
        return NULL;
    }
    return store;
}

void history_store_use(struct history_store *store, struct history_engine *engine) {
    store->engine = engine;
    if (store->timeout == 0)
        store->timeout = clock_from_seconds(engine->timeout);
}

struct history_store *history_store_open(const struct history_store_options *options, struct loop *loop, char *error,
                                         size_t error_size) {
    static const char lmdb[] = "lmdb:", redis[] = "redis://", unix_socket[] = "unix:";
    if (strlen(options->prefix) > HISTORY_PREFIX_MOST) {
        snprintf(error, error_size, "The prefix of a history store's keys may have %d bytes.", HISTORY_PREFIX_MOST);
        return NULL;
    }
    struct history_store *store = history_store_new(options, loop);
    if (store == NULL) {
        snprintf(error, error_size, "There is no memory for the history store.");
        return NULL;
    }
    struct history_engine *engine = NULL;
    if (strncmp(options->where, lmdb, sizeof lmdb - 1) == 0)
        engine = lmdb_engine_open(options, options->where + sizeof lmdb - 1, store, error, error_size);
    else if (strncmp(options->where, redis, sizeof redis - 1) == 0 ||
             strncmp(options->where, unix_socket, sizeof unix_socket - 1) == 0)
        engine = redis_engine_open(options, options->where, store, loop, error, error_size);
    else
        snprintf(error, error_size, "A history store is lmdb:PATH, redis://HOST:PORT[/DB] or unix:PATH.");
    if (engine == NULL) {
        history_store_close(store);
        return NULL;
    }
    history_store_use(store, engine);
    return store;
}

void history_store_close(struct history_store *store) {
    if (store == NULL)
        return;
    if (store->engine != NULL)
        store->engine->close(store->engine);
    take_posted(store);
    loop_timer_free(store->timer);
    loop_signal_free(store->signal);
    pthread_mutex_destroy(&store->mutex);
    free(store->prefix);
    free(store);
}
