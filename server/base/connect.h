/* connect.h: a blocking connection to a server, for the commands that ask one. */
#ifndef SERVER_BASE_CONNECT_H
#define SERVER_BASE_CONNECT_H

#include <stddef.h>

/* Connects to the first address of a text (address.h) that takes a connection. The connection, and each wait for bytes,
 * may take `seconds`. Returns a descriptor, the caller's, or -1 with the reason in `error`. */
int connect_to(const char *address, double seconds, char *error, size_t error_size);

#endif
