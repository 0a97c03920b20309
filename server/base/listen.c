/* listen.c: socket(), bind() and listen(), with errors as text. */
#include "server/base/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { OWNER_ONLY = 0660 };

/* Returns the descriptor, or, where not all was good, closes it and returns -1. errno stays. */
static int keep_if(bool good, int descriptor) {
    if (good || descriptor < 0)
        return descriptor;
    int reason = errno;
    close(descriptor);
    errno = reason;
    return -1;
}

/* Returns a descriptor, or -1 with errno. */
static int bind_to(const struct addrinfo *info, bool reuse_port) {
    int on = 1;
    int off = 0;
    int descriptor = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (descriptor < 0)
        return -1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) { /* [::] accepts IPv4 too, on machines whose default is IPv6 only as well */
        setsockopt(descriptor, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    }
    bool good = !reuse_port || setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
    return keep_if(good && bind(descriptor, info->ai_addr, info->ai_addrlen) == 0, descriptor);
}

static void write_name(int descriptor, char text[ADDRESS_TEXT]) {
    struct sockaddr_storage name = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof name;
    char host[64] = "?", port[16] = "?";
    if (getsockname(descriptor, (struct sockaddr *)&name, &size) == 0)
        getnameinfo((struct sockaddr *)&name, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(text, ADDRESS_TEXT, name.ss_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, port);
}

static bool bind_host(struct listen_socket *listening, const char *address, bool reuse_port, char *error,
                      size_t error_size) {
    char reason[256];
    struct addrinfo *found = address_find(address, true, reason, sizeof reason);
    if (found == NULL) {
        snprintf(error, error_size, "--listen: %s", reason);
        return false;
    }
    for (const struct addrinfo *info = found; info != NULL && listening->descriptor < 0; info = info->ai_next)
        listening->descriptor = bind_to(info, reuse_port);
    if (listening->descriptor < 0)
        snprintf(error, error_size, "--listen: \"%s\": %s", address, strerror(errno));
    else
        write_name(listening->descriptor, listening->address);
    freeaddrinfo(found);
    return listening->descriptor >= 0;
}

/* ---- unix:PATH */

/* Whether nobody answers at a socket's file. */
static bool is_stale(const struct sockaddr_un *name) {
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool stale = descriptor >= 0 && connect(descriptor, (const struct sockaddr *)name, sizeof *name) != 0 &&
                 errno == ECONNREFUSED;
    if (descriptor >= 0)
        close(descriptor);
    return stale;
}

/* Makes the path free. NULL, or the reason why it is not. */
static const char *clear_path(const struct sockaddr_un *name) {
    struct stat there;
    if (lstat(name->sun_path, &there) != 0)
        return errno == ENOENT ? NULL : strerror(errno);
    if (!S_ISSOCK(there.st_mode))
        return "there is a file that is no socket";
    if (!is_stale(name))
        return "another process listens there";
    return unlink(name->sun_path) == 0 || errno == ENOENT ? NULL : strerror(errno);
}

/* Nobody can connect before listen_begin(), so the permissions are there in time. */
static bool bind_path(struct listen_socket *listening, const char *path, unsigned mode, char *error,
                      size_t error_size) {
    struct sockaddr_un name;
    struct stat made;
    char reason[256];
    if (!address_of_path(path, &name, reason, sizeof reason)) {
        snprintf(error, error_size, "--listen: %s", reason);
        return false;
    }
    const char *occupied = clear_path(&name);
    if (occupied == NULL) {
        int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        bool good = descriptor >= 0 && bind(descriptor, (const struct sockaddr *)&name, sizeof name) == 0 &&
                    chmod(path, mode) == 0 && stat(path, &made) == 0;
        listening->descriptor = keep_if(good, descriptor);
    }
    if (listening->descriptor < 0) {
        snprintf(error, error_size, "--listen: \"unix:%s\": %s", path, occupied != NULL ? occupied : strerror(errno));
        return false;
    }
    listening->path = path;
    listening->device = made.st_dev;
    listening->inode = made.st_ino;
    snprintf(listening->address, sizeof listening->address, "unix:%s", path);
    return true;
}

void listen_remove(const struct listen_socket *listening) {
    struct stat there;
    if (listening->path != NULL && lstat(listening->path, &there) == 0 && there.st_dev == listening->device &&
        there.st_ino == listening->inode)
        unlink(listening->path);
}

/* ---- both */

bool listen_bind(struct listen_socket *listening, const char *address, bool reuse_port, unsigned mode, char *error,
                 size_t error_size) {
    const char *path = address_path(address);
    *listening = (struct listen_socket){.descriptor = -1};
    if (path != NULL && reuse_port) {
        snprintf(error, error_size, "--reuse-port: \"%s\" has no port", address);
        return false;
    }
    return path != NULL ? bind_path(listening, path, mode, error, error_size)
                        : bind_host(listening, address, reuse_port, error, error_size);
}

bool listen_begin(const struct listen_socket *listening, int backlog, char *error, size_t error_size) {
    if (listen(listening->descriptor, backlog) == 0)
        return true;
    snprintf(error, error_size, "--listen: \"%s\": %s", listening->address, strerror(errno));
    return false;
}

int listen_open(const char *address, bool reuse_port, int backlog, char bound[ADDRESS_TEXT], char *error,
                size_t error_size) {
    struct listen_socket listening;
    if (!listen_bind(&listening, address, reuse_port, OWNER_ONLY, error, error_size))
        return -1;
    memcpy(bound, listening.address, ADDRESS_TEXT);
    if (listen_begin(&listening, backlog, error, error_size))
        return listening.descriptor;
    close(listening.descriptor);
    return -1;
}
