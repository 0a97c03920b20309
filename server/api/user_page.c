/* user_page.c: lengths, counts and times, never a behaviour. */
#include "server/api/user_page.h"

#include "proto/json_encode.h"
#include "server/base/clock.h"

#include <stdio.h>
#include <time.h>

enum { TIME_TEXT = 40 };

/* RFC 3339. */
static const char *time_text(int64_t milliseconds, char text[TIME_TEXT]) {
    time_t seconds = (time_t)(milliseconds / 1000);
    struct tm parts = {0};
    gmtime_r(&seconds, &parts);
    size_t length = strftime(text, TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + length, TIME_TEXT - length, ".%03dZ", (int)(milliseconds % 1000));
    return text;
}

/* The lists of a record. False: memory is out. */
static bool describe_lists(const struct history *history, struct arena *arena, struct proto_stored_summary *stored) {
    struct proto_stored_list *lists = arena_array(arena, history->list_count, sizeof *lists);
    for (size_t i = 0; lists != NULL && i < history->list_count; i++)
        lists[i] =
            (struct proto_stored_list){history->lists[i].name, history->lists[i].count, history->lists[i].length};
    stored->lists = lists;
    stored->list_count = history->list_count;
    return lists != NULL;
}

static bool describe_state(const struct dien_model *model, const struct user_copy *held, struct arena *arena,
                           struct proto_user_summary *whole) {
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests);
    struct proto_interest *described = arena_array(arena, count, sizeof *described);
    for (size_t i = 0; described != NULL && i < count; i++)
        described[i] = (struct proto_interest){.name = interests[i].name,
                                               .length = dien_user_length(held->state, i),
                                               .received = dien_user_received(held->state, i)};
    whole->interests = described;
    whole->interest_count = count;
    whole->bytes = held->bytes;
    whole->age_seconds = clock_seconds(held->age);
    whole->idle_seconds = clock_seconds(held->idle);
    return described != NULL;
}

enum user_page_answer user_page_describe(struct user_cache *cache, const struct dien_model *model, uint64_t version,
                                         struct user_key key, struct proto_string record, struct arena *arena,
                                         struct proto_string *text) {
    struct user_copy held = {0};
    struct history history = {0};
    char created[TIME_TEXT], changed[TIME_TEXT];
    struct proto_stored_summary stored = {.bytes = record.length};
    struct proto_user_summary whole = {.model = dien_name(model), .version = dien_version(model)};
    enum user_answer answer = cache != NULL ? user_cache_peek(cache, key, version, arena, &held) : USER_ABSENT;
    if (answer == USER_NO_MEMORY || (answer == USER_HELD && !describe_state(model, &held, arena, &whole)))
        return USER_PAGE_NO_MEMORY;
    if (answer != USER_HELD && record.data == NULL)
        return USER_PAGE_ABSENT;
    if (record.data != NULL) {
        if (!history_record_read(record, arena, &history))
            return USER_PAGE_UNREADABLE;
        if (!describe_lists(&history, arena, &stored))
            return USER_PAGE_NO_MEMORY;
        stored.count = history.count;
        stored.event_count = history.event_count;
        stored.created_at = time_text(history.created_milliseconds, created);
        stored.changed_at = time_text(history.changed_milliseconds, changed);
        whole.stored = &stored;
    }
    *text = json_encode_user_summary(&whole, arena);
    return text->data != NULL ? USER_PAGE_DESCRIBED : USER_PAGE_NO_MEMORY;
}
