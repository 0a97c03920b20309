/* digits.h: numbers to the text that printf writes for them, many times faster, and hexadecimal digits. */
#ifndef PROTO_DIGITS_H
#define PROTO_DIGITS_H

#include <stddef.h>
#include <stdint.h>

enum { DIGITS_ROOM = 32 }; /* bytes that any of these functions writes at most */

/* These return the number of bytes written, without a NUL. */

/* "%lld", "%llu" */
size_t digits_of_integer(int64_t integer, char *out);
size_t digits_of_unsigned(uint64_t integer, char *out);

/* "%.9g": nine significant digits, correctly rounded, ties to even. Returns 0, and leaves rubbish in `out`, for numbers
 * that it does not take: zero, below 1e-36, from 2^29, not finite. */
size_t digits_of_float(float number, char *out);

/* "%.15g", for a double between 1e-4 and 1e15 that 15 digits give back exactly. Returns 0 for any other double. */
size_t digits_of_double(double number, char *out);

/* The hexadecimal digit, in lower case, of a number below 16. */
static inline char digits_hex(unsigned number) {
    return "0123456789abcdef"[number];
}

/* The value of a hexadecimal digit in either case, or -1 for any other character. */
static inline int digits_hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

#endif
