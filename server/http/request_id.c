/* request_id.c: an id from outside goes into headers and logs, so it is looked at first. */
#include "server/http/request_id.h"

#include "proto/digits.h"
#include "server/base/clock.h"

#include <stdbool.h>
#include <string.h>
#include <sys/random.h>

enum { ID_BYTES = 16, IDS_A_CALL = 16 }; /* 256 bytes are what getrandom() gives without a break */

static bool is_acceptable(const char *id) {
    static const char accepted[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/=+@,;|#";
    size_t length = strnlen(id, REQUEST_ID_MAX + 1);
    return length > 0 && length <= REQUEST_ID_MAX && strspn(id, accepted) == length;
}

/* Random bytes for a few ids, from the kernel at one go: ids must differ, but are no secret. The loop's thread alone is
 * here. */
static const unsigned char *take_random(void) {
    static unsigned char bytes[IDS_A_CALL][ID_BYTES];
    static size_t used = IDS_A_CALL;
    if (used == IDS_A_CALL && getrandom(bytes, sizeof bytes, GRND_NONBLOCK) == (ssize_t)sizeof bytes)
        used = 0;
    if (used < IDS_A_CALL)
        return bytes[used++];
    uint64_t now = clock_now(); /* early at boot: still unlike any other of this process */
    memcpy(bytes[0], &now, sizeof now);
    return bytes[0];
}

static void make(char *id) {
    const unsigned char *bytes = take_random();
    for (size_t i = 0; i < ID_BYTES; i++) {
        id[2 * i] = digits_hex(bytes[i] >> 4);
        id[2 * i + 1] = digits_hex(bytes[i] & 15);
    }
    id[2 * (size_t)ID_BYTES] = '\0';
}

void request_id_choose(const char *given, char id[REQUEST_ID_MAX + 1]) {
    if (given != NULL && is_acceptable(given))
        memcpy(id, given, strlen(given) + 1);
    else
        make(id);
}
