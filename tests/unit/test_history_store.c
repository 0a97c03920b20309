/* test_history_store.c: every call has one result, in time, whatever the engine does; the breaker opens and closes. */
#include "server/base/clock.h"
#include "server/base/thread.h"
#include "server/histories/breaker.h"
#include "server/histories/history_engine.h"
#include "tests/unit/history_driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { HANG_SECONDS = 120, MOST = 64 };

/* ---- the breaker */

static void test_the_breaker_opens_after_failures_in_a_row(void **state) {
    (void)state;
    struct breaker breaker = {.failures = 0};
    for (unsigned i = 0; i < 3 * BREAKER_FAILURES; i++) { /* never as many in a row */
        assert_true(breaker_allows(&breaker, i));
        breaker_report(&breaker, i, i % BREAKER_FAILURES == 0);
    }
    breaker_report(&breaker, 100, true);
    for (unsigned i = 0; i < BREAKER_FAILURES; i++) {
        assert_true(breaker_allows(&breaker, 100));
        breaker_report(&breaker, 100, false);
    }
    assert_false(breaker_allows(&breaker, 100));
    assert_int_equal(breaker.opened, 1);
}

static void test_the_breaker_probes(void **state) {
    (void)state;
    struct breaker breaker = {.failures = 0};
    uint64_t now = 1000;
    for (unsigned i = 0; i < BREAKER_FAILURES; i++)
        breaker_report(&breaker, now, false);
    for (uint64_t pause = BREAKER_FIRST_PAUSE; pause < 16 * BREAKER_MOST_PAUSE; pause *= 2) {
        uint64_t held = pause < BREAKER_MOST_PAUSE ? pause : BREAKER_MOST_PAUSE;
        breaker_report(&breaker, now, false); /* of a call that was made before: no news */
        assert_false(breaker_allows(&breaker, now + held - 1));
        now += held;
        assert_true(breaker_allows(&breaker, now)); /* the probe, and no other */
        assert_false(breaker_allows(&breaker, now + 10 * BREAKER_MOST_PAUSE));
        breaker_report(&breaker, now, false);
    }
    now += BREAKER_MOST_PAUSE;
    assert_true(breaker_allows(&breaker, now));
    breaker_report(&breaker, now, true);
    assert_true(breaker_allows(&breaker, now));
    assert_true(breaker_allows(&breaker, now));
    assert_int_equal(breaker.opened, 1);
}

/* ---- an engine that does as it is told */

struct puppet {
    struct history_engine base;
    struct history_store *store;
    struct history_call *held[MOST];
    size_t held_count;
    enum history_status status;
    bool answers, from_thread; /* at once, or never; by another thread */
    bool waits;                /* a call whose time is up is being applied */
    bool uncertain;
    size_t submitted, given_up;
};

static void *post(void *argument) {
    struct puppet *puppet = argument;
    history_call_post(puppet->store, puppet->held[0]);
    return NULL;
}

static void finish(struct puppet *puppet, struct history_call *call) {
    call->result.status = puppet->status;
    if (call->action == HISTORY_GET) {
        call->result.record = strdup("record");
        call->result.size = 6;
    }
    for (size_t i = 0; i < call->change_count; i++)
        call->changes[i].outcome = (enum history_outcome)(i % 3);
    if (!puppet->from_thread) {
        history_call_finish(puppet->store, call);
        return;
    }
    pthread_t thread;
    puppet->held[0] = call;
    assert_true(thread_start(&thread, "puppet", post, puppet));
    pthread_join(thread, NULL);
}

static void puppet_submit(struct history_engine *base, struct history_call *call) {
    struct puppet *puppet = (struct puppet *)base;
    puppet->submitted++;
    if (puppet->answers)
        finish(puppet, call);
    else
        puppet->held[puppet->held_count++] = call;
}

static bool puppet_give_up(struct history_engine *base, struct history_call *call, bool *uncertain) {
    struct puppet *puppet = (struct puppet *)base;
    (void)call;
    puppet->given_up++;
    *uncertain = puppet->uncertain;
    if (puppet->waits)
        loop_stop(*(struct loop **)call->engine_data);
    return !puppet->waits;
}

static void puppet_close(struct history_engine *base) {
    struct puppet *puppet = (struct puppet *)base;
    puppet->status = HISTORY_DOWN;
    puppet->from_thread = false;
    for (size_t i = 0; i < puppet->held_count; i++)
        finish(puppet, puppet->held[i]);
}

static struct driver driver;
static struct puppet puppet;

static int prepare(void **state) {
    (void)state;
    alarm(HANG_SECONDS);
    driver_begin(&driver);
    puppet = (struct puppet){.base = {.name = "puppet",
                                      .timeout = 0.01,
                                      .submit = puppet_submit,
                                      .give_up = puppet_give_up,
                                      .close = puppet_close},
                             .answers = true};
    driver.options.timeout = 0; /* the engine's */
    driver.store = puppet.store = history_store_new(&driver.options, driver.loop);
    assert_non_null(driver.store);
    history_store_use(driver.store, &puppet.base);
    return 0;
}

static int clean(void **state) {
    (void)state;
    driver_end(&driver);
    return 0;
}

static void test_results_and_counts(void **state) {
    (void)state;
    for (int thread = 0; thread < 2; thread++) {
        puppet.from_thread = thread == 1;
        const struct history_result *result = driver_get(&driver, "u", 0);
        assert_int_equal(result->status, HISTORY_DONE);
        assert_memory_equal(result->record, "record", 6);
    }
    struct history_change changes[3] = {driver_change(&driver, "a", 1, 1), driver_change(&driver, "b", 2, 1),
                                        driver_change(&driver, "c", 3, 1)};
    driver.waiting++;
    history_store_append(driver.store, driver_text("u"), changes, 3, 0, true, driver_done, &driver);
    const struct history_result *result = driver_wait(&driver);
    assert_int_equal(result->change_count, 3);
    assert_int_equal(result->changes[1].outcome, HISTORY_DUPLICATE);
    puppet.status = HISTORY_FULL;
    driver_delete(&driver, "u");
    assert_int_equal(driver.counts.gets[HISTORY_DONE], 2);
    assert_int_equal(driver.counts.appends[HISTORY_DONE], 1);
    assert_int_equal(driver.counts.deletes[HISTORY_FULL], 1);
    assert_true(driver.counts.applied == 1 && driver.counts.duplicates == 1 && driver.counts.refused == 1);
    assert_int_equal(driver.counts.pending, 0);
}

static void test_a_call_that_hangs_is_late(void **state) {
    (void)state;
    puppet.answers = false;
    puppet.uncertain = true;
    uint64_t began = clock_now();
    for (size_t i = 0; i < 3; i++)
        driver_start_append(&driver, "u", "e", 1, 1);
    const struct history_result *result = driver_wait(&driver);
    assert_int_equal(result->status, HISTORY_LATE);
    assert_true(result->uncertain);
    assert_true(clock_seconds(clock_now() - began) >= 0.01);
    assert_int_equal(driver.counts.appends[HISTORY_LATE], 3);
    assert_int_equal(driver.counts.pending, 3); /* the engine still has them */
    assert_int_equal(puppet.given_up, 3);
    /* A result that comes afterwards is nobody's. */
    finish(&puppet, puppet.held[--puppet.held_count]);
    assert_int_equal(driver.counts.pending, 2);
    assert_int_equal(driver.counts.appends[HISTORY_DONE], 0);
}

/* A change that is being applied keeps its caller waiting: only its result tells whether it happened. */
static void test_a_change_under_way_is_waited_for(void **state) {
    (void)state;
    puppet.answers = false;
    puppet.waits = true;
    driver_start_append(&driver, "u", "e", 1, 1);
    puppet.held[0]->engine_data = &driver.loop;
    loop_run(driver.loop); /* until the time is up */
    assert_int_equal(puppet.given_up, 1);
    assert_int_equal(driver.waiting, 1);
    finish(&puppet, puppet.held[--puppet.held_count]);
    assert_int_equal(driver.waiting, 0);
    assert_int_equal(driver.result.status, HISTORY_DONE);
}

static void wait_until_allowed(void) {
    nanosleep(&(struct timespec){.tv_nsec = BREAKER_FIRST_PAUSE + 20000000}, NULL);
}

static void test_an_open_breaker_answers_at_once(void **state) {
    (void)state;
    puppet.status = HISTORY_DOWN;
    for (size_t i = 0; i < BREAKER_FAILURES; i++)
        assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_DOWN);
    size_t submitted = puppet.submitted;
    assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_DOWN);
    assert_string_equal(driver.result.detail, "The history store is down.");
    assert_int_equal(puppet.submitted, submitted);
    assert_int_equal(driver.counts.breaker_open, 1);
    assert_int_equal(driver.counts.breaker_opened, 1);
    /* A probe that hangs ends late, and the next one brings the store back. */
    wait_until_allowed();
    puppet.answers = false;
    assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_LATE);
    assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_DOWN);
    wait_until_allowed();
    wait_until_allowed();
    puppet.answers = true;
    puppet.status = HISTORY_DONE;
    assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_DONE);
    assert_int_equal(driver_get(&driver, "u", 0)->status, HISTORY_DONE);
    assert_int_equal(driver.counts.breaker_open, 0);
}

/* A store without room, and a record that cannot be read, are answers of a store that works. */
static void test_what_opens_no_breaker(void **state) {
    (void)state;
    static const enum history_status statuses[] = {HISTORY_FULL, HISTORY_BUSY, HISTORY_BAD_RECORD};
    for (size_t s = 0; s < 3; s++) {
        puppet.status = statuses[s];
        for (int i = 0; i < 2 * BREAKER_FAILURES; i++)
            assert_int_equal(driver_get(&driver, "u", 0)->status, statuses[s]);
    }
    assert_int_equal(driver.counts.breaker_open, 0);
    /* Nor does one user whom others change so often that a call's time is over. */
    puppet.answers = false;
    for (size_t i = 0; i < (size_t)2 * BREAKER_FAILURES; i++) {
        driver_start_append(&driver, "u", "e", 1, 1);
        puppet.held[i]->conflicts = 1;
        assert_int_equal(driver_wait(&driver)->status, HISTORY_BUSY);
    }
    assert_int_equal(driver.counts.breaker_open, 0);
}

static void test_closing_answers_every_call(void **state) {
    (void)state;
    puppet.answers = false;
    for (size_t i = 0; i < 10; i++)
        driver_start_append(&driver, "u", "e", 1, 1);
    driver_close(&driver);
    assert_int_equal(driver.waiting, 0);
    assert_int_equal(driver.counts.appends[HISTORY_DOWN], 10);
}

static void test_addresses(void **state) {
    (void)state;
    static const char *const bad[] = {"", "lmdb", "memcached:x", "lmdb:/nowhere/at/all", "/tmp/x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct driver other;
        driver_begin(&other);
        other.options.where = bad[i];
        assert_false(driver_open(&other));
        assert_true(strlen(other.error) > 10);
        driver_end(&other);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_breaker_opens_after_failures_in_a_row),
        cmocka_unit_test(test_the_breaker_probes),
        cmocka_unit_test_setup_teardown(test_results_and_counts, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_call_that_hangs_is_late, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_change_under_way_is_waited_for, prepare, clean),
        cmocka_unit_test_setup_teardown(test_an_open_breaker_answers_at_once, prepare, clean),
        cmocka_unit_test_setup_teardown(test_what_opens_no_breaker, prepare, clean),
        cmocka_unit_test_setup_teardown(test_closing_answers_every_call, prepare, clean),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
