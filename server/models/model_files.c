/* model_files.c: openat(), read(), and SHA-256 by libcrypto, which comes in here and nowhere else. */
#include "server/models/model_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MODEL_FILES = 3 };

enum { SAMPLES_MAX_BYTES = 256 << 20, READ_BYTES = 1 << 20 };

struct fault {
    char *message;
    size_t size;
};

static bool fail(const struct fault *fault, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(const struct fault *fault, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault->message, fault->size, format, arguments);
    va_end(arguments);
    return false;
}

/* ---- opening */

/* `follow`: 0, or O_NOFOLLOW. */
static bool open_file(struct model_file *file, int directory, int follow, const struct model_files *files,
                      const char *name, const struct fault *fault) {
    /* O_NONBLOCK: a pipe without a writer would block. */
    file->descriptor = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | follow);
    if (file->descriptor < 0)
        return fail(fault, "%s/%s: cannot open: %s", files->directory, name, strerror(errno));
    if (fstat(file->descriptor, &file->status) != 0 || !S_ISREG(file->status.st_mode))
        return fail(fault, "%s/%s: not a regular file", files->directory, name);
    return true;
}

/* The whole file, malloc'ed. NULL on error. */
static char *read_file(const struct model_file *file, const struct model_files *files, const char *name, size_t most,
                       const struct fault *fault) {
    size_t size = (size_t)file->status.st_size, done = 0;
    if (size > most) {
        fail(fault, "%s/%s: cannot read %zu bytes (at most %zu are allowed)", files->directory, name, size, most);
        return NULL;
    }
    char *text = malloc(size + 1);
    ssize_t got = 1;
    while (text != NULL && done < size && (got = pread(file->descriptor, text + done, size - done, (off_t)done)) > 0)
        done += (size_t)got;
    if (text != NULL && done == size)
        return text;
    fail(fault, "%s/%s: cannot read its %zu bytes: %s", files->directory, name, size,
         text == NULL ? "no memory"
         : got == 0   ? "it became shorter"
                      : strerror(errno));
    free(text);
    return NULL;
}

/* The part of a path after the root, or NULL: it lies elsewhere. */
static const char *path_below(const char *root, const char *directory) {
    size_t length = strlen(root);
    if (strncmp(directory, root, length) == 0 && (directory[length] == '/' || root[length - 1] == '/'))
        return directory + length;
    return *directory == '/' ? NULL : directory;
}

/* Opens one directory after another, each below the one before. */
static bool open_below(const char *root, const char *directory, int *folder, const struct fault *fault) {
    const char *at = path_below(root, directory);
    if (at == NULL || at[strspn(at, "/")] == '\0')
        return fail(fault, "\"%s\" names no directory below --model-root, %s", directory, root);
    *folder = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*folder < 0)
        return fail(fault, "--model-root, %s: cannot open: %s", root, strerror(errno));
    while (*(at += strspn(at, "/")) != '\0') {
        char part[NAME_MAX + 1];
        size_t length = strcspn(at, "/");
        snprintf(part, sizeof part, "%.*s", (int)(length < sizeof part ? length : sizeof part - 1), at);
        at += length;
        bool is_name = length < sizeof part && strcmp(part, "..") != 0 && strcmp(part, ".") != 0;
        int above = *folder;
        *folder = is_name ? openat(above, part, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW) : -1;
        int reason = errno;
        close(above);
        if (*folder < 0)
            return fail(fault, "no directory below --model-root, %s: %s: %s", root,
                        is_name ? strerror(reason) : "not a name", directory);
    }
    return true;
}

bool model_files_open(struct model_files *files, const char *root, const char *directory, char *message, size_t size) {
    const struct fault fault = {message, size};
    *files = (struct model_files){
        .directory = directory, .config.descriptor = -1, .weights.descriptor = -1, .samples.descriptor = -1};
    int follow = root != NULL ? O_NOFOLLOW : 0;
    int folder = root == NULL ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (root != NULL && !open_below(root, directory, &folder, &fault))
        return false;
    if (folder < 0)
        return fail(&fault, "%s: cannot open: %s", directory, strerror(errno));
    bool good = open_file(&files->config, folder, follow, files, "config.json", &fault) &&
                open_file(&files->weights, folder, follow, files, "model.safetensors", &fault) &&
                open_file(&files->samples, folder, follow, files, "samples.json", &fault);
    close(folder);
    if (good)
        files->config_text = read_file(&files->config, files, "config.json", DIEN_CONFIG_BYTES_MAX, &fault);
    if (files->config_text != NULL)
        files->samples_text = read_file(&files->samples, files, "samples.json", SAMPLES_MAX_BYTES, &fault);
    return files->samples_text != NULL;
}

void model_files_close(struct model_files *files) {
    const struct model_file *all[MODEL_FILES] = {&files->config, &files->weights, &files->samples};
    for (size_t i = 0; i < MODEL_FILES; i++) {
        if (all[i]->descriptor >= 0)
            close(all[i]->descriptor);
    }
    free(files->config_text);
    free(files->samples_text);
}

/* ---- digests */

static void write_digest(EVP_MD_CTX *digest, char text[SHA256_TEXT]) {
    unsigned char bytes[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(digest, bytes, NULL);
    for (size_t i = 0; i < (SHA256_TEXT - 1) / 2; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

bool model_files_digest(struct model_files *files, const atomic_bool *cancelled, char *message, size_t size) {
    const struct fault fault = {message, size};
    size_t whole = (size_t)files->weights.status.st_size, done = 0;
    EVP_MD_CTX *digest = EVP_MD_CTX_new();
    unsigned char *piece = malloc(READ_BYTES);
    bool good = digest != NULL && piece != NULL && EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1;
    if (!good) {
        fail(&fault, "%s: no memory for the digest", files->directory);
    } else {
        EVP_DigestUpdate(digest, files->config_text, (size_t)files->config.status.st_size);
        write_digest(digest, files->config_sha256);
        good = EVP_DigestInit_ex(digest, EVP_sha256(), NULL) == 1;
    }
    while (good && done < whole && !(cancelled != NULL && *cancelled)) {
        ssize_t got = pread(files->weights.descriptor, piece, READ_BYTES, (off_t)done);
        good = got > 0 ? EVP_DigestUpdate(digest, piece, (size_t)got) == 1
                       : fail(&fault, "%s/model.safetensors: cannot read it: %s", files->directory,
                              got == 0 ? "it became shorter" : strerror(errno));
        done += got > 0 ? (size_t)got : 0;
    }
    if (good && done >= whole)
        write_digest(digest, files->weights_sha256);
    else if (good)
        good = fail(&fault, "%s", "");
    free(piece);
    EVP_MD_CTX_free(digest);
    return good;
}

/* ---- changes */

bool model_files_unchanged(const struct model_files *files, char *message, size_t size) {
    const struct fault fault = {message, size};
    static const char *const names[MODEL_FILES] = {"config.json", "model.safetensors", "samples.json"};
    const struct model_file *all[MODEL_FILES] = {&files->config, &files->weights, &files->samples};
    for (size_t i = 0; i < MODEL_FILES; i++) {
        struct stat now;
        const struct stat *then = &all[i]->status;
        if (fstat(all[i]->descriptor, &now) != 0 || now.st_size != then->st_size ||
            now.st_mtim.tv_sec != then->st_mtim.tv_sec || now.st_mtim.tv_nsec != then->st_mtim.tv_nsec)
            return fail(&fault, "%s/%s: it was written while it was read", files->directory, names[i]);
    }
    return true;
}
