/* test_microhttpd.c: traps of libmicrohttpd that server/http/http.c steers around, in the version that it was written
 * for.
 *
 * A Content-Length that is no number never comes to the handler: the library answers by itself, wrongly. http.c learns
 * of it from the library's log alone: from the word "Content-Length" in a format, before any answer is written. When
 * the version changes, run this test, then read http.c's opening comment and check each of its traps with
 * tests/e2e/test_http.py; then add the version here.
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
static unsigned handled, named, named_before_an_answer;

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **request) {
    (void)context, (void)url, (void)method, (void)version, (void)data;
    handled++;
    if (*request == NULL) {
        *request = &handled;
        return MHD_YES;
    }
    if (*size > 0) {
        *size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(2, "ok", MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return result;
}

static void on_message(void *context, const char *format, va_list arguments) {
    char byte;
    (void)context, (void)arguments;
    if (strstr(format, "Content-Length") == NULL)
        return;
    named++;
    named_before_an_answer += recv(client, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
}

/* Send one request to a daemon as http.c starts it, and run that until it has nothing to do. */
static void ask(const char *request) {
    int pair[2];
    const struct sockaddr none = {.sa_family = AF_UNIX};
    handled = named = named_before_an_answer = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    client = pair[0];
    server = pair[1];
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET, 0,
                         NULL, NULL, on_request, NULL, MHD_OPTION_EXTERNAL_LOGGER, on_message, NULL, MHD_OPTION_END);
    assert_non_null(daemon);
    assert_int_equal(MHD_add_connection(daemon, server, &none, sizeof none), MHD_YES);
    assert_int_equal(send(client, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    for (int i = 0; i < 20; i++)
        MHD_run(daemon);
    MHD_stop_daemon(daemon);
    close(client);
}

static void the_version_is_one_that_was_examined(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof known_versions / sizeof *known_versions; i++)
        if (strcmp(MHD_get_version(), known_versions[i]) == 0)
            return;
    fail_msg("libmicrohttpd is %s, and http.c was examined with %s. It finds a bad Content-Length by the text of the "
             "library's log: run this file's other tests and tests/e2e/test_http.py, check the traps that http.c opens "
             "with, and add the version here.",
             MHD_get_version(), known_versions[0]);
}

static void a_bad_length_is_logged_before_it_is_answered(void **state) {
    (void)state;
    static const char *const bad[] = {"5x", "-5", "+5", "0x5", "5.0", "x", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256];
        snprintf(text, sizeof text, "POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: %s\r\n\r\nhello", bad[i]);
        ask(text);
        if (handled != 0 || named != 1 || named_before_an_answer != 1)
            fail_msg("Content-Length: %s: handled %u, logged %u times, %u before an answer", bad[i], handled, named,
                     named_before_an_answer);
    }
}

static void other_requests_are_not_logged_so(void **state) {
    (void)state;
    static const char *const others[] = {
        "POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\nX-Content-Length: x\r\n\r\n",
        "POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "POST /score HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "nonsense\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        ask(others[i]);
        if (named != 0)
            fail_msg("\"%s\" is logged as a bad Content-Length", others[i]);
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
        *request = &handled;
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
        cmocka_unit_test(a_bad_length_is_logged_before_it_is_answered),
        cmocka_unit_test(other_requests_are_not_logged_so),
        cmocka_unit_test(a_half_closed_client_is_lost_by_the_first_last_call_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
