/* number.c: the grammar of a JSON number, and exact arithmetic on its decimal digits. */
#include "proto/number.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>

enum {
    INTEGER_DIGITS = 18,       /* jansson holds every integer of so many */
    REAL_DIGITS = 15,          /* of a number's whole part, below NUMBER_EXACT_MAX */
    EXPONENT_MAX = INT_MAX / 2 /* a text has fewer digits than this */
};

static const char *skip_digits(const char *text, const char *end) {
    while (text < end && *text >= '0' && *text <= '9')
        text++;
    return text;
}

const char *number_end(const char *text, const char *end) {
    text += text < end && *text == '-';
    const char *whole = text;
    text = skip_digits(text, end);
    if (text == whole || (*whole == '0' && text - whole > 1))
        return NULL;
    if (text < end && *text == '.') {
        const char *fraction = ++text;
        text = skip_digits(text, end);
        if (text == fraction)
            return NULL;
    }
    if (text < end && (*text == 'e' || *text == 'E')) {
        text++;
        text += text < end && (*text == '-' || *text == '+');
        const char *power = text;
        text = skip_digits(text, end);
        if (text == power)
            return NULL;
    }
    return text;
}

bool number_is_wide(const char *text, const char *end) {
    text += *text == '-';
    const char *rest = skip_digits(text, end);
    if (rest == end)
        return rest - text > INTEGER_DIGITS;
    if (rest - text > REAL_DIGITS)
        return true;
    while (rest < end && *rest != 'e' && *rest != 'E')
        rest++;
    return rest < end && rest[1] != '-';
}

/* A power of ten, without overflow for texts of any length. */
static int64_t read_exponent(const char *text, const char *end) {
    bool negative = text < end && *text == '-';
    text += text < end && (*text == '-' || *text == '+');
    int64_t exponent = 0;
    for (; text < end; text++)
        if (exponent < EXPONENT_MAX)
            exponent = exponent * 10 + (*text - '0');
    return negative ? -exponent : exponent;
}

/* False if 64 bits have no room for another digit. */
static bool append_digit(uint64_t *whole, unsigned digit) {
    if (*whole > (UINT64_MAX - digit) / 10)
        return false;
    *whole = *whole * 10 + digit;
    return true;
}

/* The magnitude of a number that is whole and fits in 64 bits; false for any other. */
static bool read_whole(const char *text, const char *end, uint64_t *whole) {
    const char *point = skip_digits(text, end), *digits_end = point;
    if (point < end && *point == '.')
        digits_end = skip_digits(point + 1, end);
    int64_t places = point - text; /* digits before the point, once the exponent has moved it */
    if (digits_end < end)
        places += read_exponent(digits_end + 1, end);
    *whole = 0;
    int64_t place = 0;
    for (; text < digits_end; text++) {
        if (*text == '.')
            continue;
        if (place++ < places ? !append_digit(whole, (unsigned)(*text - '0')) : *text != '0')
            return false;
    }
    while (*whole > 0 && place++ < places)
        if (!append_digit(whole, 0))
            return false;
    return true;
}

struct proto_value number_value(const char *text, const char *end) {
    bool negative = *text == '-';
    const char *digits = text + (negative ? 1 : 0);
    double real = strtod(text, NULL);
    uint64_t whole;
    bool is_integer = skip_digits(digits, end) == end || fabs(real) >= NUMBER_EXACT_MAX;
    if (!is_integer || !read_whole(digits, end, &whole))
        return (struct proto_value){.kind = PROTO_REAL, .real = real};
    if (!negative && whole > (uint64_t)INT64_MAX)
        return (struct proto_value){.kind = PROTO_UNSIGNED, .unsigned_integer = whole};
    if (whole > (uint64_t)INT64_MAX + (negative ? 1 : 0))
        return (struct proto_value){.kind = PROTO_REAL, .real = real};
    return (struct proto_value){.kind = PROTO_INTEGER, .integer = (int64_t)(negative ? 0 - whole : whole)};
}

bool number_to_integer(const struct proto_value *value, struct proto_value *integer) {
    if (value->kind == PROTO_REAL && fabs(value->real) < NUMBER_EXACT_MAX && value->real == trunc(value->real))
        *integer = (struct proto_value){.kind = PROTO_INTEGER, .integer = (int64_t)value->real};
    else if (value->kind == PROTO_INTEGER || value->kind == PROTO_UNSIGNED)
        *integer = *value;
    else
        return false;
    return true;
}
