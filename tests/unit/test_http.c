/* test_http.c: connections and bodies of a service in this process, at moments that no client could choose. */
#include "server/http/http.h"

#include "server/base/clock.h"
#include "server/base/listen.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define HOST  "Host: x\r\n"
#define SCORE "POST /score HTTP/1.1\r\n" HOST "Content-Type: application/json\r\nContent-Length: "
enum { KILOBYTE = 1024, LARGE = 64 * KILOBYTE, WAITING_MAX = 8, CLIENTS = 256, PATIENCE_MILLISECONDS = 20000 };

static struct http *http;
static struct http_counts counts;
static struct sockaddr_in address;
static struct exchange *waiting[WAITING_MAX];
static size_t waiting_count, handled;
static unsigned last_outcome;
static char cookie[64]; /* of the last request */
static int clients[CLIENTS];
static size_t client_count;
static char spaces[LARGE], page[8 << 20];

/* A score is answered later, a history at once by a reply that no socket's buffer holds, a user by the problem of that
 * number, all else by a word. */
static bool on_request(void *context, struct exchange *exchange) {
    (void)context;
    handled++;
    const char *value = http_header(exchange, "cookie");
    snprintf(cookie, sizeof cookie, "%s", value != NULL ? value : "none");
    if (exchange->route == ROUTE_SCORE && waiting_count < WAITING_MAX) {
        waiting[waiting_count++] = exchange;
        return false;
    }
    if (exchange->route == ROUTE_HISTORY)
        exchange->answer = (struct answer){
            .status = 200, .type = "text/plain", .body = page, .size = sizeof page, .memory = ANSWER_BORROWED};
    else if (exchange->route == ROUTE_USER && exchange->user_id[0] != '0')
        http_problem(exchange, (enum problem_kind)strtol(exchange->user_id, NULL, 10), "It is so.");
    else
        http_text(exchange, exchange->route == ROUTE_USER ? 503 : 200, "text/plain", "hello", 5);
    return true;
}

static void on_ended(void *context, const struct exchange *exchange) {
    (void)context;
    last_outcome = exchange->outcome;
}

static int start_with(size_t connections) {
    char text[ADDRESS_TEXT], error[256];
    memset(&counts, 0, sizeof counts);
    memset(spaces, ' ', sizeof spaces);
    waiting_count = handled = client_count = 0;
    int listening = listen_open("127.0.0.1:0", false, 256, text, error, sizeof error);
    socklen_t size = sizeof address;
    if (listening < 0 || getsockname(listening, (struct sockaddr *)&address, &size) != 0)
        return -1;
    const struct http_options options = {
        .limits = {.max_body = (size_t)10 * LARGE,
                   .max_buffered = (size_t)CLIENTS * LARGE,
                   .max_reply_buffered = 100000,
                   .small_body = KILOBYTE,
                   .body_rate = 10000,
                   .max_connections = connections,
                   .reserved_connections = CLIENTS,
                   .connection_memory = 24576,
                   .header_timeout = 1000,
                   .body_timeout = 1000,
                   .reply_timeout = 1000,
                   .idle_timeout = 1000,
                   .linger_timeout = 0.1},
        .counts = &counts,
        .work_size = 64,
        .listening = listening,
        .handle = on_request,
        .ended = on_ended,
    };
    http = http_start(&options);
    return http != NULL ? 0 : -1;
}

static int start(void **state) {
    (void)state;
    return start_with(4);
}

static int start_wide(void **state) {
    (void)state;
    return start_with(CLIENTS);
}

static void turn(void) {
    http_run(http);
    http_linger(http);
}

static void run(void) {
    for (int i = 0; i < 50; i++)
        turn();
}

static void answer_all(void) {
    for (size_t i = 0; i < waiting_count; i++) {
        http_text(waiting[i], 200, "text/plain", "scored", 6);
        http_answered(waiting[i]);
    }
    waiting_count = 0;
    run();
}

static int stop(void **state) {
    (void)state;
    answer_all();
    for (size_t i = 0; i < client_count; i++)
        close(clients[i]);
    run();
    http_stop(http);
    return 0;
}

static int client_new(void) {
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    assert_true(client_count < CLIENTS);
    clients[client_count++] = client;
    return client;
}

static void say_bytes(int client, const char *text, size_t size) {
    assert_int_equal(send(client, text, size, MSG_NOSIGNAL), size);
}

static void say(int client, const char *text) {
    say_bytes(client, text, strlen(text));
}

/* What the client has been sent so far. */
static const char *heard(int client) {
    static char text[65536];
    ssize_t size = recv(client, text, sizeof text - 1, MSG_DONTWAIT);
    text[size > 0 ? size : 0] = '\0';
    return text;
}

static void nap(unsigned milliseconds) {
    nanosleep(&(struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000L}, NULL);
}

static size_t answers(const char *text) {
    size_t found = 0;
    for (; (text = strstr(text, "HTTP/1.1 ")) != NULL; text++)
        found++;
    return found;
}

/* The service as its loop drives it, until it has so few connections. */
static bool falls_to(size_t connections) {
    for (int waited = 0; http_connections(http) > connections && waited < PATIENCE_MILLISECONDS; waited += 10) {
        nap(10);
        turn();
        http_sweep(http);
        http_expire_lingering(http);
    }
    return http_connections(http) <= connections;
}

/* ---- tests */

/* libmicrohttpd waits for the rest of a head that it has seen in part, and has no deadline of its own. */
static void a_refused_head_behind_a_request_ends_its_connection(void **state) {
    (void)state;
    static const char *const rests[] = {"GET / HTTP/2.0\r\n" HOST, "\n", "GET / HTTP/1.1\r\nHost x\r\n",
                                        "GET / HTTP/1.1\r\n" HOST "Content-Length: 5x\r\n"};
    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
        char text[256];
        snprintf(text, sizeof text, "GET /health HTTP/1.1\r\n" HOST "\r\n%s", rests[i]);
        int client = client_new();
        say(client, text);
        run();
        assert_int_equal(answers(heard(client)), 2);
    }
    assert_true(falls_to(0));
}

/* A list of tokens, of which libmicrohttpd looks for two. */
static void a_connection_is_kept_as_its_tokens_say(void **state) {
    (void)state;
    static const struct {
        const char *version, *header;
        bool kept;
    } cases[] = {
        {"1.1", "X: close", true},
        {"1.1", "Connection: x-close", true},
        {"1.1", "Connection: closed", true},
        {"1.1", "Connection: close x", true},
        {"1.1", "Connection: keep-alive", true},
        {"1.1", "Connection: close", false},
        {"1.1", "Connection:  x ,\tCLOSE ", false},
        {"1.1", "Connection: clo,close", false},
        {"1.1", "Connection: close, keep-alive", false},
        {"1.1", "Connection: x\r\nConnection: close", false},
        {"1.0", "X: keep-alive", false},
        {"1.0", "Connection: x-keep-alive", false},
        {"1.0", "Connection: x, Keep-Alive", true},
        {"1.0", "Connection: keep-alive, close", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[256];
        snprintf(text, sizeof text, "GET /health HTTP/%s\r\n" HOST "%s\r\n\r\nGET / HTTP/3.0\r\n", cases[i].version,
                 cases[i].header);
        int client = client_new();
        say(client, text);
        run();
        const char *replies = heard(client);
        if (answers(replies) + (strstr(replies, "HTTP/1.0 ") != NULL) != (cases[i].kept ? 2 : 1) ||
            (strstr(replies, ":http-version") != NULL) != cases[i].kept || strstr(replies, "html") != NULL)
            fail_msg("HTTP/%s %s: %s", cases[i].version, cases[i].header, replies);
    }
}

/* Its body is the slowest, but it is whole now. */
static void a_request_makes_no_room_for_itself(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        say(client_new(), SCORE "2\r\n\r\n{}");
        run();
    }
    assert_int_equal(waiting_count, 4);
    int client = client_new();
    say(client, SCORE "2\r\n\r\n{");
    run();
    nap(1100);
    say(client, "}");
    run();
    const char *reply = heard(client);
    assert_int_equal(answers(reply), 1);
    assert_non_null(strstr(reply, "in reserve for health"));
    assert_int_equal(handled, 4);
    assert_int_equal(last_outcome, PROBLEM_SATURATED);
}

/* libmicrohttpd finds one of ours before it. */
static void a_cookie_is_the_client_s(void **state) {
    (void)state;
    int client = client_new();
    say(client, "GET /health HTTP/1.1\r\n" HOST "\r\n");
    run();
    assert_string_equal(cookie, "none");
    say(client, "GET /health HTTP/1.1\r\n" HOST "Cookie: a=b; c\r\n\r\n");
    run();
    assert_string_equal(cookie, "a=b; c");
}

/* Health is no problem. */
static void each_503_says_when_to_come_back(void **state) {
    (void)state;
    size_t found = 0;
    for (int kind = PROBLEM_NONE; kind < PROBLEM_KINDS; kind++) {
        char text[128];
        snprintf(text, sizeof text, "GET /users/%d HTTP/1.1\r\n" HOST "\r\n", kind);
        int client = client_new();
        say(client, text);
        run();
        const char *reply = heard(client);
        bool is_503 = strstr(reply, "HTTP/1.1 503 ") != NULL;
        found += is_503;
        if (answers(reply) != 1 || (strstr(reply, "\r\nRetry-After: 1\r\n") != NULL) != is_503)
            fail_msg("%d: %s", kind, reply);
    }
    assert_true(found >= 4);
}

static void no_body_waits_with_a_reply(void **state) {
    (void)state;
    int client = client_new();
    say(client,
        "POST /users/u/history HTTP/1.1\r\n" HOST "Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n");
    say_bytes(client, spaces, 60000);
    run();
    assert_int_equal(handled, 1);
    assert_int_equal(http_in_flight(http), 1);
    assert_int_equal(http_buffered(http), 0);
}

/* Refused in the middle, a request gives its body's memory back before its connection has ended. */
static void no_body_waits_with_a_refusal(void **state) {
    (void)state;
    int client = client_new();
    say(client, "POST /score HTTP/1.1\r\n" HOST
                "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{   ");
    run();
    assert_int_equal(http_buffered(http), 4);
    say(client, "x");
    turn();
    assert_int_equal(answers(heard(client)), 1);
    assert_int_equal(http_buffered(http), 0);
}

static void begin_large(int client, size_t size) {
    char text[256];
    snprintf(text, sizeof text, SCORE "%d\r\n\r\n", 10 * LARGE);
    say(client, text);
    say_bytes(client, spaces, size);
}

static uint64_t dropped(void) {
    return counter_get(&counts.bodies_dropped[BODY_DROPPED_SLOW]);
}

/* The loop's sweeps for so long, and none for others: what the clients send waits in the kernel. */
static void sweep_for(unsigned milliseconds, bool receives) {
    for (unsigned waited = 0; waited < milliseconds; waited += 50) {
        nap(50);
        if (receives)
            turn();
        http_sweep(http);
    }
}

static void bytes_in_the_kernel_have_come(void **state) {
    (void)state;
    int sends = client_new(), stops = client_new();
    begin_large(sends, 2000);
    begin_large(stops, 2000);
    run();
    say_bytes(sends, spaces, 40000);
    sweep_for(2400, false);
    assert_int_equal(dropped(), 1);
    assert_int_equal(answers(heard(sends)), 0);
    assert_int_equal(answers(heard(stops)), 1);
    run();
    assert_int_equal(http_buffered(http), 42000);
    sweep_for(2400, true);
    sweep_for(2400, true);
    assert_int_equal(dropped(), 2);
}

/* Their buffers may be full: nobody knows the rate. */
static void a_pause_of_the_loop_is_not_the_clients(void **state) {
    (void)state;
    int client = client_new();
    begin_large(client, 2000);
    run();
    http_sweep(http);
    nap(2200);
    http_sweep(http);
    assert_int_equal(dropped(), 0);
    sweep_for(2400, true);
    assert_int_equal(dropped(), 1);
}

static void a_sweep_drops_a_bounded_number(void **state) {
    (void)state;
    enum { SLOW = 200 };
    for (int i = 0; i < SLOW; i++) {
        begin_large(client_new(), 2000);
        run();
    }
    uint64_t most = 0;
    for (int i = 0; i < 80 && dropped() < SLOW; i++) {
        nap(50);
        uint64_t before = dropped();
        http_sweep(http);
        most = dropped() - before > most ? dropped() - before : most;
    }
    assert_int_equal(dropped(), SLOW);
    assert_in_range(most, 1, 64);
    assert_int_equal(http_buffered(http), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_refused_head_behind_a_request_ends_its_connection, start, stop),
        cmocka_unit_test_setup_teardown(a_connection_is_kept_as_its_tokens_say, start, stop),
        cmocka_unit_test_setup_teardown(a_request_makes_no_room_for_itself, start, stop),
        cmocka_unit_test_setup_teardown(a_cookie_is_the_client_s, start, stop),
        cmocka_unit_test_setup_teardown(each_503_says_when_to_come_back, start_wide, stop),
        cmocka_unit_test_setup_teardown(no_body_waits_with_a_reply, start, stop),
        cmocka_unit_test_setup_teardown(no_body_waits_with_a_refusal, start, stop),
        cmocka_unit_test_setup_teardown(bytes_in_the_kernel_have_come, start, stop),
        cmocka_unit_test_setup_teardown(a_pause_of_the_loop_is_not_the_clients, start, stop),
        cmocka_unit_test_setup_teardown(a_sweep_drops_a_bounded_number, start_wide, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
