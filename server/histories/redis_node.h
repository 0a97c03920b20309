/* redis_node.h: a connection to one Redis that comes back by itself: names, login, back-off, silence. For the loop's
 * thread. */
#ifndef SERVER_HISTORIES_REDIS_NODE_H
#define SERVER_HISTORIES_REDIS_NODE_H

#include "server/base/loop.h"
#include "server/histories/history_store.h"
#include "server/histories/redis_address.h"

#include <stdbool.h>
#include <stddef.h>

struct redis_node;
struct redisReply;

/* The answer to a command, valid during the call; NULL: the connection was lost before it came. */
typedef void redis_node_reply(void *command, struct redisReply *reply);

struct redis_node_options {
    struct loop *loop;
    struct redis_address address;
    const char *script; /* loaded at every login */
    struct history_counts *counts;
    redis_node_reply *reply;
    void (*found)(void *context, struct redis_node *node); /* its address, after redis_node_is_looked_up() */
    void (*lost)(void *context, struct redis_node *node);  /* after its commands had their NULL */
    void *context;
};

/* Connects at once. NULL: memory is out. */
struct redis_node *redis_node_new(const struct redis_node_options *options);
/* Commands without a reply get NULL. */
void redis_node_free(struct redis_node *node);

bool redis_node_is_at(const struct redis_node *node, const char *host, int port);
/* A connection is there, or on its way. */
bool redis_node_usable(const struct redis_node *node);
/* Its host's address is being asked for: `found` or `lost` follows. */
bool redis_node_is_looked_up(const struct redis_node *node);
/* Connections that failed since the last one that was logged in. */
unsigned redis_node_failures(const struct redis_node *node);
/* Connects anew, since another server may have the address by now; not more than once a second. Not from `lost`. */
void redis_node_renew(struct redis_node *node);
/* False if there is no connection. `command` NULL: the reply is not looked at. */
bool redis_node_send(struct redis_node *node, void *command, size_t words, const char **word, const size_t *lengths);
/* The name under which the server knows the script. */
const char *redis_node_script(const struct redis_node *node);

#endif
