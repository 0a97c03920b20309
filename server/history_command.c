/* history_command.c: a file, the store, and records from one to the other. */
#include "server/history_command.h"

#include "server/histories/history_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char lmdb[] = "lmdb:";

/* Seconds, or 0 for "commit". */
static bool read_sync(const char *text, double *seconds, char *error, size_t error_size) {
    *seconds = 0;
    if (strcmp(text, "commit") == 0)
        return true;
    char *end;
    *seconds = strtod(text, &end);
    bool good = *end == '\0' && *seconds >= 0.001 && *seconds <= 3600;
    if (!good)
        snprintf(error, error_size, "--histories-sync: \"%s\" is neither commit nor 0.001 to 3600 seconds", text);
    return good;
}

bool history_options(const struct options *options, struct history_counts *counts, struct history_store_options *store,
                     char *error, size_t error_size) {
    double sync_seconds;
    if (!read_sync(options->histories_sync, &sync_seconds, error, error_size))
        return false;
    *store =
        (struct history_store_options){.where = options->histories,
                                       .prefix = options->histories_prefix != NULL ? options->histories_prefix : "",
                                       .password_file = options->histories_password_file,
                                       .timeout = options->histories_timeout,
                                       .sync_seconds = sync_seconds,
                                       .map_bytes = options->histories_map,
                                       .ttl = options->histories_ttl,
                                       .replicas = options->histories_redis_wait,
                                       .limits = {.keep = options->histories_keep,
                                                  .dedupe = options->histories_dedupe,
                                                  .user_bytes = options->histories_user_bytes},
                                       .counts = counts};
    return true;
}

/* "-" is a standard stream. NULL, with the reason on standard error. */
static FILE *open_file(const char *path, bool writes) {
    if (strcmp(path, "-") == 0)
        return writes ? stdout : stdin;
    int descriptor = writes ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
    FILE *file = !writes ? fopen(path, "re") : descriptor >= 0 ? fdopen(descriptor, "w") : NULL;
    if (file == NULL)
        fprintf(stderr, "--histories-%s: %s: %s\n", writes ? "export" : "import", path, strerror(errno));
    return file;
}

/* An export must not make an empty store of a path that was mistyped. */
static bool is_there(const char *where) {
    if (strncmp(where, lmdb, sizeof lmdb - 1) != 0 || access(where + sizeof lmdb - 1, R_OK | W_OK) == 0)
        return true;
    fprintf(stderr, "--histories: %s: %s\n", where, strerror(errno));
    return false;
}

static bool transfer(struct history_store *store, const struct options *options, FILE *file, bool exports) {
    char reason[512] = "";
    uint64_t users = 0;
    bool good = exports
                    ? history_lines_export(store, file, &users, reason, sizeof reason)
                    : history_lines_import(store, file, options->histories_user_bytes, &users, reason, sizeof reason);
    fprintf(stderr, "%s%s%llu users were %s.\n", reason, good ? "" : " ", (unsigned long long)users,
            exports ? "exported" : "imported");
    return good;
}

int history_command(const struct options *options) {
    static struct history_counts counts; /* large */
    struct history_store_options choice;
    char error[512];
    bool exports = options->histories_export != NULL;
    if (exports && options->histories_import != NULL) {
        fprintf(stderr, "--histories-export and --histories-import: one at a time.\n");
        return 1;
    }
    if (exports && !is_there(options->histories))
        return 1;
    if (!history_options(options, &counts, &choice, error, sizeof error)) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    struct history_store *store = history_store_open(&choice, NULL, error, sizeof error);
    if (store == NULL) {
        fprintf(stderr, "--histories: %s\n", error);
        return 1;
    }
    FILE *file = open_file(exports ? options->histories_export : options->histories_import, exports);
    bool good = file != NULL && transfer(store, options, file, exports);
    if (file != NULL && file != stdin && file != stdout && fclose(file) != 0 && good) {
        fprintf(stderr, "--histories-export: the file cannot be written: %s\n", strerror(errno));
        good = false;
    }
    history_store_close(store);
    return good ? 0 : 1;
}
