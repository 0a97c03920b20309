/* connections.c: one list, walked by each sweep. */
#include "server/connections.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#define BYTES_UNKNOWN UINT64_MAX

const char *const connection_end_names[CONNECTION_ENDS] = {
    [END_ORDINARY] = "ordinary",         [END_IDLE] = "idle-timeout",           [END_HEADER_TIMEOUT] = "header-timeout",
    [END_BODY_TIMEOUT] = "body-timeout", [END_REPLY_TIMEOUT] = "reply-timeout", [END_DRAIN] = "drain",
};

void connections_add(struct connections *connections, struct connection *connection, int socket, uint64_t now) {
    *connection = (struct connection){.next = connections->first, .socket = socket, .owner = connection->owner};
    connection_enter(connection, CONNECTION_WAITING, now);
    connection->received = 0;
    if (connections->first != NULL) {
        connections->first->previous = connection;
    }
    connections->first = connection;
    connections->count++;
}

void connections_remove(struct connections *connections, struct connection *connection) {
    *(connection->previous != NULL ? &connection->previous->next : &connections->first) = connection->next;
    if (connection->next != NULL) {
        connection->next->previous = connection->previous;
    }
    connections->count--;
}

void connection_enter(struct connection *connection, enum connection_phase phase, uint64_t now) {
    if (connection->phase == CONNECTION_CLOSING) {
        return;
    }
    connection->phase = phase;
    connection->since = now;
    connection->began = 0;
    connection->received = BYTES_UNKNOWN;
}

void connection_request_began(struct connection *connection, uint64_t now) {
    if (connection->began == 0) {
        connection->began = now;
    }
}

/* All bytes that the peer ever sent here, or BYTES_UNKNOWN. */
static uint64_t bytes_received(int socket) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        size < offsetof(struct tcp_info, tcpi_bytes_received) + sizeof info.tcpi_bytes_received) {
        return BYTES_UNKNOWN;
    }
    return info.tcpi_bytes_received;
}

/* Has a request begun to come in? libmicrohttpd says so only once a whole line is there; the kernel counts bytes. The
 * count to compare with is taken at the first sweep that finds the connection waiting. */
static void notice_bytes(struct connection *connection, uint64_t now) {
    if (connection->began != 0) {
        return;
    }
    uint64_t received = bytes_received(connection->socket);
    if (connection->received == BYTES_UNKNOWN) {
        connection->received = received;
    } else if (received != BYTES_UNKNOWN && received != connection->received) {
        connection->began = now;
    }
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

void connections_sweep(struct connections *connections, uint64_t now, connection_expired *expired, void *context) {
    for (struct connection *connection = connections->first; connection != NULL; connection = connection->next) {
        enum connection_end why = END_ORDINARY;
        if (connection->phase == CONNECTION_WAITING) {
            notice_bytes(connection, now);
        }
        if (is_expired(connections, connection, now, &why)) {
            expire(connection, why, now, expired, context);
        }
    }
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
