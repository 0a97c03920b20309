/* history_command.h: the history store that the options name, and the commands that export it or import to it. */
#ifndef SERVER_HISTORY_COMMAND_H
#define SERVER_HISTORY_COMMAND_H

#include "server/histories/history_store.h"
#include "server/options.h"

/* Fills in the store's options. False with the reason in `error`. */
bool history_options(const struct options *options, struct history_counts *counts, struct history_store_options *store,
                     char *error, size_t error_size);

/* --histories-export or --histories-import. Returns the process's exit status: 0, or 1 with the reason on standard
 * error. */
int history_command(const struct options *options);

#endif
