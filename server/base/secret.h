/* secret.h: a bearer token that is kept in a file, and whether a request brings it. */
#ifndef SERVER_BASE_SECRET_H
#define SERVER_BASE_SECRET_H

#include <stdbool.h>
#include <stddef.h>

enum { SECRET_MAX = 255 };

struct secret {
    char text[SECRET_MAX + 1]; /* "": there is none, and no request brings it */
};

/* Reads the file's one line: 1 to SECRET_MAX visible characters of ASCII. On error the secret stays as it was, and
 * `error` has the reason. */
bool secret_read(struct secret *secret, const char *path, char *error, size_t error_size);
/* Whether the value of an Authorization header is "Bearer" and this secret; NULL: there is no such header. The time
 * that it takes does not depend on the secret's characters. */
bool secret_is_borne(const struct secret *secret, const char *authorization);

#endif
