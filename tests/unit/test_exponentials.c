/* test_exponentials.c: the vectorised exponential and the functions that use it, over the whole range of float32,
 * against double.
 *
 * tests/support/exponentials.h has the functions and their bounds. Every exponent and both signs, with subnormals,
 * infinities and NaN; and closely around every place where the computation changes.
 */
#include "tests/support/exponentials.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SETS_MAX = 8 };

/* From one bit pattern to the next: odd, so that the last bits differ too. Emulated or instrumented, fewer of them. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLOW
#endif
#endif
#if defined(SLOW) || defined(__SANITIZE_THREAD__) || defined(__aarch64__)
enum { STRIDE = 16381 };
#else
enum { STRIDE = 2039 };
#endif

static const struct kernels *sets[SETS_MAX];
static size_t set_count;

static float float_of(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- the bounds ---- */

/* The largest of each, printed even when it is small enough. */
static struct { double error, proportion, fall; } largest[SETS_MAX];

static void report(const struct exponential *function) {
    for (size_t set = 0; set < set_count; set++)
        print_message("%s %s: largest difference %.3g, in proportion %.3g, largest fall %.3g\n", sets[set]->name,
                      function->name, largest[set].error, largest[set].proportion, largest[set].fall);
    memset(largest, 0, sizeof largest);
}

static void check_value(const struct exponential *function, size_t set, float x, double expected, double got) {
    double size = function->grows ? fmax(1, fabs((double)x)) : 1, error = fabs(got - expected), beyond = 0;
    bool good;
    if (isfinite(expected)) {
        if (function->proportion < INFINITY && (double)x >= function->from)
            beyond = error / fabs(expected) - EXPONENT_SLOPE * fabs((double)x);
        good = error <= function->bound * size && beyond <= function->proportion && got >= function->least &&
               got <= function->most;
        largest[set].error = fmax(largest[set].error, error / size);
        largest[set].proportion = fmax(largest[set].proportion, beyond);
    } else {
        good = isnan(x) ? isnan(got) : isnan(expected) ? !isfinite(got) : got == expected;
    }
    if (!good)
        fail_msg("%s of %s: %.9g gives %.9g, expected %.9g", function->name, sets[set]->name, (double)x, got, expected);
}

/* y[i - 1] and y[i] of neighbours x[i - 1] and x[i], in either order. */
static void check_order(const struct exponential *function, size_t set, const float *x, const double *y, size_t i) {
    double fall = x[i] > x[i - 1] ? y[i - 1] - y[i] : y[i] - y[i - 1];
    if (isnan(x[i]) || isnan(x[i - 1]))
        return;
    if (!(fall <= function->fall))
        fail_msg("%s of %s falls by %.3g at %.9g", function->name, sets[set]->name, fall, (double)x[i]);
    largest[set].fall = fmax(largest[set].fall, fall);
}

/* x [CHUNK], in ascending or in descending order. */
static void check_chunk(const struct exponential *function, const float *x) {
    static double expected[CHUNK], got[CHUNK];
    for (size_t i = 0; i < CHUNK; i++)
        expected[i] = function->exact((double)x[i], i);
    for (size_t set = 0; set < set_count; set++) {
        function->compute(sets[set], x, got);
        for (size_t i = 0; i < CHUNK; i++) {
            check_value(function, set, x[i], expected[i], got[i]);
            if (function->monotone && i > 0)
                check_order(function, set, x, got, i);
        }
    }
}

/* ---- which values ---- */

static void test_whole_range(void **state) {
    (void)state;
    static float x[CHUNK];
    for (size_t function = 0; function < EXPONENTIALS; function++) {
        for (uint64_t first = 0; first < 1ULL << 32; first += (uint64_t)CHUNK * STRIDE) {
            for (uint64_t i = 0; i < CHUNK; i++)
                x[i] = float_of((uint32_t)(first + i * STRIDE < 1ULL << 32 ? first + i * STRIDE : UINT32_MAX));
            check_chunk(&exponentials[function], x);
        }
        report(&exponentials[function]);
    }
}

/* The CHUNK floats around x, and around -x. */
static void check_around(const struct exponential *function, float x) {
    static float around[CHUNK];
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t first = bits > CHUNK / 2 ? bits - CHUNK / 2 : 0; /* past infinity they are not numbers */
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t i = 0; i < CHUNK; i++)
            around[i] = float_of((sign << 31) + first + i);
        check_chunk(function, around);
    }
}

/* Where arguments are cut, or were; where e^x or 1 + e^x leaves float32's range or precision; the ends of the range. */
static void test_cuts(void **state) {
    (void)state;
    static const float cuts[] = {
        0,          0x1p-126F,  0x1p-64F,   0x1p-25F,   0x1p-24F,   0x1p-13F, 0x1p-12F, 0.5F,    1,
        7.98F,      8.32F,      8.66F,      9,          14.9F,      15,       16.64F,   17.33F,  21.5F,
        29.9F,      30,         43,         43.67F,     44.36F,     60,       86,       87,      87.336545F,
        88.029694F, 88.376263F, 88.722839F, 103.27893F, 103.97208F, 127,      128,      0x1p8F,  0x1p18F,
        0x1p20F,    0x1p23F,    0x1p24F,    0x1p31F,    0x1p32F,    0x1p64F,  0x1p127F, 3.4e38F, INFINITY};
    for (size_t function = 0; function < EXPONENTIALS; function++) {
        for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++)
            check_around(&exponentials[function], cuts[i]);
        report(&exponentials[function]);
    }
}

/* x / ln 2 is split at 32nds, 8ths or whole numbers, and 2 x / ln 2 for tanh: halfway between two the polynomial's
 * argument is largest, and its sign changes. Four floats on either side of each 128th. */
static void test_splits(void **state) {
    (void)state;
    enum { AROUND = 8, FIRST = -88 * 185, LAST = 88 * 185, STEP = CHUNK / AROUND };
    static float x[CHUNK];
    for (size_t function = 0; function < EXPONENTIALS; function++) {
        for (int first = FIRST; first < LAST; first += STEP) {
            for (int i = 0; i < STEP; i++) {
                float near = (float)((first + i) * 0x1.62e42fefa39efp-1 / 128);
                for (int j = 0; j < AROUND / 2; j++)
                    near = nextafterf(near, -INFINITY);
                for (int j = 0; j < AROUND; j++) {
                    x[i * AROUND + j] = near;
                    near = nextafterf(near, INFINITY);
                }
            }
            check_chunk(&exponentials[function], x);
        }
        report(&exponentials[function]);
    }
}

/* ---- exact values ---- */

/* One value, and nothing else in its chunk. */
static double value_of(size_t function, size_t set, float x) {
    static float chunk[CHUNK];
    static double y[CHUNK];
    for (size_t i = 0; i < CHUNK; i++)
        chunk[i] = x;
    exponentials[function].compute(sets[set], chunk, y);
    return y[0];
}

static size_t numbered(const char *name) {
    size_t i = 0;
    while (strcmp(exponentials[i].name, name) != 0)
        i++;
    return i;
}

static void test_exact_values(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double at_zero, from_20, to_minus_20; /* the last is a bound where no float is exact */
    } expected[] = {{"sigmoid", 0.5, 1, 2.1e-9}, {"tanh", 0, 1, -1}, {"softmax", 1, 1, 2.1e-9}};
    static const float far[] = {20, 31, 44, 87.5F, 89, 104, 1e3F, 1e10F, 3e38F, INFINITY};
    for (size_t set = 0; set < set_count; set++)
        for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
            size_t function = numbered(expected[i].name);
            assert_true(value_of(function, set, 0) == expected[i].at_zero);
            assert_true(value_of(function, set, -0.0F) == expected[i].at_zero);
            for (size_t j = 0; j < sizeof far / sizeof *far; j++) {
                assert_true(value_of(function, set, far[j]) == expected[i].from_20);
                assert_true(value_of(function, set, -far[j]) <= expected[i].to_minus_20);
            }
        }
}

/* ---- company ---- */

/* A value's bits are its own, whatever stands beside it: infinities, huge and tiny values, NaN. */
static void check_company(const struct exponential *function, size_t set) {
    const float half = (float)CHUNK / 2;
    static const float strangers[] = {NAN, INFINITY, -INFINITY, 3e38F, -3e38F, 88, -88, 30, -30, 1e-40F, -NAN};
    static float x[CHUNK];
    static double alone[CHUNK], beside[CHUNK];
    for (size_t i = 0; i < CHUNK; i++)
        x[i] = ((float)i - half) / 16;
    function->compute(sets[set], x, alone);
    for (size_t apart = 2; apart <= 4 * LANES + 1; apart++) {
        for (size_t i = 0; i < CHUNK; i++)
            x[i] =
                i % apart == 0 ? strangers[i / apart % (sizeof strangers / sizeof *strangers)] : ((float)i - half) / 16;
        function->compute(sets[set], x, beside);
        for (size_t i = 0; i < CHUNK; i++)
            if (i % apart != 0 && beside[i] != alone[i])
                fail_msg("%s of %s: %.9g gives %.9g, and beside others %.9g", function->name, sets[set]->name,
                         (double)x[i], alone[i], beside[i]);
    }
}

static void test_company(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (size_t function = 0; function < EXPONENTIALS; function++)
            check_company(&exponentials[function], set);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_range),  cmocka_unit_test(test_cuts),    cmocka_unit_test(test_splits),
        cmocka_unit_test(test_exact_values), cmocka_unit_test(test_company),
    };
    while (set_count < SETS_MAX && kernels_available(set_count) != NULL) {
        sets[set_count] = kernels_available(set_count);
        set_count++;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
