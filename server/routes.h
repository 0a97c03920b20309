/* routes.h: which paths and methods there are. */
#ifndef SERVER_ROUTES_H
#define SERVER_ROUTES_H

#include "proto/problem.h"

#include <stdbool.h>

enum route {
    ROUTE_NONE,
    ROUTE_SCORE,   /* POST /score */
    ROUTE_MODEL,   /* GET /model */
    ROUTE_HEALTH,  /* GET /health */
    ROUTE_LIVE,    /* GET /health/live */
    ROUTE_READY,   /* GET /health/ready */
    ROUTE_METRICS, /* GET /metrics */
    ROUTES
};

/* The route of a request's target, without its query; ROUTE_NONE if there is none. Paths match byte for byte. */
enum route routes_find(const char *target);
/* The path, as a metric's label; "other" for ROUTE_NONE. */
const char *routes_label(enum route route);
/* HEAD is allowed wherever GET is. */
bool routes_allow(enum route route, const char *method);
/* What the Allow header of a 405 says. */
const char *routes_allowed(enum route route);

#endif
