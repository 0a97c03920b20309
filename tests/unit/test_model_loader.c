/* test_model_loader.c: a model is handed over only when its samples agree; loading has a thread of its own. */
#include "server/models/model_loader.h"

#include "proto/json_decode.h"
#include "server/base/clock.h"
#include "tests/unit/small_model.h"

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>

#define SAMPLE(score)                                                                                                  \
    "{'user': {'country': 1, 'age': 0.5}, 'context': {'month': -7, 'weather': [1, 0.5, -1]}, 'history': {},"           \
    " 'candidates': {'item': ['i1'], 'price': [1], 'position': [[1, 2]]}, 'scores': [" score "]}"

static char directory[64];
static double score; /* the model's, of SAMPLE */

static struct load load_of(double tolerance) {
    return (struct load){directory, DIEN_FLOAT32, tolerance, SIZE_MAX};
}

static void write_sample(double expected) {
    char text[1024];
    snprintf(text, sizeof text, "{'samples': [" SAMPLE("%.17g") "]}", expected);
    small_write_samples(directory, text);
}

static int make_model(void **state) {
    (void)state;
    struct loaded loaded;
    struct load load = load_of(1);
    json_decode_init();
    small_make(directory);
    write_sample(0);
    loader_load(&load, &loaded);
    if (loaded.model == NULL)
        print_error("%s\n", loaded.message);
    dien_close(loaded.model);
    score = loaded.samples.largest;
    return loaded.model != NULL ? 0 : -1;
}

static int remove_model(void **state) {
    (void)state;
    small_remove(directory);
    return 0;
}

static void assert_refused(const struct load *load, const char *reason) {
    struct loaded loaded;
    memset(&loaded, 0xff, sizeof loaded);
    loader_load(load, &loaded);
    assert_null(loaded.model);
    assert_true(loaded.seconds >= 0 && loaded.seconds < 60);
    if (strstr(loaded.message, reason) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", reason, loaded.message);
}

static void a_model_whose_samples_agree(void **state) {
    (void)state;
    struct loaded loaded;
    struct load load = load_of(1e-9);
    write_sample(score);
    memset(&loaded, 0xff, sizeof loaded);
    loader_load(&load, &loaded);
    assert_non_null(loaded.model);
    assert_string_equal(dien_name(loaded.model), "small");
    assert_string_equal(loaded.message, "");
    assert_int_equal(loaded.samples.samples, 1);
    assert_true(loaded.tolerance == 1e-9);
    assert_false(loaded.reduced);
    assert_true(loaded.seconds > 0 && loaded.seconds < 60);
    assert_int_equal(loaded.prefaulted_bytes, dien_mapped_bytes(loaded.model));
    assert_true(loaded.prefault_seconds > 0 && loaded.prefault_seconds <= loaded.seconds);
    dien_close(loaded.model);
}

static void a_model_whose_samples_disagree(void **state) {
    (void)state;
    struct load load = load_of(1e-5);
    write_sample(score + 1.1e-5);
    assert_refused(&load, "sample 0, candidate 0");
    load.tolerance = 1.2e-5;
    struct loaded loaded;
    loader_load(&load, &loaded);
    assert_non_null(loaded.model);
    dien_close(loaded.model);
}

static void a_directory_without_a_model(void **state) {
    (void)state;
    struct load load = load_of(1);
    load.directory = "/nowhere/at/all";
    assert_refused(&load, "/nowhere/at/all");
}

/* Samples of a model in reduced precision may be off by DIEN_REDUCED_TOLERANCE. A model that is too small to gain, as
 * this one may be, stays float32, and so does its tolerance. */
static void reduced_precision_has_a_tolerance_of_its_own(void **state) {
    (void)state;
    const double tolerances[] = {1e-5, 2 * DIEN_REDUCED_TOLERANCE};
    for (size_t i = 0; i < 2; i++) {
        struct load load = {"model/demo", DIEN_REDUCED, tolerances[i], 0};
        struct loaded loaded;
        loader_load(&load, &loaded);
        assert_non_null(loaded.model);
        bool more = loaded.reduced && tolerances[i] < DIEN_REDUCED_TOLERANCE;
        assert_true(loaded.tolerance == (more ? DIEN_REDUCED_TOLERANCE : tolerances[i]));
        assert_int_equal(loaded.reduced, strcmp(dien_precision_name(loaded.model), "float32") != 0);
        dien_close(loaded.model);
    }
}

/* ---- the thread */

static sem_t woken;
static pthread_t waker;
static bool signals_blocked;

static void wake(void *context) {
    sigset_t mask;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    signals_blocked = sigismember(&mask, SIGTERM) == 1 && sigismember(&mask, SIGINT) == 1;
    waker = pthread_self();
    sem_post(context);
}

/* `slow`: there are so many samples that the loader cannot be done in 2 ms. */
static struct loaded load_on_a_thread(const struct load *load, bool slow) {
    struct loaded loaded;
    sigset_t before, after;
    sem_init(&woken, 0, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    uint64_t start = clock_now();
    struct loader *loader = loader_start(load, wake, &woken);
    assert_non_null(loader);
    bool early = loader_take(loader, &loaded);
    if (slow && clock_seconds(clock_now() - start) < 0.002)
        assert_false(early);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGTERM), sigismember(&before, SIGTERM));
    if (!early) {
        sem_wait(&woken);
        assert_true(loader_take(loader, &loaded));
    }
    assert_false(pthread_equal(waker, pthread_self()));
    assert_true(signals_blocked);
    sem_destroy(&woken);
    return loaded;
}

static void a_thread_loads(void **state) {
    (void)state;
    enum { SAMPLES = 2000 }; /* some 50 ms of them */
    static char text[SAMPLES * 300];
    size_t at = (size_t)snprintf(text, sizeof text, "{'samples': [");
    for (size_t i = 0; i < SAMPLES; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s" SAMPLE("0.5"), i > 0 ? "," : "");
    snprintf(text + at, sizeof text - at, "]}");
    small_write_samples(directory, text);
    struct load load = load_of(1);
    struct loaded loaded = load_on_a_thread(&load, true);
    assert_non_null(loaded.model);
    assert_int_equal(loaded.samples.samples, SAMPLES);
    assert_string_equal(dien_version(loaded.model), "3");
    dien_close(loaded.model);
}

static void a_thread_refuses(void **state) {
    (void)state;
    struct load load = load_of(1e-5);
    write_sample(score + 0.1);
    struct loaded loaded = load_on_a_thread(&load, false);
    assert_null(loaded.model);
    assert_non_null(strstr(loaded.message, "sample 0"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_whose_samples_agree),
        cmocka_unit_test(a_model_whose_samples_disagree),
        cmocka_unit_test(a_directory_without_a_model),
        cmocka_unit_test(reduced_precision_has_a_tolerance_of_its_own),
        cmocka_unit_test(a_thread_loads),
        cmocka_unit_test(a_thread_refuses),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
