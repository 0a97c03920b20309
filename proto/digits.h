/* digits.h: numbers as the text that printf gives, for what replies are mostly made of, many times sooner. */
#ifndef PROTO_DIGITS_H
#define PROTO_DIGITS_H

#include <stddef.h>
#include <stdint.h>

enum { DIGITS_ROOM = 32 }; /* bytes that any of these writes at most */

/* "%lld". All return the bytes written; there is no NUL. */
size_t digits_of_integer(int64_t integer, char *out);

/* "%.9g": nine significant digits of the float, correctly rounded, ties to even. 0: not a number for this function
 * (zero, below 1e-36, 2^29 and beyond, not finite); nothing of use is written. */
size_t digits_of_float(float number, char *out);

/* "%.15g" of a double between 1e-4 and 1e15 that so many digits give back. 0: it is none, or it takes more. */
size_t digits_of_double(double number, char *out);

/* The hexadecimal digit, in lower case, of a number below 16. */
static inline char digits_hex(unsigned number) {
    return "0123456789abcdef"[number];
}

/* The number that a hexadecimal digit of either case stands for; -1 for any other character. */
static inline int digits_hex_value(char digit) {
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

#endif
