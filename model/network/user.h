/* user.h: the inside of a user state: everything that scoring needs of a history.
 *
 * A state is one block of memory without pointers, so that a cache may move it. Its first part is the core: for each
 * interest the behaviours themselves (to prove a hit and to slide the window), the states h_t and their sum. The second
 * part is derived from the core: products of each h_t that do not depend on a candidate. It is several times as large
 * and much cheaper to compute, so a cache keeps the core alone (tests/bench/states.md has the numbers).
 */
#ifndef MODEL_NETWORK_USER_H
#define MODEL_NETWORK_USER_H

#include "model/dien.h"
#include "model/format/bind.h"

/* Where an interest's arrays are: offsets in bytes from the start of the user state. step_widths in bind.h has the
 * widths, which are 0 for arrays that the interest does not need. */
struct interest_layout {
    size_t length;     /* T, behaviours kept */
    size_t received;   /* behaviours of the whole history, including those cut off */
    size_t behaviours; /* for each history field in turn: int32 [T], or float [T, width] */
    size_t states;     /* float [T, H]: the extractor's h_t */
    size_t evolved;    /* float [T, G]: the states of an evolution without the candidate */
    size_t sum;        /* float [E]: sum of the embedded behaviours */
    size_t keys;       /* derived: float [T, D]: the key part of the attention */
    size_t inputs;     /* derived: float [T, 3G]: the input part of an evolution with the candidate */
};

struct dien_user {
    size_t bytes;
    size_t core_bytes; /* the first of them */
    size_t interest_count;
    struct interest_layout interests[];
};

static inline const float *user_floats(const struct dien_user *user, size_t offset) {
    return (const float *)(const void *)((const char *)user + offset);
}

/* The array at `offset` of a state that is being built. */
static inline float *user_array(struct dien_user *user, size_t offset) {
    return (float *)(void *)((char *)user + offset);
}

/* A field's behaviours in a state, as a column. */
struct dien_column user_column(const struct vector_part *part, const struct dien_user *user,
                               const struct interest_layout *layout);

/* The keys that the attention compares with the query, [T, K]: h_t, or the evolution's states under gru+pooling. */
static inline const float *user_keys(const struct interest *interest, const struct dien_user *user,
                                     const struct interest_layout *layout) {
    bool pooling = interest->config->evolution.kind == CELL_GRU_POOLING;
    return user_floats(user, pooling ? layout->evolved : layout->states);
}

#endif
