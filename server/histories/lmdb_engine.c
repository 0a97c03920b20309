/* lmdb_engine.c: histories in a file of this machine, by LMDB. liblmdb comes in here and nowhere else.
 *
 * One writer thread takes all changes that wait and commits them together, so that the changes of many users share one
 * sync. Reader threads look records up, since a page that is not in memory is read from the disk. A lock on the file
 * keeps other processes out: LMDB tells its readers apart by process ids, which two containers may share.
 */
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/thread.h"
#include "server/histories/history_engine.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
    READERS = 2,
    BATCH_MOST = 4096, /* changes in one commit */
    KEY_MOST = 511,    /* LMDB's own limit, as it is compiled */
    IMPORT_BATCH = 1000,
    ARENA_KEEP = 1 << 20
};

/* File systems of a network, on which neither locks nor mappings hold (statfs(2)). */
static const long network_file_systems[] = {0x6969 /* NFS */, 0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */};

struct queue {
    struct history_call *first, **end;
    pthread_cond_t there;
};

struct lmdb_engine {
    struct history_engine base;
    struct history_store *store;
    struct history_counts *counts;
    struct history_limits limits;
    size_t prefix_length;
    const char *prefix, *path;
    MDB_env *env;
    MDB_dbi table;
    int lock; /* the file, under flock() */
    pthread_t threads[READERS + 2];
    size_t thread_count;
    double sync_seconds;

    struct arena arena; /* the writer's */

    pthread_mutex_t mutex; /* for what follows */
    struct queue reads, writes;
    pthread_cond_t sync_end;
    bool stopping, unsynced;
};

static struct lmdb_engine *engine_of(struct history_engine *base) {
    return (struct lmdb_engine *)base;
}

static MDB_val value_of(struct proto_string bytes) {
    union {
        const char *borrowed;
        void *data;
    } cast = {bytes.data};
    return (MDB_val){bytes.length, cast.data};
}

static struct proto_string string_of(MDB_val value) {
    return (struct proto_string){value.mv_data, value.mv_size};
}

static bool is_full(int status) {
    return status == MDB_MAP_FULL || status == ENOSPC || status == EDQUOT;
}

static void fail_call(struct history_call *call, int status) {
    if (is_full(status))
        history_call_fail(call, HISTORY_FULL, "The history store has no room left: %s.", mdb_strerror(status));
    else
        history_call_fail(call, HISTORY_DOWN, "The history store failed: %s.", mdb_strerror(status));
}

/* ---- queues */

/* The caller holds the mutex. */
static void queue_put(struct queue *queue, struct history_call *call) {
    call->next = NULL;
    *queue->end = call;
    queue->end = &call->next;
    pthread_cond_signal(&queue->there);
}

static void submit(struct history_engine *base, struct history_call *call) {
    struct lmdb_engine *engine = engine_of(base);
    if (call->key.length > KEY_MOST || call->key.length == 0) {
        history_call_fail(call, HISTORY_DOWN, "A key must have 1 to %d bytes.", KEY_MOST);
        history_call_post(engine->store, call);
        return;
    }
    pthread_mutex_lock(&engine->mutex);
    queue_put(call->action == HISTORY_GET ? &engine->reads : &engine->writes, call);
    pthread_mutex_unlock(&engine->mutex);
}

/* A change that waits is withdrawn; one that the writer has begun will have a result, which is to be told. */
static bool give_up(struct history_engine *base, struct history_call *call, bool *uncertain) {
    (void)base;
    (void)uncertain;
    enum history_stage waits = HISTORY_WAITS;
    return call->action == HISTORY_GET || atomic_compare_exchange_strong(&call->stage, &waits, HISTORY_WITHDRAWN);
}

/* Waits for calls, and takes up to `most`. NULL: the engine stops, and there are no more. */
static struct history_call *queue_take(struct lmdb_engine *engine, struct queue *queue, size_t most) {
    pthread_mutex_lock(&engine->mutex);
    while (queue->first == NULL && !engine->stopping)
        pthread_cond_wait(&queue->there, &engine->mutex);
    struct history_call *first = queue->first, *last = first;
    for (size_t i = 1; i < most && last != NULL && last->next != NULL; i++)
        last = last->next;
    if (last != NULL) {
        queue->first = last->next;
        last->next = NULL;
        if (queue->first == NULL)
            queue->end = &queue->first;
    }
    pthread_mutex_unlock(&engine->mutex);
    return first;
}

/* ---- the writer */

static int apply_append(struct lmdb_engine *engine, MDB_txn *transaction, struct history_call *call) {
    MDB_val key = value_of(call->key), value = {0, NULL};
    struct proto_string record = {NULL, 0}, merged;
    int status = mdb_get(transaction, engine->table, &key, &value);
    if (status != 0 && status != MDB_NOTFOUND)
        return status;
    if (status == 0)
        record = string_of(value);
    arena_reset(&engine->arena);
    switch (history_record_merge(record, call->changes, call->change_count, &engine->limits, history_new_revision(),
                                 history_milliseconds(), &engine->arena, &merged)) {
    case HISTORY_MERGED:
        if (history_call_refuses(call, record))
            return 0;
        value = value_of(merged);
        return history_call_keep_record(call, merged) ? mdb_put(transaction, engine->table, &key, &value, 0) : ENOMEM;
    case HISTORY_UNCHANGED:
        return record.data == NULL || history_call_keep_record(call, record) ? 0 : ENOMEM;
    case HISTORY_UNREADABLE:
        history_call_fail(call, HISTORY_BAD_RECORD, "The user's record cannot be read: another encoding, or damaged.");
        return 0;
    case HISTORY_NO_MEMORY:
        break;
    }
    return ENOMEM;
}

static int apply_delete(struct lmdb_engine *engine, MDB_txn *transaction, struct history_call *call) {
    MDB_val key = value_of(call->key);
    int status = mdb_del(transaction, engine->table, &key, NULL);
    call->result.existed = status == 0;
    return status == MDB_NOTFOUND ? 0 : status;
}

static int apply(struct lmdb_engine *engine, MDB_txn *transaction, struct history_call *call) {
    return call->action == HISTORY_DELETE ? apply_delete(engine, transaction, call)
                                          : apply_append(engine, transaction, call);
}

/* All of the calls in one transaction, which is durable afterwards; any error undoes it. *committing: the error came
 * when it is no longer known whether the transaction is in the file. */
static int write_together(struct lmdb_engine *engine, struct history_call *first, bool *committing) {
    MDB_txn *transaction = NULL;
    *committing = false;
    int status = mdb_txn_begin(engine->env, NULL, 0, &transaction);
    if (status != 0)
        return status;
    for (struct history_call *call = first; call != NULL && status == 0; call = call->next) {
        if (call->result.status == HISTORY_DONE) /* it has no fault from an earlier try */
            status = apply(engine, transaction, call);
    }
    if (status != 0) {
        mdb_txn_abort(transaction);
        return status;
    }
    status = mdb_txn_commit(transaction);
    *committing = status != 0 && !is_full(status);
    counter_add(&engine->counts->syncs, engine->sync_seconds == 0);
    return status;
}

/* When the calls cannot be applied together, each is tried alone: those that need room fail, the others do not. */
static void write_calls(struct lmdb_engine *engine, struct history_call *first) {
    bool committing = false;
    int status = write_together(engine, first, &committing);
    if (status == 0)
        return;
    for (struct history_call *call = first, *next = NULL; call != NULL; call = next) {
        next = call->next;
        if (!committing) {
            call->next = NULL;
            status = write_together(engine, call, &committing);
            call->next = next;
        }
        if (status != 0) {
            fail_call(call, status);
            call->result.uncertain = committing;
        }
    }
}

static void *write_thread(void *argument) {
    struct lmdb_engine *engine = argument;
    struct history_call *taken = NULL;
    while ((taken = queue_take(engine, &engine->writes, BATCH_MOST)) != NULL) {
        struct history_call *first = NULL, **end = &first, *next = NULL;
        for (struct history_call *call = taken; call != NULL; call = next) {
            enum history_stage waits = HISTORY_WAITS;
            next = call->next;
            if (atomic_compare_exchange_strong(&call->stage, &waits, HISTORY_RUNS)) {
                *end = call;
                end = &call->next;
            } else {
                history_call_post(engine->store, call);
            }
        }
        *end = NULL;
        if (first == NULL)
            continue;
        write_calls(engine, first);
        pthread_mutex_lock(&engine->mutex);
        engine->unsynced = true;
        pthread_mutex_unlock(&engine->mutex);
        for (struct history_call *call = first; call != NULL; call = next) {
            next = call->next;
            history_call_post(engine->store, call);
        }
    }
    return NULL;
}

/* ---- the readers */

static int look_up(struct lmdb_engine *engine, MDB_txn *transaction, struct history_call *call) {
    MDB_val key = value_of(call->key), value;
    int status = mdb_get(transaction, engine->table, &key, &value);
    if (status != 0)
        return status == MDB_NOTFOUND ? 0 : status;
    struct history_result *result = &call->result;
    result->revision = history_record_revision(string_of(value));
    result->unchanged = result->revision != 0 && result->revision == call->known;
    if (result->unchanged)
        return 0;
    if (result->revision == 0) {
        history_call_fail(call, HISTORY_BAD_RECORD, "The user's record cannot be read: another encoding, or damaged.");
        return 0;
    }
    return history_call_keep_record(call, string_of(value)) ? 0 : ENOMEM;
}

/* A transaction lasts for one look, since an old one keeps pages from being used again. */
static void *read_thread(void *argument) {
    struct lmdb_engine *engine = argument;
    struct history_call *call = NULL;
    MDB_txn *transaction = NULL;
    while ((call = queue_take(engine, &engine->reads, 1)) != NULL) {
        int status = transaction == NULL ? mdb_txn_begin(engine->env, NULL, MDB_RDONLY, &transaction)
                                         : mdb_txn_renew(transaction);
        if (status == 0) {
            status = look_up(engine, transaction, call);
            mdb_txn_reset(transaction);
        }
        if (status != 0)
            fail_call(call, status);
        history_call_post(engine->store, call);
    }
    mdb_txn_abort(transaction);
    return NULL;
}

/* ---- the syncer */

static void *sync_thread(void *argument) {
    struct lmdb_engine *engine = argument;
    pthread_mutex_lock(&engine->mutex);
    while (!engine->stopping) {
        struct timespec until = clock_timespec(clock_now() + clock_from_seconds(engine->sync_seconds));
        while (!engine->stopping && pthread_cond_timedwait(&engine->sync_end, &engine->mutex, &until) != ETIMEDOUT) {
        }
        bool unsynced = engine->unsynced;
        engine->unsynced = false;
        pthread_mutex_unlock(&engine->mutex);
        int status = unsynced ? mdb_env_sync(engine->env, 1) : 0;
        counter_add(status == 0 ? &engine->counts->syncs : &engine->counts->sync_failures, unsynced);
        if (status != 0)
            log_message(LEVEL_ERROR, "histories-sync", "The history store cannot be synced: %s. It is tried again.",
                        mdb_strerror(status));
        pthread_mutex_lock(&engine->mutex);
        engine->unsynced = engine->unsynced || status != 0;
    }
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

/* ---- export and import */

static bool explain(char *error, size_t size, const char *path, int status) {
    snprintf(error, size, "lmdb:%s: %s", path, mdb_strerror(status));
    return false;
}

static bool export_all(struct history_engine *base, history_each *each, void *context, char *error, size_t error_size) {
    struct lmdb_engine *engine = engine_of(base);
    MDB_txn *transaction = NULL;
    MDB_cursor *cursor = NULL;
    MDB_val key = value_of((struct proto_string){engine->prefix, engine->prefix_length}), value;
    int status = mdb_txn_begin(engine->env, NULL, MDB_RDONLY, &transaction);
    if (status == 0)
        status = mdb_cursor_open(transaction, engine->table, &cursor);
    if (status == 0)
        status = mdb_cursor_get(cursor, &key, &value, engine->prefix_length > 0 ? MDB_SET_RANGE : MDB_FIRST);
    while (status == 0 && key.mv_size >= engine->prefix_length &&
           memcmp(key.mv_data, engine->prefix, engine->prefix_length) == 0) {
        struct proto_string user = {(char *)key.mv_data + engine->prefix_length, key.mv_size - engine->prefix_length};
        if (!each(context, user, string_of(value)))
            break;
        status = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    mdb_txn_abort(transaction);
    return status == 0 || status == MDB_NOTFOUND || explain(error, error_size, engine->path, status);
}

static bool import_all(struct history_engine *base, history_next *next, void *context, char *error, size_t error_size) {
    struct lmdb_engine *engine = engine_of(base);
    struct proto_string user, record;
    char key[KEY_MOST];
    int status = 0;
    bool more = true;
    memcpy(key, engine->prefix, engine->prefix_length);
    while (more && status == 0) {
        MDB_txn *transaction = NULL;
        status = mdb_txn_begin(engine->env, NULL, 0, &transaction);
        for (size_t i = 0; status == 0 && i < IMPORT_BATCH && (more = next(context, &user, &record)); i++) {
            if (user.length == 0 || user.length > KEY_MOST - engine->prefix_length) {
                status = MDB_BAD_VALSIZE;
                break;
            }
            memcpy(key + engine->prefix_length, user.data, user.length);
            MDB_val name = {engine->prefix_length + user.length, key}, value = value_of(record);
            status = mdb_put(transaction, engine->table, &name, &value, 0);
        }
        if (status == 0)
            status = mdb_txn_commit(transaction);
        else
            mdb_txn_abort(transaction);
    }
    return status == 0 || explain(error, error_size, engine->path, status);
}

/* ---- opening and closing */

static void stop_threads(struct lmdb_engine *engine) {
    pthread_mutex_lock(&engine->mutex);
    engine->stopping = true;
    pthread_cond_broadcast(&engine->reads.there);
    pthread_cond_broadcast(&engine->writes.there);
    pthread_cond_broadcast(&engine->sync_end);
    pthread_mutex_unlock(&engine->mutex);
    for (size_t i = 0; i < engine->thread_count; i++)
        pthread_join(engine->threads[i], NULL);
}

static void close_engine(struct history_engine *base) {
    struct lmdb_engine *engine = engine_of(base);
    stop_threads(engine);
    if (engine->env != NULL) {
        if (engine->sync_seconds > 0)
            mdb_env_sync(engine->env, 1);
        mdb_env_close(engine->env);
    }
    if (engine->lock >= 0)
        close(engine->lock);
    pthread_cond_destroy(&engine->reads.there);
    pthread_cond_destroy(&engine->writes.there);
    pthread_cond_destroy(&engine->sync_end);
    pthread_mutex_destroy(&engine->mutex);
    arena_free(&engine->arena);
    free(engine);
}

static bool start(struct lmdb_engine *engine, const char *name, void *(*run)(void *)) {
    bool good = thread_start(&engine->threads[engine->thread_count], name, run, engine);
    engine->thread_count += good;
    return good;
}

static bool start_threads(struct lmdb_engine *engine) {
    bool good = start(engine, "histories-write", write_thread);
    for (size_t i = 0; i < READERS; i++)
        good = good && start(engine, "histories-read", read_thread);
    return good && (engine->sync_seconds == 0 || start(engine, "histories-sync", sync_thread));
}

/* A new file is in its directory for good only when that is synced too. */
static void sync_directory(const char *path) {
    char copy[4096];
    snprintf(copy, sizeof copy, "%s", path);
    int directory = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) {
        fsync(directory);
        close(directory);
    }
}

static bool lock_file(struct lmdb_engine *engine, const char *path, char *error, size_t size) {
    struct statfs system;
    engine->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (engine->lock < 0)
        return explain(error, size, path, errno);
    if (fstatfs(engine->lock, &system) == 0) {
        for (size_t i = 0; i < sizeof network_file_systems / sizeof network_file_systems[0]; i++) {
            if ((long)system.f_type == network_file_systems[i]) {
                snprintf(error, size, "lmdb:%s: the file is on a network file system, where it would be damaged.",
                         path);
                return false;
            }
        }
    }
    if (flock(engine->lock, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno != EWOULDBLOCK)
        return explain(error, size, path, errno);
    snprintf(error, size, "lmdb:%s: another process has the file open; one server may use it.", path);
    return false;
}

static int open_environment(struct lmdb_engine *engine, const struct history_store_options *options, const char *path) {
    MDB_txn *transaction = NULL;
    /* With MDB_NOSYNC a power loss may damage the file. With MDB_NOMETASYNC each commit syncs its pages, and with them
     * the root of the commit before: a power loss undoes the last commit and no more. */
    unsigned flags = MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD | (options->sync_seconds > 0 ? MDB_NOMETASYNC : 0);
    int dead = 0, status = mdb_env_create(&engine->env);
    if (status == 0)
        status = mdb_env_set_mapsize(engine->env, options->map_bytes);
    if (status == 0)
        status = mdb_env_open(engine->env, path, flags, 0600);
    if (status == 0)
        status = mdb_reader_check(engine->env, &dead);
    if (status == 0)
        status = mdb_txn_begin(engine->env, NULL, 0, &transaction);
    if (status == 0)
        status = mdb_dbi_open(transaction, NULL, 0, &engine->table);
    if (status == 0)
        return mdb_txn_commit(transaction);
    if (transaction != NULL)
        mdb_txn_abort(transaction);
    return status;
}

struct history_engine *lmdb_engine_open(const struct history_store_options *options, const char *path,
                                        struct history_store *store, char *error, size_t error_size) {
    struct lmdb_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        explain(error, error_size, path, ENOMEM);
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->reads.there, NULL);
    pthread_cond_init(&engine->writes.there, NULL);
    pthread_cond_init(&engine->sync_end, &monotonic);
    pthread_condattr_destroy(&monotonic);
    engine->base = (struct history_engine){.name = "LMDB",
                                           .timeout = 1,
                                           .submit = submit,
                                           .give_up = give_up,
                                           .export = export_all,
                                           .import = import_all,
                                           .close = close_engine};
    engine->store = store;
    engine->counts = options->counts;
    engine->limits = options->limits;
    engine->path = path;
    engine->prefix = options->prefix;
    engine->prefix_length = strlen(options->prefix);
    engine->sync_seconds = options->sync_seconds;
    engine->reads.end = &engine->reads.first;
    engine->writes.end = &engine->writes.first;
    engine->lock = -1;
    arena_init(&engine->arena, 0, ARENA_KEEP);
    bool good = lock_file(engine, path, error, error_size);
    if (good) {
        int status = open_environment(engine, options, path);
        sync_directory(path);
        good = status == 0 || explain(error, error_size, path, status);
        if (good && !start_threads(engine))
            good = explain(error, error_size, path, errno);
    }
    if (good)
        return &engine->base;
    close_engine(&engine->base);
    return NULL;
}
