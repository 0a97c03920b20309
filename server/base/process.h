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
/* A value that cannot be read is 0. `sockets`: the sockets that are open, which the caller has counted. A kernel before
 * 6.2 tells no number of open descriptors. Listing them takes time for each, so above a few hundred sockets the last
 * count of the other descriptors is added to `sockets`. A few microseconds; one thread at a time. */
void process_read(struct process_usage *usage, size_t sockets);

/* The number of open descriptors: `told` by the kernel, or 0 where it does not tell. Then it is `sockets` and the
 * others, which list() counts, with the sockets, while those are few. */
size_t process_descriptors(size_t told, size_t sockets, size_t (*list)(void), size_t *others);

/* Memory of large blocks, such as replies of a slow client, returns to the system when they are freed. Before any
 * thread starts. */
void process_return_memory(void);

/* Raises the soft limit of open descriptors to the hard limit, and returns it. */
size_t process_raise_descriptors(void);

#endif
