/* body_framing.h: where a request's body ends among the bytes received: by Content-Length, or by the chunked coding.
 *
 * The grammar of chunks is RFC 9112, section 7.1, by the letter: lines end in CR LF, sizes are hexadecimal digits and
 * nothing else. A recipient that takes more than a proxy in front of it takes lets requests be smuggled. Extensions of
 * chunks and trailer fields are checked and otherwise ignored.
 */
#ifndef SERVER_HTTP_BODY_FRAMING_H
#define SERVER_HTTP_BODY_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum framing_state {
    FRAMING_LENGTH, /* `left` bytes are to come */
    FRAMING_SIZE_FIRST,
    FRAMING_SIZE,
    FRAMING_EXTENSION,
    FRAMING_SIZE_LF,
    FRAMING_CHUNK, /* `left` bytes of this chunk are to come */
    FRAMING_CHUNK_CR,
    FRAMING_CHUNK_LF,
    FRAMING_TRAILER_FIRST, /* of a field's name, or the empty line */
    FRAMING_TRAILER_NAME,
    FRAMING_TRAILER_VALUE,
    FRAMING_TRAILER_LF,
    FRAMING_LAST_LF,
    FRAMING_END,
    FRAMING_MALFORMED,
    FRAMING_TOO_LARGE /* more than `most` bytes, known from a chunk's size before its bytes come */
};

/* Bytes of a chunk's size with its extensions, and of all trailer fields, with their number. More is malformed:
 * libmicrohttpd holds a whole line in its buffer, and keeps the fields. */
enum { FRAMING_LINE_MOST = 256, FRAMING_TRAILER_MOST = 512, FRAMING_TRAILER_FIELDS = 8 };

struct body_framing {
    enum framing_state state;
    uint64_t left;  /* of the body or the chunk; in a chunk's size: its value so far */
    uint64_t bytes; /* of the body, those of the present chunk included */
    uint64_t most;
    unsigned line; /* bytes of this line; of all trailer fields */
    unsigned fields;
    const char *fault; /* malformed: the reason, for a person */
};

/* The body of a request with a Content-Length, or with neither (0). */
void body_framing_length(struct body_framing *framing, uint64_t length);
/* A chunked body of at most `most` bytes. */
void body_framing_chunked(struct body_framing *framing, uint64_t most);

/* Takes the next bytes of the stream. Returns the number that belongs to the body. Fewer than `size`: the body has
 * ended and the rest is the next request's, or there is a fault in the state. */
size_t body_framing_take(struct body_framing *framing, const char *data, size_t size);

static inline bool body_framing_failed(const struct body_framing *framing) {
    return framing->state == FRAMING_MALFORMED || framing->state == FRAMING_TOO_LARGE;
}

#endif
