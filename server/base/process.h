/* process.h: what the kernel knows of this process. */
#ifndef SERVER_BASE_PROCESS_H
#define SERVER_BASE_PROCESS_H

#include <stddef.h>

struct process_usage {
    double resident_bytes;
    double virtual_bytes;
    double cpu_seconds;
    double start_time_seconds; /* since 1970 */
    double open_descriptors;
    double max_descriptors;
    double threads;
};
void process_read(struct process_usage *usage);

/* Raise the soft limit of open descriptors to the hard one; returns it. */
size_t process_raise_descriptors(void);

#endif
