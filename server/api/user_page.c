/* user_page.c: a state's lengths and age, never its behaviours. */
#include "server/api/user_page.h"

#include "proto/json_encode.h"
#include "server/base/clock.h"

enum user_page_answer user_page_describe(struct user_cache *cache, const struct dien_model *model, uint64_t version,
                                         struct user_key key, struct arena *arena, struct proto_string *text) {
    struct user_copy held = {0};
    enum user_answer answer = cache != NULL ? user_cache_peek(cache, key, version, arena, &held) : USER_ABSENT;
    if (answer == USER_NO_MEMORY)
        return USER_PAGE_NO_MEMORY;
    if (answer != USER_HELD)
        return USER_PAGE_ABSENT;
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests);
    struct proto_interest *described = arena_array(arena, count, sizeof *described);
    if (described == NULL)
        return USER_PAGE_NO_MEMORY;
    for (size_t i = 0; i < count; i++)
        described[i] = (struct proto_interest){.name = interests[i].name,
                                               .length = dien_user_length(held.state, i),
                                               .received = dien_user_received(held.state, i)};
    const struct proto_user_summary whole = {.model = dien_name(model),
                                             .version = dien_version(model),
                                             .interest_count = count,
                                             .interests = described,
                                             .bytes = held.bytes,
                                             .age_seconds = clock_seconds(held.age),
                                             .idle_seconds = clock_seconds(held.idle)};
    *text = json_encode_user_summary(&whole, arena);
    return text->data != NULL ? USER_PAGE_DESCRIBED : USER_PAGE_NO_MEMORY;
}
