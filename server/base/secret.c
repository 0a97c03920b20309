/* secret.c: reads a bearer token, and compares it in constant time. */
#include "server/base/secret.h"

#include "server/base/file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_visible(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    }
    return length > 0;
}

bool secret_read(struct secret *secret, const char *path, char *error, size_t error_size) {
    enum { ROOM = SECRET_MAX + 16 };
    char text[ROOM];
    errno = 0;
    size_t length = file_read(path, text, sizeof text);
    int reason = errno;
    while (length > 0 && strchr("\r\n ", text[length - 1]) != NULL)
        length--;
    if (length == 0 && reason != 0) {
        snprintf(error, error_size, "\"%s\": %s", path, strerror(reason));
        return false;
    }
    if (length > SECRET_MAX || !is_visible(text, length)) {
        snprintf(error, error_size, "\"%s\": a token has 1 to %d visible characters of ASCII", path, SECRET_MAX);
        return false;
    }
    memset(secret->text, 0, sizeof secret->text);
    memcpy(secret->text, text, length);
    return true;
}

/* Every byte of both buffers is looked at, so that nobody finds the token letter by letter. */
static bool equal(const char left[SECRET_MAX + 1], const char right[SECRET_MAX + 1]) {
    volatile unsigned char difference = 0;
    for (size_t i = 0; i <= SECRET_MAX; i++)
        difference |= (unsigned char)(left[i] ^ right[i]);
    return difference == 0;
}

bool secret_is_borne(const struct secret *secret, const char *authorization) {
    static const char scheme[] = "Bearer ";
    char brought[SECRET_MAX + 1] = "";
    if (authorization == NULL || strncasecmp(authorization, scheme, sizeof scheme - 1) != 0)
        return false;
    const char *token = authorization + sizeof scheme - 1;
    token += strspn(token, " ");
    size_t length = strlen(token);
    if (length == 0 || length > SECRET_MAX || *secret->text == '\0')
        return false;
    memcpy(brought, token, length + 1);
    return equal(brought, secret->text);
}
