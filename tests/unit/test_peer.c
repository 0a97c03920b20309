/* test_peer.c: clients that wait, that half-close with their request, that give up, and that reset. */
#include "server/base/peer.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

/* Longer than PEER_HALF_CLOSE_MILLISECONDS and the kernel's ticks together. */
enum { PATIENCE_MILLISECONDS = 100 };

static int ours, theirs;

/* A TCP connection on which the other side has sent a request. */
static int open_pair(void **state) {
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    char request[8];
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listening, (struct sockaddr *)&address, size) != 0 || listen(listening, 1) != 0 ||
        getsockname(listening, (struct sockaddr *)&address, &size) != 0)
        return -1;
    theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(theirs, (struct sockaddr *)&address, size) != 0)
        return -1;
    ours = accept(listening, NULL, NULL);
    close(listening);
    return send(theirs, "request", 7, 0) == 7 && recv(ours, request, 7, MSG_WAITALL) == 7 ? 0 : -1;
}

static int close_pair(void **state) {
    (void)state;
    close(ours);
    if (theirs >= 0)
        close(theirs);
    return 0;
}

static void wait_for_event(short event) {
    struct pollfd one = {.fd = ours, .events = event};
    assert_int_equal(poll(&one, 1, 10000), 1);
}

static void a_client_that_waits_is_there(void **state) {
    (void)state;
    assert_int_equal(peer_look(ours), PEER_THERE);
    usleep(PATIENCE_MILLISECONDS * 1000);
    assert_int_equal(peer_look(ours), PEER_THERE);
    assert_int_equal(send(theirs, "more", 4, 0), 4); /* the next request of a pipeline */
    wait_for_event(POLLIN);
    assert_int_equal(peer_look(ours), PEER_THERE);
    assert_int_equal(peer_look(-1), PEER_THERE);
}

/* It stays a half-closed one for as long as it likes. */
static void a_client_that_half_closes_at_once_waits(void **state) {
    (void)state;
    send(theirs, "last", 4, 0);
    shutdown(theirs, SHUT_WR);
    wait_for_event(POLLRDHUP);
    assert_int_equal(peer_look(ours), PEER_HALF_CLOSED);
    usleep(PATIENCE_MILLISECONDS * 1000);
    assert_int_equal(peer_look(ours), PEER_HALF_CLOSED);
}

/* The replies to the first of several pipelined requests are acknowledged after the FIN. */
static void a_client_that_acknowledges_after_its_fin_waits(void **state) {
    (void)state;
    char reply[5];
    shutdown(theirs, SHUT_WR);
    wait_for_event(POLLRDHUP);
    usleep(PATIENCE_MILLISECONDS * 1000);
    assert_int_equal(send(ours, "reply", 5, 0), 5);
    assert_int_equal(recv(theirs, reply, 5, MSG_WAITALL), 5);
    usleep(PATIENCE_MILLISECONDS * 1000);
    assert_int_equal(peer_look(ours), PEER_HALF_CLOSED);
}

static void a_client_that_gives_up_is_gone(void **state) {
    (void)state;
    usleep(PATIENCE_MILLISECONDS * 1000);
    close(theirs);
    theirs = -1;
    wait_for_event(POLLRDHUP);
    assert_int_equal(peer_look(ours), PEER_GONE);
}

static void a_client_that_resets_is_gone(void **state) {
    (void)state;
    setsockopt(theirs, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1, .l_linger = 0}, sizeof(struct linger));
    close(theirs);
    theirs = -1;
    wait_for_event(POLLIN);
    assert_int_equal(peer_look(ours), PEER_GONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_client_that_waits_is_there, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_client_that_half_closes_at_once_waits, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_client_that_acknowledges_after_its_fin_waits, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_client_that_gives_up_is_gone, open_pair, close_pair),
        cmocka_unit_test_setup_teardown(a_client_that_resets_is_gone, open_pair, close_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
