/* request_id.c: an id from outside goes into headers and logs, so it is looked at first. */
#include "server/request_id.h"

#include "server/clock.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static bool is_acceptable(const char *id) {
    static const char accepted[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/=+@,;|#";
    size_t length = strnlen(id, REQUEST_ID_MOST + 1);
    return length > 0 && length <= REQUEST_ID_MOST && strspn(id, accepted) == length;
}

static void make(char *id) {
    unsigned char bytes[16];
    if (getrandom(bytes, sizeof bytes, GRND_NONBLOCK) != (ssize_t)sizeof bytes) {
        uint64_t now = clock_now(); /* early at boot: still unlike any other of this process */
        memset(bytes, 0, sizeof bytes);
        memcpy(bytes, &now, sizeof now);
    }
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(id + 2 * i, 3, "%02x", bytes[i]);
}

void request_id_choose(const char *given, char id[REQUEST_ID_MOST + 1]) {
    if (given != NULL && is_acceptable(given))
        memcpy(id, given, strlen(given) + 1);
    else
        make(id);
}
