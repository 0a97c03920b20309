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

static const char root[] = "/tmp"; /* where small_make() puts models */
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
        .tolerance = 1, .threads = 2, .keep_previous = true, .root = root, .wake = wake, .context = &woken};
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

static struct loaded load_candidate(const char *path) {
    struct loaded loaded;
    const struct rollout_shares shares = {.canary = 0.25, .shadow = 0.5};
    assert_true(registry_load_candidate(registry, path, "admin", shares));
    sem_wait(&woken);
    assert_true(registry_take(registry, &loaded));
    assert_true(loaded.is_candidate);
    assert_true(loaded.shares.canary == 0.25 && loaded.shares.shadow == 0.5);
    return loaded;
}

static struct served_model *set_candidate(const char *path) {
    struct loaded loaded = load_candidate(path);
    if (loaded.served == NULL)
        fail_msg("%s", loaded.message);
    registry_set_candidate(registry, loaded.served);
    return loaded.served;
}

static void a_candidate_is_promoted_or_dropped(void **state) {
    (void)state;
    assert_false(registry_promote(registry));
    assert_false(registry_drop(registry, DROP_ASKED));
    struct served_model *first = go_live(directories[0]);
    struct served_model *second = set_candidate(directories[1]);
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), first);
    assert_ptr_equal(registry_model(registry, SLOT_CANDIDATE), second);
    assert_int_equal(second->version, 2);
    assert_string_equal(second->loaded_by, "admin");
    assert_true(registry_drop(registry, DROP_SLOW));
    assert_null(registry_model(registry, SLOT_CANDIDATE));
    struct served_model *third = set_candidate(directories[2] + strlen("/tmp/")); /* from the root */
    assert_int_equal(third->version, 3);
    assert_true(registry_promote(registry));
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), third);
    assert_ptr_equal(registry_model(registry, SLOT_PREVIOUS), first);
    assert_null(registry_model(registry, SLOT_CANDIDATE));
    assert_true(registry_roll_back(registry));
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), first);
    struct registry_counts counts = registry_count(registry);
    assert_int_equal(counts.candidates, 2);
    assert_int_equal(counts.promotions, 1);
    assert_int_equal(counts.drops[DROP_SLOW], 1);
    assert_int_equal(counts.drops[DROP_ASKED], 0);
}

static void a_candidate_takes_the_place_of_another(void **state) {
    (void)state;
    struct served_model *live = go_live(directories[0]);
    struct served_model *held = served_model_hold(set_candidate(directories[1]));
    struct served_model *same = set_candidate(directories[0]);
    assert_int_equal(same->version, live->version); /* of the same files */
    assert_int_equal(held->references, 1);
    served_model_release(held);
    assert_true(registry_promote(registry));
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), same);
    assert_null(registry_model(registry, SLOT_PREVIOUS));
}

static void assert_not_below(const char *path) {
    struct loaded loaded = load_candidate(path);
    assert_null(loaded.served);
    if (strstr(loaded.message, "below --model-root") == NULL)
        fail_msg("%s: \"%s\"", path, loaded.message);
}

static void a_candidate_lies_below_the_root(void **state) {
    (void)state;
    char link[80], text[400];
    const char *name = directories[1] + strlen("/tmp/");
    struct served_model *live = go_live(directories[0]);
    assert_not_below("/tmp");
    assert_not_below("/tmp/");
    assert_not_below("/");
    assert_not_below("");
    assert_not_below("/etc");
    assert_not_below("/tmpfile");
    assert_not_below("..");
    assert_not_below(".");
    snprintf(text, sizeof text, "../tmp/%s", name);
    assert_not_below(text);
    snprintf(text, sizeof text, "/tmp/../tmp/%s", name);
    assert_not_below(text);
    snprintf(text, sizeof text, "%s/%0300d", directories[1], 0);
    assert_not_below(text);
    snprintf(link, sizeof link, "%s-link", directories[1]);
    assert_int_equal(symlink(directories[1], link), 0);
    assert_not_below(link);
    snprintf(text, sizeof text, "%s/./model", link);
    assert_not_below(text);
    assert_int_equal(unlink(link), 0);
    assert_ptr_equal(registry_model(registry, SLOT_LIVE), live);
    assert_int_equal(registry_count(registry).refusals, 13);
}

static void a_file_of_a_candidate_is_no_link(void **state) {
    (void)state;
    char here[96], there[96];
    go_live(directories[0]);
    snprintf(here, sizeof here, "%s/model.safetensors", directories[1]);
    snprintf(there, sizeof there, "%s.moved", directories[1]);
    assert_int_equal(rename(here, there), 0);
    assert_int_equal(symlink(there, here), 0);
    struct loaded refused = load_candidate(directories[1]), loaded = load(directories[1]);
    assert_int_equal(rename(there, here), 0);
    assert_null(refused.served);
    assert_non_null(strstr(refused.message, "model.safetensors: cannot open"));
    assert_non_null(loaded.served);
    registry_go_live(registry, loaded.served);
}

static void a_load_and_a_candidate_wait_for_each_other(void **state) {
    (void)state;
    struct loaded loaded;
    const struct rollout_shares shares = {.canary = 1};
    go_live(directories[0]);
    assert_true(registry_load_candidate(registry, directories[1], "admin", shares));
    assert_false(registry_load(registry, directories[2], "signal"));
    assert_false(registry_load_candidate(registry, directories[2], "admin", shares));
    sem_wait(&woken);
    assert_true(registry_take(registry, &loaded));
    assert_true(loaded.is_candidate);
    registry_set_candidate(registry, loaded.served);
    assert_int_equal(registry_count(registry).busy, 2);
    loaded = load(directories[1]); /* the candidate's files, as the live model */
    assert_false(loaded.is_candidate);
    assert_int_equal(loaded.served->version, 0);
    registry_go_live(registry, loaded.served);
    assert_int_equal(loaded.served->version, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_thread_loads, start, finish),
        cmocka_unit_test_setup_teardown(a_refusal_is_noted, start, finish),
        cmocka_unit_test_setup_teardown(one_load_at_a_time, start, finish),
        cmocka_unit_test_setup_teardown(models_take_their_slots, start, finish),
        cmocka_unit_test_setup_teardown(the_same_files_are_the_same_version, start, finish),
        cmocka_unit_test_setup_teardown(a_model_is_closed_after_its_last_user, start, finish),
        cmocka_unit_test_setup_teardown(a_candidate_is_promoted_or_dropped, start, finish),
        cmocka_unit_test_setup_teardown(a_candidate_takes_the_place_of_another, start, finish),
        cmocka_unit_test_setup_teardown(a_candidate_lies_below_the_root, start, finish),
        cmocka_unit_test_setup_teardown(a_file_of_a_candidate_is_no_link, start, finish),
        cmocka_unit_test_setup_teardown(a_load_and_a_candidate_wait_for_each_other, start, finish),
        cmocka_unit_test_setup_teardown(no_load_begins_after_a_cancel, start, finish),
    };
    return cmocka_run_group_tests(tests, make_models, remove_models);
}
