/* score.c: the rules that hold for a request in either format. */
#include "proto/score.h"

#include "proto/problem.h"
#include "proto/utf8.h"

const char *const proto_media_types[] = {[PROTO_JSON] = "application/json",
                                         [PROTO_PROTOBUF] = "application/x-protobuf",
                                         [PROTO_LINES] = "application/x-ndjson"};

const char proto_user_id_rule[] =
    "A user id is UTF-8 without U+0000: 1 to 256 characters of ASCII, or up to 100 of any kind.";

bool proto_is_user_id(const char *text, size_t length) {
    size_t characters = 0, widest = 0;
    for (size_t i = 0; i < length; characters++) {
        size_t size = text[i] != '\0' ? utf8_size(text + i, length - i) : 0;
        if (size == 0)
            return false;
        widest = size > widest ? size : widest;
        i += size;
    }
    return characters >= 1 && characters <= PROTO_USER_ID_MAX && characters * widest <= PROTO_USER_ID_BYTES;
}

const char proto_event_id_rule[] = "An event_id must be a string of 1 to 128 visible characters of ASCII.";

bool proto_is_event_id(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] < '!' || text[i] > '~')
            return false;
    return length >= 1 && length <= PROTO_EVENT_ID_MAX;
}

/* Reports a mistake in a member, or in the whole request if `member` is NULL. */
static bool fail(struct problem *problem, const char *prefix, const char *member, const char *reason) {
    problem_set(problem, PROBLEM_INVALID_REQUEST, prefix, "%s", reason);
    if (member != NULL)
        problem_pointer_name(problem->pointer, sizeof problem->pointer, member, strlen(member));
    return false;
}

static bool check_token(const struct proto_request *request, const char *prefix, struct problem *problem) {
    if (request->history.present && request->has_history_token)
        return fail(problem, prefix, "history_token", "A request has a history or a history_token, not both.");
    if (request->history.present && request->history_append.present)
        return fail(problem, prefix, "history_append", "A request that has a history cannot have a history_append.");
    return true;
}

bool proto_check_request(const struct proto_request *request, const char *prefix, struct problem *problem) {
    if (!request->candidates.present)
        return fail(problem, prefix, "candidates", "A request must have candidates.");
    if (request->has_history_token && !request->has_user_id)
        return fail(problem, prefix, "history_token", "A history_token needs the user_id that it was given for.");
    if (request->history_append.present && !request->has_user_id)
        return fail(problem, prefix, "history_append", "A history_append needs the user_id of the history.");
    if (request->has_event_id && !request->history_append.present)
        return fail(problem, prefix, "event_id", "An event_id belongs to a history_append.");
    if (!check_token(request, prefix, problem))
        return false;
    if (request->candidates.rows == 0 || request->candidates.columns == 0)
        return fail(problem, prefix, "candidates", "A request needs at least one candidate.");
    return true;
}

bool proto_check_event(const struct proto_request *request, const char *prefix, struct problem *problem) {
    if (!request->has_user_id)
        return fail(problem, prefix, "user_id", "An event needs a user_id.");
    if (!request->has_event_id)
        return fail(problem, prefix, "event_id", "An event needs an event_id, so that it can be sent again.");
    if (!request->history_append.present)
        return fail(problem, prefix, "history_append", "An event needs a history_append.");
    return true;
}

bool proto_check_history(const struct proto_request *request, const char *prefix, struct problem *problem) {
    if (!request->history.present && !request->history_append.present)
        return fail(problem, prefix, NULL, "A request must have a history or a history_append.");
    return check_token(request, prefix, problem);
}
