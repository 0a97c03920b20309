/* crash.c: everything after the signal may call async-signal-safe functions only, so the line is made by hand, and the
 * mapping is looked for in /proc/self/maps.
 */
#include "server/base/crash.h"

#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FRAMES = 64, LINE_ROOM = 2048, MAPS_ROOM = 8192, FILE_ROOM = 1024 };
/* For the log's thread to write the lines before this one, in nanoseconds. */
static const long last_lines = 50000000;

static struct sigaction before_bus, before_segv;
static atomic_flag crashed = ATOMIC_FLAG_INIT;

/* The line so far. Text that finds no room is cut. */
struct text {
    char bytes[LINE_ROOM];
    size_t length;
};

static void put(struct text *text, const char *more) {
    while (*more != '\0' && text->length < sizeof text->bytes)
        text->bytes[text->length++] = *more++;
}

/* A string's bytes that would need an escape become '?'. */
static void put_plain(struct text *text, const char *more) {
    for (; *more != '\0'; more++) {
        bool plain = *more >= 0x20 && *more < 0x7F && *more != '"' && *more != '\\';
        put(text, (const char[]){plain ? *more : '?', '\0'});
    }
}

/* With at least so many digits. */
static void put_number(struct text *text, uint64_t number, unsigned base, size_t least) {
    char digits[65];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    for (size_t count = 0; at > 0 && (number > 0 || count < least); count++) {
        digits[--at] = "0123456789abcdef"[number % base];
        number /= base;
    }
    put(text, digits + at);
}

/* The date of a day since 1970 in the Gregorian calendar, for years that begin in March: leap days come last. */
static void put_time(struct text *text) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seconds = (uint64_t)now.tv_sec, days = seconds / 86400 + 719468, second = seconds % 86400;
    uint64_t era = days / 146097, day = days % 146097;
    uint64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    uint64_t month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    year += era * 400 + (month >= 10);
    put_number(text, year, 10, 4);
    put(text, "-");
    put_number(text, month < 10 ? month + 3 : month - 9, 10, 2);
    put(text, "-");
    put_number(text, day + 1, 10, 2);
    put(text, "T");
    put_number(text, second / 3600, 10, 2);
    put(text, ":");
    put_number(text, second / 60 % 60, 10, 2);
    put(text, ":");
    put_number(text, second % 60, 10, 2);
    put(text, ".");
    put_number(text, (uint64_t)now.tv_nsec / 1000000, 10, 3);
    put(text, "Z");
}

/* Reads a hexadecimal number and steps over it and the character behind it. */
static uintptr_t read_hex(const char **at) {
    uintptr_t number = 0;
    for (; **at != '\0' && strchr("0123456789abcdef", **at) != NULL; (*at)++)
        number = number * 16 + (uintptr_t)(**at <= '9' ? **at - '0' : **at - 'a' + 10);
    *at += **at != '\0';
    return number;
}

/* A line of /proc/self/maps: "START-END rights offset device inode   /the/file". True: `address` is there; file[] is
 * the file's name, or empty. */
static bool is_at(const char *line, uintptr_t address, char file[FILE_ROOM]) {
    uintptr_t start = read_hex(&line), end = read_hex(&line);
    if (address < start || address >= end)
        return false;
    const char *name = strchr(line, '/');
    size_t length = name != NULL ? strlen(name) : 0;
    length = length < FILE_ROOM ? length : FILE_ROOM - 1;
    memcpy(file, name != NULL ? name : "", length);
    file[length] = '\0';
    return true;
}

/* The file that is mapped at an address; "" where there is none. */
static void find_file(uintptr_t address, char file[FILE_ROOM]) {
    char maps[MAPS_ROOM];
    size_t length = 0;
    ssize_t got = 0;
    int descriptor = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    file[0] = '\0';
    while (descriptor >= 0 && (got = read(descriptor, maps + length, sizeof maps - 1 - length)) > 0) {
        length += (size_t)got;
        maps[length] = '\0';
        char *line = maps, *end = NULL;
        for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            *end = '\0';
            if (is_at(line, address, file)) {
                close(descriptor);
                return;
            }
        }
        length = line == maps && length == sizeof maps - 1 ? 0 : (size_t)(maps + length - line);
        memmove(maps, line, length);
    }
    if (descriptor >= 0)
        close(descriptor);
}

static void write_line(int signal, uintptr_t address, const char *file, bool lost) {
    struct text text = {.length = 0};
    put(&text, "{\"time\":\"");
    put_time(&text);
    put(&text, "\",\"level\":\"error\",\"event\":");
    put(&text, lost ? "\"file-lost\"" : "\"crash\"");
    put(&text, ",\"signal\":");
    put_number(&text, (uint64_t)signal, 10, 1);
    put(&text, ",\"address\":\"0x");
    put_number(&text, address, 16, 1);
    if (*file != '\0') {
        put(&text, "\",\"file\":\"");
        put_plain(&text, file);
    }
    put(&text,
        lost ? "\",\"message\":\"The file was truncated, or cannot be read, while it was mapped. Replace a model by "
               "renaming a new directory over the old one; never write into its files.\"}\n"
             : "\",\"message\":\"A fault of memory; the stack follows.\"}\n");
    (void)!write(STDERR_FILENO, text.bytes, text.length);
}

/* A full pipe that nobody reads would keep write(2), and with it the process, for ever. So would a fault in the handler
 * itself. Threads block most signals. */
static void end_in_time(void) {
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    signal(SIGALRM, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL);
    alarm(CRASH_SECONDS);
}

/* Several threads may meet the same fault; one speaks. */
static void on_fault(int signal, siginfo_t *info, void *context) {
    (void)context;
    if (atomic_flag_test_and_set(&crashed)) {
        for (;;)
            pause();
    }
    end_in_time();
    char file[FILE_ROOM];
    void *frames[FRAMES];
    uintptr_t address = (uintptr_t)info->si_addr;
    find_file(address, file);
    bool lost = signal == SIGBUS && *file != '\0';
    write_line(signal, address, file, lost);
    if (!lost)
        backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
    nanosleep(&(struct timespec){.tv_nsec = last_lines}, NULL);
    if (lost)
        _exit(CRASH_FILE_STATUS);
    /* On return the instruction faults again, and the handler of before has it: a sanitizer's, or the kernel's. A
     * signal that somebody sent comes no second time by itself. */
    sigaction(signal, signal == SIGBUS ? &before_bus : &before_segv, NULL);
    if (info->si_code <= 0)
        raise(signal);
}

void crash_install(void) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
    void *frame[1];
    backtrace(frame, 1); /* the first call loads a library, which a signal handler must not */
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, &action, &before_bus);
    sigaction(SIGSEGV, &action, &before_segv);
}
