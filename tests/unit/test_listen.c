/* test_listen.c: addresses as people write them. */
#include "server/base/listen.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char bound[ADDRESS_TEXT];
static char error[256];

static int try_listen(const char *address, bool reuse_port) {
    memset(bound, 0, sizeof bound);
    memset(error, 0, sizeof error);
    return listen_open(address, reuse_port, 16, bound, error, sizeof error);
}

static void the_kernel_chooses_a_port(void **state) {
    (void)state;
    int descriptor = try_listen("127.0.0.1:0", false);
    assert_true(descriptor >= 0);
    assert_memory_equal(bound, "127.0.0.1:", 10);
    assert_string_not_equal(bound, "127.0.0.1:0");
    close(descriptor);
}

static void names_and_every_address(void **state) {
    (void)state;
    int descriptor = try_listen("localhost:0", false);
    assert_true(descriptor >= 0);
    close(descriptor);
    descriptor = try_listen(":0", false);
    assert_true(descriptor >= 0);
    close(descriptor);
}

static void ipv6_is_in_brackets(void **state) {
    (void)state;
    int descriptor = try_listen("[::1]:0", false);
    if (descriptor < 0 && strstr(error, "assign") != NULL)
        skip(); /* a machine without IPv6 */
    assert_true(descriptor >= 0);
    assert_memory_equal(bound, "[::1]:", 6);
    close(descriptor);
}

static void a_port_is_taken_once(void **state) {
    (void)state;
    int first = try_listen("127.0.0.1:0", true);
    char address[ADDRESS_TEXT];
    memcpy(address, bound, sizeof address);
    assert_true(first >= 0);
    assert_int_equal(try_listen(address, false), -1);
    assert_memory_equal(error, "--listen: ", 10);
    int second = try_listen(address, true);
    assert_true(second >= 0);
    close(first);
    close(second);
}

static void nonsense_is_refused(void **state) {
    (void)state;
    static const char *const addresses[] = {"",      ":",       "8080",   "127.0.0.1",        "127.0.0.1:",
                                            "::1:0", "[::1:0",  "::1]:0", "127.0.0.1:http x", "127.0.0.1:70000",
                                            "[]:0x", "[a.b]:0 "};
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        int descriptor = try_listen(addresses[i], false);
        if (descriptor >= 0 || strncmp(error, "--listen: ", 10) != 0)
            fail_msg("\"%s\": %d, %s", addresses[i], descriptor, error);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_kernel_chooses_a_port), cmocka_unit_test(names_and_every_address),
        cmocka_unit_test(ipv6_is_in_brackets),       cmocka_unit_test(a_port_is_taken_once),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
