/* model_page.c: the model's fields and interests, and the limits that clients meet, as proto/ wants them. */
#include "server/api/model_page.h"

#include "proto/json_encode.h"

static const char *const group_names[DIEN_GROUPS] = {
    [DIEN_USER] = "user", [DIEN_CONTEXT] = "context", [DIEN_BEHAVIOUR] = "behaviour", [DIEN_CANDIDATE] = "candidate"};

static const char *const kind_names[DIEN_FIELD_KINDS] = {[DIEN_INDEX] = "index",
                                                         [DIEN_INTEGER_VOCABULARY] = "integer",
                                                         [DIEN_STRING_VOCABULARY] = "string",
                                                         [DIEN_DENSE] = "dense"};

static bool describe_group(const struct dien_model *model, enum dien_group group, struct arena *arena,
                           struct proto_model_group *described) {
    const struct dien_field *const *fields = NULL;
    size_t count = dien_fields(model, group, &fields);
    struct proto_model_field *list = arena_array(arena, count, sizeof *list);
    for (size_t i = 0; list != NULL && i < count; i++)
        list[i] = (struct proto_model_field){
            .name = fields[i]->name,
            .kind = kind_names[fields[i]->kind],
            .rows = fields[i]->kind == DIEN_DENSE ? 0 : (size_t)fields[i]->rows,
            .width = fields[i]->width,
            .values = fields[i]->values,
            .attribute_of = fields[i]->parent != NULL ? fields[i]->parent->name : NULL,
        };
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

struct proto_string model_page_describe(const struct served_model *served, const struct registry_counts *counts,
                                        const struct options *options, struct arena *arena) {
    const struct dien_model *model = served->model;
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
    size_t limit_count = 0, all_limits = options_limits(options, limits);
    for (size_t i = 0; i < all_limits; i++) {
        if (limits[i].for_clients)
            described_limits[limit_count++] =
                (struct proto_limit){.name = limits[i].name, .value = (size_t)limits[i].value};
    }
    const struct proto_model whole = {
        .name = dien_name(model),
        .version = dien_version(model),
        .group_count = DIEN_GROUPS,
        .groups = groups,
        .interest_count = interest_count,
        .interests = described,
        .limit_count = limit_count,
        .limits = described_limits,
        .config_sha256 = served->config_sha256,
        .weights_sha256 = served->weights_sha256,
        .loaded_at = served->loaded_at,
        .loaded_by = served->loaded_by,
        .last_failure_at = counts->failed_at > 0 ? counts->failure_at : NULL,
    };
    return json_encode_model(&whole, arena);
}
