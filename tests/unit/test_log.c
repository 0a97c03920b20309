/* test_log.c: lines reach their descriptor whole and in order, or are counted; nobody waits for who does not read. */
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/log_ring.h"

#include <errno.h>
#include <fcntl.h>
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PAGE = 4096, HANG_SECONDS = 60, MOST_TEXT = 4 << 20 };

static char text[MOST_TEXT]; /* everything that came out */
static size_t text_length;

/* A put or a stop that hangs ends the program, which is a failure of the test. */
static int prepare(void **state) {
    (void)state;
    alarm(HANG_SECONDS);
    text_length = 0;
    return 0;
}

static size_t tell(uint64_t lost, char notice[LOG_NOTICE_MOST]) {
    return (size_t)snprintf(notice, LOG_NOTICE_MOST, "lost %llu\n", (unsigned long long)lost);
}

static void sleep_milliseconds(long milliseconds) {
    nanosleep(&(struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000}, NULL);
}

/* Its writer and its number, then dots up to the line end, which is the last of `length` bytes. */
static void make_line(char *line, unsigned writer, unsigned number, size_t length) {
    char name[64];
    int used = snprintf(name, sizeof name, "line %u %u ", writer, number);
    for (size_t i = 0; i < length; i++)
        line[i] = i < (size_t)used ? name[i] : '.';
    line[length - 1] = '\n';
}

static bool put(struct log_ring *ring, unsigned writer, unsigned number, size_t length) {
    char *line = malloc(length);
    assert_non_null(line);
    make_line(line, writer, number, length);
    bool good = log_ring_put(ring, line, length);
    free(line);
    return good;
}

/* What is in a pipe or a socket until it ends. */
static void read_all(int descriptor) {
    ssize_t got = 0;
    while ((got = read(descriptor, text + text_length, sizeof text - text_length)) > 0)
        text_length += (size_t)got;
}

static void *read_thread(void *descriptor) {
    read_all(*(int *)descriptor);
    return NULL;
}

static void read_file(int file) {
    ssize_t got = pread(file, text, sizeof text, 0);
    assert_true(got >= 0);
    text_length = (size_t)got;
}

/* What came out of a ring: every line whole, of `length` bytes or any (0), each writer's numbers ascending. */
enum { WRITERS = 4 };
struct seen {
    size_t lines;
    uint64_t told;
    unsigned first_hole; /* of writer 0: the first number that is missing */
};

/* The line after its number is dots. */
static bool is_whole(const char *line, unsigned writer, unsigned number) {
    char name[64];
    size_t length = (size_t)snprintf(name, sizeof name, "line %u %u ", writer, number);
    return strncmp(line, name, length) == 0 && strspn(line + length, ".") == strlen(line + length);
}

static struct seen look(size_t length) {
    static const char lost[] = "lost ", named[] = "line ";
    struct seen seen = {0};
    long last[WRITERS] = {-1, -1, -1, -1};
    for (size_t at = 0; at < text_length;) {
        char *line = text + at, *end = memchr(line, '\n', text_length - at);
        assert_non_null(end); /* the last line is whole too */
        *end = '\0';
        size_t size = (size_t)(end - line) + 1;
        at += size;
        if (strncmp(line, lost, strlen(lost)) == 0) {
            seen.told += strtoull(line + strlen(lost), NULL, 10);
            continue;
        }
        assert_int_equal(strncmp(line, named, strlen(named)), 0);
        unsigned writer = (unsigned)strtoul(line + strlen(named), &line, 10);
        unsigned number = (unsigned)strtoul(line, NULL, 10);
        assert_true(writer < WRITERS && (long)number > last[writer]);
        assert_true(is_whole(text + at - size, writer, number));
        assert_true(length == 0 || size == length);
        if (writer == 0 && number == seen.first_hole)
            seen.first_hole++;
        last[writer] = number;
        seen.lines++;
    }
    return seen;
}

static int make_file(void) {
    int file = memfd_create("log", MFD_CLOEXEC);
    assert_true(file >= 0);
    return file;
}

/* A pipe with room for a page, the least there is. */
static void make_pipe(int ends[2], int flags) {
    assert_int_equal(pipe2(ends, O_CLOEXEC | flags), 0);
    assert_int_equal(fcntl(ends[1], F_SETPIPE_SZ, PAGE), PAGE);
}

static struct log_ring *start(int descriptor, size_t bytes) {
    struct log_ring *ring = log_ring_start(descriptor, bytes, tell);
    assert_non_null(ring);
    return ring;
}

static void finish(struct log_ring *ring) {
    log_ring_stop(ring, HANG_SECONDS);
    log_ring_free(ring);
}

/* ---- whole and in order */

/* Lines of a length that does not divide the ring's go around its end hundreds of times. */
static void lines_wrap_around_in_order(void **state) {
    (void)state;
    enum { LINES = 20000, LENGTH = 37, RING = 1009 };
    int file = make_file();
    struct log_ring *ring = start(file, RING);
    size_t refused = 0;
    for (unsigned i = 0; i < LINES; i++) {
        while (!put(ring, 0, i, LENGTH)) {
            refused++;
            sleep_milliseconds(1);
        }
    }
    log_ring_stop(ring, HANG_SECONDS);
    assert_int_equal(log_ring_dropped(ring), refused);
    log_ring_free(ring);
    read_file(file);
    struct seen seen = look(LENGTH);
    assert_int_equal(seen.lines, LINES);
    assert_int_equal(seen.first_hole, LINES);
    assert_int_equal(seen.told, refused);
    close(file);
}

struct putter {
    struct log_ring *ring;
    unsigned writer;
    size_t lines;
};

static void *put_thread(void *argument) {
    const struct putter *putter = argument;
    for (unsigned i = 0; i < putter->lines; i++)
        put(putter->ring, putter->writer, i, 30 + (i * 7 + putter->writer) % 200);
    return NULL;
}

static void lines_of_several_threads_do_not_mix(void **state) {
    (void)state;
    enum { LINES = 3000 };
    int ends[2];
    pthread_t reader, threads[WRITERS];
    struct putter putters[WRITERS];
    make_pipe(ends, 0);
    struct log_ring *ring = start(ends[1], 8 << 20);
    pthread_create(&reader, NULL, read_thread, &ends[0]);
    for (unsigned i = 0; i < WRITERS; i++) {
        putters[i] = (struct putter){ring, i, LINES};
        pthread_create(&threads[i], NULL, put_thread, &putters[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    finish(ring);
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    assert_int_equal(look(0).lines, WRITERS * LINES);
}

/* A datagram is one write: it holds many lines, all whole, and no more than a shared pipe takes in one piece. */
static void a_write_has_many_whole_lines(void **state) {
    (void)state;
    enum { LINES = 400, LENGTH = 100 };
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    struct log_ring *ring = start(ends[1], 1 << 20);
    for (unsigned i = 0; i < LINES; i++)
        assert_true(put(ring, 0, i, LENGTH));
    size_t lines = 0, writes = 0;
    for (; lines < LINES; writes++) {
        ssize_t got = recv(ends[0], text, sizeof text, 0);
        assert_true(got > 0 && got <= PAGE);
        text_length = (size_t)got;
        lines += look(LENGTH).lines;
    }
    assert_true(writes <= LINES / 10);
    finish(ring);
    close(ends[0]);
    close(ends[1]);
}

/* A writer that was woken waits a little for more. On a busy machine some lines come later than that. */
static void lines_of_a_quiet_time_share_a_write(void **state) {
    (void)state;
    enum { LINES = 5, LENGTH = 100, TURNS = 20 };
    size_t writes = 0;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), 0);
    struct log_ring *ring = start(ends[1], 1 << 20);
    for (unsigned turn = 0; turn < TURNS; turn++) {
        for (unsigned i = 0; i < LINES; i++) {
            assert_true(put(ring, 0, i, LENGTH));
            nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        }
        for (size_t got = 0; got < (size_t)LINES * LENGTH; writes++)
            got += (size_t)recv(ends[0], text, sizeof text, 0);
        sleep_milliseconds(10); /* the writer sleeps again */
    }
    assert_in_range(writes, TURNS, TURNS * LINES / 2);
    finish(ring);
    close(ends[0]);
    close(ends[1]);
}

/* Under a steady load there is a write for each 5 ms and for each full batch, and not one for each line. */
static void lines_of_a_busy_time_share_a_write(void **state) {
    (void)state;
    enum { LINES = 600, LENGTH = 100, GATHER_NANOSECONDS = 5000000 };
    int ends[2];
    size_t writes = 0, lines = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    int room = 4 << 20;
    assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    struct log_ring *ring = start(ends[1], 1 << 20);
    uint64_t began = clock_now();
    for (unsigned i = 0; i < LINES; i++) {
        assert_true(put(ring, 0, i, LENGTH));
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    finish(ring);
    size_t most = (size_t)((clock_now() - began) / GATHER_NANOSECONDS) + LINES * LENGTH / (PAGE - LENGTH) + 3;
    close(ends[1]);
    for (ssize_t got = 0; (got = recv(ends[0], text, sizeof text, 0)) > 0; writes++) {
        text_length = (size_t)got;
        lines += look(LENGTH).lines;
    }
    assert_int_equal(lines, LINES);
    assert_in_range(writes, 1, most);
    close(ends[0]);
}

/* Much that waits is written without a pause between the writes, each of which a shared pipe takes in one piece: with a
 * pause of 5 ms for each page this would take 4.9 s. */
static void a_backlog_is_written_without_pauses(void **state) {
    (void)state;
    enum { LINES = 10000, LENGTH = 400 };
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    struct log_ring *ring = start(ends[1], 16 << 20);
    uint64_t began = clock_now();
    for (unsigned i = 0; i < LINES; i++)
        assert_true(put(ring, 0, i, LENGTH));
    for (size_t left = (size_t)LINES * LENGTH; left > 0;) {
        ssize_t got = read(ends[0], text, sizeof text);
        assert_true(got > 0);
        left -= (size_t)got;
    }
    assert_true(clock_seconds(clock_now() - began) < 3);
    finish(ring);
    close(ends[0]);
    close(ends[1]);
}

/* A line that is longer than one write, to a pipe that takes a page at a time. */
static void a_partial_write_goes_on_where_it_stopped(void **state) {
    (void)state;
    enum { LINES = 40, LENGTH = 10 * PAGE + 123 };
    int ends[2];
    pthread_t reader;
    make_pipe(ends, O_NONBLOCK);
    assert_int_equal(fcntl(ends[0], F_SETFL, 0), 0); /* the end that is read blocks */
    struct log_ring *ring = start(ends[1], 4 << 20);
    for (unsigned i = 0; i < LINES; i++) {
        assert_true(put(ring, 0, 2 * i, LENGTH));
        assert_true(put(ring, 0, 2 * i + 1, 50));
    }
    pthread_create(&reader, NULL, read_thread, &ends[0]);
    finish(ring);
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    assert_int_equal(look(0).lines, 2 * LINES);
}

static void a_line_larger_than_the_ring_is_dropped(void **state) {
    (void)state;
    int file = make_file();
    struct log_ring *ring = start(file, PAGE);
    assert_true(put(ring, 0, 0, 100));
    assert_false(put(ring, 0, 1, PAGE + 1));
    assert_int_equal(log_ring_dropped(ring), 1);
    uint64_t refused = 1;
    for (; !put(ring, 0, 2, PAGE); refused++) /* until the ring is empty */
        sleep_milliseconds(10);
    finish(ring);
    read_file(file);
    struct seen seen = look(0);
    assert_int_equal(seen.lines, 2);
    assert_int_equal(seen.told, refused);
    close(file);
}

/* ---- nobody reads */

/* A pipe that is full from the start: the writer blocks at its first write, whenever that is. */
static void make_full_pipe(int ends[2]) {
    char line[PAGE];
    make_pipe(ends, 0);
    make_line(line, 3, 0, sizeof line);
    assert_int_equal(write(ends[1], line, sizeof line), PAGE);
}

static void a_full_ring_drops_counts_and_tells(void **state) {
    (void)state;
    enum { LINES = 2000, LENGTH = 100, RING = 64 * 1024, TAKEN = RING / LENGTH };
    int ends[2];
    pthread_t reader;
    make_full_pipe(ends);
    struct log_ring *ring = start(ends[1], RING);
    for (unsigned i = 0; i < LINES; i++)
        assert_int_equal(put(ring, 0, i, LENGTH), i < TAKEN);
    assert_int_equal(log_ring_dropped(ring), LINES - TAKEN);

    /* Room for one batch: lines that come now are behind the gap, while most of those before it still wait. */
    assert_int_equal(read(ends[0], text, PAGE), PAGE);
    text_length = PAGE;
    while (!put(ring, 2, 0, LENGTH))
        sleep_milliseconds(10);
    uint64_t dropped = log_ring_dropped(ring);
    pthread_create(&reader, NULL, read_thread, &ends[0]);
    finish(ring);
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    /* The notice stands between what came before the loss and what came after. */
    const char *notice = memmem(text, text_length, "\nlost ", 6), *after = memmem(text, text_length, "\nline 2 ", 8);
    assert_non_null(notice);
    assert_true(after > notice);
    assert_int_equal(notice + 1 - text, PAGE + TAKEN * LENGTH);
    struct seen seen = look(0);
    assert_int_equal(seen.lines, 1 + TAKEN + 1);
    assert_int_equal(seen.first_hole, TAKEN);
    assert_int_equal(seen.told, dropped);
}

static void a_stop_does_not_wait_for_a_reader(void **state) {
    (void)state;
    enum { LINES = 1000, LENGTH = 100, RING = 16 * 1024, TAKEN = RING / LENGTH };
    int ends[2];
    make_full_pipe(ends);
    struct log_ring *ring = start(ends[1], RING);
    for (unsigned i = 0; i < LINES; i++)
        assert_int_equal(put(ring, 0, i, LENGTH), i < TAKEN);
    uint64_t began = clock_now();
    log_ring_stop(ring, 0.3);
    double seconds = clock_seconds(clock_now() - began);
    assert_true(seconds >= 0.25 && seconds < 5);
    assert_false(put(ring, 0, LINES, LENGTH)); /* a late line is counted, and no more */
    assert_int_equal(log_ring_dropped(ring), LINES - TAKEN + 1);

    /* A reader that comes after all finds whole lines, and the writer comes to its end. */
    pthread_t reader;
    pthread_create(&reader, NULL, read_thread, &ends[0]);
    log_ring_free(ring);
    close(ends[1]);
    pthread_join(reader, NULL);
    close(ends[0]);
    struct seen seen = look(0);
    assert_int_equal(seen.lines, 1 + TAKEN);
    assert_int_equal(seen.told, LINES - TAKEN + 1);
}

static void a_stop_that_can_write_does_not_wait_its_time(void **state) {
    (void)state;
    int file = make_file();
    struct log_ring *ring = start(file, PAGE);
    assert_true(put(ring, 0, 0, 100));
    uint64_t began = clock_now();
    log_ring_stop(ring, HANG_SECONDS);
    log_ring_stop(ring, HANG_SECONDS); /* again: nothing to do */
    assert_true(clock_seconds(clock_now() - began) < 10);
    log_ring_free(ring);
    read_file(file);
    assert_int_equal(look(0).lines, 1);
    close(file);
}

/* ---- what cannot be written */

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void refused_lines_are_counted(int descriptor) {
    enum { LINES = 30 };
    struct log_ring *ring = start(descriptor, PAGE);
    for (unsigned i = 0; i < LINES; i++)
        assert_true(put(ring, 0, i, 100));
    while (log_ring_dropped(ring) < LINES)
        sleep_milliseconds(5);
    double before = cpu_seconds();
    sleep_milliseconds(500);
    assert_true(cpu_seconds() - before < 0.2);
    assert_true(put(ring, 0, LINES, 100));
    uint64_t began = clock_now();
    log_ring_stop(ring, HANG_SECONDS);
    assert_true(clock_seconds(clock_now() - began) < 10);
    log_ring_free(ring);
}

static void a_full_device_drops(void **state) {
    (void)state;
    int full = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(full >= 0);
    refused_lines_are_counted(full);
    close(full);
}

static void a_closed_descriptor_drops(void **state) {
    (void)state;
    int none = open("/dev/null", O_WRONLY | O_CLOEXEC);
    close(none);
    refused_lines_are_counted(none);
}

static void a_pipe_without_a_reader_drops(void **state) {
    (void)state;
    int ends[2];
    make_pipe(ends, 0);
    close(ends[0]);
    refused_lines_are_counted(ends[1]);
    close(ends[1]);
}

/* A disk that is full in the middle of a line, and has room again later: that line is whole, the loss is told. */
static void a_half_written_line_is_ended(void **state) {
    (void)state;
    enum { LENGTH = 100, ROOM = 10 * LENGTH + LENGTH / 2, PLENTY = 40 };
    struct rlimit limit, before;
    int file = make_file();
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = ROOM;
    setrlimit(RLIMIT_FSIZE, &limit);
    struct log_ring *ring = start(file, (size_t)PLENTY * LENGTH);
    unsigned number = 0;
    uint64_t refused = 0;
    for (; number < 2 * PLENTY; number++)
        refused += !put(ring, 0, number, LENGTH);
    while (pread(file, text, sizeof text, 0) < ROOM)
        sleep_milliseconds(5);
    double cpu = cpu_seconds();
    sleep_milliseconds(500);
    assert_true(cpu_seconds() - cpu < 0.2);
    for (; number < 4 * PLENTY; number++)
        refused += !put(ring, 0, number, LENGTH);
    assert_int_equal(log_ring_dropped(ring), refused);
    assert_true(refused > 0);
    setrlimit(RLIMIT_FSIZE, &before);
    uint64_t retries = 0;
    for (; !put(ring, 0, number, LENGTH); retries++)
        sleep_milliseconds(5);
    refused += retries;
    finish(ring);
    read_file(file);
    struct seen seen = look(0);
    assert_int_equal(seen.lines, number + 1 + retries - refused);
    assert_int_equal(seen.told, refused);
    close(file);
}

/* Room from the start of a line on: what was refused is told before the lines that came next. */
static void a_disk_with_room_again_tells_the_loss(void **state) {
    (void)state;
    enum { LENGTH = 100, LINES = 10 };
    struct rlimit limit, before;
    int file = make_file();
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 0;
    setrlimit(RLIMIT_FSIZE, &limit);
    struct log_ring *ring = start(file, PAGE);
    for (unsigned i = 0; i < LINES; i++)
        assert_true(put(ring, 0, i, LENGTH));
    while (log_ring_dropped(ring) < LINES)
        sleep_milliseconds(5);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_true(put(ring, 0, LINES, LENGTH));
    finish(ring);
    read_file(file);
    assert_memory_equal(text, "lost 10\nline 0 10 ", 18);
    struct seen seen = look(0);
    assert_int_equal(seen.lines, 1);
    assert_int_equal(seen.told, LINES);
    close(file);
}

/* ---- log.h, in a process of its own, whose standard error is a pipe */

/* The child logs; what it returns is its exit status. `go` is written to when it has logged. */
static int run_child(int (*child)(int go), bool wait_for_go) {
    int ends[2], go[2], status = 0;
    char byte;
    make_pipe(ends, 0);
    make_pipe(go, 0);
    pid_t process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        dup2(ends[1], STDERR_FILENO);
        _exit(child(go[1]));
    }
    close(ends[1]);
    close(go[1]);
    if (wait_for_go)
        assert_int_equal(read(go[0], &byte, 1), 1);
    read_all(ends[0]);
    close(ends[0]);
    close(go[0]);
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int log_before_and_after(int go) {
    (void)go;
    log_start(LEVEL_INFO);
    log_message(LEVEL_INFO, "first", "%d", 1);
    if (!log_start_writer(1 << 16))
        return 2;
    log_line(LEVEL_INFO, "second", LOG_NUMBER("n", 2));
    log_line(LEVEL_DEBUG, "unwanted", LOG_NUMBER("n", 2));
    log_line(LEVEL_ERROR, "third", LOG_STRING("s", "a\nb"));
    log_stop();
    log_message(LEVEL_INFO, "late", "dropped");
    struct log_counts counts = log_count();
    return counts.lines == 4 && counts.dropped == 1 ? 0 : 1;
}

static void the_log_goes_from_direct_to_buffered(void **state) {
    (void)state;
    assert_int_equal(run_child(log_before_and_after, false), 0);
    static const char *const events[] = {"\"first\",\"message\":\"1\"}\n", "\"second\",\"n\":2}\n",
                                         "\"third\",\"s\":\"a\\nb\"}\n"};
    const char *at = text;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        assert_memory_equal(at, "{\"time\":\"20", 11);
        const char *event = strstr(at, events[i]);
        assert_non_null(event);
        at = event + strlen(events[i]);
    }
    assert_int_equal(at - text, text_length);
}

enum { CHILD_LINES = 2000 };

static int log_much(int go) {
    log_start(LEVEL_INFO);
    if (!log_start_writer(1 << 14))
        return 2;
    for (int i = 0; i < CHILD_LINES; i++)
        log_line(LEVEL_INFO, "request", LOG_NUMBER("number", i));
    bool some = log_count().dropped > 0;
    bool good = write(go, "", 1) == 1;
    log_stop();
    return some && good ? 0 : 1;
}

static void the_log_tells_what_it_dropped(void **state) {
    (void)state;
    assert_int_equal(run_child(log_much, true), 0);
    size_t lines = 0, told = 0;
    text[text_length] = '\0';
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        static const char dropped[] = "\"level\":\"warning\",\"event\":\"log-dropped\",\"lines\":";
        const char *notice = strstr(line, dropped);
        assert_true(end[-1] == '}' && line[0] == '{');
        if (notice != NULL && notice < end)
            told += strtoul(notice + strlen(dropped), NULL, 10);
        else
            lines++;
    }
    assert_true(told > 0);
    assert_int_equal(lines + told, CHILD_LINES);
}

/* The process ends though nobody has read a byte of its log. */
static int log_for_nobody(int go) {
    uint64_t began = clock_now();
    int status = log_much(go);
    double seconds = clock_seconds(clock_now() - began);
    return seconds < LOG_STOP_SECONDS + 5 ? status : 3;
}

static void a_process_ends_though_nobody_reads(void **state) {
    (void)state;
    int ends[2], go[2], status = 0;
    make_pipe(ends, 0);
    make_pipe(go, 0);
    pid_t process = fork();
    assert_true(process >= 0);
    if (process == 0) {
        dup2(ends[1], STDERR_FILENO);
        _exit(log_for_nobody(go[1]));
    }
    assert_int_equal(waitpid(process, &status, 0), process);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    for (int i = 0; i < 2; i++) {
        close(ends[i]);
        close(go[i]);
    }
}

int main(void) {
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lines_wrap_around_in_order, prepare),
        cmocka_unit_test_setup(lines_of_several_threads_do_not_mix, prepare),
        cmocka_unit_test_setup(a_write_has_many_whole_lines, prepare),
        cmocka_unit_test_setup(lines_of_a_quiet_time_share_a_write, prepare),
        cmocka_unit_test_setup(lines_of_a_busy_time_share_a_write, prepare),
        cmocka_unit_test_setup(a_backlog_is_written_without_pauses, prepare),
        cmocka_unit_test_setup(a_partial_write_goes_on_where_it_stopped, prepare),
        cmocka_unit_test_setup(a_line_larger_than_the_ring_is_dropped, prepare),
        cmocka_unit_test_setup(a_full_ring_drops_counts_and_tells, prepare),
        cmocka_unit_test_setup(a_stop_does_not_wait_for_a_reader, prepare),
        cmocka_unit_test_setup(a_stop_that_can_write_does_not_wait_its_time, prepare),
        cmocka_unit_test_setup(a_full_device_drops, prepare),
        cmocka_unit_test_setup(a_closed_descriptor_drops, prepare),
        cmocka_unit_test_setup(a_pipe_without_a_reader_drops, prepare),
        cmocka_unit_test_setup(a_half_written_line_is_ended, prepare),
        cmocka_unit_test_setup(a_disk_with_room_again_tells_the_loss, prepare),
        cmocka_unit_test_setup(the_log_goes_from_direct_to_buffered, prepare),
        cmocka_unit_test_setup(the_log_tells_what_it_dropped, prepare),
        cmocka_unit_test_setup(a_process_ends_though_nobody_reads, prepare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
