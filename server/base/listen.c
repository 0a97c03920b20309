/* listen.c: a socket that listens on an address. */
#include "server/base/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket that listens on one address, or -1 with errno. */
static int listen_on(const struct addrinfo *info, bool reuse_port, int backlog) {
    int on = 1;
    int off = 0;
    int descriptor = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) { /* [::] takes IPv4 too, whatever the machine's default is */
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    bool good = !reuse_port || setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
    good = good && bind(descriptor, info->ai_addr, info->ai_addrlen) == 0 && listen(descriptor, backlog) == 0;
    if (!good) {
        int why = errno;
        close(descriptor);
        errno = why;
        return -1;
    }
    return descriptor;
}

static void name_of(int descriptor, char bound[ADDRESS_TEXT]) {
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    char host[64] = "?";
    char port[16] = "?";
    if (getsockname(descriptor, (struct sockaddr *)&address, &size) == 0) {
        getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    snprintf(bound, ADDRESS_TEXT, address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

int listen_open(const char *address, bool reuse_port, int backlog, char bound[ADDRESS_TEXT], char *error,
                size_t error_size) {
    char why[256];
    struct addrinfo *found = address_find(address, true, why, sizeof why);
    if (found == NULL) {
        snprintf(error, error_size, "--listen: %s", why);
        return -1;
    }
    int descriptor = -1;
    for (const struct addrinfo *info = found; info != NULL && descriptor < 0; info = info->ai_next)
        descriptor = listen_on(info, reuse_port, backlog);
    if (descriptor < 0) {
        snprintf(error, error_size, "--listen: \"%s\": %s", address, strerror(errno));
    } else {
        name_of(descriptor, bound);
    }
    freeaddrinfo(found);
    return descriptor;
}
