/* service.h: the server as a whole: its states, what each route answers, and how it ends. */
#ifndef SERVER_SERVICE_H
#define SERVER_SERVICE_H

#include "server/options.h"

/* Serve until told to stop. Returns the process's exit status: 0 after an orderly end, 1 when it could not start or its
 * model was refused. */
int service_run(const struct options *options);

#endif
