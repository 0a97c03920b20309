/* test_rollout.c: a share of users is as large as asked, the same on every machine, and grows without exchanging users.
 */
#include "server/scoring/rollout.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { USERS = 100000, ID = 32 };

static size_t user_id(size_t user, char id[ID]) {
    return (size_t)snprintf(id, ID, "user-%zu", user);
}

/* Users below the share, and of these the ones below a smaller share, too. */
static size_t count_users(uint64_t key, double share) {
    size_t count = 0;
    char id[ID];
    for (size_t user = 0; user < USERS; user++)
        count += rollout_place(key, id, user_id(user, id)) < share;
    return count;
}

static void a_share_is_as_large_as_asked(void **state) {
    (void)state;
    static const double shares[] = {0, 0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1};
    for (uint64_t key = 1; key <= 3; key++) {
        for (size_t i = 0; i < sizeof shares / sizeof *shares; i++) {
            double share = (double)count_users(rollout_key((char *)&key, sizeof key), shares[i]) / USERS;
            double deviation = sqrt(shares[i] * (1 - shares[i]) / USERS);
            assert_true(fabs(share - shares[i]) <= 0.01);
            assert_true(fabs(share - shares[i]) <= 4 * deviation);
        }
    }
}

/* The values are those of the reference implementation, xxhsum 0.8, so that whoever has the key can tell a user's side
 * elsewhere. */
static void places_are_the_same_everywhere(void **state) {
    (void)state;
    assert_int_equal(rollout_key("", 0), 0x2d06800538d394c2);
    assert_int_equal(rollout_key("a key", 5), 0xdfda7b285e8e615e);
    assert_true(rollout_place(0, "", 0) == 0x1p-53 * (double)(0x2d06800538d394c2 >> 11));
    assert_true(rollout_place(rollout_key("a key", 5), "user-1", 6) == 0x1.27032b5e21343p-1);
}

static void another_key_makes_another_choice(void **state) {
    (void)state;
    size_t both = 0;
    char id[ID];
    for (size_t user = 0; user < USERS; user++) {
        size_t length = user_id(user, id);
        both += rollout_place(rollout_key("a", 1), id, length) < 0.1 &&
                rollout_place(rollout_key("b", 1), id, length) < 0.1;
    }
    assert_true(both > 800 && both < 1200); /* a tenth of a tenth */
}

static void a_user_chooses_the_candidate_by_its_place(void **state) {
    (void)state;
    struct served_model live = {.version = 1}, candidate = {.version = 2};
    struct rollout rollout = {.key = 5};
    char id[ID];
    size_t changes = 0;
    for (size_t user = 0; user < 1000; user++) {
        size_t length = user_id(user, id);
        bool was_canary = false;
        rollout.candidate = NULL;
        rollout.shares.canary = 1;
        assert_ptr_equal(rollout_choose(&rollout, &live, id, length), &live);
        rollout.candidate = &candidate;
        assert_ptr_equal(rollout_choose(&rollout, &live, id, length), &candidate);
        rollout.shares = (struct rollout_shares){.canary = 0, .shadow = 1};
        assert_ptr_equal(rollout_choose(&rollout, &live, id, length), &live);
        for (int percent = 1; percent <= 100; percent++) {
            rollout.shares.canary = 0.01 * percent;
            bool is_canary = rollout_choose(&rollout, &live, id, length) == &candidate;
            assert_true(is_canary || !was_canary);
            changes += is_canary != was_canary;
            was_canary = is_canary;
        }
    }
    assert_int_equal(changes, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_share_is_as_large_as_asked),
        cmocka_unit_test(places_are_the_same_everywhere),
        cmocka_unit_test(another_key_makes_another_choice),
        cmocka_unit_test(a_user_chooses_the_candidate_by_its_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
