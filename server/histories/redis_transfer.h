/* redis_transfer.h: all histories of a Redis or a cluster, out and in, by hiredis's blocking interface. */
#ifndef SERVER_HISTORIES_REDIS_TRANSFER_H
#define SERVER_HISTORIES_REDIS_TRANSFER_H

#include "server/histories/history_engine.h"
#include "server/histories/redis_address.h"

#include <stdbool.h>
#include <stddef.h>

struct redis_transfer {
    const struct redis_address *address; /* of any node of a cluster */
    const char *prefix;
    const char *ttl; /* milliseconds; "0": none */
};

/* As history_store_export() and _import(). */
bool redis_export(const struct redis_transfer *transfer, history_each *each, void *context, char *error,
                  size_t error_size);
bool redis_import(const struct redis_transfer *transfer, history_next *next, void *context, char *error,
                  size_t error_size);

/* A user who was deleted leaves a bare revision for a while, so that a change on its way does not bring the user back.
 */
static inline bool redis_is_tombstone(struct proto_string record) {
    return record.data != NULL && record.length == HISTORY_REVISION_BYTES;
}

/* The code of an error reply, such as NOAUTH. What follows it may quote a key, which is a user's id. */
struct redis_error_code {
    char text[32];
};
struct redis_error_code redis_error_code(const char *reply);

/* Reads the "SLOT HOST:PORT" of MOVED and ASK. A host that the cluster does not tell is "". */
bool redis_read_redirection(const char *text, unsigned *slot, char host[REDIS_HOST_MOST], int *port);

#endif
