/* test_memory_limit.c: trees of files like those of the kernel, and the least memory that they allow. */
#include "server/base/memory_limit.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char root[64];

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/dien-memory-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *about, int kind, struct FTW *walk) {
    (void)about;
    (void)kind;
    (void)walk;
    return remove(path);
}

static int remove_root(void **state) {
    (void)state;
    return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

/* Write a file below the root, with its directories. */
static void put(const char *path, const char *text) {
    char file[512];
    snprintf(file, sizeof file, "%s%s", root, path);
    for (char *slash = strchr(file + strlen(root) + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        assert_true(mkdir(file, 0700) == 0 || errno == EEXIST);
        *slash = '/';
    }
    FILE *out = fopen(file, "we");
    assert_non_null(out);
    fputs(text, out);
    fclose(out);
}

#define MEMINFO(kilobytes) "MemFree:  1 kB\nMemTotal:       " #kilobytes " kB\nSwapTotal: 9 kB\n"

static void nothing_is_not_known(void **state) {
    (void)state;
    assert_int_equal(memory_limit_read(root), 0);
}

static void the_machine_has_its_memory(void **state) {
    (void)state;
    put("/proc/meminfo", MEMINFO(2000));
    assert_int_equal(memory_limit_read(root), 2000 * 1024);
    put("/proc/self/cgroup", "0::/a\n");
    put("/sys/fs/cgroup/a/memory.stat", "anon 0\n");
    put("/sys/fs/cgroup/a/memory.max", "max\n");
    assert_int_equal(memory_limit_read(root), 2000 * 1024);
}

/* A cgroup's limit holds for those below it. */
static void the_least_of_all_cgroups_holds(void **state) {
    (void)state;
    put("/proc/meminfo", MEMINFO(2000));
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/a/b/memory.stat", "anon 0\n");
    put("/sys/fs/cgroup/a/b/memory.max", "1000000\n");
    assert_int_equal(memory_limit_read(root), 1000000);
    put("/sys/fs/cgroup/a/memory.max", "500000\n");
    assert_int_equal(memory_limit_read(root), 500000);
    put("/sys/fs/cgroup/memory.max", "700000\n");
    assert_int_equal(memory_limit_read(root), 500000);
    put("/proc/meminfo", MEMINFO(100));
    assert_int_equal(memory_limit_read(root), 100 * 1024);
}

/* In a container the path is the host's. */
static void the_root_stands_for_a_path_that_is_not_there(void **state) {
    (void)state;
    put("/proc/meminfo", MEMINFO(2000));
    put("/proc/self/cgroup", "0::/docker/0123\n");
    put("/sys/fs/cgroup/memory.stat", "anon 0\n");
    put("/sys/fs/cgroup/memory.max", "300000\n");
    assert_int_equal(memory_limit_read(root), 300000);
}

/* "None" is a number larger than any memory. */
static void version_one_has_files_of_other_names(void **state) {
    (void)state;
    put("/proc/meminfo", MEMINFO(2000));
    put("/proc/self/cgroup", "9:cpu,cpuacct:/a\n8:memory:/a\n0::/\n");
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "400000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_limit_read(root), 400000);
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_limit_read(root), 2000 * 1024);
}

static void this_machine_has_some(void **state) {
    (void)state;
    assert_true(memory_limit_read("") > 1 << 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_not_known, make_root, remove_root),
        cmocka_unit_test_setup_teardown(the_machine_has_its_memory, make_root, remove_root),
        cmocka_unit_test_setup_teardown(the_least_of_all_cgroups_holds, make_root, remove_root),
        cmocka_unit_test_setup_teardown(the_root_stands_for_a_path_that_is_not_there, make_root, remove_root),
        cmocka_unit_test_setup_teardown(version_one_has_files_of_other_names, make_root, remove_root),
        cmocka_unit_test(this_machine_has_some),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
