/* health_probe.c: one request, one status line. */
#include "server/http/health_probe.h"

#include "server/base/address.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static const struct timeval patience = {.tv_sec = 2};

/* A connection, or -1 with errno. */
static int connect_to(int family, const struct sockaddr *address, socklen_t size) {
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

/* A connection to the first of the addresses of the text that takes one, or -1 with errno. False: there is none. */
static bool connect_to_text(const char *text, int *descriptor, char *error, size_t error_size) {
    const char *path = address_path(text);
    struct sockaddr_un name;
    *descriptor = -1;
    if (path != NULL && !address_of_path(path, &name, error, error_size))
        return false;
    if (path != NULL) {
        *descriptor = connect_to(AF_UNIX, (const struct sockaddr *)&name, sizeof name);
        return true;
    }
    struct addrinfo *found = address_find(text, false, error, error_size);
    if (found == NULL)
        return false;
    for (const struct addrinfo *info = found; info != NULL && *descriptor < 0; info = info->ai_next)
        *descriptor = connect_to(info->ai_family, info->ai_addr, info->ai_addrlen);
    int why = errno;
    freeaddrinfo(found);
    errno = why;
    return true;
}

/* Ask, and read the start of the answer: its status line. */
static bool ask(int descriptor, char *line, size_t size) {
    static const char request[] = "GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    size_t got = 0;
    if (send(descriptor, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof request - 1))
        return false;
    while (got < size - 1) {
        ssize_t more = recv(descriptor, line + got, size - 1 - got, 0);
        if (more <= 0)
            break;
        got += (size_t)more;
    }
    line[got] = '\0';
    line[strcspn(line, "\r\n")] = '\0';
    return got > 0;
}

bool probe_ready(const char *address, char *error, size_t error_size) {
    static const char good[] = "HTTP/1.1 200 ";
    char line[256];
    int descriptor;
    if (!connect_to_text(address, &descriptor, error, error_size))
        return false;
    bool answered = descriptor >= 0 && ask(descriptor, line, sizeof line);
    if (!answered)
        snprintf(error, error_size, "%s: no answer: %s", address, strerror(errno));
    if (descriptor >= 0)
        close(descriptor);
    if (answered && strncmp(line, good, sizeof good - 1) != 0) {
        snprintf(error, error_size, "%s: %s", address, line);
        return false;
    }
    return answered;
}
