/* file.h: open a file of a model directory, if it is one: a pipe or a device there must not hold the server up. */
#ifndef MODEL_FORMAT_FILE_H
#define MODEL_FORMAT_FILE_H

#include "model/dien.h"

/* A descriptor to read PATH, a regular file of *size bytes; the caller closes it. -1 on error. */
int file_open(const char *path, size_t *size, struct dien_error *error);

#endif
