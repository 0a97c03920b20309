/* digits.c: decimal digits by exact integer arithmetic.
 *
 * A float is m * 2^e with m < 2^24. Its nine significant digits are the integer nearest to m * 2^e * 10^k, with the k
 * for which that integer lies between 10^8 and 10^9. Since 10^k = 5^k * 2^k and m * 5^k is exact in 128 bits for every
 * k below 45, only a shift has to round.
 */
#include "proto/digits.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum {
    FLOAT_DIGITS = 9,
    MANTISSA_BITS = 23,
    EXPONENT_BIAS = 127,
    EXPONENT_MIN = -119,   /* needs 5^44, the largest power that is exact */
    EXPONENT_MAX = 28,     /* needs 10^0; larger floats would need a division */
    FIVES = 28,            /* powers of five that fit in 64 bits */
    FIXED_MIN = -4,        /* %g writes smaller decimal exponents in scientific notation */
    DOUBLE_PLACES_MAX = 19 /* decimal places of fifteen digits at 1e-4 */
};

__extension__ typedef unsigned __int128 uint128;

static const uint64_t power_of_five[FIVES] = {1,
                                              5,
                                              25,
                                              125,
                                              625,
                                              3125,
                                              15625,
                                              78125,
                                              390625,
                                              1953125,
                                              9765625,
                                              48828125,
                                              244140625,
                                              1220703125,
                                              6103515625,
                                              30517578125,
                                              152587890625,
                                              762939453125,
                                              3814697265625,
                                              19073486328125,
                                              95367431640625,
                                              476837158203125,
                                              2384185791015625,
                                              11920928955078125,
                                              59604644775390625,
                                              298023223876953125,
                                              1490116119384765625,
                                              7450580596923828125};

static const double power_of_ten[DOUBLE_PLACES_MAX + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,
                                                           1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19};

/* Writes exactly `count` digits, with leading zeros. */
static void put_padded(uint64_t number, size_t count, char *out) {
    for (size_t i = count; i > 0; i--) {
        out[i - 1] = (char)('0' + number % 10);
        number /= 10;
    }
}

static size_t count_digits(uint64_t number) {
    size_t count = 1;
    while (number >= 10) {
        number /= 10;
        count++;
    }
    return count;
}

size_t digits_of_unsigned(uint64_t integer, char *out) {
    size_t count = count_digits(integer);
    put_padded(integer, count, out);
    return count;
}

size_t digits_of_integer(int64_t integer, char *out) {
    if (integer >= 0)
        return digits_of_unsigned((uint64_t)integer, out);
    *out = '-';
    return 1 + digits_of_unsigned(0 - (uint64_t)integer, out + 1);
}

/* mantissa * 2^power * 10^scale, rounded to the nearest integer, ties to even. */
static uint64_t scaled(uint64_t mantissa, int power, int scale) {
    int first = scale < FIVES ? scale : FIVES - 1;
    uint128 product = (uint128)mantissa * power_of_five[first] * power_of_five[scale - first];
    int shift = -(power + scale);
    if (shift <= 0)
        return (uint64_t)product << -shift;
    uint128 whole = product >> shift, rest = product - (whole << shift), half = (uint128)1 << (shift - 1);
    return (uint64_t)whole + (rest > half || (rest == half && (whole & 1) != 0));
}

/* Writes digits such as "123" as 1.23e-05. The exponent is negative, with two digits. */
static size_t put_scientific(const char *digits, size_t count, int exponent, char *out) {
    char *next = out;
    *next++ = digits[0];
    if (count > 1) {
        *next++ = '.';
        memcpy(next, digits + 1, count - 1);
        next += count - 1;
    }
    *next++ = 'e';
    *next++ = '-';
    put_padded((uint64_t)-exponent, 2, next);
    return (size_t)(next + 2 - out);
}

/* Writes digits with the point after the first 1 + exponent of them, or before all if that is negative. `digits` may
 * have more trailing zeros than `count` includes. */
static size_t put_fixed(const char *digits, size_t count, int exponent, char *out) {
    if (exponent < 0) {
        size_t zeros = (size_t)-exponent - 1;
        memcpy(out, "0.000", 2 + zeros);
        memcpy(out + 2 + zeros, digits, count);
        return 2 + zeros + count;
    }
    size_t whole = (size_t)exponent + 1;
    memcpy(out, digits, whole);
    if (count <= whole)
        return whole;
    out[whole] = '.';
    memcpy(out + whole + 1, digits + whole, count - whole);
    return count + 1;
}

size_t digits_of_float(float number, char *out) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    int exponent = (int)(bits >> MANTISSA_BITS & 0xFF) - EXPONENT_BIAS;
    if (exponent < EXPONENT_MIN || exponent > EXPONENT_MAX)
        return 0;
    uint64_t mantissa = (bits & (((uint32_t)1 << MANTISSA_BITS) - 1)) | (uint32_t)1 << MANTISSA_BITS;
    int decimal = exponent * 78913 >> 18; /* times log10(2), rounded down */
    uint64_t rounded = scaled(mantissa, exponent - MANTISSA_BITS, FLOAT_DIGITS - 1 - decimal);
    if (rounded >= 1000000000) { /* the mantissa, or the rounding, adds a digit */
        decimal++;
        rounded = scaled(mantissa, exponent - MANTISSA_BITS, FLOAT_DIGITS - 1 - decimal);
    }
    char digits[FLOAT_DIGITS];
    size_t count = FLOAT_DIGITS, sign = bits >> 31;
    put_padded(rounded, FLOAT_DIGITS, digits);
    while (count > 1 && digits[count - 1] == '0')
        count--;
    *out = '-';
    return sign + (decimal < FIXED_MIN ? put_scientific(digits, count, decimal, out + sign)
                                       : put_fixed(digits, count, decimal, out + sign));
}

/* Tries 0, 1, 2, ... decimal places until the decimal gives the double back, by one division of two exact doubles. If
 * that takes 15 digits at most, they are those of "%.15g", because no other decimal of so few digits is as near
 * (DBL_DIG). */
size_t digits_of_double(double number, char *out) {
    double magnitude = fabs(number);
    if (!(magnitude >= 1e-4 && magnitude < 1e15))
        return 0;
    for (size_t places = 0; places <= DOUBLE_PLACES_MAX; places++) {
        double whole = nearbyint(magnitude * power_of_ten[places]);
        if (whole >= 1e15)
            return 0;
        if (whole / power_of_ten[places] != magnitude)
            continue;
        char digits[DIGITS_ROOM];
        uint64_t integer = (uint64_t)whole;
        size_t count = count_digits(integer), sign = signbit(number) ? 1 : 0;
        put_padded(integer, count, digits);
        *out = '-';
        return sign + put_fixed(digits, count, (int)count - 1 - (int)places, out + sign);
    }
    return 0;
}
