/* peer.h: whether the client at the other end of a TCP connection still waits for an answer.
 *
 * A client that gives up closes its socket. Its kernel then sends the FIN that a half-closed connection begins with,
 * and answers with a reset only when we write. The time of the FIN tells the two apart: a client that half-closes does
 * so right behind its request, while one that gives up has waited. A FIN more than PEER_HALF_CLOSE_MILLISECONDS after
 * the last byte of data therefore counts as a departure. */
#ifndef SERVER_BASE_PEER_H
#define SERVER_BASE_PEER_H

enum peer_state {
    PEER_THERE,
    PEER_HALF_CLOSED, /* sends no more, but reads */
    PEER_GONE         /* closed or reset its socket */
};

/* The kernel counts in ticks of up to 10 ms, so a shorter time could not be told from none. */
enum { PEER_HALF_CLOSE_MILLISECONDS = 20 };

/* One system call, and a second one where the peer has sent a FIN. Never blocks. A negative socket is PEER_THERE. */
enum peer_state peer_look(int socket);

#endif
