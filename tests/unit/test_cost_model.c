/* test_cost_model.c: the guess for compressed bodies, which sees their decoded size alone. */
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

static void a_compressed_heavy_request_is_heavy(void **state) {
    (void)state;
    static const size_t behaviours[] = {50, 100, 400}, candidates[] = {300, 1000, 4000};
    struct cost_rate rate = cost_rate_start();
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++) {
            char *text = compose(behaviours[i], candidates[j]);
            double plain = cost_guess(PROTO_JSON, text, strlen(text)), packed = cost_guess_compressed(strlen(text));
            /* Heavy ones are never called light; JOB_HEAVY_SECONDS is 5 ms. */
            if (cost_seconds(&rate, plain) > 5e-3 && cost_seconds(&rate, packed) <= 5e-3)
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
    assert_true(cost_seconds(&rate, cost_guess_compressed(200)) < 1e-3);     /* a small request stays light */
    assert_true(cost_seconds(&rate, cost_guess_compressed(4 << 20)) < 0.75); /* and no one alone is refused */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_compressed_heavy_request_is_heavy),
        cmocka_unit_test(the_guess_grows_and_has_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
