/* test_client.c: the request that the commands send, and replies that are whole, cut, or none. */
#include "server/http/client.h"

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
#include <unistd.h>

#include <cmocka.h>

static char address[64], error[256], got[4096];
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

struct script {
    const char *expected; /* the request's last bytes */
    const char *answer;   /* parts, separated by '|' */
    size_t repeats;       /* of its last part */
};

static void *answer(void *argument) {
    const struct script *script = argument;
    size_t size = 0, tail = strlen(script->expected);
    int socket = accept(listening, NULL, NULL);
    memset(got, 0, sizeof got);
    while (size < tail || strcmp(got + size - tail, script->expected) != 0) {
        ssize_t more = recv(socket, got + size, sizeof got - 1 - size, 0);
        if (more <= 0)
            break;
        size += (size_t)more;
    }
    for (const char *part = script->answer; *part != '\0';) {
        size_t length = strcspn(part, "|");
        bool last = part[length] == '\0';
        for (size_t i = 0; i < (last ? script->repeats + 1 : 1); i++)
            send(socket, part, length, MSG_NOSIGNAL);
        part += length + !last;
        if (!last)
            usleep(20000);
    }
    close(socket);
    return NULL;
}

static bool ask(const struct client_request *request, const struct script *script, struct client_reply *reply) {
    pthread_t thread;
    struct script copy = *script;
    struct client_request whole = *request;
    whole.address = address;
    whole.seconds = 60;
    assert_int_equal(pthread_create(&thread, NULL, answer, &copy), 0);
    bool good = client_ask(&whole, reply, error, sizeof error);
    pthread_join(thread, NULL);
    return good;
}

static const struct client_request plain = {.method = "GET", .path = "/models"};

static void the_request_is_whole(void **state) {
    (void)state;
    char expected[512];
    struct client_reply reply;
    const struct script script = {.expected = "\r\n\r\n", .answer = "HTTP/1.1 204 No Content\r\n\r\n"};
    assert_true(ask(&plain, &script, &reply));
    snprintf(expected, sizeof expected,
             "GET /models HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
             "Content-Length: 0\r\n\r\n",
             address);
    assert_string_equal(got, expected);
    assert_int_equal(reply.status, 204);
    assert_string_equal(reply.body, "");
    free(reply.text);

    const struct client_request full = {
        .method = "PUT", .path = "/log-level", .accept = "text/plain", .token = "secret", .body = "{}"};
    const struct script other = {.expected = "\r\n\r\n{}", .answer = script.answer};
    assert_true(ask(&full, &other, &reply));
    snprintf(expected, sizeof expected,
             "PUT /log-level HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
             "Content-Length: 2\r\nAccept: text/plain\r\nAuthorization: Bearer secret\r\n\r\n{}",
             address);
    assert_string_equal(got, expected);
    free(reply.text);
}

static void replies_come_in_parts(void **state) {
    (void)state;
    struct client_reply reply;
    const struct script script = {.expected = "\r\n\r\n",
                                  .answer = "HT|TP/1.1 4|22 No\r\ncontent-length: 5|\r\n\r|\nhe|llo"};
    assert_true(ask(&plain, &script, &reply));
    assert_int_equal(reply.status, 422);
    assert_string_equal(reply.body, "hello");
    free(reply.text);
    const struct script large = {
        .expected = "\r\n\r\n", .answer = "HTTP/1.1 200 OK\r\n\r\n|0123456789abcdef", .repeats = 9999};
    assert_true(ask(&plain, &large, &reply));
    assert_int_equal(strlen(reply.body), 160000);
    free(reply.text);
}

static void half_replies_are_none(void **state) {
    (void)state;
    static const char *const answers[] = {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
                                          "SSH-2.0-x\r\n\r\n", "HTTP/2 200\r\n\r\n"};
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct client_reply reply;
        const struct script script = {.expected = "\r\n\r\n", .answer = answers[i]};
        if (ask(&plain, &script, &reply))
            fail_msg("%s is a reply", answers[i]);
        assert_non_null(strstr(error, address));
        assert_non_null(strstr(error, i == 0 ? "no answer: " : "no HTTP answer"));
        assert_null(reply.text);
    }
    struct client_reply reply;
    const struct script endless = {
        .expected = "\r\n\r\n", .answer = "HTTP/1.1 200 OK\r\n\r\n|0123456789abcdef", .repeats = 70000};
    assert_false(ask(&plain, &endless, &reply));
}

static void silence_has_an_end(void **state) {
    (void)state;
    struct client_reply reply;
    const struct client_request request = {.address = address, .method = "GET", .path = "/", .seconds = 0.1};
    assert_false(client_ask(&request, &reply, error, sizeof error));
    assert_non_null(strstr(error, "no answer: "));
}

static void nobody_is_there(void **state) {
    (void)state;
    struct client_reply reply;
    static const char *const nowhere[] = {"127.0.0.1:1", "unix:/nowhere/admin.sock", "127.0.0.1", "unix:"};
    for (size_t i = 0; i < sizeof nowhere / sizeof *nowhere; i++) {
        const struct client_request request = {.address = nowhere[i], .method = "GET", .path = "/", .seconds = 1};
        assert_false(client_ask(&request, &reply, error, sizeof error));
        assert_non_null(strstr(error, nowhere[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_request_is_whole, start, stop),
        cmocka_unit_test_setup_teardown(replies_come_in_parts, start, stop),
        cmocka_unit_test_setup_teardown(half_replies_are_none, start, stop),
        cmocka_unit_test_setup_teardown(silence_has_an_end, start, stop),
        cmocka_unit_test(nobody_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
