/* types.h: the types that dien.h and the rooms below it share. */
#ifndef MODEL_TYPES_H
#define MODEL_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Alignment of user states and of packed weights, in bytes. Sizes of user states are multiples of it. */
enum { DIEN_ALIGNMENT = 64 };

/* An error as a value: the file, key or tensor, and its fault. */
struct dien_error {
    char message[512];
};

enum dien_group { DIEN_USER, DIEN_CONTEXT, DIEN_BEHAVIOUR, DIEN_CANDIDATE, DIEN_GROUPS };

enum dien_precision { DIEN_FLOAT32, DIEN_REDUCED };

/* The reductions of precision that a model opened as DIEN_REDUCED uses on this CPU (tests/bench/precision.md). */
struct dien_reduction {
    bool products; /* the attention network and the evolution multiply 16-bit integers */
    bool int8;     /* some layers of the attention network multiply 8-bit integers, where the added noise is small */
};

#endif
