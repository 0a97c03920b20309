/* error.h: fill in a dien_error. Every message names the file, key or tensor at fault. */
#ifndef MODEL_ERROR_H
#define MODEL_ERROR_H

#include "model/types.h"

/* Both return false, so that a check reads `return dien_fail(error, ...)`. */
bool dien_fail(struct dien_error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool dien_out_of_memory(struct dien_error *error);

#endif
