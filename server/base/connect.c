/* connect.c: socket() and connect() with limits of time. */
#include "server/base/connect.h"

#include "server/base/address.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* A connection, or -1 with errno. */
static int try_address(int family, const struct sockaddr *address, socklen_t size, double seconds) {
    const struct timeval patience = {.tv_sec = (time_t)seconds,
                                     .tv_usec = (suseconds_t)(1e6 * (seconds - floor(seconds)))};
    int descriptor = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(descriptor, address, size) == 0)
        return descriptor;
    int why = errno;
    close(descriptor);
    errno = why;
    return -1;
}

int connect_to(const char *address, double seconds, char *error, size_t error_size) {
    const char *path = address_path(address);
    struct sockaddr_un name;
    int descriptor = -1, why = 0;
    if (path != NULL) {
        if (!address_of_path(path, &name, error, error_size))
            return -1;
        descriptor = try_address(AF_UNIX, (const struct sockaddr *)&name, sizeof name, seconds);
        why = errno;
    } else {
        struct addrinfo *found = address_find(address, false, error, error_size);
        if (found == NULL)
            return -1;
        for (const struct addrinfo *info = found; info != NULL && descriptor < 0; info = info->ai_next) {
            descriptor = try_address(info->ai_family, info->ai_addr, info->ai_addrlen, seconds);
            why = errno;
        }
        freeaddrinfo(found);
    }
    if (descriptor < 0)
        snprintf(error, error_size, "%s: no answer: %s", address, strerror(why));
    return descriptor;
}
