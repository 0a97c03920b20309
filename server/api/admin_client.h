/* admin_client.h: --admin: one call of a running server's admin plane, where there is no shell and no curl. */
#ifndef SERVER_API_ADMIN_CLIENT_H
#define SERVER_API_ADMIN_CLIENT_H

#include "server/options.h"

#include <stdio.h>

/* Writes the answer to `out`, or why there is none to `errors`. Returns the exit status: 0, or 1 where the server
 * refuses or does not answer, or 2 where the words are no call. */
int admin_client_run(const struct options *options, FILE *out, FILE *errors);

#endif
