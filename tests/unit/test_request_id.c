/* test_request_id.c: ids that are taken over from a client, and ids of our own. */
#include "server/http/request_id.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { OWN_DIGITS = 32 };

static char id[REQUEST_ID_MAX + 1];

static void choose(const char *given) {
    memset(id, '?', sizeof id);
    request_id_choose(given, id);
}

static void assert_own(void) {
    assert_non_null(memchr(id, '\0', sizeof id));
    assert_int_equal(strlen(id), OWN_DIGITS);
    assert_int_equal(strspn(id, "0123456789abcdef"), OWN_DIGITS);
}

static void good_ids_are_taken_over(void **state) {
    (void)state;
    static const char *const good[] = {"a",
                                       "0",
                                       "req-1",
                                       "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
                                       "a/b:c=d+e@f,g;h|i#j~k._",
                                       "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        choose(good[i]);
        assert_string_equal(id, good[i]);
    }
}

/* One bad byte at the start, in the middle or at the end. */
static void other_characters_are_refused(void **state) {
    (void)state;
    static const char accepted[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/=+@,;|#";
    for (int byte = 1; byte < 256; byte++) {
        for (size_t place = 0; place < 3; place++) {
            char given[4] = "abc";
            given[place] = (char)byte;
            choose(given);
            if (strchr(accepted, byte) != NULL)
                assert_string_equal(id, given);
            else
                assert_own();
        }
    }
}

static void lengths(void **state) {
    (void)state;
    char given[REQUEST_ID_MAX + 2];
    memset(given, 'x', sizeof given);
    given[REQUEST_ID_MAX] = '\0';
    choose(given);
    assert_string_equal(id, given);
    given[REQUEST_ID_MAX] = 'x';
    given[REQUEST_ID_MAX + 1] = '\0';
    choose(given);
    assert_own();
    choose("");
    assert_own();
    choose(NULL);
    assert_own();
}

static int by_text(const void *a, const void *b) {
    return memcmp(a, b, OWN_DIGITS);
}

/* More than one call's worth of random bytes; any two ids differ, and each place has each digit. */
static void own_ids_differ(void **state) {
    (void)state;
    enum { IDS = 1000 };
    static char ids[IDS][OWN_DIGITS];
    bool seen[OWN_DIGITS][16] = {{false}};
    for (size_t i = 0; i < IDS; i++) {
        choose(NULL);
        assert_own();
        memcpy(ids[i], id, OWN_DIGITS);
        for (size_t j = 0; j < OWN_DIGITS; j++)
            seen[j][id[j] <= '9' ? id[j] - '0' : id[j] - 'a' + 10] = true;
    }
    qsort(ids, IDS, OWN_DIGITS, by_text);
    for (size_t i = 1; i < IDS; i++)
        assert_memory_not_equal(ids[i - 1], ids[i], OWN_DIGITS);
    size_t equal = 0; /* neighbours: one in 16 by chance, of all 16,000 */
    for (size_t i = 0; i < IDS; i++)
        for (size_t j = 0; j < OWN_DIGITS; j += 2)
            equal += ids[i][j] == ids[i][j + 1];
    assert_true(equal < (size_t)IDS * OWN_DIGITS / 2 / 8);
    for (size_t j = 0; j < OWN_DIGITS; j++)
        for (size_t digit = 0; digit < 16; digit++)
            assert_true(seen[j][digit]); /* by chance not so once in 10^25 runs */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_ids_are_taken_over),
        cmocka_unit_test(other_characters_are_refused),
        cmocka_unit_test(lengths),
        cmocka_unit_test(own_ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
