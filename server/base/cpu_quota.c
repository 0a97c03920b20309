/* cpu_quota.c: reads /proc/self/cgroup to find the process's cgroup, then cpu.max and cpu.stat (v2) or cpu.cfs_* (v1).
 *
 * Inside a container the path that /proc/self/cgroup tells may be the host's, and not be there; then the root of the
 * mounted hierarchy is the container's own.
 */
#include "server/base/cpu_quota.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A cgroup with a cpu controller: a directory below the mount point of its hierarchy. */
struct cgroup {
    bool v2;
    char mount[PATH_MAX];
    char path[PATH_MAX]; /* "" is the mount point itself, else "/a/b" */
};

static bool read_text(const char *directory, const char *path, const char *name, char *text, size_t size) {
    char file[2 * PATH_MAX + 64];
    snprintf(file, sizeof file, "%s%s/%s", directory, path, name);
    FILE *in = fopen(file, "re");
    if (in == NULL)
        return false;
    size_t got = fread(text, 1, size - 1, in);
    text[got] = '\0';
    fclose(in);
    return got > 0;
}

/* Does the comma-separated list hold "cpu"? */
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

/* Is the controller really there? On a hybrid machine there is a v2 line without one. */
static bool is_usable(struct cgroup *cgroup) {
    char text[64];
    const char *name = cgroup->v2 ? "cpu.stat" : "cpu.cfs_quota_us";
    if (read_text(cgroup->mount, cgroup->path, name, text, sizeof text))
        return true;
    cgroup->path[0] = '\0';
    return read_text(cgroup->mount, cgroup->path, name, text, sizeof text);
}

static bool find_cgroup(const char *root, struct cgroup *cgroup) {
    char proc[PATH_MAX];
    char text[8192];
    snprintf(proc, sizeof proc, "%s/proc/self", root);
    if (!read_text(proc, "", "cgroup", text, sizeof text))
        return false;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (parse_line(line, root, cgroup) && is_usable(cgroup))
            return true;
    }
    return false;
}

/* CPUs that one cgroup allows; 0: any number. */
static double read_quota(const struct cgroup *cgroup) {
    char text[128];
    double quota = 0;
    double period = 0;
    if (cgroup->v2) { /* "max 100000" or "150000 100000" */
        if (!read_text(cgroup->mount, cgroup->path, "cpu.max", text, sizeof text))
            return 0;
        char *end = text;
        quota = strtod(text, &end);
        period = strtod(end, NULL);
    } else { /* -1 is none */
        if (read_text(cgroup->mount, cgroup->path, "cpu.cfs_quota_us", text, sizeof text))
            quota = strtod(text, NULL);
        if (read_text(cgroup->mount, cgroup->path, "cpu.cfs_period_us", text, sizeof text))
            period = strtod(text, NULL);
    }
    return quota > 0 && period > 0 ? quota / period : 0;
}

double cpu_quota_read(const char *root) {
    struct cgroup cgroup;
    double tightest = 0;
    if (!find_cgroup(root, &cgroup))
        return 0;
    for (;;) {
        double quota = read_quota(&cgroup);
        if (quota > 0 && (tightest == 0 || quota < tightest))
            tightest = quota;
        char *slash = strrchr(cgroup.path, '/');
        if (slash == NULL)
            return tightest;
        *slash = '\0';
    }
}

static size_t affinity_cpus(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (size_t)CPU_COUNT(&set);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* a machine with more CPUs than a cpu_set_t */
    return online > 0 ? (size_t)online : 1;
}

size_t cpu_quota_threads(const char *root) {
    double quota = cpu_quota_read(root);
    size_t cpus = affinity_cpus();
    if (quota > 0 && quota < (double)cpus)
        cpus = (size_t)quota;
    return cpus > 0 ? cpus : 1;
}

/* The value of "name value" in a cpu.stat. */
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
    if (!find_cgroup(root, &cgroup) || !read_text(cgroup.mount, cgroup.path, "cpu.stat", text, sizeof text))
        return throttling;
    throttling.known = find_value(text, "nr_throttled", &throttling.count);
    if (find_value(text, "throttled_usec", &time)) {
        throttling.seconds = (double)time / 1e6;
    } else if (find_value(text, "throttled_time", &time)) { /* v1: nanoseconds */
        throttling.seconds = (double)time / 1e9;
    }
    return throttling;
}
