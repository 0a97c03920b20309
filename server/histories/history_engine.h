/* history_engine.h: what history_store.c asks of an engine, and a call as engines see it.
 */
#ifndef SERVER_HISTORIES_HISTORY_ENGINE_H
#define SERVER_HISTORIES_HISTORY_ENGINE_H

#include "server/histories/history_store.h"

#include <stdatomic.h>

enum history_action { HISTORY_GET, HISTORY_APPEND, HISTORY_DELETE };

enum history_stage { HISTORY_WAITS, HISTORY_RUNS, HISTORY_WITHDRAWN };

/* Owned by the engine from submit() until it hands the call back with its result. */
struct history_call {
    enum history_action action;
    struct proto_string key; /* the prefix and the user */
    uint64_t known;
    uint64_t expected; /* revision of the record; 0: any */
    struct history_change *changes;
    size_t change_count;
    bool wants_record;
    struct history_result result;      /* the engine's to fill in */
    _Atomic(enum history_stage) stage; /* the engine's, for changes that can be withdrawn */
    unsigned conflicts;                /* the engine's: attempts that another server's change undid */
    struct history_call *next;         /* the engine's */
    void *engine_data;

    /* history_store.c's. */
    history_done *done; /* NULL: the caller has its result */
    void *context;
    uint64_t began, deadline; /* clock_now(); deadline 0: none any more */
    struct history_call *earlier, *later;
};

typedef bool history_each(void *context, struct proto_string user, struct proto_string record);
typedef bool history_next(void *context, struct proto_string *user, struct proto_string *record);

struct history_engine {
    const char *name;
    double timeout; /* seconds: a call's time unless the operator says another */
    /* On the loop's thread; neither waits. */
    void (*submit)(struct history_engine *engine, struct history_call *call);
    /* The call's time is up. False: the engine applies it at this moment, so its result must be waited for. True: the
     * caller is told that it was late; the engine still hands the call back by history_call_finish(). *uncertain is set
     * where the change may have been applied. */
    bool (*give_up)(struct history_engine *engine, struct history_call *call, bool *uncertain);
    bool (*export)(struct history_engine *engine, history_each *each, void *context, char *error, size_t error_size);
    bool (*import)(struct history_engine *engine, history_next *next, void *context, char *error, size_t error_size);
    /* Hands back every call, and frees the engine. */
    void (*close)(struct history_engine *engine);
};

/* A store without an engine. NULL: memory is out. */
struct history_store *history_store_new(const struct history_store_options *options, struct loop *loop);
/* Gives the store its engine, which the store then owns. Once, and before the first call. */
void history_store_use(struct history_store *store, struct history_engine *engine);

/* The result is there: from the loop's thread, from any thread. */
void history_call_finish(struct history_store *store, struct history_call *call);
void history_call_post(struct history_store *store, struct history_call *call);

/* Sets a result other than HISTORY_DONE. */
void history_call_fail(struct history_call *call, enum history_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Whether the record (data NULL: there is none) is another than the call expects: then the call has failed. */
bool history_call_refuses(struct history_call *call, struct proto_string record);

/* Copies the record into the result, where the call wants it. False: memory is out. */
bool history_call_keep_record(struct history_call *call, struct proto_string record);
void history_call_drop_record(struct history_call *call);

/* A random revision, never 0. From any thread. */
uint64_t history_new_revision(void);
int64_t history_milliseconds(void); /* since 1970 */

/* NULL, with the reason in `error`. */
struct history_engine *lmdb_engine_open(const struct history_store_options *options, const char *path,
                                        struct history_store *store, char *error, size_t error_size);
struct history_engine *redis_engine_open(const struct history_store_options *options, const char *where,
                                         struct history_store *store, struct loop *loop, char *error,
                                         size_t error_size);

#endif
