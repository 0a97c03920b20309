/* http.c: libmicrohttpd (MHD) in external epoll mode.
 *
 * The traps of version 0.9.75, which its documentation does not name:
 *
 * - MHD's epoll is edge-triggered and keeps a ready list. Ask for its timeout after each MHD_run(), or connections
 * hang.
 * - The daemon must not stop while a connection is suspended. A suspended connection cannot end.
 * - The handler runs for the headers, for each part of the body, and for the whole request. If the connection was
 *   suspended at the last call, the handler runs once more.
 * - An answer in the first call closes the connection. A refusal therefore waits for the end of the body if it can, and
 *   the body is discarded.
 * - MHD queues no answer while a body comes in. The 408 for a late body or head goes straight to the socket.
 * - MHD answers some heads alone: a malformed first line by the connection's end or a page of HTML, a Content-Length
 *   that is no number by a head that is written twice. on_received() finds them before MHD, and refuses them.
 * - MHD decodes chunked bodies, but takes lines that end in a bare LF. on_received() checks the chunks before MHD.
 * - When MHD answers alone, on_completed() may never come. The exchange then ends with its connection.
 * - A connection that is resumed is read from before the handler runs, and a client that has half-closed reads as one
 *   that is gone. MHD does not read once a last call of the handler has brought no answer; see set_aside().
 * - One pool of --connection-memory bytes holds a connection's head, an entry for each header, cookie and argument, a
 *   copy of the cookies, the body's buffer and the reply's head. When the pool is full, no byte of the body can be read
 *   and the ready list never runs empty. A body is received into the rest of the head's buffer, however small, unless
 *   the handler makes MHD enlarge it: see wants_larger_buffer(). No route has arguments or cookies, so MHD gets none to
 *   parse: see spare_the_pool(). A head that leaves less than ROOM_AFTER_HEAD is refused.
 */
#include "server/http/http.h"

#include "proto/content_coding.h"
#include "proto/json_encode.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/http/head_scan.h"
#include "server/http/header_check.h"
#include "server/http/lingering_close.h"
#include "server/http/receive_tap.h"
#include "server/http/request_id.h"

#include <microhttpd.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* One socket's bytes that MHD holds in its pool. Between requests they lie at the pool's beginning. */
struct reader {
    struct connection *connection; /* NULL: without one */
    struct exchange *exchange;     /* whose head or body is being read, or NULL */
    struct head_scan scan;         /* of the head that is being read */
    char *pool;                    /* where the first byte was received; NULL: none was seen */
    size_t held;                   /* bytes that no request has taken yet; in a head, those from `pool` on */
    char *head_end;                /* the end of the last whole head, where the buffer for its body begins */
    const char *buffer_end;        /* the end of the buffer of the last receipt */
    bool ignores_rest;             /* the connection closes after this reply: no other head is read */
};

struct http {
    struct http_options options;
    struct MHD_Daemon *daemon;
    struct connections connections;
    struct linger_list linger;
    struct arena arena;     /* for problem details, reset after each */
    struct reader *readers; /* [socket_count], by socket */
    size_t socket_count;
    struct body_budget budget;
    size_t in_flight;
    size_t reply_buffered;
    uint64_t rates_seen; /* clock_now() of the last drop_slow_bodies() */
    bool draining;
    struct { /* not yet in the log */
        uint64_t closed, refused, dropped, reported;
    } full;
};

#define PROBLEM_TYPE "application/problem+json"
enum { ARENA_KEEP = 65536, QUIET_ACCEPTS = 2000, DROPS_AT_ONCE = 64 };
/* Bytes of the pool that a head must leave, for the body's buffer and the reply's head; those of the second alone; and
 * the most that a reply's head takes, with the longest request id and a trace. */
enum { ROOM_AFTER_HEAD = 2048, ROOM_FOR_REPLY = 1024, REPLY_HEAD_MOST = 912 };
/* One sweep's looks at the rates of bodies: more than its share of all connections, and each takes a microsecond. */
enum { RATE_LOOKS = 2 * CONNECTIONS_A_SWEEP };
/* BODY_BUFFER: bytes of a body that MHD receives at a time at the least, where the head leaves so many and
 * ROOM_FOR_REPLY more. It enlarges its buffer by GROWTH bytes at a time. */
enum { BODY_BUFFER = 4096, GROWTH = 128, GROWTHS_MOST = 2 * BODY_BUFFER / GROWTH };
enum { VICTIMS_MOST = 16 }; /* dropped for one part of another body */
/* One MHD_run() serves each ready connection once. After this time the loop polls again, in nanoseconds. */
static const uint64_t turn_budget = 100000;
/* The last accepts before the listener closes, in nanoseconds: a flood must not hold up the end. */
static const uint64_t quiet_budget = 250000000;
static const uint64_t rate_window = 2000000000;     /* nanoseconds, in which a body's rate is measured */
static const uint64_t rate_pause = 1000000000;      /* nanoseconds without a look: the server has not received either */
static const uint64_t victim_age = 500000000;       /* nanoseconds, in which a fast client sends its body */
static const uint64_t dismissed_after = 1000000000; /* nanoseconds without a byte */
static const uint64_t reply_moment = 100000000;     /* nanoseconds in which a client that reads takes its reply */
static const uint64_t report_period = 1000000000;   /* nanoseconds between two lines of the log on one event */

/* ---- Answers. */

/* The problem's document as the answer. */
void http_refuse(struct exchange *exchange, const struct problem *problem) {
    struct arena *arena = &exchange->http->arena;
    struct proto_string body = json_encode_problem(problem, exchange->request_id, arena);
    exchange->answer = (struct answer){.status = problem_status(problem->kind), .problem = problem->kind};
    if (body.data != NULL)
        http_text(exchange, exchange->answer.status, PROBLEM_TYPE, body.data, body.length);
    arena_reset(arena);
}

void http_text(struct exchange *exchange, int status, const char *type, const char *text, size_t size) {
    struct answer *answer = &exchange->answer;
    answer->body = malloc(size + 1);
    if (answer->body == NULL) { /* an answer without a body */
        answer->problem = answer->problem == PROBLEM_NONE ? PROBLEM_OUT_OF_MEMORY : answer->problem;
        answer->status = problem_status(answer->problem);
        return;
    }
    memcpy(answer->body, text, size);
    answer->status = status;
    answer->type = type;
    answer->size = size;
    answer->memory = ANSWER_OWNED;
}

void http_problem(struct exchange *exchange, enum problem_kind kind, const char *format, ...) {
    char detail[256];
    struct problem problem;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    problem_set(&problem, kind, "", "%s", detail);
    http_refuse(exchange, &problem);
}

static void on_expired(void *context, struct connection *connection, enum connection_end why);

/* While the replies are over their limit, those that have waited for their clients for longest go first. A reply that
 * was given just now is spared, because its client has had no time to take it, unless they are over twice the limit.
 * One alone may be as large as it is. */
static void drop_replies(struct http *http, const struct connection *spared) {
    size_t limit = http->options.limits.max_reply_buffered;
    for (int i = 0; i < DROPS_AT_ONCE && http->reply_buffered > limit; i++) {
        uint64_t age = http->reply_buffered / 2 > limit ? 0 : reply_moment;
        if (!connections_drop_reply(&http->connections, spared, age, clock_now(), on_expired, http))
            return;
    }
}

/* The bytes of a reply are held until its client has taken them. */
static void count_reply(struct exchange *exchange) {
    exchange->reply_bytes = exchange->answer.memory == ANSWER_OWNED ? exchange->answer.size : 0;
    exchange->http->reply_buffered += exchange->reply_bytes;
    drop_replies(exchange->http, exchange->connection);
}

static void uncount_reply(struct exchange *exchange) {
    exchange->http->reply_buffered -= exchange->reply_bytes;
    exchange->reply_bytes = 0;
}

const struct sockaddr *http_client_address(const struct exchange *exchange) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->handle, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    return info != NULL ? info->client_addr : NULL;
}

/* Not its tracestate: that may be longer than the room for a reply's head. */
static void pass_trace_on(const struct exchange *exchange, struct MHD_Response *response) {
    char text[TRACEPARENT_TEXT];
    if (*exchange->trace.trace_id == '\0')
        return;
    trace_context_write(&exchange->trace, text);
    MHD_add_response_header(response, "traceparent", text);
}

/* Hands the answer to MHD. Returns the result that MHD's handler must return. */
static enum MHD_Result queue_answer(struct exchange *exchange) {
    static const enum MHD_ResponseMemoryMode modes[] = {
        [ANSWER_OWNED] = MHD_RESPMEM_MUST_FREE, [ANSWER_BORROWED] = MHD_RESPMEM_PERSISTENT};
    struct answer *answer = &exchange->answer;
    body_free(&exchange->body, &exchange->http->budget); /* the reply may wait for its client for long */
    if (answer->status == 0)
        return MHD_NO;
    struct MHD_Response *response = MHD_create_response_from_buffer(answer->size, answer->body, modes[answer->memory]);
    if (response == NULL) {
        return MHD_NO; /* and the body stays the exchange's, which frees it */
    }
    if (answer->memory == ANSWER_OWNED)
        answer->body = NULL;
    MHD_add_response_header(response, "X-Request-Id", exchange->request_id);
    pass_trace_on(exchange, response);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    if (answer->model_tag != NULL && *answer->model_tag != '\0')
        MHD_add_response_header(response, "X-Model-Digest", answer->model_tag);
    if (answer->type != NULL && answer->size > 0)
        MHD_add_response_header(response, "Content-Type", answer->type);
    if (answer->problem == PROBLEM_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", routes_allowed(exchange->route));
    bool has_body = routes_has_body(exchange->route);
    if (answer->problem == PROBLEM_UNSUPPORTED_MEDIA)
        MHD_add_response_header(response, "Accept",
                                exchange->route == ROUTE_EVENTS ? proto_media_types[PROTO_LINES]
                                : has_body                      ? "application/json, application/x-protobuf"
                                                                : "application/json");
    if (answer->problem == PROBLEM_UNSUPPORTED_CODING)
        MHD_add_response_header(response, "Accept-Encoding", has_body ? "gzip" : "identity");
    if (answer->problem == PROBLEM_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (answer->status == 503) {
        char seconds[16];
        snprintf(seconds, sizeof seconds, "%u", answer->retry_after > 0 ? answer->retry_after : 1);
        MHD_add_response_header(response, "Retry-After", seconds);
    }
    if (exchange->http->draining)
        exchange->keeps = false;
    if (!exchange->keeps)
        MHD_add_response_header(response, "Connection", "close");
    connection_enter(exchange->connection, CONNECTION_REPLYING, clock_now());
    enum MHD_Result result = MHD_queue_response(exchange->handle, (unsigned)answer->status, response);
    MHD_destroy_response(response);
    if (result == MHD_YES) {
        exchange->reply = REPLY_QUEUED;
        count_reply(exchange);
    }
    return result;
}

/* ---- Refusals that MHD cannot send. */

/* Writes a problem straight to the socket, because MHD takes no answer before the request is whole. False when it does
 * not fit in the socket's buffer: it is lost, with the connection. `request_id` may be "". */
static bool write_refusal(struct http *http, int socket, const struct problem *problem, const char *request_id,
                          bool head_only) {
    struct proto_string body = json_encode_problem(problem, *request_id != '\0' ? request_id : NULL, &http->arena);
    int status = problem_status(problem->kind);
    char head[512];
    int length = snprintf(head, sizeof head,
                          "HTTP/1.1 %d %s\r\nConnection: close\r\nCache-Control: no-store\r\n%s%s%s%s"
                          "Content-Type: " PROBLEM_TYPE "\r\nContent-Length: %zu\r\n\r\n",
                          status, MHD_get_reason_phrase_for((unsigned)status),
                          status == 503 ? "Retry-After: 1\r\n" : "", *request_id != '\0' ? "X-Request-Id: " : "",
                          request_id, *request_id != '\0' ? "\r\n" : "", body.length);
    int more = head_only ? 0 : MSG_MORE;
    bool written =
        body.data != NULL && send(socket, head, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL | more) == length &&
        (head_only || send(socket, body.data, body.length, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)body.length);
    arena_reset(&http->arena);
    return written;
}

static void refuse_at_once(struct exchange *exchange, const struct problem *problem) {
    body_free(&exchange->body, &exchange->http->budget);
    if (!write_refusal(exchange->http, exchange->socket, problem, exchange->request_id,
                       strcmp(exchange->method, "HEAD") == 0))
        return;
    exchange->reply = REPLY_WRITTEN;
    exchange->answer.status = problem_status(problem->kind);
    exchange->answer.problem = problem->kind;
}

static void linger_on(struct http *http, int socket) {
    size_t most = http->options.limits.max_connections;
    if (http->linger.count < (most < HTTP_LINGERING_MOST ? most : HTTP_LINGERING_MOST))
        linger_add(&http->linger, socket, clock_now());
}

/* MHD ends the connection a second later, if the client has not done so: while it waits for bytes, it does not find out
 * that it cannot write any more. */
static void end_soon(const struct connection *connection) {
    MHD_set_connection_option(connection->handle, MHD_CONNECTION_OPTION_TIMEOUT, 1u);
}

/* A refusal was written past MHD: the connection takes no more requests and ends. */
static void end_refused(struct http *http, struct connection *connection) {
    linger_on(http, connection->socket);
    connection_enter(connection, CONNECTION_CLOSING, clock_now());
    shutdown(connection->socket, SHUT_WR);
    end_soon(connection);
}

/* Refuses a request in the middle. */
static void refuse_unfinished(struct exchange *exchange) {
    refuse_at_once(exchange, &exchange->problem);
    end_refused(exchange->http, exchange->connection);
}

/* ---- The request's headers. */

/* The header that spare_the_pool() adds; its address tells it from the client's. */
static const char planted_cookie[] = "Cookie";

/* Called when MHD has found a request's target and before it looks for arguments and headers. Ends the query where it
 * begins, since MHD would split it in place into an entry for each argument. Adds a Cookie header of one byte before
 * all others, since MHD copies the first one and makes an entry for each cookie in it. Of an empty one MHD would read
 * the byte before its copy. */
static void spare_the_pool(struct MHD_Connection *handle, const char *target) {
    const char *query = strchr(target, '?');
    char *arguments = NULL;
    memcpy(&arguments, &query, sizeof arguments); /* MHD lends its own buffer as const */
    if (arguments != NULL)
        arguments[1] = '\0';
    MHD_set_connection_value(handle, MHD_HEADER_KIND, planted_cookie, "-");
}

/* The first header of a name that the client sent. */
struct search {
    const char *name, *value;
};

static enum MHD_Result compare_name(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
    struct search *search = context;
    (void)kind;
    if (name == planted_cookie || strcasecmp(name, search->name) != 0)
        return MHD_YES;
    search->value = value;
    return MHD_NO;
}

const char *http_header(const struct exchange *exchange, const char *name) {
    struct search search = {.name = name};
    MHD_get_connection_values(exchange->handle, MHD_HEADER_KIND, compare_name, &search);
    return search.value;
}

static enum MHD_Result check_header(void *context, enum MHD_ValueKind kind, const char *name, size_t name_size,
                                    const char *value, size_t value_size) {
    (void)kind;
    if (name != planted_cookie)
        header_check_add(context, name, name_size, value != NULL ? value : "", value_size);
    return MHD_YES;
}

static enum MHD_Result note_name(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
    (void)kind, (void)value;
    *(const char **)context = name;
    return MHD_NO;
}

/* Where the rest of the pool begins, and how much room is left there, once a trailer's fields were taken. */
struct pool_rest {
    char *begin;
    size_t room;
};

enum { ENTRY_BYTES = HEAD_LINE_COST };

static enum MHD_Result add_trailer(void *context, enum MHD_ValueKind kind, const char *name, size_t name_size,
                                   const char *value, size_t value_size) {
    struct pool_rest *rest = context;
    (void)kind, (void)name, (void)name_size;
    const char *field_end = value + value_size + 2;
    size_t used = field_end > rest->begin ? (size_t)(field_end - rest->begin) : 0;
    rest->begin += used;
    rest->room -= used + ENTRY_BYTES <= rest->room ? used + ENTRY_BYTES : rest->room;
    return MHD_YES;
}

/* The bytes in the connection's pool that the head and a trailer leave for the body's buffer and the reply's head. The
 * head lies at the pool's start, a trailer behind it. Entries grow down from the pool's end. The last one of a head is
 * that of the cookie of the planted header, and above it lies the copy of this cookie, which is its name. */
static struct pool_rest rest_of_pool(const struct exchange *exchange, char *head_end) {
    const char *cookie = NULL;
    MHD_get_connection_values(exchange->handle, MHD_COOKIE_KIND, note_name, &cookie);
    uintptr_t from = (uintptr_t)head_end + ENTRY_BYTES, to = (uintptr_t)cookie;
    size_t room = to > from && to - from <= exchange->http->options.limits.connection_memory ? to - from : 0;
    struct pool_rest rest = {.begin = head_end, .room = room};
    if (exchange->chunked) {
        MHD_get_connection_values_n(exchange->handle, MHD_FOOTER_KIND, add_trailer, &rest);
        rest.begin += 2; /* the empty line at the end */
    }
    return rest;
}

/* With or without parameters. */
static bool is_type(const char *type, const char *expected) {
    size_t length = strlen(expected);
    return type != NULL && strncasecmp(type, expected, length) == 0 && strchr("; \t", type[length]) != NULL;
}

static enum MHD_Result take_coding(void *context, enum MHD_ValueKind kind, const char *name, const char *value) {
    struct exchange *exchange = context;
    (void)kind;
    if (strcasecmp(name, "Content-Encoding") != 0)
        return MHD_YES;
    /* Two headers are a list of two codings. */
    if (exchange->coding != PROTO_IDENTITY || !content_coding_named(value != NULL ? value : "", &exchange->coding))
        problem_set(&exchange->problem, PROBLEM_UNSUPPORTED_CODING, "", "The Content-Encoding must be gzip, or none.");
    return MHD_YES;
}

/* Sets exchange->format, or the problem. */
static void check_media_type(struct exchange *exchange) {
    const char *type = http_header(exchange, "Content-Type");
    bool is_message = is_type(type, proto_media_types[PROTO_PROTOBUF]) || is_type(type, "application/protobuf");
    bool is_lines = is_type(type, proto_media_types[PROTO_LINES]) || is_type(type, "application/jsonl");
    if (exchange->route == ROUTE_EVENTS) {
        exchange->format = PROTO_LINES;
        if (!is_lines)
            problem_set(&exchange->problem, PROBLEM_UNSUPPORTED_MEDIA, "", "The Content-Type must be %s.",
                        proto_media_types[PROTO_LINES]);
        return;
    }
    exchange->format = is_message ? PROTO_PROTOBUF : PROTO_JSON;
    if (!is_message && !is_type(type, proto_media_types[PROTO_JSON]))
        problem_set(&exchange->problem, PROBLEM_UNSUPPORTED_MEDIA, "", "The Content-Type must be %s or %s.",
                    proto_media_types[PROTO_JSON], proto_media_types[PROTO_PROTOBUF]);
}

/* A call of the admin plane that changes something must say that its body is JSON, even where it has none: another
 * site's page cannot make a browser send that without asking first. */
static void check_call(struct exchange *exchange) {
    enum proto_coding coding = PROTO_IDENTITY;
    const char *named = http_header(exchange, "Content-Encoding");
    if (!is_type(http_header(exchange, "Content-Type"), proto_media_types[PROTO_JSON]))
        problem_set(&exchange->problem, PROBLEM_UNSUPPORTED_MEDIA, "", "The Content-Type must be %s.",
                    proto_media_types[PROTO_JSON]);
    else if (named != NULL && (!content_coding_named(named, &coding) || coding != PROTO_IDENTITY))
        problem_set(&exchange->problem, PROBLEM_UNSUPPORTED_CODING, "", "The body must have no Content-Encoding.");
}

static size_t body_most(const struct exchange *exchange) {
    const struct http_limits *limits = &exchange->http->options.limits;
    return routes_is_admin_call(exchange->route) ? limits->max_call : limits->max_body;
}

/* Sets exchange->problem when this cannot be a request of ours. */
static void check_request(struct exchange *exchange, const struct header_check *check, const char *path,
                          const char *method) {
    const struct http_options *options = &exchange->http->options;
    struct problem *problem = &exchange->problem;
    if (exchange->body_expected > body_most(exchange)) {
        problem_set(problem, PROBLEM_BODY_TOO_LARGE, "", "The body has %llu bytes; at most %zu are taken.",
                    (unsigned long long)exchange->body_expected, body_most(exchange));
        return;
    }
    if (options->admit != NULL)
        options->admit(options->context, exchange, path, problem);
    if (problem->kind != PROBLEM_NONE)
        return;
    if (exchange->route == ROUTE_NONE) {
        problem_set(problem, PROBLEM_NOT_FOUND, "", "There is nothing at this path.");
    } else if (!routes_allow(exchange->route, method)) {
        problem_set(problem, PROBLEM_METHOD_NOT_ALLOWED, "", "This path takes %s.", routes_allowed(exchange->route));
    } else if ((exchange->route == ROUTE_USER || exchange->route == ROUTE_HISTORY) &&
               !routes_user_id(path, exchange->user_id, &exchange->user_id_length)) {
        problem_set(problem, PROBLEM_INVALID_USER_ID, "", "%s In a path it is percent-encoded.", proto_user_id_rule);
    } else if (routes_has_body(exchange->route) && check->lengths + check->encodings == 0) {
        problem_set(problem, PROBLEM_LENGTH_REQUIRED, "",
                    "The request has neither a Content-Length nor Transfer-Encoding: chunked.");
    } else if (routes_has_body(exchange->route)) {
        check_media_type(exchange);
        if (problem->kind == PROBLEM_NONE)
            MHD_get_connection_values(exchange->handle, MHD_HEADER_KIND, take_coding, exchange);
    } else if (exchange->plane == PLANE_ADMIN && routes_changes_state(method)) {
        check_call(exchange);
    }
}

/* ---- Where the body ends. */

static struct reader *reader_of(const struct http *http, int socket) {
    return socket >= 0 && (size_t)socket < http->socket_count ? &http->readers[socket] : NULL;
}

/* A connection begins. Without memory for its reader on_received() lets no byte of it through: MHD closes it. */
static void reader_begin(struct http *http, int socket, struct connection *connection) {
    size_t count = (size_t)socket + 1;
    if (count > http->socket_count) {
        count = count > 2 * http->socket_count ? count : 2 * http->socket_count;
        struct reader *readers = realloc(http->readers, count * sizeof *readers);
        if (readers == NULL)
            return;
        memset(readers + http->socket_count, 0, (count - http->socket_count) * sizeof *readers);
        http->readers = readers;
        http->socket_count = count;
    }
    http->readers[socket] = (struct reader){.connection = connection};
}

static void set_framing_problem(struct exchange *exchange) {
    const struct body_framing *framing = &exchange->framing;
    if (framing->state == FRAMING_TOO_LARGE)
        problem_set(&exchange->problem, PROBLEM_BODY_TOO_LARGE, "",
                    "The body has more than the %zu bytes that are taken.", body_most(exchange));
    else
        problem_set(&exchange->problem, PROBLEM_INVALID_HTTP, "", "The request's chunked body is refused: %s.",
                    framing->fault);
}

/* The head is complete: takes the bytes of the body that were received with it. Their fault is the request's problem.
 */
static void begin_framing(struct exchange *exchange, struct reader *reader) {
    bool tapped = reader != NULL && reader->head_end != NULL;
    body_framing_length(&exchange->framing, exchange->body_expected);
    if (exchange->chunked && !tapped) { /* no byte of its framing can be checked */
        exchange->chunked = false;
        problem_set(&exchange->problem, PROBLEM_LENGTH_REQUIRED, "", "The request has no Content-Length.");
    }
    if (!tapped)
        return;
    if (exchange->chunked)
        body_framing_chunked(&exchange->framing, body_most(exchange));
    reader->held -= body_framing_take(&exchange->framing, reader->head_end, reader->held);
    if (body_framing_failed(&exchange->framing))
        set_framing_problem(exchange);
}

/* Nothing that MHD would answer by itself to a request that we have no record of. */
static void refuse_without_memory(struct http *http, struct connection *connection) {
    struct problem problem;
    problem_set(&problem, PROBLEM_OUT_OF_MEMORY, "", "There is no memory for the request.");
    int status = problem_status(problem.kind);
    bool written = write_refusal(http, connection->socket, &problem, "", false);
    http_counts_request(http->options.counts, ROUTE_NONE, written ? status : 0,
                        written ? (unsigned)problem.kind : OUTCOME_REPLY_FAILED);
    end_refused(http, connection);
}

/* One request of a connection, from its first line on. NULL: out of memory. */
static struct exchange *begin_exchange(struct http *http, struct connection *connection) {
    struct exchange *exchange = calloc(1, sizeof *exchange + http->options.work_size);
    if (exchange == NULL)
        return NULL;
    exchange->http = http;
    exchange->plane = http->options.plane;
    exchange->connection = connection;
    exchange->socket = connection->socket;
    connection->owner = exchange;
    return exchange;
}

/* Refuses a head that MHD has not seen, or only in part. The exchange ends with its connection. */
static void refuse_head(struct http *http, const struct reader *reader, const struct problem *problem) {
    struct exchange *exchange = reader->connection->owner;
    if (exchange == NULL)
        exchange = begin_exchange(http, reader->connection);
    if (exchange == NULL) {
        refuse_without_memory(http, reader->connection);
        return;
    }
    exchange->problem = *problem;
    if (reader->scan.is_head)
        memcpy(exchange->method, "HEAD", sizeof "HEAD");
    request_id_choose(NULL, exchange->request_id);
    refuse_unfinished(exchange);
}

/* The head that the reader holds so far. False: it is refused. */
static bool scan_head(struct http *http, struct reader *reader, char *head) {
    struct problem problem;
    size_t memory = http->options.limits.connection_memory;
    /* MHD takes half of the pool for the bytes received before it makes entries: with a body behind the head, all of
     * that half may be in use. */
    const struct head_limits limits = {.bytes = memory - ROOM_AFTER_HEAD,
                                       .lines = (unsigned)((memory / 2 - ROOM_AFTER_HEAD) / HEAD_LINE_COST)};
    if (head_scan_take(&reader->scan, head, reader->held, &limits, &problem))
        return true;
    refuse_head(http, reader, &problem);
    return false;
}

/* MHD has received bytes of a head, which it parses next, or of a body. False: it must not see them, since the request
 * is refused. */
static bool on_received(void *context, int socket, char *data, size_t size, size_t capacity) {
    struct http *http = context;
    struct reader *reader = reader_of(http, socket);
    if (reader == NULL)
        return false;
    if (reader->pool == NULL)
        reader->pool = data;
    /* After an error or urgent data MHD receives once more, into a variable of its own, and closes the connection. */
    if ((uintptr_t)data - (uintptr_t)reader->pool >= http->options.limits.connection_memory)
        return false;
    reader->buffer_end = data + capacity;
    if (reader->connection == NULL || reader->connection->phase == CONNECTION_CLOSING || reader->ignores_rest)
        return false;
    if (reader->connection->phase == CONNECTION_WAITING)
        connection_request_began(reader->connection, clock_now());
    struct exchange *exchange = reader->exchange;
    if (exchange == NULL || exchange->began == 0) {
        reader->held = (size_t)(data + size - reader->pool);
        return scan_head(http, reader, reader->pool);
    }
    reader->held += size - body_framing_take(&exchange->framing, data, size);
    if (!body_framing_failed(&exchange->framing))
        return true;
    set_framing_problem(exchange);
    refuse_unfinished(exchange);
    return false;
}

/* ---- The head. */

/* The head has ended here. Returns the reader, if there is one. */
static struct reader *end_head(const struct exchange *exchange, char *head_end) {
    struct reader *reader = reader_of(exchange->http, exchange->socket);
    if (reader == NULL)
        return NULL;
    bool tapped = reader->pool != NULL && head_end >= reader->pool && (size_t)(head_end - reader->pool) <= reader->held;
    reader->head_end = tapped ? head_end : NULL;
    reader->held -= tapped ? (size_t)(head_end - reader->pool) : reader->held;
    return reader;
}

/* MHD keeps the bytes of the next request in the pool. If a reply's head has no room beside them, MHD ends the
 * connection without an answer, when the handler has acted. */
static bool reply_fits(const struct exchange *exchange) {
    const struct reader *reader = reader_of(exchange->http, exchange->socket);
    return reader == NULL || reader->head_end == NULL ||
           rest_of_pool(exchange, reader->head_end).room >= reader->held + REPLY_HEAD_MOST;
}

/* No reply of MHD would fit. */
static void refuse_for_room(struct exchange *exchange) {
    problem_set(&exchange->problem, PROBLEM_HEADERS_TOO_LARGE, "",
                "The headers, and what follows the request, take more than --connection-memory, %zu bytes, allows.",
                exchange->http->options.limits.connection_memory);
    refuse_unfinished(exchange);
}

/* The request's route, if this plane has it. */
static enum route find_route(const struct http *http, const char *path) {
    _Static_assert(ROUTES <= 32, "hidden_routes has a bit for each route");
    enum route route = routes_find(path);
    bool exists = routes_on_plane(route, http->options.plane) && (http->options.hidden_routes >> route & 1) == 0;
    return exists ? route : ROUTE_NONE;
}

static enum MHD_Result take_headers(struct exchange *exchange, const char *path, const char *method,
                                    const char *version) {
    struct http *http = exchange->http;
    struct header_check check;
    exchange->began = clock_now();
    exchange->counted = true;
    http->in_flight++;
    snprintf(exchange->method, sizeof exchange->method, "%s", method);
    exchange->route = find_route(http, path);
    routes_logged(exchange->route, path, exchange->path, sizeof exchange->path);
    request_id_choose(http_header(exchange, "X-Request-Id"), exchange->request_id);
    trace_context_read(http_header(exchange, "traceparent"), &exchange->trace);
    size_t head_size = MHD_get_connection_info(exchange->handle, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;
    header_check_begin(&check, method, head_size, version);
    header_check_line(&check, method, path, exchange->target_length, version);
    MHD_get_connection_values_n(exchange->handle, MHD_HEADER_KIND, check_header, &check);
    char *head_end = NULL;
    memcpy(&head_end, &check.end, sizeof head_end); /* MHD lends its own buffer as const */
    struct reader *reader = end_head(exchange, head_end);
    if (header_check_end(&check, &exchange->problem)) {
        exchange->body_expected = check.length;
        exchange->chunked = check.chunked;
        check_request(exchange, &check, path, method);
        begin_framing(exchange, reader);
    }
    connection_enter(exchange->connection, CONNECTION_BODY, exchange->began);
    bool has_body = exchange->body_expected > 0 || exchange->chunked;
    size_t room = rest_of_pool(exchange, head_end).room;
    if (room <= ROOM_FOR_REPLY || !reply_fits(exchange)) {
        refuse_for_room(exchange);
        return MHD_NO;
    }
    /* The refusal must go out before the body, and the connection closes, in three cases: the body's end is unknown,
     * the body is too long to be read, or the client waits for leave to send it. */
    enum problem_kind kind = exchange->problem.kind;
    if (kind == PROBLEM_INVALID_HTTP || kind == PROBLEM_LENGTH_REQUIRED || kind == PROBLEM_BODY_TOO_LARGE ||
        (kind != PROBLEM_NONE && has_body && http_header(exchange, "Expect") != NULL)) {
        linger_on(http, exchange->socket);
        http_refuse(exchange, &exchange->problem);
        return queue_answer(exchange);
    }
    exchange->keeps = (check.http_1_1 || check.keeps_alive) && !check.closes;
    exchange->body_buffer = room - ROOM_FOR_REPLY < BODY_BUFFER ? room - ROOM_FOR_REPLY : BODY_BUFFER;
    bool reads = routes_has_body(exchange->route) || routes_is_admin_call(exchange->route);
    exchange->discarding = exchange->problem.kind != PROBLEM_NONE || !reads;
    return MHD_YES;
}

/* ---- The request's body. */

/* MHD receives a body into the rest of the head's buffer, which may be a single byte. It enlarges a buffer that is full
 * of bytes that its handler leaves. True when this part of a body must be left for that. */
static bool wants_larger_buffer(struct exchange *exchange, const char *data, size_t size) {
    const struct reader *reader = reader_of(exchange->http, exchange->socket);
    const struct body_framing *framing = &exchange->framing;
    bool more_comes = (framing->state == FRAMING_LENGTH || framing->state == FRAMING_CHUNK) && framing->left > 0;
    if (reader == NULL || !more_comes || data + size != reader->buffer_end ||
        (size_t)(reader->buffer_end - reader->head_end) >= exchange->body_buffer || exchange->growths >= GROWTHS_MOST)
        return false;
    exchange->growths++;
    return true;
}

static struct exchange *exchange_of(struct body *body) {
    return (struct exchange *)((char *)body - offsetof(struct exchange, body));
}

/* Refuses the request of a body that is not whole and gives its memory back. */
static void drop_body(struct http *http, struct body *body, enum body_drop why) {
    struct exchange *exchange = exchange_of(body);
    if (why == BODY_DROPPED_SLOW)
        problem_set(&exchange->problem, PROBLEM_REQUEST_TIMEOUT, "",
                    "The body came too slowly; a large one must bring %zu bytes a second.",
                    http->options.limits.body_rate);
    else
        problem_set(&exchange->problem, PROBLEM_SATURATED, "",
                    "The server needs the room of this body, which is the largest and slowest under way.");
    counter_add(&http->options.counts->bodies_dropped[why], 1);
    refuse_unfinished(exchange);
}

/* Refuses requests whose large bodies come too slowly. Bytes in the kernel's buffer have come, too. If the loop stood
 * still, that buffer may be too small for all that the client would have sent. */
static void drop_slow_bodies(struct http *http) {
    uint64_t now = clock_now();
    bool paused = now - http->rates_seen > rate_pause;
    unsigned looks = RATE_LOOKS;
    struct body *body;
    for (; (body = body_find_slow(&http->budget, &looks, now)) != NULL; looks--) {
        int unread = 0;
        ioctl(exchange_of(body)->socket, FIONREAD, &unread);
        if (paused || body_keeps_rate(body, &http->budget, unread > 0 ? (size_t)unread : 0))
            body_next_window(body, &http->budget, now);
        else
            drop_body(http, body, BODY_DROPPED_SLOW);
    }
    http->rates_seen = now;
}

/* False: the request is refused. */
static bool take_body(struct exchange *exchange, const char *data, size_t size) {
    if (exchange->discarding)
        return true;
    struct http *http = exchange->http;
    uint64_t now = clock_now();
    enum body_result result;
    for (int victims = 0;; victims++) {
        result = body_append(&exchange->body, &http->budget, data, size, (size_t)exchange->body_expected, now);
        struct body *victim = result == BODY_SATURATED && victims < VICTIMS_MOST
                                  ? body_find_victim(&http->budget, &exchange->body, now)
                                  : NULL;
        if (victim == NULL)
            break;
        drop_body(http, victim, BODY_DROPPED_FULL);
    }
    switch (result) {
    case BODY_TAKEN:
        return true;
    case BODY_SATURATED:
        problem_set(&exchange->problem, PROBLEM_SATURATED, "", "The server holds as many bytes of requests as it may.");
        return false;
    case BODY_NO_MEMORY:
        break;
    }
    problem_set(&exchange->problem, PROBLEM_OUT_OF_MEMORY, "", "There is no memory for the request's body.");
    return false;
}

/* ---- The whole request. */

/* Answered at once, by the handler. */
static bool is_operational(enum route route) {
    return route == ROUTE_HEALTH || route == ROUTE_LIVE || route == ROUTE_READY || route == ROUTE_METRICS;
}

/* Answered on the connections that are kept in reserve, too. */
static bool may_use_reserve(enum route route) {
    return is_operational(route) || routes_is_admin_call(route);
}

static bool make_room(struct http *http, enum connection_need need) {
    bool made = connections_make_room(&http->connections, need, clock_now(), on_expired, http);
    http->full.closed += made;
    return made;
}

/* A connection beyond --max-connections, while all of those are in use. */
static void check_reserve(struct exchange *exchange) {
    struct http *http = exchange->http;
    size_t most = http->options.limits.max_connections;
    if (!exchange->connection->in_reserve || may_use_reserve(exchange->route) ||
        connections_staying(&http->connections) <= most || exchange->problem.kind != PROBLEM_NONE)
        return;
    if (make_room(http, NEED_FOR_REQUEST)) {
        exchange->connection->in_reserve = false;
        return;
    }
    problem_set(&exchange->problem, PROBLEM_SATURATED, "",
                "All %zu connections are in use, and this one is in reserve for health and metrics.", most);
    exchange->keeps = false;
    http->full.refused++;
}

/* MHD calls the handler again in its next run, and reads nothing more from this connection before the answer is there.
 * A connection that is suspended in this call would be read from first when it is resumed. True when there may be a
 * wait and this has not been done yet. */
static bool set_aside(struct exchange *exchange) {
    if (exchange->set_aside || is_operational(exchange->route) || exchange->route == ROUTE_MODEL)
        return false;
    exchange->set_aside = true;
    return true;
}

static enum MHD_Result take_whole(struct exchange *exchange) {
    struct http *http = exchange->http;
    body_whole(&exchange->body, &http->budget);
    connection_enter(exchange->connection, CONNECTION_WORKING, clock_now()); /* it makes no room for itself */
    if (exchange->chunked && exchange->framing.state != FRAMING_END) {       /* MHD has found another end than we */
        problem_set(&exchange->problem, PROBLEM_INVALID_HTTP, "", "The request's chunked body is refused.");
        refuse_unfinished(exchange);
        return MHD_NO;
    }
    check_reserve(exchange);
    if (!reply_fits(exchange)) {
        refuse_for_room(exchange);
        return MHD_NO;
    }
    if (exchange->problem.kind != PROBLEM_NONE) {
        http_refuse(exchange, &exchange->problem);
        return queue_answer(exchange);
    }
    if (set_aside(exchange))
        return MHD_YES;
    exchange->pending = true;
    bool answered = http->options.handle(http->options.context, exchange);
    exchange->handled = true;
    if (answered || !exchange->pending) { /* http_answered() may come within the call, too */
        exchange->pending = false;
        return queue_answer(exchange);
    }
    MHD_suspend_connection(exchange->handle);
    return MHD_YES;
}

char *http_take_body(struct exchange *exchange, size_t *size) {
    return body_take(&exchange->body, &exchange->http->budget, size);
}

/* MHD calls the handler again, which then finds the answer. */
void http_answered(struct exchange *exchange) {
    exchange->pending = false;
    body_free(&exchange->body, &exchange->http->budget);
    if (exchange->handled)
        MHD_resume_connection(exchange->handle);
}

/* MHD's handler; see the top of this file for when it is called. */
static enum MHD_Result on_request(void *context, struct MHD_Connection *handle, const char *path, const char *method,
                                  const char *version, const char *data, size_t *size, void **slot) {
    (void)context;
    (void)handle;
    struct exchange *exchange = *slot;
    if (exchange == NULL || exchange->connection->phase == CONNECTION_CLOSING)
        return MHD_NO;
    if (exchange->began == 0)
        return take_headers(exchange, path, method, version);
    if (*size > 0) {
        if (wants_larger_buffer(exchange, data, *size))
            return MHD_YES;
        if (!take_body(exchange, data, *size)) {
            refuse_unfinished(exchange);
            return MHD_NO;
        }
        *size = 0;
        return MHD_YES;
    }
    return exchange->handled ? queue_answer(exchange) : take_whole(exchange);
}

/* ---- The end of a request. */

/* Why an answer that MHD had did not go out whole. */
static unsigned lost_reply(const struct exchange *exchange, enum MHD_RequestTerminationCode code) {
    if (exchange->connection->end == END_REPLY_TIMEOUT)
        return OUTCOME_REPLY_TIMEOUT;
    if (exchange->connection->end == END_REPLY_DROPPED)
        return OUTCOME_REPLY_DROPPED;
    if (code == MHD_REQUEST_TERMINATED_DAEMON_SHUTDOWN)
        return OUTCOME_SHUTDOWN;
    return connection_is_cut(exchange->connection) ? OUTCOME_CLIENT_GONE : OUTCOME_REPLY_FAILED;
}

/* What is logged and counted: the answer, if all of it went to the kernel. */
static void settle_outcome(struct exchange *exchange, enum MHD_RequestTerminationCode code) {
    struct answer *answer = &exchange->answer;
    exchange->outcome = answer->status != 0 ? (unsigned)answer->problem : OUTCOME_CANCELLED;
    if (exchange->reply == REPLY_QUEUED && code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        exchange->outcome = lost_reply(exchange, code);
    else if (exchange->reply == REPLY_NONE && answer->status != 0)
        exchange->outcome = OUTCOME_REPLY_FAILED;
    if (exchange->outcome > OUTCOME_CANCELLED) {
        exchange->unsent_status = answer->status;
        answer->status = 0;
    }
}

static void end_exchange(struct exchange *exchange, enum MHD_RequestTerminationCode code) {
    struct http *http = exchange->http;
    settle_outcome(exchange, code);
    http_counts_request(http->options.counts, exchange->route, exchange->answer.status, exchange->outcome);
    http->options.ended(http->options.context, exchange);
    http->in_flight -= exchange->counted;
    exchange->connection->owner = NULL;
    struct reader *reader = reader_of(http, exchange->socket);
    if (reader != NULL) {
        reader->exchange = NULL;
        reader->scan = (struct head_scan){.lines = 0};
    }
    connection_enter(exchange->connection, CONNECTION_WAITING, clock_now());
    body_free(&exchange->body, &http->budget);
    uncount_reply(exchange);
    if (exchange->answer.memory == ANSWER_OWNED) {
        free(exchange->answer.body); /* an answer that was never queued */
    }
    free(exchange);
}

static void on_completed(void *context, struct MHD_Connection *handle, void **slot,
                         enum MHD_RequestTerminationCode code) {
    struct exchange *exchange = *slot;
    (void)handle;
    if (exchange == NULL)
        return;
    /* MHD may have refused the request alone, for a malformed line or large headers: its status is then our answer. */
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(exchange->handle, MHD_CONNECTION_INFO_HTTP_STATUS);
    if (exchange->answer.status == 0 && info != NULL) {
        exchange->answer.status = (int)info->http_status;
        exchange->answer.problem = PROBLEM_INVALID_HTTP;
        exchange->reply = REPLY_WRITTEN;
    }
    struct http *http = context;
    struct reader *reader = reader_of(http, exchange->socket);
    bool keeps = code == MHD_REQUEST_TERMINATED_COMPLETED_OK && exchange->keeps;
    char *rest = reader != NULL && reader->head_end != NULL ? rest_of_pool(exchange, reader->head_end).begin : NULL;
    end_exchange(exchange, code);
    *slot = NULL;
    if (rest == NULL || reader->held == 0)
        return;
    if (keeps)
        scan_head(http, reader, rest); /* of the next request, which MHD parses now */
    else
        reader->ignores_rest = true;
}

/* ---- The start of a request, and connections. */

/* MHD's first word of a request: its first line is here. on_completed() follows, or the connection's end. */
static void *on_first_line(void *context, const char *uri, struct MHD_Connection *handle) {
    size_t target_length = header_check_target(uri);
    spare_the_pool(handle, uri);
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(handle, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct connection *connection = info->socket_context;
    if (connection == NULL)
        return NULL;
    if (connection->owner != NULL) {
        end_exchange(connection->owner, MHD_REQUEST_TERMINATED_WITH_ERROR); /* MHD has given it up without a word */
    }
    struct http *http = context;
    if (connection->phase == CONNECTION_CLOSING)
        return NULL;
    struct exchange *exchange = begin_exchange(http, connection);
    if (exchange == NULL) {
        refuse_without_memory(http, connection);
        return NULL;
    }
    exchange->target_length = target_length;
    exchange->handle = handle;
    connection_request_began(exchange->connection, clock_now());
    struct reader *reader = reader_of(http, exchange->socket);
    if (reader != NULL)
        reader->exchange = exchange;
    return exchange;
}

/* One more than --max-connections: another one goes, or this one is in reserve. The urgent case comes when half of the
 * reserve is in use, since MHD accepts up to eleven connections between two looks at their number. */
static void admit(struct http *http, struct connection *added) {
    const struct http_limits *limits = &http->options.limits;
    size_t staying = connections_staying(&http->connections);
    if (staying <= limits->max_connections)
        return;
    bool urgent = staying > limits->max_connections + limits->reserved_connections / 2;
    added->in_reserve = !make_room(http, urgent ? NEED_AT_ONCE : NEED_FOR_CONNECTION) || urgent;
}

static void on_connection(void *context, struct MHD_Connection *handle, void **slot,
                          enum MHD_ConnectionNotificationCode code) {
    struct http *http = context;
    struct http_counts *counts = http->options.counts;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct connection *connection = calloc(1, sizeof *connection);
        *slot = connection;
        if (connection != NULL) {
            connections_add(&http->connections, connection, info->connect_fd, clock_now());
            connection->handle = handle;
            admit(http, connection);
        } else {
            shutdown(info->connect_fd, SHUT_RDWR); /* there is no memory, and MHD reads no request */
        }
        reader_begin(http, info->connect_fd, connection);
        counter_add(&counts->connections_accepted, 1);
        return;
    }
    struct connection *connection = *slot;
    struct reader *reader = connection != NULL ? reader_of(http, connection->socket) : NULL;
    if (reader != NULL)
        reader->connection = NULL;
    counter_add(&counts->connections_ended[connection != NULL ? connection->end : END_ORDINARY], 1);
    if (connection != NULL) {
        if (connection->owner != NULL)
            end_exchange(connection->owner, MHD_REQUEST_TERMINATED_WITH_ERROR);
        connections_remove(&http->connections, connection);
        free(connection);
    }
    *slot = NULL;
}

/* Ends a request whose client is too slow, or whose connection is needed for another one. */
static void refuse_slow(struct http *http, struct connection *connection, enum connection_end why) {
    struct exchange *exchange = connection->owner;
    struct problem problem;
    if (why == END_FULL)
        problem_set(&problem, PROBLEM_SATURATED, "", "All connections are in use, and this request came too slowly.");
    else
        problem_set(&problem, PROBLEM_REQUEST_TIMEOUT, "", "The request did not arrive in time.");
    if (exchange != NULL)
        refuse_at_once(exchange, &problem);
    else if (write_refusal(http, connection->socket, &problem, "", false))
        http_counts_request(http->options.counts, ROUTE_NONE, problem_status(problem.kind), problem.kind);
}

/* A connection is past its deadline. Shut down, it becomes readable, and MHD then closes it. Where MHD cannot read any
 * more, its own timeout does so a second later. A reply that was not taken goes from the kernel's buffers as well. */
static void on_expired(void *context, struct connection *connection, enum connection_end why) {
    struct http *http = context;
    struct exchange *exchange = connection->owner;
    if (exchange != NULL)
        end_soon(connection);
    if (why == END_HEADER_TIMEOUT || why == END_BODY_TIMEOUT || (why == END_FULL && exchange != NULL))
        refuse_slow(http, connection, why);
    if (exchange != NULL && (why == END_REPLY_TIMEOUT || why == END_REPLY_DROPPED)) {
        uncount_reply(exchange);
        http->full.dropped += why == END_REPLY_DROPPED;
        const struct linger reset = {.l_onoff = 1, .l_linger = 0};
        setsockopt(connection->socket, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    shutdown(connection->socket, SHUT_RDWR);
}

/* A line a second at most, however many connections a flood costs. */
static void report_full(struct http *http) {
    uint64_t now = clock_now();
    if (now - http->full.reported < report_period)
        return;
    if (http->full.closed + http->full.refused > 0)
        log_line(LEVEL_WARNING, "connections-full", LOG_NUMBER("connections", (double)http->connections.count),
                 LOG_NUMBER("closed", (double)http->full.closed), LOG_NUMBER("refused", (double)http->full.refused));
    if (http->full.dropped > 0)
        log_line(LEVEL_WARNING, "replies-dropped", LOG_NUMBER("dropped", (double)http->full.dropped),
                 LOG_NUMBER("buffered_bytes", (double)http->reply_buffered));
    if (http->full.closed + http->full.refused + http->full.dropped > 0)
        http->full.reported = now;
    http->full.closed = http->full.refused = http->full.dropped = 0;
}

size_t http_sweep(struct http *http) {
    connections_sweep(&http->connections, clock_now(), on_expired, http);
    drop_slow_bodies(http);
    drop_replies(http, NULL);
    report_full(http);
    return connections_sweeps(&http->connections);
}

void http_expire_lingering(struct http *http) {
    linger_expire(&http->linger, clock_now());
}

/* ---- The daemon. */

/* Paths and queries stay as they were sent. */
static size_t on_unescape(void *context, struct MHD_Connection *handle, char *text) {
    (void)context;
    (void)handle;
    return strlen(text);
}

static void on_message(void *context, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));

/* MHD reports each lost connection, which is not news. */
static void on_message(void *context, const char *format, va_list arguments) {
    char text[512];
    (void)context;
    if (log_wanted(LEVEL_DEBUG)) {
        vsnprintf(text, sizeof text, format, arguments);
        text[strcspn(text, "\n")] = '\0';
        log_line(LEVEL_DEBUG, "libmicrohttpd", LOG_STRING("message", text));
    }
}

static struct MHD_Daemon *start_daemon(struct http *http) {
    const struct http_limits *limits = &http->options.limits;
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, http,
        MHD_OPTION_EXTERNAL_LOGGER, on_message, http, MHD_OPTION_LISTEN_SOCKET, http->options.listening,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)(limits->max_connections + limits->reserved_connections),
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, 0u, MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits->connection_memory,
        MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_URI_LOG_CALLBACK, on_first_line, http,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL, MHD_OPTION_NOTIFY_COMPLETED, on_completed, http,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

struct http *http_start(const struct http_options *options) {
    struct http *http = calloc(1, sizeof *http);
    if (http == NULL) {
        close(options->listening);
        return NULL;
    }
    http->options = *options;
    http->connections = (struct connections){
        .header_timeout = clock_from_seconds(options->limits.header_timeout),
        .body_timeout = clock_from_seconds(options->limits.body_timeout),
        .reply_timeout = clock_from_seconds(options->limits.reply_timeout),
        .idle_timeout = clock_from_seconds(options->limits.idle_timeout),
    };
    http->budget = (struct body_budget){.most = options->limits.max_buffered,
                                        .reserve = options->limits.buffer_reserve,
                                        .small = options->limits.small_body,
                                        .rate = options->limits.body_rate,
                                        .window = rate_window,
                                        .patience = victim_age};
    http->rates_seen = clock_now();
    arena_init(&http->arena, 0, ARENA_KEEP);
    if (linger_start(&http->linger, clock_from_seconds(options->limits.linger_timeout)) >= 0)
        http->daemon = start_daemon(http);
    if (http->daemon == NULL) {
        close(options->listening);
        linger_stop(&http->linger);
        free(http);
        return NULL;
    }
    return http;
}

int http_descriptor(const struct http *http) {
    return MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int http_linger_descriptor(const struct http *http) {
    return http->linger.descriptor;
}

static void run_daemon(struct http *http) {
    receive_tap_begin(on_received, http);
    MHD_run(http->daemon);
    receive_tap_end();
}

int http_run(struct http *http) {
    uint64_t began = clock_now();
    do {
        MHD_UNSIGNED_LONG_LONG timeout = 0;
        run_daemon(http);
        if (MHD_get_timeout(http->daemon, &timeout) != MHD_YES)
            return -1;
        if (timeout > 0)
            return timeout < 1000 ? (int)timeout : 1000;
    } while (clock_now() - began < turn_budget);
    return 0;
}

void http_linger(struct http *http) {
    linger_run(&http->linger);
}

size_t http_in_flight(const struct http *http) {
    return http->in_flight;
}

size_t http_connections(const struct http *http) {
    return http->connections.count;
}

size_t http_lingering(const struct http *http) {
    return http->linger.count;
}

size_t http_buffered(const struct http *http) {
    return http->budget.held;
}

size_t http_reply_buffered(const struct http *http) {
    return http->reply_buffered;
}

void http_drain(struct http *http) {
    http->draining = true;
}

/* Clients whose connection the kernel has made already would be reset, so they are accepted first. */
void http_close_listener(struct http *http) {
    struct pollfd one = {.fd = http->options.listening, .events = POLLIN};
    uint64_t began = clock_now();
    for (int i = 0; i < QUIET_ACCEPTS && clock_now() - began < quiet_budget && poll(&one, 1, 0) == 1; i++)
        run_daemon(http);
    int listening = MHD_quiesce_daemon(http->daemon);
    if (listening >= 0)
        close(listening);
}

void http_close_idle(struct http *http) {
    connections_dismiss(&http->connections, clock_now(), dismissed_after, on_expired, http);
}

void http_stop(struct http *http) {
    MHD_stop_daemon(http->daemon);
    linger_stop(&http->linger);
    arena_free(&http->arena);
    free(http->readers);
    free(http);
}
