/* test_process.c: figures of this process that the test changes on purpose. */
#include "server/base/process.h"

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static double seconds_of(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static struct process_usage read_now(void) {
    struct process_usage usage;
    memset(&usage, 0xff, sizeof usage);
    process_read(&usage, 0);
    return usage;
}

static void memory_that_is_touched_is_resident(void **state) {
    (void)state;
    const size_t bytes = 64 << 20;
    struct process_usage before = read_now();
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    struct process_usage mapped = read_now();
    memset(memory, 1, bytes);
    struct process_usage touched = read_now();
    munmap(memory, bytes);
    assert_true(before.resident_bytes > 0 && before.virtual_bytes >= before.resident_bytes);
    assert_true(mapped.virtual_bytes - before.virtual_bytes >= (double)bytes);
    assert_true(mapped.resident_bytes - before.resident_bytes < (double)bytes / 2);
    assert_true(touched.resident_bytes - mapped.resident_bytes > 0.9 * (double)bytes);
    assert_true(touched.resident_bytes - mapped.resident_bytes <
                10 * (double)bytes); /* a sanitizer's shadow included */
}

static void open_descriptors_are_counted(void **state) {
    (void)state;
    int descriptors[5];
    struct process_usage before = read_now();
    for (size_t i = 0; i < 5; i++)
        descriptors[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    struct process_usage after = read_now();
    for (size_t i = 0; i < 5; i++)
        close(descriptors[i]);
    assert_true(before.open_descriptors >= 3);
    assert_true(after.open_descriptors == before.open_descriptors + 5);
    assert_true(read_now().open_descriptors == before.open_descriptors); /* reading leaves none open */
    size_t counted = 0;
    for (int i = 0; i < 1024; i++)
        counted += fcntl(i, F_GETFD) >= 0;
    assert_int_equal(counted, (size_t)before.open_descriptors);
}

static sem_t go_on;

static void *wait_here(void *unused) {
    sem_wait(&go_on);
    return unused;
}

/* The name of a process stands in brackets in /proc/self/stat, and may hold brackets and spaces itself. */
static void threads_are_counted_whatever_the_name(void **state) {
    (void)state;
    static const char *const names[] = {"test", "a) 1 2 3 (b", ")))", "1 2 3"};
    pthread_t threads[3];
    char name[16];
    prctl(PR_GET_NAME, name);
    sem_init(&go_on, 0, 0);
    /* ThreadSanitizer starts a thread of its own beside the first. */
    assert_int_equal(pthread_create(&threads[0], NULL, wait_here, NULL), 0);
    sem_post(&go_on);
    pthread_join(threads[0], NULL);
    double before = read_now().threads;
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_here, NULL), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        prctl(PR_SET_NAME, names[i]);
        assert_true(read_now().threads == before + 3);
    }
    prctl(PR_SET_NAME, name);
    for (size_t i = 0; i < 3; i++)
        sem_post(&go_on);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    sem_destroy(&go_on);
}

/* The time spent in a loop, by the figure and by a clock of its own. The kernel counts in ticks of up to 10 ms. */
static void assert_cpu_time(void (*work)(void)) {
    double before = read_now().cpu_seconds, start = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
    while (seconds_of(CLOCK_PROCESS_CPUTIME_ID) - start < 0.3)
        work();
    double spent = read_now().cpu_seconds - before;
    assert_true(spent > 0.2 && spent < 0.6);
}

static void in_the_process(void) {
    for (volatile int i = 0; i < 100000; i++)
        ;
}

static void in_the_kernel(void) {
    char *memory = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    munmap(memory, 16 << 20);
}

static void cpu_time_grows_with_work(void **state) {
    (void)state;
    assert_cpu_time(in_the_process);
    assert_cpu_time(in_the_kernel);
}

/* The test program starts shortly before this; the kernel tells its own start to the second. */
static void start_time_is_now_or_shortly_before(void **state) {
    (void)state;
    double ago = seconds_of(CLOCK_REALTIME) - read_now().start_time_seconds;
    assert_true(ago > -2 && ago < 300);
}

static void the_limit_of_descriptors_is_raised(void **state) {
    (void)state;
    struct rlimit before, low, after;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){before.rlim_max < 64 ? before.rlim_max : 64, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    assert_true(read_now().max_descriptors == (double)low.rlim_cur);
    assert_int_equal(process_raise_descriptors(), before.rlim_max);
    getrlimit(RLIMIT_NOFILE, &after);
    assert_int_equal(after.rlim_cur, before.rlim_max);
    assert_int_equal(process_raise_descriptors(), before.rlim_max);
    setrlimit(RLIMIT_NOFILE, &before);
}

static size_t lists;

static size_t list_250(void) {
    lists++;
    return 250;
}

static void descriptors_are_listed_while_they_are_few(void **state) {
    (void)state;
    size_t others = 0;
    lists = 0;
    assert_int_equal(process_descriptors(777, 3, list_250, &others), 777); /* the kernel tells */
    assert_int_equal(process_descriptors(777, 9000, list_250, &others), 777);
    assert_int_equal(lists, 0);
    assert_int_equal(process_descriptors(0, 200, list_250, &others), 250);
    assert_int_equal(lists, 1);
    assert_int_equal(process_descriptors(0, 201, list_250, &others), 251);
    assert_int_equal(process_descriptors(0, 9000, list_250, &others), 9050);
    assert_int_equal(lists, 1);
    assert_int_equal(process_descriptors(0, 20, list_250, &others), 250);
    assert_int_equal(process_descriptors(0, 9000, list_250, &others), 9230);
    assert_int_equal(lists, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_that_is_touched_is_resident),
        cmocka_unit_test(descriptors_are_listed_while_they_are_few),
        cmocka_unit_test(open_descriptors_are_counted),
        cmocka_unit_test(threads_are_counted_whatever_the_name),
        cmocka_unit_test(cpu_time_grows_with_work),
        cmocka_unit_test(start_time_is_now_or_shortly_before),
        cmocka_unit_test(the_limit_of_descriptors_is_raised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
