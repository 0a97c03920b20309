/* user_state.h: the user state that a request asks for: held, extended, or computed.
 *
 * Where model and cache meet: what the cache holds is compared with the request behaviour by behaviour, and only what
 * is proved the same is used. The cache keeps a state's core (model/dien.h); the rest is derived anew for each request.
 */
#ifndef SERVER_USERS_USER_STATE_H
#define SERVER_USERS_USER_STATE_H

#include "model/dien.h"
#include "proto/arena.h"
#include "proto/score.h"
#include "server/users/user_cache.h"

/* What states are made with and kept in. */
struct state_builder {
    const struct dien_model *model;
    struct dien_scratch *scratch;
    struct arena *arena;
    struct user_cache *cache; /* NULL: nothing is held */
    uint64_t version;         /* the model's, for the cache */
};

struct state_query {
    struct user_key key; /* id NULL: nobody's, nothing is kept */
    bool append;         /* `behaviours` follow what is held; else they are the whole history */
    bool has_token;      /* what is held must have this token */
    struct user_token token;
    const struct dien_columns *behaviours;
};

enum user_origin { USER_COMPUTED, USER_EXTENDED, USER_CACHED, USER_ORIGINS };
extern const char *const user_origin_names[USER_ORIGINS]; /* "computed", "extended", "cached" */

/* Why a state with a key was computed rather than taken or extended. */
enum user_miss {
    MISS_ABSENT,       /* none was held */
    MISS_EXPIRED,      /* it was older than the time to live */
    MISS_VERSION,      /* it was another model version's */
    MISS_SHORTER,      /* the history is the beginning of the one held */
    MISS_WINDOW_MOVED, /* the window has moved on */
    MISS_EDITED,       /* the history is another one */
    USER_MISSES
};
extern const char *const user_miss_names[USER_MISSES];

struct user_state {
    const struct dien_user *user; /* whole, in the arena */
    enum user_origin origin;
    enum user_miss miss; /* of a computed state with a key */
    bool kept;           /* and this is its token: */
    struct user_token token;
};

enum user_outcome {
    USER_READY,
    USER_UNKNOWN, /* there is nothing to append to, or not what the token names */
    USER_NO_ROOM  /* the arena's memory is out */
};
enum user_outcome user_state_get(const struct state_builder *builder, const struct state_query *query,
                                 struct user_state *state);

/* A token as clients see it, 32 hexadecimal digits. */
enum { USER_TOKEN_TEXT = 32 };
void user_token_write(const struct user_token *token, char text[USER_TOKEN_TEXT]);
/* False when it cannot be one of ours. */
bool user_token_read(struct proto_string text, struct user_token *token);

#endif
