/* test_crash.c: a fault leaves a line, and the process ends with the status or the signal that it promises. */
#include "server/base/crash.h"

#include "server/base/thread.h"

#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096, HANG_SECONDS = 60 };

static char log_text[65536], path[] = "/tmp/dien-crash-XXXXXX";

/* The status of a child that runs `fault` with this standard error. */
static int run_child_on(int file, void (*fault)(void)) {
    int status = 0;
    assert_true(file >= 0);
    pid_t process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        alarm(HANG_SECONDS);
        dup2(file, STDERR_FILENO);
        signal(SIGSEGV, SIG_DFL); /* cmocka has a handler */
        signal(SIGBUS, SIG_DFL);
        crash_install();
        fault();
        _exit(99);
    }
    assert_int_equal(waitpid(process, &status, 0), process);
    return status;
}

/* With standard error in log_text. */
static int run_child(void (*fault)(void)) {
    int file = memfd_create("log", MFD_CLOEXEC), status = run_child_on(file, fault);
    ssize_t size = pread(file, log_text, sizeof log_text - 1, 0);
    log_text[size > 0 ? size : 0] = '\0';
    close(file);
    return status;
}

/* The log's first line; the caller's. */
static json_t *first_line(void) {
    json_t *line = json_loads(log_text, JSON_DISABLE_EOF_CHECK, NULL);
    if (line == NULL)
        fail_msg("no line in \"%s\"", log_text);
    assert_int_equal(log_text[strcspn(log_text, "\n")], '\n');
    return line;
}

static void assert_text(const json_t *line, const char *name, const char *expected) {
    const char *text = json_string_value(json_object_get(line, name));
    if (text == NULL || strcmp(text, expected) != 0)
        fail_msg("%s is %s, not %s", name, text != NULL ? text : "absent", expected);
}

/* ---- faults */

static volatile char *page;

static void read_the_page(void) {
    (void)page[10];
}

static void *read_on_a_thread(void *unused) {
    read_the_page();
    return unused;
}

static void map_and_truncate(void) {
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || ftruncate(file, 2L * PAGE) != 0)
        _exit(98);
    char *map = mmap(NULL, (size_t)2 * PAGE, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED || ftruncate(file, PAGE) != 0)
        _exit(98);
    page = map + PAGE;
}

static void lose_the_file(void) {
    map_and_truncate();
    read_the_page();
}

/* Scoring threads take no other signals. Two of them meet the fault. */
static void lose_the_file_on_threads(void) {
    pthread_t threads[2];
    map_and_truncate();
    for (int i = 0; i < 2; i++)
        if (!thread_start(&threads[i], "reader", read_on_a_thread, NULL))
            _exit(98);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void read_nowhere(void) {
    page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    read_the_page();
}

static void be_sent_a_signal(void) {
    kill(getpid(), SIGBUS);
    pause();
}

/* ---- tests */

static void assert_file_lost(int status) {
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CRASH_FILE_STATUS);
    json_t *line = first_line();
    char now[64], earlier[64];
    time_t seconds = time(NULL), before = seconds - HANG_SECONDS;
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%S.999Z", gmtime(&seconds));
    strftime(earlier, sizeof earlier, "%Y-%m-%dT%H:%M:%S", gmtime(&before));
    assert_text(line, "event", "file-lost");
    assert_text(line, "level", "error");
    assert_text(line, "file", path);
    assert_int_equal(json_integer_value(json_object_get(line, "signal")), SIGBUS);
    const char *when = json_string_value(json_object_get(line, "time"));
    assert_non_null(when);
    assert_int_equal(strlen(when), strlen(now));
    assert_true(strcmp(when, now) <= 0 && strcmp(when, earlier) >= 0);
    assert_int_equal(strlen(log_text), strcspn(log_text, "\n") + 1); /* nothing else */
    json_decref(line);
}

static void a_truncated_file_is_named(void **state) {
    (void)state;
    assert_file_lost(run_child(lose_the_file));
}

static void a_thread_s_fault_is_named_once(void **state) {
    (void)state;
    assert_file_lost(run_child(lose_the_file_on_threads));
}

/* It ends by the signal, as it would have. */
static void another_fault_is_told_and_ends_as_before(void **state) {
    (void)state;
    int status = run_child(read_nowhere);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    json_t *line = first_line();
    assert_text(line, "event", "crash");
    assert_null(json_object_get(line, "file"));
    assert_int_equal(json_integer_value(json_object_get(line, "signal")), SIGSEGV);
    json_decref(line);
    assert_non_null(strstr(log_text, "test_crash(")); /* the stack */
}

static void a_signal_that_was_sent_ends_it(void **state) {
    (void)state;
    int status = run_child(be_sent_a_signal);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGBUS);
    json_t *line = first_line();
    assert_text(line, "event", "crash");
    json_decref(line);
}

/* Nobody reads the log, and the pipe is full. */
static void a_full_pipe_does_not_hold_the_process(void **state) {
    (void)state;
    static void (*const faults[])(void) = {read_nowhere, lose_the_file, lose_the_file_on_threads};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
        while (write(ends[1], log_text, PAGE) > 0) {
        }
        fcntl(ends[1], F_SETFL, 0);
        time_t began = time(NULL);
        int status = run_child_on(ends[1], faults[i]);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGALRM);
        assert_in_range(time(NULL) - began, CRASH_SECONDS - 1, HANG_SECONDS / 2);
        close(ends[0]);
        close(ends[1]);
    }
}

static int make_file(void **state) {
    (void)state;
    int file = mkstemp(path);
    return file >= 0 && close(file) == 0 ? 0 : -1;
}

static int remove_file(void **state) {
    (void)state;
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_truncated_file_is_named),
        cmocka_unit_test(a_thread_s_fault_is_named_once),
        cmocka_unit_test(another_fault_is_told_and_ends_as_before),
        cmocka_unit_test(a_signal_that_was_sent_ends_it),
        cmocka_unit_test(a_full_pipe_does_not_hold_the_process),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
