/* content_coding.c: gzip by zlib, which comes in here and nowhere else. */
#include "proto/content_coding.h"

#define ZLIB_CONST /* zlib's input is const */
#include <strings.h>
#include <zlib.h>

/* MEMBER_LEAST: the bytes of an empty member. GZIP_ONLY: inflateInit2() takes a gzip header and no other, and a window
 * of any size. */
enum { MEMBER_LEAST = 18, TRAILER_SIZE = 4, GZIP_ONLY = 16 + MAX_WBITS };

/* The most bytes that zlib takes at once. */
static const size_t piece_most = (size_t)1 << 30;

bool content_coding_named(const char *name, enum proto_coding *coding) {
    static const struct {
        const char *name;
        enum proto_coding coding;
    } names[] = {{"", PROTO_IDENTITY}, {"identity", PROTO_IDENTITY}, {"gzip", PROTO_GZIP}, {"x-gzip", PROTO_GZIP}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcasecmp(name, names[i].name) == 0) {
            *coding = names[i].coding;
            return true;
        }
    }
    return false;
}

size_t content_claimed_size(enum proto_coding coding, const char *body, size_t size) {
    size_t claimed = 0;
    if (coding == PROTO_IDENTITY || size < MEMBER_LEAST)
        return size;
    for (size_t i = 0; i < TRAILER_SIZE; i++)
        claimed |= (size_t)(unsigned char)body[size - TRAILER_SIZE + i] << 8 * i;
    return claimed;
}

void content_too_large(size_t claimed, size_t most, struct problem *problem) {
    problem_set(problem, PROBLEM_BODY_TOO_LARGE, "", "The decoded body has %zu bytes; at most %zu are taken.", claimed,
                most);
}

static void *allocate(void *arena, unsigned count, unsigned size) {
    return arena_array(arena, count, size);
}

/* The arena frees. */
static void deallocate(void *arena, void *memory) {
    (void)arena, (void)memory;
}

/* Returns zlib's last result. *decoded: bytes written, at most `room`. *left: bytes of the body that are not used. */
static int inflate_all(z_stream *stream, const struct proto_string *body, char *out, size_t room, size_t *decoded,
                       size_t *left) {
    int result = Z_OK;
    *decoded = 0;
    *left = body->length;
    while (result == Z_OK) {
        size_t in_piece = *left < piece_most ? *left : piece_most;
        size_t out_piece = room - *decoded < piece_most ? room - *decoded : piece_most;
        stream->next_in = (const Bytef *)body->data + (body->length - *left);
        stream->avail_in = (uInt)in_piece;
        stream->next_out = (Bytef *)out + *decoded;
        stream->avail_out = (uInt)out_piece;
        result = inflate(stream, Z_NO_FLUSH);
        *left -= in_piece - stream->avail_in;
        *decoded += out_piece - stream->avail_out;
    }
    return result;
}

bool content_decode(enum proto_coding coding, size_t most, struct arena *arena, struct proto_string *body,
                    struct problem *problem) {
    if (coding == PROTO_IDENTITY)
        return true;
    size_t claimed = content_claimed_size(coding, body->data, body->length);
    if (claimed > most) {
        content_too_large(claimed, most, problem);
        return false;
    }
    char *out = arena_alloc(arena, claimed + 1); /* one byte more shows that the claim is too low */
    z_stream stream = {.zalloc = allocate, .zfree = deallocate, .opaque = arena};
    if (out == NULL || inflateInit2(&stream, GZIP_ONLY) != Z_OK)
        return problem_out_of_memory(problem);
    size_t decoded, left;
    int result = inflate_all(&stream, body, out, claimed + 1, &decoded, &left);
    if (result == Z_MEM_ERROR)
        return problem_out_of_memory(problem);
    if (result != Z_STREAM_END || left > 0) { /* zlib compares the trailer with the bytes that it has decoded */
        const char *fault = decoded > claimed                             ? "it decodes to more than its trailer says"
                            : result == Z_STREAM_END                      ? "bytes follow the first member"
                            : result == Z_BUF_ERROR                       ? "it ends too early"
                            : result != Z_NEED_DICT && stream.msg != NULL ? stream.msg
                                                                          : "it is damaged";
        problem_set(problem, PROBLEM_INVALID_CODING, "", "The body is not gzip as Content-Encoding says: %s.", fault);
        return false;
    }
    *body = (struct proto_string){out, claimed};
    return true;
}
