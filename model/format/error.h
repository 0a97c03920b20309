/* error.h: fill in a dien_error; every message names the file, key or tensor it is about. */
#ifndef MODEL_FORMAT_ERROR_H
#define MODEL_FORMAT_ERROR_H

#include "model/dien.h"

/* Always false, so that a check reads `return dien_fail(error, ...)`. */
bool dien_fail(struct dien_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
