/* utf8.h: UTF-8 (Unicode, table 3-7): checks for text that does not pass through jansson, characters, the mark. */
#ifndef PROTO_UTF8_H
#define PROTO_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Bytes of the first character of `text`, or 0 if that is not well formed. `left` is the text's length, at least 1. */
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

/* Whether a request may contain this text: it is well formed and has no U+0000. */
static inline bool utf8_is_text(const char *text, size_t length) {
    for (size_t i = 0; i < length;) {
        size_t size = text[i] != '\0' ? utf8_size(text + i, length - i) : 0;
        if (size == 0)
            return false;
        i += size;
    }
    return true;
}

/* The number of characters of well-formed text. */
static inline size_t utf8_count(const char *text, size_t length) {
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)text[i] & 0xC0) != 0x80;
    return count;
}

/* Bytes of the byte order mark that `text` starts with, or 0. */
static inline size_t utf8_mark_size(const char *text, size_t length) {
    return length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
}

#endif
