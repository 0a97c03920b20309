/* history_lines.h: a store's records as lines of JSON in a file: back-up, a move to another engine, a user's own data.
 */
#ifndef SERVER_HISTORIES_HISTORY_LINES_H
#define SERVER_HISTORIES_HISTORY_LINES_H

#include "server/histories/history_store.h"

#include <stdio.h>

/* Both wait, and are for a process that serves nobody. *users: lines written, or records stored. False with the reason
 * in `error`. */

/* Writes a line for every user. */
bool history_lines_export(struct history_store *store, FILE *out, uint64_t *users, char *error, size_t error_size);
/* Stores the record of each line in place of what its user has, so that a file may be imported again. Stops at the
 * first line that is wrong; those before it are stored. A record may have `user_bytes`. */
bool history_lines_import(struct history_store *store, FILE *in, size_t user_bytes, uint64_t *users, char *error,
                          size_t error_size);

#endif
