/* listen.c: socket(), bind() and listen(), with errors as text. */
#include "server/base/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Returns a descriptor, or -1 with errno. */
static int listen_on(const struct addrinfo *info, bool reuse_port, int backlog) {
    int on = 1;
    int off = 0;
    int descriptor = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) { /* [::] accepts IPv4 too, on machines whose default is IPv6 only as well */
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    bool good = !reuse_port || setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
    good = good && bind(descriptor, info->ai_addr, info->ai_addrlen) == 0 && listen(descriptor, backlog) == 0;
    if (!good) {
        int reason = errno; /* which close() may change */
        close(descriptor);
        errno = reason;
        return -1;
    }
    return descriptor;
}

int listen_open(const char *address, bool reuse_port, int backlog, char bound[ADDRESS_TEXT], char *error,
                size_t error_size) {
    char reason[256];
    struct addrinfo *found = address_find(address, true, reason, sizeof reason);
    if (found == NULL) {
        snprintf(error, error_size, "--listen: %s", reason);
        return -1;
    }
    int descriptor = -1;
    for (const struct addrinfo *info = found; info != NULL && descriptor < 0; info = info->ai_next)
        descriptor = listen_on(info, reuse_port, backlog);
    if (descriptor < 0)
        snprintf(error, error_size, "--listen: \"%s\": %s", address, strerror(errno));
    freeaddrinfo(found);
    if (descriptor < 0)
        return -1;

    struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof name;
    char host[64] = "?", port[16] = "?";
    if (getsockname(descriptor, (struct sockaddr *)&name, &size) == 0)
        getnameinfo((struct sockaddr *)&name, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(bound, ADDRESS_TEXT, name.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
    return descriptor;
}
