/* protobuf_count.c: a walk over the fields of a message. Every byte is looked at once at most, and every length is held
 * against the bytes that are left.
 */
#include "proto/protobuf_count.h"

#include <stdint.h>

/* Of the wire format, https://protobuf.dev/programming-guides/encoding. */
enum wire_type { VARINT = 0, FIXED64 = 1, LENGTH = 2, FIXED32 = 5 };

/* Of score.proto. */
enum { MESSAGE_HISTORY = 4, MESSAGE_CANDIDATES = 7 };
enum { TABLE_COLUMNS = 1 };
enum { COLUMN_INTEGERS = 2, COLUMN_STRINGS = 3, COLUMN_REALS = 4 };

struct span {
    const unsigned char *next, *end;
};

struct field {
    uint64_t number;
    unsigned type;
    struct span content; /* empty: a varint's */
};

/* Seven bits a byte, the lowest first; the last byte is below 128. */
static bool read_varint(struct span *from, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && from->next < from->end; shift += 7) {
        unsigned char byte = *from->next++;
        *value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* Bytes of a field's content, which is next. False when that cannot be told. */
static bool read_length(struct span *from, unsigned type, uint64_t *length) {
    uint64_t value;
    switch (type) {
    case VARINT:
        *length = 0;
        return read_varint(from, &value);
    case LENGTH:
        return read_varint(from, length);
    case FIXED64:
    case FIXED32:
        *length = type == FIXED64 ? 8 : 4;
        return true;
    default:
        return false;
    }
}

/* False at the end, or where no field is. */
static bool next_field(struct span *from, struct field *field) {
    uint64_t tag, length;
    if (!read_varint(from, &tag))
        return false;
    field->number = tag >> 3;
    field->type = tag & 7;
    if (!read_length(from, field->type, &length) || length > (uint64_t)(from->end - from->next))
        return false;
    field->content = (struct span){from->next, from->next + length};
    from->next += length;
    return true;
}

/* Varints, one after the other. */
static size_t varints_in(struct span packed) {
    size_t count = 0;
    for (; packed.next < packed.end; packed.next++)
        count += *packed.next < 0x80;
    return count;
}

/* Numbers may come packed, many in a field, or one in each. */
static size_t values_in_field(const struct field *field) {
    bool packed = field->type == LENGTH;
    switch (field->number) {
    case COLUMN_INTEGERS:
        return packed ? varints_in(field->content) : 1;
    case COLUMN_STRINGS:
        return 1;
    case COLUMN_REALS:
        return packed ? (size_t)(field->content.end - field->content.next) / sizeof(double) : 1;
    default:
        return 0;
    }
}

static size_t values_in_column(struct span column) {
    struct field field;
    size_t count = 0;
    while (next_field(&column, &field))
        count += values_in_field(&field);
    return count;
}

static size_t values_in_table(struct span table) {
    struct field field;
    size_t count = 0;
    while (next_field(&table, &field))
        if (field.number == TABLE_COLUMNS)
            count += values_in_column(field.content);
    return count;
}

struct protobuf_counts protobuf_count_values(const char *body, size_t size) {
    struct span message = {(const unsigned char *)body, (const unsigned char *)body + size};
    struct protobuf_counts tally = {0};
    struct field field;
    while (next_field(&message, &field)) {
        if (field.number == MESSAGE_HISTORY) {
            tally.has_history = true;
            tally.history += values_in_table(field.content);
        } else if (field.number == MESSAGE_CANDIDATES) {
            tally.candidates += values_in_table(field.content);
        }
    }
    return tally;
}
