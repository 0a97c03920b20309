/* test_health_probe.c: the probe against a listener that answers as the test wants. */
#include "server/http/health_probe.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static char error[512], address[64], request[1024];
static int listening;

static int start(void **state) {
    (void)state;
    struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof any;
    listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listening, (struct sockaddr *)&any, sizeof any) != 0 || listen(listening, 8) != 0 ||
        getsockname(listening, (struct sockaddr *)&any, &size) != 0)
        return -1;
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(any.sin_port));
    return 0;
}

static int stop(void **state) {
    (void)state;
    close(listening);
    return 0;
}

/* Accept one connection, read its request, answer with the parts of a text that '|' separates, and close. NULL: do not
 * answer until the client goes. */
static void *answer(void *text) {
    int socket = accept(listening, NULL, NULL);
    size_t got = 0;
    ssize_t more = 1;
    while (strstr(request, "\r\n\r\n") == NULL && more > 0) {
        more = recv(socket, request + got, sizeof request - 1 - got, 0);
        got += more > 0 ? (size_t)more : 0;
    }
    if (text == NULL)
        (void)!recv(socket, request + got, 1, 0);
    for (const char *part = text; part != NULL && *part != '\0';) {
        size_t length = strcspn(part, "|");
        send(socket, part, length, MSG_NOSIGNAL);
        part += length + (part[length] == '|');
        if (*part != '\0')
            usleep(20000);
    }
    close(socket);
    return NULL;
}

static bool probe(const char *text) {
    pthread_t thread;
    memset(request, 0, sizeof request);
    memset(error, 0, sizeof error);
    assert_int_equal(pthread_create(&thread, NULL, answer, (void *)(uintptr_t)text), 0);
    bool ready = probe_ready(address, error, sizeof error);
    pthread_join(thread, NULL);
    return ready;
}

static void a_server_that_is_ready(void **state) {
    (void)state;
    assert_true(probe("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
    assert_int_equal(strncmp(request, "GET /health/ready HTTP/1.1\r\nHost: ", 34), 0);
    assert_non_null(strstr(request, "\r\nConnection: close\r\n"));
    assert_string_equal(request + strlen(request) - 4, "\r\n\r\n");
    assert_true(probe("HTTP/1.1 200 OK\r\n\r\n{\"status\": \"ready\"}"));
    assert_true(probe("HT|TP/1.1 2|00 OK\r|\n\r\n"));
    assert_true(probe("HTTP/1.1 200 \r\n\r\n"));
}

/* A status line of more than the probe reads. */
static void a_long_answer(void **state) {
    (void)state;
    char text[4096];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy(text, "HTTP/1.1 200 ", 13);
    assert_true(probe(text));
    memcpy(text, "HTTP/1.1 503 ", 13);
    assert_false(probe(text));
    assert_true(strlen(error) < sizeof error - 1);
}

static void a_server_that_is_not_ready(void **state) {
    (void)state;
    static const char *const bad[] = {"HTTP/1.1 503 Service Unavailable",
                                      "HTTP/1.1 404 Not Found",
                                      "HTTP/1.1 2000 OK",
                                      "HTTP/1.1 20",
                                      "HTTP/1.0 200 OK",
                                      "SSH-2.0-x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[128];
        snprintf(text, sizeof text, "%s\r\nContent-Length: 0\r\n\r\n", bad[i]);
        assert_false(probe(text));
        snprintf(text, sizeof text, "%s: %s", address, bad[i]);
        assert_string_equal(error, text); /* the status line alone */
    }
}

static void a_server_that_does_not_answer(void **state) {
    (void)state;
    assert_false(probe(""));
    assert_non_null(strstr(error, "no answer"));
    assert_non_null(strstr(error, address));
}

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void a_server_that_is_silent(void **state) {
    (void)state;
    double start_time = seconds();
    assert_false(probe(NULL));
    assert_true(seconds() - start_time > 1.9);
    assert_non_null(strstr(error, "no answer"));
}

static void nobody_listens(void **state) {
    (void)state;
    close(listening);
    assert_false(probe_ready(address, error, sizeof error));
    assert_non_null(strstr(error, "Connection refused"));
    listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); /* for stop() */
}

static void what_is_no_address(void **state) {
    (void)state;
    assert_false(probe_ready("127.0.0.1", error, sizeof error));
    assert_non_null(strstr(error, "is not HOST:PORT"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_server_that_is_ready, start, stop),
        cmocka_unit_test_setup_teardown(a_long_answer, start, stop),
        cmocka_unit_test_setup_teardown(a_server_that_is_not_ready, start, stop),
        cmocka_unit_test_setup_teardown(a_server_that_does_not_answer, start, stop),
        cmocka_unit_test_setup_teardown(a_server_that_is_silent, start, stop),
        cmocka_unit_test_setup_teardown(nobody_listens, start, stop),
        cmocka_unit_test(what_is_no_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
