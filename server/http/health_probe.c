/* health_probe.c: one request, one status line. */
#include "server/http/health_probe.h"

#include "server/base/connect.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const double patience = 2; /* seconds */

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
    int descriptor = connect_to(address, patience, error, error_size);
    if (descriptor < 0)
        return false;
    bool answered = ask(descriptor, line, sizeof line);
    if (!answered)
        snprintf(error, error_size, "%s: no answer: %s", address, strerror(errno));
    close(descriptor);
    if (answered && strncmp(line, good, sizeof good - 1) != 0) {
        snprintf(error, error_size, "%s: %s", address, line);
        return false;
    }
    return answered;
}
