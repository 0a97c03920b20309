/* model_page.c: the model's fields and interests, and the limits that clients meet, as proto/ wants them. */
#include "server/api/model_page.h"

#include "proto/json_encode.h"

static const char *const group_names[DIEN_GROUPS] = {
    [DIEN_USER] = "user", [DIEN_CONTEXT] = "context", [DIEN_BEHAVIOUR] = "behaviour", [DIEN_CANDIDATE] = "candidate"};

static const char *const kind_names[] = {[DIEN_INDEX] = "index",
                                         [DIEN_INTEGER_VOCABULARY] = "integer",
                                         [DIEN_STRING_VOCABULARY] = "string",
                                         [DIEN_DENSE] = "dense"};

static struct proto_model_field describe_field(const struct dien_field *field) {
    return (struct proto_model_field){
        .name = field->name,
        .kind = kind_names[field->kind],
        .rows = field->kind == DIEN_DENSE ? 0 : (size_t)field->rows,
        .width = field->width,
        .attribute_of = field->parent != NULL ? field->parent->name : NULL,
    };
}

static bool describe_group(const struct dien_model *model, enum dien_group group, struct arena *arena,
                           struct proto_model_group *described) {
    const struct dien_field *const *fields = NULL;
    size_t count = dien_fields(model, group, &fields);
    struct proto_model_field *list = arena_array(arena, count, sizeof *list);
    for (size_t i = 0; list != NULL && i < count; i++)
        list[i] = describe_field(fields[i]);
    *described = (struct proto_model_group){.name = group_names[group], .count = count, .fields = list};
    return list != NULL;
}

static bool describe_interest(const struct dien_model *model, const struct dien_interest *interest, struct arena *arena,
                              struct proto_model_interest *described) {
    const struct dien_field *const *fields = NULL;
    dien_fields(model, DIEN_BEHAVIOUR, &fields);
    const char **names = arena_array(arena, interest->history_count, sizeof *names);
    for (size_t i = 0; names != NULL && i < interest->history_count; i++)
        names[i] = fields[interest->history[i]]->name;
    *described = (struct proto_model_interest){
        .name = interest->name, .max_length = interest->max_length, .count = interest->history_count, .history = names};
    return names != NULL;
}

/* The client's limits that are whole numbers. `limits` is the names' memory. */
static size_t describe_limits(const struct options_limit *limits, size_t count, struct proto_limit *described) {
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (limits[i].for_clients)
            described[used++] = (struct proto_limit){.name = limits[i].name, .value = (size_t)limits[i].value};
    }
    return used;
}

struct proto_string model_page_describe(const struct dien_model *model, const struct options *options,
                                        struct arena *arena) {
    static const struct proto_string nothing = {NULL, 0};
    struct options_limit limits[OPTIONS_MAX_LIMITS];
    struct proto_limit described_limits[OPTIONS_MAX_LIMITS];
    struct proto_model_group groups[DIEN_GROUPS];
    const struct dien_interest *interests = NULL;
    size_t interest_count = dien_interests(model, &interests);
    struct proto_model_interest *described = arena_array(arena, interest_count, sizeof *described);
    bool good = described != NULL;
    for (enum dien_group group = DIEN_USER; good && group < DIEN_GROUPS; group++)
        good = describe_group(model, group, arena, &groups[group]);
    for (size_t i = 0; good && i < interest_count; i++)
        good = describe_interest(model, &interests[i], arena, &described[i]);
    if (!good)
        return nothing;
    size_t limit_count = describe_limits(limits, options_limits(options, limits), described_limits);
    const struct proto_model whole = {
        .name = dien_name(model),
        .version = dien_version(model),
        .group_count = DIEN_GROUPS,
        .groups = groups,
        .interest_count = interest_count,
        .interests = described,
        .limit_count = limit_count,
        .limits = described_limits,
    };
    return json_encode_model(&whole, arena);
}
