/* record_files.c: libzstd comes in here and nowhere else. A lock on the open file tells whether its writer lives. */
#include "server/base/record_files.h"

#include "server/base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

enum { NAME_BYTES = 64, NAME_ATTEMPTS = 1000 };
static const char prefix[] = "requests-", suffix[] = ".jsonl.zst", open_suffix[] = ".open";

struct record_files {
    struct record_files_options options;
    int directory;
    int file;              /* -1: none is open */
    char name[NAME_BYTES]; /* without ".open" */
    off_t size;            /* of the whole frames in the file */
    uint64_t began;        /* clock_now() */
    unsigned number;       /* of the next file */
    _Atomic uint64_t bytes, removed;
    ZSTD_CCtx *context;
    char *frame; /* [capacity] */
    size_t capacity;
};

/* ---- names */

static bool ends_with(const char *name, const char *end) {
    size_t length = strlen(name), size = strlen(end);
    return length >= size && strcmp(name + length - size, end) == 0;
}

static bool is_record_file(const char *name) {
    return strncmp(name, prefix, sizeof prefix - 1) == 0 && ends_with(name, suffix) && strlen(name) < NAME_BYTES;
}

static bool is_open_file(const char *name) {
    char whole[NAME_BYTES];
    size_t length = strlen(name);
    if (!ends_with(name, open_suffix) || length >= NAME_BYTES)
        return false;
    length -= sizeof open_suffix - 1;
    memcpy(whole, name, length);
    whole[length] = '\0';
    return is_record_file(whole);
}

static void close_file(struct record_files *files) {
    char from[NAME_BYTES + sizeof open_suffix];
    if (files->file < 0)
        return;
    snprintf(from, sizeof from, "%s%s", files->name, open_suffix);
    if (files->size > 0)
        (void)!renameat(files->directory, from, files->directory, files->name);
    else
        (void)!unlinkat(files->directory, from, 0);
    close(files->file);
    files->file = -1;
}

/* Calls `look` with each entry of the directory. */
static void look_through(struct record_files *files, void (*look)(struct record_files *, const char *, void *),
                         void *context) {
    int again = openat(files->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *entries = again >= 0 ? fdopendir(again) : NULL;
    if (entries == NULL) {
        if (again >= 0)
            close(again);
        return;
    }
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        look(files, entry->d_name, context);
    closedir(entries);
}

/* A file that is still open and whose lock nobody holds was left by a process that did not end in order. */
static void turn_over_left(struct record_files *files, const char *name, void *context) {
    char whole[NAME_BYTES];
    (void)context;
    if (!is_open_file(name))
        return;
    int file = openat(files->directory, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0)
        return;
    size_t length = strlen(name) - (sizeof open_suffix - 1);
    memcpy(whole, name, length);
    whole[length] = '\0';
    if (flock(file, LOCK_EX | LOCK_NB) == 0)
        (void)!renameat(files->directory, name, files->directory, whole);
    close(file);
}

/* ---- the bound on all files */

struct survey {
    uint64_t total;
    char oldest[NAME_BYTES]; /* of the files that are whole; "": none */
};

static void survey_entry(struct record_files *files, const char *name, void *context) {
    struct survey *survey = context;
    struct stat status;
    bool whole = is_record_file(name);
    if ((!whole && !is_open_file(name)) || fstatat(files->directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    survey->total += (uint64_t)status.st_size;
    if (whole && (*survey->oldest == '\0' || strcmp(name, survey->oldest) < 0))
        snprintf(survey->oldest, sizeof survey->oldest, "%s", name);
}

/* Leaves room for one more file. */
static void remove_oldest(struct record_files *files) {
    for (;;) {
        struct survey survey = {0, ""};
        look_through(files, survey_entry, &survey);
        if (*survey.oldest == '\0' || survey.total + files->options.file_bytes <= files->options.total_bytes)
            return;
        if (unlinkat(files->directory, survey.oldest, 0) != 0)
            return;
        files->removed++;
    }
}

/* ---- one file */

static bool begin_file(struct record_files *files) {
    char name[NAME_BYTES + sizeof open_suffix];
    char stamp[32];
    struct tm parts;
    time_t now = time(NULL);
    remove_oldest(files);
    gmtime_r(&now, &parts);
    strftime(stamp, sizeof stamp, "%Y%m%dT%H%M%SZ", &parts);
    for (int attempt = 0; attempt < NAME_ATTEMPTS; attempt++) {
        snprintf(files->name, sizeof files->name, "%s%s-%06u%s", prefix, stamp, files->number++ % 1000000, suffix);
        snprintf(name, sizeof name, "%s%s", files->name, open_suffix);
        if (faccessat(files->directory, files->name, F_OK, 0) == 0)
            continue;
        files->file = openat(files->directory, name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
        if (files->file >= 0 || errno != EEXIST)
            break;
    }
    if (files->file < 0)
        return false;
    /* Another server at its start may have taken the file for one that was left, before the lock. */
    struct stat ours, named;
    bool locked = flock(files->file, LOCK_EX | LOCK_NB) == 0 && fstat(files->file, &ours) == 0 &&
                  fstatat(files->directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 && ours.st_ino == named.st_ino;
    if (!locked) {
        close(files->file);
        files->file = -1;
        errno = EAGAIN;
        return false;
    }
    files->size = 0;
    files->began = clock_now();
    return true;
}

static bool write_whole(int file, const char *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t written = write(file, bytes + done, size - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            errno = written == 0 ? ENOSPC : errno;
            return false;
        }
        done += (size_t)written;
    }
    return true;
}

bool record_files_write(struct record_files *files, const char *lines, size_t size) {
    size_t most = ZSTD_compressBound(size);
    if (most > files->capacity) {
        char *larger = realloc(files->frame, most);
        if (larger == NULL) {
            errno = ENOMEM;
            return false;
        }
        files->frame = larger;
        files->capacity = most;
    }
    size_t length = ZSTD_compress2(files->context, files->frame, files->capacity, lines, size);
    if (ZSTD_isError(length)) {
        errno = ENOMEM;
        return false;
    }
    record_files_turn(files);
    if (files->file < 0 && !begin_file(files))
        return false;
    if (!write_whole(files->file, files->frame, length)) {
        int reason = errno;
        if (ftruncate(files->file, files->size) != 0)
            close_file(files); /* readers pass over the damaged end; nothing is written behind it */
        errno = reason;
        return false;
    }
    files->size += (off_t)length;
    files->bytes += length;
    return true;
}

void record_files_turn(struct record_files *files) {
    if (files->file < 0)
        return;
    double age = clock_seconds(clock_now() - files->began);
    if ((size_t)files->size >= files->options.file_bytes || age >= files->options.file_seconds)
        close_file(files);
}

/* ---- start and end */

struct record_files *record_files_open(const struct record_files_options *options, char *error, size_t error_size) {
    struct record_files *files = calloc(1, sizeof *files);
    if (files == NULL) {
        snprintf(error, error_size, "there is no memory");
        return NULL;
    }
    files->options = *options;
    files->file = -1;
    if (mkdir(options->directory, 0700) != 0 && errno != EEXIST)
        snprintf(error, error_size, "%s cannot be made: %s", options->directory, strerror(errno));
    files->directory = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    files->context = ZSTD_createCCtx();
    bool good = files->directory >= 0 && files->context != NULL &&
                faccessat(files->directory, ".", W_OK | X_OK, AT_EACCESS) == 0;
    if (!good) {
        snprintf(error, error_size, "%s cannot be written: %s", options->directory, strerror(errno));
        record_files_close(files);
        return NULL;
    }
    ZSTD_CCtx_setParameter(files->context, ZSTD_c_compressionLevel, 1);
    ZSTD_CCtx_setParameter(files->context, ZSTD_c_checksumFlag, 1);
    look_through(files, turn_over_left, NULL);
    remove_oldest(files);
    return files;
}

uint64_t record_files_bytes(const struct record_files *files) {
    return files->bytes;
}

uint64_t record_files_removed(const struct record_files *files) {
    return files->removed;
}

void record_files_close(struct record_files *files) {
    if (files == NULL)
        return;
    close_file(files);
    if (files->directory >= 0)
        close(files->directory);
    ZSTD_freeCCtx(files->context);
    free(files->frame);
    free(files);
}
