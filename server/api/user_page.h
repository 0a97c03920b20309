/* user_page.h: GET /users/{id}: the sizes and age of a user's state, and of the record in the history store. */
#ifndef SERVER_API_USER_PAGE_H
#define SERVER_API_USER_PAGE_H

#include "model/dien.h"
#include "proto/arena.h"
#include "proto/history_record.h"
#include "proto/score.h"
#include "server/users/user_cache.h"

enum user_page_answer { USER_PAGE_DESCRIBED, USER_PAGE_ABSENT, USER_PAGE_UNREADABLE, USER_PAGE_NO_MEMORY };

/* Describes the user's state under this version of the model, and the record (data NULL: there is none), as JSON in the
 * arena. `cache` may be NULL. */
enum user_page_answer user_page_describe(struct user_cache *cache, const struct dien_model *model, uint64_t version,
                                         struct user_key key, struct proto_string record, struct arena *arena,
                                         struct proto_string *text);

#endif
