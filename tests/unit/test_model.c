/* test_model.c: the model library on random models that spread over FORMAT.md: PyTorch's scores, and equal bits however
 * a state and a score are computed.
 */
#include "model/format/bind.h"
#include "proto/json_decode.h"
#include "server/scoring/sample_check.h"
#include "tests/unit/columns.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { CANDIDATES = 1000, THREADS = 4 };

/* One user, one history, many candidates, and their scores. */
struct fixture {
    const struct dien_model *model;
    struct dien_scratch *scratch;
    struct dien_columns history;
    struct dien_request request;
    struct dien_user *user;
    float *scores;
};

static struct dien_user *user_memory(size_t bytes) {
    void *memory = aligned_alloc(DIEN_ALIGNMENT, (bytes + DIEN_ALIGNMENT - 1) / DIEN_ALIGNMENT * DIEN_ALIGNMENT);
    assert_non_null(memory);
    return memory;
}

static struct dien_user *build(const struct fixture *f, const struct dien_columns *history, size_t count) {
    const struct dien_interest *interests;
    size_t counts[64];
    for (size_t i = 0; i < dien_interests(f->model, &interests); i++)
        counts[i] = count;
    size_t bytes = dien_user_bytes(f->model, counts);
    struct dien_user *user = dien_user_build(f->model, f->scratch, history, user_memory(bytes));
    assert_int_equal(dien_user_size(user), bytes);
    return user;
}

static struct fixture set_up(const struct dien_model *model, size_t behaviours, size_t candidates) {
    struct fixture f = {.model = model, .scratch = dien_scratch_new(model)};
    assert_non_null(f.scratch);
    f.history = random_columns(model, DIEN_BEHAVIOUR, behaviours);
    f.request = (struct dien_request){.user = random_columns(model, DIEN_USER, 1),
                                      .context = random_columns(model, DIEN_CONTEXT, 1),
                                      .candidates = random_columns(model, DIEN_CANDIDATE, candidates),
                                      .candidate_count = candidates};
    f.user = build(&f, &f.history, behaviours);
    f.scores = array(candidates, sizeof *f.scores);
    dien_score(model, f.scratch, f.user, &f.request, f.scores, NULL);
    return f;
}

static void tear_down(struct fixture *f) {
    free_columns(f->model, DIEN_BEHAVIOUR, &f->history);
    free_columns(f->model, DIEN_USER, &f->request.user);
    free_columns(f->model, DIEN_CONTEXT, &f->request.context);
    free_columns(f->model, DIEN_CANDIDATE, &f->request.candidates);
    free(f->user);
    free(f->scores);
    dien_scratch_free(f->scratch);
}

/* Score some of the fixture's candidates, in some order, for a user state: the bits must be those of the fixture. */
static void check_bits(const struct fixture *f, const struct dien_user *user, const size_t *order, size_t count) {
    struct dien_request request = f->request;
    request.candidates = pick(f->model, DIEN_CANDIDATE, &f->request.candidates, order, count);
    request.candidate_count = count;
    float *scores = array(count, sizeof *scores);
    dien_score(f->model, f->scratch, user, &request, scores, NULL);
    for (size_t i = 0; i < count; i++)
        assert_memory_equal(&scores[i], &f->scores[order[i]], sizeof *scores);
    free(scores);
    free_columns(f->model, DIEN_CANDIDATE, &request.candidates);
}

/* ---- promise 1 ---- */

static void test_scores_of_the_training_code(void **state) {
    (void)state;
    struct request_limits limits = {.max_candidates = 4096, .max_history = 65536, .memory = 256 << 20};
    double largest = 0;
    for (size_t i = 0; i < model_count; i++) {
        struct scorer scorer;
        struct samples_report report;
        assert_true(scorer_init(&scorer, models[i], &limits));
        bool good = samples_prove(&scorer, paths[i], 1e-5, &report);
        scorer_free(&scorer);
        if (!good)
            fail_msg("%s: %s", paths[i], report.message);
        largest = report.largest > largest ? report.largest : largest;
    }
    print_message("%zu models, %s kernels: largest difference from PyTorch in float64 %.3g\n", model_count,
                  models[0]->kernels->name, largest);
}

/* ---- promise 2 ---- */

static void test_same_bits_in_any_company(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i++) {
        struct fixture f = set_up(models[i], 1 + (size_t)rand() % longest_window(models[i]), CANDIDATES);
        size_t order[CANDIDATES];
        for (size_t j = 0; j < CANDIDATES; j++)
            order[j] = j;
        for (size_t j = 0; j < 40; j++)
            check_bits(&f, f.user, &order[j * 25], 1);
        for (size_t j = CANDIDATES - 1; j > 0; j--) {
            size_t other = (size_t)rand() % (j + 1), kept = order[j];
            order[j] = order[other];
            order[other] = kept;
        }
        check_bits(&f, f.user, order, CANDIDATES);
        for (size_t count = 2; count < 40; count++)
            check_bits(&f, f.user, order + count, count);
        tear_down(&f);
    }
}

/* The states of ever longer histories, each extended from the one before by 1 to `stride` behaviours. */
static void check_extension(const struct dien_model *model, size_t behaviours, size_t stride) {
    struct fixture f = set_up(model, behaviours, 37);
    size_t order[512], first = 0, all[37];
    for (size_t i = 0; i < 37; i++)
        all[i] = i;
    assert_true(behaviours <= sizeof order / sizeof *order);
    for (size_t i = 0; i < behaviours; i++)
        order[i] = i;
    struct dien_columns none = pick(model, DIEN_BEHAVIOUR, &f.history, order, 0);
    struct dien_user *user = build(&f, &none, 0);
    free_columns(model, DIEN_BEHAVIOUR, &none);
    while (first < behaviours) {
        size_t count = 1 + (size_t)rand() % stride;
        count = count < behaviours - first ? count : behaviours - first;
        struct dien_columns more = pick(model, DIEN_BEHAVIOUR, &f.history, order + first, count);
        size_t bytes = dien_user_extended_bytes(model, user, &more);
        struct dien_user *longer = user_memory(bytes);
        dien_user_extend(model, f.scratch, user, &more, longer);
        assert_int_equal(dien_user_size(longer), bytes);
        free_columns(model, DIEN_BEHAVIOUR, &more);
        free(user);
        user = longer;
        first += count;
    }
    assert_int_equal(dien_user_size(user), dien_user_size(f.user));
    check_bits(&f, user, all, 37);
    free(user);
    tear_down(&f);
}

static void test_same_bits_when_extended(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i++) {
        size_t window = longest_window(models[i]);
        check_extension(models[i], window, 1);
        check_extension(models[i], window, 7);
        check_extension(models[i], window + 9, 4); /* the window slides, or keeps its first end */
        check_extension(models[i], 1, 1);
    }
}

/* An extension that only appends says so, one that slides the window says that. */
static void test_extension_says_what_it_did(void **state) {
    (void)state;
    size_t slid = 0;
    for (size_t i = 0; i < model_count; i++) {
        const struct dien_interest *interests;
        size_t count = dien_interests(models[i], &interests), shortest = interests[0].max_length;
        for (size_t j = 1; j < count; j++)
            shortest = interests[j].max_length < shortest ? interests[j].max_length : shortest;
        for (size_t length = shortest - 1; length <= shortest; length++) {
            struct fixture f = set_up(models[i], length, 1);
            struct dien_columns more = random_columns(models[i], DIEN_BEHAVIOUR, 1);
            struct dien_user *longer = user_memory(dien_user_extended_bytes(models[i], f.user, &more));
            enum dien_extension did = dien_user_extend(models[i], f.scratch, f.user, &more, longer);
            if (length < shortest)
                assert_int_equal(did, DIEN_EXTENDED);
            slid += did == DIEN_RECOMPUTED;
            free(longer);
            free_columns(models[i], DIEN_BEHAVIOUR, &more);
            tear_down(&f);
        }
    }
    assert_true(slid > 0);
}

/* A state has no pointers: moved elsewhere it scores the same. */
static void test_state_can_be_moved(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i++) {
        struct fixture f = set_up(models[i], longest_window(models[i]), 20);
        size_t order[20];
        for (size_t j = 0; j < 20; j++)
            order[j] = j;
        struct dien_user *moved = user_memory(dien_user_size(f.user));
        memcpy(moved, f.user, dien_user_size(f.user));
        memset(f.user, 0xff, dien_user_size(f.user));
        check_bits(&f, moved, order, 20);
        free(moved);
        tear_down(&f);
    }
}

/* The core alone, in memory of its own size: restored it is the state, bit for bit in every score. */
static void test_same_bits_when_restored(void **state) {
    (void)state;
    size_t derived = 0;
    for (size_t i = 0; i < model_count; i++) {
        struct fixture f = set_up(models[i], longest_window(models[i]), 20);
        size_t order[20], bytes = dien_user_core_bytes(f.user);
        for (size_t j = 0; j < 20; j++)
            order[j] = j;
        derived += bytes < dien_user_size(f.user);
        struct dien_user *core = user_memory(bytes);
        memcpy(core, f.user, bytes);
        struct dien_user *whole = user_memory(dien_user_size(core));
        memset(whole, 0xff, dien_user_size(core));
        check_bits(&f, dien_user_restore(models[i], core, whole), order, 20);
        assert_memory_equal(whole, f.user, bytes);
        free(core);
        free(whole);
        tear_down(&f);
    }
    assert_true(derived > 0);
}

/* ---- compare and continue ---- */

/* Some behaviours of the fixture's history, as a history. */
static struct dien_columns part(const struct fixture *f, size_t first, size_t count) {
    size_t order[1024];
    assert_true(count <= sizeof order / sizeof *order);
    for (size_t i = 0; i < count; i++)
        order[i] = first + i;
    return pick(f->model, DIEN_BEHAVIOUR, &f->history, order, count);
}

static enum dien_match compare_part(const struct fixture *f, const struct dien_user *user, size_t first, size_t count) {
    struct dien_columns history = part(f, first, count);
    enum dien_match match = dien_user_compare(f->model, user, &history);
    free_columns(f->model, DIEN_BEHAVIOUR, &history);
    return match;
}

static bool keeps_first(const struct dien_model *model) {
    for (size_t i = 0; i < model->config.interest_count; i++)
        if (model->config.interests[i].keep_first)
            return true;
    return false;
}

static size_t shortest_window(const struct dien_model *model) {
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests), shortest = SIZE_MAX;
    for (size_t i = 0; i < count; i++)
        shortest = interests[i].max_length < shortest ? interests[i].max_length : shortest;
    return shortest;
}

/* A state of `known` behaviours, taken on to the fixture's whole history. */
static void check_continued(const struct fixture *f, size_t known, const size_t *order, size_t count) {
    struct dien_columns history = part(f, 0, known);
    struct dien_user *shorter = build(f, &history, known);
    if (known < f->history.column[0].count)
        assert_int_equal(dien_user_compare(f->model, shorter, &f->history), DIEN_PREFIX);
    struct dien_user *longer = user_memory(dien_user_size(f->user));
    dien_user_continue(f->model, f->scratch, shorter, &f->history, longer);
    assert_int_equal(dien_user_size(longer), dien_user_size(f->user));
    check_bits(f, longer, order, count);
    assert_int_equal(dien_user_compare(f->model, longer, &f->history), DIEN_SAME);
    free_columns(f->model, DIEN_BEHAVIOUR, &history);
    free(shorter);
    free(longer);
}

static void test_a_state_is_compared_with_a_history(void **state) {
    (void)state;
    size_t all[20];
    for (size_t j = 0; j < 20; j++)
        all[j] = j;
    for (size_t i = 0; i < model_count; i++) {
        size_t window = shortest_window(models[i]);
        struct fixture f = set_up(models[i], window, 20);
        assert_int_equal(dien_user_compare(models[i], f.user, &f.history), DIEN_SAME);
        assert_int_equal(compare_part(&f, f.user, 0, window - 1), DIEN_SHORTER);
        assert_int_equal(compare_part(&f, f.user, 0, 0), DIEN_SHORTER);
        for (size_t known = 0; known <= window; known += 1 + window / 7)
            check_continued(&f, known, all, 20);
        tear_down(&f);
    }
}

static void test_a_slid_window_and_an_edit_are_told_apart(void **state) {
    (void)state;
    size_t slid = 0, edited = 0;
    for (size_t i = 0; i < model_count; i++) {
        size_t window = shortest_window(models[i]);
        if (window < 3 || longest_window(models[i]) != window || keeps_first(models[i]))
            continue;
        struct fixture f = set_up(models[i], window + 1, 1);
        struct dien_columns first = part(&f, 0, window), last = part(&f, 1, window);
        struct dien_user *before = build(&f, &first, window);
        if (dien_user_compare(models[i], before, &last) != DIEN_SAME) { /* few rows may make all behaviours equal */
            assert_int_equal(dien_user_compare(models[i], before, &f.history), DIEN_SLID);
            assert_int_equal(dien_user_compare(models[i], before, &last), DIEN_SLID);
            slid++;
        }
        size_t order[1024];
        for (size_t j = 0; j < window; j++)
            order[j] = j == window / 2 ? window : j;
        struct dien_columns other = pick(models[i], DIEN_BEHAVIOUR, &f.history, order, window);
        enum dien_match match = dien_user_compare(models[i], before, &other);
        assert_true(match == DIEN_OTHER || match == DIEN_SLID || match == DIEN_SAME);
        edited += match == DIEN_OTHER;
        free_columns(models[i], DIEN_BEHAVIOUR, &first);
        free_columns(models[i], DIEN_BEHAVIOUR, &last);
        free_columns(models[i], DIEN_BEHAVIOUR, &other);
        free(before);
        tear_down(&f);
    }
    assert_true(slid > 0);
    assert_true(edited > 0);
}

struct thread_work {
    struct fixture fixture; /* shared, but for the scratch */
    bool same;
};

static void *score_in_thread(void *argument) {
    struct thread_work *work = argument;
    struct fixture *f = &work->fixture;
    float *scores = calloc(f->request.candidate_count, sizeof *scores);
    work->same = scores != NULL;
    for (int i = 0; i < 3 && work->same; i++) {
        dien_score(f->model, f->scratch, f->user, &f->request, scores, NULL);
        work->same = memcmp(scores, f->scores, f->request.candidate_count * sizeof *scores) == 0;
    }
    free(scores);
    return NULL;
}

static void test_same_bits_from_any_thread(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i += 3) {
        struct fixture f = set_up(models[i], longest_window(models[i]), 200);
        struct thread_work work[THREADS];
        pthread_t threads[THREADS];
        for (int j = 0; j < THREADS; j++) {
            work[j].fixture = f;
            work[j].fixture.scratch = dien_scratch_new(models[i]);
            assert_non_null(work[j].fixture.scratch);
            assert_int_equal(pthread_create(&threads[j], NULL, score_in_thread, &work[j]), 0);
        }
        for (int j = 0; j < THREADS; j++) {
            pthread_join(threads[j], NULL);
            assert_true(work[j].same);
            dien_scratch_free(work[j].fixture.scratch);
        }
        tear_down(&f);
    }
}

/* ---- explain ---- */

/* Explaining changes no score; a candidate's attention is the same alone; a softmax sums to one. */
static void check_explained(const struct fixture *f, size_t interest, const float *attention, size_t candidates) {
    size_t length = dien_user_length(f->user, interest);
    if (!f->model->config.interests[interest].attention.softmax)
        return;
    for (size_t candidate = 0; candidate < candidates; candidate++) {
        double sum = 0;
        for (size_t step = 0; step < length; step++)
            sum += (double)attention[candidate * length + step];
        assert_true(sum > 1 - 1e-5 && sum < 1 + 1e-5);
    }
}

static void test_explain(void **state) {
    (void)state;
    enum { EXPLAINED = 33 };
    for (size_t i = 0; i < model_count; i++) {
        struct fixture f = set_up(models[i], longest_window(models[i]), EXPLAINED);
        struct dien_request alone = f.request;
        const struct dien_interest *interests;
        size_t count = dien_interests(models[i], &interests), last = EXPLAINED - 1;
        float *attention[64], *single[64], scores[EXPLAINED], score;
        for (size_t j = 0; j < count; j++) {
            attention[j] = array(EXPLAINED * dien_user_length(f.user, j), sizeof **attention);
            single[j] = array(dien_user_length(f.user, j), sizeof **single);
        }
        dien_score(models[i], f.scratch, f.user, &f.request, scores, attention);
        assert_memory_equal(scores, f.scores, sizeof scores);
        alone.candidates = pick(models[i], DIEN_CANDIDATE, &f.request.candidates, &last, 1);
        alone.candidate_count = 1;
        dien_score(models[i], f.scratch, f.user, &alone, &score, single);
        for (size_t j = 0; j < count; j++) {
            size_t length = dien_user_length(f.user, j);
            check_explained(&f, j, attention[j], EXPLAINED);
            assert_memory_equal(single[j], attention[j] + last * length, length * sizeof **single);
            free(attention[j]), free(single[j]);
        }
        free_columns(models[i], DIEN_CANDIDATE, &alone.candidates);
        tear_down(&f);
    }
}

/* Ranges of any sizes, in any order, by two scratches, give the scores and attention of one call for all, and write
 * nothing else. */
static void test_same_bits_however_divided(void **state) {
    (void)state;
    enum { DIVIDED = 333, SENTINEL = 7 };
    for (size_t i = 0; i < model_count; i++) {
        struct fixture f = set_up(models[i], longest_window(models[i]), DIVIDED);
        struct dien_scratch *scratch[2] = {f.scratch, dien_scratch_new(models[i])};
        const struct dien_interest *interests;
        size_t count = dien_interests(models[i], &interests), places[DIVIDED], last = 0;
        float *attention[64], *divided[64], scores[DIVIDED];
        assert_non_null(scratch[1]);
        for (size_t j = 0; j < count; j++) {
            size_t values = DIVIDED * dien_user_length(f.user, j);
            attention[j] = array(values, sizeof **attention);
            divided[j] = array(values, sizeof **divided);
        }
        dien_score(models[i], f.scratch, f.user, &f.request, scores, attention);
        assert_memory_equal(scores, f.scores, sizeof scores);
        for (size_t place = 0; place < DIVIDED; place++)
            scores[place] = SENTINEL;
        for (size_t place = 0; place < DIVIDED; place += 1 + (size_t)rand() % 70)
            places[last++] = place;
        for (size_t k = 0; k < last; k++) {
            size_t at = last - 1 - k, end = at + 1 < last ? places[at + 1] : DIVIDED;
            dien_score_range(models[i], scratch[k % 2], f.user, &f.request, places[at], end - places[at], scores,
                             divided);
            assert_true(places[at] == 0 || scores[places[at] - 1] == SENTINEL);
        }
        assert_memory_equal(scores, f.scores, sizeof scores);
        for (size_t j = 0; j < count; j++) {
            if (interests[j].attends)
                assert_memory_equal(divided[j], attention[j], DIVIDED * dien_user_length(f.user, j) * sizeof **divided);
            free(attention[j]), free(divided[j]);
        }
        dien_scratch_free(scratch[1]);
        tear_down(&f);
    }
}

static void test_errors_name_the_file(void **state) {
    (void)state;
    struct dien_error error = {""};
    assert_null(dien_open("build/no-such-model", &error));
    assert_non_null(strstr(error.message, "config.json"));
    assert_non_null(strstr(error.message, "build/no-such-model"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores_of_the_training_code),
        cmocka_unit_test(test_same_bits_in_any_company),
        cmocka_unit_test(test_same_bits_when_extended),
        cmocka_unit_test(test_extension_says_what_it_did),
        cmocka_unit_test(test_state_can_be_moved),
        cmocka_unit_test(test_same_bits_when_restored),
        cmocka_unit_test(test_a_state_is_compared_with_a_history),
        cmocka_unit_test(test_a_slid_window_and_an_edit_are_told_apart),
        cmocka_unit_test(test_same_bits_from_any_thread),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_same_bits_however_divided),
        cmocka_unit_test(test_errors_name_the_file),
    };
    json_decode_init();
    srand(1);
    return cmocka_run_group_tests(tests, open_models, close_models);
}
