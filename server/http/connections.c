/* connections.c: one list of all, of which a sweep walks a part, and a queue for each phase. */
#include "server/http/connections.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BYTES_UNKNOWN UINT64_MAX
enum { TCP_STATE_CLOSE = 7, TCP_STATE_CLOSE_WAIT = 8 }; /* as netinet/tcp.h says, which does not go with linux/tcp.h */

const char *const connection_end_names[CONNECTION_ENDS] = {
    [END_ORDINARY] = "ordinary",
    [END_IDLE] = "idle-timeout",
    [END_HEADER_TIMEOUT] = "header-timeout",
    [END_BODY_TIMEOUT] = "body-timeout",
    [END_REPLY_TIMEOUT] = "reply-timeout",
    [END_DRAIN] = "drain",
    [END_FULL] = "full",
    [END_REPLY_DROPPED] = "reply-dropped",
};

/* Nanoseconds. A connection that was opened or answered just now may have its request on the way. */
static const uint64_t idle_moment = 100000000, slow_moment = 1000000000;
/* Idle connections that are looked at for one without unread bytes. */
enum { LOOKS = 8 };

static void leave_queue(struct connection *connection) {
    struct phase_queue *queue = &connection->set->queues[connection->phase];
    *(connection->phase_previous != NULL ? &connection->phase_previous->phase_next : &queue->first) =
        connection->phase_next;
    *(connection->phase_next != NULL ? &connection->phase_next->phase_previous : &queue->last) =
        connection->phase_previous;
    queue->count--;
}

static void join_queue(struct connection *connection, enum connection_phase phase, uint64_t now) {
    struct phase_queue *queue = &connection->set->queues[phase];
    connection->phase = phase;
    connection->since = now;
    connection->received = BYTES_UNKNOWN;
    connection->phase_next = NULL;
    connection->phase_previous = queue->last;
    *(queue->last != NULL ? &queue->last->phase_next : &queue->first) = connection;
    queue->last = connection;
    queue->count++;
}

void connections_add(struct connections *connections, struct connection *connection, int socket, uint64_t now) {
    *connection = (struct connection){
        .set = connections, .next = connections->first, .socket = socket, .owner = connection->owner};
    join_queue(connection, CONNECTION_WAITING, now);
    connection->received = 0;
    if (connections->first != NULL)
        connections->first->previous = connection;
    connections->first = connection;
    connections->count++;
}

void connections_remove(struct connections *connections, struct connection *connection) {
    leave_queue(connection);
    if (connections->next_swept == connection)
        connections->next_swept = connection->next;
    *(connection->previous != NULL ? &connection->previous->next : &connections->first) = connection->next;
    if (connection->next != NULL)
        connection->next->previous = connection->previous;
    connections->count--;
}

void connection_enter(struct connection *connection, enum connection_phase phase, uint64_t now) {
    if (connection->phase == CONNECTION_CLOSING)
        return;
    leave_queue(connection);
    join_queue(connection, phase, now);
}

void connection_request_began(struct connection *connection, uint64_t now) {
    if (connection->phase == CONNECTION_WAITING)
        connection_enter(connection, CONNECTION_HEAD, now);
}

/* The kernel's knowledge of a socket's peer. */
struct peer {
    uint64_t received; /* all bytes it ever sent here, or BYTES_UNKNOWN */
    bool has_closed;   /* its sending side */
    bool is_gone;
};

static struct peer look_at_peer(int socket) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) { /* of unix:PATH */
        struct pollfd one = {.fd = socket, .events = POLLRDHUP};
        poll(&one, 1, 0);
        return (struct peer){.received = BYTES_UNKNOWN,
                             .has_closed = (one.revents & (POLLRDHUP | POLLHUP)) != 0,
                             .is_gone = (one.revents & (POLLHUP | POLLERR)) != 0};
    }
    bool counts = size >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received;
    return (struct peer){.received = counts ? info.tcpi_bytes_received : BYTES_UNKNOWN,
                         .has_closed = info.tcpi_state == TCP_STATE_CLOSE_WAIT,
                         .is_gone = info.tcpi_state == TCP_STATE_CLOSE};
}

bool connection_is_cut(const struct connection *connection) {
    return look_at_peer(connection->socket).is_gone;
}

static bool is_past(uint64_t since, uint64_t timeout, uint64_t now) {
    return now > since && now - since > timeout;
}

/* True when the connection is past its deadline; *why is then the reason. */
static bool is_expired(const struct connections *connections, const struct connection *connection, uint64_t now,
                       enum connection_end *why) {
    switch (connection->phase) {
    case CONNECTION_WAITING:
        *why = END_IDLE;
        return is_past(connection->since, connections->idle_timeout, now);
    case CONNECTION_HEAD:
        *why = END_HEADER_TIMEOUT;
        return is_past(connection->since, connections->header_timeout, now);
    case CONNECTION_BODY:
        *why = END_BODY_TIMEOUT;
        return is_past(connection->since, connections->body_timeout, now);
    case CONNECTION_REPLYING:
        *why = END_REPLY_TIMEOUT;
        return is_past(connection->since, connections->reply_timeout, now);
    case CONNECTION_WORKING:
    case CONNECTION_CLOSING:
    case CONNECTION_PHASES:
        break;
    }
    return false;
}

static void expire(struct connection *connection, enum connection_end why, uint64_t now, connection_expired *expired,
                   void *context) {
    connection_enter(connection, CONNECTION_CLOSING, now);
    connection->end = why;
    expired(context, connection, why);
}

/* A look at a connection that waits for its client. True when it is to be closed. */
static bool examine(const struct connections *connections, struct connection *connection, uint64_t now,
                    enum connection_end *why) {
    *why = END_ORDINARY;
    if (connection->phase <= CONNECTION_BODY) {
        struct peer peer = look_at_peer(connection->socket);
        int unread = 0;
        /* The peer has closed, and all its bytes have been read. libmicrohttpd 0.9.75 misses this when the last bytes
         * and the close come together: it takes a short read for the end of the data, and no other event follows. */
        if (peer.has_closed && ioctl(connection->socket, FIONREAD, &unread) == 0 && unread == 0)
            return true;
        /* libmicrohttpd tells of a request once its first line is whole. The kernel counts bytes before that: the first
         * sweep that finds the connection waiting takes the count, and a later one sees it change. */
        if (connection->phase == CONNECTION_WAITING) {
            if (connection->received == BYTES_UNKNOWN)
                connection->received = peer.received;
            else if (peer.received != BYTES_UNKNOWN && peer.received != connection->received)
                connection_enter(connection, CONNECTION_HEAD, now);
        }
    }
    return is_expired(connections, connection, now, why);
}

static size_t connections_a_sweep(const struct connections *connections) {
    size_t part = (connections->count + SWEEPS_A_ROUND - 1) / SWEEPS_A_ROUND;
    return part > CONNECTIONS_A_SWEEP ? part : CONNECTIONS_A_SWEEP;
}

void connections_sweep(struct connections *connections, uint64_t now, connection_expired *expired, void *context) {
    size_t most = connections_a_sweep(connections);
    for (size_t i = 0; i < most && i < connections->count; i++) {
        struct connection *connection = connections->next_swept != NULL ? connections->next_swept : connections->first;
        enum connection_end why;
        connections->next_swept = connection->next;
        if (examine(connections, connection, now, &why))
            expire(connection, why, now, expired, context);
    }
}

size_t connections_sweeps(const struct connections *connections) {
    size_t a_sweep = connections_a_sweep(connections);
    size_t sweeps = (connections->count + a_sweep - 1) / a_sweep;
    return sweeps > 0 ? sweeps : 1;
}

void connections_dismiss(struct connections *connections, uint64_t now, uint64_t silence, connection_expired *expired,
                         void *context) {
    struct connection *next = NULL;
    for (struct connection *connection = connections->queues[CONNECTION_WAITING].first; connection != NULL;
         connection = next) {
        next = connection->phase_next;
        if (!is_past(connection->since, silence, now))
            break;
        expire(connection, END_DRAIN, now, expired, context);
    }
}

static bool has_unread_bytes(const struct connection *connection) {
    int unread = 0;
    return ioctl(connection->socket, FIONREAD, &unread) == 0 && unread > 0;
}

/* Of the idle ones, the longest whose next request has not arrived meanwhile. NULL when none is idle for longer than
 * `moment`. */
static struct connection *longest_idle(const struct connections *connections, uint64_t now, uint64_t moment) {
    struct connection *longest = connections->queues[CONNECTION_WAITING].first;
    for (int i = 0; i < LOOKS && longest != NULL && is_past(longest->since, moment, now); i++) {
        if (!has_unread_bytes(longest))
            return longest;
        longest = longest->phase_next;
    }
    return NULL;
}

/* The one that has waited for its client for longest, whatever for. */
static struct connection *longest_waiting(const struct connections *connections) {
    struct connection *longest = connections->queues[CONNECTION_WAITING].first;
    for (int phase = CONNECTION_HEAD; phase <= CONNECTION_BODY; phase++) {
        struct connection *first = connections->queues[phase].first;
        if (first != NULL && (longest == NULL || first->since < longest->since))
            longest = first;
    }
    return longest;
}

bool connections_make_room(struct connections *connections, enum connection_need need, uint64_t now,
                           connection_expired *expired, void *context) {
    struct connection *longest = NULL;
    if (need == NEED_AT_ONCE) {
        longest = longest_waiting(connections);
    } else {
        longest = longest_idle(connections, now, need == NEED_FOR_REQUEST ? 0 : idle_moment);
        for (int phase = CONNECTION_HEAD; phase <= CONNECTION_BODY && longest == NULL; phase++) {
            struct connection *first = connections->queues[phase].first;
            longest = first != NULL && is_past(first->since, slow_moment, now) ? first : NULL;
        }
    }
    if (longest == NULL)
        return false;
    expire(longest, END_FULL, now, expired, context);
    return true;
}

bool connections_drop_reply(struct connections *connections, const struct connection *spared, uint64_t age,
                            uint64_t now, connection_expired *expired, void *context) {
    struct connection *longest = connections->queues[CONNECTION_REPLYING].first;
    if (longest != NULL && longest == spared)
        longest = longest->phase_next;
    if (longest == NULL || now - longest->since < age)
        return false;
    expire(longest, END_REPLY_DROPPED, now, expired, context);
    return true;
}
