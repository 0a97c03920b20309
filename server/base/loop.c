/* loop.c: libuv's handles behind loop.h.
 *
 * libuv 1.44 runs a 0 ms timer that is armed again in its own callback without polling in between (libuv#4245), so one
 * busy client would keep signals, ticks and all other clients out. An idle handle runs once for each poll.
 */
#include "server/base/loop.h"

#include "server/base/clock.h"

#include <signal.h>
#include <stdlib.h>
#include <uv.h>

static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
enum { SIGNALS = sizeof signals / sizeof signals[0] };

struct watch {
    uv_poll_t poll;
    const char *name;
    void (*ready)(void *context);
};

struct loop {
    uv_loop_t uv;
    struct loop_handlers handlers;
    uv_timer_t timer;
    uv_idle_t idle; /* the timer's place when its time is 0 */
    uv_timer_t ticker;
    uv_prepare_t prepare; /* runs before each poll, which ends a turn */
    uv_async_t async;
    uv_signal_t signals[SIGNALS];
    struct watch watches[LOOP_WATCHES];
    unsigned watch_count;
};

static void begin(struct loop *loop, const char *name) {
    loop_turns_handler(loop->handlers.turns, name, clock_now());
}

static void on_prepare(uv_prepare_t *prepare) {
    struct loop *loop = prepare->data;
    loop_turns_end(loop->handlers.turns, clock_now());
}

static void on_timer(uv_timer_t *timer) {
    struct loop *loop = timer->data;
    begin(loop, loop->handlers.timer_name);
    loop->handlers.timer(loop->handlers.context);
}

static void on_idle(uv_idle_t *idle) {
    struct loop *loop = idle->data;
    begin(loop, loop->handlers.timer_name);
    loop->handlers.timer(loop->handlers.context);
}

static void on_tick(uv_timer_t *timer) {
    struct loop *loop = timer->data;
    begin(loop, "tick");
    int milliseconds = loop->handlers.tick(loop->handlers.context);
    uv_timer_start(timer, on_tick, (uint64_t)milliseconds, 0);
}

static void on_async(uv_async_t *async) {
    struct loop *loop = async->data;
    begin(loop, "wake");
    loop->handlers.wake(loop->handlers.context);
}

static void on_signal(uv_signal_t *handle, int signal) {
    struct loop *loop = handle->data;
    begin(loop, "signal");
    loop->handlers.signal(loop->handlers.context, signal);
}

/* An error here is the descriptor's own, which its owner sees when it reads. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    struct loop *loop = poll->loop->data;
    struct watch *watch = poll->data;
    begin(loop, watch->name);
    watch->ready(loop->handlers.context);
}

static bool start_handles(struct loop *loop) {
    uv_timer_init(&loop->uv, &loop->timer);
    loop->timer.data = loop;
    uv_idle_init(&loop->uv, &loop->idle);
    loop->idle.data = loop;
    uv_prepare_init(&loop->uv, &loop->prepare);
    loop->prepare.data = loop;
    uv_prepare_start(&loop->prepare, on_prepare);
    uv_timer_init(&loop->uv, &loop->ticker);
    loop->ticker.data = loop;
    uv_timer_start(&loop->ticker, on_tick, LOOP_TICK_MILLISECONDS, 0);
    if (uv_async_init(&loop->uv, &loop->async, on_async) != 0)
        return false;
    loop->async.data = loop;
    for (unsigned i = 0; i < SIGNALS; i++) {
        if (uv_signal_init(&loop->uv, &loop->signals[i]) != 0)
            return false;
        loop->signals[i].data = loop;
        uv_signal_start(&loop->signals[i], on_signal, signals[i]);
    }
    return true;
}

struct loop *loop_new(const struct loop_handlers *handlers) {
    struct loop *loop = calloc(1, sizeof *loop);
    if (loop == NULL || uv_loop_init(&loop->uv) != 0) {
        free(loop);
        return NULL;
    }
    loop->uv.data = loop;
    loop->handlers = *handlers;
    if (!start_handles(loop)) {
        loop_free(loop);
        return NULL;
    }
    return loop;
}

static void close_handle(uv_handle_t *handle, void *argument) {
    (void)argument;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void loop_free(struct loop *loop) {
    uv_walk(&loop->uv, close_handle, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    free(loop);
}

bool loop_watch(struct loop *loop, int descriptor, const char *name, void (*ready)(void *context)) {
    if (loop->watch_count == LOOP_WATCHES)
        return false;
    struct watch *watch = &loop->watches[loop->watch_count];
    watch->name = name;
    watch->ready = ready;
    if (uv_poll_init(&loop->uv, &watch->poll, descriptor) != 0)
        return false;
    loop->watch_count++;
    watch->poll.data = watch;
    return uv_poll_start(&watch->poll, UV_READABLE, on_readable) == 0;
}

void loop_after(struct loop *loop, int milliseconds) {
    uv_timer_stop(&loop->timer);
    uv_idle_stop(&loop->idle);
    if (milliseconds == 0)
        uv_idle_start(&loop->idle, on_idle);
    else if (milliseconds > 0)
        uv_timer_start(&loop->timer, on_timer, (uint64_t)milliseconds, 0);
}

void loop_wake(struct loop *loop) {
    uv_async_send(&loop->async);
}

void *loop_native(struct loop *loop) {
    return &loop->uv;
}

void loop_run(struct loop *loop) {
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void loop_stop(struct loop *loop) {
    uv_stop(&loop->uv);
}
