/* user.h: the inside of a user state: what the engine keeps of each step of a history.
 *
 * One block of memory without pointers, so that a cache may move it. Its first part is the core: per interest the
 * behaviours themselves (rows and dense values, to prove a hit and to slide the window), the states h_t and the sum.
 * The second part is derived from the first: what scoring needs of each h_t that does not depend on a candidate. It is
 * several times as large and much cheaper to compute, so a cache keeps the core alone (tests/bench/states.md has the
 * numbers).
 */
#ifndef MODEL_NETWORK_USER_H
#define MODEL_NETWORK_USER_H

#include "model/model.h"

/* Offsets are in bytes from the start of the user state. What an interest's form does not need has width 0. */
struct user_interest {
    size_t length;     /* T, behaviours kept */
    size_t received;   /* of the whole history, those that were cut off included */
    size_t behaviours; /* of each history field in order: int32 [T], or float [T, width] */
    size_t states;     /* float [T, H]: the extractor's h_t */
    size_t evolved;    /* float [T, G]: the states of an evolution that needs no candidate (gru, gru+pooling) */
    size_t sum;        /* float [E]: sum of the embedded behaviours */
    size_t keys;       /* derived: float [T, D]: the key part of the attention (model.h) */
    size_t inputs;     /* derived: float [T, 3G]: the input part of the evolution cell, where it needs the candidate */
};

struct dien_user {
    size_t bytes;
    size_t core_bytes; /* of these, the first ones */
    size_t interest_count;
    struct user_interest interests[];
};

static inline const float *user_floats(const struct dien_user *user, size_t offset) {
    return (const float *)(const void *)((const char *)user + offset);
}

/* The keys that the attention compares with the query, [T, K]: h_t, or the evolution's states under gru+pooling. */
static inline const float *user_keys(const struct interest *interest, const struct dien_user *user,
                                     const struct user_interest *placed) {
    bool pooling = interest->config->evolution_kind == EVOLUTION_GRU_POOLING;
    return user_floats(user, pooling ? placed->evolved : placed->states);
}

#endif
