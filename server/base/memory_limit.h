/* memory_limit.h: the memory that the process may have. */
#ifndef SERVER_BASE_MEMORY_LIMIT_H
#define SERVER_BASE_MEMORY_LIMIT_H

#include <stddef.h>

/* Bytes: the least of the machine's memory and of the limits of the process's cgroup and of those above it. `root` is
 * "", or for tests a directory in place of "/". 0: not known. */
size_t memory_limit_read(const char *root);

#endif
