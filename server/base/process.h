/* process.h: this process's memory, time, descriptors and threads, as the kernel counts them. */
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
/* A value that cannot be read is 0. */
void process_read(struct process_usage *usage);

/* Memory of large blocks, such as replies of a slow client, returns to the system when they are freed. Before any
 * thread starts. */
void process_return_memory(void);

/* Raises the soft limit of open descriptors to the hard limit, and returns it. */
size_t process_raise_descriptors(void);

#endif
