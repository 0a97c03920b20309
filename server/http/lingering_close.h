/* lingering_close.h: reading on after a refusal.
 *
 * A body that was refused unread lies in the socket's buffer, and closing a socket with unread bytes makes the kernel
 * reset the connection, which takes the refusal away from a client that has not read it yet. So a copy of the
 * descriptor outlives the connection, and the client's further bytes are read and discarded until it stops or the time
 * is up.
 */
#ifndef SERVER_HTTP_LINGERING_CLOSE_H
#define SERVER_HTTP_LINGERING_CLOSE_H

#include <stddef.h>
#include <stdint.h>

struct lingering;

struct linger_list {
    int descriptor; /* readable when linger_run() has something to do */
    struct lingering *first;
    size_t count;
    uint64_t patience; /* nanoseconds */
};

/* The descriptor, or -1 when the kernel gives none. */
int linger_start(struct linger_list *linger, uint64_t patience);
void linger_stop(struct linger_list *linger);

/* Read on from a copy of `socket`, which stays the caller's. Best effort. */
void linger_add(struct linger_list *linger, int socket, uint64_t now);
void linger_run(struct linger_list *linger);
/* Close those whose time is up; call it a few times a second. */
void linger_expire(struct linger_list *linger, uint64_t now);

#endif
