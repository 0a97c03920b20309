/* test_receive_tap.c: libmicrohttpd's bytes pass the tap, which can end the stream; nobody else's do. */
#include "server/http/receive_tap.h"

#include <microhttpd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct seen {
    int socket;
    char bytes[256];
    size_t capacity;   /* at the last call */
    size_t size, most; /* beyond `most` the stream ends */
};

static bool see(void *context, int socket, char *data, size_t size, size_t capacity) {
    struct seen *seen = context;
    assert_true(capacity >= size);
    seen->capacity = capacity;
    assert_true(size > 0 && seen->size + size <= sizeof seen->bytes);
    seen->socket = socket;
    memcpy(seen->bytes + seen->size, data, size);
    seen->size += size;
    return seen->size <= seen->most;
}

static void make_pair(int pair[2]) {
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(send(pair[0], "hello", 5, 0), 5);
}

static void bytes_pass_with_and_without_a_tap(void **state) {
    (void)state;
    struct seen seen = {.most = 5};
    char bytes[8] = "";
    int pair[2];
    make_pair(pair);
    assert_int_equal(recv(pair[1], bytes, 2, MSG_PEEK), 2);
    assert_int_equal(recv(pair[1], bytes, 2, 0), 2);
    receive_tap_begin(see, &seen);
    assert_int_equal(recv(pair[1], bytes + 2, 6, 0), 3);
    assert_int_equal(recv(pair[1], bytes, 1, MSG_DONTWAIT), -1);
    assert_string_equal(bytes, "hello");
    assert_int_equal(seen.size, 3);
    assert_int_equal(seen.capacity, 6);
    assert_memory_equal(seen.bytes, "llo", 3);
    assert_int_equal(seen.socket, pair[1]);
    seen.most = 0;
    assert_int_equal(send(pair[0], "x", 1, 0), 1);
    assert_int_equal(recv(pair[1], bytes, 1, 0), 0);
    receive_tap_end();
    assert_int_equal(send(pair[0], "y", 1, 0), 1);
    assert_int_equal(recv(pair[1], bytes, 1, 0), 1);
    assert_int_equal(seen.size, 4);
    close(pair[0]);
    close(pair[1]);
}

static enum MHD_Result refuse(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **request) {
    (void)context, (void)connection, (void)url, (void)method, (void)version, (void)data, (void)size, (void)request;
    return MHD_NO;
}

static void libmicrohttpd_receives_through_it(void **state) {
    (void)state;
    const struct sockaddr none = {.sa_family = AF_UNIX};
    struct seen seen = {.most = 256};
    int pair[2];
    make_pair(pair);
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, refuse, NULL, MHD_OPTION_END);
    assert_non_null(daemon);
    assert_int_equal(MHD_add_connection(daemon, pair[1], &none, sizeof none), MHD_YES);
    receive_tap_begin(see, &seen);
    for (int i = 0; i < 5; i++)
        MHD_run(daemon);
    receive_tap_end();
    MHD_stop_daemon(daemon);
    assert_int_equal(seen.size, 5);
    assert_memory_equal(seen.bytes, "hello", 5);
    close(pair[0]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_pass_with_and_without_a_tap),
        cmocka_unit_test(libmicrohttpd_receives_through_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
