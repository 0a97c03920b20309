/* test_lmdb_engine.c: histories in LMDB against plain arrays; kill -9 in the
 * middle of appends; a file without room. */
#include "server/base/clock.h"
#include "tests/support/random_bits.h"
#include "tests/unit/history_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/history_model.h"

enum {
    HANG_SECONDS = 600,
    USERS = 12,
    STEPS = 600,
    KEEP = 40,
    ROOM = 80,
    KILLS = 100,
    CRASH_USERS = 8,
    MOST_ITEMS = 100000
};

static char directory[64], where[96];
static struct driver driver;

/* ---- syncs: liblmdb calls this fdatasync() */

static _Atomic unsigned writer_syncs, failures_to_come;

int fdatasync(int __fildes) {
    char name[16] = "";
    pthread_getname_np(pthread_self(), name, sizeof name);
    writer_syncs += strcmp(name, "histories-write") == 0;
    if (strcmp(name, "histories-sync") == 0 && failures_to_come > 0) {
        failures_to_come--;
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, __fildes);
}

static int prepare(void **state) {
    (void)state;
    alarm(HANG_SECONDS);
    snprintf(directory, sizeof directory, "/tmp/histories-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(where, sizeof where, "lmdb:%s/users", directory);
    driver_begin(&driver);
    driver.options.where = where;
    return 0;
}

static int clean(void **state) {
    (void)state;
    char path[128];
    driver_end(&driver);
    snprintf(path, sizeof path, "%s/users", directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/users-lock", directory);
    unlink(path);
    return rmdir(directory);
}

static void must_open(void) {
    if (!driver_open(&driver))
        fail_msg("%s", driver.error);
}

/* ---- against plain arrays */

static void open_for_plain_arrays(double sync_seconds) {
    driver.options.limits.keep = PLAIN_KEEP;
    driver.options.sync_seconds = sync_seconds;
    must_open();
    against_plain_arrays(&driver);
}

static void test_against_plain_arrays(void **state) {
    (void)state;
    open_for_plain_arrays(0);
    assert_true(driver.counts.syncs > PLAIN_STEPS / 4);
    assert_int_equal(driver.counts.conflicts, 0);
}

static void test_against_plain_arrays_synced_later(void **state) {
    (void)state;
    open_for_plain_arrays(0.02);
    assert_true(driver.counts.syncs > 0);
}

/* ---- many at once share a commit */

static void test_changes_share_a_sync(void **state) {
    (void)state;
    enum { CHANGES = 2000 };
    must_open();
    driver_append(&driver, "first", "", 1, 1);
    uint64_t before = driver.counts.syncs;
    for (int64_t i = 0; i < CHANGES; i++) {
        char name[16];
        snprintf(name, sizeof name, "user%d", (int)(i % 500));
        driver_start_append(&driver, name, "", i, 1);
    }
    assert_int_equal(driver_wait(&driver)->status, HISTORY_DONE);
    assert_int_equal(driver.counts.applied, CHANGES + 1);
    uint64_t syncs = driver.counts.syncs - before;
    print_message("%d changes in %llu commits\n", CHANGES, (unsigned long long)syncs);
    assert_true(syncs < CHANGES / 10);
}

/* Synced later: the pages of a commit are synced all the same, or a power loss could damage the file. Only the root
 * waits, and its sync is tried until it succeeds. */
static void test_syncs_of_an_interval(void **state) {
    (void)state;
    driver.options.sync_seconds = 0.05;
    must_open();
    driver_turn(&driver, 200);
    unsigned before = writer_syncs;
    failures_to_come = 3;
    for (int64_t i = 0; i < 10; i++)
        driver_append(&driver, "u", "", i, 1);
    assert_true(writer_syncs >= before + 10);
    uint64_t syncs = driver.counts.syncs;
    for (int i = 0; i < 1000 && (driver.counts.syncs == syncs || failures_to_come > 0); i++)
        driver_turn(&driver, 20);
    assert_int_equal(failures_to_come, 0);
    assert_int_equal(driver.counts.sync_failures, 3);
    assert_true(driver.counts.syncs > syncs);
}

/* ---- kill -9 */

/* Appends with event ids, user by user, and tells each result through the pipe,
 * until it is killed. */
static void append_for_ever(int out, const uint32_t next[CRASH_USERS]) {
    struct driver child;
    driver_begin(&child);
    child.options = driver.options;
    child.options.counts = &child.counts;
    if (!driver_open(&child))
        _exit(2);
    for (uint32_t round = 0;; round++) {
        struct history_result results[CRASH_USERS];
        for (uint32_t user = 0; user < CRASH_USERS; user++) {
            char name[16], event[16];
            snprintf(name, sizeof name, "user%u", user);
            snprintf(event, sizeof event, "e%u", next[user] + round);
            driver_start_append(&child, name, event, next[user] + round, 1);
        }
        driver_wait(&child);
        results[0] = child.result; /* the last; all of a round are in one commit or two */
        if (results[0].status != HISTORY_DONE || child.counts.applied != (uint64_t)(round + 1) * CRASH_USERS)
            _exit(3);
        uint32_t told = round + 1;
        if (write(out, &told, sizeof told) != sizeof told)
            _exit(4);
        arena_reset(&child.arena);
    }
}

static void test_kill_in_the_middle_of_appends(void **state) {
    (void)state;
    static int64_t items[MOST_ITEMS];
    uint32_t next[CRASH_USERS] = {0}, told_in_all = 0;
    uint64_t random = 9;
    driver.options.limits = (struct history_limits){.keep = MOST_ITEMS, .dedupe = 8, .user_bytes = 1 << 30};
    for (size_t kill_number = 0; kill_number < KILLS; kill_number++) {
        int ends[2];
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        if (child == 0) {
            close(ends[0]);
            append_for_ever(ends[1], next);
        }
        close(ends[1]);
        uint32_t told = 0, latest = 0;
        assert_int_equal(read(ends[0], &told, sizeof told), sizeof told); /* it works */
        nanosleep(&(struct timespec){.tv_nsec = (long)(random_bits(&random) % 8000000)}, NULL);
        kill(child, SIGKILL);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        while (read(ends[0], &latest, sizeof latest) == sizeof latest)
            told = latest;
        close(ends[0]);
        told_in_all += told;

        must_open();
        for (uint32_t user = 0; user < CRASH_USERS; user++) {
            char name[16];
            struct history history;
            snprintf(name, sizeof name, "user%u", user);
            driver_get(&driver, name, 0);
            long held = driver_items(&driver, items, MOST_ITEMS, &history);
            assert_true(held >= (long)(next[user] + told));     /* all that was told */
            assert_true(held <= (long)(next[user] + told + 1)); /* and the round that was under way */
            for (long i = 0; i < held; i++)
                assert_int_equal(items[i], i); /* each once, in order */
            next[user] = (uint32_t)held;
        }
        driver_close(&driver);
        arena_reset(&driver.arena);
    }
    print_message("%d kills, %u rounds of %d appends told\n", KILLS, told_in_all, CRASH_USERS);
}

/* ---- no room */

static void test_a_file_without_room(void **state) {
    (void)state;
    struct history history;
    static int64_t items[MOST_ITEMS];
    driver.options.map_bytes = 1 << 20;
    driver.options.limits.keep = 100000;
    must_open();
    size_t users = 0, full = 0;
    for (size_t i = 0; i < 4000 && full < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "user%zu", i);
        /* From here on several at once: those without room fail, and the others in
         * the same commit do not. */
        const struct history_result *result = driver_append(&driver, name, "", INT64_MAX - 64, 64);
        arena_reset(&driver.arena);
        assert_true(result->status == HISTORY_DONE || result->status == HISTORY_FULL);
        users += result->status == HISTORY_DONE;
        full += result->status == HISTORY_FULL;
    }
    assert_int_equal(full, 20);
    assert_true(users > 500);
    /* What was stored is there, and reads go on. */
    driver_get(&driver, "user3", 0);
    assert_int_equal(driver_items(&driver, items, MOST_ITEMS, &history), 64);
    assert_int_equal(driver.counts.breaker_open, 0);
    /* What is deleted makes room. */
    for (size_t i = 0; i < 100; i++) {
        char name[32];
        snprintf(name, sizeof name, "user%zu", i);
        assert_int_equal(driver_delete(&driver, name)->status, HISTORY_DONE);
    }
    assert_int_equal(driver_append(&driver, "late", "", 1, 64)->status, HISTORY_DONE);
    /* One without room fails, and the others in the same commit do not. */
    uint64_t stored_before = driver.counts.appends[HISTORY_DONE], full_before = driver.counts.appends[HISTORY_FULL];
    for (int64_t i = 0; i < 9; i++) {
        char name[32];
        snprintf(name, sizeof name, "beside%d", (int)i);
        driver_start_append(&driver, name, "", INT64_MAX - 60000, i == 4 ? 60000 : 10);
    }
    driver_wait(&driver);
    assert_int_equal(driver.counts.appends[HISTORY_DONE] - stored_before, 8);
    assert_int_equal(driver.counts.appends[HISTORY_FULL] - full_before, 1);
    /* A larger map holds more, from the next start on. */
    driver_close(&driver);
    driver.options.map_bytes = 1 << 22;
    must_open();
    assert_int_equal(driver_get(&driver, "user200", 0)->status, HISTORY_DONE);
    assert_non_null(driver.result.record);
    for (int64_t i = 0; i < 300; i++) {
        char name[32];
        snprintf(name, sizeof name, "more%d", (int)i);
        assert_int_equal(driver_append(&driver, name, "", INT64_MAX - 64, 64)->status, HISTORY_DONE);
    }
}

/* ---- other processes, other records */

static void test_two_processes_on_one_file(void **state) {
    (void)state;
    must_open();
    pid_t child = fork();
    if (child == 0) {
        struct driver other;
        driver_begin(&other);
        other.options.where = where;
        bool opened = driver_open(&other);
        _exit(!opened && strstr(other.error, "another process") != NULL ? 0 : 1);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    driver_close(&driver);
    must_open();
}

struct record_of {
    const char *user;
    struct proto_string record;
    size_t given, seen;
};

static bool give_one(void *context, struct proto_string *user, struct proto_string *record) {
    struct record_of *one = context;
    *user = driver_text(one->user);
    *record = one->record;
    return one->given++ == 0;
}

static bool see_one(void *context, struct proto_string user, struct proto_string record) {
    struct record_of *one = context;
    one->seen += proto_string_is(&user, one->user, strlen(one->user)) &&
                 proto_string_is(&record, one->record.data, one->record.length);
    return true;
}

/* Of another encoding, and damaged: neither read as an empty history nor
 * written over. */
static void test_records_that_cannot_be_read(void **state) {
    (void)state;
    static const char other_encoding[] = "\x09\1\2\3\4\5\6\7\x08\x11\1\0\0\0\0\0\0\0\x18\2", damaged[] = "rubbish";
    struct record_of records[] = {{"other", {other_encoding, sizeof other_encoding - 1}, 0, 0},
                                  {"damaged", {damaged, sizeof damaged - 1}, 0, 0}};
    struct history history;
    must_open();
    for (size_t i = 0; i < 2; i++) {
        assert_true(history_store_import(driver.store, give_one, &records[i], driver.error, sizeof driver.error));
        assert_int_equal(driver_append(&driver, records[i].user, "", 1, 1)->status, HISTORY_BAD_RECORD);
        if (driver_get(&driver, records[i].user, 0)->status == HISTORY_DONE) {
            assert_non_null(driver.result.record);
            assert_false(history_record_read((struct proto_string){driver.result.record, driver.result.size},
                                             &driver.arena, &history));
        }
        assert_true(history_store_export(driver.store, see_one, &records[i], driver.error, sizeof driver.error));
        assert_int_equal(records[i].seen, 1);
    }
    /* One in a commit with others harms none of them. */
    driver_start_append(&driver, "good", "", 1, 1);
    driver_start_append(&driver, "other", "", 1, 1);
    driver_start_append(&driver, "good", "", 2, 1);
    driver_wait(&driver);
    assert_int_equal(driver.counts.applied, 2);
}

static bool count_users(void *context, struct proto_string user, struct proto_string record) {
    (void)user;
    (void)record;
    ++*(size_t *)context;
    return true;
}

static void test_prefixes_part_services(void **state) {
    (void)state;
    static const char *const prefixes[] = {"a:", "b:", ""};
    for (size_t i = 0; i < 2; i++) {
        driver.options.prefix = prefixes[i];
        must_open();
        assert_int_equal(driver_get(&driver, "u", 0)->revision, 0);
        driver_append(&driver, "u", "", (int64_t)i, 1);
        driver_append(&driver, "v", "", (int64_t)i, 1);
        driver_close(&driver);
    }
    for (size_t i = 0; i < 3; i++) {
        size_t users = 0;
        driver.options.prefix = prefixes[i];
        must_open();
        assert_true(history_store_export(driver.store, count_users, &users, driver.error, sizeof driver.error));
        assert_int_equal(users, i < 2 ? 2 : 4);
        driver_close(&driver);
    }
    char longest[600] = "";
    memset(longest, 'p', HISTORY_PREFIX_MOST + 1);
    driver.options.prefix = longest;
    assert_false(driver_open(&driver));
    assert_non_null(strstr(driver.error, "prefix"));
    longest[HISTORY_PREFIX_MOST] = '\0';
    must_open();
    driver_close(&driver);
    driver.options.prefix = "";
    must_open();
    memset(longest, 0, sizeof longest);
    memset(longest, 'x', 512);
    assert_int_equal(driver_append(&driver, longest, "", 1, 1)->status, HISTORY_DOWN);
    longest[511] = '\0';
    assert_int_equal(driver_append(&driver, longest, "", 1, 1)->status, HISTORY_DONE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_against_plain_arrays, prepare, clean),
        cmocka_unit_test_setup_teardown(test_against_plain_arrays_synced_later, prepare, clean),
        cmocka_unit_test_setup_teardown(test_changes_share_a_sync, prepare, clean),
        cmocka_unit_test_setup_teardown(test_syncs_of_an_interval, prepare, clean),
        cmocka_unit_test_setup_teardown(test_kill_in_the_middle_of_appends, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_file_without_room, prepare, clean),
        cmocka_unit_test_setup_teardown(test_two_processes_on_one_file, prepare, clean),
        cmocka_unit_test_setup_teardown(test_records_that_cannot_be_read, prepare, clean),
        cmocka_unit_test_setup_teardown(test_prefixes_part_services, prepare, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
