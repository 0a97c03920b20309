/* listen.h: opens the listening socket. */
#ifndef SERVER_BASE_LISTEN_H
#define SERVER_BASE_LISTEN_H

#include "server/base/address.h"

#include <stdint.h>

/* A socket with an address of its own. */
struct listen_socket {
    int descriptor;             /* non-blocking; the caller closes it */
    char address[ADDRESS_TEXT]; /* in use; its port is the kernel's choice where PORT is 0 */
    const char *path;           /* of unix:PATH, the caller's text; NULL: none */
    uint64_t device, inode;     /* of the file at the path */
};

/* Takes an address (address.h): it is nobody else's from now on, but connections are refused until listen_begin().
 * `reuse_port` is for TCP: others may share the port. `mode` has the permissions of a file at PATH. A socket that a
 * server left there when it was killed is removed; one that a server listens at is not, nor is any other file. False on
 * error, with the reason in `error`. */
bool listen_bind(struct listen_socket *listening, const char *address, bool reuse_port, unsigned mode, char *error,
                 size_t error_size);
bool listen_begin(const struct listen_socket *listening, int backlog, char *error, size_t error_size);
/* Removes the file at PATH, if it is still that of this socket. */
void listen_remove(const struct listen_socket *listening);

/* listen_bind() and listen_begin(). Returns the descriptor, with the address in use in `bound`, or -1. */
int listen_open(const char *address, bool reuse_port, int backlog, char bound[ADDRESS_TEXT], char *error,
                size_t error_size);

#endif
