/* lingering_close.c: a list of sockets, and one epoll descriptor for them all. */
#include "server/http/lingering_close.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct lingering {
    struct lingering *next, *previous;
    int socket;
    uint64_t until;
};

/* At most 2 MB a turn, a fraction of a millisecond: clients that go on sending must not keep the loop. */
enum { EVENTS = 16, READ_BYTES = 1 << 16, READS_A_TURN = 2 };

int linger_start(struct linger_list *linger, uint64_t patience) {
    *linger = (struct linger_list){.descriptor = epoll_create1(EPOLL_CLOEXEC), .patience = patience};
    return linger->descriptor;
}

static void finish(struct linger_list *linger, struct lingering *one) {
    if (one->previous != NULL)
        one->previous->next = one->next;
    else
        linger->first = one->next;
    if (one->next != NULL)
        one->next->previous = one->previous;
    /* Explicitly: an epoll entry belongs to the open socket, of which libmicrohttpd may still hold a descriptor. */
    epoll_ctl(linger->descriptor, EPOLL_CTL_DEL, one->socket, NULL);
    close(one->socket);
    free(one);
    linger->count--;
}

void linger_stop(struct linger_list *linger) {
    struct lingering *next = NULL;
    for (struct lingering *one = linger->first; one != NULL; one = next) {
        next = one->next;
        finish(linger, one);
    }
    if (linger->descriptor >= 0)
        close(linger->descriptor);
}

void linger_add(struct linger_list *linger, int socket, uint64_t now) {
    struct lingering *one = malloc(sizeof *one);
    int copy = one != NULL ? fcntl(socket, F_DUPFD_CLOEXEC, 0) : -1;
    if (copy < 0) {
        free(one);
        return;
    }
    *one = (struct lingering){.next = linger->first, .socket = copy, .until = now + linger->patience};
    if (linger->first != NULL)
        linger->first->previous = one;
    linger->first = one;
    linger->count++;
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP, .data.ptr = one};
    if (epoll_ctl(linger->descriptor, EPOLL_CTL_ADD, copy, &event) != 0)
        finish(linger, one);
}

/* False when the client is done. */
static bool read_on(int socket) {
    static char bytes[READ_BYTES]; /* the loop's thread alone is here */
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t got = recv(socket, bytes, sizeof bytes, MSG_DONTWAIT);
        if (got <= 0)
            return got < 0 && (errno == EAGAIN || errno == EINTR);
    }
    return true;
}

void linger_run(struct linger_list *linger) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(linger->descriptor, events, EVENTS, 0);
    for (int i = 0; i < count; i++) {
        struct lingering *one = events[i].data.ptr;
        if (!read_on(one->socket))
            finish(linger, one);
    }
}

void linger_expire(struct linger_list *linger, uint64_t now) {
    struct lingering *next = NULL;
    for (struct lingering *one = linger->first; one != NULL; one = next) {
        next = one->next;
        if (now >= one->until)
            finish(linger, one);
    }
}
