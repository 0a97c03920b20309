/* error.c: one line that formats an error. */
#include "model/format/error.h"

#include <stdarg.h>
#include <stdio.h>

bool dien_fail(struct dien_error *error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    return false;
}
