/* listen.h: the listening socket. */
#ifndef SERVER_BASE_LISTEN_H
#define SERVER_BASE_LISTEN_H

#include "server/base/address.h"

/* Listen on an address (address.h). Returns a non-blocking descriptor that the caller closes,
 * and the address in use, with the port that the kernel chose where PORT is 0; or -1, and `error` says why. */
int listen_open(const char *address, bool reuse_port, int backlog, char bound[ADDRESS_TEXT], char *error,
                size_t error_size);

#endif
