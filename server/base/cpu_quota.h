/* cpu_quota.h: how much CPU this process may use, and how often it wanted more: cgroups v2 and v1, and the affinity
 * mask.
 *
 * More threads than the quota allows run for a part of each period and then stand still for the rest of it.
 */
#ifndef SERVER_BASE_CPU_QUOTA_H
#define SERVER_BASE_CPU_QUOTA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* `root` is where /proc and /sys are: "" on a machine. */

/* CPUs of the quota, such as 1.5; 0: no quota. The tightest of the process's cgroup and those above it. */
double cpu_quota_read(const char *root);
/* Threads that can run at once: the quota rounded down or the CPUs of the affinity mask, whichever is less; at least 1.
 */
size_t cpu_quota_threads(const char *root);

struct cpu_throttling {
    bool known; /* there is a cgroup that counts */
    uint64_t count;
    double seconds;
};
struct cpu_throttling cpu_quota_throttling(const char *root);

#endif
