/* request_record.c: one block of memory for each record, laid out behind its head. */
#include "server/api/request_record.h"

#include "proto/history_record.h"

#include <stdlib.h>
#include <string.h>

/* Hands out pieces of a block; with base NULL it only counts their bytes. */
struct layout {
    char *base;
    size_t used;
};

static void *place(struct layout *layout, size_t size) {
    void *at = layout->base != NULL ? layout->base + layout->used : NULL;
    layout->used += (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    return at;
}

static void *keep(struct layout *layout, const void *from, size_t size) {
    void *at = place(layout, size);
    if (at != NULL && size > 0)
        memcpy(at, from, size);
    return at;
}

/* Whether the behaviours that were used are more than the body has. */
static bool has_unsent_history(const struct request *request) {
    bool has_behaviours = request->state.user != NULL && request->state.origin != USER_NOBODY;
    return has_behaviours && (!request->decoded.history.present || request->decoded.history_is_stored);
}

/* Columns of all interests. An attribute that follows from its parent is one of them: the request may have had another
 * value for it. */
static void keep_behaviours(struct layout *layout, const struct request *request, const struct served_model *served,
                            struct request_record *record) {
    const struct dien_interest *interests;
    const struct dien_field *const *fields;
    size_t count = dien_interests(served->model, &interests), columns = 0;
    dien_fields(served->model, DIEN_BEHAVIOUR, &fields);
    for (size_t i = 0; i < count; i++)
        columns += interests[i].history_count;
    struct kept_column *column = place(layout, columns * sizeof *column);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < interests[i].history_count; j++) {
            const struct dien_field *field = fields[interests[i].history[j]];
            struct dien_column values = dien_user_values(served->model, request->state.user, i, j);
            size_t width = field->kind == DIEN_DENSE ? field->width : field->values > 0 ? field->values : 1;
            const void *copy = field->kind == DIEN_DENSE
                                   ? keep(layout, values.values, values.count * width * sizeof(float))
                                   : keep(layout, values.rows, values.count * width * sizeof(int32_t));
            if (column == NULL)
                continue;
            *column++ = (struct kept_column){.interest = i,
                                             .field = j,
                                             .count = values.count,
                                             .rows = field->kind == DIEN_DENSE ? NULL : copy,
                                             .values = field->kind == DIEN_DENSE ? copy : NULL};
        }
    }
    if (record != NULL) {
        record->columns = columns;
        record->column = column != NULL ? column - columns : NULL;
    }
}

static void lay_out(struct layout *layout, const struct request *request, struct served_model *served,
                    struct user_key user, bool with_history, struct request_record *record) {
    bool is_ranked = request->problem.kind == PROBLEM_NONE && !request->departed && request->results != NULL;
    size_t results = is_ranked ? request_result_count(request) : 0;
    size_t scored = results > 0 ? request->scored : 0;
    const char *id = keep(layout, user.id, user.length);
    const float *scores = keep(layout, request->scores, scored * sizeof *scores);
    uint32_t *order = place(layout, results * sizeof *order);
    if (record != NULL) {
        for (size_t i = 0; i < results; i++)
            order[i] = (uint32_t)request->results[i].index;
        record->user = user.id != NULL ? id : NULL;
        record->user_length = user.length;
        record->scored = scored;
        record->scores = scores;
        record->results = results;
        record->order = order;
    }
    if (with_history)
        keep_behaviours(layout, request, served, record);
}

struct request_record *request_record_new(const struct request *request, struct served_model *served, bool with_user,
                                          bool with_history) {
    struct user_key user = with_user ? request_user(request) : (struct user_key){NULL, 0};
    bool is_good = request->problem.kind == PROBLEM_NONE;
    with_history = with_history && is_good && has_unsent_history(request);
    struct layout layout = {NULL, 0};
    place(&layout, sizeof(struct request_record));
    lay_out(&layout, request, served, user, with_history, NULL);
    struct request_record *record = calloc(1, layout.used);
    if (record == NULL)
        return NULL;
    record->bytes = layout.used;
    record->decoded = request->resolved.candidate_count > 0 || request->state.user != NULL;
    record->served = served_model_hold(served);
    record->received = -1;
    for (size_t i = 0; i < request->interest_count; i++)
        if ((int64_t)request->interests[i].received > record->received)
            record->received = (int64_t)request->interests[i].received;
    layout = (struct layout){(char *)record, 0};
    place(&layout, sizeof *record);
    lay_out(&layout, request, served, user, with_history, record);
    return record;
}

struct request_record *request_record_unscored(void) {
    struct request_record *record = malloc(sizeof *record);
    if (record != NULL)
        *record = (struct request_record){.bytes = sizeof *record, .received = -1};
    return record;
}

void request_record_free(struct request_record *record) {
    if (record == NULL)
        return;
    served_model_release(record->served);
    free(record->body);
    free(record);
}

/* ---- rows to ids */

/* An id that no model knows, so that it gets the unknown row again. */
static struct proto_value unknown_value(const struct dien_field *field) {
    static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */
    if (field->kind == DIEN_STRING_VOCABULARY)
        return (struct proto_value){.kind = PROTO_STRING, .string = replacement, .length = sizeof replacement - 1};
    return (struct proto_value){.kind = PROTO_INTEGER, .integer = field->kind == DIEN_INDEX ? INT64_MAX : INT64_MIN};
}

/* The ids of a multi-valued field. Ids that are texts have no place in a record, which then has no history. */
static struct proto_value ids_of(const struct dien_model *model, const struct dien_field *field, const int32_t *rows,
                                 struct arena *arena) {
    double *numbers = arena_array(arena, field->values, sizeof *numbers);
    uint32_t length = 0;
    for (uint32_t i = 0; numbers != NULL && i < field->values; i++) {
        struct dien_id id = {.kind = DIEN_ID_INTEGER};
        if (rows[i] < 0)
            continue;
        if (dien_id_of_row(model, field, rows[i], &id) ? id.kind == DIEN_ID_STRING : field->kind != DIEN_INDEX)
            return (struct proto_value){.kind = PROTO_OTHER};
        numbers[length++] = (double)id.integer;
    }
    return (struct proto_value){
        .kind = numbers != NULL ? PROTO_VECTOR : PROTO_OTHER, .vector = numbers, .length = length};
}

static struct proto_value value_of(const struct dien_model *model, const struct dien_field *field,
                                   const struct kept_column *column, size_t i, struct arena *arena) {
    struct dien_id id;
    if (column->values != NULL) {
        if (field->width == 1)
            return (struct proto_value){.kind = PROTO_REAL, .real = (double)column->values[i]};
        double *numbers = arena_array(arena, field->width, sizeof *numbers);
        for (size_t j = 0; numbers != NULL && j < field->width; j++)
            numbers[j] = (double)column->values[i * field->width + j];
        return numbers == NULL
                   ? (struct proto_value){.kind = PROTO_ABSENT}
                   : (struct proto_value){.kind = PROTO_VECTOR, .vector = numbers, .length = (uint32_t)field->width};
    }
    if (field->values > 0)
        return ids_of(model, field, column->rows + i * field->values, arena);
    if (!dien_id_of_row(model, field, column->rows[i], &id))
        return unknown_value(field);
    if (id.kind == DIEN_ID_STRING)
        return (struct proto_value){.kind = PROTO_STRING, .string = id.string, .length = (uint32_t)id.length};
    if (id.kind == DIEN_ID_UNSIGNED && id.integer < 0)
        return (struct proto_value){.kind = PROTO_UNSIGNED, .unsigned_integer = (uint64_t)id.integer};
    return (struct proto_value){.kind = PROTO_INTEGER, .integer = id.integer};
}

/* The columns of one interest, from `first` on, as a list. */
static bool list_of(const struct request_record *record, const struct dien_interest *interest, size_t first,
                    struct arena *arena, struct history_list *list) {
    const struct dien_field *const *fields;
    dien_fields(record->served->model, DIEN_BEHAVIOUR, &fields);
    struct proto_column *columns = arena_array(arena, interest->history_count, sizeof *columns);
    if (columns == NULL)
        return false;
    for (size_t j = 0; j < interest->history_count; j++) {
        const struct kept_column *kept = &record->column[first + j];
        const struct dien_field *field = fields[interest->history[j]];
        struct proto_value *values = arena_array(arena, kept->count, sizeof *values);
        if (values == NULL && kept->count > 0)
            return false;
        for (size_t i = 0; i < kept->count; i++)
            values[i] = value_of(record->served->model, field, kept, i, arena);
        columns[j] =
            (struct proto_column){.name = {field->name, strlen(field->name)}, .count = kept->count, .values = values};
    }
    *list = (struct history_list){.name = {interest->name, strlen(interest->name)},
                                  .length = record->column[first].count,
                                  .columns = interest->history_count,
                                  .column = columns};
    return true;
}

/* Whether two interests read one set of fields, and so have one list. */
static bool shares_fields(const struct dien_interest *a, const struct dien_interest *b) {
    return a->history_count == b->history_count &&
           memcmp(a->history, b->history, a->history_count * sizeof *a->history) == 0;
}

struct proto_string request_record_history(const struct request_record *record, struct arena *arena) {
    const struct proto_string none = {NULL, 0};
    const struct dien_interest *interests;
    if (record->columns == 0)
        return none;
    size_t count = dien_interests(record->served->model, &interests), lists = 0, first = 0;
    struct history_list *list = arena_array(arena, count, sizeof *list);
    if (list == NULL)
        return none;
    for (size_t i = 0; i < count; i++) {
        size_t same = 0, longest = lists;
        while (same < i && !shares_fields(&interests[same], &interests[i]))
            same++;
        if (same < i) /* the longer of the two has all behaviours of the shorter */
            for (longest = 0; longest + 1 < lists && list[longest].name.data != interests[same].name; longest++)
                continue;
        struct history_list one;
        if (!list_of(record, &interests[i], first, arena, &one))
            return none;
        first += interests[i].history_count;
        if (same == i)
            list[lists++] = one;
        else if (one.length > list[longest].length) {
            one.name = list[longest].name;
            list[longest] = one;
        }
    }
    const struct history_addition addition = {.list_count = lists, .lists = list};
    struct history_place where;
    struct history_change change = {.replaces = true};
    const struct history_limits limits = {.keep = SIZE_MAX / 2, .dedupe = 1, .user_bytes = SIZE_MAX / 2};
    struct proto_string merged;
    if (history_addition_encode(&addition, SIZE_MAX / 2, arena, &change.encoded, &where) != HISTORY_FAULT_NONE ||
        history_record_merge(none, &change, 1, &limits, 1, 0, arena, &merged) != HISTORY_MERGED)
        return none;
    return merged;
}
