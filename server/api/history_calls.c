/* history_calls.c: calls to the store, and their results as answers or as a second run of the request. */
#include "server/api/history_calls.h"

#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/histories/history_store.h"

#include <stdlib.h>
#include <string.h>

/* Calls to the store for one body of events. So many of Redis are answered well within its time limit, and share a
 * commit of LMDB. */
enum { EVENT_GROUPS_AT_ONCE = 64 };

/* ---- answers without a second run */

static void answer_problem(struct api *api, struct job *job, enum problem_kind kind, const char *detail) {
    struct exchange *exchange = job->owner;
    stored_history_free(job->stored);
    job->stored = NULL;
    http_problem(exchange, kind, "%s", detail);
    if (api->request_log != NULL)
        request_log_answered(api->request_log, exchange, job);
    http_answered(exchange);
    api->wake(api->wake_context);
}

/* ---- results */

static void run_again(struct api *api, struct job *job) {
    job->stored->answered = true;
    worker_pool_resume(api->workers, job);
}

/* A store that is down may be replaced by a state in memory, which the second run looks for. A record that cannot be
 * read may not: the state would hide that. */
static void on_got(void *context, struct history_result *result) {
    struct job *job = context;
    struct stored_history *stored = job->stored;
    struct api *api = stored->context;
    if (result->status == HISTORY_BAD_RECORD) {
        answer_problem(api, job, PROBLEM_HISTORIES_UNAVAILABLE, result->detail);
        return;
    }
    stored->failed = result->status != HISTORY_DONE;
    stored->unchanged = result->unchanged;
    stored->record = result->record;
    stored->record_size = result->size;
    memcpy(stored->detail, result->detail, sizeof stored->detail);
    run_again(api, job);
}

static void on_appended(void *context, struct history_result *result) {
    struct job *job = context;
    struct stored_history *stored = job->stored;
    struct api *api = stored->context;
    stored->record = result->record;
    stored->record_size = result->size;
    if (result->status == HISTORY_CHANGED) {
        stored->changed = true;
        run_again(api, job);
    } else if (result->status == HISTORY_FULL) {
        answer_problem(api, job, PROBLEM_HISTORIES_FULL, result->detail);
    } else if (result->status != HISTORY_DONE) {
        answer_problem(api, job, PROBLEM_HISTORIES_UNAVAILABLE, result->detail);
    } else if (result->changes[0].outcome == HISTORY_REFUSED) {
        answer_problem(api, job, PROBLEM_HISTORY_TOO_LARGE,
                       "The history of this user would have more bytes than the history store keeps of one.");
    } else {
        stored->count = result->changes[0].count;
        run_again(api, job);
    }
}

/* ---- events */

static void ask_for_groups(struct api *api, struct job *job);

static void on_group(void *context, struct history_result *result) {
    struct event_group *group = context;
    struct job *job = group->context;
    struct event_batch *batch = job->stored->events;
    struct api *api = job->stored->context;
    free(result->record);
    if (api->cache != NULL && api->options->histories_freshness > 0)
        user_cache_doubt(api->cache, (struct user_key){group->user.data, group->user.length});
    event_batch_take(batch, group, result->status == HISTORY_DONE ? result->changes : NULL, result->detail);
    batch->down = batch->down || result->status == HISTORY_DOWN;
    batch->running--;
    if (!batch->asking)
        ask_for_groups(api, job);
}

/* A store that is down is not asked for the rest: that would take the loop's time for nothing. */
static void ask_for_groups(struct api *api, struct job *job) {
    struct event_batch *batch = job->stored->events;
    batch->asking = true;
    while (batch->next < batch->group_count && batch->running < EVENT_GROUPS_AT_ONCE) {
        struct event_group *group = &batch->groups[batch->next++];
        if (batch->down || api->histories == NULL) {
            event_batch_take(batch, group, NULL, "The history store failed at an event before this one.");
            continue;
        }
        group->context = job;
        batch->running++;
        history_store_append(api->histories, group->user, batch->changes + group->first, group->count, 0, false,
                             on_group, group);
    }
    batch->asking = false;
    if (batch->running == 0)
        run_again(api, job);
}

void history_calls_ask(struct api *api, struct job *job) {
    struct stored_history *stored = job->stored;
    struct proto_string user = {stored->user, stored->user_length};
    if (api->histories == NULL) {
        answer_problem(api, job, PROBLEM_HISTORIES_UNAVAILABLE, "The server ends.");
        return;
    }
    stored->context = api;
    stored->asked = clock_now();
    if (stored->want == STORED_EVENTS) {
        ask_for_groups(api, job);
        return;
    }
    if (stored->want == STORED_GET) {
        history_store_get(api->histories, user, stored->known, on_got, job);
        return;
    }
    const struct history_change change = {.encoded = {stored->change, stored->change_size},
                                          .replaces = stored->replaces};
    history_store_append(api->histories, user, &change, 1, stored->known, true, on_appended, job);
}

/* ---- calls about one user */

struct user_call {
    struct api *api;
    struct exchange *exchange;
};

/* NULL: memory is out, which the exchange's answer says. */
static struct user_call *new_user_call(struct api *api, struct exchange *exchange) {
    struct user_call *call = malloc(sizeof *call);
    if (call == NULL)
        http_problem(exchange, PROBLEM_OUT_OF_MEMORY, "There is no memory for the call.");
    else
        *call = (struct user_call){api, exchange};
    return call;
}

static void on_described(void *context, struct history_result *result) {
    struct user_call *call = context;
    struct api *api = call->api;
    struct exchange *exchange = call->exchange;
    free(call);
    if (result->status == HISTORY_DONE)
        api_answer_user(api, exchange, (struct proto_string){result->record, result->size});
    else
        http_problem(exchange, PROBLEM_HISTORIES_UNAVAILABLE, "%s", result->detail);
    free(result->record);
    http_answered(exchange);
    api->wake(api->wake_context);
}

bool history_calls_describe(struct api *api, struct exchange *exchange) {
    struct user_call *call = new_user_call(api, exchange);
    if (call == NULL)
        return true;
    history_store_get(api->histories, (struct proto_string){exchange->user_id, exchange->user_id_length}, 0,
                      on_described, call);
    return false;
}

/* The state in memory goes when the store has answered, too: a request meanwhile may have made it anew. */
static void on_deleted(void *context, struct history_result *result) {
    struct user_call *call = context;
    struct api *api = call->api;
    struct exchange *exchange = call->exchange;
    struct user_key key = {exchange->user_id, exchange->user_id_length};
    free(call);
    bool held = api->cache != NULL && user_cache_delete(api->cache, key);
    if (result->status == HISTORY_DONE) {
        log_line(LEVEL_INFO, "user-deleted", LOG_STRING("request_id", exchange->request_id), LOG_NUMBER("states", held),
                 LOG_NUMBER("histories", result->existed));
        exchange->answer = (struct answer){.status = 204, .memory = ANSWER_BORROWED};
    } else {
        http_problem(exchange, PROBLEM_HISTORIES_UNAVAILABLE, "%s", result->detail);
    }
    http_answered(exchange);
    api->wake(api->wake_context);
}

static const char write_refused[] = "This server changes histories only for those who have the token of --user-write.";

bool history_calls_delete(struct api *api, struct exchange *exchange) {
    struct user_key key = {exchange->user_id, exchange->user_id_length};
    if (!history_calls_may_write(api, exchange)) {
        http_problem(exchange, PROBLEM_WRITE_REFUSED, write_refused);
        return true;
    }
    struct user_call *call = new_user_call(api, exchange);
    if (call == NULL)
        return true;
    if (api->cache != NULL)
        user_cache_delete(api->cache, key);
    history_store_delete(api->histories, (struct proto_string){key.id, key.length}, on_deleted, call);
    return false;
}

/* ---- who may write */

bool history_calls_may_write(const struct api *api, const struct exchange *exchange) {
    if (api->writes_are_free || exchange->plane == PLANE_ADMIN)
        return true;
    return secret_is_borne(&api->write_token, http_header(exchange, "Authorization"));
}

bool history_calls_may_send_events(const struct api *api, struct exchange *exchange) {
    bool allowed = api->histories != NULL && history_calls_may_write(api, exchange);
    if (api->histories == NULL)
        http_problem(exchange, PROBLEM_NOT_FOUND, "This server has no history store for events: see --histories.");
    else if (!allowed)
        http_problem(exchange, PROBLEM_WRITE_REFUSED, write_refused);
    return allowed;
}

/* ---- the header */

/* The header's draft writes the key as a string in quotes. */
bool history_calls_read_event_id(struct exchange *exchange, struct job *job) {
    const char *text = http_header(exchange, "Idempotency-Key");
    size_t length = text != NULL ? strlen(text) : 0;
    if (text == NULL)
        return true;
    if (length >= 2 && text[0] == '"' && text[length - 1] == '"') {
        text++;
        length -= 2;
    }
    if (!proto_is_event_id(text, length)) {
        http_problem(exchange, PROBLEM_INVALID_HTTP,
                     "Idempotency-Key must have 1 to %d visible characters of ASCII, in quotes or not.",
                     PROTO_EVENT_ID_MAX);
        return false;
    }
    memcpy(job->event_id, text, length);
    job->event_id_length = length;
    return true;
}
