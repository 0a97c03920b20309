/* stored_history.c: lists by shared fields; columns in and out of records. */
#include "server/scoring/stored_history.h"

#include <stdlib.h>
#include <string.h>

struct stored_history *stored_history_new(enum stored_want want, struct user_key user, struct proto_string change,
                                          bool replaces) {
    struct stored_history *stored = calloc(1, sizeof *stored + change.length);
    if (stored == NULL || user.length > sizeof stored->user) {
        free(stored);
        return NULL;
    }
    stored->want = want;
    stored->replaces = replaces;
    stored->user_length = user.length;
    if (user.length > 0)
        memcpy(stored->user, user.id, user.length);
    stored->change_size = change.length;
    if (change.length > 0)
        memcpy(stored->change, change.data, change.length);
    return stored;
}

void stored_history_free(struct stored_history *stored) {
    if (stored != NULL) {
        free(stored->record);
        event_batch_free(stored->events);
    }
    free(stored);
}

/* ---- lists */

static bool reads(const struct dien_interest *interest, size_t place) {
    for (size_t i = 0; i < interest->history_count; i++)
        if (interest->history[i] == place)
            return true;
    return false;
}

static bool share_a_field(const struct dien_interest *a, const struct dien_interest *b) {
    for (size_t i = 0; i < a->history_count; i++)
        if (reads(b, a->history[i]))
            return true;
    return false;
}

/* The first of the interests that share fields with this one, by a chain of others too. */
static size_t first_of_list(const struct dien_interest *interests, size_t count, size_t interest) {
    enum { MOST = 64 }; /* more interests than a model has */
    uint64_t list = 0, before;
    if (interest >= MOST)
        return interest;
    list = UINT64_C(1) << interest;
    do {
        before = list;
        for (size_t i = 0; i < count && i < MOST; i++)
            for (size_t j = 0; j < count && j < MOST; j++)
                if ((list >> j & 1) != 0 && share_a_field(&interests[i], &interests[j]))
                    list |= UINT64_C(1) << i;
    } while (list != before);
    return (size_t)__builtin_ctzll(list);
}

/* The list of a behaviour field, by its first interest; `count` if no interest reads the field. */
static size_t list_of_field(const struct dien_interest *interests, size_t count, size_t place) {
    for (size_t i = 0; i < count; i++)
        if (reads(&interests[i], place))
            return first_of_list(interests, count, i);
    return count;
}

size_t stored_list_of(const struct dien_model *model, size_t place) {
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests);
    return list_of_field(interests, count, place);
}

uint64_t stored_received(const struct dien_model *model, const struct proto_interest *described) {
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += first_of_list(interests, count, i) == i ? described[i].received : 0;
    return sum;
}

/* ---- changes */

static const struct proto_column *find_column(const struct proto_column *columns, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (proto_string_is(&columns[i].name, name, strlen(name)))
            return &columns[i];
    return NULL;
}

/* Where in the request a fault of a change is. */
static void set_pointer(struct problem *problem, const struct proto_table *table, const char *name,
                        const struct history_list *list, const struct history_place *place) {
    const struct proto_column *column = &list->column[place->column];
    problem->pointer[0] = '\0';
    problem_pointer_name(problem->pointer, sizeof problem->pointer, name, strlen(name));
    if (table->form == PROTO_ROWS) {
        problem_pointer_index(problem->pointer, sizeof problem->pointer, place->behaviour);
        return;
    }
    problem_pointer_name(problem->pointer, sizeof problem->pointer, column->name.data, column->name.length);
    problem_pointer_index(problem->pointer, sizeof problem->pointer, place->behaviour);
}

bool stored_change(const struct dien_model *model, const struct proto_table *table, const char *name,
                   struct proto_string event_id, size_t behaviour_bytes, struct arena *arena,
                   struct proto_string *change, struct problem *problem) {
    const struct dien_interest *interests;
    const struct dien_field *const *fields;
    size_t interest_count = dien_interests(model, &interests);
    size_t field_count = dien_fields(model, DIEN_BEHAVIOUR, &fields);
    struct history_list *lists = arena_array(arena, interest_count, sizeof *lists);
    struct history_addition addition = {.event_id = event_id, .lists = lists};
    for (size_t i = 0; lists != NULL && i < interest_count; i++) {
        struct proto_column *columns = arena_array(arena, field_count, sizeof *columns);
        if (columns == NULL)
            return problem_out_of_memory(problem);
        struct history_list list = {.name = {interests[i].name, strlen(interests[i].name)}, .column = columns};
        for (size_t j = 0; j < field_count; j++) {
            const struct proto_column *sent = find_column(table->column, table->columns, fields[j]->name);
            if (sent == NULL || list_of_field(interests, interest_count, j) != i)
                continue;
            columns[list.columns++] = *sent;
            list.length = sent->count;
        }
        if (list.length > 0)
            lists[addition.list_count++] = list;
    }
    struct history_place place;
    enum history_fault fault = lists != NULL
                                   ? history_addition_encode(&addition, behaviour_bytes, arena, change, &place)
                                   : HISTORY_FAULT_MEMORY;
    if (fault == HISTORY_FAULT_NONE)
        return true;
    if (fault == HISTORY_FAULT_MEMORY)
        return problem_out_of_memory(problem);
    problem_set(problem, fault == HISTORY_FAULT_BYTES ? PROBLEM_HISTORY_TOO_LARGE : PROBLEM_INVALID_REQUEST, "",
                fault == HISTORY_FAULT_BYTES ? "A behaviour may have %zu bytes in the history store."
                                             : "The values of a behaviour cannot be stored.",
                behaviour_bytes);
    set_pointer(problem, table, name, &lists[place.list], &place);
    return false;
}

/* ---- records */

/* A list by its name. If the model's interests have other names now, a list that has the field. */
static const struct history_list *find_list(const struct history *history, const char *name, const char *field) {
    for (size_t i = 0; i < history->list_count; i++)
        if (proto_string_is(&history->lists[i].name, name, strlen(name)))
            return &history->lists[i];
    for (size_t i = 0; i < history->list_count; i++)
        if (find_column(history->lists[i].column, history->lists[i].columns, field) != NULL)
            return &history->lists[i];
    return NULL;
}

static bool add_absent(struct arena *arena, size_t count, struct proto_column *column) {
    struct proto_value *values = arena_array(arena, count, sizeof *values);
    for (size_t i = 0; values != NULL && i < count; i++)
        values[i] = (struct proto_value){.kind = PROTO_ABSENT};
    column->values = values;
    column->count = count;
    return values != NULL;
}

bool stored_table(const struct dien_model *model, struct proto_string record, struct arena *arena,
                  struct proto_table *table, const uint64_t **counts, uint64_t *count, struct user_source *source) {
    const struct dien_interest *interests;
    const struct dien_field *const *fields;
    size_t interest_count = dien_interests(model, &interests);
    size_t field_count = dien_fields(model, DIEN_BEHAVIOUR, &fields);
    struct proto_column *columns = arena_array(arena, field_count, sizeof *columns);
    uint64_t *ever = arena_array(arena, interest_count, sizeof *ever);
    const struct history_list **lists = arena_array(arena, interest_count, sizeof(const struct history_list *));
    struct history history = {.count = 0};
    if (columns == NULL || ever == NULL || lists == NULL)
        return false;
    if (record.data != NULL && !history_record_read(record, arena, &history))
        return false;
    *table = (struct proto_table){.form = PROTO_COLUMNS, .present = true, .column = columns};
    *count = history.count;
    *source = (struct user_source){.revision = history.revision,
                                   .count = (uint32_t)(history.count < UINT32_MAX ? history.count : UINT32_MAX),
                                   .changed_seconds = (uint32_t)(history.changed_milliseconds / 1000)};
    *counts = ever;
    for (size_t i = 0; i < interest_count; i++) {
        size_t first = first_of_list(interests, interest_count, i);
        lists[i] = find_list(&history, interests[first].name, fields[interests[first].history[0]]->name);
        ever[i] = lists[i] != NULL ? lists[i]->count : 0;
    }
    for (size_t i = 0; i < field_count; i++) {
        size_t first = list_of_field(interests, interest_count, i);
        const struct history_list *list = first < interest_count ? lists[first] : NULL;
        const struct proto_column *held =
            list != NULL ? find_column(list->column, list->columns, fields[i]->name) : NULL;
        struct proto_column *column = &columns[table->columns];
        *column = held != NULL ? *held : (struct proto_column){.name = {fields[i]->name, strlen(fields[i]->name)}};
        if (held == NULL && fields[i]->parent != NULL)
            continue; /* it follows from its parent */
        if (held == NULL && !add_absent(arena, list != NULL ? list->length : 0, column))
            return false;
        table->columns++;
        table->rows = column->count > table->rows ? column->count : table->rows;
    }
    return true;
}
