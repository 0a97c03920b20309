/* protobuf_count.c: a walk over the fields of a message. It reads every byte at most once, and compares every length
 * with the bytes that are left.
 */
#include "proto/protobuf_count.h"

#include <stdint.h>

/* https://protobuf.dev/programming-guides/encoding */
enum wire_type { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

/* Field numbers of score.proto. */
enum { MESSAGE_USER_ID = 1, MESSAGE_HISTORY = 4, MESSAGE_CANDIDATES = 7 };
enum { TABLE_COLUMNS = 1 };
enum { COLUMN_INTEGERS = 2, COLUMN_STRINGS = 3, COLUMN_REALS = 4, COLUMN_UNSIGNED = 6 };

struct span {
    const unsigned char *next, *end;
};

struct field {
    uint64_t number;
    unsigned type;
    struct span content; /* empty for a varint */
};

/* Seven bits per byte, the lowest first. The last byte is below 128. */
static bool read_varint(struct span *span, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && span->next < span->end; shift += 7) {
        unsigned char byte = *span->next++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* False at the end of the span, or at bytes that are no field. */
static bool next_field(struct span *span, struct field *field) {
    uint64_t tag, value, length = 0;
    if (!read_varint(span, &tag))
        return false;
    field->number = tag >> 3;
    field->type = tag & 7;
    switch (field->type) {
    case VARINT:
        if (!read_varint(span, &value))
            return false;
        break;
    case LENGTH:
        if (!read_varint(span, &length))
            return false;
        break;
    case FIXED64:
        length = 8;
        break;
    case FIXED32:
        length = 4;
        break;
    default:
        return false;
    }
    if (length > (uint64_t)(span->end - span->next))
        return false;
    field->content = (struct span){span->next, span->next + length};
    span->next += length;
    return true;
}

/* Numbers come either packed, many in one field, or each in a field of its own. */
static size_t count_in_column(struct span column) {
    struct field field;
    size_t count = 0;
    while (next_field(&column, &field)) {
        const unsigned char *next = field.content.next, *end = field.content.end;
        bool is_integers = field.number == COLUMN_INTEGERS || field.number == COLUMN_UNSIGNED;
        if (is_integers && field.type == LENGTH) {
            for (; next < end; next++)
                count += *next < 0x80; /* the last byte of a varint */
        } else if (field.number == COLUMN_REALS && field.type == LENGTH) {
            count += (size_t)(end - next) / sizeof(double);
        } else {
            count += is_integers || field.number == COLUMN_STRINGS || field.number == COLUMN_REALS;
        }
    }
    return count;
}

static size_t count_in_table(struct span table) {
    struct field field;
    size_t count = 0;
    while (next_field(&table, &field))
        if (field.number == TABLE_COLUMNS)
            count += count_in_column(field.content);
    return count;
}

struct protobuf_counts protobuf_count_values(const char *body, size_t size) {
    struct span message = {(const unsigned char *)body, (const unsigned char *)body + size};
    struct protobuf_counts counts = {0};
    struct field field;
    while (next_field(&message, &field)) {
        if (field.number == MESSAGE_HISTORY) {
            counts.has_history = true;
            counts.history += count_in_table(field.content);
        } else if (field.number == MESSAGE_CANDIDATES) {
            counts.candidates += count_in_table(field.content);
        }
    }
    return counts;
}

size_t protobuf_field(const char *message, size_t size, bool *is_user_id) {
    struct span span = {(const unsigned char *)message, (const unsigned char *)message + size};
    struct field field;
    if (!next_field(&span, &field))
        return 0;
    *is_user_id = (uint32_t)field.number == MESSAGE_USER_ID;
    return (size_t)(span.next - (const unsigned char *)message);
}
