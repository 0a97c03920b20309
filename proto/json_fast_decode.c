/* json_fast_decode.c: one pass over a copy of the body. Strings stay where they are in the copy, escapes written over
 * their own text; values go into one array whose size is known from a count of commas and brackets.
 *
 * Every function returns false for "not mine", whatever the reason: the caller then starts again with jansson. So
 * nothing here explains, and whatever is rare or doubtful is left: null and booleans among the values, integers of more
 * than 64 bits, reals out of range, a member that a request does not have.
 */
#include "proto/json_fast_decode.h"

#include "proto/utf8.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIGITS_MAX = 19,        /* of a 64-bit integer */
    POWERS = 23,            /* powers of ten that a double holds exactly */
    EXPONENT_DIGITS_MAX = 3 /* any more is for strtod */
};

/* Whole numbers up to this are exact in a double. */
static const uint64_t exact_limit = (uint64_t)1 << 53;

static const double power_of_ten[POWERS] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                            1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

struct scanner {
    char *at;        /* next byte of the copy, which ends with a NUL */
    const char *end; /* that NUL */
    struct arena *arena;
    unsigned int seen;                                /* members of the request, a bit each */
    size_t room;                                      /* values that the body can hold at most */
    struct proto_value *next, *values_end;            /* room for values */
    double *next_number, *numbers_end;                /* the same for numbers of vectors, once there is one */
    struct proto_column columns[PROTO_FIELDS_MAX];    /* of the group in hand */
    struct proto_value *row_values[PROTO_FIELDS_MAX]; /* row form: the same columns' values, to be written */
    size_t last_row[PROTO_FIELDS_MAX];                /* row form: the last row that had the column, from 1 */
};

/* ---- characters ---- */

/* Bytes of a string that need no second look: ASCII but the quote, the backslash and control characters. */
static bool is_plain(char byte) {
    unsigned char code = (unsigned char)byte;
    return code >= 0x20 && code < 0x80 && code != '"' && code != '\\';
}

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

/* The next byte that is not white space; it is not taken. */
static char peek(struct scanner *scanner) {
    while (*scanner->at == ' ' || *scanner->at == '\n' || *scanner->at == '\r' || *scanner->at == '\t')
        scanner->at++;
    return *scanner->at;
}

static bool take(struct scanner *scanner, char byte) {
    if (peek(scanner) != byte)
        return false;
    scanner->at++;
    return true;
}

static bool take_word(struct scanner *scanner, const char *word) {
    size_t length = strlen(word);
    if (strncmp(scanner->at, word, length) != 0)
        return false;
    scanner->at += length;
    return true;
}

/* ---- strings ---- */

/* Four hexadecimal digits, or -1. */
static int32_t hex_of(const char *at) {
    int32_t code = 0;
    for (size_t i = 0; i < 4; i++) {
        char byte = at[i], lower = (char)(byte | 0x20);
        if (is_digit(byte))
            code = code * 16 + (byte - '0');
        else if (lower >= 'a' && lower <= 'f')
            code = code * 16 + (lower - 'a' + 10);
        else
            return -1;
    }
    return code;
}

static char *put_utf8(char *out, int32_t code) {
    if (code < 0x80) {
        *out++ = (char)code;
        return out;
    }
    if (code < 0x800) {
        *out++ = (char)(0xC0 | code >> 6);
    } else {
        if (code < 0x10000) {
            *out++ = (char)(0xE0 | code >> 12);
        } else {
            *out++ = (char)(0xF0 | code >> 18);
            *out++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *out++ = (char)(0x80 | (code >> 6 & 0x3F));
    }
    *out++ = (char)(0x80 | (code & 0x3F));
    return out;
}

/* \uXXXX, or a pair of them for a character beyond U+FFFF. `at` is after the u. The bytes past it, or NULL. */
static char *scan_unicode(char *at, char **out) {
    int32_t code = hex_of(at);
    if (code <= 0 || (code >= 0xDC00 && code <= 0xDFFF))
        return NULL;
    at += 4;
    if (code >= 0xD800 && code <= 0xDBFF) {
        if (at[0] != '\\' || at[1] != 'u')
            return NULL;
        int32_t low = hex_of(at + 2);
        if (low < 0xDC00 || low > 0xDFFF)
            return NULL;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        at += 6;
    }
    *out = put_utf8(*out, code);
    return at;
}

/* `at` is after the backslash. What is written is never longer than what is read. */
static char *scan_escape(char *at, char **out) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (*at == 'u')
        return scan_unicode(at + 1, out);
    const char *found = *at != '\0' ? strchr(names, *at) : NULL;
    if (found == NULL)
        return NULL;
    *(*out)++ = meanings[found - names];
    return at + 1;
}

/* A string from its first byte that is not plain: escapes and characters beyond ASCII. Moves what follows an escape
 * down. The string's end in the copy, or NULL; scanner->at is then past the quote. */
static const char *scan_awkward(struct scanner *scanner, char *at) {
    char *out = at;
    while (*at != '"') {
        size_t size = 1;
        if (*at == '\\') {
            at = scan_escape(at + 1, &out);
            if (at == NULL)
                return NULL;
            continue;
        }
        if (!is_plain(*at))
            size = (unsigned char)*at >= 0x80 ? utf8_size(at, (size_t)(scanner->end - at)) : 0;
        if (size == 0)
            return NULL;
        for (size_t i = 0; i < size; i++)
            *out++ = *at++;
    }
    scanner->at = at + 1;
    return out;
}

static bool scan_string(struct scanner *scanner, struct proto_string *string) {
    if (peek(scanner) != '"')
        return false;
    char *start = scanner->at + 1, *at = start;
    const char *end;
    while (is_plain(*at))
        at++;
    if (*at == '"') {
        end = at;
        scanner->at = at + 1;
    } else {
        end = scan_awkward(scanner, at);
        if (end == NULL)
            return false;
    }
    *string = (struct proto_string){start, (size_t)(end - start)};
    return true;
}

/* ---- numbers ---- */

/* The digits of a number without its point and sign, as far as they fit. */
struct decimal {
    uint64_t digits;
    size_t count; /* of digits; more than DIGITS_MAX do not fit */
    int exponent; /* the value is digits * 10^exponent */
};

static char *scan_digits(char *at, struct decimal *decimal) {
    while (is_digit(*at)) {
        decimal->digits = decimal->digits * 10 + (uint64_t)(*at++ - '0');
        decimal->count++;
    }
    return at;
}

/* The exponent from its e, or `at` where there is none. NULL: no exponent, or for strtod (then too). */
static char *scan_exponent(char *at, int *exponent) {
    if (*at != 'e' && *at != 'E')
        return at;
    bool negative = *++at == '-';
    at += *at == '-' || *at == '+';
    struct decimal decimal = {0};
    at = scan_digits(at, &decimal);
    if (decimal.count == 0 || decimal.count > EXPONENT_DIGITS_MAX)
        return NULL;
    *exponent += negative ? -(int)decimal.digits : (int)decimal.digits;
    return at;
}

/* The double nearest to a decimal. Digits and a power of ten that are both exact give it with one rounding (Clinger,
 * "How to read floating point numbers accurately", 1990); strtod does the rest. */
static bool to_double(const char *start, const char *end, const struct decimal *decimal, double *value) {
    bool exact = decimal->count <= DIGITS_MAX && decimal->digits <= exact_limit;
    if (exact && decimal->exponent <= 0 && decimal->exponent > -POWERS)
        *value = (double)decimal->digits / power_of_ten[-decimal->exponent];
    else if (exact && decimal->exponent > 0 && decimal->exponent < POWERS)
        *value = (double)decimal->digits * power_of_ten[decimal->exponent];
    else {
        char *stop;
        *value = strtod(start, &stop);
        return stop == end && isfinite(*value);
    }
    return true;
}

/* `at` is at the point or the e; `decimal` has what came before. */
static bool scan_real(struct scanner *scanner, char *at, bool negative, struct decimal *decimal,
                      struct proto_value *value) {
    const char *start = scanner->at + (negative ? 1 : 0);
    if (*at == '.') {
        size_t before = decimal->count;
        at = scan_digits(at + 1, decimal);
        if (decimal->count == before)
            return false;
        decimal->exponent = (int)before - (int)decimal->count;
    }
    double magnitude;
    at = scan_exponent(at, &decimal->exponent);
    if (at == NULL || !to_double(start, at, decimal, &magnitude))
        return false;
    *value = (struct proto_value){.kind = PROTO_REAL, .real = negative ? -magnitude : magnitude};
    scanner->at = at;
    return true;
}

/* scanner->at is at the minus or the first digit. */
static bool scan_number(struct scanner *scanner, struct proto_value *value) {
    bool negative = *scanner->at == '-';
    char *first = scanner->at + (negative ? 1 : 0);
    struct decimal decimal = {0};
    char *at = scan_digits(first, &decimal);
    if (decimal.count == 0 || (decimal.count > 1 && *first == '0'))
        return false;
    if (*at == '.' || *at == 'e' || *at == 'E')
        return scan_real(scanner, at, negative, &decimal, value);
    if (decimal.count > DIGITS_MAX || decimal.digits > (uint64_t)INT64_MAX)
        return false; /* the least integer, too, is for jansson */
    int64_t integer = (int64_t)decimal.digits;
    *value = (struct proto_value){.kind = PROTO_INTEGER, .integer = negative ? -integer : integer};
    scanner->at = at;
    return true;
}

/* ---- values ---- */

static bool scan_vector_number(struct scanner *scanner) {
    struct proto_value number;
    peek(scanner);
    if (scanner->next_number == scanner->numbers_end || !scan_number(scanner, &number))
        return false;
    *scanner->next_number++ = number.kind == PROTO_REAL ? number.real : (double)number.integer;
    return true;
}

static bool scan_vector(struct scanner *scanner, struct proto_value *value) {
    if (scanner->next_number == NULL) {
        scanner->next_number = arena_array(scanner->arena, scanner->room, sizeof *scanner->next_number);
        if (scanner->next_number == NULL)
            return false;
        scanner->numbers_end = scanner->next_number + scanner->room;
    }
    const double *first = scanner->next_number;
    if (!take(scanner, '['))
        return false;
    if (!take(scanner, ']')) {
        do
            if (!scan_vector_number(scanner))
                return false;
        while (take(scanner, ','));
        if (!take(scanner, ']'))
            return false;
    }
    *value =
        (struct proto_value){.kind = PROTO_VECTOR, .length = (uint32_t)(scanner->next_number - first), .vector = first};
    return true;
}

static bool scan_value(struct scanner *scanner, struct proto_value *value) {
    char byte = peek(scanner);
    if (byte == '"') {
        struct proto_string string;
        if (!scan_string(scanner, &string))
            return false;
        *value = (struct proto_value){.kind = PROTO_STRING, .length = (uint32_t)string.length, .string = string.data};
        return true;
    }
    return byte == '[' ? scan_vector(scanner, value) : scan_number(scanner, value);
}

/* Room for the values of the column form, when the first group of that form is met. */
static bool need_values(struct scanner *scanner) {
    if (scanner->next == NULL) {
        scanner->next = arena_array(scanner->arena, scanner->room, sizeof *scanner->next);
        if (scanner->next == NULL)
            return false;
        scanner->values_end = scanner->next + scanner->room;
    }
    return true;
}

static struct proto_value *new_value(struct scanner *scanner) {
    return scanner->next < scanner->values_end ? scanner->next++ : NULL;
}

/* ---- groups ---- */

static bool same(const struct proto_string *a, const struct proto_string *b) {
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

/* The place of a name among the columns, or `count`; `guess` is looked at first. */
static size_t find_column(const struct scanner *scanner, size_t count, size_t guess, const struct proto_string *name) {
    if (guess < count && same(&scanner->columns[guess].name, name))
        return guess;
    size_t place = 0;
    while (place < count && !same(&scanner->columns[place].name, name))
        place++;
    return place;
}

static bool finish_table(struct scanner *scanner, enum proto_form form, size_t rows, size_t count,
                         struct proto_table *table) {
    struct proto_column *columns = arena_array(scanner->arena, count, sizeof *columns);
    if (columns == NULL)
        return false;
    memcpy(columns, scanner->columns, count * sizeof *columns);
    *table = (struct proto_table){form, true, rows, count, columns};
    return true;
}

/* One column's values: an array's, or without one a single value. */
static bool scan_column(struct scanner *scanner, bool single, struct proto_column *column) {
    column->values = scanner->next;
    bool array = !single;
    if (array && !take(scanner, '['))
        return false;
    if (!(array && peek(scanner) == ']')) {
        do {
            struct proto_value *value = new_value(scanner);
            if (value == NULL || !scan_value(scanner, value))
                return false;
        } while (array && take(scanner, ','));
    }
    column->count = (size_t)(scanner->next - column->values);
    return !array || take(scanner, ']');
}

/* {"item": ["A13", "A16"]}, or with `single` {"country": 29}. */
static bool scan_columns(struct scanner *scanner, bool single, struct proto_table *table) {
    size_t count = 0, rows = 0;
    if (!need_values(scanner) || !take(scanner, '{'))
        return false;
    if (!take(scanner, '}')) {
        do {
            struct proto_string name;
            if (count == PROTO_FIELDS_MAX || !scan_string(scanner, &name) || !take(scanner, ':') ||
                find_column(scanner, count, count, &name) < count)
                return false;
            struct proto_column *column = &scanner->columns[count++];
            column->name = name;
            if (!scan_column(scanner, single, column))
                return false;
            rows = column->count > rows ? column->count : rows;
        } while (take(scanner, ','));
        if (!take(scanner, '}'))
            return false;
    }
    return finish_table(scanner, PROTO_COLUMNS, rows, count, table);
}

/* A column that first comes in this row; the rows before it lack it. `room` is for rows. */
static bool add_column(struct scanner *scanner, size_t place, const struct proto_string *name, size_t row,
                       size_t room) {
    struct proto_value *values = place < PROTO_FIELDS_MAX ? arena_array(scanner->arena, room, sizeof *values) : NULL;
    if (values == NULL)
        return false;
    for (size_t i = 0; i < row; i++)
        values[i] = (struct proto_value){.kind = PROTO_ABSENT};
    scanner->columns[place] = (struct proto_column){.name = *name, .values = values};
    scanner->row_values[place] = values;
    scanner->last_row[place] = 0;
    return true;
}

/* The members of one row, up to its bracket. Rows mostly share their order of names, so the column after the last one
 * is the guess. */
static bool scan_row_members(struct scanner *scanner, size_t row, size_t room, size_t *count, size_t *members) {
    size_t place = 0;
    do {
        struct proto_string name;
        if (!scan_string(scanner, &name) || !take(scanner, ':'))
            return false;
        place = find_column(scanner, *count, place, &name);
        if (place == *count && !add_column(scanner, (*count)++, &name, row, room))
            return false;
        if (scanner->last_row[place] == row + 1) /* the name comes twice */
            return false;
        scanner->last_row[place] = row + 1;
        if (!scan_value(scanner, &scanner->row_values[place][row]))
            return false;
        place++;
        (*members)++;
    } while (take(scanner, ','));
    return true;
}

static bool scan_row(struct scanner *scanner, size_t row, size_t room, size_t *count) {
    size_t members = 0;
    if (row == room || !take(scanner, '{'))
        return false;
    if (peek(scanner) != '}' && !scan_row_members(scanner, row, room, count, &members))
        return false;
    for (size_t i = 0; members < *count && i < *count; i++)
        if (scanner->last_row[i] != row + 1)
            scanner->row_values[i][row] = (struct proto_value){.kind = PROTO_ABSENT};
    return take(scanner, '}');
}

/* Bytes of the text from `at` to its end that are `byte`. */
static size_t count_byte(const char *at, const char *end, char byte) {
    size_t count = 0;
    while (at < end) { /* in pieces whose counts fit in bytes: compilers then count many at once */
        size_t length = end - at < UCHAR_MAX ? (size_t)(end - at) : UCHAR_MAX;
        unsigned char piece = 0;
        for (size_t i = 0; i < length; i++)
            piece = (unsigned char)(piece + (at[i] == byte));
        count += piece;
        at += length;
    }
    return count;
}

/* [{"item": "A13"}, {"item": "A16"}] */
static bool scan_rows(struct scanner *scanner, struct proto_table *table) {
    size_t rows = 0, count = 0;
    size_t room = count_byte(scanner->at, scanner->end, '{');
    if (!take(scanner, '['))
        return false;
    if (!take(scanner, ']')) {
        do
            if (!scan_row(scanner, rows++, room, &count))
                return false;
        while (take(scanner, ','));
        if (!take(scanner, ']'))
            return false;
    }
    for (size_t i = 0; i < count; i++)
        scanner->columns[i].count = rows;
    return finish_table(scanner, PROTO_ROWS, rows, count, table);
}

static bool scan_table(struct scanner *scanner, struct proto_table *table) {
    return peek(scanner) == '[' ? scan_rows(scanner, table) : scan_columns(scanner, false, table);
}

/* ---- members ---- */

/* A string that says whose, of 1 to `most` bytes. */
static bool scan_name(struct scanner *scanner, size_t most, bool *present, struct proto_string *string) {
    *present = true;
    return scan_string(scanner, string) && string->length >= 1 && string->length <= most;
}

static bool scan_top_k(struct scanner *scanner, struct proto_request *request) {
    struct proto_value value;
    peek(scanner);
    if (!scan_number(scanner, &value) || value.kind != PROTO_INTEGER || value.integer < 1)
        return false;
    request->top_k = (size_t)value.integer;
    return true;
}

static bool scan_explain(struct scanner *scanner, struct proto_request *request) {
    request->explain = peek(scanner) == 't';
    return take_word(scanner, request->explain ? "true" : "false");
}

static bool is_named(const struct proto_string *name, const char *text) {
    return name->length == strlen(text) && memcmp(name->data, text, name->length) == 0;
}

enum member { HISTORY, CANDIDATES, USER, CONTEXT, USER_ID, TOP_K, EXPLAIN, HISTORY_TOKEN, HISTORY_APPEND, MEMBERS };

static enum member member_of(const struct proto_string *name) {
    static const char *const names[MEMBERS] = {
        [HISTORY] = "history",
        [CANDIDATES] = "candidates",
        [USER] = "user",
        [CONTEXT] = "context",
        [USER_ID] = "user_id",
        [TOP_K] = "top_k",
        [EXPLAIN] = "explain",
        [HISTORY_TOKEN] = "history_token",
        [HISTORY_APPEND] = "history_append",
    };
    unsigned int member = 0;
    while (member < MEMBERS && !is_named(name, names[member]))
        member++;
    return (enum member)member;
}

static bool scan_member(struct scanner *scanner, enum member member, struct proto_request *request) {
    if ((scanner->seen & 1U << member) != 0)
        return false;
    scanner->seen |= 1U << member;
    switch (member) {
    case HISTORY:
        return scan_table(scanner, &request->history);
    case CANDIDATES:
        return scan_table(scanner, &request->candidates);
    case USER:
        return scan_columns(scanner, true, &request->user);
    case CONTEXT:
        return scan_columns(scanner, true, &request->context);
    case USER_ID:
        return scan_name(scanner, PROTO_USER_ID_MAX, &request->has_user_id, &request->user_id);
    case TOP_K:
        return scan_top_k(scanner, request);
    case EXPLAIN:
        return scan_explain(scanner, request);
    case HISTORY_TOKEN:
        return scan_name(scanner, PROTO_HISTORY_TOKEN_MAX, &request->has_history_token, &request->history_token);
    case HISTORY_APPEND:
        return scan_table(scanner, &request->history_append);
    case MEMBERS:
        break;
    }
    return false;
}

/* Members that decode.c lets stand together. */
static bool go_together(const struct proto_request *request) {
    bool token = request->has_history_token;
    return request->candidates.rows > 0 && request->candidates.columns > 0 && !(request->history.present && token) &&
           (!token || request->has_user_id) && (token || !request->history_append.present);
}

static bool scan_request(struct scanner *scanner, struct proto_request *request) {
    if (!take(scanner, '{'))
        return false;
    do {
        struct proto_string name;
        if (!scan_string(scanner, &name) || !take(scanner, ':') || !scan_member(scanner, member_of(&name), request))
            return false;
    } while (take(scanner, ','));
    return take(scanner, '}') && peek(scanner) == '\0' && scanner->at == scanner->end && go_together(request);
}

/* The copy, and how many values there can be: each follows a comma or an opening bracket of its own. */
static bool start(struct scanner *scanner, const char *body, size_t size, struct arena *arena) {
    char *copy = arena_alloc(arena, size + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, body, size);
    copy[size] = '\0';
    scanner->at = copy;
    scanner->end = copy + size;
    scanner->arena = arena;
    scanner->seen = 0;
    scanner->room =
        count_byte(copy, scanner->end, ',') + count_byte(copy, scanner->end, '[') + count_byte(copy, scanner->end, '{');
    scanner->next = scanner->values_end = NULL;
    scanner->next_number = scanner->numbers_end = NULL;
    return true;
}

bool json_fast_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request) {
    struct scanner scanner; /* its arrays are set as far as they are used */
    *request = (struct proto_request){0};
    return size > 0 && size < INT_MAX && start(&scanner, body, size, arena) && scan_request(&scanner, request);
}
