/* test_request_headers.c: values of X-Request-Timeout-Ms, and keys of clients. */
#include "server/api/request_headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void a_timeout_is_a_whole_number(void **state) {
    (void)state;
    assert_int_equal(request_headers_timeout("1"), 1);
    assert_int_equal(request_headers_timeout("0050"), 50);
    assert_int_equal(request_headers_timeout("86400000"), REQUEST_TIMEOUT_MOST_MS);
    const char *const bad[] = {"", "0", "-1", "+1", " 5", "5 ", "1.5", "1e3", "86400001", "99999999999999999999", "x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(request_headers_timeout(bad[i]), 0);
}

/* Neighbouring addresses differ in their last byte only, and still belong into different sets of the table. */
static void keys_spread(void **state) {
    (void)state;
    size_t seen[CLIENT_SETS] = {0}, most = 0;
    for (unsigned i = 0; i < 256; i++) {
        const unsigned char address[] = {10, 0, 0, (unsigned char)i};
        size_t set = request_headers_hash(address, sizeof address) % CLIENT_SETS;
        seen[set]++;
        most = seen[set] > most ? seen[set] : most;
    }
    assert_true(most <= 12); /* 2 on average */
    assert_true(request_headers_hash("a", 1) == request_headers_hash("a", 1));
    assert_true(request_headers_hash("a", 1) != request_headers_hash("b", 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timeout_is_a_whole_number),
        cmocka_unit_test(keys_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
