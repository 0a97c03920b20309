/* test_model_loader.c: a model is handed over only when its samples agree, with the digests of its files. */
#include "server/models/model_loader.h"

#include "proto/json_decode.h"
#include "server/base/clock.h"
#include "server/models/model_files.h"
#include "tests/unit/small_model.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAMPLE(score)                                                                                                  \
    "{'user': {'country': 1, 'age': 0.5}, 'context': {'month': -7, 'weather': [1, 0.5, -1]}, 'history': {},"           \
    " 'candidates': {'item': ['i1'], 'price': [1], 'position': [[1, 2]]}, 'scores': [" score "]}"

static char directory[64];
static double score; /* the model's, of SAMPLE */

static struct load load_of(double tolerance) {
    return (struct load){.directory = directory, .tolerance = tolerance, .prefault = SIZE_MAX, .threads = 1};
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
    if (loaded.served == NULL)
        print_error("%s\n", loaded.message);
    served_model_release(loaded.served);
    score = loaded.samples.largest;
    return loaded.served != NULL ? 0 : -1;
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
    assert_null(loaded.served);
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
    assert_non_null(loaded.served);
    assert_string_equal(dien_name(loaded.served->model), "small");
    assert_string_equal(loaded.message, "");
    assert_int_equal(loaded.samples.samples, 1);
    assert_true(loaded.tolerance == 1e-9);
    assert_false(loaded.reduced);
    assert_true(loaded.seconds > 0 && loaded.seconds < 60);
    assert_int_equal(loaded.served->prefaulted_bytes, dien_mapped_bytes(loaded.served->model));
    assert_true(loaded.served->prefault_seconds > 0 && loaded.served->prefault_seconds <= loaded.seconds);
    served_model_release(loaded.served);
}

static void a_model_whose_samples_disagree(void **state) {
    (void)state;
    struct load load = load_of(1e-5);
    write_sample(score + 1.1e-5);
    assert_refused(&load, "sample 0, candidate 0");
    load.tolerance = 1.2e-5;
    struct loaded loaded;
    loader_load(&load, &loaded);
    assert_non_null(loaded.served);
    served_model_release(loaded.served);
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
        struct load load = {.directory = "model/demo", .precision = DIEN_REDUCED, .tolerance = tolerances[i]};
        struct loaded loaded;
        loader_load(&load, &loaded);
        assert_non_null(loaded.served);
        bool more = loaded.reduced && tolerances[i] < DIEN_REDUCED_TOLERANCE;
        assert_true(loaded.tolerance == (more ? DIEN_REDUCED_TOLERANCE : tolerances[i]));
        assert_int_equal(loaded.reduced, strcmp(dien_precision_name(loaded.served->model), "float32") != 0);
        served_model_release(loaded.served);
    }
}

static void a_load_that_is_cancelled(void **state) {
    (void)state;
    atomic_bool cancelled = true;
    struct load load = load_of(1);
    load.cancelled = &cancelled;
    struct loaded loaded;
    write_sample(score);
    loader_load(&load, &loaded);
    assert_null(loaded.served);
    assert_string_equal(loaded.message, "");
}

static void files_that_are_written_meanwhile(void **state) {
    (void)state;
    char path[128], message[256];
    struct model_files files;
    const struct timespec times[] = {{1000, 1}, {1000, 2}};
    write_sample(score);
    assert_true(model_files_open(&files, NULL, directory, message, sizeof message));
    assert_true(model_files_unchanged(&files, message, sizeof message));
    snprintf(path, sizeof path, "%s/config.json", directory);
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    assert_false(model_files_unchanged(&files, message, sizeof message));
    assert_non_null(strstr(message, "config.json: it was written while it was read"));
    model_files_close(&files);
}

/* The digest of a file of the model, by another program. */
static void sha256sum(const char *file, char digest[SHA256_TEXT]) {
    char path[256];
    int ends[2];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execlp("sha256sum", "sha256sum", path, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], digest, SHA256_TEXT - 1), SHA256_TEXT - 1);
    digest[SHA256_TEXT - 1] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

/* Digests of files as sha256sum prints them. */
static void the_digests(void **state) {
    (void)state;
    char config[SHA256_TEXT], weights[SHA256_TEXT];
    struct loaded loaded;
    struct load load = load_of(1);
    write_sample(score);
    loader_load(&load, &loaded);
    assert_non_null(loaded.served);
    sha256sum("config.json", config);
    sha256sum("model.safetensors", weights);
    assert_string_equal(loaded.served->config_sha256, config);
    assert_string_equal(loaded.served->weights_sha256, weights);
    assert_memory_equal(loaded.served->tag, config, 16);
    assert_memory_equal(loaded.served->tag + 17, weights, 16);
    assert_int_equal(strlen(loaded.served->tag), 33);
    served_model_release(loaded.served);
}

/* A copy serves on when its file is cut. */
static void a_copied_model_needs_its_file_no_more(void **state) {
    (void)state;
    char copy[64], path[128];
    small_make(copy);
    small_write_samples(copy, "{'samples': [" SAMPLE("0.5") "]}");
    struct load load = load_of(1);
    load.directory = copy;
    load.copy = true;
    struct loaded loaded;
    loader_load(&load, &loaded);
    assert_non_null(loaded.served);
    snprintf(path, sizeof path, "%s/model.safetensors", copy);
    assert_int_equal(truncate(path, 0), 0);
    assert_int_equal(dien_prefault(loaded.served->model, SIZE_MAX), dien_mapped_bytes(loaded.served->model));
    served_model_release(loaded.served);
    small_remove(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_whose_samples_agree),
        cmocka_unit_test(a_model_whose_samples_disagree),
        cmocka_unit_test(a_directory_without_a_model),
        cmocka_unit_test(reduced_precision_has_a_tolerance_of_its_own),
        cmocka_unit_test(a_load_that_is_cancelled),
        cmocka_unit_test(files_that_are_written_meanwhile),
        cmocka_unit_test(the_digests),
        cmocka_unit_test(a_copied_model_needs_its_file_no_more),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
