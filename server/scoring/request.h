/* request.h: one request for a scoring thread, bytes in to bytes out: decode, resolve, user
 * state, score, rank, encode.
 *
 * The only place where proto/ and model/ meet. Knows no sockets, and of threads only that the scores may come from
 * several (scorer.score_parallel); whatever it allocates belongs to the scorer's arena and is valid until
 * request_score() is called again with that scorer.
 */
#ifndef SERVER_SCORING_REQUEST_H
#define SERVER_SCORING_REQUEST_H

#include "model/dien.h"
#include "proto/arena.h"
#include "proto/problem.h"
#include "proto/score.h"
#include "server/users/user_state.h"

struct request_limits {
    size_t max_candidates; /* a request */
    size_t max_history;    /* behaviours a request, before the cut to the model's max_length */
    size_t memory;         /* bytes of the arena */
};

/* The scoring of one request: any thread may do any range of its candidates (dien_score_range). */
struct scoring {
    const struct dien_model *model;
    const struct dien_user *user;
    const struct dien_request *request;
    float *scores;
    float *const *attention;
};

/* One thread's working memory, and where user states are kept. */
struct scorer {
    const struct dien_model *model;
    struct dien_scratch *scratch;
    struct arena arena;
    struct request_limits limits;
    struct user_cache *cache; /* NULL: no state is kept; the caller's to set, as is the next */
    uint64_t version;         /* the model's, for the cache: a number that grows */
    /* Do it all, with the help of others; NULL: on the calling thread alone, at once. The caller's to set. */
    void (*score_parallel)(struct scorer *scorer, const struct scoring *scoring);
    void *parallel_context; /* whose score_parallel() it is */
};

/* False when memory is out. The model, and the cache, outlive the scorer. */
bool scorer_init(struct scorer *scorer, const struct dien_model *model, const struct request_limits *limits);
void scorer_free(struct scorer *scorer);

enum request_phase { PHASE_DECODE, PHASE_RESOLVE, PHASE_STATE, PHASE_SCORE, PHASE_ENCODE, REQUEST_PHASES };
extern const char *const request_phase_names[REQUEST_PHASES]; /* "decode", "resolve", "state", "score", "encode" */

struct request_outcome {
    struct problem problem;   /* kind PROBLEM_NONE: the body is the reply; else the caller encodes the problem */
    struct proto_string body; /* in the scorer's arena */
    size_t candidates;
    size_t behaviours; /* received, the longest interest's */
    enum user_origin origin;
    bool has_miss; /* a user's state was computed, for this reason: */
    enum user_miss miss;
    size_t unknown_count; /* one entry for every categorical field of the model */
    const struct proto_unknown *unknown;
    double seconds[REQUEST_PHASES];
};

/* POST /score. The reply is in the format of the body. */
void request_score(struct scorer *scorer, enum proto_format format, const char *body, size_t size,
                   struct request_outcome *outcome);

/* POST /users/{id}/history: make the user's state, or extend it, so that it is there before the next request. The
 * reply is in the format of the body. */
void request_update(struct scorer *scorer, struct user_key key, enum proto_format format, const char *body, size_t size,
                    struct request_outcome *outcome);

/* Score a request that is already decoded into scores [candidates]; what request_score() and the samples' check share.
 * False on error, with *problem. */
struct request_scored {
    size_t candidate_count;
    size_t behaviours; /* received, the longest interest's */
    const float *scores;
    struct user_state state;
    const struct proto_interest *interests;
    size_t interest_count;
    const struct proto_unknown *unknown;
    size_t unknown_count;
    double seconds[REQUEST_PHASES]; /* of those that it has */
};
bool request_run(struct scorer *scorer, const struct proto_request *request, struct request_scored *scored,
                 struct problem *problem);

#endif
