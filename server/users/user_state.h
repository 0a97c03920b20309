/* user_state.h: the user state for a request: taken from the cache, extended, or computed.
 *
 * Model and cache meet here. A held state is used only after its behaviours were compared, one by one, with those of
 * the request. The cache keeps a state's core (model/dien.h); the rest is derived again for each request.
 */
#ifndef SERVER_USERS_USER_STATE_H
#define SERVER_USERS_USER_STATE_H

#include "model/dien.h"
#include "proto/arena.h"
#include "proto/score.h"
#include "server/users/user_cache.h"

/* The means to make states. */
struct state_builder {
    const struct dien_model *model;
    struct dien_scratch *scratch;
    struct arena *arena;
    struct user_cache *cache; /* NULL: no states are kept */
    uint64_t version;         /* the model's, for the cache */
};

struct state_query {
    struct user_key key; /* id NULL: the request names no user, and nothing is kept */
    bool append;         /* `behaviours` follow those of the held state; otherwise they are the whole history */
    bool held;           /* take the cached state's history, or none without a state; behaviours: NULL */
    bool has_token;      /* the held state must have this token */
    struct user_token token;
    const struct dien_columns *behaviours;
    /* Of a history store's record: of `behaviours`, or with `held` of the state that is to be taken. With revision 0
     * `held` takes a state that is of no record, unless `any_source`. */
    struct user_source source;
    bool any_source;
    const uint64_t *received; /* beside a record: behaviours ever received, by interest; NULL: those of `behaviours` */
    /* user_cache_delete_epoch() when the store was asked: nothing is kept of a user who was deleted since. */
    uint64_t delete_epoch;
    bool epoch_is_known;
};

enum user_origin {
    USER_COMPUTED,
    USER_EXTENDED,
    USER_CACHED,
    USER_NOBODY, /* the request names a user whom nobody knows, and brings no history */
    USER_ORIGINS
};
extern const char *const user_origin_names[USER_ORIGINS]; /* "computed", "extended", "cached", "absent" */

/* The reason why a user's state was computed in full. */
enum user_miss {
    MISS_ABSENT,       /* none was held */
    MISS_EXPIRED,      /* the held one was older than the time to live */
    MISS_VERSION,      /* the held one was of another model version */
    MISS_SHORTER,      /* the history is a beginning of the held one's */
    MISS_WINDOW_MOVED, /* the held state's oldest behaviours have left the window of max_length behaviours */
    MISS_EDITED,       /* the history differs in another way */
    USER_MISSES
};
extern const char *const user_miss_names[USER_MISSES];

struct user_state {
    const struct dien_user *user; /* complete, in the arena */
    enum user_origin origin;
    enum user_miss miss; /* of a computed state with a key */
    bool kept;           /* the cache holds it, under this token: */
    struct user_token token;
    struct user_source source; /* of a state that was held */
    /* The request may learn the token, because it brought the history, named the token or appended behaviours. */
    bool token_is_due;
    const struct user_copy *replaced; /* the state that an append has replaced, in the arena; else NULL */
};

enum user_outcome {
    USER_READY,
    USER_UNKNOWN, /* no state is held to append to, or not the one that the token or the record names */
    USER_NO_ROOM  /* the arena's memory is out */
};
enum user_outcome user_state_get(const struct state_builder *builder, const struct state_query *query,
                                 struct user_state *state);

/* Puts the state that an append has replaced in its place again, unless another request has built on the new one by
 * now. For a request that fails after its state was stored. */
void user_state_take_back(const struct state_builder *builder, const struct state_query *query,
                          const struct user_state *state);

/* A token in the form that clients see: 32 hexadecimal digits. */
enum { USER_TOKEN_TEXT = 32 };
void user_token_write(const struct user_token *token, char text[USER_TOKEN_TEXT]);
/* False when the text cannot be a token. */
bool user_token_read(struct proto_string text, struct user_token *token);

#endif
