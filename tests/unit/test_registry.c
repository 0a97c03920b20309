/* test_registry.c: models load on a thread of their own, take their slots, and are closed when nobody uses them. */
#include "server/models/registry.h"

#include "proto/json_decode.h"
#include "server/base/clock.h"
#include "tests/unit/small_model.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#define SAMPLE                                                                                                         \
    "{'user': {'country': 1, 'age': 0.5}, 'context': {'month': -7, 'weather': [1, 0.5, -1]}, 'history': {},"           \
    " 'candidates': {'item': ['i1'], 'price': [1], 'position': [[1, 2]]}, 'scores': [0.5]}"

static char directories[3][64];
static sem_t woken;
static pthread_t waker;
static bool signals_blocked;
static struct registry *registry;

static void wake(void *context) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    signals_blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1;
    waker = pthread_self();
    sem_post(context);
}

/* Three models of different digests. */
static int make_models(void **state) {
    (void)state;
    json_decode_init();
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        small_make(directories[i]);
        small_write_samples(directories[i], "{'samples': [" SAMPLE "]}");
        snprintf(path, sizeof path, "%s/config.json", directories[i]);
        FILE *config = fopen(path, "a");
        if (config == NULL || fprintf(config, "%*s", (int)i, "") < 0 || fclose(config) != 0)
            return -1;
    }
    return 0;
}

static int remove_models(void **state) {
    (void)state;
    for (size_t i = 0; i < 3; i++)
        small_remove(directories[i]);
    return 0;
}

static int start(void **state) {
    (void)state;
    sem_init(&woken, 0, 0);
    const struct registry_options options = {
        .tolerance = 1, .threads = 2, .keep_previous = true, .wake = wake, .context = &woken};
    registry = registry_start(&options);
    return registry != NULL ? 0 : -1;
}

static int finish(void **state) {
    (void)state;
    assert_true(registry_cancel(registry));
    registry_free(registry);
    sem_destroy(&woken);
    return 0;
}

static struct loaded load(const char *path) {
    struct loaded loaded;
    assert_true(registry_load(registry, path, "start"));
    assert_true(registry_is_loading(registry));
    sem_wait(&woken);
    assert_true(registry_take(registry, &loaded));
    assert_false(registry_is_loading(registry));
    return loaded;
}

static struct served_model *go_live(const char *path) {
    struct loaded loaded = load(path);
    assert_non_null(loaded.served);
    registry_go_live(registry, loaded.served);
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), loaded.served);
    return loaded.served;
}

static void a_thread_loads(void **state) {
    (void)state;
    sigset_t before, after;
    struct loaded loaded;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_false(registry_take(registry, &loaded));
    struct served_model *live = go_live(directories[0]);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
    assert_false(pthread_equal(waker, pthread_self()));
    assert_true(signals_blocked);
    assert_string_equal(live->loaded_by, "start");
    assert_int_equal(strlen(live->loaded_at), strlen("2026-11-28T01:00:00Z"));
    assert_int_equal(live->version, 1);
    assert_null(registry_model(registry, SLOT_PREVIOUS));
    assert_int_equal(registry_count(registry).lives, 1);
}

static void a_refusal_is_noted(void **state) {
    (void)state;
    struct served_model *live = go_live(directories[0]);
    struct loaded loaded = load("/nowhere/at/all");
    assert_null(loaded.served);
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), live);
    struct registry_counts counts = registry_count(registry);
    assert_int_equal(counts.refusals, 1);
    assert_non_null(strstr(counts.failure, "/nowhere/at/all"));
    assert_true(counts.failed_at > 1e9);
    assert_int_equal(strlen(counts.failure_at), strlen("2026-11-28T01:00:00Z"));
}

static void one_load_at_a_time(void **state) {
    (void)state;
    struct loaded loaded;
    assert_true(registry_load(registry, directories[0], "start"));
    assert_false(registry_load(registry, directories[1], "signal"));
    sem_wait(&woken);
    assert_false(registry_load(registry, directories[1], "signal")); /* nobody has taken the first yet */
    assert_true(registry_take(registry, &loaded));
    assert_string_equal(loaded.served->loaded_by, "start");
    registry_go_live(registry, loaded.served);
    assert_int_equal(registry_count(registry).busy, 2);
    go_live(directories[1]);
}

static void models_take_their_slots(void **state) {
    (void)state;
    assert_false(registry_roll_back(registry));
    struct served_model *first = go_live(directories[0]);
    assert_false(registry_roll_back(registry));
    struct served_model *second = go_live(directories[1]);
    assert_ptr_equal(registry_model(registry, SLOT_PREVIOUS), first);
    assert_int_equal(second->version, 2);
    assert_true(registry_roll_back(registry));
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), first);
    assert_ptr_equal(registry_model(registry, SLOT_PREVIOUS), second);
    struct served_model *third = go_live(directories[2]);
    assert_int_equal(third->version, 3);
    assert_ptr_equal(registry_model(registry, SLOT_PREVIOUS), first);
    assert_int_equal(registry_count(registry).rollbacks, 1);
    assert_int_equal(registry_count(registry).lives, 3);
}

/* States stay good, and the way back leads to a model that differs. */
static void the_same_files_are_the_same_version(void **state) {
    (void)state;
    assert_int_equal(go_live(directories[0])->version, 1);
    assert_int_equal(go_live(directories[0])->version, 1);
    assert_null(registry_model(registry, SLOT_PREVIOUS));
    assert_int_equal(go_live(directories[1])->version, 2);
    struct loaded again = load(directories[0]); /* which is in memory already */
    assert_true(again.is_previous);
    assert_null(again.served);
    assert_int_equal(registry_count(registry).refusals, 0);
    assert_true(registry_roll_back(registry));
    assert_int_equal(registry_model(registry, SLOT_LIVE)->version, 1);
    assert_int_equal(registry_model(registry, SLOT_PREVIOUS)->version, 2);
}

static void a_model_is_closed_after_its_last_user(void **state) {
    (void)state;
    struct served_model *first = served_model_hold(go_live(directories[0]));
    go_live(directories[1]);
    go_live(directories[2]);
    assert_int_equal(first->references, 1);
    assert_string_equal(dien_name(first->model), "small");
    served_model_release(first); /* AddressSanitizer knows whether it was closed once */
}

static void no_load_begins_after_a_cancel(void **state) {
    (void)state;
    go_live(directories[0]);
    assert_true(registry_load(registry, directories[1], "signal"));
    assert_true(registry_cancel(registry));
    assert_false(registry_load(registry, directories[1], "signal"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_thread_loads, start, finish),
        cmocka_unit_test_setup_teardown(a_refusal_is_noted, start, finish),
        cmocka_unit_test_setup_teardown(one_load_at_a_time, start, finish),
        cmocka_unit_test_setup_teardown(models_take_their_slots, start, finish),
        cmocka_unit_test_setup_teardown(the_same_files_are_the_same_version, start, finish),
        cmocka_unit_test_setup_teardown(a_model_is_closed_after_its_last_user, start, finish),
        cmocka_unit_test_setup_teardown(no_load_begins_after_a_cancel, start, finish),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
