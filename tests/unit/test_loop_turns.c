/* test_loop_turns.c: turns are measured from poll to poll, and a slow one names the handler that took longest. */
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/loop.h"

#include <jansson.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { HANG_SECONDS = 60, MILLISECOND = 1000000 };

static struct loop_turns turns;
static int log_file, standard_error;
static char log_text[65536];

/* The log goes to a file until stop(). */
static int start(void **state) {
    (void)state;
    alarm(HANG_SECONDS);
    turns = (struct loop_turns){.began = 0};
    log_file = memfd_create("log", MFD_CLOEXEC);
    standard_error = dup(STDERR_FILENO);
    dup2(log_file, STDERR_FILENO);
    log_start(LEVEL_INFO);
    return log_file >= 0 && standard_error >= 0 ? 0 : -1;
}

static int stop(void **state) {
    (void)state;
    dup2(standard_error, STDERR_FILENO);
    close(standard_error);
    close(log_file);
    return 0;
}

/* How many lines the log has; the last one, the caller's, in *last. */
static size_t read_log(json_t **last) {
    ssize_t size = pread(log_file, log_text, sizeof log_text - 1, 0);
    size_t lines = 0;
    log_text[size > 0 ? size : 0] = '\0';
    *last = NULL;
    for (char *line = log_text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1, lines++) {
        json_decref(*last);
        *last = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_non_null(*last);
    }
    return lines;
}

static uint64_t counted(void) {
    uint64_t sum = 0;
    for (unsigned i = 0; i <= HISTOGRAM_BUCKETS; i++)
        sum += counter_get(&turns.histogram.buckets[i]);
    return sum;
}

static double number(const json_t *line, const char *name) {
    return json_number_value(json_object_get(line, name));
}

/* ---- times of our own */

static void a_turn_lasts_from_its_first_handler_to_the_poll(void **state) {
    (void)state;
    loop_turns_handler(&turns, "http", 1000);
    loop_turns_handler(&turns, "tick", 2000);
    loop_turns_end(&turns, 4000);
    assert_int_equal(counted(), 1);
    assert_int_equal(counter_get(&turns.histogram.nanoseconds), 3000);
    loop_turns_end(&turns, 9000); /* the poll gave nothing: no turn */
    assert_int_equal(counted(), 1);
    loop_turns_handler(&turns, "http", 100000);
    loop_turns_end(&turns, 100010);
    assert_int_equal(counted(), 2);
    assert_int_equal(counter_get(&turns.histogram.nanoseconds), 3010);
}

static void a_slow_turn_names_its_longest_handler(void **state) {
    (void)state;
    static const struct {
        uint64_t first, second, third; /* milliseconds of "http", "tick" and "wake" */
        const char *cause;             /* NULL: no line */
        double seconds;
    } cases[] = {{20, 20, 10, NULL, 0},
                 {20, 21, 10, "tick", 0.021},
                 {51, 0, 0, "http", 0.051},
                 {1, 2, 48, "wake", 0.048},
                 {30, 30, 1, "http", 0.03}};
    size_t expected = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint64_t now = (i + 1) * 1000 * MILLISECOND;
        loop_turns_handler(&turns, "http", now);
        loop_turns_handler(&turns, "tick", now += cases[i].first * MILLISECOND);
        loop_turns_handler(&turns, "wake", now += cases[i].second * MILLISECOND);
        loop_turns_end(&turns, now + cases[i].third * MILLISECOND);
        json_t *line;
        expected += cases[i].cause != NULL;
        assert_int_equal(read_log(&line), expected);
        if (cases[i].cause != NULL) {
            double seconds = 1e-3 * (double)(cases[i].first + cases[i].second + cases[i].third);
            assert_string_equal(json_string_value(json_object_get(line, "event")), "slow-turn");
            assert_string_equal(json_string_value(json_object_get(line, "cause")), cases[i].cause);
            assert_float_equal(number(line, "cause_seconds"), cases[i].seconds, 1e-9);
            assert_float_equal(number(line, "seconds"), seconds, 1e-9);
            assert_true(number(line, "processor_seconds") <= number(line, "seconds"));
        }
        json_decref(line);
    }
    assert_int_equal(counted(), sizeof cases / sizeof *cases);
}

/* ---- a loop */

struct context {
    struct loop *loop;
    int ends[2]; /* of a pipe that the loop watches */
    int slow_timer, slow_ticks, slow_wakes, slow_signals, slow_reads;
    int after; /* ticks before the loop stops */
};

static void be_slow(int *times) {
    uint64_t until = clock_now() + (uint64_t)60 * MILLISECOND;
    if (*times == 0)
        return;
    (*times)--;
    while (clock_now() < until) {
    }
}

static void on_timer(void *argument) {
    be_slow(&((struct context *)argument)->slow_timer);
}

static void on_wake(void *argument) {
    be_slow(&((struct context *)argument)->slow_wakes);
}

static int on_tick(void *argument) {
    struct context *context = argument;
    be_slow(&context->slow_ticks);
    if (--context->after <= 0)
        loop_stop(context->loop);
    return 1;
}

static void on_signal(void *argument, int signal) {
    (void)signal;
    be_slow(&((struct context *)argument)->slow_signals);
}

static void on_readable(void *argument) {
    struct context *context = argument;
    char byte;
    assert_int_equal(read(context->ends[0], &byte, 1), 1);
    be_slow(&context->slow_reads);
}

/* Each kind of handler, slow once. */
static void every_handler_can_be_the_cause(void **state) {
    (void)state;
    static const char *const causes[] = {"timer", "tick", "wake", "signal", "pipe"};
    for (size_t i = 0; i < sizeof causes / sizeof *causes; i++) {
        struct context context = {.slow_timer = i == 0,
                                  .slow_ticks = i == 1,
                                  .slow_wakes = i == 2,
                                  .slow_signals = i == 3,
                                  .slow_reads = i == 4,
                                  .after = 50};
        const struct loop_handlers handlers = {.context = &context,
                                               .timer = on_timer,
                                               .wake = on_wake,
                                               .tick = on_tick,
                                               .signal = on_signal,
                                               .timer_name = "timer",
                                               .turns = &turns};
        json_t *line;
        size_t before = read_log(&line);
        json_decref(line);
        assert_int_equal(pipe(context.ends), 0);
        context.loop = loop_new(&handlers);
        assert_non_null(context.loop);
        assert_true(loop_watch(context.loop, context.ends[0], "pipe", on_readable));
        if (i == 0)
            loop_after(context.loop, 0); /* and then never again */
        if (i == 2)
            loop_wake(context.loop);
        if (i == 3)
            raise(SIGTERM);
        if (i == 4)
            assert_int_equal(write(context.ends[1], "", 1), 1);
        if (i == 0)
            context.after = 2;
        loop_run(context.loop);
        loop_free(context.loop);
        close(context.ends[0]);
        close(context.ends[1]);
        /* On a busy machine other turns may be slow, too. */
        bool seen = false;
        size_t lines = read_log(&line);
        json_decref(line);
        assert_true(lines > before);
        char cause[64];
        snprintf(cause, sizeof cause, "\"cause\":\"%s\"", causes[i]);
        seen = strstr(log_text, cause) != NULL;
        if (!seen)
            fail_msg("no %s in %s", cause, log_text);
    }
    assert_true(counted() >= 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_turn_lasts_from_its_first_handler_to_the_poll, start, stop),
        cmocka_unit_test_setup_teardown(a_slow_turn_names_its_longest_handler, start, stop),
        cmocka_unit_test_setup_teardown(every_handler_can_be_the_cause, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
