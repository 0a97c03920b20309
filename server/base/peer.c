/* peer.c: a socket's events, and the kernel's times of the last data and of the last segment. */
#include "server/base/peer.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>

/* Milliseconds from the last byte of data to the FIN, which is the peer's last segment; -1 when the kernel does not
 * tell. Every segment has an acknowledgement. Once something was sent after the last byte of data, as the reply to the
 * first of several pipelined requests, the peer has acknowledged that after its FIN, and the time is lost. */
static long fin_delay(int socket) {
    struct tcp_info info;
    socklen_t size = sizeof info;
    if (getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        size < offsetof(struct tcp_info, tcpi_last_ack_recv) + sizeof info.tcpi_last_ack_recv)
        return -1;
    if (info.tcpi_last_data_sent < info.tcpi_last_data_recv)
        return -1;
    return (long)info.tcpi_last_data_recv - (long)info.tcpi_last_ack_recv;
}

enum peer_state peer_look(int socket) {
    struct pollfd one = {.fd = socket, .events = POLLRDHUP};
    if (socket < 0 || poll(&one, 1, 0) != 1)
        return PEER_THERE;
    if ((one.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0)
        return PEER_GONE;
    return fin_delay(socket) > PEER_HALF_CLOSE_MILLISECONDS ? PEER_GONE : PEER_HALF_CLOSED;
}
