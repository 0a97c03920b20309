/* listen.h: the listening socket. */
#ifndef SERVER_LISTEN_H
#define SERVER_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

enum { LISTEN_TEXT = 128 };

/* Listen on HOST:PORT, [IPV6]:PORT or :PORT (every address). Returns a non-blocking descriptor that the caller closes,
 * and the address in use, with the port that the kernel chose where PORT is 0; or -1, and `error` says why. */
int listen_open(const char *address, bool reuse_port, int backlog, char bound[LISTEN_TEXT], char *error,
                size_t error_size);

#endif
