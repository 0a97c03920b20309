/* test_cost_model.c: the guess for compressed bodies, which sees their decoded size alone, and the units of work done.
 */
#include "server/scoring/cost_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A request in columns of ids of one digit. */
static char *compose(size_t behaviours, size_t candidates) {
    char *text = malloc(2 * (behaviours + candidates) + 100), *end = text;
    assert_non_null(text);
    end += sprintf(end, "{\"history\":{\"i\":[1");
    for (size_t i = 1; i < behaviours; i++)
        end += sprintf(end, ",1");
    end += sprintf(end, "]},\"candidates\":{\"i\":[1");
    for (size_t i = 1; i < candidates; i++)
        end += sprintf(end, ",1");
    sprintf(end, "]}}");
    return text;
}

/* A compressed request has about the guess that its text has, whatever its share of behaviours. */
static void a_compressed_request_has_a_usual_guess(void **state) {
    (void)state;
    static const size_t behaviours[] = {10, 25, 50}, candidates[] = {50, 200, 1000};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++) {
            char *text = compose(behaviours[i], candidates[j]);
            double plain = cost_guess(PROTO_JSON, text, strlen(text));
            double packed = cost_guess_compressed(3 * strlen(text)); /* ids of seven bytes or so */
            if (packed > 4 * plain || packed < plain / 4)
                fail_msg("%zu behaviours, %zu candidates: %g and %g units", behaviours[i], candidates[j], plain,
                         packed);
            free(text);
        }
    }
}

static void the_guess_grows_and_has_a_bound(void **state) {
    (void)state;
    struct cost_rate rate = cost_rate_start();
    double last = 0;
    for (size_t size = 0; size <= 4 << 20; size = 2 * size + 1) {
        double units = cost_guess_compressed(size);
        assert_true(units > last);
        last = units;
    }
    assert_true(cost_seconds(&rate, cost_guess_compressed(6000)) < 5e-3);    /* a usual request is light */
    assert_true(cost_seconds(&rate, cost_guess_compressed(4 << 20)) < 0.75); /* no one alone fills a queue */
}

/* ---- the work that was done */

static struct proto_column sent[2];

static struct proto_request request_of(size_t behaviours, size_t candidates) {
    sent[0] = (struct proto_column){.count = behaviours};
    sent[1] = (struct proto_column){.count = candidates};
    return (struct proto_request){.history = {.present = behaviours > 0, .columns = 1, .column = &sent[0]},
                                  .candidates = {.present = true, .columns = 1, .column = &sent[1]}};
}

static double work_of(size_t behaviours, size_t candidates, const struct cost_work *work) {
    struct proto_request request = request_of(behaviours, candidates);
    return cost_of_work(&request, 6 * (behaviours + candidates), work);
}

/* Behaviours that are cut off are parsed, which is little. */
static void behaviours_beyond_the_cut_are_no_work(void **state) {
    (void)state;
    const struct cost_work cut = {.length = 50, .scored = 1};
    double used = work_of(50, 100, &cut), sent_more = work_of(5000, 100, &cut);
    assert_true(sent_more > used && sent_more < 1.5 * used);
}

static void candidates_that_are_not_scored_are_no_work(void **state) {
    (void)state;
    const struct cost_work all = {.length = 50, .scored = 1}, part = {.length = 50, .scored = 0.25};
    assert_true(work_of(50, 4000, &part) < 0.27 * work_of(50, 4000, &all));
    assert_true(work_of(50, 4000, &part) > 0.25 * work_of(50, 4000, &all));
}

/* Candidates without a history cost their bytes and the MLP. */
static void a_user_without_a_history_is_no_usual_one(void **state) {
    (void)state;
    const struct cost_work nothing = {.scored = 1}, usual = {.held = 50, .scored = 1};
    assert_true(work_of(0, 1000, &nothing) < 0.25 * work_of(0, 1000, &usual));
}

static void an_update_scores_nothing(void **state) {
    (void)state;
    assert_true(cost_guess_update(0) == cost_guess(PROTO_JSON, "", 0));
    assert_true(cost_guess_update(60000) < 11 * cost_guess_update(6000));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_compressed_request_has_a_usual_guess),
        cmocka_unit_test(the_guess_grows_and_has_a_bound),
        cmocka_unit_test(behaviours_beyond_the_cut_are_no_work),
        cmocka_unit_test(candidates_that_are_not_scored_are_no_work),
        cmocka_unit_test(a_user_without_a_history_is_no_usual_one),
        cmocka_unit_test(an_update_scores_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
