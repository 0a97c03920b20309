/* connections.h: the phase of each open connection, and when it began.
 *
 * libmicrohttpd's own timeout starts anew with each byte, so one byte a second holds a connection for ever. Here each
 * phase has one deadline for all of it. A sweep reports the connections that are past their deadline to the caller. One
 * look takes about a microsecond, so each call sweeps a part: requests would wait for a sweep of thousands. Knows
 * sockets and clocks, not HTTP. Belongs to the loop's thread.
 */
#ifndef SERVER_HTTP_CONNECTIONS_H
#define SERVER_HTTP_CONNECTIONS_H

#include <stddef.h>
#include <stdint.h>

enum connection_phase {
    CONNECTION_WAITING,  /* for a request's headers */
    CONNECTION_BODY,     /* for its body */
    CONNECTION_WORKING,  /* for our own answer: no deadline here */
    CONNECTION_REPLYING, /* for the client to take the answer */
    CONNECTION_CLOSING   /* told to go */
};

/* Why a connection was closed. */
enum connection_end {
    END_ORDINARY, /* by the client, or after an answer */
    END_IDLE,
    END_HEADER_TIMEOUT,
    END_BODY_TIMEOUT,
    END_REPLY_TIMEOUT,
    END_DRAIN,
    CONNECTION_ENDS
};
extern const char *const connection_end_names[CONNECTION_ENDS];

struct connection {
    struct connection *next, *previous;
    int socket;
    enum connection_phase phase;
    uint64_t since;    /* when the phase began */
    uint64_t began;    /* waiting: when the first byte of a request was noticed, or 0 */
    uint64_t received; /* waiting: bytes received before that, or not yet known */
    enum connection_end end;
    void *owner; /* the caller's */
};

/* A sweep looks at CONNECTIONS_A_SWEEP, or at a SWEEPS_A_ROUND-th of all where that is more. */
enum { CONNECTIONS_A_SWEEP = 32, SWEEPS_A_ROUND = 250 };

struct connections {
    struct connection *first;
    struct connection *next_swept; /* NULL: the first */
    size_t count;
    uint64_t header_timeout; /* nanoseconds, as all times here */
    uint64_t body_timeout;
    uint64_t reply_timeout;
    uint64_t idle_timeout;
};

/* `connection` is the caller's memory until connections_remove(). */
void connections_add(struct connections *connections, struct connection *connection, int socket, uint64_t now);
void connections_remove(struct connections *connections, struct connection *connection);

void connection_enter(struct connection *connection, enum connection_phase phase, uint64_t now);
/* Waiting: part of a request is here. */
void connection_request_began(struct connection *connection, uint64_t now);

/* Look at the next few, and go on from there the next time. Call `expired` for each that is past its deadline or whose
 * peer has left, once, with the reason; it is in CONNECTION_CLOSING by then. `expired` adds and removes no connection.
 */
typedef void connection_expired(void *context, struct connection *connection, enum connection_end why);
void connections_sweep(struct connections *connections, uint64_t now, connection_expired *expired, void *context);

/* Calls until each has been looked at: 1 to SWEEPS_A_ROUND. */
size_t connections_sweeps(const struct connections *connections);

/* Expires all connections that have waited for `silence` nanoseconds without a byte, for a server that stops. */
void connections_dismiss(struct connections *connections, uint64_t now, uint64_t silence, connection_expired *expired,
                         void *context);

#endif
