/* test_cpu_quota.c: trees of files like those of the kernel, and the quota that is read from them. */
#include "server/base/cpu_quota.h"

#include <errno.h>
#include <ftw.h>
#include <math.h>
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
    snprintf(root, sizeof root, "/tmp/dien-cgroup-XXXXXX");
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

static void assert_quota(double expected) {
    double quota = cpu_quota_read(root);
    if (fabs(quota - expected) > 1e-12)
        fail_msg("%g, not %g", quota, expected);
}

static void nothing_is_no_quota(void **state) {
    (void)state;
    assert_quota(0);
    assert_true(cpu_quota_threads(root) >= 1);
    assert_false(cpu_quota_throttling(root).known);
}

static void the_tightest_of_v2_counts(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/a/b\n");
    put("/sys/fs/cgroup/cpu.stat", "usage_usec 1\n");
    put("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
    put("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/a/b/cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 7\nthrottled_usec 2500000\n");
    assert_quota(1.5);
    assert_int_equal(cpu_quota_threads(root), 1);
    put("/sys/fs/cgroup/a/b/cpu.max", "50000 100000\n");
    assert_quota(0.5);
    assert_int_equal(cpu_quota_threads(root), 1);
    struct cpu_throttling throttling = cpu_quota_throttling(root);
    assert_true(throttling.known);
    assert_int_equal(throttling.count, 7);
    assert_true(throttling.seconds == 2.5);
}

/* Inside a container without a cgroup namespace the path is the host's, and not there. */
static void a_path_that_is_not_there(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/kubepods/pod1/c1\n");
    put("/sys/fs/cgroup/cpu.stat", "usage_usec 1\nnr_throttled 0\nthrottled_usec 0\n");
    put("/sys/fs/cgroup/cpu.max", "200000 100000\n");
    assert_quota(2);
}

static void v1_is_read(void **state) {
    (void)state;
    put("/proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/a\n1:name=systemd:/\n0::/\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "250000\n");
    put("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/cpu/a/cpu.stat", "nr_periods 3\nnr_throttled 2\nthrottled_time 1500000000\n");
    assert_quota(2.5);
    struct cpu_throttling throttling = cpu_quota_throttling(root);
    assert_int_equal(throttling.count, 2);
    assert_true(throttling.seconds == 1.5);
    put("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
    assert_quota(0);
}

/* A hybrid machine has a v2 line, but its cpu controller is v1's. "cpuset" is not "cpu". */
static void a_hybrid_machine(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/a\n3:cpuset:/a\n2:cpu:/a\n");
    put("/sys/fs/cgroup/unified/a/cgroup.procs", "1\n");
    put("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000\n");
    put("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
    assert_quota(3);
}

static void garbage_is_no_quota(void **state) {
    (void)state;
    put("/proc/self/cgroup", "\n:\n0:\nnonsense\n0::/a\n");
    put("/sys/fs/cgroup/a/cpu.stat", "garbage");
    put("/sys/fs/cgroup/a/cpu.max", "wide open\n");
    assert_quota(0);
    put("/sys/fs/cgroup/a/cpu.max", "100000 0\n");
    assert_quota(0);
    put("/sys/fs/cgroup/a/cpu.max", "-5 100000\n");
    assert_quota(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_is_no_quota, make_root, remove_root),
        cmocka_unit_test_setup_teardown(the_tightest_of_v2_counts, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_path_that_is_not_there, make_root, remove_root),
        cmocka_unit_test_setup_teardown(v1_is_read, make_root, remove_root),
        cmocka_unit_test_setup_teardown(a_hybrid_machine, make_root, remove_root),
        cmocka_unit_test_setup_teardown(garbage_is_no_quota, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
