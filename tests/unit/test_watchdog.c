/* test_watchdog.c: a loop that beats, one that stalls and resumes, one that stalls for good, a process that was paused.
 * Each case is a process of its own, since some of them end by a signal.
 */
#include "server/base/watchdog.h"

#include "server/base/log.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void rest(int milliseconds) {
    struct timespec left = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0) {
    }
}

/* Runs `body` in a child and takes what it writes to standard error. Returns the status of waitpid(). With `pause`,
 * the child is stopped as a whole for so many milliseconds. */
static int run(void (*body)(void), int pause, char *text, size_t size) {
    int ends[2], status = 0;
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        log_start(LEVEL_INFO);
        body();
        log_stop();
        _exit(0);
    }
    close(ends[1]);
    if (pause > 0) {
        rest(300);
        kill(child, SIGSTOP);
        rest(pause);
        kill(child, SIGCONT);
    }
    size_t length = 0;
    ssize_t got = 0;
    while (length < size - 1 && (got = read(ends[0], text + length, size - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void beat(struct watchdog *watchdog, int times) {
    for (int i = 0; i < times; i++) {
        watchdog_beat(watchdog);
        rest(100);
    }
}

static void lively(void) {
    struct watchdog *watchdog = watchdog_start(1);
    beat(watchdog, 20);
    if (watchdog_stalls(watchdog) != 0 || watchdog_age(watchdog) > 0.9)
        _exit(1);
    watchdog_stop(watchdog);
}

static void resuming(void) {
    struct watchdog *watchdog = watchdog_start(0);
    rest(2000);
    if (watchdog_age(watchdog) < 1.9)
        _exit(1);
    beat(watchdog, 8);
    if (watchdog_stalls(watchdog) != 1)
        _exit(2);
    watchdog_stop(watchdog);
}

static void stalling(void) {
    watchdog_start(2);
    rest(20000);
}

/* A signal that is blocked is one that an uninterruptible thread would not take. */
static void deaf(void) {
    sigset_t all;
    watchdog_start(1);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    rest(20000);
}

static void stopped_at_once(void) {
    watchdog_stop(watchdog_start(30));
}

static void test_a_loop_that_beats_is_left_alone(void **state) {
    char text[4096];
    (void)state;
    assert_int_equal(run(lively, 0, text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void test_a_stall_is_logged_and_counted_once(void **state) {
    char text[4096];
    (void)state;
    assert_int_equal(run(resuming, 0, text, sizeof text), 0);
    char *stalled = strstr(text, "\"loop-stalled\"");
    assert_non_null(stalled);
    assert_non_null(strstr(stalled, "\"loop-resumed\""));
    assert_null(strstr(stalled + 1, "\"loop-stalled\""));
}

static void test_a_stall_past_the_limit_ends_the_process_with_its_stack(void **state) {
    char text[16384];
    (void)state;
    int status = run(stalling, 0, text, sizeof text);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
    assert_non_null(strstr(text, "\"watchdog\""));
    assert_non_null(strstr(text, "nanosleep")); /* where the stalled thread stood */
}

static void test_a_thread_that_takes_no_signal_does_not_save_the_process(void **state) {
    char text[16384];
    (void)state;
    int status = run(deaf, 0, text, sizeof text);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

static void test_a_paused_process_is_no_stalled_loop(void **state) {
    char text[4096];
    (void)state;
    assert_int_equal(run(lively, 3000, text, sizeof text), 0);
    assert_string_equal(text, "");
}

static void test_stopping_does_not_wait_for_a_period(void **state) {
    char text[4096];
    struct timespec before, after;
    (void)state;
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(run(stopped_at_once, 0, text, sizeof text), 0);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true(after.tv_sec - before.tv_sec < 20); /* not the limit of 30 seconds */
    assert_true(watchdog_age(NULL) == 0 && watchdog_stalls(NULL) == 0);
    watchdog_beat(NULL);
    watchdog_stop(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_loop_that_beats_is_left_alone),
        cmocka_unit_test(test_a_stall_is_logged_and_counted_once),
        cmocka_unit_test(test_a_stall_past_the_limit_ends_the_process_with_its_stack),
        cmocka_unit_test(test_a_thread_that_takes_no_signal_does_not_save_the_process),
        cmocka_unit_test(test_a_paused_process_is_no_stalled_loop),
        cmocka_unit_test(test_stopping_does_not_wait_for_a_period),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
