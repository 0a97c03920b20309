/* listen.c: from a text such as "[::1]:8080" to a socket that listens there. */
#include "server/listen.h"

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* getaddrinfo() would take 70000 for 4464. */
static bool is_port(const char *text) {
    char *end = NULL;
    unsigned long port = strtoul(text, &end, 10);
    return isdigit((unsigned char)*text) && *end == '\0' && port <= UINT16_MAX;
}

/* "[::1]:80" is "::1" and "80". */
static bool split(const char *address, char host[LISTEN_TEXT], const char **port) {
    const char *colon = strrchr(address, ':');
    if (colon == NULL || !is_port(colon + 1) || strlen(address) >= LISTEN_TEXT)
        return false;
    size_t length = (size_t)(colon - address);
    bool brackets = length >= 2 && address[0] == '[' && address[length - 1] == ']';
    if (!brackets && memchr(address, ':', length) != NULL)
        return false;
    const char *from = brackets ? address + 1 : address;
    length -= brackets ? 2 : 0;
    memcpy(host, from, length);
    host[length] = '\0';
    *port = colon + 1;
    return true;
}

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

static void name_of(int descriptor, char bound[LISTEN_TEXT]) {
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    char host[64] = "?";
    char port[16] = "?";
    if (getsockname(descriptor, (struct sockaddr *)&address, &size) == 0) {
        getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    }
    snprintf(bound, LISTEN_TEXT, address.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

int listen_open(const char *address, bool reuse_port, int backlog, char bound[LISTEN_TEXT], char *error,
                size_t error_size) {
    char host[LISTEN_TEXT];
    const char *port = NULL;
    if (!split(address, host, &port)) {
        snprintf(error, error_size, "--listen: \"%s\" is not HOST:PORT, nor [IPV6]:PORT", address);
        return -1;
    }
    const struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(*host == '\0' ? NULL : host, port, &hints, &found);
    if (status != 0) {
        snprintf(error, error_size, "--listen: \"%s\": %s", address, gai_strerror(status));
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
