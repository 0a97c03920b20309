/* memory_limit.c: MemTotal of /proc/meminfo, and memory.max (v2) or memory.limit_in_bytes (v1) of cgroups. */
#include "server/base/memory_limit.h"

#include "server/base/cgroup.h"
#include "server/base/file.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct cgroup_controller memory = {"memory", "memory.stat", "memory.limit_in_bytes"};

/* Without a limit v2 has "max", which is no number, and v1 a number larger than any memory. */
static uint64_t limit_of(const struct cgroup *cgroup) {
    char text[64];
    bool there = cgroup_read(cgroup, cgroup->v2 ? "memory.max" : "memory.limit_in_bytes", text, sizeof text);
    return there ? strtoull(text, NULL, 10) : 0;
}

static uint64_t machine_memory(const char *root) {
    char path[PATH_MAX], text[8192];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (file_read(path, text, sizeof text) == 0)
        return 0;
    const char *total = strstr(text, "MemTotal:");
    return total != NULL ? strtoull(total + strlen("MemTotal:"), NULL, 10) * 1024 : 0;
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return b > 0 && (a == 0 || b < a) ? b : a;
}

size_t memory_limit_read(const char *root) {
    struct cgroup cgroup;
    uint64_t least = machine_memory(root);
    if (cgroup_find(root, &memory, &cgroup)) {
        do {
            least = smaller(least, limit_of(&cgroup));
        } while (cgroup_ascend(&cgroup));
    }
    return (size_t)least;
}
