/* history_record.c: records of history.proto through protobuf-c, which keeps the fields that it does not know.
 *
 * A merge appends runs to columns by their pointers, and joins and cuts the runs once, at the end. All memory is the
 * arena's. As in protobuf.c, strings are compiled as bytes, so that their length is told.
 */
#include "proto/history_record.h"

#include "proto/digits.h"
#include "proto/history.pb-c.h"
#include "proto/parse_memory.h"
#include "proto/utf8.h"

#include <string.h>

typedef ProtobufCBinaryData bytes;

/* Borrows bytes as protobuf-c wants them: not const, though packing does not write to them. */
static bytes borrow(struct proto_string text) {
    union {
        const char *borrowed;
        uint8_t *bytes;
    } cast = {text.data};
    return (bytes){text.length, cast.bytes};
}

static struct proto_string to_string(const bytes *text) {
    return (struct proto_string){text->len > 0 ? (const char *)text->data : "", text->len};
}

static bool same_text(const bytes *left, const bytes *right) {
    return left->len == right->len && (left->len == 0 || memcmp(left->data, right->data, left->len) == 0);
}

/* ---- runs ---- */

/* Behaviours in a run; 0 if the run is not one that this version knows. */
static size_t run_length(const Dien__HistoryRun *run) {
    size_t width = run->width > 0 ? run->width : 1;
    if ((run->absent > 0) + (run->n_integers > 0) + (run->n_strings > 0) + (run->n_reals > 0) != 1)
        return 0;
    if (run->width > 0 && (run->n_reals == 0 || run->n_reals % width != 0))
        return 0;
    return run->absent + run->n_integers + run->n_strings + run->n_reals / width;
}

static bool same_kind(const Dien__HistoryRun *left, const Dien__HistoryRun *right) {
    return (left->absent > 0) == (right->absent > 0) && (left->n_integers > 0) == (right->n_integers > 0) &&
           (left->n_strings > 0) == (right->n_strings > 0) && left->width == right->width &&
           left->base.n_unknown_fields == 0 && right->base.n_unknown_fields == 0;
}

static Dien__HistoryRun *run_new(struct arena *arena) {
    Dien__HistoryRun *run = arena_alloc(arena, sizeof *run);
    if (run != NULL)
        dien__history_run__init(run);
    return run;
}

/* Arrays that grow have room for a power of two of pointers, the least that holds those that are there. */
static size_t room_for(size_t count) {
    size_t room = count > 0 ? 1 : 0;
    while (room < count)
        room *= 2;
    return room;
}

static void *copied(struct arena *arena, const void *array, size_t count, size_t room) {
    void **copy = arena_array(arena, room, sizeof *copy);
    if (copy != NULL && count > 0)
        memcpy(copy, array, count * sizeof *copy);
    return copy;
}

/* An array of `count` pointers, with room for one more: the array itself, or a copy. NULL: memory is out. */
static void *grown(struct arena *arena, void *array, size_t count) {
    return room_for(count) > count ? array : copied(arena, array, count, room_for(count + 1));
}

static bool add_run(struct arena *arena, Dien__HistoryColumn *column, Dien__HistoryRun *run) {
    Dien__HistoryRun **runs = grown(arena, column->runs, column->n_runs);
    if (run == NULL || runs == NULL)
        return false;
    runs[column->n_runs++] = run;
    column->runs = runs;
    return true;
}

static bool add_absent(struct arena *arena, Dien__HistoryColumn *column, size_t count) {
    Dien__HistoryRun *run = count > 0 ? run_new(arena) : NULL;
    if (run != NULL)
        run->absent = count;
    return count == 0 || add_run(arena, column, run);
}

/* Takes the first `count` behaviours, fewer than there are, off a run. */
static void trim(Dien__HistoryRun *run, size_t count) {
    size_t reals = count * (run->width > 0 ? run->width : 1);
    if (run->absent > 0) {
        run->absent -= count;
    } else if (run->n_integers > 0) {
        run->integers += count;
        run->n_integers -= count;
    } else if (run->n_strings > 0) {
        run->strings += count;
        run->n_strings -= count;
    } else {
        run->reals += reals;
        run->n_reals -= reals;
    }
}

/* Joins `count` runs of one kind into the first. */
static bool join(struct arena *arena, Dien__HistoryRun **runs, size_t count) {
    Dien__HistoryRun *joined = run_new(arena);
    if (joined == NULL)
        return false;
    joined->width = runs[0]->width;
    size_t integers = 0, strings = 0, reals = 0;
    for (size_t i = 0; i < count; i++) {
        joined->absent += runs[i]->absent;
        integers += runs[i]->n_integers;
        strings += runs[i]->n_strings;
        reals += runs[i]->n_reals;
    }
    joined->integers = arena_array(arena, integers, sizeof *joined->integers);
    joined->strings = arena_array(arena, strings, sizeof *joined->strings);
    joined->reals = arena_array(arena, reals, sizeof *joined->reals);
    if (joined->integers == NULL || joined->strings == NULL || joined->reals == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const Dien__HistoryRun *run = runs[i];
        if (run->n_integers > 0)
            memcpy(joined->integers + joined->n_integers, run->integers, run->n_integers * sizeof *run->integers);
        if (run->n_strings > 0)
            memcpy(joined->strings + joined->n_strings, run->strings, run->n_strings * sizeof *run->strings);
        if (run->n_reals > 0)
            memcpy(joined->reals + joined->n_reals, run->reals, run->n_reals * sizeof *run->reals);
        joined->n_integers += run->n_integers;
        joined->n_strings += run->n_strings;
        joined->n_reals += run->n_reals;
    }
    runs[0] = joined;
    return true;
}

/* Drops the first `drop` behaviours, and joins neighbours of one kind. */
static bool tidy_column(struct arena *arena, Dien__HistoryColumn *column, size_t drop) {
    size_t first = 0, kept = 0;
    while (drop > 0 && first < column->n_runs) {
        size_t length = run_length(column->runs[first]);
        if (length > drop) {
            trim(column->runs[first], drop);
            break;
        }
        drop -= length;
        first++;
    }
    for (size_t i = first; i < column->n_runs;) {
        size_t end = i + 1;
        while (end < column->n_runs && same_kind(column->runs[i], column->runs[end]))
            end++;
        if (end > i + 1 && !join(arena, column->runs + i, end - i))
            return false;
        column->runs[kept++] = column->runs[i];
        i = end;
    }
    column->n_runs = kept;
    return true;
}

/* ---- unpacking and its checks ---- */

static void *allocate(void *unused, size_t size) {
    (void)unused;
    return parse_memory_malloc(size);
}

static void release(void *unused, void *memory) {
    (void)unused;
    parse_memory_free(memory);
}

struct unpack_job {
    struct proto_string packed;
    Dien__HistoryRecord *record;
};

static void unpack(void *context) {
    struct unpack_job *job = context;
    ProtobufCAllocator allocator = {.alloc = allocate, .free = release};
    job->record = dien__history_record__unpack(&allocator, job->packed.length, (const uint8_t *)job->packed.data);
}

static bool column_is_sound(const Dien__HistoryColumn *column, size_t length) {
    size_t sum = 0;
    if (!utf8_is_text((const char *)column->name.data, column->name.len))
        return false;
    for (size_t i = 0; i < column->n_runs; i++) {
        size_t run = run_length(column->runs[i]);
        if (run == 0 || run > length - sum)
            return false;
        sum += run;
        for (size_t j = 0; j < column->runs[i]->n_strings; j++)
            if (!utf8_is_text((const char *)column->runs[i]->strings[j].data, column->runs[i]->strings[j].len))
                return false;
    }
    return sum == length;
}

static bool list_is_sound(const Dien__HistoryList *list) {
    if (list->length > list->count || !utf8_is_text((const char *)list->name.data, list->name.len))
        return false;
    for (size_t i = 0; i < list->n_columns; i++) {
        if (!column_is_sound(list->columns[i], list->length))
            return false;
        for (size_t j = 0; j < i; j++)
            if (same_text(&list->columns[i]->name, &list->columns[j]->name))
                return false;
    }
    return true;
}

static bool is_sound(const Dien__HistoryRecord *record) {
    if (record->encoding != HISTORY_ENCODING || record->revision == 0 || record->n_event_ids != record->n_event_counts)
        return false;
    for (size_t i = 0; i < record->n_lists; i++) {
        if (!list_is_sound(record->lists[i]))
            return false;
        for (size_t j = 0; j < i; j++)
            if (same_text(&record->lists[i]->name, &record->lists[j]->name))
                return false;
    }
    return true;
}

/* NULL, and *out_of_memory tells why. */
static Dien__HistoryRecord *open_record(struct proto_string packed, struct arena *arena, bool *out_of_memory) {
    struct unpack_job job = {.packed = packed};
    *out_of_memory = !parse_memory_run(arena, unpack, &job);
    if (*out_of_memory || job.record == NULL || !is_sound(job.record))
        return NULL;
    return job.record;
}

/* Gives the arrays of a record that was just unpacked the room that grown() counts on. */
static bool make_room(struct arena *arena, Dien__HistoryRecord *record) {
    record->lists = copied(arena, record->lists, record->n_lists, room_for(record->n_lists));
    for (size_t i = 0; record->lists != NULL && i < record->n_lists; i++) {
        Dien__HistoryList *list = record->lists[i];
        list->columns = copied(arena, list->columns, list->n_columns, room_for(list->n_columns));
        if (list->columns == NULL)
            return false;
        for (size_t j = 0; j < list->n_columns; j++) {
            Dien__HistoryColumn *column = list->columns[j];
            column->runs = copied(arena, column->runs, column->n_runs, room_for(column->n_runs));
            if (column->runs == NULL)
                return false;
        }
    }
    return record->lists != NULL;
}

static bool pack(const Dien__HistoryRecord *record, struct arena *arena, struct proto_string *packed) {
    size_t size = dien__history_record__get_packed_size(record);
    uint8_t *memory = arena_alloc(arena, size);
    if (memory != NULL)
        dien__history_record__pack(record, memory);
    *packed = (struct proto_string){(const char *)memory, size};
    return memory != NULL;
}

/* ---- additions ---- */

static bool can_be_stored(const struct proto_value *value) {
    return value->kind != PROTO_OTHER && value->kind != PROTO_STRINGS &&
           (value->kind != PROTO_VECTOR || value->length > 0);
}

static size_t value_bytes(const struct proto_value *value) {
    size_t number = sizeof value->real;
    return value->kind == PROTO_ABSENT   ? 0
           : value->kind == PROTO_STRING ? value->length
           : value->kind == PROTO_VECTOR ? value->length * number
                                         : number;
}

/* Values from `begin` that one run can hold: of one kind, vectors of one length. */
static size_t run_of(const struct proto_column *column, size_t begin) {
    const struct proto_value *first = &column->values[begin];
    size_t end = begin + 1;
    while (end < column->count && column->values[end].kind == first->kind &&
           (first->kind != PROTO_VECTOR || column->values[end].length == first->length))
        end++;
    return end - begin;
}

/* Integers beyond int64 are kept as decimal strings, which a request may send for integers as well. */
static bool encode_unsigned(struct arena *arena, const struct proto_value *values, size_t count,
                            Dien__HistoryRun *run) {
    run->n_strings = count;
    run->strings = arena_array(arena, count, sizeof *run->strings);
    char *text = arena_array(arena, count, DIGITS_ROOM);
    for (size_t i = 0; run->strings != NULL && text != NULL && i < count; i++, text += DIGITS_ROOM)
        run->strings[i] = borrow((struct proto_string){text, digits_of_unsigned(values[i].unsigned_integer, text)});
    return run->strings != NULL && text != NULL;
}

static Dien__HistoryRun *encode_run(struct arena *arena, const struct proto_value *values, size_t count) {
    Dien__HistoryRun *run = run_new(arena);
    if (run == NULL)
        return NULL;
    size_t width = values->kind == PROTO_VECTOR ? values->length : 1;
    if (values->kind == PROTO_ABSENT) {
        run->absent = count;
    } else if (values->kind == PROTO_INTEGER) {
        run->n_integers = count;
        run->integers = arena_array(arena, count, sizeof *run->integers);
        for (size_t i = 0; run->integers != NULL && i < count; i++)
            run->integers[i] = values[i].integer;
    } else if (values->kind == PROTO_UNSIGNED) {
        if (!encode_unsigned(arena, values, count, run))
            return NULL;
    } else if (values->kind == PROTO_STRING) {
        run->n_strings = count;
        run->strings = arena_array(arena, count, sizeof *run->strings);
        for (size_t i = 0; run->strings != NULL && i < count; i++)
            run->strings[i] = borrow((struct proto_string){values[i].string, values[i].length});
    } else {
        run->n_reals = count * width;
        run->width = values->kind == PROTO_VECTOR ? values->length : 0;
        run->reals = arena_array(arena, run->n_reals, sizeof *run->reals);
        for (size_t i = 0; run->reals != NULL && i < count; i++)
            memcpy(run->reals + i * width, values->kind == PROTO_VECTOR ? values[i].vector : &values[i].real,
                   width * sizeof *run->reals);
    }
    bool good = run->absent > 0 || run->integers != NULL || run->strings != NULL || run->reals != NULL;
    return good ? run : NULL;
}

static enum history_fault encode_list(const struct history_list *from, size_t behaviour_bytes, struct arena *arena,
                                      Dien__HistoryList *list, struct history_place *place) {
    Dien__HistoryColumn *columns = arena_array(arena, from->columns, sizeof *columns);
    list->columns = arena_array(arena, from->columns, sizeof(Dien__HistoryColumn *));
    size_t *sizes = arena_array(arena, from->length, sizeof *sizes);
    if (columns == NULL || list->columns == NULL || sizes == NULL)
        return HISTORY_FAULT_MEMORY;
    memset(sizes, 0, from->length * sizeof *sizes);
    list->name = borrow(from->name);
    list->count = list->length = from->length;
    list->n_columns = from->columns;
    for (size_t i = 0; i < from->columns; i++) {
        const struct proto_column *column = &from->column[i];
        place->column = i;
        list->columns[i] = &columns[i];
        dien__history_column__init(&columns[i]);
        columns[i].name = borrow(column->name);
        if (column->count != from->length)
            return HISTORY_FAULT_LENGTH;
        for (size_t j = 0; j < column->count; j++) {
            const struct proto_value *value = &column->values[j];
            place->behaviour = j;
            if (!can_be_stored(value))
                return HISTORY_FAULT_VALUE;
            sizes[j] += value_bytes(value);
            if (sizes[j] > behaviour_bytes)
                return HISTORY_FAULT_BYTES;
        }
        for (size_t j = 0; j < column->count;) {
            size_t count = run_of(column, j);
            if (!add_run(arena, &columns[i], encode_run(arena, column->values + j, count)))
                return HISTORY_FAULT_MEMORY;
            j += count;
        }
    }
    return HISTORY_FAULT_NONE;
}

enum history_fault history_addition_encode(const struct history_addition *addition, size_t behaviour_bytes,
                                           struct arena *arena, struct proto_string *encoded,
                                           struct history_place *place) {
    Dien__HistoryRecord record;
    bytes event_id = borrow(addition->event_id);
    uint64_t event_count = 0;
    *place = (struct history_place){0};
    dien__history_record__init(&record);
    record.revision = 1; /* an addition has to pass as a record */
    record.encoding = HISTORY_ENCODING;
    if (event_id.len > 0) {
        record.n_event_ids = record.n_event_counts = 1;
        record.event_ids = &event_id;
        record.event_counts = &event_count;
    }
    Dien__HistoryList *lists = arena_array(arena, addition->list_count, sizeof *lists);
    record.lists = arena_array(arena, addition->list_count, sizeof(Dien__HistoryList *));
    record.n_lists = addition->list_count;
    if (lists == NULL || record.lists == NULL)
        return HISTORY_FAULT_MEMORY;
    for (size_t i = 0; i < addition->list_count; i++) {
        place->list = i;
        record.lists[i] = &lists[i];
        dien__history_list__init(&lists[i]);
        enum history_fault fault = encode_list(&addition->lists[i], behaviour_bytes, arena, &lists[i], place);
        if (fault != HISTORY_FAULT_NONE)
            return fault;
        record.count += lists[i].length;
    }
    return pack(&record, arena, encoded) ? HISTORY_FAULT_NONE : HISTORY_FAULT_MEMORY;
}

/* ---- merging ---- */

static Dien__HistoryColumn *find_column(const Dien__HistoryList *list, const bytes *name) {
    for (size_t i = 0; i < list->n_columns; i++)
        if (same_text(&list->columns[i]->name, name))
            return list->columns[i];
    return NULL;
}

static Dien__HistoryColumn *add_column(struct arena *arena, Dien__HistoryList *list, const bytes *name) {
    Dien__HistoryColumn *column = arena_alloc(arena, sizeof *column);
    Dien__HistoryColumn **columns = grown(arena, list->columns, list->n_columns);
    if (column == NULL || columns == NULL)
        return NULL;
    dien__history_column__init(column);
    column->name = *name;
    columns[list->n_columns++] = column;
    list->columns = columns;
    return add_absent(arena, column, list->length) ? column : NULL;
}

/* Behaviours that came without a field have no value in its column, whichever came first, the field or they. */
static bool append_list(struct arena *arena, Dien__HistoryList *list, const Dien__HistoryList *from) {
    for (size_t i = 0; i < from->n_columns; i++) {
        const Dien__HistoryColumn *added = from->columns[i];
        Dien__HistoryColumn *column = find_column(list, &added->name);
        if (column == NULL)
            column = add_column(arena, list, &added->name);
        if (column == NULL)
            return false;
        for (size_t j = 0; j < added->n_runs; j++)
            if (!add_run(arena, column, added->runs[j]))
                return false;
    }
    for (size_t i = 0; i < list->n_columns; i++)
        if (find_column(from, &list->columns[i]->name) == NULL && !add_absent(arena, list->columns[i], from->length))
            return false;
    list->length += from->length;
    list->count += from->length;
    return true;
}

static Dien__HistoryList *find_list(struct arena *arena, Dien__HistoryRecord *record, const bytes *name) {
    for (size_t i = 0; i < record->n_lists; i++)
        if (same_text(&record->lists[i]->name, name))
            return record->lists[i];
    Dien__HistoryList *list = arena_alloc(arena, sizeof *list);
    Dien__HistoryList **lists = grown(arena, record->lists, record->n_lists);
    if (list == NULL || lists == NULL)
        return NULL;
    dien__history_list__init(list);
    list->name = *name;
    lists[record->n_lists++] = list;
    record->lists = lists;
    return list;
}

/* The place of the event among those that were applied, or their count. */
static size_t find_event(const Dien__HistoryRecord *record, const bytes *event_id) {
    for (size_t i = record->n_event_ids; i-- > 0;)
        if (same_text(&record->event_ids[i], event_id))
            return i;
    return record->n_event_ids;
}

/* Cuts what the limits do not keep. A column without a value left goes, unless it has fields that we do not know. */
static bool tidy(struct arena *arena, Dien__HistoryRecord *record, const struct history_limits *limits) {
    for (size_t i = 0; i < record->n_lists; i++) {
        Dien__HistoryList *list = record->lists[i];
        size_t drop = list->length > limits->keep ? list->length - limits->keep : 0, kept = 0;
        list->length -= drop;
        for (size_t j = 0; j < list->n_columns; j++) {
            Dien__HistoryColumn *column = list->columns[j];
            if (!tidy_column(arena, column, drop))
                return false;
            bool empty = column->n_runs == 0 || (column->n_runs == 1 && column->runs[0]->absent > 0 &&
                                                 column->runs[0]->base.n_unknown_fields == 0);
            if (!empty || column->base.n_unknown_fields > 0)
                list->columns[kept++] = column;
        }
        list->n_columns = kept;
    }
    if (record->n_event_ids > limits->dedupe) {
        size_t drop = record->n_event_ids - limits->dedupe;
        record->event_ids += drop;
        record->event_counts += drop;
        record->n_event_ids = record->n_event_counts = limits->dedupe;
    }
    return true;
}

/* Applies one change, unless it is refused. The caller made room for one more event id. */
static enum history_merge apply(struct arena *arena, Dien__HistoryRecord *record, struct history_change *change,
                                bool refused, bool *changed) {
    bool out_of_memory = false;
    const Dien__HistoryRecord *addition = open_record(change->encoded, arena, &out_of_memory);
    if (addition == NULL)
        return out_of_memory ? HISTORY_NO_MEMORY : HISTORY_UNREADABLE;
    if (addition->n_event_ids > 0) {
        size_t event = find_event(record, addition->event_ids);
        if (event < record->n_event_ids) {
            change->outcome = HISTORY_DUPLICATE;
            change->count = record->event_counts[event];
            return HISTORY_MERGED;
        }
    }
    change->outcome = refused ? HISTORY_REFUSED : HISTORY_APPLIED;
    change->count = 0;
    if (refused)
        return HISTORY_MERGED;
    if (change->replaces) {
        record->n_lists = 0;
        record->count = 0;
    }
    for (size_t i = 0; i < addition->n_lists; i++) {
        Dien__HistoryList *list = find_list(arena, record, &addition->lists[i]->name);
        if (list == NULL || !append_list(arena, list, addition->lists[i]))
            return HISTORY_NO_MEMORY;
        record->count += addition->lists[i]->length;
    }
    if (addition->n_event_ids > 0) {
        record->event_ids[record->n_event_ids++] = addition->event_ids[0];
        record->event_counts[record->n_event_counts++] = record->count;
    }
    change->count = record->count;
    *changed = true;
    return HISTORY_MERGED;
}

/* What a merge works with; each attempt begins anew. */
struct merge {
    struct proto_string packed;
    struct history_change *changes;
    const struct history_limits *limits;
    uint64_t revision;
    int64_t milliseconds;
    bool *refused; /* by change; NULL: none */
};

/* The first `count` changes. */
static enum history_merge merge_some(const struct merge *merge, size_t count, struct arena *arena,
                                     struct proto_string *merged) {
    bool out_of_memory = false, changed = false;
    Dien__HistoryRecord fresh, *record = &fresh;
    dien__history_record__init(&fresh);
    fresh.encoding = HISTORY_ENCODING;
    fresh.created_milliseconds = merge->milliseconds;
    *merged = (struct proto_string){NULL, 0};
    if (merge->packed.data != NULL)
        record = open_record(merge->packed, arena, &out_of_memory);
    if (record == NULL)
        return out_of_memory ? HISTORY_NO_MEMORY : HISTORY_UNREADABLE;

    bytes *event_ids = arena_array(arena, record->n_event_ids + count, sizeof *event_ids);
    uint64_t *event_counts = arena_array(arena, record->n_event_ids + count, sizeof *event_counts);
    if (event_ids == NULL || event_counts == NULL || !make_room(arena, record))
        return HISTORY_NO_MEMORY;
    if (record->n_event_ids > 0) {
        memcpy(event_ids, record->event_ids, record->n_event_ids * sizeof *event_ids);
        memcpy(event_counts, record->event_counts, record->n_event_ids * sizeof *event_counts);
    }
    record->event_ids = event_ids;
    record->event_counts = event_counts;
    for (size_t i = 0; i < count; i++) {
        enum history_merge status =
            apply(arena, record, &merge->changes[i], merge->refused != NULL && merge->refused[i], &changed);
        if (status != HISTORY_MERGED)
            return status;
    }
    if (!changed)
        return HISTORY_UNCHANGED;
    record->revision = merge->revision;
    record->changed_milliseconds = merge->milliseconds;
    return tidy(arena, record, merge->limits) && pack(record, arena, merged) ? HISTORY_MERGED : HISTORY_NO_MEMORY;
}

static bool is_good(enum history_merge status) {
    return status == HISTORY_MERGED || status == HISTORY_UNCHANGED;
}

static bool fits(const struct merge *merge, struct proto_string merged) {
    return merged.length <= merge->limits->user_bytes;
}

/* Finds the changes that make the record too large, in order and one by one. Steps that grow pass those that fit. After
 * ATTEMPTS_MOST merges the changes that were not looked at are refused, so that the time is bounded. */
static enum history_merge refuse_what_does_not_fit(struct merge *merge, size_t count) {
    enum { ATTEMPTS_MOST = 160, TRIAL_KEEP = 1 << 20 };
    struct arena trial; /* an attempt's, and not the caller's, which would hold them all */
    struct proto_string merged;
    enum history_merge status = HISTORY_MERGED;
    size_t decided = 0, step = 1;
    arena_init(&trial, 0, TRIAL_KEEP);
    for (size_t i = 0; i < ATTEMPTS_MOST && decided < count && is_good(status); i++) {
        if (step > count - decided)
            step = count - decided;
        arena_reset(&trial);
        status = merge_some(merge, decided + step, &trial, &merged);
        if (is_good(status) && fits(merge, merged)) {
            decided += step;
            step *= 2;
        } else if (step > 1) {
            step /= 2;
        } else {
            merge->refused[decided++] = true;
        }
    }
    for (size_t i = decided; i < count; i++)
        merge->refused[i] = true;
    arena_free(&trial);
    return status;
}

enum history_merge history_record_merge(struct proto_string record, struct history_change *changes, size_t count,
                                        const struct history_limits *limits, uint64_t revision, int64_t milliseconds,
                                        struct arena *arena, struct proto_string *merged) {
    struct merge merge = {
        .packed = record, .changes = changes, .limits = limits, .revision = revision, .milliseconds = milliseconds};
    enum history_merge status = merge_some(&merge, count, arena, merged);
    if (!is_good(status) || fits(&merge, *merged))
        return status;
    *merged = (struct proto_string){NULL, 0};
    merge.refused = arena_array(arena, count, sizeof *merge.refused);
    if (merge.refused == NULL)
        return HISTORY_NO_MEMORY;
    memset(merge.refused, 0, count * sizeof *merge.refused);
    status = refuse_what_does_not_fit(&merge, count);
    return is_good(status) ? merge_some(&merge, count, arena, merged) : status;
}

/* ---- reading ---- */

static void read_run(const Dien__HistoryRun *run, struct proto_value *values) {
    size_t count = run_length(run), width = run->width > 0 ? run->width : 1;
    for (size_t i = 0; i < count; i++) {
        if (run->absent > 0)
            values[i] = (struct proto_value){.kind = PROTO_ABSENT};
        else if (run->n_integers > 0)
            values[i] = (struct proto_value){.kind = PROTO_INTEGER, .integer = run->integers[i]};
        else if (run->n_strings > 0)
            values[i] = (struct proto_value){.kind = PROTO_STRING,
                                             .length = (uint32_t)run->strings[i].len,
                                             .string = to_string(&run->strings[i]).data};
        else if (run->width == 0)
            values[i] = (struct proto_value){.kind = PROTO_REAL, .real = run->reals[i]};
        else
            values[i] =
                (struct proto_value){.kind = PROTO_VECTOR, .length = run->width, .vector = run->reals + i * width};
    }
}

static bool read_list(const Dien__HistoryList *from, struct arena *arena, struct history_list *list) {
    struct proto_column *columns = arena_array(arena, from->n_columns, sizeof *columns);
    *list = (struct history_list){to_string(&from->name), from->count, from->length, from->n_columns, columns};
    if (columns == NULL)
        return false;
    for (size_t i = 0; i < from->n_columns; i++) {
        const Dien__HistoryColumn *column = from->columns[i];
        struct proto_value *values = arena_array(arena, from->length, sizeof *values);
        if (values == NULL)
            return false;
        columns[i] = (struct proto_column){to_string(&column->name), from->length, values};
        for (size_t j = 0; j < column->n_runs; j++) {
            read_run(column->runs[j], values);
            values += run_length(column->runs[j]);
        }
    }
    return true;
}

bool history_record_read(struct proto_string packed, struct arena *arena, struct history *history) {
    bool out_of_memory = false;
    const Dien__HistoryRecord *record = open_record(packed, arena, &out_of_memory);
    if (record == NULL)
        return false;
    struct history_list *lists = arena_array(arena, record->n_lists, sizeof *lists);
    struct proto_string *event_ids = arena_array(arena, record->n_event_ids, sizeof *event_ids);
    if (lists == NULL || event_ids == NULL)
        return false;
    for (size_t i = 0; i < record->n_lists; i++)
        if (!read_list(record->lists[i], arena, &lists[i]))
            return false;
    for (size_t i = 0; i < record->n_event_ids; i++)
        event_ids[i] = to_string(&record->event_ids[i]);
    *history = (struct history){.revision = record->revision,
                                .count = record->count,
                                .created_milliseconds = record->created_milliseconds,
                                .changed_milliseconds = record->changed_milliseconds,
                                .list_count = record->n_lists,
                                .lists = lists,
                                .event_count = record->n_event_ids,
                                .event_ids = event_ids,
                                .event_counts = record->event_counts};
    return true;
}

/* ---- writing ---- */

bool history_record_encode(const struct history *history, uint64_t revision, struct arena *arena,
                           struct proto_string *packed) {
    Dien__HistoryRecord record;
    dien__history_record__init(&record);
    Dien__HistoryList *lists = arena_array(arena, history->list_count, sizeof *lists);
    record.lists = arena_array(arena, history->list_count, sizeof(Dien__HistoryList *));
    record.event_ids = arena_array(arena, history->event_count, sizeof *record.event_ids);
    record.event_counts = arena_array(arena, history->event_count, sizeof *record.event_counts);
    if (lists == NULL || record.lists == NULL || record.event_ids == NULL || record.event_counts == NULL)
        return false;
    record.revision = revision;
    record.count = history->count;
    record.encoding = HISTORY_ENCODING;
    record.created_milliseconds = history->created_milliseconds;
    record.changed_milliseconds = history->changed_milliseconds;
    record.n_lists = history->list_count;
    record.n_event_ids = record.n_event_counts = history->event_count;
    for (size_t i = 0; i < history->event_count; i++) {
        record.event_ids[i] = borrow(history->event_ids[i]);
        record.event_counts[i] = history->event_counts[i];
    }
    for (size_t i = 0; i < history->list_count; i++) {
        struct history_place place;
        record.lists[i] = &lists[i];
        dien__history_list__init(&lists[i]);
        if (encode_list(&history->lists[i], SIZE_MAX, arena, &lists[i], &place) != HISTORY_FAULT_NONE)
            return false;
        lists[i].count = history->lists[i].count;
    }
    return is_sound(&record) && pack(&record, arena, packed);
}

/* ---- stamps: a field of wire type 1 is its tag and eight bytes, least first ---- */

enum { REVISION_TAG = 1 << 3 | 1 };

uint64_t history_record_revision(struct proto_string record) {
    uint64_t revision = 0;
    if (record.length < HISTORY_REVISION_BYTES || record.data[0] != REVISION_TAG)
        return 0;
    for (size_t i = HISTORY_REVISION_BYTES - 1; i > 0; i--)
        revision = revision << 8 | (unsigned char)record.data[i];
    return revision;
}

void history_record_stamp(uint64_t revision, char stamp[HISTORY_REVISION_BYTES]) {
    stamp[0] = REVISION_TAG;
    for (size_t i = 1; i < HISTORY_REVISION_BYTES; i++) {
        stamp[i] = (char)(revision & 0xFF);
        revision >>= 8;
    }
}
