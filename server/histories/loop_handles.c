/* loop_handles.c: libuv's handles, each in memory of its own that its close callback frees. */
#include "server/histories/loop_handles.h"

#include <netdb.h>
#include <stdlib.h>
#include <uv.h>

struct loop_timer {
    uv_timer_t uv;
    loop_call *call;
    void *context;
};

struct loop_signal {
    uv_async_t uv;
    loop_call *call;
    void *context;
};

struct loop_socket {
    uv_poll_t uv;
    void (*ready)(void *context, bool readable, bool writable);
    void *context;
    int watched; /* UV_READABLE, UV_WRITABLE */
};

struct loop_lookup {
    uv_getaddrinfo_t uv;
    void (*found)(void *context, const char *address); /* NULL: cancelled */
    void *context;
};

/* A handle is the first member of the memory that is freed. */
static void on_closed(uv_handle_t *handle) {
    free(handle);
}

/* ---- timers */

static void on_timer(uv_timer_t *uv) {
    struct loop_timer *timer = uv->data;
    timer->call(timer->context);
}

struct loop_timer *loop_timer_new(struct loop *loop, loop_call *fire, void *context) {
    struct loop_timer *timer = calloc(1, sizeof *timer);
    if (timer == NULL)
        return NULL;
    timer->call = fire;
    timer->context = context;
    uv_timer_init(loop_native(loop), &timer->uv);
    timer->uv.data = timer;
    return timer;
}

/* The loop's idea of the time is from the start of its turn: a timer of one turn must not count from there. */
void loop_timer_set(struct loop_timer *timer, int milliseconds) {
    if (milliseconds < 0) {
        uv_timer_stop(&timer->uv);
        return;
    }
    uv_update_time(timer->uv.loop);
    uv_timer_start(&timer->uv, on_timer, (uint64_t)milliseconds, 0);
}

void loop_timer_free(struct loop_timer *timer) {
    if (timer != NULL)
        uv_close((uv_handle_t *)&timer->uv, on_closed);
}

/* ---- wake-ups */

static void on_signal(uv_async_t *uv) {
    struct loop_signal *signal = uv->data;
    signal->call(signal->context);
}

struct loop_signal *loop_signal_new(struct loop *loop, loop_call *wake, void *context) {
    struct loop_signal *signal = calloc(1, sizeof *signal);
    if (signal == NULL)
        return NULL;
    signal->call = wake;
    signal->context = context;
    if (uv_async_init(loop_native(loop), &signal->uv, on_signal) != 0) {
        free(signal);
        return NULL;
    }
    signal->uv.data = signal;
    return signal;
}

void loop_signal_send(struct loop_signal *signal) {
    uv_async_send(&signal->uv);
}

void loop_signal_free(struct loop_signal *signal) {
    if (signal != NULL)
        uv_close((uv_handle_t *)&signal->uv, on_closed);
}

/* ---- sockets */

/* libuv reports a refused connection as an error, without events. */
static void on_ready(uv_poll_t *uv, int status, int events) {
    struct loop_socket *socket = uv->data;
    if (status != 0)
        events = socket->watched;
    socket->ready(socket->context, (events & UV_READABLE) != 0, (events & UV_WRITABLE) != 0);
}

struct loop_socket *loop_socket_new(struct loop *loop, int descriptor,
                                    void (*ready)(void *context, bool readable, bool writable), void *context) {
    struct loop_socket *socket = calloc(1, sizeof *socket);
    if (socket == NULL)
        return NULL;
    socket->ready = ready;
    socket->context = context;
    if (uv_poll_init(loop_native(loop), &socket->uv, descriptor) != 0) {
        free(socket);
        return NULL;
    }
    socket->uv.data = socket;
    return socket;
}

void loop_socket_watch(struct loop_socket *socket, bool readable, bool writable) {
    socket->watched = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
    if (socket->watched == 0)
        uv_poll_stop(&socket->uv);
    else
        uv_poll_start(&socket->uv, socket->watched, on_ready);
}

void loop_socket_free(struct loop_socket *socket) {
    if (socket == NULL)
        return;
    uv_poll_stop(&socket->uv); /* before the descriptor is closed */
    uv_close((uv_handle_t *)&socket->uv, on_closed);
}

/* ---- names */

static void on_found(uv_getaddrinfo_t *uv, int status, struct addrinfo *addresses) {
    struct loop_lookup *lookup = uv->data;
    char text[NI_MAXHOST];
    bool good = status == 0 && addresses != NULL &&
                getnameinfo(addresses->ai_addr, addresses->ai_addrlen, text, sizeof text, NULL, 0, NI_NUMERICHOST) == 0;
    if (lookup->found != NULL)
        lookup->found(lookup->context, good ? text : NULL);
    uv_freeaddrinfo(addresses);
    free(lookup);
}

struct loop_lookup *loop_lookup_start(struct loop *loop, const char *host,
                                      void (*found)(void *context, const char *address), void *context) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct loop_lookup *lookup = calloc(1, sizeof *lookup);
    if (lookup == NULL)
        return NULL;
    lookup->found = found;
    lookup->context = context;
    lookup->uv.data = lookup;
    if (uv_getaddrinfo(loop_native(loop), &lookup->uv, on_found, host, NULL, &hints) != 0) {
        free(lookup);
        return NULL;
    }
    return lookup;
}

void loop_lookup_cancel(struct loop_lookup *lookup) {
    if (lookup == NULL)
        return;
    lookup->found = NULL;
    uv_cancel((uv_req_t *)&lookup->uv);
}
