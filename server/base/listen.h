/* listen.h: opens the listening socket. */
#ifndef SERVER_BASE_LISTEN_H
#define SERVER_BASE_LISTEN_H

#include "server/base/address.h"

/* Listen on an address (address.h). Returns a non-blocking descriptor that the caller closes, and in `bound` the
 * address in use; its port is the kernel's choice where PORT is 0. On error returns -1, with the reason in `error`. */
int listen_open(const char *address, bool reuse_port, int backlog, char bound[ADDRESS_TEXT], char *error,
                size_t error_size);

#endif
