/* test_lingering_close.c: sockets that are read on from after a refusal, and when they are let go. */
#include "server/http/lingering_close.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE = 1000, NOW = 5000 };

static struct linger_list list;
static int client, server; /* a connection */

static void connect_pair(int *one, int *other) {
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    *one = pair[0];
    *other = pair[1];
}

static int start(void **state) {
    (void)state;
    connect_pair(&client, &server);
    return linger_start(&list, PATIENCE) == list.descriptor && list.descriptor >= 0 ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    linger_stop(&list);
    close(client);
    close(server);
    return 0;
}

static bool is_readable(int descriptor) {
    struct pollfd one = {.fd = descriptor, .events = POLLIN};
    return poll(&one, 1, 0) == 1;
}

/* The other end of a client's connection is closed. */
static bool is_closed(int socket) {
    char byte;
    return recv(socket, &byte, 1, MSG_DONTWAIT) == 0;
}

static void send_bytes(int socket, size_t count) {
    static const char bytes[4096];
    while (count > 0) {
        size_t some = count < sizeof bytes ? count : sizeof bytes;
        assert_int_equal(send(socket, bytes, some, MSG_NOSIGNAL), some);
        count -= some;
    }
}

/* The caller closes its own descriptor, and the connection lives on. */
static void a_copy_of_the_socket_is_kept(void **state) {
    (void)state;
    linger_add(&list, server, NOW);
    assert_int_equal(list.count, 1);
    assert_true(list.first != NULL);
    assert_true(fcntl(server, F_GETFD) >= 0); /* still the caller's */
    close(server);
    assert_false(is_closed(client));
    send_bytes(client, 100);
    linger_expire(&list, NOW + PATIENCE);
    server = open("/dev/null", O_RDONLY | O_CLOEXEC); /* for stop() */
}

static void bytes_are_read_and_thrown_away(void **state) {
    (void)state;
    linger_add(&list, server, NOW);
    assert_false(is_readable(list.descriptor));
    for (int i = 0; i < 100; i++) { /* many times the socket's buffer */
        send_bytes(client, 32768);
        assert_true(is_readable(list.descriptor));
        linger_run(&list);
        assert_false(is_readable(list.descriptor));
        assert_false(is_readable(server));
    }
    assert_int_equal(list.count, 1);
}

static void a_client_that_has_ended_is_let_go(void **state) {
    (void)state;
    linger_add(&list, server, NOW);
    send_bytes(client, 10);
    shutdown(client, SHUT_WR);
    assert_true(is_readable(list.descriptor));
    linger_run(&list);
    assert_int_equal(list.count, 0);
    assert_null(list.first);
    close(server);
    assert_true(is_closed(client));
    server = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void patience_ends(void **state) {
    (void)state;
    linger_add(&list, server, NOW);
    linger_expire(&list, NOW + PATIENCE - 1);
    assert_int_equal(list.count, 1);
    linger_expire(&list, NOW + PATIENCE);
    assert_int_equal(list.count, 0);
    assert_null(list.first);
}

/* libmicrohttpd may still hold the socket after the copy is closed: its events are no longer ours. */
static void nothing_is_heard_after_the_end(void **state) {
    (void)state;
    linger_add(&list, server, NOW);
    linger_expire(&list, NOW + PATIENCE);
    send_bytes(client, 10);
    assert_false(is_readable(list.descriptor));
    linger_run(&list);
    assert_true(is_readable(server)); /* unread */
}

/* Of three, each can be the one that ends first, second and last. */
static void any_order_of_ending(void **state) {
    (void)state;
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        int clients[3];
        for (size_t j = 0; j < 3; j++) {
            int other;
            connect_pair(&clients[j], &other);
            linger_add(&list, other, NOW);
            close(other);
        }
        assert_int_equal(list.count, 3);
        for (size_t j = 0; j < 3; j++) {
            close(clients[orders[i][j]]);
            linger_run(&list);
            assert_int_equal(list.count, 2 - j);
            for (size_t k = j + 1; k < 3; k++)
                assert_false(is_closed(clients[orders[i][k]]));
        }
        assert_null(list.first);
    }
}

/* Each has its own time. */
static void only_those_whose_time_is_up_end(void **state) {
    (void)state;
    int clients[3];
    for (size_t j = 0; j < 3; j++) {
        int other;
        connect_pair(&clients[j], &other);
        linger_add(&list, other, NOW + (j == 1 ? 0 : 10));
        close(other);
    }
    linger_expire(&list, NOW + PATIENCE + 5);
    assert_int_equal(list.count, 2);
    assert_false(is_closed(clients[0]));
    assert_true(is_closed(clients[1]));
    assert_false(is_closed(clients[2]));
    linger_expire(&list, NOW + PATIENCE + 10);
    assert_int_equal(list.count, 0);
    for (size_t j = 0; j < 3; j++)
        close(clients[j]);
}

static void a_stop_closes_all(void **state) {
    (void)state;
    struct linger_list own;
    int clients[3], epoll = linger_start(&own, PATIENCE);
    for (size_t j = 0; j < 3; j++) {
        int other;
        connect_pair(&clients[j], &other);
        linger_add(&own, other, NOW);
        close(other);
    }
    linger_stop(&own);
    for (size_t j = 0; j < 3; j++) {
        assert_true(is_closed(clients[j]));
        close(clients[j]);
    }
    assert_int_equal(fcntl(epoll, F_GETFD), -1);
    assert_int_equal(errno, EBADF);
}

static void what_is_no_socket_is_not_kept(void **state) {
    (void)state;
    int file = open("tests/unit/test_lingering_close.c", O_RDONLY | O_CLOEXEC); /* epoll takes no file */
    assert_true(file >= 0);
    linger_add(&list, file, NOW);
    assert_int_equal(list.count, 0);
    close(file);
    linger_add(&list, -1, NOW);
    assert_int_equal(list.count, 0);
    assert_null(list.first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_of_the_socket_is_kept, start, stop),
        cmocka_unit_test_setup_teardown(bytes_are_read_and_thrown_away, start, stop),
        cmocka_unit_test_setup_teardown(a_client_that_has_ended_is_let_go, start, stop),
        cmocka_unit_test_setup_teardown(patience_ends, start, stop),
        cmocka_unit_test_setup_teardown(nothing_is_heard_after_the_end, start, stop),
        cmocka_unit_test_setup_teardown(any_order_of_ending, start, stop),
        cmocka_unit_test_setup_teardown(only_those_whose_time_is_up_end, start, stop),
        cmocka_unit_test_setup_teardown(a_stop_closes_all, start, stop),
        cmocka_unit_test_setup_teardown(what_is_no_socket_is_not_kept, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
