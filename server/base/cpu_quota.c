/* cpu_quota.c: cpu.max and cpu.stat (v2) or cpu.cfs_* (v1) of the process's cgroup. */
#include "server/base/cpu_quota.h"

#include "server/base/cgroup.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct cgroup_controller cpu = {"cpu", "cpu.stat", "cpu.cfs_quota_us"};

/* CPUs that this one cgroup allows; 0: no quota. */
static double read_quota(const struct cgroup *cgroup) {
    char text[128];
    double quota = 0, period = 0;
    if (cgroup->v2) { /* "max 100000" or "150000 100000" */
        if (!cgroup_read(cgroup, "cpu.max", text, sizeof text))
            return 0;
        char *end = text;
        quota = strtod(text, &end);
        period = strtod(end, NULL);
    } else { /* a quota of -1 is none */
        if (cgroup_read(cgroup, "cpu.cfs_quota_us", text, sizeof text))
            quota = strtod(text, NULL);
        if (cgroup_read(cgroup, "cpu.cfs_period_us", text, sizeof text))
            period = strtod(text, NULL);
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

double cpu_quota_read(const char *root) {
    struct cgroup cgroup;
    double smallest = 0;
    if (!cgroup_find(root, &cpu, &cgroup))
        return 0;
    do {
        double quota = read_quota(&cgroup);
        if (quota > 0 && (smallest == 0 || quota < smallest))
            smallest = quota;
    } while (cgroup_ascend(&cgroup));
    return smallest;
}

size_t cpu_quota_threads(const char *root) {
    cpu_set_t set;
    size_t cpus = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        cpus = (size_t)CPU_COUNT(&set);
    } else { /* the machine has more CPUs than a cpu_set_t */
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        cpus = online > 0 ? (size_t)online : 1;
    }
    double quota = cpu_quota_read(root);
    if (quota > 0 && quota < (double)cpus)
        cpus = (size_t)quota;
    return cpus > 0 ? cpus : 1;
}

/* The value in the line "name value" of a cpu.stat. */
static bool find_value(const char *text, const char *name, uint64_t *value) {
    size_t length = strlen(name);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ' ') {
            *value = strtoull(line + length, NULL, 10);
            return true;
        }
    }
    return false;
}

struct cpu_throttling cpu_quota_throttling(const char *root) {
    struct cpu_throttling throttling = {false, 0, 0};
    struct cgroup cgroup;
    char text[4096];
    uint64_t time = 0;
    if (!cgroup_find(root, &cpu, &cgroup) || !cgroup_read(&cgroup, "cpu.stat", text, sizeof text))
        return throttling;
    throttling.known = find_value(text, "nr_throttled", &throttling.count);
    if (find_value(text, "throttled_usec", &time)) {
        throttling.seconds = (double)time / 1e6;
    } else if (find_value(text, "throttled_time", &time)) { /* of v1, in nanoseconds */
        throttling.seconds = (double)time / 1e9;
    }
    return throttling;
}
