/* loop_turns.c: one reading of the clock for each handler and one for each turn, since a turn may be 10 us. */
#include "server/base/loop_turns.h"

#include "server/base/clock.h"
#include "server/base/log.h"

#include <time.h>

/* The thread's processor time costs a system call, so it is read this often, in nanoseconds. */
static const uint64_t processor_period = 10000000;

static uint64_t processor_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void end_handler(struct loop_turns *turns, uint64_t now) {
    uint64_t took = turns->handler_began != 0 ? now - turns->handler_began : 0;
    if (took > turns->cause_time) {
        turns->cause = turns->handler;
        turns->cause_time = took;
    }
}

void loop_turns_handler(struct loop_turns *turns, const char *name, uint64_t now) {
    if (turns->began == 0)
        turns->began = now;
    end_handler(turns, now);
    turns->handler = name;
    turns->handler_began = now;
}

/* `processor_seconds` is the time for which the thread ran, or up to 10 ms more: much less than `seconds` says that the
 * machine gave it no processor, or its cgroup no quota. */
static void log_turn(const struct loop_turns *turns, double seconds) {
    double processor = clock_seconds(processor_now() - turns->processor_seen);
    log_line(LEVEL_WARNING, "slow-turn", LOG_NUMBER("seconds", seconds), LOG_STRING("cause", turns->cause),
             LOG_NUMBER("cause_seconds", clock_seconds(turns->cause_time)),
             LOG_NUMBER("processor_seconds", processor < seconds ? processor : seconds));
}

void loop_turns_end(struct loop_turns *turns, uint64_t now) {
    if (turns->began == 0)
        return;
    end_handler(turns, now);
    double seconds = clock_seconds(now - turns->began);
    histogram_add(&turns->histogram, seconds);
    if (seconds > LOOP_SLOW_TURN_SECONDS)
        log_turn(turns, seconds);
    if (now - turns->processor_seen_at > processor_period) {
        turns->processor_seen = processor_now();
        turns->processor_seen_at = now;
    }
    turns->began = turns->handler_began = turns->cause_time = 0;
    turns->cause = NULL;
}
