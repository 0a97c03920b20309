/* file.c: a file into a buffer. */
#include "server/base/file.h"

#include <stdio.h>

size_t file_read(const char *path, char *text, size_t size) {
    size_t count = 0;
    FILE *in = fopen(path, "re");
    if (in != NULL) {
        count = fread(text, 1, size - 1, in);
        fclose(in);
    }
    text[count] = '\0';
    return count;
}
