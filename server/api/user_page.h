/* user_page.h: GET /users/{id}: what is held of a user. */
#ifndef SERVER_API_USER_PAGE_H
#define SERVER_API_USER_PAGE_H

#include "model/dien.h"
#include "proto/arena.h"
#include "proto/score.h"
#include "server/users/user_cache.h"

enum users_answer { USERS_DESCRIBED, USERS_ABSENT, USERS_NO_MEMORY };

/* What is held of the user under this version of the model, as JSON in the arena. `cache` may be NULL. */
enum users_answer users_describe(struct user_cache *cache, const struct dien_model *model, uint64_t version,
                                 struct user_key key, struct arena *arena, struct proto_string *text);

#endif
