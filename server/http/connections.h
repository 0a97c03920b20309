/* connections.h: the phase of each open connection, and when it began.
 *
 * libmicrohttpd's own timeout starts anew with each byte, so one byte a second holds a connection for ever. Here each
 * phase has one deadline for all of it. A sweep reports the connections that are past their deadline to the caller. One
 * look takes about a microsecond, so each call sweeps a part: requests would wait for a sweep of thousands. The
 * connections of a phase stand in a queue, the longest first, so that one can be closed to make room for another.
 * Knows sockets and clocks, not HTTP. Belongs to the loop's thread.
 */
#ifndef SERVER_HTTP_CONNECTIONS_H
#define SERVER_HTTP_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum connection_phase {
    CONNECTION_WAITING,  /* for a request: idle */
    CONNECTION_HEAD,     /* part of a request is here: for the rest of its headers */
    CONNECTION_BODY,     /* for its body */
    CONNECTION_WORKING,  /* for our own answer: no deadline here */
    CONNECTION_REPLYING, /* for the client to take the answer */
    CONNECTION_CLOSING,  /* told to go */
    CONNECTION_PHASES
};

/* Why a connection was closed. */
enum connection_end {
    END_ORDINARY, /* by the client, or after an answer */
    END_IDLE,
    END_HEADER_TIMEOUT,
    END_BODY_TIMEOUT,
    END_REPLY_TIMEOUT,
    END_DRAIN,
    END_FULL,          /* for another one: the longest idle, or the slowest in its headers or body */
    END_REPLY_DROPPED, /* the longest in taking its reply, for the memory of others */
    CONNECTION_ENDS
};
extern const char *const connection_end_names[CONNECTION_ENDS];

struct connection {
    struct connections *set;
    struct connection *next, *previous;             /* in all */
    struct connection *phase_next, *phase_previous; /* in the queue of its phase */
    int socket;
    enum connection_phase phase;
    uint64_t since;    /* when the phase began */
    uint64_t received; /* waiting: bytes received so far, or not yet known */
    enum connection_end end;
    bool in_reserve; /* the caller's, as the rest: opened beyond the ordinary number */
    void *owner;
    void *handle; /* libmicrohttpd's connection */
};

/* A sweep looks at CONNECTIONS_A_SWEEP, or at a SWEEPS_A_ROUND-th of all where that is more. */
enum { CONNECTIONS_A_SWEEP = 32, SWEEPS_A_ROUND = 250 };

struct connections {
    struct connection *first;
    struct connection *next_swept; /* NULL: the first */
    size_t count;
    struct phase_queue {
        struct connection *first, *last; /* the first has been in the phase for longest */
        size_t count;
    } queues[CONNECTION_PHASES];
    uint64_t header_timeout; /* nanoseconds, as all times here */
    uint64_t body_timeout;
    uint64_t reply_timeout;
    uint64_t idle_timeout;
};

/* `connection` is the caller's memory until connections_remove(). */
void connections_add(struct connections *connections, struct connection *connection, int socket, uint64_t now);
void connections_remove(struct connections *connections, struct connection *connection);

/* `now` never goes back. What is told to go stays told. */
void connection_enter(struct connection *connection, enum connection_phase phase, uint64_t now);
/* Waiting: part of a request is here. */
void connection_request_began(struct connection *connection, uint64_t now);

/* Those that have not been told to go. */
static inline size_t connections_staying(const struct connections *connections) {
    return connections->count - connections->queues[CONNECTION_CLOSING].count;
}

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

enum connection_need {
    NEED_FOR_CONNECTION, /* another one is opened: an idle one goes unless it was opened or answered just now */
    NEED_FOR_REQUEST,    /* a request is here: any idle one goes */
    NEED_AT_ONCE         /* no more can be opened: the one goes that has waited for its client for longest */
};
/* Expires the connection that is missed least, with END_FULL: the longest idle one, else one whose headers or body have
 * been coming for a second and for longest. False when there is none. */
bool connections_make_room(struct connections *connections, enum connection_need need, uint64_t now,
                           connection_expired *expired, void *context);
/* Expires the one that has been taking its reply for longest, and for `age` at least; `spared` (or NULL) stays. False
 * when there is none. */
bool connections_drop_reply(struct connections *connections, const struct connection *spared, uint64_t age,
                            uint64_t now, connection_expired *expired, void *context);

/* The kernel has no connection any more: the peer has reset it. */
bool connection_is_cut(const struct connection *connection);

#endif
