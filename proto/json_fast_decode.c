/* json_fast_decode.c: one pass over a copy of the body.
 *
 * Strings stay at their place in the copy; escapes are decoded in place. Values go into one array, whose size follows
 * from a count of commas and brackets.
 *
 * Every function returns false to leave the body to jansson, whatever the reason. So no function here explains a
 * mistake, and rare or doubtful input is left too: booleans among the values, most nulls there, reals out of range,
 * members that a request does not have.
 */
#include "proto/json_fast_decode.h"

#include "proto/digits.h"
#include "proto/number.h"
#include "proto/utf8.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    DIGITS_MAX = 19,        /* of a 64-bit integer */
    POWERS = 23,            /* powers of ten that a double holds exactly */
    EXPONENT_DIGITS_MAX = 3 /* longer exponents are left to strtod */
};

/* Whole numbers up to this are exact in a double. */
static const uint64_t exact_max = (uint64_t)NUMBER_EXACT_MAX;

static const double power_of_ten[POWERS] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                            1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

struct scanner {
    char *next;      /* byte of the copy, which ends with a NUL */
    const char *end; /* that NUL */
    struct arena *arena;
    size_t value_room;                                /* values that the body can hold at most */
    struct proto_value *next_value, *values_end;      /* NULL until the first group in column form */
    double *next_number, *numbers_end;                /* of vectors; NULL until the first vector */
    struct proto_column columns[PROTO_FIELDS_MAX];    /* of the current group */
    struct proto_value *row_values[PROTO_FIELDS_MAX]; /* row form: values of the same columns, to be written */
    size_t last_row[PROTO_FIELDS_MAX];                /* row form: last row that had the column, from 1 */
};

/* ---- characters ---- */

/* A byte that a string can hold as it is: ASCII other than the quote, the backslash and control characters. */
static bool is_plain(char byte) {
    unsigned char code = (unsigned char)byte;
    return code >= 0x20 && code < 0x80 && code != '"' && code != '\\';
}

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

/* Skips white space and returns the byte after it, without taking it. */
static char peek(struct scanner *scanner) {
    while (*scanner->next == ' ' || *scanner->next == '\n' || *scanner->next == '\r' || *scanner->next == '\t')
        scanner->next++;
    return *scanner->next;
}

/* Takes a word of JSON: null, true or false. */
static bool take_word(struct scanner *scanner, const char *word) {
    size_t length = strlen(word);
    peek(scanner);
    if (strncmp(scanner->next, word, length) != 0)
        return false;
    scanner->next += length;
    return true;
}

static bool take(struct scanner *scanner, char byte) {
    if (peek(scanner) != byte)
        return false;
    scanner->next++;
    return true;
}

/* ---- strings ---- */

/* Four hexadecimal digits, or -1. */
static int32_t scan_hex(const char *text) {
    int32_t code = 0;
    for (size_t i = 0; i < 4; i++) {
        int value = digits_hex_value(text[i]);
        if (value < 0)
            return -1;
        code = code * 16 + value;
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

/* Decodes an escape; `text` is after the backslash. Returns the text after the escape, or NULL. Writing in place is
 * safe, because the decoded character is never longer than its escape. */
static char *scan_escape(char *text, char **out) {
    static const char names[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    if (*text != 'u') {
        const char *name = *text != '\0' ? strchr(names, *text) : NULL;
        if (name == NULL)
            return NULL;
        *(*out)++ = meanings[name - names];
        return text + 1;
    }
    int32_t code = scan_hex(text + 1);
    if (code <= 0 || (code >= 0xDC00 && code <= 0xDFFF))
        return NULL;
    text += 5;
    if (code >= 0xD800 && code <= 0xDBFF) { /* the first of a pair, for a character beyond U+FFFF */
        if (text[0] != '\\' || text[1] != 'u')
            return NULL;
        int32_t low = scan_hex(text + 2);
        if (low < 0xDC00 || low > 0xDFFF)
            return NULL;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        text += 6;
    }
    *out = put_utf8(*out, code);
    return text;
}

/* The rest of a string, from its first byte that is not plain: escapes and characters beyond ASCII. Moves the text
 * after an escape down. Returns the string's end in the copy, or NULL. */
static const char *scan_rest(struct scanner *scanner, char *text) {
    char *out = text;
    while (*text != '"') {
        size_t size = 1;
        if (*text == '\\') {
            text = scan_escape(text + 1, &out);
            if (text == NULL)
                return NULL;
            continue;
        }
        if (!is_plain(*text))
            size = (unsigned char)*text >= 0x80 ? utf8_size(text, (size_t)(scanner->end - text)) : 0;
        if (size == 0)
            return NULL;
        for (size_t i = 0; i < size; i++)
            *out++ = *text++;
    }
    scanner->next = text + 1;
    return out;
}

static bool scan_string(struct scanner *scanner, struct proto_string *string) {
    if (peek(scanner) != '"')
        return false;
    char *start = scanner->next + 1, *text = start;
    const char *end;
    while (is_plain(*text))
        text++;
    if (*text == '"') {
        end = text;
        scanner->next = text + 1;
    } else {
        end = scan_rest(scanner, text);
        if (end == NULL)
            return false;
    }
    *string = (struct proto_string){start, (size_t)(end - start)};
    return true;
}

/* ---- numbers ---- */

/* A number without its sign: digits * 10^exponent. */
struct decimal {
    uint64_t digits;
    size_t count; /* of digits; beyond DIGITS_MAX `digits` has overflowed */
    int exponent;
};

static char *scan_digits(char *text, struct decimal *decimal) {
    while (is_digit(*text)) {
        decimal->digits = decimal->digits * 10 + (uint64_t)(*text++ - '0');
        decimal->count++;
    }
    return text;
}

/* A number of 2^53 or more, whose double might not have all its digits. */
static bool scan_wide(struct scanner *scanner, struct proto_value *value) {
    const char *end = number_end(scanner->next, scanner->end);
    if (end == NULL)
        return false;
    *value = number_value(scanner->next, end);
    scanner->next += end - scanner->next;
    return value->kind != PROTO_REAL || isfinite(value->real);
}

/* The rest of a number, from its point or its e; `decimal` holds the digits before that. */
static bool scan_real(struct scanner *scanner, char *text, bool negative, struct decimal *decimal,
                      struct proto_value *value) {
    const char *start = scanner->next + (negative ? 1 : 0);
    if (*text == '.') {
        size_t before = decimal->count;
        text = scan_digits(text + 1, decimal);
        if (decimal->count == before)
            return false;
        decimal->exponent = (int)before - (int)decimal->count;
    }
    if (*text == 'e' || *text == 'E') {
        bool divides = *++text == '-';
        text += *text == '-' || *text == '+';
        struct decimal power = {0};
        text = scan_digits(text, &power);
        if (power.count == 0 || power.count > EXPONENT_DIGITS_MAX)
            return false;
        decimal->exponent += divides ? -(int)power.digits : (int)power.digits;
    }

    /* If the digits and the power of ten are both exact, one operation gives the nearest double, because it rounds
     * once (Clinger, "How to read floating point numbers accurately", 1990). strtod does the other numbers. */
    double magnitude;
    bool exact = decimal->count <= DIGITS_MAX && decimal->digits <= exact_max;
    if (exact && decimal->exponent <= 0 && decimal->exponent > -POWERS) {
        magnitude = (double)decimal->digits / power_of_ten[-decimal->exponent];
    } else if (exact && decimal->exponent > 0 && decimal->exponent < POWERS) {
        magnitude = (double)decimal->digits * power_of_ten[decimal->exponent];
    } else {
        char *stop;
        magnitude = strtod(start, &stop);
        if (stop != text)
            return false;
    }
    if (magnitude >= NUMBER_EXACT_MAX)
        return scan_wide(scanner, value);
    *value = (struct proto_value){.kind = PROTO_REAL, .real = negative ? -magnitude : magnitude};
    scanner->next = text;
    return true;
}

/* scanner->next is at the minus or the first digit. */
static bool scan_number(struct scanner *scanner, struct proto_value *value) {
    bool negative = *scanner->next == '-';
    char *first = scanner->next + (negative ? 1 : 0);
    struct decimal decimal = {0};
    char *text = scan_digits(first, &decimal);
    if (decimal.count == 0 || (decimal.count > 1 && *first == '0'))
        return false;
    if (*text == '.' || *text == 'e' || *text == 'E')
        return scan_real(scanner, text, negative, &decimal, value);
    if (decimal.count > DIGITS_MAX || decimal.digits > (uint64_t)INT64_MAX)
        return scan_wide(scanner, value);
    int64_t integer = (int64_t)decimal.digits;
    *value = (struct proto_value){.kind = PROTO_INTEGER, .integer = negative ? -integer : integer};
    scanner->next = text;
    return true;
}

/* ---- values ---- */

static bool scan_vector(struct scanner *scanner, struct proto_value *value) {
    if (scanner->next_number == NULL) {
        scanner->next_number = arena_array(scanner->arena, scanner->value_room, sizeof *scanner->next_number);
        if (scanner->next_number == NULL)
            return false;
        scanner->numbers_end = scanner->next_number + scanner->value_room;
    }
    const double *first = scanner->next_number;
    if (!take(scanner, '['))
        return false;
    if (!take(scanner, ']')) {
        do {
            struct proto_value number;
            peek(scanner);
            if (scanner->next_number == scanner->numbers_end || !scan_number(scanner, &number))
                return false;
            *scanner->next_number++ = number.kind == PROTO_REAL       ? number.real
                                      : number.kind == PROTO_UNSIGNED ? (double)number.unsigned_integer
                                                                      : (double)number.integer;
        } while (take(scanner, ','));
        if (!take(scanner, ']'))
            return false;
    }
    *value =
        (struct proto_value){.kind = PROTO_VECTOR, .length = (uint32_t)(scanner->next_number - first), .vector = first};
    return true;
}

/* A value, or where `nullable` null: the value is absent. */
static bool scan_value(struct scanner *scanner, bool nullable, struct proto_value *value) {
    char byte = peek(scanner);
    if (byte == '"') {
        struct proto_string string;
        if (!scan_string(scanner, &string))
            return false;
        *value = (struct proto_value){.kind = PROTO_STRING, .length = (uint32_t)string.length, .string = string.data};
        return true;
    }
    if (byte == '[')
        return scan_vector(scanner, value);
    if (scan_number(scanner, value))
        return true;
    *value = (struct proto_value){.kind = PROTO_ABSENT};
    return nullable && byte == 'n' && take_word(scanner, "null");
}

/* ---- groups ---- */

/* The index of a name among the first `count` columns, or `count`. The column `guess` is compared first. */
static size_t find_column(const struct scanner *scanner, size_t count, size_t guess, const struct proto_string *name) {
    if (guess < count && proto_string_is(&scanner->columns[guess].name, name->data, name->length))
        return guess;
    size_t index = 0;
    while (index < count && !proto_string_is(&scanner->columns[index].name, name->data, name->length))
        index++;
    return index;
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

/* {"item": ["A13", "A16"]}, or with `single` {"country": 29}. */
static bool scan_columns(struct scanner *scanner, bool single, struct proto_table *table) {
    size_t count = 0, rows = 0;
    if (scanner->next_value == NULL) {
        scanner->next_value = arena_array(scanner->arena, scanner->value_room, sizeof *scanner->next_value);
        if (scanner->next_value == NULL)
            return false;
        scanner->values_end = scanner->next_value + scanner->value_room;
    }
    if (!take(scanner, '{'))
        return false;
    if (!take(scanner, '}')) {
        do {
            struct proto_string name;
            if (count == PROTO_FIELDS_MAX || !scan_string(scanner, &name) || !take(scanner, ':') ||
                find_column(scanner, count, count, &name) < count)
                return false;
            const struct proto_value *first = scanner->next_value;
            if (!single && !take(scanner, '['))
                return false;
            if (single || peek(scanner) != ']') {
                do
                    if (scanner->next_value == scanner->values_end ||
                        !scan_value(scanner, !single, scanner->next_value++))
                        return false;
                while (!single && take(scanner, ','));
            }
            if (!single && !take(scanner, ']'))
                return false;
            size_t length = (size_t)(scanner->next_value - first);
            scanner->columns[count++] = (struct proto_column){name, length, first};
            rows = length > rows ? length : rows;
        } while (take(scanner, ','));
        if (!take(scanner, '}'))
            return false;
    }
    return finish_table(scanner, PROTO_COLUMNS, rows, count, table);
}

/* Adds a column that no row before `row` has. */
static bool add_column(struct scanner *scanner, size_t index, const struct proto_string *name, size_t row,
                       size_t row_room) {
    struct proto_value *values =
        index < PROTO_FIELDS_MAX ? arena_array(scanner->arena, row_room, sizeof *values) : NULL;
    if (values == NULL)
        return false;
    for (size_t i = 0; i < row; i++)
        values[i] = (struct proto_value){.kind = PROTO_ABSENT};
    scanner->columns[index] = (struct proto_column){.name = *name, .values = values};
    scanner->row_values[index] = values;
    scanner->last_row[index] = 0;
    return true;
}

/* One row in braces; *count is the number of columns so far. Rows mostly have their names in one order, so the column
 * after the last one is the guess. */
static bool scan_row(struct scanner *scanner, size_t row, size_t row_room, size_t *count) {
    size_t members = 0, index = 0;
    if (row == row_room || !take(scanner, '{'))
        return false;
    if (peek(scanner) != '}') {
        do {
            struct proto_string name;
            if (!scan_string(scanner, &name) || !take(scanner, ':'))
                return false;
            index = find_column(scanner, *count, index, &name);
            if (index == *count && !add_column(scanner, (*count)++, &name, row, row_room))
                return false;
            if (scanner->last_row[index] == row + 1) /* a duplicate name */
                return false;
            scanner->last_row[index] = row + 1;
            if (!scan_value(scanner, false, &scanner->row_values[index][row]))
                return false;
            index++;
            members++;
        } while (take(scanner, ','));
    }
    for (size_t i = 0; members < *count && i < *count; i++)
        if (scanner->last_row[i] != row + 1)
            scanner->row_values[i][row] = (struct proto_value){.kind = PROTO_ABSENT};
    return take(scanner, '}');
}

/* How many bytes from `text` to `end` equal `byte`. */
static size_t count_byte(const char *text, const char *end, char byte) {
    size_t count = 0;
    while (text < end) { /* in pieces whose count fits in a byte, so that compilers vectorise the inner loop */
        size_t length = end - text < UCHAR_MAX ? (size_t)(end - text) : UCHAR_MAX;
        unsigned char piece = 0;
        for (size_t i = 0; i < length; i++)
            piece = (unsigned char)(piece + (text[i] == byte));
        count += piece;
        text += length;
    }
    return count;
}

/* A group in either form: {"item": ["A13", "A16"]} or [{"item": "A13"}, {"item": "A16"}]. */
static bool scan_table(struct scanner *scanner, struct proto_table *table) {
    if (peek(scanner) != '[')
        return scan_columns(scanner, false, table);
    size_t rows = 0, count = 0;
    size_t row_room = count_byte(scanner->next, scanner->end, '{');
    take(scanner, '[');
    if (!take(scanner, ']')) {
        do
            if (!scan_row(scanner, rows++, row_room, &count))
                return false;
        while (take(scanner, ','));
        if (!take(scanner, ']'))
            return false;
    }
    for (size_t i = 0; i < count; i++)
        scanner->columns[i].count = rows;
    return finish_table(scanner, PROTO_ROWS, rows, count, table);
}

/* ---- the request ---- */

enum member {
    HISTORY,
    CANDIDATES,
    USER,
    CONTEXT,
    USER_ID,
    TOP_K,
    EXPLAIN,
    HISTORY_TOKEN,
    HISTORY_APPEND,
    TIMEOUT_MS,
    PARTIAL,
    EVENT_ID,
    MEMBERS
};

static const char *const member_names[MEMBERS] = {
    [HISTORY] = "history",
    [CANDIDATES] = "candidates",
    [USER] = "user",
    [CONTEXT] = "context",
    [USER_ID] = "user_id",
    [TOP_K] = "top_k",
    [EXPLAIN] = "explain",
    [HISTORY_TOKEN] = "history_token",
    [HISTORY_APPEND] = "history_append",
    [TIMEOUT_MS] = "timeout_ms",
    [PARTIAL] = "partial",
    [EVENT_ID] = "event_id",
};

static bool scan_member(struct scanner *scanner, unsigned int member, struct proto_request *request) {
    struct proto_value value;
    if (peek(scanner) == 'n') /* as if the member were left out */
        return member < MEMBERS && take_word(scanner, "null");
    switch ((enum member)member) {
    case HISTORY:
        return scan_table(scanner, &request->history);
    case CANDIDATES:
        return scan_table(scanner, &request->candidates);
    case USER:
        return scan_columns(scanner, true, &request->user);
    case CONTEXT:
        return scan_columns(scanner, true, &request->context);
    case USER_ID:
        request->has_user_id = true;
        return scan_string(scanner, &request->user_id) &&
               proto_is_user_id(request->user_id.data, request->user_id.length);
    case HISTORY_TOKEN:
        request->has_history_token = true;
        return scan_string(scanner, &request->history_token) && request->history_token.length >= 1 &&
               utf8_count(request->history_token.data, request->history_token.length) <= PROTO_HISTORY_TOKEN_MAX;
    case EVENT_ID:
        request->has_event_id = true;
        return scan_string(scanner, &request->event_id) &&
               proto_is_event_id(request->event_id.data, request->event_id.length);
    case HISTORY_APPEND:
        return scan_table(scanner, &request->history_append);
    case TOP_K:
        peek(scanner);
        if (!scan_number(scanner, &value) || !number_to_integer(&value, &value) || value.kind != PROTO_INTEGER ||
            value.integer < 1)
            return false;
        request->top_k = (size_t)value.integer;
        return true;
    case TIMEOUT_MS:
        peek(scanner);
        if (!scan_number(scanner, &value) || !number_to_integer(&value, &value) || value.kind != PROTO_INTEGER ||
            value.integer < 1 || value.integer > PROTO_TIMEOUT_MAX)
            return false;
        request->timeout_ms = (uint32_t)value.integer;
        return true;
    case EXPLAIN:
        request->explain = peek(scanner) == 't';
        return take_word(scanner, request->explain ? "true" : "false");
    case PARTIAL:
        request->partial = peek(scanner) == 't';
        return take_word(scanner, request->partial ? "true" : "false");
    case MEMBERS:
        break;
    }
    return false;
}

bool json_fast_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request) {
    *request = (struct proto_request){0};
    if (size == 0 || size >= INT_MAX)
        return false;
    char *copy = arena_alloc(arena, size + 1);
    if (copy == NULL)
        return false;
    memcpy(copy, body, size);
    copy[size] = '\0';
    size_t skipped = utf8_mark_size(copy, size);

    struct scanner scanner; /* 14 KB: the arrays are set only as far as they are used */
    scanner.next = copy + skipped;
    scanner.end = copy + size;
    scanner.arena = arena;
    /* Each value follows a comma or an opening bracket of its own. */
    scanner.value_room =
        count_byte(copy, scanner.end, ',') + count_byte(copy, scanner.end, '[') + count_byte(copy, scanner.end, '{');
    scanner.next_value = scanner.values_end = NULL;
    scanner.next_number = scanner.numbers_end = NULL;

    unsigned int seen = 0; /* one bit per member */
    if (!take(&scanner, '{'))
        return false;
    do {
        struct proto_string name;
        if (!scan_string(&scanner, &name) || !take(&scanner, ':'))
            return false;
        unsigned int member = 0;
        while (member < MEMBERS && !proto_string_is(&name, member_names[member], strlen(member_names[member])))
            member++;
        if ((seen & 1U << member) != 0)
            return false;
        seen |= 1U << member;
        if (!scan_member(&scanner, member, request))
            return false;
    } while (take(&scanner, ','));
    if (!take(&scanner, '}') || peek(&scanner) != '\0' || scanner.next != scanner.end)
        return false;

    /* The rules of proto_check_request(), without the words. */
    bool token = request->has_history_token, append = request->history_append.present;
    return request->candidates.rows > 0 && request->candidates.columns > 0 &&
           !(request->history.present && (token || append)) && (!(token || append) || request->has_user_id) &&
           (append || !request->has_event_id);
}
