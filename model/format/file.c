/* file.c: open and read regular files. */
#include "model/format/file.h"

#include "model/error.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int file_open(const char *path, size_t *size, struct dien_error *error) {
    struct stat status;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would block */
    if (descriptor < 0) {
        dien_fail(error, "%s: cannot open: %s", path, strerror(errno));
        return -1;
    }
    if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) {
        *size = (size_t)status.st_size;
        return descriptor;
    }
    dien_fail(error, "%s: not a regular file", path);
    close(descriptor);
    return -1;
}

char *file_read_whole(const char *path, size_t max, size_t *size, struct dien_error *error) {
    int descriptor = file_open(path, size, error);
    if (descriptor < 0)
        return NULL;
    char *bytes = *size <= max ? malloc(*size + 1) : NULL;
    ssize_t got = bytes != NULL ? read(descriptor, bytes, *size) : -1;
    close(descriptor);
    if (got >= 0 && (size_t)got == *size)
        return bytes;
    free(bytes);
    dien_fail(error, "%s: cannot read %zu bytes (at most %zu are allowed)", path, *size, max);
    return NULL;
}
