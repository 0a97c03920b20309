/* health_probe.h: --probe: ask a running server whether it is ready, for health checks where there is no shell and no
 * curl. */
#ifndef SERVER_HTTP_HEALTH_PROBE_H
#define SERVER_HTTP_HEALTH_PROBE_H

#include <stdbool.h>
#include <stddef.h>

/* True when GET /health/ready at ADDRESS answers 200 within two seconds; else `error` says what happened. */
bool probe_ready(const char *address, char *error, size_t error_size);

#endif
