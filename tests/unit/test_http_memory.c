/* test_http_memory.c: HTTP while one allocation after another fails.
 *
 * The linker puts the functions below in the place of malloc, calloc and realloc (see the Makefile), for our own code.
 * A service is started, asked in every way that allocates something, and stopped; the first, the second, the third ...
 * allocation fails, alone or with all that follow. Whatever fails, each request ends once, nothing stays counted, and
 * no memory is lost.
 */
#include "server/http/http.h"

#include "server/base/clock.h"
#include "server/base/listen.h"

#include <arpa/inet.h>
#include <malloc.h>
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
#include <unistd.h>

#include <cmocka.h>

/* ---- the failing allocator */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static size_t allocations, first_failing, last_failing; /* of allocations, from 1 on */
static bool counting;

static bool fails(void) {
    if (!counting)
        return false;
    allocations++;
    return allocations >= first_failing && allocations <= last_failing;
}

void *__wrap_malloc(size_t size) {
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return fails() ? NULL : __real_realloc(memory, size);
}

/* ---- a service, whose handler answers at once or later */

enum { WAITING_MAX = 8, CLIENTS = 12, ROUNDS = 60, ATTEMPTS = 50 };

static struct http *http;
static struct http_counts counts;
static struct exchange *waiting[WAITING_MAX];
static size_t waiting_count, handled, ended;
static struct sockaddr_in address;
static int clients[CLIENTS];
static size_t client_count;

static bool on_request(void *context, struct exchange *exchange) {
    (void)context;
    handled++;
    if (exchange->route == ROUTE_SCORE && waiting_count < WAITING_MAX) {
        waiting[waiting_count++] = exchange;
        return false;
    }
    http_text(exchange, 200, "text/plain", "hello", 5);
    return true;
}

static void on_ended(void *context, const struct exchange *exchange) {
    (void)context;
    assert_in_range(exchange->outcome, 0, HTTP_OUTCOMES - 1);
    ended++;
}

static bool start(void) {
    char text[ADDRESS_TEXT], error[256];
    memset(&counts, 0, sizeof counts);
    waiting_count = handled = ended = client_count = 0;
    counting = false;
    int listening = listen_open("127.0.0.1:0", false, 16, text, error, sizeof error);
    socklen_t size = sizeof address;
    assert_true(listening >= 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &size), 0);
    counting = true;
    const struct http_options options = {
        .limits = {.max_body = 1000,
                   .max_buffered = 5000,
                   .max_reply_buffered = 100000,
                   .max_connections = 6,
                   .reserved_connections = 32,
                   .connection_memory = 16384,
                   .header_timeout = 1000,
                   .body_timeout = 1000,
                   .reply_timeout = 1000,
                   .idle_timeout = 1000,
                   .linger_timeout = 1000},
        .counts = &counts,
        .work_size = 64,
        .listening = listening,
        .handle = on_request,
        .ended = on_ended,
    };
    http = http_start(&options);
    return http != NULL;
}

static void run(void) {
    for (int i = 0; i < ROUNDS; i++) {
        http_run(http);
        http_linger(http);
        if (i % 10 == 5) {
            for (size_t j = 0; j < waiting_count; j++) {
                http_text(waiting[j], 200, "text/plain", "scored", 6);
                http_answered(waiting[j]);
            }
            waiting_count = 0;
        }
    }
    http_sweep(http);
    http_expire_lingering(http);
}

static int client_new(void) {
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(client, (struct sockaddr *)&address, sizeof address), 0);
    clients[client_count++] = client;
    return client;
}

static void say(int client, const char *text) {
    (void)!send(client, text, strlen(text), MSG_NOSIGNAL);
}

/* Everything that a client may do: whole requests, refusals of each way, bodies in parts, clients that go. */
static void use(void) {
    static const char post[] = "POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: ";
    char text[512];
    snprintf(text, sizeof text, "%s2\r\n\r\n{}", post);
    int first = client_new();
    say(first, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    run();
    say(first, text);
    say(first, "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n");
    say(client_new(), "DELETE /score HTTP/1.1\r\nHost: x\r\n\r\n");
    int parts = client_new();
    snprintf(text, sizeof text, "%s10\r\n\r\n12345", post);
    say(parts, text);
    run();
    say(parts, "67890");
    snprintf(text, sizeof text, "%s5000\r\n\r\nxxxx", post); /* too large: refused by its head, and lingering */
    say(client_new(), text);
    snprintf(text, sizeof text, "%s5x\r\n\r\nxxxx", post); /* libmicrohttpd's own refusal */
    say(client_new(), text);
    run();
    say(client_new(), "POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n");
    int half = client_new();
    snprintf(text, sizeof text, "%s2\r\n\r\n{}", post);
    say(half, text);
    shutdown(half, SHUT_WR);
    int gone = client_new();
    snprintf(text, sizeof text, "%s20\r\n\r\n{}", post);
    say(gone, text);
    run();
    shutdown(gone, SHUT_RDWR);
    client_new(); /* idle, and more than --max-connections */
    run();
}

/* The statuses that the clients read. */
static size_t close_clients(void) {
    size_t answers = 0;
    for (size_t i = 0; i < client_count; i++) {
        static char got[65536];
        ssize_t size = recv(clients[i], got, sizeof got - 1, MSG_DONTWAIT);
        got[size > 0 ? size : 0] = '\0';
        for (const char *place = got; (place = strstr(place, "HTTP/1.1 ")) != NULL; place++)
            answers++;
        close(clients[i]);
    }
    return answers;
}

static size_t counted_requests(void) {
    size_t sum = 0;
    for (unsigned i = 0; i < HTTP_OUTCOMES; i++)
        sum += counter_get(&counts.requests[i]);
    return sum;
}

static size_t counted_responses(void) {
    size_t sum = 0;
    for (unsigned i = 0; i < ROUTES; i++)
        for (unsigned j = 0; j < HTTP_STATUSES; j++)
            sum += counter_get(&counts.responses[i][j]);
    return sum;
}

/* One life of a service. Returns the number of answers that its clients read. */
static size_t live(size_t first, size_t last) {
    first_failing = first;
    last_failing = last;
    allocations = 0;
    size_t answers = 0;
    if (start()) {
        use();
        answers = close_clients();
        run();
        for (int i = 0; i < 100 && http_connections(http) > 0; i++)
            run();
        counting = false;
        assert_int_equal(http_connections(http), 0);
        assert_int_equal(http_in_flight(http), 0);
        assert_int_equal(http_buffered(http), 0);
        assert_int_equal(http_reply_buffered(http), 0);
        http_stop(http);
        size_t closed = 0;
        for (unsigned i = 0; i < CONNECTION_ENDS; i++)
            closed += counter_get(&counts.connections_ended[i]);
        assert_int_equal(closed, counter_get(&counts.connections_accepted));
        assert_true(handled <= ended && counted_requests() <= ended + client_count);
        if (answers != counted_responses())
            fail_msg("%zu answers, %zu counted, with allocations %zu to %zu failing", answers, counted_responses(),
                     first, last);
    }
    counting = false;
    return answers;
}

/* Bytes that are allocated now, and those that malloc keeps for a thread: up to seven blocks of each size.
 * A sanitizer has its own allocator, and finds leaks by itself. */
static size_t in_use(void) {
    return mallinfo2().uordblks;
}

static void nothing_is_lost_when(bool all_that_follow) {
    live(SIZE_MAX, SIZE_MAX); /* libraries keep some memory of their first use */
    size_t answers = live(SIZE_MAX, SIZE_MAX), total = allocations;
    assert_int_equal(answers, 9);
    assert_true(total > 20);
    for (size_t i = 1; i <= total; i++) {
        size_t last = all_that_follow ? SIZE_MAX : i, lost = SIZE_MAX;
        for (int attempt = 0; attempt < ATTEMPTS && lost != 0; attempt++) {
            size_t before = in_use();
            live(i, last);
            size_t now = in_use();
            lost = now > before && now - before < lost ? now - before : now > before ? lost : 0;
        }
        if (lost != 0)
            fail_msg("%zu bytes are lost each time when allocation %zu of %zu fails", lost, i, total);
    }
    assert_int_equal(live(SIZE_MAX, SIZE_MAX), answers);
}

static void one_allocation_fails(void **state) {
    (void)state;
    nothing_is_lost_when(false);
}

static void memory_is_out_from_then_on(void **state) {
    (void)state;
    nothing_is_lost_when(true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_allocation_fails),
        cmocka_unit_test(memory_is_out_from_then_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
