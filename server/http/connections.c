/* connections.c: one list; a sweep walks part of it. */
#include "server/http/connections.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define BYTES_UNKNOWN UINT64_MAX
enum { TCP_STATE_CLOSE_WAIT = 8 }; /* as netinet/tcp.h says, which does not go with linux/tcp.h */

const char *const connection_end_names[CONNECTION_ENDS] = {
    [END_ORDINARY] = "ordinary",         [END_IDLE] = "idle-timeout",           [END_HEADER_TIMEOUT] = "header-timeout",
    [END_BODY_TIMEOUT] = "body-timeout", [END_REPLY_TIMEOUT] = "reply-timeout", [END_DRAIN] = "drain",
};

void connections_add(struct connections *connections, struct connection *connection, int socket, uint64_t now) {
    *connection = (struct connection){.next = connections->first, .socket = socket, .owner = connection->owner};
    connection_enter(connection, CONNECTION_WAITING, now);
    connection->received = 0;
    if (connections->first != NULL)
        connections->first->previous = connection;
    connections->first = connection;
    connections->count++;
}

void connections_remove(struct connections *connections, struct connection *connection) {
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
    connection->phase = phase;
    connection->since = now;
    connection->began = 0;
    connection->received = BYTES_UNKNOWN;
}

void connection_request_began(struct connection *connection, uint64_t now) {
    if (connection->began == 0)
        connection->began = now;
}

/* The kernel's knowledge of a socket's peer. */
struct peer {
    uint64_t received; /* all bytes it ever sent here, or BYTES_UNKNOWN */
    bool has_closed;
};

static struct peer look_at_peer(int socket) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return (struct peer){.received = BYTES_UNKNOWN};
    bool counts = size >= offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received;
    return (struct peer){.received = counts ? info.tcpi_bytes_received : BYTES_UNKNOWN,
                         .has_closed = info.tcpi_state == TCP_STATE_CLOSE_WAIT};
}

static bool is_past(uint64_t since, uint64_t timeout, uint64_t now) {
    return now > since && now - since > timeout;
}

/* True when the connection is past its deadline; *why is then the reason. */
static bool is_expired(const struct connections *connections, const struct connection *connection, uint64_t now,
                       enum connection_end *why) {
    switch (connection->phase) {
    case CONNECTION_WAITING:
        if (connection->began != 0) {
            *why = END_HEADER_TIMEOUT;
            return is_past(connection->began, connections->header_timeout, now);
        }
        *why = END_IDLE;
        return is_past(connection->since, connections->idle_timeout, now);
    case CONNECTION_BODY:
        *why = END_BODY_TIMEOUT;
        return is_past(connection->since, connections->body_timeout, now);
    case CONNECTION_REPLYING:
        *why = END_REPLY_TIMEOUT;
        return is_past(connection->since, connections->reply_timeout, now);
    case CONNECTION_WORKING:
    case CONNECTION_CLOSING:
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
    if (connection->phase == CONNECTION_WAITING || connection->phase == CONNECTION_BODY) {
        struct peer peer = look_at_peer(connection->socket);
        int unread = 0;
        /* The peer has closed, and all its bytes have been read. libmicrohttpd 0.9.75 misses this when the last bytes
         * and the close come together: it takes a short read for the end of the data, and no other event follows. */
        if (peer.has_closed && ioctl(connection->socket, FIONREAD, &unread) == 0 && unread == 0)
            return true;
        /* libmicrohttpd tells of a request once its first line is whole. The kernel counts bytes before that: the first
         * sweep that finds the connection waiting takes the count, and a later one sees it change. */
        if (connection->phase == CONNECTION_WAITING && connection->began == 0) {
            if (connection->received == BYTES_UNKNOWN)
                connection->received = peer.received;
            else if (peer.received != BYTES_UNKNOWN && peer.received != connection->received)
                connection->began = now;
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
    for (struct connection *connection = connections->first; connection != NULL; connection = connection->next) {
        if (connection->phase == CONNECTION_WAITING && connection->began == 0 &&
            is_past(connection->since, silence, now)) {
            expire(connection, END_DRAIN, now, expired, context);
        }
    }
}
