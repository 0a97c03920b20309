/* cgroup.c: reads /proc/self/cgroup.
 *
 * Inside a container the path there may be the host's and not exist; then the root of the mounted hierarchy is the
 * container's own cgroup.
 */
#include "server/base/cgroup.h"

#include "server/base/file.h"

#include <stdio.h>
#include <string.h>

bool cgroup_read(const struct cgroup *cgroup, const char *name, char *text, size_t size) {
    char path[2 * PATH_MAX + 64];
    snprintf(path, sizeof path, "%s%s/%s", cgroup->mount, cgroup->path, name);
    return file_read(path, text, size) > 0;
}

/* Whether the comma-separated list has the controller. */
static bool has_name(const char *controllers, size_t length, const char *name) {
    for (const char *end = controllers + length; controllers < end;) {
        size_t one = strcspn(controllers, ",:");
        if (one == strlen(name) && strncmp(controllers, name, one) == 0)
            return true;
        controllers += one + 1;
    }
    return false;
}

/* A line is "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1). */
static bool parse_line(char *line, const char *root, const char *name, struct cgroup *cgroup) {
    char *controllers = strchr(line, ':');
    char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
    if (path == NULL)
        return false;
    size_t length = (size_t)(path - controllers) - 1;
    cgroup->v2 = length == 0;
    if (!cgroup->v2 && !has_name(controllers + 1, length, name))
        return false;
    snprintf(cgroup->mount, sizeof cgroup->mount, "%s/sys/fs/cgroup%s%s", root, cgroup->v2 ? "" : "/",
             cgroup->v2 ? "" : name);
    snprintf(cgroup->path, sizeof cgroup->path, "%s", strcmp(path + 1, "/") == 0 ? "" : path + 1);
    return true;
}

/* Whether the cgroup has the controller; moves to the root of the hierarchy where the path does not exist. On a hybrid
 * machine the v2 line names a hierarchy without the controller. */
static bool has_controller(struct cgroup *cgroup, const struct cgroup_controller *controller) {
    char text[64];
    const char *name = cgroup->v2 ? controller->v2_file : controller->v1_file;
    if (cgroup_read(cgroup, name, text, sizeof text))
        return true;
    cgroup->path[0] = '\0';
    return cgroup_read(cgroup, name, text, sizeof text);
}

bool cgroup_find(const char *root, const struct cgroup_controller *controller, struct cgroup *cgroup) {
    char path[PATH_MAX], text[8192];
    char *rest = NULL;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    file_read(path, text, sizeof text);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (parse_line(line, root, controller->name, cgroup) && has_controller(cgroup, controller))
            return true;
    }
    return false;
}

bool cgroup_ascend(struct cgroup *cgroup) {
    char *slash = strrchr(cgroup->path, '/');
    if (slash == NULL)
        return false;
    *slash = '\0';
    return true;
}
