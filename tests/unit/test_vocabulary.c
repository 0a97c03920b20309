/* test_vocabulary.c: lookups in tables laid out as FORMAT.md says, and in tables that lie. */
#include "model/format/vocabulary.h"
#include "tests/unit/model_file.h"

enum { SLOTS = 16, ENTRIES = 6 };

/* ---- FORMAT.md's hash, written anew; the constants in test_hashes() are another program's ---- */

static uint64_t spec_mix(uint64_t x) {
    x = (x ^ x >> 33) * 0xff51afd7ed558ccdU;
    x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53U;
    return x ^ x >> 33;
}

static uint64_t spec_string(const char *bytes, size_t length) {
    uint64_t hash = 14695981039346656037U;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (uint8_t)bytes[i]) * 1099511628211U;
    return spec_mix(hash);
}

static void test_hashes(void **state) {
    (void)state;
    assert_true(spec_mix(0) == 0);
    assert_true(spec_mix(1) == 0xb456bcfc34c2cb2cU);
    assert_true(spec_mix((uint64_t)-1) == 0x64b5720b4b825f21U);
    assert_true(spec_string("", 0) == 0xefd01f60ba992926U);
    assert_true(spec_string("item7", 5) == 0x4fde096412a25086U);
}

/* ---- tables ---- */

struct table {
    int32_t slots[SLOTS];
    int64_t keys[ENTRIES], offsets[ENTRIES + 1];
    char bytes[64];
    struct vocabulary vocabulary;
};

/* Put entry + 1 into the first empty slot from a hash on, as an exporter does. */
static void put_slot(struct table *table, uint64_t hash, size_t entry) {
    size_t distance = 0;
    while (table->slots[(hash + distance) % SLOTS] != 0)
        distance++;
    table->slots[(hash + distance) % SLOTS] = (int32_t)entry + 1;
    if (distance + 1 > table->vocabulary.probe)
        table->vocabulary.probe = distance + 1;
}

static void start_table(struct table *table) {
    memset(table, 0, sizeof *table);
    table->vocabulary = (struct vocabulary){.entries = ENTRIES, .slot_mask = SLOTS - 1, .slots = table->slots};
}

static void make_integers(struct table *table, const int64_t *keys) {
    start_table(table);
    table->vocabulary.keys = table->keys;
    for (size_t i = 0; i < ENTRIES; i++) {
        table->keys[i] = keys[i];
        put_slot(table, spec_mix((uint64_t)keys[i]), i);
    }
}

struct string {
    const char *bytes;
    size_t length;
};

static void make_strings(struct table *table, const struct string *strings) {
    start_table(table);
    table->vocabulary.offsets = table->offsets;
    table->vocabulary.bytes = table->bytes;
    for (size_t i = 0; i < ENTRIES; i++) {
        memcpy(table->bytes + table->offsets[i], strings[i].bytes, strings[i].length);
        table->offsets[i + 1] = table->offsets[i] + (int64_t)strings[i].length;
        put_slot(table, spec_string(strings[i].bytes, strings[i].length), i);
    }
    table->vocabulary.byte_count = (size_t)table->offsets[ENTRIES];
}

static const int64_t integers[ENTRIES] = {0, -1, INT64_MIN, INT64_MAX, (1LL << 53) + 1, 42};
static const struct string strings[ENTRIES] = {{"item7", 5}, {"item", 4}, {"", 0},
                                               {"a\0b", 3},  {"a", 1},    {"\xc3\xa9", 2}};

/* ---- lookups ---- */

static void test_integers_of_64_bits(void **state) {
    (void)state;
    struct table table;
    make_integers(&table, integers);
    for (size_t i = 0; i < ENTRIES; i++)
        assert_int_equal(vocabulary_find_integer(&table.vocabulary, integers[i]), i);
    const int64_t unknown[] = {1, -2, INT64_MIN + 1, INT64_MAX - 1, 1LL << 53, 42 + (1LL << 32)};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_int_equal(vocabulary_find_integer(&table.vocabulary, unknown[i]), -1);
}

static void test_strings_by_all_their_bytes(void **state) {
    (void)state;
    struct table table;
    make_strings(&table, strings);
    for (size_t i = 0; i < ENTRIES; i++)
        assert_int_equal(vocabulary_find_string(&table.vocabulary, strings[i].bytes, strings[i].length), i);
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "item8", 5), -1);
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "item77", 6), -1);
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "ite", 3), -1);
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "a\0c", 3), -1);
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "a\0", 2), -1);
}

/* All ids in one full table: the last entries lie far from their hash, beyond the table's end and at its start. */
static void test_probing_wraps(void **state) {
    (void)state;
    struct table table;
    int64_t keys[ENTRIES];
    size_t found = 0;
    for (int64_t id = 0; found < ENTRIES; id++)
        if (spec_mix((uint64_t)id) % SLOTS == SLOTS - 2)
            keys[found++] = id;
    make_integers(&table, keys);
    assert_int_equal(table.vocabulary.probe, ENTRIES);
    assert_int_equal(table.slots[ENTRIES - 3], ENTRIES);
    for (size_t i = 0; i < ENTRIES; i++)
        assert_int_equal(vocabulary_find_integer(&table.vocabulary, keys[i]), i);
    table.vocabulary.probe = ENTRIES - 1; /* no lookup reads further than the probe */
    assert_int_equal(vocabulary_find_integer(&table.vocabulary, keys[ENTRIES - 1]), -1);
    assert_int_equal(vocabulary_find_integer(&table.vocabulary, keys[ENTRIES - 2]), ENTRIES - 2);
    table.vocabulary.probe = ENTRIES;
    table.slots[SLOTS - 1] = 0; /* an empty slot ends a search */
    assert_int_equal(vocabulary_find_integer(&table.vocabulary, keys[0]), 0);
    for (size_t i = 1; i < ENTRIES; i++)
        assert_int_equal(vocabulary_find_integer(&table.vocabulary, keys[i]), -1);
}

/* A table without an empty slot ends a search after `probe` slots. */
static void test_a_full_table(void **state) {
    (void)state;
    struct table table;
    make_integers(&table, integers);
    for (size_t i = 0; i < SLOTS; i++)
        table.slots[i] = 1;
    table.vocabulary.probe = SLOTS;
    assert_int_equal(vocabulary_find_integer(&table.vocabulary, 0), 0);
    assert_int_equal(vocabulary_find_integer(&table.vocabulary, 1), -1);
}

static void test_the_first_of_duplicates(void **state) {
    (void)state;
    struct table table;
    int64_t twice[ENTRIES];
    struct string strings_twice[ENTRIES];
    memcpy(twice, integers, sizeof twice);
    memcpy(strings_twice, strings, sizeof strings_twice);
    twice[4] = twice[1];
    strings_twice[5] = strings_twice[0];
    make_integers(&table, twice);
    assert_int_equal(vocabulary_find_integer(&table.vocabulary, twice[1]), 1);
    make_strings(&table, strings_twice);
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "item7", 5), 0);
}

/* ---- tables that lie ---- */

static void test_slots_that_point_anywhere(void **state) {
    (void)state;
    const int32_t slots[] = {-1, INT32_MIN, ENTRIES + 1, INT32_MAX};
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        struct table table;
        make_integers(&table, integers);
        for (size_t j = 0; j < SLOTS; j++)
            table.slots[j] = slots[i];
        table.vocabulary.probe = SLOTS;
        for (size_t j = 0; j < ENTRIES; j++)
            assert_int_equal(vocabulary_find_integer(&table.vocabulary, integers[j]), -1);
        make_strings(&table, strings);
        for (size_t j = 0; j < SLOTS; j++)
            table.slots[j] = slots[i];
        for (size_t j = 0; j < ENTRIES; j++)
            assert_int_equal(vocabulary_find_string(&table.vocabulary, strings[j].bytes, strings[j].length), -1);
    }
}

/* Each lie makes a string of the right length, so that only the check of its bounds can find the fault. */
static void test_offsets_that_point_anywhere(void **state) {
    (void)state;
    const struct {
        int64_t begin, end;
    } lies[] = {{-5, 0}, {INT64_MIN, INT64_MIN + 5}, {INT64_MAX - 5, INT64_MAX}, {11, 16}, {64, 69}, {5, 0}};
    struct table table;
    make_strings(&table, strings);
    assert_int_equal(table.vocabulary.byte_count, 15);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        table.offsets[0] = lies[i].begin;
        table.offsets[1] = lies[i].end;
        assert_int_equal(vocabulary_find_string(&table.vocabulary, "item7", 5), -1);
    }
    memcpy(table.bytes + 11, "item7", 5); /* in front of the tensor */
    table.vocabulary.bytes = table.bytes + 16;
    table.offsets[0] = -5;
    table.offsets[1] = 0;
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "item7", 5), -1);
    table.vocabulary.bytes = table.bytes;
    memcpy(table.bytes + 10, "item7", 5); /* the last bytes are allowed */
    table.offsets[0] = 10;
    table.offsets[1] = 15;
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "item7", 5), 0);
    memcpy(table.bytes + 11, "item7", 5); /* one byte beyond them is not */
    table.offsets[0] = 11;
    table.offsets[1] = 16;
    assert_int_equal(vocabulary_find_string(&table.vocabulary, "item7", 5), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hashes),
        cmocka_unit_test(test_integers_of_64_bits),
        cmocka_unit_test(test_strings_by_all_their_bytes),
        cmocka_unit_test(test_probing_wraps),
        cmocka_unit_test(test_a_full_table),
        cmocka_unit_test(test_the_first_of_duplicates),
        cmocka_unit_test(test_slots_that_point_anywhere),
        cmocka_unit_test(test_offsets_that_point_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
