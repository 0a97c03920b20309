/* process.c: reads /proc/self. */
#include "server/base/process.h"

#include "server/base/file.h"

#include <dirent.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOCKETS_LISTED = 200 }; /* a list of so many takes a tenth of a millisecond */

/* Indices of the numbers in /proc/self/stat that follow the name's ")"; proc(5) counts the first of them, the state, as
 * the third. */
enum {
    STAT_UTIME = 11,
    STAT_STIME = 12,
    STAT_THREADS = 17,
    STAT_START = 19,
    STAT_VSIZE = 20,
    STAT_RSS = 21,
    STAT_COUNT
};

static void read_stat(double numbers[STAT_COUNT]) {
    char text[2048];
    char *rest = NULL;
    file_read("/proc/self/stat", text, sizeof text);
    memset(numbers, 0, STAT_COUNT * sizeof *numbers);
    char *after_name = strrchr(text, ')'); /* the name may hold spaces */
    if (after_name == NULL)
        return;
    char *word = strtok_r(after_name + 1, " ", &rest);
    for (size_t i = 0; i < STAT_COUNT && word != NULL; i++) {
        numbers[i] = strtod(word, NULL);
        word = strtok_r(NULL, " ", &rest);
    }
}

static size_t list_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    size_t count = 0;
    if (directory == NULL)
        return 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count - 3; /* ".", ".." and the directory's own descriptor */
}

size_t process_descriptors(size_t told, size_t sockets, size_t (*list)(void), size_t *others) {
    if (told > 0)
        return told;
    if (sockets <= SOCKETS_LISTED) {
        size_t listed = list();
        *others = listed > sockets ? listed - sockets : 0;
    }
    return *others + sockets;
}

void process_read(struct process_usage *usage, size_t sockets) {
    static double boot_time; /* seconds since 1970; does not change */
    static size_t others;    /* descriptors beside the sockets */
    struct stat directory = {.st_size = 0};
    double numbers[STAT_COUNT];
    double ticks = (double)sysconf(_SC_CLK_TCK);
    struct rlimit limit = {0, 0};
    if (boot_time == 0) {
        char text[65536];
        file_read("/proc/stat", text, sizeof text);
        const char *line = strstr(text, "\nbtime ");
        boot_time = line != NULL ? strtod(line + 7, NULL) : 0;
    }
    read_stat(numbers);
    getrlimit(RLIMIT_NOFILE, &limit);
    stat("/proc/self/fd", &directory); /* whose size is their number since Linux 6.2, else 0 */
    *usage = (struct process_usage){
        .resident_bytes = numbers[STAT_RSS] * (double)sysconf(_SC_PAGESIZE),
        .virtual_bytes = numbers[STAT_VSIZE],
        .cpu_seconds = (numbers[STAT_UTIME] + numbers[STAT_STIME]) / ticks,
        .start_time_seconds = boot_time + numbers[STAT_START] / ticks,
        .open_descriptors = (double)process_descriptors((size_t)directory.st_size, sockets, list_descriptors, &others),
        .max_descriptors = (double)limit.rlim_cur,
        .threads = numbers[STAT_THREADS],
    };
}

/* glibc raises both thresholds up to 32 MB with each large block that is freed, and then keeps such blocks: a gigabyte
 * of replies would stay. Set, they do not change. */
void process_return_memory(void) {
    enum { MAPPED_FROM = 256 << 10, TRIMMED_FROM = 1 << 20 };
    mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);
    mallopt(M_TRIM_THRESHOLD, TRIMMED_FROM);
}

size_t process_raise_descriptors(void) {
    struct rlimit limit = {0, 0};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
        getrlimit(RLIMIT_NOFILE, &limit);
    }
    return (size_t)limit.rlim_cur;
}
