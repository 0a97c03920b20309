/* content_coding.h: bodies that a client has compressed (RFC 9110, section 8.4), decoded for a scoring thread.
 *
 * A gzip body is one member of RFC 1952. Its last four bytes claim the size of what it decodes to. Nobody needs to
 * trust the claim: no more than it is decoded, and a body that decodes to anything else is refused.
 */
#ifndef PROTO_CONTENT_CODING_H
#define PROTO_CONTENT_CODING_H

#include "proto/arena.h"
#include "proto/problem.h"
#include "proto/score.h"

#include <stdbool.h>
#include <stddef.h>

/* Reads the value of a Content-Encoding header, of any case. False: the coding is not supported. */
bool content_coding_named(const char *name, enum proto_coding *coding);

/* The size that a body claims to decode to, without decoding it. */
size_t content_claimed_size(enum proto_coding coding, const char *body, size_t size);

/* Sets the problem of a body that decodes to more than `most` bytes. */
void content_too_large(size_t claimed, size_t most, struct problem *problem);

/* Puts the decoded body in the place of *body, in the arena, as is the decoder's memory (about 50 kB). False on error:
 * not gzip, more than `most` bytes, no memory. */
bool content_decode(enum proto_coding coding, size_t most, struct arena *arena, struct proto_string *body,
                    struct problem *problem);

#endif
