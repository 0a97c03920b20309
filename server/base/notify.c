/* notify.c: a datagram of sd_notify(3), without its library. */
#include "server/base/notify.h"

#include "server/base/clock.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

void notify(const char *message) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = path != NULL ? strlen(path) : 0;
    if (length < 2 || length >= sizeof name.sun_path || (*path != '/' && *path != '@'))
        return;
    memcpy(name.sun_path, path, length);
    if (*path == '@') /* an abstract socket */
        name.sun_path[0] = '\0';
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0)
        return;
    (void)!sendto(descriptor, message, strlen(message), MSG_NOSIGNAL, (const struct sockaddr *)&name,
                  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
    close(descriptor);
}

/* systemd 253 and later want the time at which the reload began, by CLOCK_MONOTONIC; earlier ones ignore it. */
void notify_reloading(void) {
    char text[64];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
             (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
    notify(text);
}

/* In nanoseconds between two signs of life. 0: systemd wants none from this process. */
static uint64_t watchdog_period(void) {
    const char *microseconds = getenv("WATCHDOG_USEC"), *process = getenv("WATCHDOG_PID");
    if (microseconds == NULL || (process != NULL && strtol(process, NULL, 10) != (long)getpid()))
        return 0;
    return strtoull(microseconds, NULL, 10) * 1000 / 4;
}

void notify_alive(void) {
    static uint64_t last;
    uint64_t now = clock_now(), period = watchdog_period();
    if (period == 0 || now - last < period)
        return;
    last = now;
    notify("WATCHDOG=1");
}
