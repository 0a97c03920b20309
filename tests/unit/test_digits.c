/* test_digits.c: the digits of proto/digits.c compared with printf's. */
#include "proto/digits.h"
#include "tests/support/random_bits.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { STRIDE = 4099, RANDOM = 300000 }; /* a prime, so that all exponents and many mantissas occur */

static uint64_t random_state;

/* Writes to an allocation of exactly DIGITS_ROOM bytes. Returns whether the function took the number. */
static bool check_float(float number) {
    char expected[64];
    char *text = malloc(DIGITS_ROOM);
    assert_non_null(text);
    size_t length = digits_of_float(number, text);
    snprintf(expected, sizeof expected, "%.9g", (double)number);
    if (length > 0 && (length != strlen(expected) || memcmp(text, expected, length) != 0))
        fail_msg("%.*s, not %s", (int)length, text, expected);
    free(text);
    return length > 0;
}

static void floats_by_their_bits(void **state) {
    (void)state;
    size_t taken = 0, checked = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += STRIDE) {
        uint32_t pattern = (uint32_t)bits;
        float number;
        memcpy(&number, &pattern, sizeof number);
        taken += check_float(number);
        checked++;
    }
    assert_true(taken > checked / 2);
}

/* Floats around powers of ten and of two, where rounding adds a digit and where printf changes its format. */
static void floats_at_edges(void **state) {
    (void)state;
    for (int exponent = -45; exponent <= 38; exponent++) {
        float up = strtof((char[]){'1', 'e', exponent < 0 ? '-' : '+', (char)('0' + abs(exponent) / 10),
                                   (char)('0' + abs(exponent) % 10), '\0'},
                          NULL);
        float down = up;
        for (size_t i = 0; i < 200; i++) {
            check_float(up);
            check_float(-down);
            up = nextafterf(up, INFINITY);
            down = nextafterf(down, 0);
        }
    }
    for (int exponent = -149; exponent < 128; exponent++)
        for (int i = -3; i <= 3; i++)
            check_float(ldexpf(1 + (float)i * 0x1p-23F, exponent));
}

/* Only probabilities near 0 need the slow path. */
static void probabilities_are_taken(void **state) {
    (void)state;
    random_state = 1;
    for (size_t i = 0; i < RANDOM; i++) {
        float score = (float)(random_bits(&random_state) >> 40) * 0x1p-24F;
        assert_true(check_float(score) || score == 0);
        assert_true(check_float(expf(-(float)(random_bits(&random_state) % 80))));
    }
    static const float ties[] = {0.5F, 0.25F, 0x1p-10F, 0x1.8p-14F, 0x1.000002p-12F, 0.1F, 1.0F, 0.99999994F, 1e-4F};
    for (size_t i = 0; i < sizeof ties / sizeof *ties; i++)
        assert_true(check_float(ties[i]));
}

static void other_numbers_are_left(void **state) {
    (void)state;
    static const float left[] = {0.0F, -0.0F, 1e-40F, 1e30F, INFINITY, -INFINITY, NAN};
    char text[DIGITS_ROOM];
    for (size_t i = 0; i < sizeof left / sizeof *left; i++)
        assert_int_equal(digits_of_float(left[i], text), 0);
    static const double doubles[] = {0.0, -0.0, 9e-5, 1e15, 1e300, (double)INFINITY, (double)NAN, 1.0 / 3};
    for (size_t i = 0; i < sizeof doubles / sizeof *doubles; i++)
        assert_int_equal(digits_of_double(doubles[i], text), 0);
}

static void check_integer(int64_t integer) {
    char expected[32], text[DIGITS_ROOM];
    snprintf(expected, sizeof expected, "%lld", (long long)integer);
    assert_int_equal(digits_of_integer(integer, text), strlen(expected));
    assert_memory_equal(text, expected, strlen(expected));
}

static void integers(void **state) {
    (void)state;
    random_state = 2;
    static const int64_t edges[] = {0, 1, -1, 9, 10, 99, 100, -10, INT64_MAX, INT64_MIN, INT64_MIN + 1};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        check_integer(edges[i]);
    for (size_t i = 0; i < RANDOM; i++)
        check_integer((int64_t)random_bits(&random_state) >> random_bits(&random_state) % 64);
    char text[DIGITS_ROOM];
    assert_int_equal(digits_of_unsigned(UINT64_MAX, text), 20);
    assert_memory_equal(text, "18446744073709551615", 20);
    assert_int_equal(digits_of_unsigned(0, text), 1);
    assert_memory_equal(text, "0", 1);
}

/* If the function takes a number, its text is that of "%.15g" and gives the double back. */
static bool check_double(double number) {
    char expected[64], text[DIGITS_ROOM + 1];
    size_t length = digits_of_double(number, text);
    if (length == 0)
        return false;
    text[length] = '\0';
    snprintf(expected, sizeof expected, "%.15g", number);
    assert_string_equal(text, expected);
    assert_true(strtod(text, NULL) == number);
    return true;
}

static void doubles(void **state) {
    (void)state;
    random_state = 3;
    static const double taken[] = {1.0,
                                   28.0,
                                   0.1,
                                   33.5,
                                   0.0001,
                                   -0.5,
                                   123456789012345.0,
                                   999999999999999.0,
                                   1e14,
                                   1.5e-4,
                                   0.3,
                                   1e-3,
                                   19.99,
                                   2e3,
                                   0.000123456789012345,
                                   -7.0,
                                   100.25,
                                   5e-4,
                                   0.1234567890123};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (!check_double(taken[i]))
            fail_msg("%.17g was left", taken[i]);
    for (size_t i = 0; i < RANDOM; i++) {
        double price = (double)(int64_t)(random_bits(&random_state) >> (20 + random_bits(&random_state) % 40)) / 100;
        assert_true(check_double(price) || price < 1e-4 || price >= 1e13);
        check_double(ldexp((double)(random_bits(&random_state) >> 11), -(int)(random_bits(&random_state) % 70)));
        check_double((double)(random_bits(&random_state) % 1000000000) /
                     pow(10, (double)(random_bits(&random_state) % 15)));
    }
}

static void hexadecimal_digits(void **state) {
    (void)state;
    static const char lower[] = "0123456789abcdef", upper[] = "0123456789ABCDEF";
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(digits_hex(i), lower[i]);
        assert_int_equal(digits_hex_value(lower[i]), i);
        assert_int_equal(digits_hex_value(upper[i]), i);
    }
    for (int byte = 0; byte < 256; byte++)
        if (byte == 0 || (strchr(lower, byte) == NULL && strchr(upper, byte) == NULL))
            assert_int_equal(digits_hex_value((char)byte), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_by_their_bits),
        cmocka_unit_test(floats_at_edges),
        cmocka_unit_test(probabilities_are_taken),
        cmocka_unit_test(other_numbers_are_left),
        cmocka_unit_test(integers),
        cmocka_unit_test(doubles),
        cmocka_unit_test(hexadecimal_digits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
