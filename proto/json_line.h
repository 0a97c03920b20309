/* json_line.h: members of a JSON object as text into the caller's memory, for lines of the log. Nothing is allocated,
 * since a line is made for each request.
 */
#ifndef PROTO_JSON_LINE_H
#define PROTO_JSON_LINE_H

#include <stddef.h>

struct proto_member {
    const char *name;   /* plain ASCII */
    const char *string; /* NULL: the member is the number */
    double number;
};

/* The bytes that json_line_put() writes at most. */
size_t json_line_most(const struct proto_member *members, size_t count);

/* Writes the members with commas between them, without braces and without a NUL, and returns their end. Members without
 * a string whose number is NaN are left out. A whole number is written as an integer, an infinite one as null. If a
 * string is not UTF-8, each of its bytes that is not ASCII becomes '?'. */
char *json_line_put(const struct proto_member *members, size_t count, char *out);

#endif
