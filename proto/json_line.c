/* json_line.c: names, strings and numbers one behind the other. The caller made room for the longest form of each. */
#include "proto/json_line.h"

#include "proto/digits.h"
#include "proto/number.h"
#include "proto/utf8.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* PUNCTUATION: a comma, the quotes of the name and of the string, a colon. */
enum { PUNCTUATION = 6, ESCAPE_BYTES = 6, NANO_DIGITS = 9 };

size_t json_line_most(const struct proto_member *members, size_t count) {
    size_t most = 0;
    for (size_t i = 0; i < count; i++) {
        const char *text = members[i].string;
        most += strlen(members[i].name) + PUNCTUATION + (text != NULL ? ESCAPE_BYTES * strlen(text) : DIGITS_ROOM);
    }
    return most;
}

static char *put_bytes(char *out, const char *bytes, size_t size) {
    memcpy(out, bytes, size);
    return out + size;
}

static bool is_utf8(const char *text) {
    size_t left = strlen(text), size = 0;
    for (; left > 0 && (size = utf8_size(text, left)) > 0; left -= size)
        text += size;
    return left == 0;
}

static char *put_escape(char *out, unsigned char byte) {
    *out++ = '\\';
    if (byte >= 0x20) {
        *out++ = (char)byte;
    } else if (byte == '\n') {
        *out++ = 'n';
    } else {
        out = put_bytes(out, "u00", 3);
        *out++ = digits_hex(byte >> 4);
        *out++ = digits_hex(byte & 15);
    }
    return out;
}

static char *put_string(char *out, const char *text) {
    bool ascii_only = false, checked = false;
    *out++ = '"';
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte >= 0x80 && !checked) { /* what came before is ASCII */
            ascii_only = !is_utf8(text);
            checked = true;
        }
        if (byte < 0x20 || byte == '"' || byte == '\\')
            out = put_escape(out, byte);
        else
            *out++ = ascii_only && byte >= 0x80 ? '?' : *text;
    }
    *out++ = '"';
    return out;
}

/* A number of nanoseconds, as differences of clocks are: 0.000045123. False where another decimal is meant. */
static bool put_nano(char **out, double number) {
    double nano = nearbyint(number * 1e9);
    if (!(number > 0 && number < 1e6) || nano / 1e9 != number)
        return false;
    uint64_t whole = (uint64_t)nano, fraction = whole % 1000000000;
    size_t digits = NANO_DIGITS;
    char *at = *out + digits_of_integer((int64_t)(whole / 1000000000), *out);
    *at++ = '.';
    for (size_t i = NANO_DIGITS; i > 0; i--) {
        at[i - 1] = (char)('0' + fraction % 10);
        fraction /= 10;
    }
    while (at[digits - 1] == '0') /* it is no whole number */
        digits--;
    *out = at + digits;
    return true;
}

static char *put_number(char *out, double number) {
    if (!isfinite(number))
        return put_bytes(out, "null", 4);
    if (number == trunc(number) && fabs(number) < NUMBER_EXACT_MAX)
        return out + digits_of_integer((int64_t)number, out);
    if (put_nano(&out, number))
        return out;
    size_t length = digits_of_double(number, out);
    for (int digits = 15; length == 0 && digits <= 17; digits++) { /* as few as give it back */
        char text[DIGITS_ROOM];
        int written = snprintf(text, sizeof text, "%.*g", digits, number);
        if (strtod(text, NULL) == number || digits == 17) {
            length = (size_t)written;
            memcpy(out, text, length);
        }
    }
    return out + length;
}

char *json_line_put(const struct proto_member *members, size_t count, char *out) {
    bool comma = false;
    for (const struct proto_member *member = members; member < members + count; member++) {
        if (member->string == NULL && isnan(member->number))
            continue;
        if (comma)
            *out++ = ',';
        comma = true;
        *out++ = '"';
        out = put_bytes(out, member->name, strlen(member->name));
        out = put_bytes(out, "\":", 2);
        out = member->string != NULL ? put_string(out, member->string) : put_number(out, member->number);
    }
    return out;
}
