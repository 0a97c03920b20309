/* test_microhttpd.c: traps of libmicrohttpd that server/http/http.c steers around, in the version that it was written
 * for.
 *
 * http.c keeps cookies out of a connection's pool, and measures the room in it by the place of a cookie. When the
 * version changes, run this test, then read http.c's opening comment and check each of its traps with
 * tests/e2e/test_http_table.py and test_full_pool.py; then add the version here.
 */
#include <microhttpd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const known_versions[] = {"0.9.75"}; /* Debian 12's */

static int client, server; /* a connection */

/* http.c's ways to keep cookies out of the pool and to measure the room in it. */
static const char planted[] = "Cookie";
static unsigned cookies, headers;
static size_t room, entries_that_fit;

static void *on_target(void *context, const char *target, struct MHD_Connection *connection) {
    (void)context, (void)target;
    MHD_set_connection_value(connection, MHD_HEADER_KIND, planted, "");
    return NULL;
}

static enum MHD_Result count_cookie(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)kind, (void)value;
    cookies++;
    *(const char **)context = name;
    return MHD_YES;
}

static enum MHD_Result count_header(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)context, (void)kind, (void)value;
    headers += name != planted;
    return MHD_YES;
}

/* Fills the pool with entries, of 64 bytes each. */
static enum MHD_Result measure(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                               const char *version, const char *data, size_t *size, void **request) {
    (void)context, (void)url, (void)version, (void)data, (void)size, (void)request;
    const char *cookie = NULL;
    size_t head = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    cookies = headers = 0;
    entries_that_fit = 0;
    MHD_get_connection_values(connection, MHD_COOKIE_KIND, count_cookie, &cookie);
    MHD_get_connection_values(connection, MHD_HEADER_KIND, count_header, NULL);
    room = (size_t)(cookie - (method + head)) - 64;
    while (MHD_set_connection_value(connection, MHD_FOOTER_KIND, "", "") == MHD_YES)
        entries_that_fit++;
    return MHD_NO;
}

/* Send one request to a daemon as http.c starts it, and run that until it has nothing to do. */
static void ask(const char *request) {
    int pair[2];
    const struct sockaddr none = {.sa_family = AF_UNIX};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    client = pair[0];
    server = pair[1];
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, measure,
                         NULL, MHD_OPTION_URI_LOG_CALLBACK, on_target, NULL, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                         (size_t)24576, MHD_OPTION_END);
    assert_non_null(daemon);
    assert_int_equal(MHD_add_connection(daemon, server, &none, sizeof none), MHD_YES);
    assert_int_equal(send(client, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    for (int i = 0; i < 200; i++)
        MHD_run(daemon);
    MHD_stop_daemon(daemon);
    close(client);
}

static void the_version_is_one_that_was_examined(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof known_versions / sizeof *known_versions; i++)
        if (strcmp(MHD_get_version(), known_versions[i]) == 0)
            return;
    fail_msg(
        "libmicrohttpd is %s, and http.c was examined with %s: run this file's other test and tests/e2e, check the "
        "traps that http.c opens with, and add the version here.",
        MHD_get_version(), known_versions[0]);
}

static void a_cookie_measures_the_pool(void **state) {
    (void)state;
    static char text[24000];
    for (size_t length = 0; length < 19000; length += 997) {
        int size = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHost: x\r\nX: %0*d\r\n", (int)length + 1, 0);
        for (size_t i = 0; i < length % 50; i++)
            size += snprintf(text + size, sizeof text - (size_t)size, "X%zu: y\r\n", i);
        snprintf(text + size, sizeof text - (size_t)size, "Cookie: a=b; c=d; e=f\r\n\r\n");
        ask(text);
        assert_int_equal(headers, 3 + length % 50);
        assert_int_equal(cookies, 1);
        if (entries_that_fit * 64 > room || room >= (entries_that_fit + 1) * 64 + 16) /* 16: rounding */
            fail_msg("of %zu bytes of room, %zu entries of 64 bytes fit", room, entries_that_fit);
    }
}

/* ---- a client that half-closes while its connection is suspended */

static struct MHD_Connection *suspended;
static unsigned last_calls, suspended_at; /* the last call at which the handler suspends */
static bool resumed;

static enum MHD_Result on_waiting_request(void *context, struct MHD_Connection *connection, const char *url,
                                          const char *method, const char *version, const char *data, size_t *size,
                                          void **request) {
    (void)context, (void)url, (void)method, (void)version, (void)data;
    if (*request == NULL || *size > 0) {
        *request = &suspended;
        *size = 0;
        return MHD_YES;
    }
    if (!resumed) {
        if (++last_calls == suspended_at) {
            suspended = connection;
            MHD_suspend_connection(connection);
        }
        return MHD_YES;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(2, "ok", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

/* The bytes of the answer to a request whose client half-closes at once. Another connection is idle: the library looks
 * at the oldest one before it reads from any. */
static ssize_t ask_half_closed(unsigned suspended_at_call) {
    static const char request[] = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}";
    const struct sockaddr none = {.sa_family = AF_UNIX};
    char answer[1024];
    int pair[2], idle[2];
    suspended = NULL;
    resumed = false;
    last_calls = 0;
    suspended_at = suspended_at_call;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
    struct MHD_Daemon *daemon = MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_NO_LISTEN_SOCKET, 0,
                                                 NULL, NULL, on_waiting_request, NULL, MHD_OPTION_END);
    assert_non_null(daemon);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, idle), 0);
    assert_int_equal(MHD_add_connection(daemon, idle[1], &none, sizeof none), MHD_YES);
    assert_int_equal(MHD_add_connection(daemon, pair[1], &none, sizeof none), MHD_YES);
    assert_int_equal(send(pair[0], request, sizeof request - 1, MSG_NOSIGNAL), sizeof request - 1);
    shutdown(pair[0], SHUT_WR);
    for (int i = 0; i < 20; i++)
        MHD_run(daemon);
    assert_non_null(suspended);
    resumed = true;
    MHD_resume_connection(suspended);
    for (int i = 0; i < 20; i++)
        MHD_run(daemon);
    ssize_t got = recv(pair[0], answer, sizeof answer, 0);
    MHD_stop_daemon(daemon);
    close(pair[0]);
    close(idle[0]);
    return got;
}

/* http.c suspends at the second last call alone. Where the first one does no more, set_aside() is not needed. */
static void a_half_closed_client_is_lost_by_the_first_last_call_only(void **state) {
    (void)state;
    assert_int_equal(ask_half_closed(1), 0);
    assert_true(ask_half_closed(2) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_version_is_one_that_was_examined),
        cmocka_unit_test(a_half_closed_client_is_lost_by_the_first_last_call_only),
        cmocka_unit_test(a_cookie_measures_the_pool),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
