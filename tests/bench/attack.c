/* attack.c: clients of every kind against one server, from one thread; prints a line of JSON.
 *
 *   attack HOST:PORT SECONDS GROUP...        GROUP: KIND:CLIENTS:FILE[:PERIOD]
 *
 * FILE has a request's bytes, head and body, or is "-" for none. The kinds of clients:
 *
 *   flood  sends the request over and over without waiting, and reads all replies
 *   deaf   sends the request over and over, and reads nothing
 *   hold   sends the bytes once, and then waits for the server to end the connection
 *   churn  connects, sends the request, resets the connection at the first byte of the reply
 *   beat   sends the request each PERIOD milliseconds on a kept connection, and measures the time to the whole reply
 *   knock  like beat, on a new connection each time
 *
 * A client whose connection ends connects again. A latency counts from the moment when the request was due.
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum kind { FLOOD, DEAF, HOLD, CHURN, BEAT, KNOCK, KINDS };
static const char *const kind_names[KINDS] = {"flood", "deaf", "hold", "churn", "beat", "knock"};

enum { GROUPS_MAX = 16, EVENTS = 512, BLOCK = 1 << 16, REPLY_ROOM = 1 << 17, OPENED_AT_ONCE = 256 };
static const double reconnect_seconds = 0.02; /* a client that was refused tries again after this time */
static const double patience_seconds = 10;    /* a beat without an answer for so long is an error */

struct group {
    enum kind kind;
    const char *name; /* the argument */
    size_t clients;
    char *data; /* one request, or as many as fill a block for those that never wait */
    size_t length, request_length;
    double period; /* seconds */
    uint64_t sent, received, replies, connections, ended, errors;
    double *latencies;
    size_t latency_count, latency_room;
};

struct client {
    struct group *group;
    int fd; /* -1: none */
    bool connecting, waiting;
    double at;  /* when the next request is due, or the next try to connect */
    double due; /* of the request that waits for its reply */
    size_t offset, got;
    char *reply;      /* of a beat: [REPLY_ROOM] */
    unsigned matched; /* bytes of a status line's start that the stream has shown so far */
};

static struct sockaddr_in address;
static struct group groups[GROUPS_MAX];
static struct client *clients;
static size_t group_count, client_count;
static int epoll;
static char block[BLOCK];

static _Noreturn void fail(const char *reason) {
    fprintf(stderr, "attack: %s\n", reason);
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

static bool measures(const struct group *group) {
    return group->kind == BEAT || group->kind == KNOCK;
}

/* ---- Connections. */

static void watch(struct client *client, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    epoll_ctl(epoll, operation, client->fd, &event);
}

static void connect_client(struct client *client) {
    int one = 1;
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (client->fd < 0)
        fail(strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (client->group->kind == DEAF) { /* so that the server holds the replies, not the kernel */
        int small = 4096;
        setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    }
    if (connect(client->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS)
        fail(strerror(errno));
    client->connecting = true;
    client->offset = client->got = 0;
    client->matched = 0;
    client->group->connections++;
    watch(client, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void disconnect(struct client *client, bool reset) {
    if (reset) {
        struct linger linger = {.l_onoff = 1};
        setsockopt(client->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    close(client->fd);
    client->fd = -1;
}

/* The server ended the connection. */
static void ended(struct client *client) {
    struct group *group = client->group;
    group->ended++;
    disconnect(client, false);
    double time = now();
    if (!measures(group)) {
        client->at = time + reconnect_seconds;
    } else if (client->waiting) {
        group->errors++;
        client->waiting = false;
        client->at = client->due + group->period > time ? client->due + group->period : time;
    }
}

/* ---- Sending. */

static void send_more(struct client *client) {
    struct group *group = client->group;
    for (int turn = 0; turn < 4; turn++) {
        if (client->offset == group->length) {
            if (group->kind != FLOOD && group->kind != DEAF)
                break;
            client->offset = 0;
        }
        ssize_t sent = send(client->fd, group->data + client->offset, group->length - client->offset, MSG_NOSIGNAL);
        if (sent <= 0)
            break; /* an end of the connection is seen by its next read */
        client->offset += (size_t)sent;
        group->sent += (uint64_t)sent;
    }
    bool more = client->offset < group->length || group->kind == FLOOD || group->kind == DEAF;
    watch(client, EPOLL_CTL_MOD, (group->kind == DEAF ? EPOLLRDHUP : EPOLLIN) | (more ? EPOLLOUT : 0U));
}

/* ---- Receiving. */

/* Counts status lines in a stream that comes in pieces. */
static void count_replies(struct client *client, const char *data, size_t length) {
    static const char start[] = "HTTP/1.1 ";
    for (size_t i = 0; i < length; i++) {
        if (client->matched == 0) {
            const char *next = memchr(data + i, 'H', length - i);
            if (next == NULL)
                return;
            i = (size_t)(next - data);
        }
        client->matched = data[i] == start[client->matched] ? client->matched + 1 : data[i] == 'H';
        if (start[client->matched] == '\0') {
            client->group->replies++;
            client->matched = 0;
        }
    }
}

static void record(struct group *group, double seconds) {
    if (group->latency_count == group->latency_room) {
        group->latency_room = 2 * group->latency_room + 1024;
        group->latencies = checked(realloc(group->latencies, group->latency_room * sizeof *group->latencies));
    }
    group->latencies[group->latency_count++] = seconds;
}

/* The length of the reply once its head is whole, else 0. */
static size_t reply_length(const char *reply) {
    const char *end = strstr(reply, "\r\n\r\n"), *length = strcasestr(reply, "\r\nContent-Length:");
    if (end == NULL)
        return 0;
    return (size_t)(end + 4 - reply) + (length != NULL && length < end ? strtoul(length + 17, NULL, 10) : 0);
}

static void receive_measured(struct client *client) {
    struct group *group = client->group;
    ssize_t got = recv(client->fd, client->reply + client->got, REPLY_ROOM - 1 - client->got, 0);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        ended(client);
        return;
    }
    client->got += (size_t)got;
    group->received += (uint64_t)got;
    client->reply[client->got] = '\0';
    size_t length = reply_length(client->reply);
    if (length == 0 || client->got < length || !client->waiting)
        return;
    group->replies++;
    client->waiting = false;
    client->got = 0;
    if (strncmp(client->reply, "HTTP/1.1 200", 12) == 0)
        record(group, now() - client->due);
    else
        group->errors++;
    client->at = client->due + group->period;
    if (client->at < now()) /* the next beat is due already: those between were never sent */
        client->at = now();
    if (group->kind == KNOCK || strcasestr(client->reply, "\r\nConnection: close") != NULL)
        disconnect(client, false);
}

static void receive(struct client *client) {
    struct group *group = client->group;
    for (int turn = 0; turn < 4; turn++) {
        ssize_t got = recv(client->fd, block, sizeof block, 0);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            ended(client);
            return;
        }
        group->received += (uint64_t)got;
        count_replies(client, block, (size_t)got);
        if (group->kind == CHURN) {
            disconnect(client, true);
            connect_client(client);
            return;
        }
    }
}

/* ---- The run. */

static void on_event(struct client *client, uint32_t events) {
    struct group *group = client->group;
    if (client->connecting && events & EPOLLOUT) {
        client->connecting = false;
        if (!measures(group) || client->waiting)
            send_more(client);
        else
            watch(client, EPOLL_CTL_MOD, EPOLLIN);
    }
    if (events & (EPOLLERR | EPOLLRDHUP) || (events & EPOLLHUP && group->kind == DEAF))
        ended(client);
    else if (events & (EPOLLIN | EPOLLHUP) && measures(group))
        receive_measured(client);
    else if (events & (EPOLLIN | EPOLLHUP))
        receive(client);
    else if (events & EPOLLOUT)
        send_more(client);
}

/* Whatever is due by the clock: connections and beats. */
static void on_time(double time) {
    size_t opened = 0;
    for (size_t i = 0; i < client_count; i++) {
        struct client *client = &clients[i];
        if (client->waiting && time - client->due > patience_seconds)
            ended(client);
        if (client->group == NULL || client->at > time || client->waiting)
            continue;
        if (client->fd < 0 && opened++ < OPENED_AT_ONCE)
            connect_client(client);
        if (client->fd < 0 || !measures(client->group))
            continue;
        client->due = client->at;
        client->waiting = true;
        client->offset = client->got = 0;
        if (!client->connecting)
            send_more(client);
    }
}

static void run(double seconds) {
    struct epoll_event events[EVENTS];
    double end = now() + seconds, looked = 0, interval = 0.005;
    for (size_t g = 0; g < group_count; g++) {
        if (measures(&groups[g]))
            interval = 0.0002;
    }
    while (now() < end) {
        double time = now();
        if (time - looked >= interval) {
            on_time(time);
            looked = time;
        }
        struct timespec wait = {.tv_nsec = (long)(1e9 * interval)};
        int count = epoll_pwait2(epoll, events, EVENTS, &wait, NULL);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client->fd >= 0)
                on_event(client, events[i].events);
        }
    }
}

static void print_group(struct group *group) {
    static const struct {
        const char *name;
        double part;
    } places[] = {{"p50", 0.5}, {"p99", 0.99}, {"max", 1}};
    printf("{\"group\": \"%s\", \"clients\": %zu, \"sent_bytes\": %llu, \"requests\": %.0f, \"received_bytes\": %llu, "
           "\"replies\": %llu, \"connections\": %llu, \"ended\": %llu, \"errors\": %llu, \"measured\": %zu",
           group->name, group->clients, (unsigned long long)group->sent,
           group->request_length > 0 ? (double)group->sent / (double)group->request_length : 0,
           (unsigned long long)group->received, (unsigned long long)group->replies,
           (unsigned long long)group->connections, (unsigned long long)group->ended, (unsigned long long)group->errors,
           group->latency_count);
    qsort(group->latencies, group->latency_count, sizeof *group->latencies, ascending);
    for (size_t i = 0; i < sizeof places / sizeof *places && group->latency_count > 0; i++) {
        size_t place = (size_t)(places[i].part * (double)(group->latency_count - 1) + 0.5);
        printf(", \"%s_us\": %.0f", places[i].name, 1e6 * group->latencies[place]);
    }
    printf("}");
}

/* ---- Arguments. */

static void read_file(struct group *group, const char *path) {
    if (strcmp(path, "-") == 0)
        return;
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        fail("a request's file cannot be read");
    fseek(file, 0, SEEK_END);
    size_t length = (size_t)ftell(file);
    rewind(file);
    size_t copies = group->kind == FLOOD && length < BLOCK ? BLOCK / length : 1;
    group->data = checked(malloc(copies * length));
    if (length == 0 || fread(group->data, 1, length, file) != length)
        fail("a request's file cannot be read");
    for (size_t i = 1; i < copies; i++)
        memcpy(group->data + i * length, group->data, length);
    group->length = copies * length;
    group->request_length = length;
    fclose(file);
}

static void read_group(struct group *group, char *argument) {
    group->name = checked(strdup(argument));
    char *clients_text = strchr(argument, ':'), *file = clients_text != NULL ? strchr(clients_text + 1, ':') : NULL;
    if (file == NULL)
        fail("KIND:CLIENTS:FILE[:PERIOD]");
    *clients_text++ = '\0';
    *file++ = '\0';
    char *period = strchr(file, ':');
    if (period != NULL)
        *period++ = '\0';
    while (group->kind < KINDS && strcmp(kind_names[group->kind], argument) != 0)
        group->kind++;
    if (group->kind == KINDS)
        fail("no such kind of client");
    group->clients = strtoul(clients_text, NULL, 10);
    group->period = period != NULL ? strtod(period, NULL) / 1000 : 0.01;
    read_file(group, file);
}

static void read_address(char *text) {
    char *colon = strrchr(text, ':');
    if (colon == NULL)
        fail("HOST:PORT");
    *colon = '\0';
    address.sin_family = AF_INET;
    address.sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
    if (inet_pton(AF_INET, text, &address.sin_addr) != 1)
        fail("HOST must be a numeric IPv4 address");
}

int main(int count, char **arguments) {
    if (count < 4 || count - 3 > GROUPS_MAX)
        fail("HOST:PORT SECONDS GROUP...");
    read_address(arguments[1]);
    double seconds = strtod(arguments[2], NULL);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (int i = 3; i < count; i++) {
        read_group(&groups[group_count], arguments[i]);
        client_count += groups[group_count++].clients;
    }
    clients = checked(calloc(client_count, sizeof *clients));
    epoll = epoll_create1(EPOLL_CLOEXEC);
    struct client *next = clients;
    double start = now();
    for (size_t g = 0; g < group_count; g++) {
        for (size_t i = 0; i < groups[g].clients; i++, next++) {
            double phase = (double)i / (double)groups[g].clients * groups[g].period;
            *next = (struct client){.group = &groups[g], .fd = -1, .at = start + (measures(&groups[g]) ? phase : 0)};
            next->reply = measures(&groups[g]) ? checked(malloc(REPLY_ROOM)) : NULL;
        }
    }
    run(seconds);
    printf("[");
    for (size_t g = 0; g < group_count; g++) {
        printf(g > 0 ? ", " : "");
        print_group(&groups[g]);
    }
    printf("]\n");
    return 0;
}
