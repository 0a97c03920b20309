/* cgroup.h: the cgroup of this process that has a controller, v2 or v1, and the values in its files. */
#ifndef SERVER_BASE_CGROUP_H
#define SERVER_BASE_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

struct cgroup {
    bool v2;
    char mount[PATH_MAX]; /* of its hierarchy */
    char path[PATH_MAX];  /* below the mount point: "/a/b", or "" for the root */
};

/* A controller by its name, and for each version a file that every cgroup with it has. */
struct cgroup_controller {
    const char *name, *v2_file, *v1_file;
};

/* `root` is "", or for tests a directory in place of "/". False: there is none. */
bool cgroup_find(const char *root, const struct cgroup_controller *controller, struct cgroup *cgroup);
/* The text of one of its files, NUL-terminated. False: it cannot be read, or is empty. */
bool cgroup_read(const struct cgroup *cgroup, const char *name, char *text, size_t size);
/* On to its parent. False at the root. */
bool cgroup_ascend(struct cgroup *cgroup);

#endif
