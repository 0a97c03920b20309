/* request.h: one request on a scoring thread, bytes in to bytes out: decode, resolve, user state, score, rank, encode.
 *
 * The only place where proto/ and model/ meet. Knows no sockets, and of threads only that the scores may come from
 * several (scorer.score_parallel). All that a request points to lies in the scorer's arena, and is valid until the next
 * request with that scorer.
 */
#ifndef SERVER_SCORING_REQUEST_H
#define SERVER_SCORING_REQUEST_H

#include "model/dien.h"
#include "proto/arena.h"
#include "proto/problem.h"
#include "proto/score.h"
#include "server/scoring/event_batch.h"
#include "server/scoring/stored_history.h"
#include "server/users/user_state.h"

struct request_limits {
    size_t max_candidates;  /* a request */
    size_t max_history;     /* behaviours a request, before the cut to the model's max_length */
    size_t max_body;        /* bytes of a decoded body */
    size_t memory;          /* bytes of the arena */
    bool explain_held;      /* explain also over a history that the request did not bring */
    bool strict_protobuf;   /* a message with an unknown field is an error */
    bool has_store;         /* a history store is configured */
    bool refuses_appends;   /* of POST /score */
    size_t behaviour_bytes; /* of one behaviour in the store */
    size_t max_events;      /* lines of a body of POST /events */
    uint64_t freshness;     /* nanoseconds for which a state of the store's record is used unasked */
    size_t dedupe;          /* of them, of one user: as many ids the store remembers */
};

/* The phases of a request, for the metrics. request.c times the first five; the job queue and the event loop
 * time the others. */
enum request_phase {
    PHASE_DECODE,
    PHASE_RESOLVE,
    PHASE_STATE,
    PHASE_SCORE,
    PHASE_ENCODE,
    SCORING_PHASES,
    PHASE_QUEUE = SCORING_PHASES, /* until a scoring thread takes it */
    PHASE_TOTAL,                  /* headers to the end of the answer */
    REQUEST_PHASES
};
extern const char *const request_phase_names[REQUEST_PHASES];

/* Why a state in memory is no longer one of the store's records. */
enum state_drop {
    DROP_NONE,
    DROP_DELETED, /* the store does not know the user */
    DROP_REWOUND, /* the store has an earlier record, and has lost the later one */
    STATE_DROPS
};
extern const char *const state_drop_names[STATE_DROPS]; /* "", "deleted", "rewound" */

/* A decoded request as table rows and numbers, in the arena. */
struct resolved {
    struct dien_columns columns[DIEN_GROUPS];
    size_t candidate_count;
    size_t behaviours;    /* the longest interest's, before the cut */
    size_t unknown_count; /* one entry for every categorical field of the model */
    const struct proto_unknown *unknown;
};

/* The facts about a request that outlive it, for the log and the metrics. */
struct request_summary {
    size_t candidates;
    size_t behaviours;              /* received, the longest interest's */
    const char *user_state;         /* a literal, or NULL before there is one */
    const char *history_origin;     /* a literal, with a history store; or NULL */
    double seconds[SCORING_PHASES]; /* of the phases that it came through */
    size_t events[HISTORY_OUTCOMES];
};

struct request {
    /* Asked: the caller's to set. */
    enum proto_format format; /* of the body, and of the reply */
    enum proto_coding coding; /* of the body */
    const char *body;
    size_t size;
    struct user_key path_user;     /* POST /users/{id}/history: {id}; POST /score: id NULL */
    uint64_t arrived;              /* clock_now(); 0: now */
    uint64_t deadline;             /* by clock_now(), after which nobody waits; 0: none */
    struct proto_string event_id;  /* of a header; length 0: none */
    struct stored_history *stored; /* the store's answer to an earlier run; NULL: there was none */
    bool strict;                   /* POST /events: all lines, or an error */
    /* Decoded, resolved, and the state of the user. */
    struct proto_request decoded;
    struct resolved resolved;
    struct user_state state;
    size_t interest_count;
    struct proto_interest *interests; /* what the reply says of each */
    /* Scored: [candidate_count]; attention [interest][candidate, length], NULL without `explain`. */
    struct dien_request candidates;
    size_t scored;          /* candidates, the first ones: all, unless the time ran out */
    double scoring_seconds; /* of all threads that scored it, without decoding and the user's state */
    bool may_write;         /* what the history store keeps; the caller's to set */
    bool replaces;          /* the whole history in the store */
    bool departed;          /* its client has left, and nothing is to be answered */
    bool has_miss;          /* the cache was asked, and the state was computed all the same, because of state.miss */
    bool runs_to_end;       /* its state has changed, so it is answered even if its client has left */
    bool postponed;         /* by scorer.weigh(): to be run once more, later */
    enum stored_want wants; /* of the store; if anything, it is to be run once more with the answer in `stored` */
    struct proto_string change; /* STORED_APPEND, in the arena */
    struct event_batch *events; /* STORED_EVENTS; the caller's to free, in any case */
    uint64_t known; /* STORED_GET: the record of the state in memory; STORED_APPEND: that it is for; 0: none */
    struct user_source source;     /* the store's record of the history, or of the state that is to be taken */
    enum state_drop drop;          /* of the state in memory */
    const uint64_t *stored_counts; /* behaviours ever received, by interest; NULL: the history is not the store's */
    float *scores;
    float **attention;
    size_t room; /* most bytes of the reply, set aside before a state changes; 0: none were */
    /* Ranked, best first; NULL where nothing was scored. */
    struct proto_result *results;
    /* Answered. */
    struct problem problem;    /* kind PROBLEM_NONE: the reply is there; else the caller encodes the problem */
    struct proto_string reply; /* in the arena */
    struct request_summary summary;
};

/* One thread's working memory, and where user states are kept. */
struct scorer {
    const struct dien_model *model;
    struct dien_scratch *scratch;
    struct arena arena;
    struct request_limits limits;
    struct user_cache *cache; /* NULL: no state is kept; the caller's to set, as is the next */
    uint64_t version;         /* the model's, for the cache: a number that grows */
    /* Called before a state changes, with the most bytes that the reply may have: makes room for it, so that nothing
     * can fail for memory afterwards. False when there is none. NULL: the arena's room is enough. */
    bool (*make_room)(struct scorer *scorer, struct request *request, size_t reply_most);
    /* May bind the scorer to another model, since the decoded request names its user. NULL: the model stays. */
    void (*choose_model)(struct scorer *scorer, const struct request *request);
    /* Looks at the decoded request. False: it is not to be run now, and request->postponed. NULL: it always is. */
    bool (*weigh)(struct scorer *scorer, struct request *request);
    /* Fills in request->scores, attention and scoring_seconds with the help of other threads, each by
     * dien_score_range() for a range of its own. It may stop early, with request->scored or departed, unless the
     * request runs_to_end. NULL: the calling thread scores alone. The caller's to set. */
    void (*score_parallel)(struct scorer *scorer, struct request *request);
    void *parallel_context; /* whose score_parallel() it is */
    /* Called between two slices of long work, with the nanoseconds of the last one. NULL: nobody waits. */
    void (*pause)(struct scorer *scorer, uint64_t nanoseconds);
};

/* Without a model: the caller sets model, scratch and version before each request, and frees the arena at the end. */
void scorer_init_unbound(struct scorer *scorer, const struct request_limits *limits);
/* False when memory is out. The model, and the cache, outlive the scorer. */
bool scorer_init(struct scorer *scorer, const struct dien_model *model, const struct request_limits *limits);
void scorer_free(struct scorer *scorer);

/* The user whose history the decoded request is about; id NULL: it names none. */
struct user_key request_user(const struct request *request);

/* Results in the reply: all that were scored, or top_k of them. */
size_t request_result_count(const struct request *request);

/* POST /score. */
void request_score(struct scorer *scorer, struct request *request);

/* POST /users/{id}/history: makes or extends the user's state, so that it is there before the next request. */
void request_update(struct scorer *scorer, struct request *request);

/* Scores a request once more, by another model; nothing is ranked or encoded. The scorer has no cache. */
void request_rescore(struct scorer *scorer, struct request *request);
/* Whether a request that was scored brought its history or got it of the store, so that another model can score it. */
bool request_has_history(const struct request *request);

/* The middle of request_score() for a request that is decoded already, in request->decoded: resolve, user state, score.
 * False on error, with request->problem. The arena is not reset. */
bool request_run(struct scorer *scorer, struct request *request);

#endif
