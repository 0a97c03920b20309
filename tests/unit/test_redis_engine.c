/* test_redis_engine.c: histories in a real redis-server, which each test starts on a unix socket of its own: against
 * plain arrays, with two servers at once, and with a Redis that is away, silent, full, or another than expected. */
#include "server/base/clock.h"
#include "server/histories/redis_address.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/unit/history_model.h"

enum { HANG_SECONDS = 120, NODES = 3, ARGUMENTS_MOST = 24 };

static char directory[64], path[96], where[128];
static pid_t server;
static struct driver driver;

static void sleep_milliseconds(long milliseconds) {
    nanosleep(&(struct timespec){.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000}, NULL);
}

/* ---- redis-server */

static redisContext *reach(const char *host, int port) {
    for (int i = 0; i < 2000; i++) {
        redisContext *redis = port == 0 ? redisConnectUnix(host) : redisConnect(host, port);
        redisReply *reply = redis != NULL && redis->err == 0 ? redisCommand(redis, "PING") : NULL;
        bool up = reply != NULL && (reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "NOAUTH", 6) == 0);
        freeReplyObject(reply);
        if (up)
            return redis;
        redisFree(redis);
        sleep_milliseconds(10);
    }
    fail_msg("redis-server does not start");
    return NULL;
}

/* Options end with NULL. */
static pid_t launch(const char *const *options) {
    pid_t child = fork();
    if (child == 0) {
        const char *arguments[ARGUMENTS_MOST + 16] = {"redis-server", "--save", "",       "--daemonize",
                                                      "no",           "--dir",  directory};
        size_t count = 7;
        for (size_t i = 0; options[i] != NULL; i++)
            arguments[count++] = options[i];
        int null = open("/dev/null", O_WRONLY);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* no test that fails leaves it behind */
        union {
            const char **borrowed;
            char *const *words;
        } cast = {arguments};
        execvp("redis-server", cast.words);
        _exit(127);
    }
    return child;
}

static void start_server(const char *name, const char *value) {
    const char *const options[] = {"--port", "0", "--unixsocket", path, name, value, NULL};
    server = launch(options);
    redisFree(reach(path, 0));
}

static void stop_server(void) {
    if (server > 0) {
        kill(server, SIGKILL);
        waitpid(server, NULL, 0);
    }
    server = 0;
}

/* One command; the reply's number, or the length of its text. */
static long long say(const char *format, ...) {
    va_list arguments;
    redisContext *redis = redisConnectUnix(path);
    va_start(arguments, format);
    redisReply *reply = redisvCommand(redis, format, arguments);
    va_end(arguments);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s", reply->str);
    long long answer = reply->type == REDIS_REPLY_INTEGER ? reply->integer : (long long)reply->len;
    freeReplyObject(reply);
    redisFree(redis);
    return answer;
}

static int prepare(void **state) {
    (void)state;
    alarm(HANG_SECONDS);
    snprintf(directory, sizeof directory, "/tmp/histories-XXXXXX");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/redis.sock", directory);
    snprintf(where, sizeof where, "unix:%s", path);
    driver_begin(&driver);
    driver.options.where = where;
    server = 0;
    return 0;
}

static int remove_entry(const char *name, const struct stat *status, int type, struct FTW *walk) {
    (void)status;
    (void)type;
    (void)walk;
    return remove(name);
}

static int clean(void **state) {
    (void)state;
    driver_end(&driver);
    stop_server();
    return nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void must_open(void) {
    if (!driver_open(&driver))
        fail_msg("%s", driver.error);
}

/* Asks until the store answers, and fails after a while. The seconds that it took. */
static double until_it_answers(struct driver *asking) {
    uint64_t began = clock_now();
    while (driver_get(asking, "anyone", 0)->status != HISTORY_DONE) {
        assert_true(clock_seconds(clock_now() - began) < 60);
        driver_turn(asking, 5);
    }
    return clock_seconds(clock_now() - began);
}

/* ---- a Redis that works */

static void test_against_plain_arrays(void **state) {
    (void)state;
    start_server("--appendonly", "no");
    driver.options.limits.keep = PLAIN_KEEP;
    must_open();
    against_plain_arrays(&driver);
    assert_int_equal(driver.counts.conflicts, 0);
    assert_int_equal(driver.counts.breaker_opened, 0);
}

/* Two stores on one loop, whose calls reach Redis mixed: each event is applied once, by whichever came first. */
static void test_two_servers_at_once(void **state) {
    (void)state;
    enum { ROUNDS = 300 };
    static int64_t items[4 * ROUNDS];
    struct history history;
    struct driver other;
    start_server("--appendonly", "no");
    must_open();
    driver_begin(&other);
    loop_free(other.loop);
    other.loop = driver.loop;
    other.options.where = where;
    assert_true(driver_open(&other));
    for (int64_t round = 0; round < ROUNDS; round++) {
        char shared[16];
        snprintf(shared, sizeof shared, "shared%d", (int)round);
        driver_start_append(&driver, "u", shared, round, 1);
        driver_start_append(&other, "u", shared, round, 1);
        driver_start_append(&driver, "u", "", 1000000 + 2 * round, 1);
        driver_start_append(&other, "u", "", 1000000 + 2 * round + 1, 1);
        driver_wait(&driver);
        driver_wait(&other);
        assert_int_equal(driver.result.status, HISTORY_DONE);
        assert_int_equal(other.result.status, HISTORY_DONE);
        arena_reset(&driver.arena);
        arena_reset(&other.arena);
    }
    assert_int_equal(driver.counts.applied + other.counts.applied, 3 * ROUNDS);
    assert_int_equal(driver.counts.duplicates + other.counts.duplicates, ROUNDS);
    assert_true(driver.counts.conflicts + other.counts.conflicts > 0);
    unsigned long long conflicts = driver.counts.conflicts + other.counts.conflicts;
    print_message("%llu conflicts in %d appends\n", conflicts, 4 * ROUNDS);
    static bool seen[2 * ROUNDS];
    driver_get(&other, "u", 0);
    assert_int_equal(driver_items(&other, items, sizeof items / sizeof items[0], &history), 3 * ROUNDS);
    assert_int_equal(history.count, 3 * ROUNDS);
    for (size_t i = 0; i < 3 * (size_t)ROUNDS; i++)
        if (items[i] >= 1000000) {
            assert_false(seen[items[i] - 1000000]);
            seen[items[i] - 1000000] = true;
        }
    /* A deletion and an append at once: afterwards there is nothing, or the append alone if it came second as a whole.
     */
    size_t gone = 0;
    for (int64_t round = 0; round < ROUNDS; round++) {
        driver_append(&driver, "d", "", 1, 5);
        driver_start_append(&driver, "d", "", 100, 1);
        other.waiting++;
        history_store_delete(other.store, driver_text("d"), driver_done, &other);
        driver_wait(&driver);
        driver_wait(&other);
        assert_int_equal(driver.result.changes[0].outcome, HISTORY_APPLIED);
        assert_true(other.result.existed);
        const struct history_result *result = driver_get(&driver, "d", 0);
        gone += result->record == NULL;
        if (result->record != NULL) {
            assert_int_equal(driver_items(&driver, items, ROUNDS, &history), 1);
            assert_int_equal(history.count, 1);
            driver_delete(&driver, "d");
        }
        arena_reset(&driver.arena);
    }
    print_message("an append did not bring the user back in %zu of %d rounds\n", gone, ROUNDS);
    assert_true(gone > ROUNDS / 20);
    driver_close(&other);
    free(other.result.record);
    arena_free(&other.arena);
}

static void test_time_to_live_and_scripts_that_are_forgotten(void **state) {
    (void)state;
    start_server("--appendonly", "no");
    driver.options.ttl = 1000;
    driver.options.prefix = "dien:";
    must_open();
    driver_append(&driver, "u", "", 1, 1);
    long long left = say("PTTL dien:u");
    assert_true(left > 900000 && left <= 1000000);
    say("SCRIPT FLUSH");
    say("PEXPIRE dien:u 5000");
    assert_int_equal(driver_append(&driver, "u", "", 2, 1)->status, HISTORY_DONE);
    assert_true(say("PTTL dien:u") > 900000);
    assert_int_equal(driver.result.changes[0].count, 2);
    say("PEXPIRE dien:u 1");
    while (say("EXISTS dien:u") != 0)
        sleep_milliseconds(1);
    assert_int_equal(driver_get(&driver, "u", 0)->revision, 0);
    driver_close(&driver);
    driver.options.ttl = 0;
    must_open();
    driver_append(&driver, "u", "", 1, 1);
    assert_int_equal(say("PTTL dien:u"), -1);
}

static void test_records_that_cannot_be_read(void **state) {
    (void)state;
    struct history history;
    start_server("--appendonly", "no");
    must_open();
    say("SET other %b", "\x09\1\2\3\4\5\6\7\x08\x11\1\0\0\0\0\0\0\0\x18\2", (size_t)20);
    say("SET damaged rubbish");
    say("HSET hash a b");
    static const char *const users[] = {"other", "damaged", "hash"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(driver_append(&driver, users[i], "", 1, 1)->status, HISTORY_BAD_RECORD);
        const struct history_result *result = driver_get(&driver, users[i], 0);
        if (result->status == HISTORY_DONE)
            assert_false(
                history_record_read((struct proto_string){result->record, result->size}, &driver.arena, &history));
        else
            assert_int_equal(result->status, HISTORY_BAD_RECORD);
    }
    assert_int_equal(say("STRLEN other"), 20);
    assert_int_equal(driver.counts.breaker_opened, 0);
}

static void test_a_full_redis(void **state) {
    (void)state;
    start_server("--maxmemory", "3mb");
    must_open();
    size_t stored = 0, full = 0;
    for (size_t i = 0; i < 20000 && full < 3; i++) {
        char name[32];
        snprintf(name, sizeof name, "user%zu", i);
        const struct history_result *result = driver_append(&driver, name, "", INT64_MAX - 100, 100);
        assert_true(result->status == HISTORY_DONE || result->status == HISTORY_FULL);
        stored += result->status == HISTORY_DONE;
        full += result->status == HISTORY_FULL;
        arena_reset(&driver.arena);
    }
    assert_int_equal(full, 3);
    assert_true(stored > 100);
    assert_non_null(driver_get(&driver, "user5", 0)->record);
}

/* ---- what may happen between a change's read and its write: CLIENT PAUSE lets reads pass, and holds writes up */

static void pause_after_read(int64_t item, int milliseconds) {
    say("CLIENT PAUSE 60000 WRITE");
    driver_start_append(&driver, "u", "", item, 1);
    driver_turn(&driver, milliseconds);
    assert_int_equal(driver.waiting, 1);
}

/* The change begins anew, since a record that Redis itself forgot was not deleted by anybody. */
static void test_a_record_expires_under_a_change(void **state) {
    (void)state;
    static int64_t items[8];
    struct history history;
    start_server("--appendonly", "no");
    must_open();
    driver_append(&driver, "u", "", 1, 5);
    say("PEXPIRE u 400");
    pause_after_read(100, 600);
    say("CLIENT UNPAUSE");
    assert_int_equal(driver_wait(&driver)->status, HISTORY_DONE);
    assert_int_equal(driver.result.changes[0].count, 1);
    assert_int_equal(driver.counts.conflicts, 1);
    driver_get(&driver, "u", 0);
    assert_int_equal(driver_items(&driver, items, 8, &history), 1);
    assert_int_equal(items[0], 100);
}

/* The change counts as made before the deletion. A new one begins a new history. */
static void test_a_deletion_under_a_change(void **state) {
    (void)state;
    static int64_t items[8];
    struct history history;
    struct driver other;
    start_server("--appendonly", "no");
    must_open();
    driver_begin(&other);
    loop_free(other.loop);
    other.loop = driver.loop;
    other.options.where = where;
    assert_true(driver_open(&other));
    driver_append(&driver, "u", "", 1, 5);
    driver_get(&other, "u", 0);
    say("CLIENT PAUSE 60000 WRITE");
    other.waiting++;
    history_store_delete(other.store, driver_text("u"), driver_done, &other);
    driver_turn(&driver, 100);
    pause_after_read(100, 100);
    say("CLIENT UNPAUSE");
    assert_int_equal(driver_wait(&driver)->status, HISTORY_DONE);
    driver_wait(&other);
    assert_true(other.result.existed);
    assert_int_equal(driver.counts.conflicts, 0);
    uint64_t revision = driver_get(&driver, "u", 0)->revision;
    assert_int_equal(revision, 0);
    assert_null(driver.result.record);
    assert_int_equal(driver_get(&driver, "u", 77)->revision, 0);
    assert_false(driver_delete(&driver, "u")->existed);
    long long left = say("PTTL u"); /* of the tombstone */
    assert_true(left > 30000 && left <= 60000);
    assert_int_equal(driver_append(&driver, "u", "", 7, 1)->changes[0].count, 1);
    driver_get(&driver, "u", 0);
    assert_int_equal(driver_items(&driver, items, 8, &history), 1);
    assert_int_equal(say("PTTL u"), -1);
    driver_close(&other);
    free(other.result.record);
    arena_free(&other.arena);
}

/* A deletion works where memory is out, and of what is no string. */
static void test_deletions_need_no_room(void **state) {
    (void)state;
    start_server("--appendonly", "no");
    must_open();
    driver_append(&driver, "u", "", 1, 5);
    say("HSET h a b");
    say("CONFIG SET maxmemory 1");
    assert_int_equal(driver_append(&driver, "u", "", 1, 5)->status, HISTORY_FULL);
    assert_true(driver_delete(&driver, "u")->existed);
    assert_true(driver_delete(&driver, "h")->existed);
    assert_int_equal(driver_get(&driver, "u", 0)->revision, 0);
    assert_false(driver_delete(&driver, "u")->existed);
}

/* Redis quotes arguments in some errors, and a key is a user's id. */
static void test_errors_quote_nobody(void **state) {
    (void)state;
    const char *const options[] = {"--port", "0", "--unixsocket", path, "--rename-command", "GET", "", NULL};
    server = launch(options);
    redisFree(reach(path, 0));
    must_open();
    assert_int_equal(driver_get(&driver, "ann-of-the-log", 0)->status, HISTORY_DOWN);
    assert_string_equal(driver.result.detail, "Redis: ERR");
}

/* The address leads to another server after a failover. */
static void test_a_server_that_becomes_a_replica(void **state) {
    (void)state;
    char old[96];
    start_server("--appendonly", "no");
    must_open();
    driver_append(&driver, "u", "", 1, 1);
    snprintf(old, sizeof old, "%s/old.sock", directory);
    assert_int_equal(rename(path, old), 0);
    pid_t first = server;
    start_server("--appendonly", "no");
    redisContext *redis = redisConnectUnix(old);
    freeReplyObject(redisCommand(redis, "REPLICAOF 127.0.0.1 1"));
    redisFree(redis);
    assert_int_equal(driver_append(&driver, "u", "", 1, 1)->status, HISTORY_DOWN);
    assert_false(driver.result.uncertain);
    assert_string_equal(driver.result.detail, "Redis is a replica now.");
    uint64_t began = clock_now();
    while (driver_append(&driver, "u", "", 2, 1)->status != HISTORY_DONE) {
        assert_true(clock_seconds(clock_now() - began) < 20);
        driver_turn(&driver, 5);
    }
    assert_int_equal(driver.result.changes[0].count, 1);
    kill(first, SIGKILL);
    waitpid(first, NULL, 0);
}

/* ---- one that does not */

static void test_nobody_is_there(void **state) {
    (void)state;
    static const char *const places[] = {NULL, "redis://127.0.0.1:1", "redis://[::1]:1",
                                         "redis://no-such-host.invalid:6379"};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        driver.options.where = places[i] != NULL ? places[i] : where;
        must_open();
        uint64_t began = clock_now();
        for (int j = 0; j < 8; j++) {
            assert_int_equal(driver_append(&driver, "u", "", 1, 1)->status, HISTORY_DOWN);
            assert_false(driver.result.uncertain);
        }
        assert_int_equal(driver.counts.breaker_open, 1);
        if (i < 3) /* a refusal is seen as such, and not as a silence of a second */
            assert_true(clock_seconds(clock_now() - began) < 0.9);
        driver_close(&driver);
    }
    /* It comes later. */
    driver.options.where = where;
    must_open();
    driver_get(&driver, "u", 0);
    start_server("--appendonly", "no");
    assert_true(until_it_answers(&driver) < 20);
}

static void test_killed_and_back(void **state) {
    (void)state;
    start_server("--appendonly", "no");
    must_open();
    driver_append(&driver, "u", "", 1, 1);
    stop_server();
    for (int i = 0; i < 20; i++) {
        const struct history_result *result = driver_append(&driver, "u", "", 1, 1);
        assert_int_equal(result->status, HISTORY_DOWN);
    }
    assert_int_equal(driver.counts.disconnects, 1);
    start_server("--appendonly", "no");
    double seconds = until_it_answers(&driver);
    print_message("answers %.3f s after its return\n", seconds);
    assert_true(seconds < 20); /* 2 s, on a machine that is not busy */
    assert_int_equal(driver_append(&driver, "u", "", 1, 1)->status, HISTORY_DONE);
}

static void test_silent_and_back(void **state) {
    (void)state;
    start_server("--appendonly", "no");
    driver.options.timeout = 0.05;
    must_open();
    assert_true(until_it_answers(&driver) < 20);
    driver_append(&driver, "u", "", 1, 1);
    kill(server, SIGSTOP);
    for (int i = 0; i < 30; i++) {
        uint64_t began = clock_now();
        enum history_status status =
            i % 2 == 0 ? driver_append(&driver, "u", "", 1, 1)->status : driver_get(&driver, "u", 0)->status;
        assert_true(status == HISTORY_LATE || status == HISTORY_DOWN);
        assert_true(clock_seconds(clock_now() - began) < 10);
    }
    assert_int_equal(driver.counts.breaker_open, 1);
    kill(server, SIGCONT);
    double seconds = until_it_answers(&driver);
    print_message("answers %.3f s after its return\n", seconds);
    assert_true(seconds < 20);
    /* None of the appends that were late was applied, since none had got as far as its write. */
    driver_get(&driver, "u", 0);
    static int64_t items[64];
    struct history history;
    assert_int_equal(driver_items(&driver, items, 64, &history), 1);
}

/* Silence for longer than a second ends the connection, with all that waits on it. */
static void test_a_silent_connection_is_given_up(void **state) {
    (void)state;
    start_server("--appendonly", "no");
    driver.options.timeout = 60;
    must_open();
    driver_append(&driver, "u", "", 1, 1);
    kill(server, SIGSTOP);
    uint64_t began = clock_now();
    for (int i = 0; i < 3; i++)
        driver_start_append(&driver, "u", "", 1, 1);
    driver_wait(&driver);
    assert_int_equal(driver.counts.appends[HISTORY_DOWN], 3);
    assert_true(clock_seconds(clock_now() - began) >= 1);
    kill(server, SIGCONT);
    until_it_answers(&driver);
}

/* ---- who may come in */

static void write_file(const char *name, const char *text) {
    FILE *file = fopen(name, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_passwords(void **state) {
    (void)state;
    char right[128], wrong[128], file[128], acl[160];
    start_server("--requirepass", "se cret");
    snprintf(file, sizeof file, "%s/password", directory);
    snprintf(acl, sizeof acl, "%s/acl", directory);
    write_file(file, "se cret\n");
    driver.options.password_file = file;
    must_open();
    assert_true(until_it_answers(&driver) < 20);
    driver_close(&driver);
    write_file(file, "other\n");
    must_open();
    driver.options.timeout = 5;
    assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_DOWN);
    assert_null(strstr(driver.result.detail, "other"));
    driver_close(&driver);
    driver.options.password_file = NULL; /* and without one */
    must_open();
    assert_int_equal(driver_append(&driver, "u", "", 1, 1)->status, HISTORY_DOWN);
    driver_close(&driver);
    unlink(file);
    driver.options.password_file = file;
    assert_false(driver_open(&driver));
    assert_non_null(strstr(driver.error, file));
    stop_server();

    /* By the address, with a user and another database, over TCP. */
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    getsockname(listening, (struct sockaddr *)&address, &size);
    close(listening);
    char port[16];
    snprintf(port, sizeof port, "%d", ntohs(address.sin_port));
    write_file(acl, "user default off\nuser ann on >p@ss ~* +@all\n");
    const char *const options[] = {"--port", port, "--bind", "127.0.0.1", "--aclfile", acl, NULL};
    server = launch(options);
    redisFree(reach("127.0.0.1", ntohs(address.sin_port)));
    driver.options.password_file = NULL;
    snprintf(right, sizeof right, "redis://ann:p%%40ss@localhost:%s/3", port);
    driver.options.where = right;
    must_open();
    assert_true(until_it_answers(&driver) < 20);
    assert_int_equal(driver_append(&driver, "u", "", 1, 1)->status, HISTORY_DONE);
    driver_close(&driver);
    snprintf(wrong, sizeof wrong, "redis://ann:p@ss@127.0.0.1:%s", port); /* another database has no such user */
    driver.options.where = wrong;
    must_open();
    until_it_answers(&driver);
    assert_int_equal(driver_get(&driver, "u", 0)->revision, 0);
    driver_close(&driver);
}

static void test_addresses(void **state) {
    (void)state;
    static const struct {
        const char *text, *host, *user, *password;
        int port, database;
    } good[] = {
        {"unix:/run/redis.sock", "/run/redis.sock", "", "", 0, 0},
        {"redis://cache:6379", "cache", "", "", 6379, 0},
        {"redis://cache:6379/", "cache", "", "", 6379, 0},
        {"redis://[::1]:1/15", "::1", "", "", 1, 15},
        {"redis://:secret@10.0.0.1:65535/2", "10.0.0.1", "", "secret", 65535, 2},
        {"redis://ann:a%40%3a%2F%25b@h:1", "h", "ann", "a@:/%b", 1, 0},
    };
    static const char *const bad[] = {
        "redis://",           "redis://h",           "redis://:1",     "redis://h:0",        "redis://h:65536",
        "redis://h:1x",       "redis://h:1/x",       "redis://h:1/-1", "redis://secret@h:1", "redis://ann:%zz@h:1",
        "redis://ann:%4@h:1", "redis://ann:%00@h:1", "unix:",          "rediss://h:1"};
    struct redis_address address;
    char error[256];
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(redis_address_read(good[i].text, NULL, &address, error, sizeof error));
        assert_string_equal(address.host, good[i].host);
        assert_string_equal(address.user, good[i].user);
        assert_string_equal(address.password, good[i].password);
        assert_int_equal(address.port, good[i].port);
        assert_int_equal(address.database, good[i].database);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (redis_address_read(bad[i], NULL, &address, error, sizeof error))
            fail_msg("%s was taken", bad[i]);
        assert_null(strstr(error, "secret"));
    }
}

/* ---- export and import */

struct heap {
    char *users[64], *records[64];
    size_t lengths[64], count, given;
};

static bool collect(void *context, struct proto_string user, struct proto_string record) {
    struct heap *heap = context;
    heap->users[heap->count] = strndup(user.data, user.length);
    heap->records[heap->count] = malloc(record.length);
    memcpy(heap->records[heap->count], record.data, record.length);
    heap->lengths[heap->count++] = record.length;
    return true;
}

static bool give(void *context, struct proto_string *user, struct proto_string *record) {
    struct heap *heap = context;
    if (heap->given == heap->count)
        return false;
    *user = driver_text(heap->users[heap->given]);
    *record = (struct proto_string){heap->records[heap->given], heap->lengths[heap->given]};
    heap->given++;
    return true;
}

static void forget(struct heap *heap) {
    for (size_t i = 0; i < heap->count; i++) {
        free(heap->users[i]);
        free(heap->records[i]);
    }
}

static void test_export_to_lmdb_and_back(void **state) {
    (void)state;
    static struct heap heap;
    static int64_t items[64];
    struct history history;
    char file[128];
    start_server("--appendonly", "no");
    driver.options.prefix = "a*[";
    must_open();
    for (int i = 0; i < 50; i++) {
        char name[16];
        snprintf(name, sizeof name, "user%d", i);
        driver_append(&driver, name, "", i, 2);
    }
    say("SET abc[other x"); /* which the prefix as a pattern would find */
    assert_true(history_store_export(driver.store, collect, &heap, driver.error, sizeof driver.error));
    assert_int_equal(heap.count, 50);
    driver_close(&driver);
    snprintf(file, sizeof file, "lmdb:%s/users", directory);
    driver.options.where = file;
    must_open();
    assert_true(history_store_import(driver.store, give, &heap, driver.error, sizeof driver.error));
    driver_get(&driver, "user7", 0);
    assert_int_equal(driver_items(&driver, items, 64, &history), 2);
    assert_int_equal(items[1], 8);
    driver_close(&driver);
    say("FLUSHALL");
    driver.options.where = where;
    heap.given = 0;
    must_open();
    assert_true(history_store_import(driver.store, give, &heap, driver.error, sizeof driver.error));
    driver_get(&driver, "user9", 0);
    assert_int_equal(driver_items(&driver, items, 64, &history), 2);
    assert_int_equal(say("DBSIZE"), 50);
    driver_delete(&driver, "user9"); /* its tombstone is no history */
    assert_int_equal(say("DBSIZE"), 50);
    forget(&heap);
    heap.count = 0;
    assert_true(history_store_export(driver.store, collect, &heap, driver.error, sizeof driver.error));
    assert_int_equal(heap.count, 49);
    forget(&heap);
}

/* ---- a Redis that is made up: every other GET is moved to a node that is not there */

static void answer_strangely(int listening, int real_port) {
    int port = 1, calls = 0, client = accept(listening, NULL, NULL);
    char text[65536], reply[64];
    ssize_t size;
    while ((size = read(client, text, sizeof text - 1)) > 0) {
        text[size] = '\0';
        for (const char *at = text; (at = strchr(at, '*')) != NULL; at++) { /* the script has none */
            const char *load = strstr(at, "SCRIPT"), *next = strchr(at + 1, '*');
            if (load != NULL && (next == NULL || load < next))
                snprintf(reply, sizeof reply, "$3\r\nsha\r\n");
            else if (++calls % 2 == 0)
                snprintf(reply, sizeof reply, "$-1\r\n");
            else
                snprintf(reply, sizeof reply, "-MOVED %u 127.0.0.1:%d\r\n", redis_slot(driver_text("u")),
                         port <= 300 ? port++ : real_port);
            (void)!write(client, reply, strlen(reply));
        }
    }
    _exit(0);
}

static int listen_somewhere(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, size), 0);
    getsockname(listening, (struct sockaddr *)&address, &size);
    *port = ntohs(address.sin_port);
    return listening;
}

static void test_nodes_that_are_gone_make_room(void **state) {
    (void)state;
    char port_text[16];
    int real_port, port, closed = listen_somewhere(&real_port);
    close(closed);
    snprintf(port_text, sizeof port_text, "%d", real_port);
    const char *const options[] = {"--port", port_text, "--bind", "127.0.0.1", NULL};
    server = launch(options);
    redisFree(reach("127.0.0.1", real_port));
    int listening = listen_somewhere(&port);
    assert_int_equal(listen(listening, 8), 0);
    pid_t child = fork();
    if (child == 0)
        answer_strangely(listening, real_port);
    close(listening);
    snprintf(where, sizeof where, "redis://127.0.0.1:%d", port);
    must_open();
    for (int i = 0; i < 300; i++) {
        driver_get(&driver, "u", 0);
        driver_turn(&driver, 2);
        assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_DONE);
    }
    driver_turn(&driver, 500);
    const struct history_result *result = driver_get(&driver, "u", 0); /* there is room for the last */
    if (result->status != HISTORY_DONE)
        fail_msg("%s", result->detail);
    assert_int_equal(driver.counts.connects, 2);
    driver_close(&driver);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

/* ---- a cluster */

static void test_slots(void **state) {
    (void)state;
    /* CRC16 of "123456789" is 0x31c3, as the cluster's specification says. */
    assert_int_equal(redis_slot(driver_text("123456789")), 0x31c3 % REDIS_SLOTS);
    assert_int_equal(redis_slot(driver_text("{user1000}.following")), redis_slot(driver_text("user1000")));
    assert_int_equal(redis_slot(driver_text("foo{}{bar}")), 8363); /* of all of it, since the first braces are empty */
    assert_int_equal(redis_slot(driver_text("foo{{bar}}zap")), redis_slot(driver_text("{bar")));
    assert_int_equal(redis_slot(driver_text("foo{bar}{zap}")), redis_slot(driver_text("bar")));
}

static pid_t node_processes[NODES];
static int node_ports[NODES], node_buses[NODES];
static char node_ids[NODES][48];

static long long tell(int node, char *text, size_t size, const char *format, ...) {
    va_list arguments;
    redisContext *redis = reach("127.0.0.1", node_ports[node]);
    va_start(arguments, format);
    redisReply *reply = redisvCommand(redis, format, arguments);
    va_end(arguments);
    assert_non_null(reply);
    if (reply->type == REDIS_REPLY_ERROR)
        fail_msg("%s", reply->str);
    if (text != NULL)
        snprintf(text, size, "%s", reply->str);
    long long integer = reply->integer;
    freeReplyObject(reply);
    redisFree(redis);
    return integer;
}

/* On a busy machine a handshake may take too long, and is then forgotten. */
static void wait_for_cluster(void) {
    for (int node = 0; node < NODES; node++) {
        char info[4096] = "";
        for (int i = 0; strstr(info, "cluster_state:ok") == NULL || strstr(info, "cluster_known_nodes:3") == NULL;
             i++) {
            for (int other = 1; i % 100 == 0 && other < NODES; other++)
                tell(other, NULL, 0, "CLUSTER MEET 127.0.0.1 %d %d", node_ports[0], node_buses[0]);
            sleep_milliseconds(20);
            tell(node, info, sizeof info, "CLUSTER INFO");
        }
    }
}

static void start_cluster(void) {
    for (int node = 0; node < NODES; node++) {
        char port[16], bus[16], config[32];
        int sockets[2];
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;
        int numbers[2];
        for (int i = 0; i < 2; i++) {
            address.sin_port = 0;
            sockets[i] = socket(AF_INET, SOCK_STREAM, 0);
            assert_int_equal(bind(sockets[i], (struct sockaddr *)&address, sizeof address), 0);
            getsockname(sockets[i], (struct sockaddr *)&address, &size);
            numbers[i] = ntohs(address.sin_port);
        }
        close(sockets[0]);
        close(sockets[1]);
        node_ports[node] = numbers[0];
        node_buses[node] = numbers[1];
        snprintf(port, sizeof port, "%d", numbers[0]);
        snprintf(bus, sizeof bus, "%d", numbers[1]);
        snprintf(config, sizeof config, "nodes-%d.conf", node);
        const char *const options[] = {"--port",
                                       port,
                                       "--bind",
                                       "127.0.0.1",
                                       "--cluster-enabled",
                                       "yes",
                                       "--cluster-port",
                                       bus,
                                       "--cluster-config-file",
                                       config,
                                       "--cluster-node-timeout",
                                       "2000",
                                       NULL};
        node_processes[node] = launch(options);
        tell(node, node_ids[node], sizeof node_ids[node], "CLUSTER MYID");
        tell(node, NULL, 0, "CLUSTER ADDSLOTSRANGE %d %d", node * 5461, node == NODES - 1 ? 16383 : node * 5461 + 5460);
    }
}

static void test_a_cluster(void **state) {
    (void)state;
    enum { USERS = 60 };
    static int64_t items[64];
    struct history history;
    char place[64];
    for (int node = 0; node < NODES; node++)
        node_processes[node] = 0;
    start_cluster();
    wait_for_cluster();
    snprintf(place, sizeof place, "redis://127.0.0.1:%d", node_ports[0]);
    driver.options.where = place;
    must_open();
    for (int64_t round = 0; round < 3; round++) {
        for (int i = 0; i < USERS; i++) {
            char name[16];
            snprintf(name, sizeof name, "user%d", i);
            const struct history_result *result = driver_append(&driver, name, "", round, 1);
            if (result->status != HISTORY_DONE)
                fail_msg("%s: %s", name, result->detail);
        }
    }
    assert_int_equal(driver.counts.connects, NODES);
    long long keys = 0;
    for (int node = 0; node < NODES; node++) {
        long long here = tell(node, NULL, 0, "DBSIZE");
        assert_true(here > 0);
        keys += here;
    }
    assert_int_equal(keys, USERS);
    static struct heap heap;
    assert_true(history_store_export(driver.store, collect, &heap, driver.error, sizeof driver.error));
    assert_int_equal(heap.count, USERS); /* of every node */
    for (int node = 0; node < NODES; node++)
        tell(node, NULL, 0, "FLUSHALL");
    assert_true(history_store_import(driver.store, give, &heap, driver.error, sizeof driver.error));
    keys = 0;
    for (int node = 0; node < NODES; node++)
        keys += tell(node, NULL, 0, "DBSIZE");
    assert_int_equal(keys, USERS);
    forget(&heap);

    /* A slot on its way to another node: the old one answers ASK for what it no longer has. */
    unsigned slot = redis_slot(driver_text("user3"));
    int from = (int)(slot / 5461) < NODES ? (int)(slot / 5461) : NODES - 1, to = (from + 1) % NODES;
    tell(to, NULL, 0, "CLUSTER SETSLOT %u IMPORTING %s", slot, node_ids[from]);
    tell(from, NULL, 0, "CLUSTER SETSLOT %u MIGRATING %s", slot, node_ids[to]);
    tell(from, NULL, 0, "MIGRATE 127.0.0.1 %d user3 0 5000", node_ports[to]);
    const struct history_result *result = driver_append(&driver, "user3", "", 3, 1);
    if (result->status != HISTORY_DONE)
        fail_msg("%s", result->detail);
    driver_get(&driver, "user3", 0);
    assert_int_equal(driver_items(&driver, items, 64, &history), 4);
    for (int node = 0; node < NODES; node++)
        tell(node, NULL, 0, "CLUSTER SETSLOT %u NODE %s", slot, node_ids[to]);
    assert_int_equal(driver_append(&driver, "user3", "", 4, 1)->status, HISTORY_DONE);
    assert_int_equal(driver.result.changes[0].count, 5);
    driver_close(&driver);

    /* The nodes are named by their host's name, whose address is not known at first: calls wait for it. */
    for (int node = 0; node < NODES; node++) {
        tell(node, NULL, 0, "CONFIG SET cluster-announce-hostname localhost");
        tell(node, NULL, 0, "CONFIG SET cluster-preferred-endpoint-type hostname");
    }
    for (char moved[4096] = ""; strstr(moved, "localhost") == NULL; sleep_milliseconds(20)) {
        redisContext *redis = reach("127.0.0.1", node_ports[0]);
        redisReply *reply = redisCommand(redis, "GET user%d", redis_slot(driver_text("user1")) < 5461 ? 2 : 1);
        for (int i = 3; reply->type != REDIS_REPLY_ERROR; i++) {
            freeReplyObject(reply);
            reply = redisCommand(redis, "GET user%d", i);
        }
        snprintf(moved, sizeof moved, "%s", reply->str);
        freeReplyObject(reply);
        redisFree(redis);
    }
    snprintf(place, sizeof place, "redis://localhost:%d", node_ports[0]);
    driver.counts.connects = 0;
    must_open();
    for (int i = 0; i < USERS; i++) {
        char name[16];
        snprintf(name, sizeof name, "user%d", i);
        driver_start_append(&driver, name, "", 9, 1);
    }
    driver_wait(&driver);
    assert_int_equal(driver.counts.applied, 4 * USERS + 2);
    assert_int_equal(driver.counts.connects, NODES);
    driver_close(&driver);
    for (int node = 0; node < NODES; node++) {
        kill(node_processes[node], SIGKILL);
        waitpid(node_processes[node], NULL, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_slots),
        cmocka_unit_test_setup_teardown(test_against_plain_arrays, prepare, clean),
        cmocka_unit_test_setup_teardown(test_two_servers_at_once, prepare, clean),
        cmocka_unit_test_setup_teardown(test_time_to_live_and_scripts_that_are_forgotten, prepare, clean),
        cmocka_unit_test_setup_teardown(test_records_that_cannot_be_read, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_full_redis, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_record_expires_under_a_change, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_deletion_under_a_change, prepare, clean),
        cmocka_unit_test_setup_teardown(test_deletions_need_no_room, prepare, clean),
        cmocka_unit_test_setup_teardown(test_errors_quote_nobody, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_server_that_becomes_a_replica, prepare, clean),
        cmocka_unit_test_setup_teardown(test_nodes_that_are_gone_make_room, prepare, clean),
        cmocka_unit_test_setup_teardown(test_nobody_is_there, prepare, clean),
        cmocka_unit_test_setup_teardown(test_killed_and_back, prepare, clean),
        cmocka_unit_test_setup_teardown(test_silent_and_back, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_silent_connection_is_given_up, prepare, clean),
        cmocka_unit_test_setup_teardown(test_passwords, prepare, clean),
        cmocka_unit_test_setup_teardown(test_export_to_lmdb_and_back, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_cluster, prepare, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
