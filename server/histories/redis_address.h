/* redis_address.h: where a Redis is and how to log in; hash slots of a cluster. */
#ifndef SERVER_HISTORIES_REDIS_ADDRESS_H
#define SERVER_HISTORIES_REDIS_ADDRESS_H

#include "proto/score.h"

#include <stdbool.h>
#include <stddef.h>

enum { REDIS_SLOTS = 16384, REDIS_HOST_MOST = 256, REDIS_SECRET_MOST = 512 };

struct redis_address {
    char host[REDIS_HOST_MOST]; /* or the path of a unix socket */
    int port;                   /* 0: a unix socket */
    int database;
    char user[REDIS_SECRET_MOST]; /* "": the default user */
    char password[REDIS_SECRET_MOST];
};

/* Reads redis://[USER:PASSWORD@]HOST:PORT[/DB] or unix:PATH. The password's file, if there is one, goes before the
 * address's. False with the reason in `error`, which never repeats a password. */
bool redis_address_read(const char *text, const char *password_file, struct redis_address *address, char *error,
                        size_t error_size);

/* The slot of a key: a part in braces, if there is one, decides alone. */
unsigned redis_slot(struct proto_string key);

#endif
