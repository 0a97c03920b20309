/* test_sample_check.c: samples.json that agrees with the model, disagrees, or cannot be read. */
#include "server/scoring/sample_check.h"

#include "proto/json_decode.h"
#include "tests/unit/small_model.h"

#include <fcntl.h>
#include <sys/stat.h>

#define SAMPLE(history, items, prices, scores)                                                                         \
    "{'user': {'country': 1, 'age': 0.5}, 'context': {'month': -7, 'weather': [1, 0.5, -1]}, 'history': " history      \
    ", 'candidates': {'item': [" items "], 'price': [" prices "], 'position': [[1, 2]]}, 'scores': [" scores "]}"
#define SHORT_HISTORY "{'item': ['i0'], 'dwell': [1], 'shop': [], 'page': []}"

static char directory[64];
static struct dien_model *model;
static struct samples_report report;

static int open_model(void **state) {
    (void)state;
    struct dien_error error = {""};
    json_decode_init();
    small_make(directory);
    model = dien_open(directory, &error);
    if (model == NULL)
        print_error("%s\n", error.message);
    return model != NULL ? 0 : -1;
}

static int close_model(void **state) {
    (void)state;
    dien_close(model);
    small_remove(directory);
    return 0;
}

/* The only place that knows request.h's types. */
static bool prove_in(const char *of, double tolerance, size_t memory) {
    const struct request_limits limits = {.max_candidates = SIZE_MAX, .max_history = SIZE_MAX, .memory = memory};
    struct scorer scorer;
    memset(&report, 0xff, sizeof report);
    assert_true(scorer_init(&scorer, model, &limits));
    bool good = samples_prove(&scorer, of, tolerance, &report);
    scorer_free(&scorer);
    if (!good && *report.message == '\0')
        fail_msg("no reason was given");
    return good;
}

static bool prove(const char *text, double tolerance) {
    small_write_samples(directory, text);
    return prove_in(directory, tolerance, 0);
}

static void assert_message(const char *part) {
    if (strstr(report.message, part) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", part, report.message);
}

/* The model's own score of SAMPLE("{}", "'i1'", "1", ...): the difference from a score of 0. */
static double true_score(const char *history) {
    char text[1024];
    snprintf(text, sizeof text, "{'samples': [" SAMPLE("%s", "'i1'", "1", "0") "]}", history);
    assert_true(prove(text, 1));
    assert_true(report.largest > 0.01 && report.largest < 0.99);
    return report.largest;
}

/* Two samples, the second of which has a history and the score `second`. */
static bool prove_two(double first, double second, double tolerance) {
    char text[2048];
    snprintf(text, sizeof text,
             "{'samples': [" SAMPLE("{}", "'i1'", "1", "%.17g") ", " SAMPLE(SHORT_HISTORY, "'i1'", "1", "%.17g") "]}",
             first, second);
    return prove(text, tolerance);
}

static void samples_that_agree(void **state) {
    (void)state;
    double first = true_score("{}"), second = true_score(SHORT_HISTORY);
    assert_true(first != second);
    assert_true(prove_two(first, second, 0)); /* to the bit */
    assert_int_equal(report.samples, 2);
    assert_int_equal(report.scores, 2);
    assert_true(report.largest == 0);
    assert_true(prove_two(first + 0.25e-5, second - 0.5e-5, 1e-5));
    assert_int_equal(report.samples, 2);
    assert_true(report.largest > 0.49e-5 && report.largest < 0.51e-5);
    assert_true(prove_two(first - 0.5e-5, second, 1e-5)); /* the largest of all, not the last one's */
    assert_true(report.largest > 0.49e-5 && report.largest < 0.51e-5);
    assert_true(prove_two(first + 1e-11, second, 1e-5)); /* in double: a float does not hold the difference */
    assert_true(report.largest > 0.9e-11 && report.largest < 1.1e-11);
}

static void scores_that_are_off_by_more_than_the_tolerance(void **state) {
    (void)state;
    double first = true_score("{}"), second = true_score(SHORT_HISTORY);
    const double far[] = {1.1e-5, -1.1e-5, 0.1, -0.1};
    for (size_t i = 0; i < sizeof far / sizeof *far; i++) {
        assert_false(prove_two(first + far[i], second, 1e-5));
        assert_message("sample 0, candidate 0");
        assert_int_equal(report.samples, 0);
        assert_false(prove_two(first, second + far[i], 1e-5));
        assert_message("sample 1, candidate 0");
        assert_message("more than 1e-05");
        assert_int_equal(report.samples, 1);
    }
}

static void every_candidate_is_compared(void **state) {
    (void)state;
    static const char three[] =
        "{'samples': [{'user': {'country': 1, 'age': 0.5}, 'context': {'month': -7, 'weather': [1, 0.5, -1]},"
        " 'history': {}, 'candidates': {'item': ['i1', 'i1', 'i1'], 'price': [1, 1, 1],"
        " 'position': [[1, 2], [1, 2], [1, 2]]}, 'scores': [%.17g, %.17g, %.17g]}]}";
    char text[1024];
    double score = true_score("{}");
    for (int wrong = 0; wrong < 4; wrong++) {
        snprintf(text, sizeof text, three, score + (wrong == 0), score + (wrong == 1), score + (wrong == 2));
        assert_int_equal(prove(text, 1e-9), wrong == 3);
        char place[16];
        snprintf(place, sizeof place, "candidate %d", wrong);
        if (wrong < 3)
            assert_message(place);
        else
            assert_int_equal(report.scores, 3);
    }
}

/* A price of 1e38 makes this model's score not a number. */
static void scores_that_are_not_numbers(void **state) {
    (void)state;
    assert_false(prove("{'samples': [" SAMPLE("{}", "'i1'", "1e38", "0.5") "]}", 1));
    assert_message("/samples/0");
    assert_message("not a number");
    assert_false(prove("{'samples': [" SAMPLE("{}", "'i1'", "1", "NaN") "]}", 1));
}

static void as_many_scores_as_candidates(void **state) {
    (void)state;
    assert_false(prove("{'samples': [" SAMPLE("{}", "'i1'", "1", "0.5, 0.5") "]}", 1));
    assert_message("/samples/0/scores");
    assert_false(prove("{'samples': [" SAMPLE("{}", "'i1'", "1", "0.5") ", " SAMPLE("{}", "'i1'", "1", "") "]}", 1));
    assert_message("/samples/1/scores");
}

static void requests_that_do_not_fit_the_model(void **state) {
    (void)state;
    assert_false(prove("{'samples': [" SAMPLE("{}", "1", "1", "0.5") "]}", 1));
    assert_message("/samples/0/candidates/item/0");
    assert_false(prove(
        "{'samples': [" SAMPLE("{}", "'i1'", "1", "0.5") ", " SAMPLE("{'page': [1]}", "'i1'", "1", "0.5") "]}", 1));
    assert_message("/samples/1/history");
    assert_int_equal(report.samples, 1);
}

static void files_that_are_no_samples(void **state) {
    (void)state;
    static const char *const bad[] = {"", "{", "[]", "{}", "{'samples': {}}", "{'samples': [1]}", "{'samples': [{}]}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_false(prove(bad[i], 1));
        assert_message("samples.json: ");
        assert_int_equal(report.samples, 0);
    }
    assert_false(prove("{'samples': []}", 1));
    assert_message("at least one");
}

static void files_that_cannot_be_read(void **state) {
    (void)state;
    char path[128], nowhere[8192];
    snprintf(path, sizeof path, "%s/samples.json", directory);
    unlink(path);
    assert_false(prove_in(directory, 1, 0));
    assert_message("cannot open");
    assert_message(path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(prove_in(directory, 1, 0));
    assert_message("not a regular file");
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* without a writer, which an open could wait for */
    assert_false(prove_in(directory, 1, 0));
    assert_message("not a regular file");
    unlink(path);
    int large = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_int_equal(ftruncate(large, (256 << 20) + 1), 0);
    close(large);
    assert_false(prove_in(directory, 1, 0));
    assert_message("at most 268435456 bytes");
    unlink(path);
    memset(nowhere, 'x', sizeof nowhere - 1);
    nowhere[sizeof nowhere - 1] = '\0';
    assert_false(prove_in(nowhere, 1, 0));
    assert_message("too long");
}

/* Each sample has the whole memory of a request. */
static void memory_is_each_samples_own(void **state) {
    (void)state;
    enum { SAMPLES = 300 };
    static char text[SAMPLES * 512];
    size_t at = (size_t)snprintf(text, sizeof text, "{'samples': [");
    for (size_t i = 0; i < SAMPLES; i++)
        at += (size_t)snprintf(text + at, sizeof text - at, "%s" SAMPLE("{}", "'i1'", "1", "0.5"), i > 0 ? "," : "");
    snprintf(text + at, sizeof text - at, "]}");
    small_write_samples(directory, text);
    assert_true(prove_in(directory, 1, 1 << 15));
    assert_int_equal(report.samples, SAMPLES);
    assert_false(prove_in(directory, 1, 64));
    assert_message("/samples/0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(samples_that_agree),
        cmocka_unit_test(scores_that_are_off_by_more_than_the_tolerance),
        cmocka_unit_test(every_candidate_is_compared),
        cmocka_unit_test(scores_that_are_not_numbers),
        cmocka_unit_test(as_many_scores_as_candidates),
        cmocka_unit_test(requests_that_do_not_fit_the_model),
        cmocka_unit_test(files_that_are_no_samples),
        cmocka_unit_test(files_that_cannot_be_read),
        cmocka_unit_test(memory_is_each_samples_own),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
