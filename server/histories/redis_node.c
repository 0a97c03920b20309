/* redis_node.c: hiredis's asynchronous interface on the event loop.
 *
 * hiredis 0.14 has no time limits and its own adapter for libuv never reports a refused connection. Here a socket's
 * error counts as readable and writable, and a node that was silent for SILENCE_SECONDS while commands wait is given
 * up.
 */
#include "server/histories/redis_node.h"

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/histories/loop_handles.h"
#include "server/histories/redis_transfer.h"

#include <arpa/inet.h>
#include <hiredis/async.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_PAUSE = 20, MOST_PAUSE = 500, WATCH = 250 }; /* milliseconds */
#define SILENCE_SECONDS 1.0
#define RENEWAL_SECONDS 1.0

struct redis_node {
    struct redis_node_options options;
    redisAsyncContext *redis; /* NULL: not connected, and not connecting */
    struct loop_socket *socket;
    bool reading, writing;
    struct loop_lookup *lookup;
    struct loop_timer *retry, *watch;
    int pause;
    unsigned failures;
    uint64_t renewed; /* clock_now() */
    bool logged_in, freeing, said_down;
    size_t waiting; /* commands without a reply */
    uint64_t heard; /* the last sign of life, or the beginning of the wait for one */
    char script[64];
};

/* ---- the adapter */

static void watch_socket(struct redis_node *node) {
    if (node->socket != NULL)
        loop_socket_watch(node->socket, node->reading, node->writing);
}

static void add_read(void *data) {
    struct redis_node *node = data;
    node->reading = true;
    watch_socket(node);
}

static void del_read(void *data) {
    struct redis_node *node = data;
    node->reading = false;
    watch_socket(node);
}

static void add_write(void *data) {
    struct redis_node *node = data;
    node->writing = true;
    watch_socket(node);
}

static void del_write(void *data) {
    struct redis_node *node = data;
    node->writing = false;
    watch_socket(node);
}

/* hiredis closes the descriptor afterwards. */
static void clean_up(void *data) {
    struct redis_node *node = data;
    loop_socket_free(node->socket);
    node->socket = NULL;
}

/* Reading may end the connection; then there is nothing to write to. */
static void on_ready(void *context, bool readable, bool writable) {
    struct redis_node *node = context;
    redisAsyncContext *redis = node->redis;
    if (readable)
        redisAsyncHandleRead(redis);
    if (writable && node->redis == redis && node->socket != NULL)
        redisAsyncHandleWrite(redis);
}

static bool attach(struct redis_node *node) {
    redisAsyncContext *redis = node->redis;
    node->reading = node->writing = false;
    node->socket = loop_socket_new(node->options.loop, redis->c.fd, on_ready, node);
    if (node->socket == NULL)
        return false;
    redis->data = node;
    redis->ev.data = node;
    redis->ev.addRead = add_read;
    redis->ev.delRead = del_read;
    redis->ev.addWrite = add_write;
    redis->ev.delWrite = del_write;
    redis->ev.cleanup = clean_up;
    return true;
}

/* ---- the end of a connection, and the next try */

static void connect_node(void *context);

/* Once for each connection or try: the node has none now. */
static void on_lost(struct redis_node *node, const char *reason) {
    node->redis = NULL;
    node->waiting = 0;
    loop_timer_set(node->watch, -1);
    if (node->freeing)
        return;
    if (!node->said_down)
        log_line(LEVEL_WARNING, "redis-lost", LOG_STRING("host", node->options.address.host),
                 LOG_NUMBER("port", node->options.address.port), LOG_STRING("message", reason));
    node->said_down = true;
    if (node->logged_in) {
        counter_add(&node->options.counts->disconnects, 1);
        node->pause = FIRST_PAUSE;
    } else {
        node->failures++;
    }
    node->logged_in = false;
    loop_timer_set(node->retry, node->pause);
    node->pause = 2 * node->pause < MOST_PAUSE ? 2 * node->pause : MOST_PAUSE;
    node->options.lost(node->options.context, node);
}

/* hiredis hands NULL to every command that waits, and calls on_disconnect() only for a connection that was made. */
static void give_up(struct redis_node *node, const char *reason) {
    redisAsyncContext *redis = node->redis;
    redis->onDisconnect = NULL;
    redisAsyncFree(redis);
    on_lost(node, reason);
}

static void on_disconnect(const redisAsyncContext *redis, int status) {
    (void)status;
    on_lost(redis->data, redis->err != 0 ? redis->errstr : "The connection was closed.");
}

static void on_connect(const redisAsyncContext *redis, int status) {
    struct redis_node *node = redis->data;
    if (status == REDIS_OK)
        node->heard = clock_now();
    else
        on_lost(node, redis->errstr);
}

/* Silence is counted from the last reply, or from the command that began to wait for one. */
static void on_watch(void *context) {
    struct redis_node *node = context;
    if (node->redis == NULL || node->waiting == 0)
        return;
    if (clock_seconds(clock_now() - node->heard) >= SILENCE_SECONDS)
        give_up(node, "No reply for a second.");
    else
        loop_timer_set(node->watch, WATCH);
}

static void count_command(struct redis_node *node) {
    if (node->waiting++ == 0) {
        node->heard = clock_now();
        loop_timer_set(node->watch, WATCH);
    }
}

static void count_reply(struct redis_node *node, const void *reply) {
    if (reply != NULL) {
        node->waiting--;
        node->heard = clock_now();
    }
}

/* ---- login */

/* A refused login would refuse every command: the next try comes after a pause. `what`: the command. The text of an
 * error may quote a password, so the log gets its code alone. */
static bool is_refused(redisAsyncContext *redis, const redisReply *reply, const char *what) {
    struct redis_node *node = redis->data;
    count_reply(node, reply);
    if (reply == NULL)
        return true;
    if (reply->type != REDIS_REPLY_ERROR)
        return false;
    if (!node->said_down)
        log_line(LEVEL_ERROR, "redis-login", LOG_STRING("host", node->options.address.host),
                 LOG_STRING("command", what), LOG_STRING("message", redis_error_code(reply->str).text));
    node->said_down = true;
    redisAsyncFree(redis); /* when this callback has returned; then on_disconnect() */
    return true;
}

static void on_login(redisAsyncContext *redis, void *reply, void *what) {
    is_refused(redis, reply, what);
}

static void on_script(redisAsyncContext *redis, void *answer, void *what) {
    struct redis_node *node = redis->data;
    const redisReply *reply = answer;
    if (is_refused(redis, reply, what))
        return;
    if (reply->type == REDIS_REPLY_STRING)
        snprintf(node->script, sizeof node->script, "%s", reply->str);
    node->logged_in = true;
    node->failures = 0;
    node->said_down = false;
    node->pause = FIRST_PAUSE;
    counter_add(&node->options.counts->connects, 1);
    log_line(LEVEL_INFO, "redis-connected", LOG_STRING("host", node->options.address.host),
             LOG_NUMBER("port", node->options.address.port));
}

static void log_in(struct redis_node *node) {
    const struct redis_address *address = &node->options.address;
    static char auth[] = "AUTH", select[] = "SELECT", load[] = "SCRIPT LOAD";
    if (*address->password != '\0' && *address->user != '\0') {
        count_command(node);
        redisAsyncCommand(node->redis, on_login, auth, "AUTH %s %s", address->user, address->password);
    } else if (*address->password != '\0') {
        count_command(node);
        redisAsyncCommand(node->redis, on_login, auth, "AUTH %s", address->password);
    }
    if (address->database != 0) {
        count_command(node);
        redisAsyncCommand(node->redis, on_login, select, "SELECT %d", address->database);
    }
    count_command(node);
    redisAsyncCommand(node->redis, on_script, load, "SCRIPT LOAD %s", node->options.script);
}

/* ---- connecting */

static void connect_to(struct redis_node *node, const char *host) {
    const struct redis_address *address = &node->options.address;
    redisAsyncContext *redis =
        address->port == 0 ? redisAsyncConnectUnix(host) : redisAsyncConnect(host, address->port);
    node->redis = redis;
    if (redis == NULL) {
        on_lost(node, "There is no memory.");
        return;
    }
    if (redis->err != 0 || !attach(node)) {
        char reason[160];
        snprintf(reason, sizeof reason, "%s", redis->err != 0 ? redis->errstr : "There is no memory.");
        redisAsyncFree(redis);
        on_lost(node, reason);
        return;
    }
    redisAsyncSetDisconnectCallback(redis, on_disconnect);
    redisAsyncSetConnectCallback(redis, on_connect);
    log_in(node);
}

static void on_found(void *context, const char *address) {
    struct redis_node *node = context;
    node->lookup = NULL;
    if (address != NULL)
        connect_to(node, address);
    else
        on_lost(node, "The host is not known.");
    if (node->redis != NULL)
        node->options.found(node->options.context, node);
}

static bool is_numeric(const char *host) {
    unsigned char address[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

static void connect_node(void *context) {
    struct redis_node *node = context;
    const struct redis_address *address = &node->options.address;
    if (address->port == 0 || is_numeric(address->host)) {
        connect_to(node, address->host);
        return;
    }
    node->lookup = loop_lookup_start(node->options.loop, address->host, on_found, node);
    if (node->lookup == NULL)
        on_lost(node, "The host cannot be looked up.");
}

struct redis_node *redis_node_new(const struct redis_node_options *options) {
    struct redis_node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return NULL;
    node->options = *options;
    node->pause = FIRST_PAUSE;
    node->retry = loop_timer_new(options->loop, connect_node, node);
    node->watch = loop_timer_new(options->loop, on_watch, node);
    if (node->retry == NULL || node->watch == NULL) {
        redis_node_free(node);
        return NULL;
    }
    connect_node(node);
    return node;
}

void redis_node_free(struct redis_node *node) {
    if (node == NULL)
        return;
    node->freeing = true;
    if (node->redis != NULL)
        redisAsyncFree(node->redis);
    loop_lookup_cancel(node->lookup);
    loop_timer_free(node->retry);
    loop_timer_free(node->watch);
    free(node);
}

/* ---- commands */

bool redis_node_is_at(const struct redis_node *node, const char *host, int port) {
    return node->options.address.port == port && strcmp(node->options.address.host, host) == 0;
}

bool redis_node_usable(const struct redis_node *node) {
    return node->redis != NULL;
}

bool redis_node_is_looked_up(const struct redis_node *node) {
    return node->lookup != NULL;
}

unsigned redis_node_failures(const struct redis_node *node) {
    return node->failures;
}

/* Called by a reply: hiredis frees the connection when that callback has returned, and then calls on_disconnect(). */
void redis_node_renew(struct redis_node *node) {
    uint64_t now = clock_now();
    if (node->redis == NULL || clock_seconds(now - node->renewed) < RENEWAL_SECONDS)
        return;
    node->renewed = now;
    redisAsyncFree(node->redis);
}

const char *redis_node_script(const struct redis_node *node) {
    return node->script;
}

static void on_reply(redisAsyncContext *redis, void *reply, void *command) {
    struct redis_node *node = redis->data;
    count_reply(node, reply);
    if (command != NULL)
        node->options.reply(command, reply);
}

bool redis_node_send(struct redis_node *node, void *command, size_t words, const char **word, const size_t *lengths) {
    if (node->redis == NULL ||
        redisAsyncCommandArgv(node->redis, on_reply, command, (int)words, word, lengths) != REDIS_OK)
        return false;
    count_command(node);
    return true;
}
