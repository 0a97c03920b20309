/* redis_transfer.c: SCAN of each master, SET by the node that a key's slot belongs to. */
#include "server/histories/redis_transfer.h"

#include <ctype.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MASTERS_MOST = 128, TRANSFER_SECONDS = 10, HOPS_MOST = 5 };

/* The masters that were met. */
struct masters {
    const struct redis_transfer *transfer;
    struct {
        char host[REDIS_HOST_MOST];
        int port;
        redisContext *redis; /* NULL: not connected yet */
    } node[MASTERS_MOST];
    size_t count;
    char *error;
    size_t error_size;
};

struct redis_error_code redis_error_code(const char *reply) {
    struct redis_error_code code = {""};
    size_t length = 0;
    while (length < sizeof code.text - 1 && (isupper((unsigned char)reply[length]) || reply[length] == '_'))
        length++;
    memcpy(code.text, reply, length);
    return length > 0 ? code : (struct redis_error_code){"ERR"};
}

bool redis_read_redirection(const char *text, unsigned *slot, char host[REDIS_HOST_MOST], int *port) {
    char *end = NULL;
    unsigned long number = strtoul(text, &end, 10);
    const char *colon = strrchr(text, ':');
    if (end == text || *end != ' ' || colon <= end || number >= REDIS_SLOTS || colon - end > REDIS_HOST_MOST)
        return false;
    size_t length = (size_t)(colon - end) - 1;
    memcpy(host, end + 1, length);
    host[length] = '\0';
    if (strcmp(host, "?") == 0)
        *host = '\0';
    long value = strtol(colon + 1, &end, 10);
    if (end == colon + 1 || value < 1 || value > 65535)
        return false;
    *slot = (unsigned)number;
    *port = (int)value;
    return true;
}

static bool explain(struct masters *masters, const char *reason) {
    snprintf(masters->error, masters->error_size, "Redis: %s", reason);
    return false;
}

/* NULL for an error, which is explained. */
static redisReply *ask(struct masters *masters, redisContext *redis, redisReply *reply) {
    if (reply == NULL)
        explain(masters, redis->errstr);
    else if (reply->type == REDIS_REPLY_ERROR)
        explain(masters, redis_error_code(reply->str).text);
    if (reply == NULL || reply->type != REDIS_REPLY_ERROR)
        return reply;
    freeReplyObject(reply);
    return NULL;
}

static bool ask_only(struct masters *masters, redisContext *redis, redisReply *reply) {
    reply = ask(masters, redis, reply);
    freeReplyObject(reply);
    return reply != NULL;
}

static bool log_in(struct masters *masters, redisContext *redis) {
    const struct redis_address *address = masters->transfer->address;
    bool good = true;
    if (*address->password != '\0')
        good = ask_only(masters, redis,
                        *address->user != '\0' ? redisCommand(redis, "AUTH %s %s", address->user, address->password)
                                               : redisCommand(redis, "AUTH %s", address->password));
    return good &&
           (address->database == 0 || ask_only(masters, redis, redisCommand(redis, "SELECT %d", address->database)));
}

/* A connection that is logged in; NULL: the reason is explained. */
static redisContext *connect_to(struct masters *masters, const char *host, int port) {
    struct timeval limit = {.tv_sec = TRANSFER_SECONDS};
    redisContext *redis =
        port == 0 ? redisConnectUnixWithTimeout(host, limit) : redisConnectWithTimeout(host, port, limit);
    if (redis == NULL) {
        explain(masters, "There is no memory.");
        return NULL;
    }
    bool reached = redis->err == 0 && redisSetTimeout(redis, limit) == REDIS_OK;
    if (reached && log_in(masters, redis))
        return redis;
    if (!reached)
        explain(masters, redis->errstr);
    redisFree(redis);
    return NULL;
}

/* The place of a master, or MASTERS_MOST. A host that is not told is the operator's. */
static size_t add_master(struct masters *masters, const char *host, int port) {
    if (*host == '\0' || strcmp(host, "?") == 0)
        host = masters->transfer->address->host;
    for (size_t i = 0; i < masters->count; i++)
        if (masters->node[i].port == port && strcmp(masters->node[i].host, host) == 0)
            return i;
    if (masters->count == MASTERS_MOST || strlen(host) >= REDIS_HOST_MOST) {
        explain(masters, "The cluster has too many masters.");
        return MASTERS_MOST;
    }
    memmove(masters->node[masters->count].host, host, strlen(host) + 1);
    masters->node[masters->count].port = port;
    return masters->count++;
}

static redisContext *connection(struct masters *masters, size_t place) {
    if (masters->node[place].redis == NULL)
        masters->node[place].redis = connect_to(masters, masters->node[place].host, masters->node[place].port);
    return masters->node[place].redis;
}

static struct masters *begin(const struct redis_transfer *transfer, char *error, size_t error_size) {
    struct masters *masters = calloc(1, sizeof *masters);
    if (masters == NULL) {
        snprintf(error, error_size, "Redis: There is no memory.");
        return NULL;
    }
    masters->transfer = transfer;
    masters->error = error;
    masters->error_size = error_size;
    add_master(masters, transfer->address->host, transfer->address->port);
    return masters;
}

static bool end(struct masters *masters, bool good) {
    for (size_t i = 0; masters != NULL && i < masters->count; i++)
        if (masters->node[i].redis != NULL)
            redisFree(masters->node[i].redis);
    free(masters);
    return good;
}

/* ---- out */

/* The prefix as a pattern in which no letter means another. */
static char *pattern_of(const char *prefix) {
    char *pattern = malloc(2 * strlen(prefix) + 2), *at = pattern;
    if (pattern == NULL)
        return NULL;
    for (; *prefix != '\0'; prefix++) {
        if (strchr("*?[]\\^", *prefix) != NULL)
            *at++ = '\\';
        *at++ = *prefix;
    }
    memcpy(at, "*", 2);
    return pattern;
}

/* CLUSTER SLOTS: ranges of [first, last, [host, port, ...], replicas...]. A Redis that is no cluster has none. */
static bool find_masters(struct masters *masters) {
    redisContext *redis = connection(masters, 0);
    if (redis == NULL)
        return false;
    redisReply *reply = redisCommand(redis, "CLUSTER SLOTS");
    if (reply == NULL)
        return explain(masters, redis->errstr);
    bool cluster = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0, good = true;
    if (cluster)
        masters->count = 0; /* the operator's node may be a replica */
    redisContext *first = redis;
    masters->node[0].redis = cluster ? NULL : redis;
    for (size_t i = 0; cluster && good && i < reply->elements; i++) {
        const redisReply *range = reply->element[i];
        const redisReply *place = range->type == REDIS_REPLY_ARRAY && range->elements > 2 ? range->element[2] : NULL;
        good = place != NULL && place->elements > 1 && place->element[1]->type == REDIS_REPLY_INTEGER;
        if (good)
            good = add_master(masters, place->element[0]->type == REDIS_REPLY_STRING ? place->element[0]->str : "",
                              (int)place->element[1]->integer) < MASTERS_MOST;
        else
            explain(masters, "CLUSTER SLOTS cannot be read.");
    }
    if (cluster)
        redisFree(first);
    freeReplyObject(reply);
    return good;
}

/* One page of SCAN, which may name a key twice. False: an error; or *ended by `each`. */
static bool export_page(struct masters *masters, redisContext *redis, const redisReply *page, history_each *each,
                        void *context, bool *ended) {
    size_t prefix = strlen(masters->transfer->prefix);
    for (size_t i = 0; i < page->element[1]->elements && !*ended; i++) {
        const redisReply *key = page->element[1]->element[i];
        redisReply *reply = redisCommand(redis, "GET %b", key->str, key->len);
        bool elsewhere = reply != NULL && reply->type == REDIS_REPLY_ERROR && /* on its way to another node */
                         (strncmp(reply->str, "MOVED", 5) == 0 || strncmp(reply->str, "ASK", 3) == 0);
        if (elsewhere) {
            freeReplyObject(reply);
            return explain(masters, "Slots move between the nodes of the cluster: try again later.");
        }
        reply = ask(masters, redis, reply);
        if (reply == NULL)
            return false;
        struct proto_string record = {reply->str, reply->len};
        if (reply->type == REDIS_REPLY_STRING && !redis_is_tombstone(record))
            *ended = !each(context, (struct proto_string){key->str + prefix, key->len - prefix}, record);
        freeReplyObject(reply);
    }
    return true;
}

static bool export_node(struct masters *masters, size_t place, const char *pattern, history_each *each, void *context,
                        bool *ended) {
    redisContext *redis = connection(masters, place);
    char cursor[32] = "0";
    bool good = redis != NULL, done = false;
    while (good && !*ended && !done) {
        redisReply *page = ask(masters, redis, redisCommand(redis, "SCAN %s MATCH %s COUNT 1000", cursor, pattern));
        good = page != NULL && page->type == REDIS_REPLY_ARRAY && page->elements == 2 &&
               export_page(masters, redis, page, each, context, ended);
        if (good) {
            snprintf(cursor, sizeof cursor, "%s", page->element[0]->str);
            done = strcmp(cursor, "0") == 0;
        }
        freeReplyObject(page);
    }
    return good;
}

bool redis_export(const struct redis_transfer *transfer, history_each *each, void *context, char *error,
                  size_t error_size) {
    struct masters *masters = begin(transfer, error, error_size);
    if (masters == NULL)
        return false;
    char *pattern = pattern_of(transfer->prefix);
    bool good = pattern != NULL ? find_masters(masters) : explain(masters, "There is no memory."), ended = false;
    for (size_t i = 0; good && !ended && i < masters->count; i++)
        good = export_node(masters, i, pattern, each, context, &ended);
    free(pattern);
    return end(masters, good);
}

/* ---- in */

static redisReply *set(struct masters *masters, redisContext *redis, struct proto_string user,
                       struct proto_string record) {
    const char *prefix = masters->transfer->prefix, *ttl = masters->transfer->ttl;
    return strcmp(ttl, "0") == 0
               ? redisCommand(redis, "SET %s%b %b", prefix, user.data, user.length, record.data, record.length)
               : redisCommand(redis, "SET %s%b %b PX %s", prefix, user.data, user.length, record.data, record.length,
                              ttl);
}

static bool import_one(struct masters *masters, struct proto_string user, struct proto_string record) {
    static const char moved[] = "MOVED ";
    size_t place = 0;
    for (size_t hop = 0; hop < HOPS_MOST; hop++) {
        redisContext *redis = connection(masters, place);
        redisReply *reply = redis != NULL ? set(masters, redis, user, record) : NULL;
        if (reply == NULL)
            return redis == NULL ? false : explain(masters, redis->errstr);
        char host[REDIS_HOST_MOST];
        unsigned slot;
        int port;
        bool elsewhere = reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, moved, sizeof moved - 1) == 0 &&
                         redis_read_redirection(reply->str + sizeof moved - 1, &slot, host, &port);
        if (!elsewhere)
            return ask_only(masters, redis, reply);
        freeReplyObject(reply);
        place = add_master(masters, host, port);
        if (place == MASTERS_MOST)
            return false;
    }
    return explain(masters, "Slots move between the nodes of the cluster: try again later.");
}

bool redis_import(const struct redis_transfer *transfer, history_next *next, void *context, char *error,
                  size_t error_size) {
    struct masters *masters = begin(transfer, error, error_size);
    struct proto_string user, record;
    bool good = masters != NULL;
    while (good && next(context, &user, &record))
        good = import_one(masters, user, record);
    return end(masters, good);
}
