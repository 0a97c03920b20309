/* utf8.h: what well-formed UTF-8 is (Unicode, table 3-7), for the readers that do not have jansson look at it. */
#ifndef PROTO_UTF8_H
#define PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the character that `text` starts with, of whose bytes there are `left`, at least one; 0 when it is not well
 * formed. */
static inline size_t utf8_size(const char *text, size_t left) {
    const unsigned char *byte = (const unsigned char *)text;
    if (byte[0] < 0x80)
        return 1;
    if (byte[0] < 0xC2 || byte[0] > 0xF4)
        return 0;
    size_t size = byte[0] < 0xE0 ? 2 : byte[0] < 0xF0 ? 3 : 4;
    unsigned char low = byte[0] == 0xE0 ? 0xA0 : byte[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char high = byte[0] == 0xED ? 0x9F : byte[0] == 0xF4 ? 0x8F : 0xBF;
    if (size > left || byte[1] < low || byte[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if (byte[i] < 0x80 || byte[i] > 0xBF)
            return 0;
    return size;
}

/* Text as a request may have it: well formed, and without U+0000. */
static inline bool utf8_is_text(const char *text, size_t length) {
    for (size_t at = 0; at < length;) {
        size_t size = text[at] != '\0' ? utf8_size(text + at, length - at) : 0;
        if (size == 0)
            return false;
        at += size;
    }
    return true;
}

#endif
