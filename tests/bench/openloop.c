/* openloop.c: requests at a constant rate over keep-alive connections, whatever the server does; prints a line of JSON.
 *
 *   openloop HOST:PORT BODIES --rate PER_SECOND --seconds S [--connections N] [--timeout S] [--retries N] [--within S]
 *            [--skip S] [--source ADDRESS] [--header "NAME: VALUE"]
 *
 * BODIES has one body for POST /score a line; they are posted in turn. Request i is due at start + i / rate and its
 * latency counts from then, not from when a connection was free: what a request waits in this program counts, so a
 * slow server cannot hide behind the requests that it kept from being sent ("coordinated omission"). A connection has
 * one request in flight. Good answers (200) and refusals (429, 503, 504) have percentiles of their own; whatever has no
 * answer GRACE seconds after the last was due is counted as unanswered.
 *
 * With --timeout a client gives up so long after its request was due, by closing its connection as HTTP clients do.
 * With --retries it tries again at once after that, and after a refusal, so many times. `goodput` is the rate of good
 * answers no later than --within seconds after their attempt was due. The first --skip seconds, and whatever comes
 * after the last request was due, do not count towards it.
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

enum { BODIES_MAX = 4096, CONNECTIONS_MAX = 16384, REPLY_ROOM = 1 << 18, EVENTS = 256, GRACE = 5 };

struct text {
    char *data;
    size_t length;
};

/* One try of a request. */
struct attempt {
    size_t number;  /* of the request */
    unsigned tries; /* before this one */
    double due;
};

struct connection {
    int fd;
    bool busy;
    struct attempt attempt;            /* in flight */
    struct connection *sooner, *later; /* in order of hand-over, while busy */
    size_t sent, received;
    char *reply; /* [REPLY_ROOM], from the first reply on */
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
    size_t failed, other, given_up, retried, good_in_time;
    double start;
    double timeout, within, skip; /* seconds; timeout 0: none */
    unsigned retries;
    struct sockaddr_in source;
    const char *header;
    struct attempt *again; /* a ring of attempts that are due at once, [again_room] */
    size_t again_first, again_count, again_room;
    struct connection *first_busy, *last_busy;
    struct latencies good, refused;
    struct latencies late; /* part of those: from when a request was due to when it was sent */
    struct connection *connections;
    size_t connection_count;
    size_t *idle; /* places of idle connections, the last used on top, so that few are opened */
    size_t idle_count;
    int epoll;
} run = {.connection_count = 256, .within = 3600};

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
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (connection->fd < 0)
        fail(strerror(errno));
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (run.source.sin_family != 0) {
        setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(connection->fd, (struct sockaddr *)&run.source, sizeof run.source) != 0)
            fail(strerror(errno));
    }
    if (connect(connection->fd, (struct sockaddr *)&run.address, sizeof run.address) != 0 && errno != EINPROGRESS)
        fail(strerror(errno));
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = place};
    if (epoll_ctl(run.epoll, EPOLL_CTL_ADD, connection->fd, &event) != 0)
        fail(strerror(errno));
}

static void rest(size_t place) {
    struct connection *connection = &run.connections[place];
    if (connection->busy) {
        *(connection->sooner != NULL ? &connection->sooner->later : &run.first_busy) = connection->later;
        *(connection->later != NULL ? &connection->later->sooner : &run.last_busy) = connection->sooner;
    }
    connection->busy = false;
    run.idle[run.idle_count++] = place;
}

/* The attempt did not succeed: once more, at once, or never. */
static void try_again(const struct attempt *attempt) {
    if (attempt->tries >= run.retries || run.again_count == run.again_room)
        return;
    size_t place = (run.again_first + run.again_count++) % run.again_room;
    run.again[place] = (struct attempt){attempt->number, attempt->tries + 1, now()};
    run.retried++;
}

/* The next request opens the connection anew. */
static void close_connection(size_t place) {
    close(run.connections[place].fd);
    run.connections[place].fd = -1;
}

/* Without an answer. */
static void give_back(size_t place) {
    struct connection *connection = &run.connections[place];
    bool was_busy = connection->busy;
    run.failed += was_busy;
    close_connection(place);
    if (was_busy) {
        try_again(&connection->attempt);
        rest(place);
    }
}

static void wait_for(size_t place, uint32_t events) {
    struct epoll_event event = {.events = events, .data.u64 = place};
    epoll_ctl(run.epoll, EPOLL_CTL_MOD, run.connections[place].fd, &event);
}

/* Send what is left of the request in flight. */
static void push(size_t place) {
    struct connection *connection = &run.connections[place];
    const struct text *body = &run.bodies[connection->attempt.number % run.body_count];
    ssize_t sent = send(connection->fd, body->data + connection->sent, body->length - connection->sent,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) {
        give_back(place);
        return;
    }
    bool whole = connection->sent == 0 && sent == (ssize_t)body->length;
    connection->sent += sent > 0 ? (size_t)sent : 0;
    if (!whole)
        wait_for(place, connection->sent < body->length ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

/* The attempt that is due next: one that is due again, or a new request. False: none is due. */
static bool next_due(double time, struct attempt *attempt) {
    if (run.again_count > 0) {
        *attempt = run.again[run.again_first];
        run.again_first = (run.again_first + 1) % run.again_room;
        run.again_count--;
        return true;
    }
    if (run.started == run.total || due(run.started) > time)
        return false;
    *attempt = (struct attempt){run.started, 0, due(run.started)};
    run.started++;
    return true;
}

/* Hand every request that is due to an idle connection, while there are any. */
static void start_due(void) {
    struct attempt attempt;
    double time = now();
    while (run.idle_count > 0 && next_due(time, &attempt)) {
        if (attempt.tries == 0)
            run.late.seconds[run.late.count++] = now() - attempt.due;
        if (run.timeout > 0 && now() - attempt.due > run.timeout) { /* no connection was free in time */
            run.given_up++;
            try_again(&attempt);
            continue;
        }
        size_t place = run.idle[--run.idle_count];
        struct connection *connection = &run.connections[place];
        if (connection->fd < 0)
            open_connection(place);
        connection->busy = true;
        connection->sent = connection->received = 0;
        connection->attempt = attempt;
        connection->sooner = run.last_busy;
        connection->later = NULL;
        *(run.last_busy != NULL ? &run.last_busy->later : &run.first_busy) = connection;
        run.last_busy = connection;
        push(place);
    }
}

/* Clients whose patience is over close their connections. */
static void give_up(void) {
    double time = now();
    while (run.timeout > 0 && run.first_busy != NULL && time - run.first_busy->attempt.due > run.timeout) {
        size_t place = (size_t)(run.first_busy - run.connections);
        run.given_up++;
        close_connection(place);
        try_again(&run.connections[place].attempt);
        rest(place);
    }
}

/* ---- answers ---- */

static double record(struct latencies *latencies, const struct attempt *attempt) {
    double seconds = now() - attempt->due;
    if (latencies->count < run.total)
        latencies->seconds[latencies->count++] = seconds;
    return seconds;
}

static void record_good(const struct attempt *attempt) {
    double seconds = record(&run.good, attempt), time = now();
    run.good_in_time += seconds <= run.within && time >= run.start + run.skip && time <= due(run.total);
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
    if (status == 200) {
        record_good(&connection->attempt);
    } else if (status == 503 || status == 504 || status == 429) {
        record(&run.refused, &connection->attempt);
        try_again(&connection->attempt);
    } else {
        run.other++;
    }
    const char *closing = header(connection->reply, "Connection");
    bool closes = closing != NULL && strncasecmp(closing, "close", 5) == 0;
    rest(place);
    if (closes)
        close_connection(place);
}

static void pull(size_t place) {
    struct connection *connection = &run.connections[place];
    if (connection->reply == NULL)
        connection->reply = checked(malloc(REPLY_ROOM));
    size_t room = REPLY_ROOM - 1 - connection->received;
    ssize_t got = recv(connection->fd, connection->reply + connection->received, room, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0 || !connection->busy) {
        give_back(place);
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
    if (run.timeout > 0 && run.first_busy != NULL) {
        double patience = run.first_busy->attempt.due + run.timeout - now();
        left = patience < left ? patience : left;
    }
    if (run.again_count > 0 && run.idle_count > 0)
        left = 0;
    left = left < 0 ? 0 : left > 0.1 ? 0.1 : left;
    struct timespec time = {.tv_nsec = (long)(1e9 * left)};
    return epoll_pwait2(run.epoll, events, EVENTS, &time, NULL);
}

static void serve(void) {
    struct epoll_event events[EVENTS];
    double end = due(run.total) + GRACE;
    while ((run.started < run.total || run.again_count > 0 || run.idle_count < run.connection_count) && now() < end) {
        give_up();
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
    size_t ended = run.good.count + run.refused.count + run.other + run.failed + run.given_up;
    size_t attempts = run.total + run.retried, unanswered = attempts > ended ? attempts - ended : 0;
    printf("{\"offered\": %zu, \"seconds\": %.3f, ", run.total, seconds);
    print_percentiles("good", &run.good);
    printf(", ");
    print_percentiles("refused", &run.refused);
    printf(", ");
    print_percentiles("late", &run.late);
    printf(", \"other\": %zu, \"failed\": %zu, \"unanswered\": %zu, \"given_up\": %zu, \"attempts\": %zu, "
           "\"goodput\": %.1f}\n",
           run.other, run.failed, unanswered, run.given_up, attempts,
           (double)run.good_in_time / (run.seconds - run.skip));
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
        body->data = checked(malloc((size_t)length + 512));
        int head = snprintf(body->data, 512,
                            "POST /score HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n%s%s"
                            "Content-Length: %zd\r\n\r\n",
                            run.header != NULL ? run.header : "", run.header != NULL ? "\r\n" : "", length);
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
        else if (strcmp(arguments[i], "--timeout") == 0)
            run.timeout = strtod(arguments[i + 1], NULL);
        else if (strcmp(arguments[i], "--within") == 0)
            run.within = strtod(arguments[i + 1], NULL);
        else if (strcmp(arguments[i], "--skip") == 0)
            run.skip = strtod(arguments[i + 1], NULL);
        else if (strcmp(arguments[i], "--retries") == 0)
            run.retries = (unsigned)strtoul(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--header") == 0)
            run.header = arguments[i + 1];
        else if (strcmp(arguments[i], "--source") == 0)
            run.source = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = inet_addr(arguments[i + 1])};
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
    run.again_room = run.total + 1;
    run.again = checked(calloc(run.again_room, sizeof *run.again));
    run.good.seconds = checked(calloc(run.total, sizeof(double)));
    run.refused.seconds = checked(calloc(run.total, sizeof(double)));
    run.late.seconds = checked(calloc(run.total, sizeof(double)));
    for (size_t i = 0; i < run.connection_count; i++) {
        run.connections[i].fd = -1;
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
