/* number.h: the text of a JSON number to a value of score.h.
 *
 * jansson reads integers of 63 bits and rounds all other numbers to doubles. This file reads what those cannot hold: a
 * number that is whole and fits in 64 bits keeps all its digits, whether it is written 18446744073709551615 or 1e19.
 */
#ifndef PROTO_NUMBER_H
#define PROTO_NUMBER_H

#include "proto/score.h"

/* Doubles from this on no longer hold every whole number. */
#define NUMBER_EXACT_MAX 9007199254740992.0 /* 2^53 */

/* The end of the number that `text` starts with (RFC 8259, section 6), or NULL if it starts with none. */
const char *number_end(const char *text, const char *end);

/* Whether jansson might refuse or round the number between `text` and `end`. Cheap, and true for some others too. */
bool number_is_wide(const char *text, const char *end);

/* The value of the number between `text` and `end`, as number_end() found it. The byte at `end` must be readable.
 *
 * PROTO_INTEGER and PROTO_UNSIGNED: integers without point and exponent, and, from NUMBER_EXACT_MAX on, any whole
 * number of 64 bits. PROTO_REAL: the nearest double of all others, which may be infinite. */
struct proto_value number_value(const char *text, const char *end);

/* Turns a number that is whole, such as 29.0, into PROTO_INTEGER or PROTO_UNSIGNED. False for any other value, and for
 * reals from 2^53 on, whose last digits are lost: the decoders yield integers for those that 64 bits hold. `value` and
 * `integer` may be one. */
bool number_to_integer(const struct proto_value *value, struct proto_value *integer);

#endif
