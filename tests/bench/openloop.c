/* openloop.c: requests at a constant rate over keep-alive connections, whatever the server does; prints a line of JSON.
 *
 *   openloop HOST:PORT BODIES --rate PER_SECOND --seconds S [--connections N]
 *
 * BODIES has one body for POST /score a line; they are posted in turn. Request i is due at start + i / rate and its
 * latency counts from then, not from when a connection was free: what a request waits in this program counts, so a
 * slow server cannot hide behind the requests that it kept from being sent ("coordinated omission"). A connection has
 * one request in flight. Good answers (200) and refusals (429, 503, 504) have percentiles of their own; whatever has no
 * answer GRACE seconds after the last was due is counted as unanswered.
 */
#include "tests/bench/timing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODIES_MAX = 4096, CONNECTIONS_MAX = 8192, REPLY_ROOM = 1 << 18, EVENTS = 256, GRACE = 5 };

struct text {
    char *data;
    size_t length;
};

struct connection {
    int fd;
    bool busy;
    size_t number; /* of the request in flight */
    size_t sent, received;
    char *reply; /* [REPLY_ROOM] */
};

/* Latencies in seconds of one kind of answer. */
struct latencies {
    double *seconds;
    size_t count;
};

static struct {
    struct sockaddr_in address;
    struct text bodies[BODIES_MAX];
    size_t body_count;
    double rate, seconds;
    size_t total;   /* requests in the whole run */
    size_t started; /* handed to a connection */
    size_t failed, other;
    double start;
    struct latencies good, refused;
    struct latencies late; /* part of those: from when a request was due to when it was sent */
    struct connection *connections;
    size_t connection_count;
    size_t *idle; /* places of idle connections, the last used on top: few stay warm */
    size_t idle_count;
    int epoll;
} run = {.connection_count = 256};

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "openloop: %s\n", what);
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static double due(size_t number) {
    return run.start + (double)number / run.rate;
}

/* ---- connections ---- */

static void open_connection(size_t place) {
    struct connection *connection = &run.connections[place];
    int one = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&run.address, sizeof run.address) != 0)
        fail(strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = place};
    if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, connection->fd, &event) != 0)
        fail(strerror(errno));
}

static void rest(size_t place) {
    run.connections[place].busy = false;
    run.idle[run.idle_count++] = place;
}

static void reopen(size_t place) {
    struct connection *connection = &run.connections[place];
    if (connection->busy)
        run.failed++;
    close(connection->fd);
    open_connection(place);
    if (connection->busy)
        rest(place);
}

static void wait_for(size_t place, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u64 = place};
    epoll_ctl(run.epoll, EPOLL_CTL_MOD, run.connections[place].fd, &event);
}

/* Send what is left of the request in flight. */
static void push(size_t place) {
    struct connection *connection = &run.connections[place];
    const struct text *body = &run.bodies[connection->number % run.body_count];
    ssize_t sent = send(connection->fd, body->data + connection->sent, body->length - connection->sent,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) {
        reopen(place);
        return;
    }
    bool whole = connection->sent == 0 && sent == (ssize_t)body->length;
    connection->sent += sent > 0 ? (size_t)sent : 0;
    if (!whole)
        wait_for(place, connection->sent < body->length ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* Hand every request that is due to an idle connection, while there are any. */
static void start_due(void) {
    double time = now();
    while (run.idle_count > 0 && run.started < run.total && due(run.started) <= time) {
        size_t place = run.idle[--run.idle_count];
        struct connection *connection = &run.connections[place];
        connection->busy = true;
        connection->sent = connection->received = 0;
        connection->number = run.started++;
        run.late.seconds[run.late.count++] = now() - due(connection->number);
        push(place);
    }
}

/* ---- answers ---- */

static void record(struct latencies *latencies, size_t number) {
    latencies->seconds[latencies->count++] = now() - due(number);
}

/* A header's value, up to the line's end, or NULL. `head` ends with an empty line. */
static const char *header(const char *head, const char *name) {
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, name, length) == 0 && line[2 + length] == ':')
            return line + 3 + length + strspn(line + 3 + length, " ");
    return NULL;
}

/* The reply's length once its head is there, else 0. */
static size_t reply_length(const struct connection *connection) {
    char *end = strstr(connection->reply, "\r\n\r\n");
    if (end == NULL)
        return 0;
    end[2] = '\0'; /* header() sees the head only */
    const char *length = header(connection->reply, "Content-Length");
    end[2] = '\r';
    if (length == NULL)
        fail("a reply without Content-Length");
    return (size_t)(end + 4 - connection->reply) + strtoul(length, NULL, 10);
}

static void answered(size_t place) {
    struct connection *connection = &run.connections[place];
    long status = strtol(connection->reply + strcspn(connection->reply, " "), NULL, 10);
    if (status == 200)
        record(&run.good, connection->number);
    else if (status == 503 || status == 504 || status == 429)
        record(&run.refused, connection->number);
    else
        run.other++;
    const char *closing = header(connection->reply, "Connection");
    bool closes = closing != NULL && strncasecmp(closing, "close", 5) == 0;
    rest(place);
    if (closes)
        reopen(place);
}

static void pull(size_t place) {
    struct connection *connection = &run.connections[place];
    size_t room = REPLY_ROOM - 1 - connection->received;
    ssize_t got = recv(connection->fd, connection->reply + connection->received, room, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0 || !connection->busy) {
        reopen(place);
        return;
    }
    connection->received += (size_t)got;
    connection->reply[connection->received] = '\0';
    size_t length = reply_length(connection);
    if (length >= REPLY_ROOM)
        fail("a reply is too long");
    if (length > 0 && connection->received >= length)
        answered(place);
}

/* ---- the run ---- */

/* Until the next request is due, where a connection is free for it, or something arrives. */
static int wait_events(struct epoll_event *events) {
    double left = run.started < run.total && run.idle_count > 0 ? due(run.started) - now() : 0.1;
    left = left < 0 ? 0 : left > 0.1 ? 0.1 : left;
    struct timespec time = {.tv_nsec = (long)(1e9 * left)};
    return epoll_pwait2(run.epoll, events, EVENTS, &time, NULL);
}

static void serve(void) {
    struct epoll_event events[EVENTS];
    double end = due(run.total) + GRACE;
    while ((run.started < run.total || run.idle_count < run.connection_count) && now() < end) {
        start_due();
        int count = wait_events(events);
        for (int i = 0; i < count; i++) {
            size_t place = events[i].data.u64;
            if (events[i].events & EPOLLOUT && run.connections[place].busy)
                push(place);
            else
                pull(place);
            start_due();
        }
    }
}

/* Latencies in microseconds at the usual places. */
static void print_percentiles(const char *name, struct latencies *latencies) {
    static const struct {
        const char *name;
        double part;
    } places[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}, {"max", 1}};
    qsort(latencies->seconds, latencies->count, sizeof *latencies->seconds, ascending);
    printf("\"%s\": {\"count\": %zu", name, latencies->count);
    for (size_t i = 0; i < sizeof places / sizeof *places && latencies->count > 0; i++) {
        size_t place = (size_t)(places[i].part * (double)(latencies->count - 1) + 0.5);
        printf(", \"%s\": %.0f", places[i].name, 1e6 * latencies->seconds[place]);
    }
    printf("}");
}

static void report(double seconds) {
    size_t unanswered = run.total - run.good.count - run.refused.count - run.other - run.failed;
    printf("{\"offered\": %zu, \"seconds\": %.3f, ", run.total, seconds);
    print_percentiles("good", &run.good);
    printf(", ");
    print_percentiles("refused", &run.refused);
    printf(", ");
    print_percentiles("late", &run.late);
    printf(", \"other\": %zu, \"failed\": %zu, \"unanswered\": %zu}\n", run.other, run.failed, unanswered);
}

static void read_bodies(const char *path) {
    FILE *file = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    if (file == NULL)
        fail("the bodies cannot be read");
    while (run.body_count < BODIES_MAX && (length = getline(&line, &room, file)) > 0) {
        length -= line[length - 1] == '\n';
        struct text *body = &run.bodies[run.body_count++];
        body->data = checked(malloc((size_t)length + 256));
        int head = snprintf(body->data, 256,
                            "POST /score HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
                            "Content-Length: %zd\r\n\r\n",
                            length);
        memcpy(body->data + head, line, (size_t)length);
        body->length = (size_t)head + (size_t)length;
    }
    free(line);
    fclose(file);
    if (run.body_count == 0)
        fail("no bodies");
}

static void read_address(char *text) {
    char *colon = strrchr(text, ':');
    if (colon == NULL)
        fail("HOST:PORT");
    *colon = '\0';
    run.address.sin_family = AF_INET;
    run.address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, text, &run.address.sin_addr) != 1)
        fail("HOST must be a numeric IPv4 address");
}

static void read_options(int count, char **arguments) {
    for (int i = 3; i + 1 < count; i += 2)
        if (strcmp(arguments[i], "--rate") == 0)
            run.rate = strtod(arguments[i + 1], NULL);
        else if (strcmp(arguments[i], "--seconds") == 0)
            run.seconds = strtod(arguments[i + 1], NULL);
        else if (strcmp(arguments[i], "--connections") == 0)
            run.connection_count = strtoul(arguments[i + 1], NULL, 10);
        else
            fail("no such option");
    run.total = (size_t)(run.rate * run.seconds);
    if (count % 2 == 0 || run.total < 1 || run.connection_count < 1 || run.connection_count > CONNECTIONS_MAX)
        fail("HOST:PORT BODIES --rate PER_SECOND --seconds S [--connections N]");
}

static void prepare(void) {
    run.epoll = epoll_create1(EPOLL_CLOEXEC);
    run.connections = checked(calloc(run.connection_count, sizeof *run.connections));
    run.idle = checked(calloc(run.connection_count, sizeof *run.idle));
    run.good.seconds = checked(calloc(run.total, sizeof(double)));
    run.refused.seconds = checked(calloc(run.total, sizeof(double)));
    run.late.seconds = checked(calloc(run.total, sizeof(double)));
    for (size_t i = 0; i < run.connection_count; i++) {
        run.connections[i].reply = checked(malloc(REPLY_ROOM));
        open_connection(i);
        rest(i);
    }
}

int main(int count, char **arguments) {
    if (count < 3)
        fail("HOST:PORT BODIES --rate PER_SECOND --seconds S [--connections N]");
    read_address(arguments[1]);
    read_options(count, arguments);
    read_bodies(arguments[2]);
    prepare();
    run.start = now() + 0.01;
    serve();
    report(now() - run.start);
    return 0;
}
