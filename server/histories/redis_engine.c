/* redis_engine.c: histories in Redis, or what speaks its protocol: one string a user, which is the record.
 *
 * A change reads the record, merges, and writes it by a script that compares: if the first bytes, the revision, are no
 * longer those that were read, another server was faster, and the change begins anew. So the rules of merging are in
 * one place, and the script costs Redis no work on behaviours. In a cluster, MOVED and ASK name the node of a slot.
 *
 * A deletion leaves a tombstone for a minute. A change that was on its way meets it, and counts as made before. Where a
 * record is gone without one, by its time to live or by eviction, the change begins anew.
 */
#include "server/histories/history_engine.h"
#include "server/histories/loop_handles.h"
#include "server/histories/redis_address.h"
#include "server/histories/redis_node.h"
#include "server/histories/redis_transfer.h"

#include <hiredis/hiredis.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NODES_MOST = 128,
    HOPS_MOST = 5,            /* MOVED and ASK of one call */
    TRIES_MOST = 50,          /* conflicts of one call */
    TRIES_BEFORE_REMOVAL = 3, /* to connect, of a node that the cluster named */
    ARENA_KEEP = 1 << 20
};

/* Of a call's time: how long WAIT waits, so that its answer comes in time. */
#define WAIT_SHARE 0.6

/* KEYS: the user. ARGV: the first bytes that the record must have, the new record, milliseconds to live or 0. Returns
 * 1, or the first bytes that it has: 9 of a tombstone, else 10. */
static const char write_script[] = "local held = redis.call('GETRANGE', KEYS[1], 0, 9) "
                                   "if string.sub(held, 1, 9) ~= ARGV[1] then return held end "
                                   "if ARGV[3] == '0' then redis.call('SET', KEYS[1], ARGV[2]) "
                                   "else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end "
                                   "return 1";

/* KEYS: the user. ARGV: a tombstone. Returns 1 if there was a record. DEL comes first, since it works where memory is
 * out. */
static const char delete_script[] = "local length = redis.pcall('STRLEN', KEYS[1]) "
                                    "if length == 0 then return 0 end "
                                    "redis.call('DEL', KEYS[1]) "
                                    "redis.pcall('SET', KEYS[1], ARGV[1], 'PX', 60000) "
                                    "if length == 9 then return 0 end "
                                    "return 1";

enum phase { PEEK, READ, WRITE, REMOVE, CONFIRM };

struct redis_engine {
    struct history_engine base;
    struct history_store *store;
    struct history_counts *counts;
    struct history_limits limits;
    const char *prefix;
    struct redis_address address;
    char ttl[32]; /* milliseconds */
    long long replicas;
    char wait_replicas[32], wait_milliseconds[32]; /* for WAIT */
    struct loop *loop;
    struct arena arena;
    struct redis_node *nodes[NODES_MOST];   /* the first is the operator's; NULL: the place is free */
    struct redis_node *removed[NODES_MOST]; /* to be freed once their callbacks have returned */
    size_t removed_count;
    struct loop_timer *remover;
    unsigned char slots[REDIS_SLOTS]; /* the node of a slot, by its place; 0 until one was named */
    struct command *parked;           /* they wait for the address of their node */
};

/* A call on its way. */
struct command {
    struct redis_engine *engine;
    struct history_call *call;
    enum phase phase;
    bool whole_script; /* the server does not know the script by its name */
    unsigned hops;
    struct redis_node *node;  /* that it was sent to */
    struct redis_node *asked; /* ASK named it for this call */
    struct command *next;     /* that is parked */
    char stamp[HISTORY_REVISION_BYTES];
    size_t stamp_length;
};

static struct redis_engine *engine_of(struct history_engine *base) {
    return (struct redis_engine *)base;
}

static void finish(struct command *command) {
    struct history_call *call = command->call;
    struct history_store *store = command->engine->store;
    call->engine_data = NULL;
    free(command);
    history_call_finish(store, call);
}

static void fail(struct command *command, enum history_status status, const char *reason) {
    struct history_call *call = command->call;
    call->result.uncertain =
        (status == HISTORY_DOWN && (command->phase == WRITE || command->phase == REMOVE)) || command->phase == CONFIRM;
    history_call_fail(call, status, "%s", reason);
    finish(command);
}

/* ---- nodes */

/* A slot whose node has no connection is asked for at any other: that one knows who has it now. */
static struct redis_node *node_for(struct redis_engine *engine, struct proto_string key) {
    struct redis_node *node = engine->nodes[engine->slots[redis_slot(key)]];
    if (redis_node_usable(node) || redis_node_is_looked_up(node))
        return node;
    for (size_t i = 0; i < NODES_MOST; i++)
        if (engine->nodes[i] != NULL && redis_node_usable(engine->nodes[i]))
            return engine->nodes[i];
    return NULL;
}

static void begin(struct command *command);

/* The commands that wait for this node's address begin anew. */
static void unpark(struct redis_engine *engine, const struct redis_node *node) {
    struct command *command = engine->parked, *next = NULL;
    engine->parked = NULL;
    for (; command != NULL; command = next) {
        next = command->next;
        if (command->node != node) {
            command->next = engine->parked;
            engine->parked = command;
        } else if (atomic_load(&command->call->stage) == HISTORY_WITHDRAWN) {
            finish(command); /* the caller was told that it was late */
        } else {
            command->asked = NULL;
            begin(command);
        }
    }
}

static void on_found(void *context, struct redis_node *node) {
    unpark(context, node);
}

static void free_removed(void *context) {
    struct redis_engine *engine = context;
    while (engine->removed_count > 0)
        redis_node_free(engine->removed[--engine->removed_count]);
}

/* A node that the cluster has named and that cannot be reached goes; MOVED names it again if it comes back. */
static void on_lost(void *context, struct redis_node *node) {
    struct redis_engine *engine = context;
    for (size_t i = 0; i < NODES_MOST; i++) {
        if (engine->nodes[i] != node)
            continue;
        for (size_t slot = 0; slot < REDIS_SLOTS; slot++)
            engine->slots[slot] = engine->slots[slot] == i ? 0 : engine->slots[slot];
        if (i > 0 && redis_node_failures(node) >= TRIES_BEFORE_REMOVAL && engine->removed_count < NODES_MOST) {
            engine->nodes[i] = NULL;
            engine->removed[engine->removed_count++] = node;
            loop_timer_set(engine->remover, 0);
        }
    }
    unpark(engine, node);
}

static void on_reply(void *data, struct redisReply *reply);

/* Adds a node at an address; the login is the operator's. Its place, or NODES_MOST: there is no room. */
static size_t add_node(struct redis_engine *engine, const char *host, int port) {
    struct redis_node_options options = {.loop = engine->loop,
                                         .address = engine->address,
                                         .script = write_script,
                                         .counts = engine->counts,
                                         .reply = on_reply,
                                         .found = on_found,
                                         .lost = on_lost,
                                         .context = engine};
    size_t place = 0;
    while (place < NODES_MOST && engine->nodes[place] != NULL)
        place++;
    if (place == NODES_MOST || strlen(host) >= sizeof options.address.host)
        return NODES_MOST;
    memmove(options.address.host, host, strlen(host) + 1);
    options.address.port = port;
    struct redis_node *node = redis_node_new(&options);
    if (node == NULL)
        return NODES_MOST;
    engine->nodes[place] = node;
    return place;
}

/* The node of a MOVED or ASK. A host that is not told is the operator's. */
static size_t named_node(struct redis_engine *engine, const char *text, unsigned *slot) {
    char host[REDIS_HOST_MOST];
    int port;
    if (!redis_read_redirection(text, slot, host, &port))
        return NODES_MOST;
    const char *name = *host != '\0' ? host : engine->address.host;
    for (size_t i = 0; i < NODES_MOST; i++)
        if (engine->nodes[i] != NULL && redis_node_is_at(engine->nodes[i], name, port))
            return i;
    return add_node(engine, name, port);
}

/* ---- sending */

static void send_words(struct command *command, enum phase phase, size_t words, const char **word,
                       const size_t *lengths) {
    struct redis_engine *engine = command->engine;
    struct redis_node *node = command->asked != NULL ? command->asked : node_for(engine, command->call->key);
    static const char *asking[] = {"ASKING"};
    static const size_t asking_length[] = {6};
    command->node = node;
    command->phase = READ; /* until it is sent nothing can have been changed */
    if (node != NULL && redis_node_is_looked_up(node)) {
        command->next = engine->parked;
        engine->parked = command;
        return;
    }
    bool sent = node != NULL && (command->asked == NULL || redis_node_send(node, NULL, 1, asking, asking_length));
    command->phase = phase;
    sent = sent && redis_node_send(node, command, words, word, lengths);
    if (!sent) {
        history_call_fail(command->call, HISTORY_DOWN, "There is no connection to Redis.");
        finish(command);
    }
}

static void send_phase(struct command *command, enum phase phase) {
    struct proto_string key = command->call->key;
    const char *peek[] = {"GETRANGE", key.data, "0", "9"}, *get[] = {"GET", key.data};
    const size_t peek_lengths[] = {8, key.length, 1, 1}, get_lengths[] = {3, key.length};
    if (phase == PEEK)
        send_words(command, phase, 4, peek, peek_lengths);
    else
        send_words(command, phase, 2, get, get_lengths);
}

static void send_delete(struct command *command) {
    struct proto_string key = command->call->key;
    char tombstone[HISTORY_REVISION_BYTES];
    history_record_stamp(history_new_revision(), tombstone);
    const char *word[] = {"EVAL", delete_script, "1", key.data, tombstone};
    const size_t lengths[] = {4, sizeof delete_script - 1, 1, key.length, sizeof tombstone};
    send_words(command, REMOVE, sizeof word / sizeof word[0], word, lengths);
}

static void send_write(struct command *command, struct proto_string record) {
    struct redis_engine *engine = command->engine;
    struct history_call *call = command->call;
    struct redis_node *node = command->asked != NULL ? command->asked : node_for(engine, call->key);
    const char *name = node != NULL ? redis_node_script(node) : "";
    bool whole = command->whole_script || *name == '\0';
    const char *script = whole ? write_script : name;
    const char *word[] = {
        whole ? "EVAL" : "EVALSHA", script, "1", call->key.data, command->stamp, record.data, engine->ttl};
    const size_t lengths[] = {whole ? 4u : 7u, strlen(script),     1, call->key.length, command->stamp_length,
                              record.length,   strlen(engine->ttl)};
    atomic_store(&call->stage, HISTORY_RUNS);
    send_words(command, WRITE, sizeof word / sizeof word[0], word, lengths);
}

static void begin(struct command *command) {
    const struct history_call *call = command->call;
    if (call->action == HISTORY_DELETE)
        send_delete(command);
    else
        send_phase(command, call->action == HISTORY_GET && call->known != 0 ? PEEK : READ);
}

static void submit(struct history_engine *base, struct history_call *call) {
    struct redis_engine *engine = engine_of(base);
    struct command *command = calloc(1, sizeof *command);
    if (command == NULL) {
        history_call_fail(call, HISTORY_DOWN, "There is no memory for the call.");
        history_call_finish(engine->store, call);
        return;
    }
    command->engine = engine;
    command->call = call;
    call->engine_data = command;
    begin(command);
}

/* Nobody knows whether a command that was sent will be carried out. */
static bool give_up(struct history_engine *base, struct history_call *call, bool *uncertain) {
    const struct command *command = call->engine_data;
    (void)base;
    *uncertain = command->phase == WRITE || command->phase == REMOVE || command->phase == CONFIRM;
    atomic_store(&call->stage, HISTORY_WITHDRAWN);
    return true;
}

/* ---- replies */

static struct proto_string text_of(const redisReply *reply) {
    return reply->type == REDIS_REPLY_STRING ? (struct proto_string){reply->str, reply->len}
                                             : (struct proto_string){NULL, 0};
}

static const char unreadable[] = "The user's record cannot be read: another encoding, or damaged.";

/* The result of a get. */
static void take_record(struct command *command, struct proto_string record) {
    struct history_result *result = &command->call->result;
    if (record.data == NULL || redis_is_tombstone(record)) {
        finish(command);
        return;
    }
    result->revision = history_record_revision(record);
    if (result->revision == 0) {
        fail(command, HISTORY_BAD_RECORD, unreadable);
        return;
    }
    if (history_call_keep_record(command->call, record))
        finish(command);
    else
        fail(command, HISTORY_DOWN, "There is no memory for the record.");
}

static void take_peek(struct command *command, struct proto_string stamp) {
    struct history_call *call = command->call;
    if (stamp.length == 0 || redis_is_tombstone(stamp)) {
        finish(command); /* the user is unknown */
    } else if (history_record_revision(stamp) == call->known) {
        call->result.unchanged = true;
        call->result.revision = call->known;
        finish(command);
    } else {
        send_phase(command, READ);
    }
}

static void change_record(struct command *command, struct proto_string record) {
    struct redis_engine *engine = command->engine;
    struct history_call *call = command->call;
    struct proto_string merged;
    if (atomic_load(&call->stage) == HISTORY_WITHDRAWN) {
        finish(command); /* the caller was told that it was late */
        return;
    }
    arena_reset(&engine->arena);
    command->stamp_length = record.length < sizeof command->stamp ? record.length : sizeof command->stamp;
    if (record.data != NULL)
        memcpy(command->stamp, record.data, command->stamp_length);
    if (redis_is_tombstone(record))
        record = (struct proto_string){NULL, 0};
    switch (history_record_merge(record, call->changes, call->change_count, &engine->limits, history_new_revision(),
                                 history_milliseconds(), &engine->arena, &merged)) {
    case HISTORY_MERGED:
        if (history_call_refuses(call, record))
            finish(command);
        else if (history_call_keep_record(call, merged))
            send_write(command, merged);
        else
            fail(command, HISTORY_DOWN, "There is no memory for the record.");
        break;
    case HISTORY_UNCHANGED:
        if (record.data == NULL || history_call_keep_record(call, record))
            finish(command);
        else
            fail(command, HISTORY_DOWN, "There is no memory for the record.");
        break;
    case HISTORY_UNREADABLE:
        fail(command, HISTORY_BAD_RECORD, unreadable);
        break;
    case HISTORY_NO_MEMORY:
        fail(command, HISTORY_DOWN, "There is no memory for the record.");
        break;
    }
}

/* A change is there. WAIT is about the writes of its connection, so that it must be the one of the change. It holds up
 * the commands behind it, for one turn of replication at the least. */
static void confirm(struct command *command) {
    const struct redis_engine *engine = command->engine;
    const char *word[] = {"WAIT", engine->wait_replicas, engine->wait_milliseconds};
    const size_t lengths[] = {4, strlen(engine->wait_replicas), strlen(engine->wait_milliseconds)};
    if (engine->replicas == 0) {
        finish(command);
        return;
    }
    command->phase = CONFIRM;
    if (!redis_node_send(command->node, command, sizeof word / sizeof word[0], word, lengths))
        fail(command, HISTORY_UNCONFIRMED, "The connection to Redis was lost before its replicas had the change.");
}

static void take_confirmation(struct command *command, const redisReply *reply) {
    if (reply->type == REDIS_REPLY_INTEGER && reply->integer >= command->engine->replicas)
        finish(command);
    else
        fail(command, HISTORY_UNCONFIRMED, "Too few replicas of Redis have the change (--histories-redis-wait).");
}

/* A tombstone that was not read: the user was deleted meanwhile. The change counts as made before that, and so is gone
 * too: it must not bring the user back. */
static void take_written(struct command *command, const redisReply *reply) {
    if (reply->type == REDIS_REPLY_INTEGER || redis_is_tombstone(text_of(reply))) {
        if (reply->type != REDIS_REPLY_INTEGER)
            history_call_drop_record(command->call);
        confirm(command);
        return;
    }
    counter_add(&command->engine->counts->conflicts, 1);
    command->phase = READ; /* nothing was written */
    if (++command->call->conflicts >= TRIES_MOST)
        fail(command, HISTORY_BUSY, "Other servers change the user's record all the time.");
    else
        begin(command);
}

static bool begins(const char *text, const char *word) {
    return strncmp(text, word, strlen(word)) == 0;
}

/* An error means that nothing was done: the call may begin anew at the place that it names. */
static void take_error(struct command *command, const char *text) {
    static const char moved[] = "MOVED ", ask[] = "ASK ";
    struct redis_engine *engine = command->engine;
    bool is_moved = begins(text, moved), is_ask = begins(text, ask);
    enum phase phase = command->phase;
    command->phase = READ;
    if (is_moved || is_ask) {
        unsigned slot = 0;
        size_t node = ++command->hops > HOPS_MOST
                          ? NODES_MOST
                          : named_node(engine, text + (is_moved ? sizeof moved : sizeof ask) - 1, &slot);
        if (node < NODES_MOST) {
            command->asked = is_ask ? engine->nodes[node] : NULL;
            if (is_moved)
                engine->slots[slot] = (unsigned char)node;
            begin(command);
            return;
        }
    }
    if (begins(text, "NOSCRIPT") && phase == WRITE && !command->whole_script) {
        command->whole_script = true;
        begin(command);
    } else if (begins(text, "READONLY")) {
        redis_node_renew(command->node);
        fail(command, HISTORY_DOWN, "Redis is a replica now.");
    } else if (begins(text, "WRONGTYPE")) {
        fail(command, HISTORY_BAD_RECORD, unreadable);
    } else if (strstr(text, "OOM command not allowed") != NULL) {
        fail(command, HISTORY_FULL, "The history store has no room left.");
    } else {
        history_call_fail(command->call, HISTORY_DOWN, "Redis: %s", redis_error_code(text).text);
        finish(command);
    }
}

static void on_reply(void *data, struct redisReply *reply) {
    struct command *command = data;
    if (reply == NULL && command->phase == CONFIRM) {
        fail(command, HISTORY_UNCONFIRMED, "The connection to Redis was lost before its replicas had the change.");
    } else if (reply == NULL) {
        fail(command, HISTORY_DOWN, "The connection to Redis was lost.");
    } else if (reply->type == REDIS_REPLY_ERROR && command->phase != CONFIRM) {
        take_error(command, reply->str);
    } else if (command->phase == PEEK) {
        take_peek(command, text_of(reply));
    } else if (command->phase == WRITE) {
        take_written(command, reply);
    } else if (command->phase == REMOVE) {
        command->call->result.existed = reply->integer > 0;
        confirm(command);
    } else if (command->phase == CONFIRM) {
        take_confirmation(command, reply);
    } else if (command->call->action == HISTORY_GET) {
        take_record(command, text_of(reply));
    } else {
        change_record(command, text_of(reply));
    }
}

/* ---- export and import */

static struct redis_transfer transfer_of(const struct redis_engine *engine) {
    return (struct redis_transfer){&engine->address, engine->prefix, engine->ttl};
}

static bool export_all(struct history_engine *base, history_each *each, void *context, char *error, size_t error_size) {
    const struct redis_transfer transfer = transfer_of(engine_of(base));
    return redis_export(&transfer, each, context, error, error_size);
}

static bool import_all(struct history_engine *base, history_next *next, void *context, char *error, size_t error_size) {
    const struct redis_transfer transfer = transfer_of(engine_of(base));
    return redis_import(&transfer, next, context, error, error_size);
}

/* ---- opening and closing */

static void close_engine(struct history_engine *base) {
    struct redis_engine *engine = engine_of(base);
    free_removed(engine);
    for (size_t i = 0; i < NODES_MOST; i++)
        redis_node_free(engine->nodes[i]);
    while (engine->parked != NULL) {
        struct command *command = engine->parked;
        engine->parked = command->next;
        fail(command, HISTORY_DOWN, "The server ends.");
    }
    loop_timer_free(engine->remover);
    arena_free(&engine->arena);
    free(engine);
}

static bool explain(char *error, size_t size, const char *reason) {
    snprintf(error, size, "Redis: %s", reason);
    return false;
}

struct history_engine *redis_engine_open(const struct history_store_options *options, const char *where,
                                         struct history_store *store, struct loop *loop, char *error,
                                         size_t error_size) {
    struct redis_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        explain(error, error_size, "There is no memory.");
        return NULL;
    }
    engine->base = (struct history_engine){.name = "Redis",
                                           .timeout = 0.005,
                                           .submit = submit,
                                           .give_up = give_up,
                                           .export = export_all,
                                           .import = import_all,
                                           .close = close_engine};
    engine->store = store;
    engine->counts = options->counts;
    engine->limits = options->limits;
    engine->prefix = options->prefix;
    engine->loop = loop;
    snprintf(engine->ttl, sizeof engine->ttl, "%lld", (long long)(options->ttl * 1000));
    engine->replicas = (long long)options->replicas;
    snprintf(engine->wait_replicas, sizeof engine->wait_replicas, "%zu", options->replicas);
    double seconds = options->timeout > 0 ? options->timeout : engine->base.timeout;
    snprintf(engine->wait_milliseconds, sizeof engine->wait_milliseconds, "%.0f", ceil(WAIT_SHARE * 1000 * seconds));
    arena_init(&engine->arena, 0, ARENA_KEEP);
    bool good = redis_address_read(where, options->password_file, &engine->address, error, error_size);
    if (loop != NULL)
        engine->remover = loop_timer_new(loop, free_removed, engine);
    if (good && loop != NULL && engine->remover == NULL)
        good = explain(error, error_size, "There is no memory.");
    if (good && loop != NULL && add_node(engine, engine->address.host, engine->address.port) == NODES_MOST)
        good = explain(error, error_size, "There is no memory.");
    if (good)
        return &engine->base;
    close_engine(&engine->base);
    return NULL;
}
