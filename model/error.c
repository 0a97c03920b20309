/* error.c: format an error's message. */
#include "model/error.h"

#include <stdarg.h>
#include <stdio.h>

bool dien_fail(struct dien_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return false;
}

bool dien_out_of_memory(struct dien_error *error) {
    return dien_fail(error, "out of memory");
}
