/* body_framing.c: one state machine, a byte at a time but for the bytes of chunks. */
#include "server/http/body_framing.h"

#include <string.h>

enum { SIZE_DIGITS = 15 }; /* of 4 bits: no sum of sizes overflows */

void body_framing_length(struct body_framing *framing, uint64_t length) {
    *framing = (struct body_framing){.state = length > 0 ? FRAMING_LENGTH : FRAMING_END, .left = length};
}

void body_framing_chunked(struct body_framing *framing, uint64_t most) {
    *framing = (struct body_framing){.state = FRAMING_SIZE_FIRST, .most = most};
}

static enum framing_state malformed(struct body_framing *framing, const char *fault) {
    framing->fault = fault;
    return FRAMING_MALFORMED;
}

static int hexadecimal(unsigned char byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    unsigned char lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static bool is_token_character(unsigned char byte) {
    return (byte >= '0' && byte <= '9') || ((byte | 0x20) >= 'a' && (byte | 0x20) <= 'z') ||
           (byte != '\0' && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

/* Text of a line: no control character but the tab. */
static bool is_text(unsigned char byte) {
    return byte == '\t' || (byte >= ' ' && byte != 0x7f);
}

/* A chunk's size is known. */
static enum framing_state begin_chunk(struct body_framing *framing) {
    framing->line = 0;
    if (framing->left == 0)
        return FRAMING_TRAILER_FIRST;
    framing->bytes += framing->left;
    return framing->bytes > framing->most ? FRAMING_TOO_LARGE : FRAMING_CHUNK;
}

/* The state after one more byte of the framing. */
static enum framing_state step(struct body_framing *framing, unsigned char byte) {
    static const char bad_size[] = "a chunk's size is not hexadecimal digits and CR LF";
    static const char bad_line_end[] = "a line among the chunks does not end in CR LF, or holds a control character";
    int digit = hexadecimal(byte);
    switch (framing->state) {
    case FRAMING_SIZE_FIRST:
        framing->left = 0;
        framing->line = 0;
        if (digit < 0)
            return malformed(framing, bad_size);
        framing->left = (uint64_t)digit;
        framing->line = 1;
        return FRAMING_SIZE;
    case FRAMING_SIZE:
        if (byte == '\r')
            return FRAMING_SIZE_LF;
        if (byte == ';')
            return FRAMING_EXTENSION;
        if (digit < 0 || framing->line >= SIZE_DIGITS)
            return malformed(framing, bad_size);
        framing->left = framing->left * 16 + (uint64_t)digit;
        framing->line++;
        return FRAMING_SIZE;
    case FRAMING_EXTENSION:
        if (byte == '\r')
            return FRAMING_SIZE_LF;
        if (!is_text(byte))
            return malformed(framing, bad_line_end);
        return ++framing->line < FRAMING_LINE_MOST ? FRAMING_EXTENSION
                                                   : malformed(framing, "a chunk's extensions are too long");
    case FRAMING_SIZE_LF:
        return byte == '\n' ? begin_chunk(framing) : malformed(framing, bad_line_end);
    case FRAMING_CHUNK_CR:
        return byte == '\r' ? FRAMING_CHUNK_LF : malformed(framing, "a chunk is longer than its size");
    case FRAMING_CHUNK_LF:
        return byte == '\n' ? FRAMING_SIZE_FIRST : malformed(framing, bad_line_end);
    case FRAMING_TRAILER_FIRST:
        if (byte == '\r')
            return FRAMING_LAST_LF;
        if (++framing->fields > FRAMING_TRAILER_FIELDS)
            return malformed(framing, "there are too many trailer fields");
        framing->line++;
        return is_token_character(byte) ? FRAMING_TRAILER_NAME
                                        : malformed(framing, "a trailer field has no name, or is folded");
    case FRAMING_TRAILER_NAME:
    case FRAMING_TRAILER_VALUE:
        if (byte == '\r' && framing->state == FRAMING_TRAILER_VALUE)
            return FRAMING_TRAILER_LF;
        if (++framing->line > FRAMING_TRAILER_MOST)
            return malformed(framing, "the trailer fields are too long");
        if (framing->state == FRAMING_TRAILER_NAME)
            return byte == ':'                ? FRAMING_TRAILER_VALUE
                   : is_token_character(byte) ? FRAMING_TRAILER_NAME
                                              : malformed(framing, "a trailer field's name is not a token");
        return is_text(byte) ? FRAMING_TRAILER_VALUE : malformed(framing, bad_line_end);
    case FRAMING_TRAILER_LF:
        return byte == '\n' ? FRAMING_TRAILER_FIRST : malformed(framing, bad_line_end);
    case FRAMING_LAST_LF:
        return byte == '\n' ? FRAMING_END : malformed(framing, bad_line_end);
    case FRAMING_LENGTH:
    case FRAMING_CHUNK:
    case FRAMING_END:
    case FRAMING_MALFORMED:
    case FRAMING_TOO_LARGE:
        break;
    }
    return framing->state;
}

size_t body_framing_take(struct body_framing *framing, const char *data, size_t size) {
    size_t taken = 0;
    while (taken < size && framing->state != FRAMING_END && !body_framing_failed(framing)) {
        if (framing->state != FRAMING_LENGTH && framing->state != FRAMING_CHUNK) {
            framing->state = step(framing, (unsigned char)data[taken]);
            taken++;
            continue;
        }
        size_t part = size - taken < framing->left ? size - taken : (size_t)framing->left;
        taken += part;
        framing->left -= part;
        if (framing->left == 0)
            framing->state = framing->state == FRAMING_LENGTH ? FRAMING_END : FRAMING_CHUNK_CR;
    }
    return taken;
}
