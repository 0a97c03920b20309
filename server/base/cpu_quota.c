/* cpu_quota.c: reads /proc/self/cgroup to find the process's cgroup, then cpu.max and cpu.stat (v2) or cpu.cfs_* (v1).
 *
 * Inside a container the path in /proc/self/cgroup may be the host's and not exist; then the root of the mounted
 * hierarchy is the container's own cgroup.
 */
#include "server/base/cpu_quota.h"

#include "server/base/file.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A cgroup with a cpu controller. */
struct cgroup {
    bool v2;
    char mount[PATH_MAX]; /* of its hierarchy */
    char path[PATH_MAX];  /* below the mount point: "/a/b", or "" for the root */
};

static bool read_control(const struct cgroup *cgroup, const char *name, char *text, size_t size) {
    char path[2 * PATH_MAX + 64];
    snprintf(path, sizeof path, "%s%s/%s", cgroup->mount, cgroup->path, name);
    return file_read(path, text, size) > 0;
}

/* Whether the comma-separated list has "cpu". */
static bool has_cpu(const char *controllers, size_t length) {
    for (const char *end = controllers + length; controllers < end;) {
        size_t one = strcspn(controllers, ",:");
        if (one == 3 && strncmp(controllers, "cpu", 3) == 0)
            return true;
        controllers += one + 1;
    }
    return false;
}

/* A line is "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1). */
static bool parse_line(char *line, const char *root, struct cgroup *cgroup) {
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL)
        return false;
    size_t length = (size_t)(path - controllers) - 1;
    cgroup->v2 = length == 0;
    if (!cgroup->v2 && !has_cpu(controllers + 1, length))
        return false;
    snprintf(cgroup->mount, sizeof cgroup->mount, "%s/sys/fs/cgroup%s", root, cgroup->v2 ? "" : "/cpu");
    snprintf(cgroup->path, sizeof cgroup->path, "%s", strcmp(path + 1, "/") == 0 ? "" : path + 1);
    return true;
}

/* Whether the cgroup has the cpu controller; moves to the root of the hierarchy where the path does not exist. On a
 * hybrid machine the v2 line names a hierarchy without the controller. */
static bool has_controller(struct cgroup *cgroup) {
    char text[64];
    const char *name = cgroup->v2 ? "cpu.stat" : "cpu.cfs_quota_us";
    if (read_control(cgroup, name, text, sizeof text))
        return true;
    cgroup->path[0] = '\0';
    return read_control(cgroup, name, text, sizeof text);
}

static bool find_cgroup(const char *root, struct cgroup *cgroup) {
    char path[PATH_MAX], text[8192];
    char *rest = NULL;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    file_read(path, text, sizeof text);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (parse_line(line, root, cgroup) && has_controller(cgroup))
            return true;
    }
    return false;
}

/* CPUs that this one cgroup allows; 0: no quota. */
static double read_quota(const struct cgroup *cgroup) {
    char text[128];
    double quota = 0, period = 0;
    if (cgroup->v2) { /* "max 100000" or "150000 100000" */
        if (!read_control(cgroup, "cpu.max", text, sizeof text))
            return 0;
        char *end = text;
        quota = strtod(text, &end);
        period = strtod(end, NULL);
    } else { /* a quota of -1 is none */
        if (read_control(cgroup, "cpu.cfs_quota_us", text, sizeof text))
            quota = strtod(text, NULL);
        if (read_control(cgroup, "cpu.cfs_period_us", text, sizeof text))
            period = strtod(text, NULL);
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

double cpu_quota_read(const char *root) {
    struct cgroup cgroup;
    double smallest = 0;
    if (!find_cgroup(root, &cgroup))
        return 0;
    for (;;) {
        double quota = read_quota(&cgroup);
        if (quota > 0 && (smallest == 0 || quota < smallest))
            smallest = quota;
        char *slash = strrchr(cgroup.path, '/');
        if (slash == NULL)
            return smallest;
        *slash = '\0'; /* on to its parent */
    }
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
    if (!find_cgroup(root, &cgroup) || !read_control(&cgroup, "cpu.stat", text, sizeof text))
        return throttling;
    throttling.known = find_value(text, "nr_throttled", &throttling.count);
    if (find_value(text, "throttled_usec", &time)) {
        throttling.seconds = (double)time / 1e6;
    } else if (find_value(text, "throttled_time", &time)) { /* of v1, in nanoseconds */
        throttling.seconds = (double)time / 1e9;
    }
    return throttling;
}
