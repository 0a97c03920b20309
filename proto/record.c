/* record.c: takes the user out of a body without decoding it, so that the values that remain are the caller's, byte for
 * byte. The caller has found the body to be valid; here only its strings, brackets and members are told apart.
 */
#include "proto/record.h"

#include "proto/protobuf_count.h"

#include <string.h>

/* ---- JSON */

struct walk {
    const char *next, *end;
};

static void skip_spaces(struct walk *walk) {
    while (walk->next < walk->end && strchr(" \t\r\n", *walk->next) != NULL && *walk->next != '\0')
        walk->next++;
}

/* Past the closing quote. False: it never comes, or a control character stands in the string. */
static bool skip_string(struct walk *walk) {
    for (walk->next++; walk->next < walk->end; walk->next++) {
        if ((unsigned char)*walk->next < 0x20)
            return false;
        if (*walk->next == '"') {
            walk->next++;
            return true;
        }
        walk->next += *walk->next == '\\';
    }
    return false;
}

/* Past a value, which may be a string, an array or object with all in it, or a word. */
static bool skip_value(struct walk *walk) {
    size_t depth = 0;
    const char *start = walk->next;
    while (walk->next < walk->end) {
        char byte = *walk->next;
        if (byte == '"') {
            if (!skip_string(walk))
                return false;
        } else if (byte == '[' || byte == '{') {
            depth++;
            walk->next++;
        } else if (byte == ']' || byte == '}') {
            if (depth == 0)
                break;
            depth--;
            walk->next++;
        } else if (byte == ',' && depth == 0) {
            break;
        } else {
            walk->next++;
        }
        if (depth == 0 && (byte == '"' || byte == ']' || byte == '}'))
            break;
    }
    return depth == 0 && walk->next > start;
}

/* The four digits behind "\u". */
static int escaped_unit(const char *digits) {
    int unit = 0;
    for (int i = 0; i < 4; i++) {
        char digit = digits[i];
        int value = digit >= '0' && digit <= '9'   ? digit - '0'
                    : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10
                    : digit >= 'A' && digit <= 'F' ? digit - 'A' + 10
                                                   : -1;
        if (value < 0)
            return -1;
        unit = 16 * unit + value;
    }
    return unit;
}

/* Whether the characters between two quotes spell a name of ASCII, which escapes may hide. */
static bool spells(const char *text, const char *end, const char *name) {
    for (; *name != '\0'; name++) {
        int unit = text < end ? (unsigned char)*text++ : -1;
        if (unit == '\\' && end - text >= 5 && *text == 'u') {
            unit = escaped_unit(text + 1);
            text += 5;
        }
        if (unit != *name)
            return false;
    }
    return text == end;
}

/* Spaces in place of the line ends and tabs that may stand between values. */
static void put_plain(char **to, const char *from, const char *end) {
    for (; from < end; from++)
        *(*to)++ = (unsigned char)*from < 0x20 ? ' ' : *from;
}

struct proto_string record_json_body(struct proto_string text, bool keep_user, struct arena *arena) {
    const struct proto_string none = {NULL, 0};
    struct walk walk = {text.data, text.data + text.length};
    char *body = arena_alloc(arena, text.length + 1), *to = body;
    skip_spaces(&walk);
    if (body == NULL || walk.next == walk.end || *walk.next != '{')
        return none;
    *to++ = *walk.next++;
    bool first = true;
    for (;;) {
        skip_spaces(&walk);
        if (walk.next == walk.end)
            return none;
        if (*walk.next == '}')
            break;
        const char *member = walk.next;
        if (*member != '"' || !skip_string(&walk))
            return none;
        bool is_user = spells(member + 1, walk.next - 1, "user_id");
        skip_spaces(&walk);
        if (walk.next == walk.end || *walk.next++ != ':')
            return none;
        skip_spaces(&walk);
        if (!skip_value(&walk))
            return none;
        if (keep_user || !is_user) {
            if (!first)
                *to++ = ',';
            first = false;
            put_plain(&to, member, walk.next);
        }
        skip_spaces(&walk);
        if (walk.next == walk.end || (*walk.next != ',' && *walk.next != '}'))
            return none;
        walk.next += *walk.next == ',';
    }
    walk.next++;
    skip_spaces(&walk);
    if (walk.next != walk.end)
        return none;
    *to++ = '}';
    return (struct proto_string){body, (size_t)(to - body)};
}

/* ---- protobuf */

struct proto_string record_protobuf_body(struct proto_string message, struct arena *arena) {
    char *to = arena_alloc(arena, message.length + 1);
    size_t at = 0, size = 0, kept = 0;
    bool is_user = false;
    while (to != NULL && (size = protobuf_field(message.data + at, message.length - at, &is_user)) > 0) {
        if (!is_user)
            memcpy(to + kept, message.data + at, size);
        kept += is_user ? 0 : size;
        at += size;
    }
    return at == message.length ? (struct proto_string){to, kept} : (struct proto_string){NULL, 0};
}
