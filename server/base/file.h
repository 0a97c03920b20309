/* file.h: reads a small file, such as those of /proc and /sys, into a buffer. */
#ifndef SERVER_BASE_FILE_H
#define SERVER_BASE_FILE_H

#include <stddef.h>

/* Read at most size - 1 bytes and end them with '\0'. Returns their count; 0 also when the file cannot be read. */
size_t file_read(const char *path, char *text, size_t size);

#endif
