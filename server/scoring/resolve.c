/* resolve.c: ids to rows, group by group, column by column. */
#include "server/scoring/resolve.h"

#include "proto/number.h"
#include "server/scoring/stored_history.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* One request being resolved. */
struct resolver {
    const struct dien_model *model;
    struct arena *arena;
    const struct proto_request *request;
    struct problem *problem;
    size_t *unknown; /* by field index */
};

/* One group: its fields, the client's table, and the resolved columns. */
struct group {
    const char *name; /* the member of the request */
    enum dien_group group;
    const struct proto_table *table;
    size_t count;
    const struct dien_field *const *fields;
    struct dien_column *columns;
};

/* ---- places */

/* A JSON pointer. */
struct pointer {
    char text[sizeof((struct problem *)NULL)->pointer];
};

/* /history/item: a column of the column form. */
static struct pointer column_pointer(const struct group *group, const char *field, size_t length) {
    struct pointer pointer = {""};
    problem_pointer_name(pointer.text, sizeof pointer.text, group->name, strlen(group->name));
    problem_pointer_name(pointer.text, sizeof pointer.text, field, length);
    return pointer;
}

/* /history/item/3, /history/3/item, or /user/country. */
static struct pointer value_pointer(const struct group *group, const char *field, size_t length, size_t i) {
    if (group->table->form == PROTO_COLUMNS) {
        struct pointer pointer = column_pointer(group, field, length);
        if (group->group == DIEN_BEHAVIOUR || group->group == DIEN_CANDIDATE)
            problem_pointer_index(pointer.text, sizeof pointer.text, i);
        return pointer;
    }
    struct pointer pointer = {""};
    problem_pointer_name(pointer.text, sizeof pointer.text, group->name, strlen(group->name));
    problem_pointer_index(pointer.text, sizeof pointer.text, i);
    problem_pointer_name(pointer.text, sizeof pointer.text, field, length);
    return pointer;
}

static bool refuse_value(struct resolver *resolver, const struct group *group, const struct dien_field *field, size_t i,
                         const char *expected) {
    problem_set(resolver->problem, PROBLEM_INVALID_REQUEST,
                value_pointer(group, field->name, strlen(field->name), i).text, "The field \"%s\" must be %s.",
                field->name, expected);
    return false;
}

/* ---- values */

/* An integer in decimal, as protobuf's JSON form and JavaScript send those that a double cannot hold: no plus, no
 * leading zero, no more than 64 bits. */
static bool read_decimal(const struct proto_value *text, struct proto_value *integer) {
    const char *end = text->string + text->length;
    bool negative = text->length > 0 && *text->string == '-';
    uint64_t magnitude = 0;
    const char *first = text->string + (negative ? 1 : 0);
    if (first == end || (*first == '0' && text->length > 1))
        return false;
    for (const char *digit = first; digit < end; digit++) {
        if (*digit < '0' || *digit > '9' || __builtin_mul_overflow(magnitude, (uint64_t)10, &magnitude) ||
            __builtin_add_overflow(magnitude, (uint64_t)(*digit - '0'), &magnitude))
            return false;
    }
    if (negative && magnitude > (uint64_t)INT64_MAX + 1)
        return false;
    if (negative || magnitude <= (uint64_t)INT64_MAX)
        *integer =
            (struct proto_value){.kind = PROTO_INTEGER, .integer = (int64_t)(negative ? 0 - magnitude : magnitude)};
    else
        *integer = (struct proto_value){.kind = PROTO_UNSIGNED, .unsigned_integer = magnitude};
    return true;
}

/* An id in one of the rarer forms of an integer: 29.0, 2.9e1, "29", or beyond int64. */
static bool resolve_integer(struct resolver *resolver, const struct group *group, const struct dien_field *field,
                            const struct proto_value *value, size_t i, int32_t *row, bool *known) {
    struct proto_value integer = *value;
    if (!number_to_integer(value, &integer) && !(value->kind == PROTO_STRING && read_decimal(value, &integer))) {
        const char *rule = field->kind == DIEN_INDEX ? "an integer that is not negative, of at most 64 bits"
                                                     : "an integer from -2^63 to 2^64 - 1";
        return refuse_value(resolver, group, field, i, rule);
    }
    if (integer.kind == PROTO_UNSIGNED) {
        *row = dien_row_of_unsigned(resolver->model, field, integer.unsigned_integer, known);
        return true;
    }
    if (field->kind == DIEN_INDEX && integer.integer < 0)
        return refuse_value(resolver, group, field, i, "an integer that is not negative");
    *row = dien_row_of_integer(resolver->model, field, integer.integer, known);
    return true;
}

static bool resolve_id(struct resolver *resolver, const struct group *group, const struct dien_field *field,
                       const struct proto_value *value, size_t i, int32_t *row) {
    bool known = true;
    if (field->kind == DIEN_STRING_VOCABULARY) {
        if (value->kind != PROTO_STRING)
            return refuse_value(resolver, group, field, i, "a string without U+0000");
        *row = dien_row_of_string(resolver->model, field, value->string, value->length, &known);
    } else if (value->kind == PROTO_INTEGER && (value->integer >= 0 || field->kind != DIEN_INDEX)) {
        *row = dien_row_of_integer(resolver->model, field, value->integer, &known);
    } else if (!resolve_integer(resolver, group, field, value, i, row, &known)) {
        return false;
    }
    if (!known)
        resolver->unknown[field->index]++;
    return true;
}

/* The ids of a multi-valued field, each to a row; the rest is -1. */
static bool resolve_several(struct resolver *resolver, const struct group *group, const struct dien_field *field,
                            const struct proto_value *value, size_t i, int32_t *rows) {
    bool strings = value->kind == PROTO_STRINGS;
    char expected[96];
    snprintf(expected, sizeof expected, "an array of at most %u %s", field->values,
             field->kind == DIEN_STRING_VOCABULARY ? "strings without U+0000"
                                                   : "integers, as numbers below 2^53 or as strings");
    if ((!strings && value->kind != PROTO_VECTOR) || value->length > field->values)
        return refuse_value(resolver, group, field, i, expected);
    for (size_t j = 0; j < field->values; j++) {
        struct proto_value id = {.kind = PROTO_REAL};
        rows[j] = -1;
        if (j >= value->length)
            continue;
        if (strings)
            id = (struct proto_value){
                .kind = PROTO_STRING, .length = (uint32_t)value->strings[j].length, .string = value->strings[j].data};
        else
            id.real = value->vector[j];
        if (!resolve_id(resolver, group, field, &id, i, &rows[j]))
            return refuse_value(resolver, group, field, i, expected);
    }
    return true;
}

static bool resolve_number(struct resolver *resolver, const struct group *group, const struct dien_field *field,
                           double number, size_t i, float *value) {
    *value = (float)number;
    return isfinite(*value) || refuse_value(resolver, group, field, i, "in the range of a 32-bit float");
}

static bool resolve_dense(struct resolver *resolver, const struct group *group, const struct dien_field *field,
                          const struct proto_value *value, size_t i, float *values) {
    if (field->width == 1 && value->kind == PROTO_INTEGER)
        return resolve_number(resolver, group, field, (double)value->integer, i, values);
    if (field->width == 1 && value->kind == PROTO_UNSIGNED)
        return resolve_number(resolver, group, field, (double)value->unsigned_integer, i, values);
    if (field->width == 1 && value->kind == PROTO_REAL)
        return resolve_number(resolver, group, field, value->real, i, values);
    if (field->width == 1)
        return refuse_value(resolver, group, field, i, "a number");
    char expected[48];
    snprintf(expected, sizeof expected, "an array of %u numbers", field->width);
    if (value->kind != PROTO_VECTOR || value->length != field->width)
        return refuse_value(resolver, group, field, i, expected);
    for (size_t j = 0; j < field->width; j++)
        if (!resolve_number(resolver, group, field, value->vector[j], i, &values[j]))
            return false;
    return true;
}

/* An attribute that the request leaves out, from its parent's row. The parent's column is resolved already. */
static bool fill_attribute(struct resolver *resolver, const struct group *group, const struct dien_field *field,
                           size_t i, int32_t *rows, float *values) {
    if (field->parent == NULL)
        return refuse_value(resolver, group, field, i, "given");
    size_t place = 0; /* of the parent, which is in every group that its attributes are in */
    while (place < group->count - 1 && group->fields[place] != field->parent)
        place++;
    const int32_t *parents = group->columns[place].rows; /* it is categorical, and resolved before its attributes */
    /* Another interest may read the parent, and the histories of two interests may differ in length. */
    if (i >= group->columns[place].count)
        return refuse_value(resolver, group, field, i, "given, because its parent has no value here");
    assert(parents != NULL);
    if (field->values > 0)
        memcpy(rows + i * field->values, dien_attribute_rows(resolver->model, field, parents[i]),
               field->values * sizeof *rows);
    else if (rows != NULL)
        rows[i] = dien_attribute_row(resolver->model, field, parents[i]);
    else
        memcpy(values + i * field->width, dien_attribute_values(resolver->model, field, parents[i]),
               field->width * sizeof *values);
    return true;
}

/* ---- columns */

static const struct proto_column *sent_column(const struct group *group, const struct dien_field *field) {
    size_t length = strlen(field->name);
    for (size_t i = 0; i < group->table->columns; i++) {
        const struct proto_string *name = &group->table->column[i].name;
        if (name->length == length && memcmp(name->data, field->name, length) == 0)
            return &group->table->column[i];
    }
    return NULL;
}

/* How many values the column of a field has: as many as were sent, or as its parent. */
static size_t column_count(const struct group *group, const struct dien_field *field) {
    const struct proto_column *sent = sent_column(group, field);
    if (sent == NULL && field->parent != NULL)
        sent = sent_column(group, field->parent);
    return sent != NULL ? sent->count : 0;
}

/* A stored value that does not fit the model, or is not there, is unknown: it may be from another model. */
static void set_unknown(struct resolver *resolver, const struct dien_field *field, size_t i, int32_t *rows,
                        float *values) {
    problem_clear(resolver->problem);
    if (rows == NULL) {
        memset(values + i * field->width, 0, field->width * sizeof *values);
        return;
    }
    resolver->unknown[field->index]++;
    for (size_t j = 0; j < field->values; j++)
        rows[i * field->values + j] = -1;
    rows[i * (field->values > 0 ? field->values : 1)] = dien_unknown_row(resolver->model, field);
}

static bool resolve_column(struct resolver *resolver, const struct group *group, size_t place) {
    const struct dien_field *field = group->fields[place];
    const struct proto_column *sent = sent_column(group, field);
    struct dien_column *column = &group->columns[place];
    size_t count = column_count(group, field);
    bool dense = field->kind == DIEN_DENSE;
    size_t size = dense ? field->width : field->values > 0 ? field->values : 1;
    void *memory = arena_array(resolver->arena, count * size, sizeof(float));
    if (memory == NULL)
        return problem_out_of_memory(resolver->problem);
    int32_t *rows = dense ? NULL : memory;
    float *values = dense ? memory : NULL;
    *column = (struct dien_column){.count = count, .rows = rows, .values = values};
    for (size_t i = 0; i < count; i++) {
        const struct proto_value *value = sent != NULL && i < sent->count ? &sent->values[i] : NULL;
        bool good = value == NULL || value->kind == PROTO_ABSENT
                        ? fill_attribute(resolver, group, field, i, rows, values)
                    : dense             ? resolve_dense(resolver, group, field, value, i, values + i * size)
                    : field->values > 0 ? resolve_several(resolver, group, field, value, i, rows + i * size)
                                        : resolve_id(resolver, group, field, value, i, &rows[i]);
        if (!good && group->group == DIEN_BEHAVIOUR && resolver->request->history_is_stored)
            set_unknown(resolver, field, i, rows, values);
        else if (!good)
            return false;
    }
    return true;
}

/* ---- groups */

/* An append may bring behaviours of one list, such as clicks, and none of another. */
static bool list_is_left_out(const struct resolver *resolver, const struct group *group, size_t place) {
    if (group->group != DIEN_BEHAVIOUR || !resolver->request->history_append.present || group->table->columns == 0)
        return false;
    size_t list = stored_list_of(resolver->model, place);
    for (size_t i = 0; i < group->count; i++)
        if (sent_column(group, group->fields[i]) != NULL && stored_list_of(resolver->model, i) == list)
            return false;
    return true;
}

static bool check_missing(struct resolver *resolver, const struct group *group) {
    for (size_t i = 0; i < group->count; i++) {
        const struct dien_field *field = group->fields[i];
        if (field->parent != NULL || sent_column(group, field) != NULL || list_is_left_out(resolver, group, i))
            continue;
        char pointer[sizeof resolver->problem->pointer] = "";
        if (group->table->present)
            problem_pointer_name(pointer, sizeof pointer, group->name, strlen(group->name));
        problem_set(resolver->problem, PROBLEM_INVALID_REQUEST, pointer, "\"%s\" lacks the field \"%s\".", group->name,
                    field->name);
        return false;
    }
    return true;
}

/* Where a column that the model does not know was sent: in the row form, the first row that has it. */
static struct pointer sent_pointer(const struct group *group, const struct proto_column *column) {
    size_t row = 0;
    while (row < column->count && column->values[row].kind == PROTO_ABSENT)
        row++;
    return group->table->form == PROTO_ROWS ? value_pointer(group, column->name.data, column->name.length, row)
                                            : column_pointer(group, column->name.data, column->name.length);
}

static bool check_unknown_fields(struct resolver *resolver, const struct group *group) {
    for (size_t i = 0; i < group->table->columns; i++) {
        const struct proto_string *name = &group->table->column[i].name;
        bool known = false;
        for (size_t j = 0; j < group->count; j++)
            known = known || (strlen(group->fields[j]->name) == name->length &&
                              memcmp(group->fields[j]->name, name->data, name->length) == 0);
        if (known)
            continue;
        struct pointer pointer = sent_pointer(group, &group->table->column[i]);
        int shown =
            name->length < sizeof resolver->problem->detail ? (int)name->length : (int)sizeof resolver->problem->detail;
        problem_set(resolver->problem, PROBLEM_INVALID_REQUEST, pointer.text, "The model has no %s field \"%.*s\".",
                    group->name, shown, name->data);
        return false;
    }
    return true;
}

/* Columns of `fields` must have one length. */
static bool check_lengths(struct resolver *resolver, const struct group *group, const size_t *places, size_t count) {
    const struct dien_field *first = group->fields[places[0]];
    for (size_t i = 1; i < count; i++) {
        const struct dien_field *field = group->fields[places[i]];
        size_t length = column_count(group, field), expected = column_count(group, first);
        if (length == expected)
            continue;
        problem_set(resolver->problem, PROBLEM_INVALID_REQUEST,
                    column_pointer(group, field->name, strlen(field->name)).text,
                    "The column \"%s\" has %zu values, \"%s\" has %zu; they must have the same number.", field->name,
                    length, first->name, expected);
        return false;
    }
    return true;
}

/* An attribute that was sent, beside a parent of another length, would take values from beyond its parent's end. */
static bool check_all_lengths(struct resolver *resolver, const struct group *group) {
    if (group->group == DIEN_BEHAVIOUR) {
        const struct dien_interest *interests;
        size_t count = dien_interests(resolver->model, &interests);
        for (size_t i = 0; i < count; i++)
            if (!check_lengths(resolver, group, interests[i].history, interests[i].history_count))
                return false;
        return true;
    }
    for (size_t i = 1; i < group->count; i++)
        if (!check_lengths(resolver, group, (const size_t[]){0, i}, 2))
            return false;
    bool single = group->group == DIEN_USER || group->group == DIEN_CONTEXT;
    return !single || group->count == 0 || column_count(group, group->fields[0]) == 1 ||
           refuse_value(resolver, group, group->fields[0], 0, "one value");
}

/* The model reads as many values of each column as the first of them has. */
static bool counts_agree(const struct group *group, const size_t *places, size_t count) {
    for (size_t i = 1; i < count; i++)
        if (group->columns[places[i]].count != group->columns[places[0]].count)
            return false;
    return true;
}

static bool all_counts_agree(const struct resolver *resolver, const struct group *group) {
    bool agree = true;
    if (group->group == DIEN_BEHAVIOUR) {
        const struct dien_interest *interests;
        size_t count = dien_interests(resolver->model, &interests);
        for (size_t i = 0; i < count; i++)
            agree = agree && counts_agree(group, interests[i].history, interests[i].history_count);
        return agree;
    }
    for (size_t i = 1; i < group->count; i++)
        agree = agree && counts_agree(group, (const size_t[]){0, i}, 2);
    return agree;
}

/* Parents first: attributes read their rows. */
static bool resolve_columns(struct resolver *resolver, const struct group *group) {
    for (int pass = 0; pass < 2; pass++)
        for (size_t i = 0; i < group->count; i++)
            if ((group->fields[i]->parent != NULL) == (pass == 1) && !resolve_column(resolver, group, i))
                return false;
    return true;
}

static bool resolve_group(struct resolver *resolver, const char *name, enum dien_group which,
                          const struct proto_table *table, struct dien_columns *columns, size_t *longest) {
    struct group group = {.name = name, .group = which, .table = table};
    group.count = dien_fields(resolver->model, which, &group.fields);
    group.columns = arena_array(resolver->arena, group.count, sizeof *group.columns);
    if (group.columns == NULL)
        return problem_out_of_memory(resolver->problem);
    memset(group.columns, 0, group.count * sizeof *group.columns);
    columns->column = group.columns;
    bool empty_history = which == DIEN_BEHAVIOUR && table->rows == 0 && table->columns == 0;
    if (!check_unknown_fields(resolver, &group) || (!empty_history && !check_missing(resolver, &group)) ||
        !check_all_lengths(resolver, &group) || !resolve_columns(resolver, &group))
        return false;
    assert(all_counts_agree(resolver, &group));
    *longest = 0;
    for (size_t i = 0; i < group.count; i++)
        *longest = group.columns[i].count > *longest ? group.columns[i].count : *longest;
    return true;
}

/* ---- the request */

static const struct proto_table *behaviours_of(const struct proto_request *request) {
    return request->history_append.present ? &request->history_append : &request->history;
}

static bool check_limits(struct resolver *resolver, const struct request_limits *limits) {
    const struct proto_request *request = resolver->request;
    if (request->candidates.rows > limits->max_candidates) {
        problem_set(resolver->problem, PROBLEM_TOO_MANY_CANDIDATES, "/candidates",
                    "The request has %zu candidates; this server takes at most %zu.", request->candidates.rows,
                    limits->max_candidates);
        return false;
    }
    const struct proto_table *behaviours = behaviours_of(request);
    if (behaviours->rows > limits->max_history) {
        problem_set(resolver->problem, PROBLEM_HISTORY_TOO_LONG,
                    behaviours == &request->history ? "/history" : "/history_append",
                    "The history has %zu behaviours; this server takes at most %zu.", behaviours->rows,
                    limits->max_history);
        return false;
    }
    return true;
}

/* The counts of unknown ids, field by field: each categorical field of the model, once. */
static bool list_unknown(struct resolver *resolver, size_t fields, struct resolved *resolved) {
    struct proto_unknown *unknown = arena_array(resolver->arena, fields, sizeof *unknown);
    bool *listed = arena_array(resolver->arena, fields, sizeof *listed);
    if (unknown == NULL || listed == NULL)
        return problem_out_of_memory(resolver->problem);
    memset(listed, 0, fields * sizeof *listed);
    for (int group = 0; group < DIEN_GROUPS; group++) {
        const struct dien_field *const *members;
        size_t count = dien_fields(resolver->model, (enum dien_group)group, &members);
        for (size_t i = 0; i < count; i++) {
            size_t field = members[i]->index;
            if (members[i]->kind == DIEN_DENSE || listed[field])
                continue;
            listed[field] = true;
            unknown[resolved->unknown_count++] = (struct proto_unknown){members[i]->name, resolver->unknown[field]};
        }
    }
    resolved->unknown = unknown;
    return true;
}

bool resolve(const struct dien_model *model, const struct request_limits *limits, struct arena *arena,
             const struct proto_request *request, struct resolved *resolved, struct problem *problem) {
    struct resolver resolver = {.model = model, .arena = arena, .request = request, .problem = problem};
    size_t fields = dien_field_count(model);
    *resolved = (struct resolved){0};
    resolver.unknown = arena_array(arena, fields, sizeof *resolver.unknown);
    if (resolver.unknown == NULL)
        return problem_out_of_memory(problem);
    memset(resolver.unknown, 0, fields * sizeof *resolver.unknown);
    if (!check_limits(&resolver, limits))
        return false;

    const struct proto_table *behaviours = behaviours_of(request);
    const char *history = behaviours == &request->history ? "history" : "history_append";
    struct dien_columns *columns = resolved->columns;
    size_t ignored;
    bool good =
        resolve_group(&resolver, history, DIEN_BEHAVIOUR, behaviours, &columns[DIEN_BEHAVIOUR], &resolved->behaviours);
    if (good && request->candidates.present)
        good = resolve_group(&resolver, "user", DIEN_USER, &request->user, &columns[DIEN_USER], &ignored) &&
               resolve_group(&resolver, "context", DIEN_CONTEXT, &request->context, &columns[DIEN_CONTEXT], &ignored) &&
               resolve_group(&resolver, "candidates", DIEN_CANDIDATE, &request->candidates, &columns[DIEN_CANDIDATE],
                             &resolved->candidate_count);
    return good && list_unknown(&resolver, fields, resolved);
}
