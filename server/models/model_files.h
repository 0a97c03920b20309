/* model_files.h: the three files of a model directory, opened once and read through the descriptors that were opened.
 *
 * A symbolic link on the way to the directory counts for the moment of opening. Whatever is renamed, replaced or
 * unlinked afterwards, the files are of one directory. Files that are written while they are read are found out.
 */
#ifndef SERVER_MODELS_MODEL_FILES_H
#define SERVER_MODELS_MODEL_FILES_H

#include "server/scoring/served_model.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

struct model_file {
    int descriptor;     /* -1: not open */
    struct stat status; /* when it was opened */
};

struct model_files {
    const char *directory;
    struct model_file config, weights, samples;
    char *config_text, *samples_text; /* malloc'ed */
    char config_sha256[SHA256_TEXT], weights_sha256[SHA256_TEXT];
};

/* Opens the directory and its files, and reads the two small ones. False on error, with the file and the fault in
 * `message`; model_files_close() in either case.
 *
 * With a `root` the directory lies below it, as a path from there or as one that begins with it. Then neither ".." nor
 * a symbolic link is followed, not for the files either. */
bool model_files_open(struct model_files *files, const char *root, const char *directory, char *message, size_t size);
/* Reads the weights to their end for their digest. False when they cannot be read, or with an empty message when
 * *cancelled became true. */
bool model_files_digest(struct model_files *files, const atomic_bool *cancelled, char *message, size_t size);
/* Whether no file has changed since it was opened. */
bool model_files_unchanged(const struct model_files *files, char *message, size_t size);
void model_files_close(struct model_files *files);

#endif
