/* file.c: open regular files only. */
#include "model/format/file.h"

#include "model/format/error.h"

#include <errno.h>
#include <fcntl.h>
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
