/* test_history_record.c: a record holds all that was added, in any cut, beside fields of later versions; and what is
 * not a record never reads as one.
 */
#include "proto/history_record.h"
#include "tests/support/random_bits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Written by Google's library from a later history.proto, with one more string in each message: "KEPT", "RED", "SOUR",
 * "WEB". List "clicks": 5 ever, 3 kept; item "a", "b", -7; price none, [1.5, 2.5], [3.5, 4.5]; event "e1" at 5. */
static const unsigned char recorded[] = {
    0x09, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x11, 0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x18, 0x01, 0x20, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31, 0x28, 0xe8, 0xd7, 0x95, 0xff, 0xbc, 0x31, 0x32, 0x70,
    0x0a, 0x06, 0x63, 0x6c, 0x69, 0x63, 0x6b, 0x73, 0x10, 0x05, 0x18, 0x03, 0x22, 0x29, 0x0a, 0x04, 0x69, 0x74,
    0x65, 0x6d, 0x12, 0x0c, 0x1a, 0x01, 0x61, 0x1a, 0x01, 0x62, 0xea, 0x05, 0x03, 0x57, 0x45, 0x42, 0x12, 0x0c,
    0x12, 0x0a, 0xf9, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xe2, 0x05, 0x04, 0x53, 0x4f, 0x55,
    0x52, 0x22, 0x31, 0x0a, 0x05, 0x70, 0x72, 0x69, 0x63, 0x65, 0x12, 0x02, 0x08, 0x01, 0x12, 0x24, 0x22, 0x20,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf8, 0x3f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x40, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x0c, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x12, 0x40, 0x28, 0x02, 0xda, 0x05,
    0x03, 0x52, 0x45, 0x44, 0x3a, 0x02, 0x65, 0x31, 0x42, 0x01, 0x05, 0xd2, 0x05, 0x04, 0x4b, 0x45, 0x50, 0x54,
};

static struct arena arena;
static const struct history_limits wide = {.keep = 1000, .dedupe = 100, .user_bytes = 1 << 20};

static struct proto_string text(const char *data) {
    return (struct proto_string){data, strlen(data)};
}

static struct proto_value integer(int64_t number) {
    return (struct proto_value){.kind = PROTO_INTEGER, .integer = number};
}

static struct proto_string the_recorded(void) {
    union {
        const unsigned char *bytes;
        const char *text;
    } cast = {recorded};
    return (struct proto_string){cast.text, sizeof recorded};
}

static struct proto_string encoded(const struct history_addition *addition) {
    struct proto_string bytes = {NULL, 0};
    struct history_place place;
    assert_int_equal(history_addition_encode(addition, 1024, &arena, &bytes, &place), HISTORY_FAULT_NONE);
    return bytes;
}

/* One list of one column of integers. */
static struct history_change items(const char *event_id, const char *list, const struct proto_value *values,
                                   size_t count) {
    struct proto_column *column = arena_alloc(&arena, sizeof *column);
    *column = (struct proto_column){text("item"), count, values};
    struct history_list one = {.name = text(list), .length = count, .columns = 1, .column = column};
    struct history_addition addition = {text(event_id), 1, &one};
    return (struct history_change){.encoded = encoded(&addition)};
}

static struct history read_back(struct proto_string record) {
    struct history history;
    assert_true(history_record_read(record, &arena, &history));
    return history;
}

static enum history_merge merge(struct proto_string *record, struct history_change *changes, size_t count,
                                const struct history_limits *limits) {
    static uint64_t revision = 100;
    struct proto_string merged;
    enum history_merge status =
        history_record_merge(*record, changes, count, limits, ++revision, 1700000002000, &arena, &merged);
    if (status == HISTORY_MERGED)
        *record = merged;
    return status;
}

static int prepare(void **state) {
    (void)state;
    arena_init(&arena, 0, 1 << 20);
    return 0;
}

static int clean(void **state) {
    (void)state;
    arena_free(&arena);
    return 0;
}

static void test_a_recorded_store_reads(void **state) {
    (void)state;
    struct history history = read_back(the_recorded());
    assert_int_equal(history.revision, 0x1122334455667788);
    assert_int_equal(history.count, 5);
    assert_int_equal(history.created_milliseconds, 1700000000000);
    assert_int_equal(history.changed_milliseconds, 1700000001000);
    assert_int_equal(history.list_count, 1);
    const struct history_list *list = &history.lists[0];
    assert_true(proto_string_is(&list->name, "clicks", 6));
    assert_int_equal(list->count, 5);
    assert_int_equal(list->length, 3);
    assert_int_equal(list->columns, 2);
    const struct proto_value *item = list->column[0].values, *price = list->column[1].values;
    assert_int_equal(item[0].kind, PROTO_STRING);
    assert_memory_equal(item[1].string, "b", 1);
    assert_int_equal(item[2].integer, -7);
    assert_int_equal(price[0].kind, PROTO_ABSENT);
    assert_int_equal(price[2].kind, PROTO_VECTOR);
    assert_true(price[2].length == 2 && price[2].vector[0] == 3.5 && price[2].vector[1] == 4.5);
    assert_int_equal(history.event_count, 1);
    assert_true(proto_string_is(&history.event_ids[0], "e1", 2));
    assert_int_equal(history.event_counts[0], 5);
}

static bool holds(struct proto_string record, const char *word) {
    return memmem(record.data, record.length, word, strlen(word)) != NULL;
}

static void test_fields_of_later_versions_are_kept(void **state) {
    (void)state;
    struct proto_string record = the_recorded();
    struct proto_value values[] = {integer(1), integer(2)};
    struct history_change change = items("e2", "clicks", values, 2);
    struct history_limits limits = {.keep = 4, .dedupe = 10, .user_bytes = 4096}; /* "a" goes, and "b" stays */
    assert_int_equal(merge(&record, &change, 1, &limits), HISTORY_MERGED);
    assert_true(holds(record, "KEPT") && holds(record, "RED") && holds(record, "SOUR") && holds(record, "WEB"));
    struct history history = read_back(record);
    assert_int_equal(history.lists[0].length, 4);
    assert_int_equal(history.lists[0].count, 7);
    assert_int_equal(history.count, 7);
    assert_int_equal(history.created_milliseconds, 1700000000000);
    assert_int_equal(history.changed_milliseconds, 1700000002000);
    assert_memory_equal(history.lists[0].column[0].values[0].string, "b", 1);
    assert_int_equal(history.lists[0].column[0].values[3].integer, 2);
    assert_int_equal(history.lists[0].column[1].values[3].kind, PROTO_ABSENT);
}

/* A run with a field that is not known is not joined with the next, because the field may speak of its values. */
static void test_a_run_of_a_later_version_stays_as_it_is(void **state) {
    (void)state;
    static const char later[] = "\x09\1\2\3\4\5\6\7\x08\x18\x01\x32\x1a"
                                "\x0a\x01l\x10\x01\x18\x01\x22\x11\x0a\x04item\x12\x09\x12\x01\x05\xea\x05\x03WEB";
    struct proto_string record = {later, sizeof later - 1};
    struct proto_value values[] = {integer(6), integer(7)};
    struct history_change change = items("", "l", values, 2);
    assert_int_equal(merge(&record, &change, 1, &wide), HISTORY_MERGED);
    assert_true(holds(record, "WEB"));
    struct history history = read_back(record);
    assert_int_equal(history.lists[0].length, 3);
    for (int64_t i = 0; i < 3; i++)
        assert_int_equal(history.lists[0].column[0].values[i].integer, 5 + i);
}

static void test_what_is_no_record_is_unreadable(void **state) {
    (void)state;
    struct history history;
    char copy[sizeof recorded];
    struct proto_string record = {copy, sizeof copy};
    memcpy(copy, recorded, sizeof copy);
    assert_int_equal(copy[18], 3 << 3); /* the tag of `encoding` */
    for (int encoding = 0; encoding < 128; encoding++) {
        copy[19] = (char)encoding;
        assert_true(history_record_read(record, &arena, &history) == (encoding == HISTORY_ENCODING));
        struct proto_value value = integer(1);
        struct history_change change = items("", "clicks", &value, 1);
        assert_true((merge(&record, &change, 1, &wide) == HISTORY_MERGED) == (encoding == HISTORY_ENCODING));
        record = (struct proto_string){copy, sizeof copy};
        arena_reset(&arena);
    }
    assert_false(history_record_read((struct proto_string){"", 0}, &arena, &history));
    /* A cut record is unreadable, unless the cut took whole fields from its end that it can be without. */
    memcpy(copy, recorded, sizeof copy);
    for (size_t length = 0; length < sizeof copy; length++) {
        struct proto_string cut = {memcpy(arena_alloc(&arena, length), copy, length), length};
        if (history_record_read(cut, &arena, &history))
            assert_true(history.list_count == 0 || history.lists[0].length == 3);
    }
    /* Any one byte of another value: read or refused, but within its memory (AddressSanitizer). */
    for (size_t i = 0; i < sizeof copy; i++)
        for (int byte = 0; byte < 256; byte++) {
            memcpy(copy, recorded, sizeof copy);
            copy[i] = (char)byte;
            history_record_read(record, &arena, &history);
            arena_reset(&arena);
        }
}

/* A column shorter or longer than its list, or there twice, and runs of no kind or two. */
static void test_parts_that_disagree_are_unreadable(void **state) {
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        bool good;
    } lists[] = {
#define LIST(good, bytes) {bytes, sizeof(bytes) - 1, good}
        LIST(true, "\x0a\x01l\x10\x02\x18\x02\x22\x09\x0a\x01i\x12\x04\x12\x02\x05\x06"),
        LIST(false, "\x0a\x01l\x10\x01\x18\x02\x22\x09\x0a\x01i\x12\x04\x12\x02\x05\x06"), /* fewer ever than kept */
        LIST(false, "\x0a\x01l\x10\x03\x18\x03\x22\x09\x0a\x01i\x12\x04\x12\x02\x05\x06"), /* a value is lost */
        LIST(false, "\x0a\x01l\x10\x01\x18\x01\x22\x09\x0a\x01i\x12\x04\x12\x02\x05\x06"), /* a value too many */
        LIST(false, "\x0a\x01l\x10\x02\x18\x02\x22\x0b\x0a\x01i\x12\x06\x08\x02\x12\x02\x05\x06"), /* two kinds */
        LIST(false, "\x0a\x01l\x10\x02\x18\x02\x22\x0b\x0a\x01i\x12\x06\x12\x02\x05\x06\x28\x01"), /* integers: width */
        LIST(false, "\x0a\x01l\x10\x02\x18\x02\x22\x0b\x0a\x01i\x12\x04\x12\x02\x05\x06\x12\x00"), /* no kind */
        LIST(false, "\x0a\x01l\x10\x02\x18\x02\x22\x08\x0a\x01i\x12\x03\x92\x06\x00"), /* a kind of later versions */
        LIST(false,
             "\x0a\x01l\x10\x02\x18\x02\x22\x09\x0a\x01i\x12\x04\x12\x02\x05\x06\x22\x09\x0a\x01i\x12\x04\x12\x02"
             "\x05\x06"),                                                                     /* twice */
        LIST(false, "\x0a\x01l\x10\x01\x18\x01\x22\x08\x0a\x01i\x12\x03\x1a\x01\xff"),        /* not UTF-8 */
        LIST(false, "\x0a\x01\xff\x10\x02\x18\x02\x22\x09\x0a\x01i\x12\x04\x12\x02\x05\x06"), /* nor its name */
    };
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        char record[128] = "\x09\1\2\3\4\5\6\7\x08\x18\x01\x32";
        record[12] = (char)lists[i].size;
        memcpy(record + 13, lists[i].bytes, lists[i].size);
        struct history history;
        bool read = history_record_read((struct proto_string){record, 13 + lists[i].size}, &arena, &history);
        if (read != lists[i].good)
            fail_msg("list %zu: %d", i, read);
        record[13 + lists[i].size] = 0x32; /* the list twice */
        memcpy(record + 14 + lists[i].size, record + 12, 1 + lists[i].size);
        assert_false(history_record_read((struct proto_string){record, 15 + 2 * lists[i].size}, &arena, &history));
    }
}

static void test_an_event_is_applied_once(void **state) {
    (void)state;
    struct proto_string record = {NULL, 0};
    struct history_limits limits = {.keep = 1000, .dedupe = 3, .user_bytes = 1 << 20};
    struct proto_value values[] = {integer(1), integer(2)};
    struct history_change changes[] = {items("a", "clicks", values, 2), items("b", "clicks", values, 1),
                                       items("a", "clicks", values, 2)};
    assert_int_equal(merge(&record, changes, 3, &limits), HISTORY_MERGED);
    assert_int_equal(changes[0].outcome, HISTORY_APPLIED);
    assert_int_equal(changes[1].outcome, HISTORY_APPLIED);
    assert_int_equal(changes[2].outcome, HISTORY_DUPLICATE);
    assert_int_equal(changes[0].count, 2);
    assert_int_equal(changes[1].count, 3);
    assert_int_equal(changes[2].count, 2); /* as the first was answered */
    struct proto_string before = record;
    assert_int_equal(merge(&record, changes, 1, &limits), HISTORY_UNCHANGED);
    assert_int_equal(changes[0].outcome, HISTORY_DUPLICATE);
    assert_ptr_equal(before.data, record.data);
    /* Three more events, and "a" is forgotten. */
    struct history_change more[] = {items("c", "clicks", values, 1), items("d", "clicks", values, 1),
                                    items("e", "clicks", values, 1)};
    assert_int_equal(merge(&record, more, 3, &limits), HISTORY_MERGED);
    assert_int_equal(read_back(record).event_count, 3);
    assert_int_equal(merge(&record, changes, 1, &limits), HISTORY_MERGED);
    assert_int_equal(changes[0].outcome, HISTORY_APPLIED);
    assert_int_equal(changes[0].count, 8);
    /* Without an event id each is another. */
    struct history_change nameless[] = {items("", "clicks", values, 1), items("", "clicks", values, 1)};
    assert_int_equal(merge(&record, nameless, 2, &limits), HISTORY_MERGED);
    assert_int_equal(nameless[1].outcome, HISTORY_APPLIED);
    assert_int_equal(read_back(record).count, 10);
    assert_int_equal(read_back(record).event_count, 3);
}

static void test_a_whole_history_takes_the_place(void **state) {
    (void)state;
    struct proto_string record = the_recorded();
    struct proto_value values[] = {integer(1), integer(2), integer(3)};
    struct history_limits limits = {.keep = 2, .dedupe = 3, .user_bytes = 1 << 20};
    struct history_change change = items("w", "buys", values, 3);
    change.replaces = true;
    assert_int_equal(merge(&record, &change, 1, &limits), HISTORY_MERGED);
    struct history history = read_back(record);
    assert_int_equal(history.list_count, 1);
    assert_int_equal(history.count, 3);
    assert_int_equal(history.lists[0].length, 2);
    assert_int_equal(history.lists[0].column[0].values[0].integer, 2);
    assert_int_equal(history.event_count, 2); /* "e1" is still known */
    assert_true(holds(record, "KEPT"));
    /* An empty history is a history. */
    struct history_addition nothing = {text(""), 0, NULL};
    change = (struct history_change){.encoded = encoded(&nothing), .replaces = true};
    assert_int_equal(merge(&record, &change, 1, &limits), HISTORY_MERGED);
    history = read_back(record);
    assert_int_equal(history.list_count, 0);
    assert_int_equal(history.count, 0);
    assert_int_equal(history_record_revision(record), history.revision);
}

/* The largest number of changes that fits is applied, the others are refused. */
static void test_bytes_of_a_user(void **state) {
    (void)state;
    enum { CHANGES = 40 };
    struct proto_value values[CHANGES];
    for (int64_t i = 0; i < CHANGES; i++)
        values[i] = integer(INT64_MAX - i); /* 9 bytes each */
    for (size_t room = 0; room < 400; room += 7) {
        struct proto_string record = {NULL, 0};
        struct history_change changes[CHANGES];
        struct history_limits limits = {.keep = 1000, .dedupe = 100, .user_bytes = room};
        for (size_t i = 0; i < CHANGES; i++)
            changes[i] = items("", "clicks", values + i, 1);
        size_t applied = 0;
        enum history_merge status = merge(&record, changes, CHANGES, &limits);
        while (applied < CHANGES && changes[applied].outcome == HISTORY_APPLIED)
            applied++;
        for (size_t i = applied; i < CHANGES; i++)
            assert_int_equal(changes[i].outcome, HISTORY_REFUSED);
        assert_int_equal(status, applied > 0 ? HISTORY_MERGED : HISTORY_UNCHANGED);
        assert_true(record.length <= room);
        if (applied > 0)
            assert_int_equal(read_back(record).lists[0].length, applied);
        /* One more would not have fitted. */
        struct history_change one = changes[applied < CHANGES ? applied : 0];
        if (applied < CHANGES)
            assert_int_equal(merge(&record, &one, 1, &limits), HISTORY_UNCHANGED);
        arena_reset(&arena);
    }
}

/* Of many events only those that do not fit are refused; duplicates behind them are answered as such. */
static void test_a_large_event_refuses_itself_alone(void **state) {
    (void)state;
    enum { EVENTS = 60, LARGE = 400 };
    static struct proto_value values[LARGE];
    static char names[EVENTS][8];
    struct proto_string record = {NULL, 0};
    struct history_change changes[EVENTS];
    struct history_limits limits = {.keep = 1000, .dedupe = 100, .user_bytes = 2000};
    for (int64_t i = 0; i < LARGE; i++)
        values[i] = integer(INT64_MAX - i); /* 9 bytes each */
    for (size_t i = 0; i < EVENTS; i++) {
        bool again = i == EVENTS - 1; /* of the first event */
        snprintf(names[i], sizeof names[i], "e%zu", again ? 0 : i);
        changes[i] = items(names[i], "clicks", values, i % 25 == 7 ? LARGE : 1);
    }
    assert_int_equal(merge(&record, changes, EVENTS, &limits), HISTORY_MERGED);
    uint64_t count = 0;
    for (size_t i = 0; i < EVENTS; i++) {
        enum history_outcome expected = i == EVENTS - 1 ? HISTORY_DUPLICATE
                                        : i % 25 == 7   ? HISTORY_REFUSED
                                                        : HISTORY_APPLIED;
        assert_int_equal(changes[i].outcome, expected);
        count += expected == HISTORY_APPLIED;
        assert_int_equal(changes[i].count, expected == HISTORY_APPLIED ? count : expected == HISTORY_DUPLICATE);
    }
    assert_int_equal(read_back(record).count, count);
    assert_int_equal(read_back(record).event_count, count);
    assert_true(record.length <= limits.user_bytes);
    /* A refused whole history leaves what is held. */
    struct history_change whole[] = {items("w1", "clicks", values, LARGE), items("w2", "clicks", values, 2)};
    whole[0].replaces = true;
    assert_int_equal(merge(&record, whole, 2, &limits), HISTORY_MERGED);
    assert_int_equal(whole[0].outcome, HISTORY_REFUSED);
    assert_int_equal(whole[1].outcome, HISTORY_APPLIED);
    assert_int_equal(read_back(record).lists[0].length, count + 2);
    /* All are too large: the time is bounded. */
    static struct history_change many[2000];
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        many[i] = items("", "clicks", values, 240);
    assert_int_equal(merge(&record, many, sizeof many / sizeof many[0], &limits), HISTORY_UNCHANGED);
    for (size_t i = 0; i < sizeof many / sizeof many[0]; i++)
        assert_int_equal(many[i].outcome, HISTORY_REFUSED);
}

/* Twice the runs take about twice the memory. */
static void test_memory_grows_with_the_runs(void **state) {
    (void)state;
    size_t used[2];
    for (size_t turn = 0; turn < 2; turn++) {
        enum { VALUES = 8000 };
        static struct proto_value values[VALUES];
        size_t count = turn == 0 ? VALUES / 2 : VALUES;
        for (size_t i = 0; i < count; i++) /* no two neighbours of one kind */
            values[i] = i % 2 == 0 ? integer((int64_t)i)
                                   : (struct proto_value){.kind = PROTO_STRING, .length = 1, .string = "x"};
        struct proto_string record = {NULL, 0};
        struct history_limits limits = {.keep = VALUES, .dedupe = 1, .user_bytes = 1 << 20};
        arena_reset(&arena);
        struct history_change change = items("", "clicks", values, count);
        assert_int_equal(merge(&record, &change, 1, &limits), HISTORY_MERGED);
        assert_int_equal(read_back(record).lists[0].length, count);
        used[turn] = arena.used;
    }
    print_message("%zu and %zu bytes\n", used[0], used[1]);
    assert_true(used[1] < 3 * used[0]);
}

static void test_faults_of_an_addition_have_a_place(void **state) {
    (void)state;
    struct proto_value good[] = {integer(1), integer(2), integer(3)};
    struct proto_value null[] = {integer(1), {.kind = PROTO_OTHER}, integer(3)};
    struct proto_value empty[] = {integer(1), integer(2), {.kind = PROTO_VECTOR}};
    struct proto_value large[] = {integer(1), {.kind = PROTO_STRING, .length = 9, .string = "123456789"}, integer(3)};
    const struct {
        const struct proto_value *second;
        size_t count;
        enum history_fault fault;
        size_t behaviour;
    } cases[] = {{good, 3, HISTORY_FAULT_NONE, 2},
                 {null, 3, HISTORY_FAULT_VALUE, 1},
                 {empty, 3, HISTORY_FAULT_VALUE, 2},
                 {large, 3, HISTORY_FAULT_BYTES, 1},
                 {good, 2, HISTORY_FAULT_LENGTH, 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct proto_column columns[] = {{text("item"), 3, good}, {text("price"), cases[i].count, cases[i].second}};
        struct history_list lists[] = {{.name = text("a")},
                                       {.name = text("b"), .length = 3, .columns = 2, .column = columns}};
        struct history_addition addition = {text(""), 2, lists};
        struct proto_string bytes;
        struct history_place place;
        assert_int_equal(history_addition_encode(&addition, 16, &arena, &bytes, &place), cases[i].fault);
        assert_int_equal(place.list, 1);
        assert_int_equal(place.column, 1);
        assert_int_equal(place.behaviour, cases[i].behaviour);
    }
}

static void test_stamps(void **state) {
    (void)state;
    char stamp[HISTORY_REVISION_BYTES];
    history_record_stamp(0x1122334455667788, stamp);
    assert_memory_equal(stamp, recorded, sizeof stamp);
    assert_int_equal(history_record_revision(the_recorded()), 0x1122334455667788);
    assert_int_equal(history_record_revision((struct proto_string){"", 0}), 0);
    assert_int_equal(history_record_revision((struct proto_string){"\x0a\1\1\1\1\1\1\1\1", 9}), 0);
}

/* ---- random additions against plain arrays ---- */

enum { LISTS = 2, FIELDS = 4, MOST = 4000, KEEP = 37, STEPS = 120 };

static const char *const list_names[LISTS] = {"clicks", "buys"};
static const char *const field_names[FIELDS] = {"item", "category", "price", "place"};
static const char *const words[] = {"", "B4", "Zo\xc3\xab", "a longer word, so that lengths take two digits and more"};
static const double numbers[] = {0.5, -1, 1e300, 3, 4, 5};

struct plain_list {
    size_t count, length;
    struct proto_value values[FIELDS][MOST];
};

static struct proto_value random_value(uint64_t *random) {
    uint64_t bits = random_bits(random);
    size_t word = bits >> 8 & 3;
    switch (bits % 8) {
    case 0:
        return (struct proto_value){.kind = PROTO_ABSENT};
    case 1:
        return (struct proto_value){.kind = PROTO_REAL, .real = numbers[word]};
    case 2:
        return (struct proto_value){
            .kind = PROTO_VECTOR, .length = 1 + (uint32_t)word, .vector = numbers + (bits >> 16 & 1)};
    case 3:
    case 4:
        return (struct proto_value){
            .kind = PROTO_STRING, .length = (uint32_t)strlen(words[word]), .string = words[word]};
    default:
        return integer((int64_t)random_bits(random) >> (bits >> 16 & 63));
    }
}

static bool same_value(const struct proto_value *left, const struct proto_value *right) {
    if (left->kind != right->kind)
        return false;
    if (left->kind == PROTO_INTEGER)
        return left->integer == right->integer;
    if (left->kind == PROTO_REAL)
        return left->real == right->real;
    if (left->kind == PROTO_ABSENT)
        return true;
    return left->length == right->length &&
           (left->kind == PROTO_STRING ? memcmp(left->string, right->string, left->length) == 0
                                       : memcmp(left->vector, right->vector, left->length * sizeof(double)) == 0);
}

static void compare(const struct plain_list *plain, struct proto_string record) {
    struct history history = read_back(record);
    for (size_t i = 0; i < LISTS; i++) {
        const struct history_list *list = NULL;
        for (size_t j = 0; j < history.list_count; j++)
            if (proto_string_is(&history.lists[j].name, list_names[i], strlen(list_names[i])))
                list = &history.lists[j];
        if (list == NULL) {
            assert_int_equal(plain[i].count, 0);
            continue;
        }
        assert_int_equal(list->count, plain[i].count);
        assert_int_equal(list->length, plain[i].length < KEEP ? plain[i].length : KEEP);
        for (size_t f = 0; f < FIELDS; f++) {
            const struct proto_column *column = NULL;
            for (size_t j = 0; j < list->columns; j++)
                if (proto_string_is(&list->column[j].name, field_names[f], strlen(field_names[f])))
                    column = &list->column[j];
            for (size_t j = 0; j < list->length; j++) {
                struct proto_value absent = {.kind = PROTO_ABSENT};
                const struct proto_value *held = column != NULL ? &column->values[j] : &absent;
                assert_true(same_value(held, &plain[i].values[f][plain[i].length - list->length + j]));
            }
        }
    }
}

static void test_random_additions_against_plain_arrays(void **state) {
    (void)state;
    static struct plain_list plain[LISTS];
    for (uint64_t seed = 0; seed < 40; seed++) {
        uint64_t random = seed;
        char *record = NULL;
        size_t size = 0;
        memset(plain, 0, sizeof plain);
        for (size_t step = 0; step < STEPS; step++) {
            struct history_limits limits = {.keep = KEEP, .dedupe = 5, .user_bytes = 1 << 20};
            struct history_change changes[4];
            size_t count = 1 + random_bits(&random) % 4;
            for (size_t c = 0; c < count; c++) {
                struct history_list lists[LISTS];
                bool replaces = random_bits(&random) % 32 == 0;
                if (replaces)
                    memset(plain, 0, sizeof plain);
                size_t list_count = 0;
                for (size_t i = 0; i < LISTS; i++) {
                    if (random_bits(&random) % 3 == 0)
                        continue;
                    size_t length = random_bits(&random) % 8, fields = random_bits(&random) % (FIELDS + 1);
                    struct plain_list *to = &plain[i];
                    struct proto_column *columns = arena_array(&arena, fields, sizeof *columns);
                    for (size_t f = 0; f < FIELDS; f++) {
                        for (size_t j = 0; j < length; j++)
                            to->values[f][to->length + j] =
                                f < fields ? random_value(&random) : (struct proto_value){.kind = PROTO_ABSENT};
                        if (f < fields)
                            columns[f] =
                                (struct proto_column){text(field_names[f]), length, &to->values[f][to->length]};
                    }
                    lists[list_count++] = (struct history_list){
                        .name = text(list_names[i]), .length = length, .columns = fields, .column = columns};
                    to->length += length;
                    to->count += length;
                }
                struct history_addition addition = {text(""), list_count, lists};
                changes[c] = (struct history_change){.encoded = encoded(&addition), .replaces = replaces};
            }
            struct proto_string held = {record, size};
            assert_int_equal(merge(&held, changes, count, &limits), HISTORY_MERGED);
            free(record);
            record = malloc(held.length);
            memcpy(record, held.data, held.length);
            size = held.length;
            arena_reset(&arena);
            compare(plain, (struct proto_string){record, size});
        }
        free(record);
    }
}

/* Memory that runs out at any place is an answer. */
static void test_out_of_memory(void **state) {
    (void)state;
    struct proto_value values[] = {integer(1), integer(2)};
    struct history_change change = items("e2", "clicks", values, 2);
    bool merged = false;
    for (size_t limit = 64; !merged; limit += 64) {
        struct arena small;
        struct proto_string record;
        struct history history;
        arena_init(&small, limit, 0);
        enum history_merge status = history_record_merge(the_recorded(), &change, 1, &wide, 7, 7, &small, &record);
        assert_true(status == HISTORY_NO_MEMORY || status == HISTORY_MERGED);
        merged = status == HISTORY_MERGED;
        arena_reset(&small);
        assert_true(history_record_read(the_recorded(), &small, &history) || !merged);
        arena_free(&small);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_recorded_store_reads, prepare, clean),
        cmocka_unit_test_setup_teardown(test_fields_of_later_versions_are_kept, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_run_of_a_later_version_stays_as_it_is, prepare, clean),
        cmocka_unit_test_setup_teardown(test_what_is_no_record_is_unreadable, prepare, clean),
        cmocka_unit_test_setup_teardown(test_parts_that_disagree_are_unreadable, prepare, clean),
        cmocka_unit_test_setup_teardown(test_an_event_is_applied_once, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_whole_history_takes_the_place, prepare, clean),
        cmocka_unit_test_setup_teardown(test_bytes_of_a_user, prepare, clean),
        cmocka_unit_test_setup_teardown(test_a_large_event_refuses_itself_alone, prepare, clean),
        cmocka_unit_test_setup_teardown(test_memory_grows_with_the_runs, prepare, clean),
        cmocka_unit_test_setup_teardown(test_faults_of_an_addition_have_a_place, prepare, clean),
        cmocka_unit_test_setup_teardown(test_stamps, prepare, clean),
        cmocka_unit_test_setup_teardown(test_random_additions_against_plain_arrays, prepare, clean),
        cmocka_unit_test_setup_teardown(test_out_of_memory, prepare, clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
