/* admin_access.h: who may use the admin plane: the token, the Host and the Origin of a request. */
#ifndef SERVER_API_ADMIN_ACCESS_H
#define SERVER_API_ADMIN_ACCESS_H

#include "proto/problem.h"
#include "server/base/listen.h"
#include "server/base/secret.h"
#include "server/http/http.h"

#include <stdbool.h>
#include <stddef.h>

struct admin_access {
    const char *token_file; /* NULL: no token is needed */
    struct secret token;
    const char *listen; /* the text of --admin-listen */
    const char *host;   /* HOST:PORT that a request may also name; NULL: none */
    bool is_file;       /* it listens at a unix socket, which browsers cannot reach */
};

/* False where the socket can be reached from other machines and there is no token, or the token's file cannot be read:
 * `error` has the reason. Texts must outlive it. */
bool admin_access_start(struct admin_access *access, const struct listen_socket *listening, const char *listen,
                        const char *host, const char *token_file, char *error, size_t error_size);
/* Reads the token's file again. False where it cannot be read: the token stays as it was. */
bool admin_access_renew(struct admin_access *access, char *error, size_t error_size);
/* Sets *problem where the request may not be made: without the token, with a Host that is not the address of the admin
 * plane, or from a page of another site. A call that only reads, with the token, may have any Host. */
void admin_access_check(const struct admin_access *access, const struct exchange *exchange, const char *target,
                        struct problem *problem);

#endif
