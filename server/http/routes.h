/* routes.h: which paths and methods there are. */
#ifndef SERVER_HTTP_ROUTES_H
#define SERVER_HTTP_ROUTES_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of a user's id. */
enum { ROUTES_USER_ID_MAX = 400 };

/* Who asks: clients, or operators at the address of --admin-listen. */
enum plane { PLANE_PUBLIC, PLANE_ADMIN };

enum route {
    ROUTE_NONE,
    ROUTE_SCORE,   /* POST /score */
    ROUTE_MODEL,   /* GET /model */
    ROUTE_HEALTH,  /* GET /health */
    ROUTE_LIVE,    /* GET /health/live */
    ROUTE_READY,   /* GET /health/ready */
    ROUTE_METRICS, /* GET /metrics */
    ROUTE_USER,    /* GET, DELETE /users/{id} */
    ROUTE_HISTORY, /* POST /users/{id}/history */
    ROUTE_EVENTS,  /* POST /events */
    ROUTE_OPENAPI, /* GET /openapi.json */
    /* Of the admin plane alone, from here on. */
    ROUTE_MODELS,    /* GET /models */
    ROUTE_RELOAD,    /* POST /models/reload */
    ROUTE_ROLLBACK,  /* POST /models/rollback */
    ROUTE_CANDIDATE, /* POST, DELETE /models/candidate */
    ROUTE_PROMOTE,   /* POST /models/promote */
    ROUTE_LOG_LEVEL, /* PUT /log-level */
    ROUTE_DRAIN,     /* POST /drain */
    ROUTES
};

/* The route of a request's target, without its query; ROUTE_NONE if there is none. Paths match byte for byte. */
enum route routes_find(const char *target);
/* The path, as a metric's label; "other" for ROUTE_NONE. */
const char *routes_label(enum route route);
/* The path for the log, without any part that could be a user's id. */
void routes_logged(enum route route, const char *target, char *text, size_t size);
/* The {id} of a path of ROUTE_USER or ROUTE_HISTORY, percent-decoded. False when it is empty, longer than
 * ROUTES_USER_ID_MAX, badly encoded, or no id (proto/score.h). */
bool routes_user_id(const char *target, char id[ROUTES_USER_ID_MAX], size_t *length);
/* A request must have a body; elsewhere one is ignored. */
bool routes_has_body(enum route route);
/* The admin plane has its own routes, those about users, and the metrics; the public one all but its own. */
bool routes_on_plane(enum route route, enum plane plane);
bool routes_about_users(enum route route);
/* One of the admin plane's own. Its body, if there is one, is JSON and small. */
bool routes_is_admin_call(enum route route);
/* Anything but GET and HEAD. */
bool routes_changes_state(const char *method);
/* HEAD is allowed wherever GET is. */
bool routes_allow(enum route route, const char *method);
/* The value of a 405's Allow header. */
const char *routes_allowed(enum route route);

#endif
