/* file.h: open and read the files of a model directory. Only regular files: reading a pipe or a device could block the
 * server. */
#ifndef MODEL_FORMAT_FILE_H
#define MODEL_FORMAT_FILE_H

#include "model/types.h"

/* A descriptor for the regular file PATH of *size bytes; the caller closes it. -1 on error. */
int file_open(const char *path, size_t *size, struct dien_error *error);

/* The bytes of PATH, a regular file of at most `max` bytes; the caller frees them. NULL on error. */
char *file_read_whole(const char *path, size_t max, size_t *size, struct dien_error *error);

#endif
