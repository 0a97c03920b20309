/* process.c: reads /proc/self. A value that cannot be read is 0. */
#include "server/base/process.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Places in /proc/self/stat, counted from the state, which follows the name's ")" (proc(5) counts it as the third). */
enum { STAT_UTIME = 11, STAT_STIME = 12, STAT_THREADS = 17, STAT_START = 19, STAT_VSIZE = 20, STAT_RSS = 21 };

static void read_file(const char *path, char *text, size_t size) {
    FILE *in = fopen(path, "re");
    text[0] = '\0';
    if (in != NULL) {
        text[fread(text, 1, size - 1, in)] = '\0';
        fclose(in);
    }
}

static double boot_time(void) {
    char text[65536];
    read_file("/proc/stat", text, sizeof text);
    const char *line = strstr(text, "\nbtime ");
    return line != NULL ? strtod(line + 7, NULL) : 0;
}

static void read_stat(double *numbers, size_t count) {
    char text[2048];
    read_file("/proc/self/stat", text, sizeof text);
    const char *after_name = strrchr(text, ')');
    char *rest = NULL;
    memset(numbers, 0, count * sizeof *numbers);
    if (after_name == NULL)
        return;
    char *word = strtok_r(text + (after_name - text) + 1, " ", &rest);
    for (size_t i = 0; i < count && word != NULL; i++) {
        numbers[i] = strtod(word, NULL);
        word = strtok_r(NULL, " ", &rest);
    }
}

static double count_descriptors(void) {
    DIR *directory = opendir("/proc/self/fd");
    double count = 0;
    if (directory == NULL)
        return 0;
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count - 3; /* ".", ".." and the directory itself */
}

void process_read(struct process_usage *usage) {
    static double booted; /* does not change */
    double stat[STAT_RSS + 1];
    double ticks = (double)sysconf(_SC_CLK_TCK);
    struct rlimit limit = {0, 0};
    read_stat(stat, STAT_RSS + 1);
    booted = booted > 0 ? booted : boot_time();
    getrlimit(RLIMIT_NOFILE, &limit);
    *usage = (struct process_usage){
        .resident_bytes = stat[STAT_RSS] * (double)sysconf(_SC_PAGESIZE),
        .virtual_bytes = stat[STAT_VSIZE],
        .cpu_seconds = (stat[STAT_UTIME] + stat[STAT_STIME]) / ticks,
        .start_time_seconds = booted + stat[STAT_START] / ticks,
        .open_descriptors = count_descriptors(),
        .max_descriptors = (double)limit.rlim_cur,
        .threads = stat[STAT_THREADS],
    };
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
