/* routes.c: the table of paths. */
#include "server/routes.h"

#include <string.h>
#include <strings.h>

static const char get[] = "GET, HEAD";
static const char post[] = "POST";

static const struct {
    const char *path;
    const char *allowed;
} routes[ROUTES] = {
    [ROUTE_NONE] = {"other", ""},        [ROUTE_SCORE] = {"/score", post},     [ROUTE_MODEL] = {"/model", get},
    [ROUTE_HEALTH] = {"/health", get},   [ROUTE_LIVE] = {"/health/live", get}, [ROUTE_READY] = {"/health/ready", get},
    [ROUTE_METRICS] = {"/metrics", get},
};

/* A proxy may ask for "http://host/path" (RFC 9112, section 3.2.2). */
static const char *skip_authority(const char *target) {
    static const char scheme[] = "http://";
    if (strncasecmp(target, scheme, sizeof scheme - 1) != 0)
        return target;
    const char *path = strchr(target + sizeof scheme - 1, '/');
    return path != NULL ? path : "/";
}

enum route routes_find(const char *target) {
    const char *path = skip_authority(target);
    for (enum route route = ROUTE_NONE + 1; route < ROUTES; route++) {
        if (strcmp(routes[route].path, path) == 0)
            return route;
    }
    return ROUTE_NONE;
}

const char *routes_label(enum route route) {
    return routes[route].path;
}

bool routes_allow(enum route route, const char *method) {
    if (routes[route].allowed == post)
        return strcmp(method, "POST") == 0;
    return strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
}

const char *routes_allowed(enum route route) {
    return routes[route].allowed;
}
