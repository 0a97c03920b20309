/* routes.c: the table of paths. */
#include "server/http/routes.h"

#include "proto/digits.h"
#include "proto/score.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char get[] = "GET, HEAD";
static const char post[] = "POST";
static const char users[] = "/users/";

/* "{id}" stands for one segment, not empty. */
static const struct {
    const char *path;
    const char *allowed;
} routes[ROUTES] = {
    [ROUTE_NONE] = {"other", ""},
    [ROUTE_SCORE] = {"/score", post},
    [ROUTE_MODEL] = {"/model", get},
    [ROUTE_HEALTH] = {"/health", get},
    [ROUTE_LIVE] = {"/health/live", get},
    [ROUTE_READY] = {"/health/ready", get},
    [ROUTE_METRICS] = {"/metrics", get},
    [ROUTE_USER] = {"/users/{id}", "GET, HEAD, DELETE"},
    [ROUTE_HISTORY] = {"/users/{id}/history", post},
    [ROUTE_EVENTS] = {"/events", post},
    [ROUTE_OPENAPI] = {"/openapi.json", get},
    [ROUTE_MODELS] = {"/models", get},
    [ROUTE_RELOAD] = {"/models/reload", post},
    [ROUTE_ROLLBACK] = {"/models/rollback", post},
    [ROUTE_CANDIDATE] = {"/models/candidate", "POST, DELETE"},
    [ROUTE_PROMOTE] = {"/models/promote", post},
    [ROUTE_LOG_LEVEL] = {"/log-level", "PUT"},
    [ROUTE_DRAIN] = {"/drain", post},
};

/* A proxy may ask for "http://host/path" (RFC 9112, section 3.2.2), or for "https:" if it has taken off the TLS. */
static const char *skip_authority(const char *target) {
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        size_t length = strlen(schemes[i]);
        if (strncasecmp(target, schemes[i], length) == 0 && target[length] != '/') {
            const char *path = strchr(target + length, '/');
            return path != NULL ? path : "/";
        }
    }
    return target;
}

/* Does the path match, "{id}" being any segment? */
static bool matches(const char *pattern, const char *path) {
    const char *hole = strchr(pattern, '{');
    if (hole == NULL)
        return strcmp(pattern, path) == 0;
    size_t before = (size_t)(hole - pattern);
    if (strncmp(pattern, path, before) != 0)
        return false;
    size_t segment = strcspn(path + before, "/");
    return segment > 0 && strcmp(strchr(hole, '}') + 1, path + before + segment) == 0;
}

enum route routes_find(const char *target) {
    const char *path = skip_authority(target);
    for (enum route route = ROUTE_NONE + 1; route < ROUTES; route++) {
        if (matches(routes[route].path, path))
            return route;
    }
    return ROUTE_NONE;
}

const char *routes_label(enum route route) {
    return routes[route].path;
}

/* Of a path that is none of ours no more than the first segment: an id may stand anywhere behind it. */
void routes_logged(enum route route, const char *target, char *text, size_t size) {
    if (route != ROUTE_NONE) {
        snprintf(text, size, "%s", routes_label(route));
        return;
    }
    size_t length = *target == '/' ? 1 + strcspn(target + 1, "/") : 0;
    snprintf(text, size, "%.*s%s", (int)(length < size ? length : size), target, target[length] != '\0' ? "/..." : "");
}

bool routes_user_id(const char *target, char id[ROUTES_USER_ID_MAX], size_t *length) {
    *length = 0;
    const char *at = skip_authority(target);
    if (strncmp(at, users, sizeof users - 1) != 0)
        return false;
    at += sizeof users - 1;
    const char *end = at + strcspn(at, "/");
    for (; at < end; at++) {
        int high = *at == '%' ? digits_hex_value(at[1]) : 0;
        int low = *at == '%' && high >= 0 ? digits_hex_value(at[2]) : 0;
        if (high < 0 || low < 0 || *length == ROUTES_USER_ID_MAX)
            return false;
        id[(*length)++] = *at == '%' ? (char)(high << 4 | low) : *at;
        at += *at == '%' ? 2 : 0;
    }
    return proto_is_user_id(id, *length);
}

bool routes_has_body(enum route route) {
    return route == ROUTE_SCORE || route == ROUTE_HISTORY || route == ROUTE_EVENTS;
}

bool routes_about_users(enum route route) {
    return route == ROUTE_USER || route == ROUTE_HISTORY || route == ROUTE_EVENTS;
}

bool routes_is_admin_call(enum route route) {
    return route >= ROUTE_MODELS && route < ROUTES;
}

bool routes_on_plane(enum route route, enum plane plane) {
    if (plane == PLANE_PUBLIC)
        return !routes_is_admin_call(route);
    return routes_is_admin_call(route) || routes_about_users(route) || route == ROUTE_METRICS;
}

bool routes_changes_state(const char *method) {
    return strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0;
}

bool routes_allow(enum route route, const char *method) {
    size_t length = strlen(method);
    const char *at = routes[route].allowed;
    for (; length > 0 && (at = strstr(at, method)) != NULL; at += length) {
        bool starts = at == routes[route].allowed || at[-1] == ' ';
        if (starts && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

const char *routes_allowed(enum route route) {
    return routes[route].allowed;
}
