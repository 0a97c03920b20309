/* record_files.h: lines in compressed frames, in files of one directory that are turned over by size and age.
 *
 * Each write is one zstd frame with a checksum, and is in its file as a whole or not at all. The file that is being
 * written has ".open" behind its name; a full or old one loses it. The oldest files go, so that all of them stay within
 * a bound. Files have mode 600. Several processes may write to one directory. One thread at a time may call.
 */
#ifndef SERVER_BASE_RECORD_FILES_H
#define SERVER_BASE_RECORD_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct record_files;

struct record_files_options {
    const char *directory; /* is made if it is not there */
    size_t file_bytes;     /* compressed; a file of so many is turned over, */
    double file_seconds;   /* as is one of this age */
    size_t total_bytes;    /* of all files of the directory; more: the oldest go */
};

/* Turns over files that a process which has ended left open. NULL, with the reason in `error`, when the directory
 * cannot be written. */
struct record_files *record_files_open(const struct record_files_options *options, char *error, size_t error_size);

/* Whole lines, as one frame. False, with errno set, when they could not be written: then none of them is in the file.
 */
bool record_files_write(struct record_files *files, const char *lines, size_t size);

/* Turns the file over if it is old enough; call it now and then. */
void record_files_turn(struct record_files *files);

/* Compressed bytes that were written, and files that went for lack of room. */
uint64_t record_files_bytes(const struct record_files *files);
uint64_t record_files_removed(const struct record_files *files);

/* Turns the file over and ends. NULL is allowed. */
void record_files_close(struct record_files *files);

#endif
