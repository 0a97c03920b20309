/* cpu_quota.h: the CPU time that this process may use, and how often it was throttled: cgroups v2 and v1, and the
 * affinity mask.
 *
 * Without this limit too many threads would use up the quota early in each period, then stop for the rest of it.
 */
#ifndef SERVER_BASE_CPU_QUOTA_H
#define SERVER_BASE_CPU_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `root` is the directory that holds /proc and /sys: "" except in tests. */

/* Returns the quota in CPUs, such as 1.5: the smallest of the process's cgroup and those above it. 0: no quota. */
double cpu_quota_read(const char *root);
/* Returns how many threads can run at once: the quota rounded down or the CPUs of the affinity mask, whichever is less,
 * but at least 1. */
size_t cpu_quota_threads(const char *root);

struct cpu_throttling {
    bool known;     /* the cgroup counts throttling */
    uint64_t count; /* periods in which the quota was used up */
    double seconds;
};
struct cpu_throttling cpu_quota_throttling(const char *root);

#endif
