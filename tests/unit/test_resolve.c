/* test_resolve.c: values to rows, and the refusals of each group, kind of field and form, with their JSON pointers. */
#include "server/scoring/resolve.h"

#include "proto/json_decode.h"
#include "tests/unit/small_model.h"

#include <math.h>

#define USER       "{'country': 1, 'age': 0.5}"
#define CONTEXT    "{'month': -7, 'weather': [1, 2.5, -3]}"
#define HISTORY    "{'item': ['i0', 'i3'], 'dwell': [1, 2.5], 'shop': [0, 1, 2], 'page': [2, 1, 0]}"
#define CANDIDATES "{'item': ['i4', 'i1'], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}"

static char directory[64];
static struct dien_model *model;
static struct arena decoded, arena; /* of the request, and of resolve() */
static struct request_limits limits;
static struct proto_request request;
static struct resolved resolved;
static struct problem problem;

static int open_model(void **state) {
    (void)state;
    struct dien_error error = {""};
    json_decode_init();
    small_make(directory);
    model = dien_open(directory, &error);
    if (model == NULL)
        print_error("%s\n", error.message);
    return model != NULL ? 0 : -1;
}

static int close_model(void **state) {
    (void)state;
    dien_close(model);
    small_remove(directory);
    return 0;
}

static int start(void **state) {
    (void)state;
    arena_init(&decoded, 0, 0);
    arena_init(&arena, 0, 0);
    limits = (struct request_limits){.max_candidates = 100, .max_history = 100};
    return 0;
}

static int stop(void **state) {
    (void)state;
    arena_free(&decoded);
    arena_free(&arena);
    return 0;
}

/* ---- helpers */

typedef bool decoder(const char *, size_t, struct arena *, struct proto_request *, struct problem *);

static void decode_text(decoder *decode_body, const char *text) {
    char quoted[4096];
    assert_true(strlen(text) < sizeof quoted);
    small_quotes(text, quoted);
    arena_reset(&decoded);
    memset(&problem, 0, sizeof problem);
    if (!decode_body(quoted, strlen(quoted), &decoded, &request, &problem))
        fail_msg("%s: %s: %s", text, problem.pointer, problem.detail);
}

/* Decode a request of these members; NULL stands for a good one. */
static void decode(const char *user, const char *context, const char *history, const char *candidates) {
    char text[2048];
    snprintf(text, sizeof text, "{'user': %s, 'context': %s, 'history': %s, 'candidates': %s}",
             user != NULL ? user : USER, context != NULL ? context : CONTEXT, history != NULL ? history : HISTORY,
             candidates != NULL ? candidates : CANDIDATES);
    decode_text(json_decode_request, text);
}

static bool resolve_request(void) {
    arena_reset(&arena);
    memset(&problem, 0, sizeof problem);
    return resolve(model, &limits, &arena, &request, &resolved, &problem);
}

static void assert_resolved(void) {
    if (!resolve_request())
        fail_msg("%s: %s", problem.pointer, problem.detail);
    assert_int_equal(problem.kind, PROBLEM_NONE);
}

static void assert_refused(enum problem_kind kind, const char *pointer) {
    assert_false(resolve_request());
    assert_int_equal(problem.kind, kind);
    assert_string_equal(problem.pointer, pointer);
    assert_true(*problem.detail != '\0');
}

static const struct dien_column *column_of(enum dien_group group, const char *name) {
    const struct dien_field *const *fields;
    size_t count = dien_fields(model, group, &fields);
    for (size_t i = 0; i < count; i++)
        if (strcmp(fields[i]->name, name) == 0)
            return &resolved.columns[group].column[i];
    fail_msg("no field %s", name);
    return NULL;
}

#define assert_rows(group, name, ...)                                                                                  \
    check_rows(column_of(group, name), (const int32_t[]){__VA_ARGS__}, sizeof((const int32_t[]){__VA_ARGS__}) / 4)
static void check_rows(const struct dien_column *column, const int32_t *rows, size_t count) {
    assert_int_equal(column->count, count);
    assert_null(column->values);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(column->rows[i], rows[i]);
}

#define assert_values(group, name, width, ...)                                                                         \
    check_values(column_of(group, name), width, (const float[]){__VA_ARGS__},                                          \
                 sizeof((const float[]){__VA_ARGS__}) / sizeof(float))
static void check_values(const struct dien_column *column, size_t width, const float *values, size_t count) {
    assert_int_equal(column->count * width, count);
    assert_null(column->rows);
    assert_memory_equal(column->values, values, count * sizeof *values);
}

static size_t unknown_of(const char *name) {
    for (size_t i = 0; i < resolved.unknown_count; i++)
        if (strcmp(resolved.unknown[i].field, name) == 0)
            return resolved.unknown[i].count;
    fail_msg("no count for %s", name);
    return 0;
}

/* ---- values */

static void every_kind_of_field_is_resolved(void **state) {
    (void)state;
    decode(NULL, NULL, NULL, NULL);
    assert_resolved();
    assert_int_equal(resolved.candidate_count, 2);
    assert_rows(DIEN_USER, "country", 2);
    assert_values(DIEN_USER, "age", 1, 0.5F);
    assert_rows(DIEN_CONTEXT, "month", 1);
    assert_values(DIEN_CONTEXT, "weather", 3, 1, 2.5F, -3);
    assert_rows(DIEN_BEHAVIOUR, "item", 1, 4);
    assert_values(DIEN_BEHAVIOUR, "dwell", 1, 1, 2.5F);
    assert_rows(DIEN_BEHAVIOUR, "shop", 1, 2, 3);
    assert_rows(DIEN_BEHAVIOUR, "page", 3, 2, 1);
    assert_rows(DIEN_CANDIDATE, "item", 5, 2);
    assert_values(DIEN_CANDIDATE, "price", 1, 1, 2);
    assert_values(DIEN_CANDIDATE, "position", 2, 1, 2, 3, 4);
}

/* Item row r has category row r % 4 and the features r and -r. */
static void attributes_that_are_left_out_come_from_the_parent(void **state) {
    (void)state;
    decode(NULL, NULL, NULL, NULL);
    assert_resolved();
    assert_rows(DIEN_BEHAVIOUR, "category", 1, 0);
    assert_values(DIEN_BEHAVIOUR, "features", 2, 1, -1, 4, -4);
    assert_rows(DIEN_CANDIDATE, "category", 1, 2);
    assert_values(DIEN_CANDIDATE, "features", 2, 5, -5, 2, -2);
}

static void attributes_that_are_sent_are_taken(void **state) {
    (void)state;
    decode(NULL, NULL,
           "{'item': ['i0', 'i3'], 'category': [2, 0], 'features': [[7, 8], [9, 10]], 'dwell': [1, 2], 'shop': [],"
           " 'page': []}",
           "{'item': ['i4'], 'category': [1], 'features': [[0.5, 0.25]], 'price': [1], 'position': [[1, 2]]}");
    assert_resolved();
    assert_rows(DIEN_BEHAVIOUR, "category", 3, 1);
    assert_values(DIEN_BEHAVIOUR, "features", 2, 7, 8, 9, 10);
    assert_rows(DIEN_CANDIDATE, "category", 2);
    assert_values(DIEN_CANDIDATE, "features", 2, 0.5F, 0.25F);
}

static void rows_give_what_columns_give(void **state) {
    (void)state;
    decode(NULL, NULL,
           "[{'item': 'i0', 'dwell': 1, 'shop': 0, 'page': 2, 'features': [7, 8]},"
           " {'item': 'i3', 'dwell': 2.5, 'shop': 1, 'page': 1, 'category': 2}]",
           "[{'item': 'i4', 'price': 1, 'position': [1, 2], 'category': 1},"
           " {'item': 'i1', 'price': 2, 'position': [3, 4]}]");
    assert_resolved();
    assert_int_equal(resolved.candidate_count, 2);
    assert_rows(DIEN_BEHAVIOUR, "item", 1, 4);
    assert_rows(DIEN_BEHAVIOUR, "category", 1, 3);
    assert_values(DIEN_BEHAVIOUR, "features", 2, 7, 8, 4, -4);
    assert_rows(DIEN_BEHAVIOUR, "page", 3, 2);
    assert_rows(DIEN_CANDIDATE, "category", 2, 2);
    assert_values(DIEN_CANDIDATE, "position", 2, 1, 2, 3, 4);
}

static void integers_are_numbers(void **state) {
    (void)state;
    decode("{'country': 0, 'age': 9223372036854775807}", "{'month': 2000000000000, 'weather': [1e38, -1e38, 0]}", NULL,
           NULL);
    assert_resolved();
    assert_values(DIEN_USER, "age", 1, 9223372036854775808.0F);
    assert_rows(DIEN_CONTEXT, "month", 2);
    assert_values(DIEN_CONTEXT, "weather", 3, 1e38F, -1e38F, 0);
}

static void unknown_ids_take_row_0_and_are_counted(void **state) {
    (void)state;
    decode("{'country': 3, 'age': 1}", "{'month': 0, 'weather': [0, 0, 0]}",
           "{'item': ['i0', 'i', 'i00'], 'dwell': [0, 0, 0], 'shop': [9223372036854775807, 2], 'page': [0, 3]}",
           "{'item': ['', 'i1'], 'category': [3, 2], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}");
    assert_resolved();
    assert_rows(DIEN_USER, "country", 0);
    assert_rows(DIEN_CONTEXT, "month", 0);
    assert_rows(DIEN_BEHAVIOUR, "item", 1, 0, 0);
    assert_rows(DIEN_BEHAVIOUR, "shop", 0, 3);
    assert_rows(DIEN_BEHAVIOUR, "page", 1, 0);
    assert_rows(DIEN_BEHAVIOUR, "category", 1, 0, 0);
    assert_rows(DIEN_CANDIDATE, "item", 0, 2);
    assert_rows(DIEN_CANDIDATE, "category", 0, 3);
    assert_int_equal(unknown_of("country"), 1);
    assert_int_equal(unknown_of("month"), 1);
    assert_int_equal(unknown_of("item"), 3); /* of both groups */
    assert_int_equal(unknown_of("shop"), 1);
    assert_int_equal(unknown_of("page"), 1);
    assert_int_equal(unknown_of("category"), 1); /* those that were filled in are not counted */
}

/* A categorical field that is in two groups has one count; a dense field has none. */
static void each_categorical_field_has_one_count(void **state) {
    (void)state;
    static const char *const names[] = {"country", "month", "category", "item", "shop", "page", "tag"};
    decode(NULL, NULL, NULL, NULL);
    assert_resolved();
    assert_int_equal(resolved.unknown_count, sizeof names / sizeof *names);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(unknown_of(names[i]), 0);
}

/* ---- refusals */

struct bad {
    const char *user, *context, *history, *candidates; /* NULL: a good one */
    const char *pointer;
};

static void assert_all_refused(const struct bad *bad, size_t count) {
    for (size_t i = 0; i < count; i++) {
        decode(bad[i].user, bad[i].context, bad[i].history, bad[i].candidates);
        if (resolve_request() || problem.kind != PROBLEM_INVALID_REQUEST ||
            strcmp(problem.pointer, bad[i].pointer) != 0)
            fail_msg("case %zu: \"%s\" for \"%s\": %s", i, problem.pointer, bad[i].pointer, problem.detail);
    }
}

/* Columns of one interest, or of the candidates, that differ in length: the first, a middle and the last one, too short
 * and too long. */
static void columns_of_different_lengths(void **state) {
    (void)state;
    static const struct bad bad[] = {
        {.history = "{'item': ['i0'], 'dwell': [1, 2], 'shop': [], 'page': []}", .pointer = "/history/dwell"},
        {.history = "{'item': ['i0', 'i1'], 'dwell': [1], 'shop': [], 'page': []}", .pointer = "/history/dwell"},
        {.history = "{'item': ['i0', 'i1'], 'dwell': [], 'shop': [], 'page': []}", .pointer = "/history/dwell"},
        {.history = "{'item': ['i0', 'i1'], 'category': [1], 'dwell': [1, 2], 'shop': [], 'page': []}",
         .pointer = "/history/category"},
        {.history = "{'item': ['i0', 'i1'], 'category': [1, 1, 1], 'dwell': [1, 2], 'shop': [], 'page': []}",
         .pointer = "/history/category"},
        {.history = "{'item': ['i0', 'i1'], 'features': [[1, 2]], 'dwell': [1, 2], 'shop': [], 'page': []}",
         .pointer = "/history/features"},
        {.history = "{'item': [], 'dwell': [], 'shop': [1], 'page': [1, 2]}", .pointer = "/history/page"},
        {.history = "{'item': [], 'dwell': [], 'shop': [1, 2], 'page': [1]}", .pointer = "/history/page"},
        {.history = "{'item': [], 'dwell': [], 'shop': [1, 2], 'page': []}", .pointer = "/history/page"},
        {.candidates = "{'item': ['i0'], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}",
         .pointer = "/candidates/price"},
        {.candidates = "{'item': ['i0', 'i1'], 'price': [1], 'position': [[1, 2], [3, 4]]}",
         .pointer = "/candidates/price"},
        {.candidates = "{'item': ['i0', 'i1'], 'price': [1, 2], 'position': [[1, 2]]}",
         .pointer = "/candidates/position"},
        {.candidates = "{'item': ['i0', 'i1'], 'price': [1, 2], 'position': []}", .pointer = "/candidates/position"},
        {.candidates = "{'item': ['i0'], 'price': [1], 'position': [[1, 2], [3, 4]]}",
         .pointer = "/candidates/position"},
        {.candidates = "{'item': ['i0', 'i1'], 'category': [1], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}",
         .pointer = "/candidates/category"},
        {.candidates = "{'item': ['i0', 'i1'], 'features': [[1, 2]], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}",
         .pointer = "/candidates/features"},
    };
    assert_all_refused(bad, sizeof bad / sizeof *bad);
}

static void set_count(const struct proto_table *table, size_t column, size_t count) {
    ((struct proto_column *)(uintptr_t)&table->column[column])->count = count;
}

/* JSON gives user and context columns of one value each, so the columns are changed after decoding. */
static void single_values_of_different_counts(void **state) {
    (void)state;
    for (size_t column = 0; column < 2; column++) {
        decode(NULL, NULL, NULL, NULL);
        set_count(&request.user, column, 0);
        assert_refused(PROBLEM_INVALID_REQUEST, "/user/age");
        decode(NULL, NULL, NULL, NULL);
        set_count(&request.context, column, 0);
        assert_refused(PROBLEM_INVALID_REQUEST, "/context/weather");
    }
    for (size_t count = 0; count <= 2; count += 2) { /* of all columns alike */
        decode(NULL, NULL, NULL, NULL);
        set_count(&request.user, 0, count);
        set_count(&request.user, 1, count);
        assert_refused(PROBLEM_INVALID_REQUEST, "/user/country");
    }
}

static void interests_may_have_histories_of_different_lengths(void **state) {
    (void)state;
    decode(NULL, NULL, "{'item': ['i0'], 'dwell': [1], 'shop': [0, 1, 2, 0, 1], 'page': [0, 1, 2, 0, 1]}", NULL);
    assert_resolved();
    assert_rows(DIEN_BEHAVIOUR, "item", 1);
    assert_rows(DIEN_BEHAVIOUR, "page", 1, 2, 3, 1, 2);
    decode(NULL, NULL, "{'item': ['i0'], 'dwell': [1], 'shop': [], 'page': []}", NULL);
    assert_resolved();
    assert_int_equal(column_of(DIEN_BEHAVIOUR, "shop")->count, 0);
}

static void an_empty_history_needs_no_fields(void **state) {
    (void)state;
    static const char *const empty[] = {"{}", "[]", "{'item': [], 'dwell': [], 'shop': [], 'page': []}"};
    static const char *const names[] = {"category", "item", "features", "dwell", "shop", "page", "tag"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        decode(NULL, NULL, empty[i], NULL);
        assert_resolved();
        for (size_t j = 0; j < sizeof names / sizeof *names; j++)
            assert_int_equal(column_of(DIEN_BEHAVIOUR, names[j])->count, 0);
    }
}

static void fields_that_are_missing(void **state) {
    (void)state;
    static const struct bad bad[] = {
        {.user = "{}", .pointer = "/user"},
        {.user = "{'country': 1}", .pointer = "/user"},
        {.user = "{'age': 1}", .pointer = "/user"},
        {.context = "{'month': 1}", .pointer = "/context"},
        {.context = "{'weather': [1, 2, 3]}", .pointer = "/context"},
        {.history = "{'item': [], 'dwell': [], 'shop': []}", .pointer = "/history"},
        {.history = "{'dwell': [1], 'category': [1], 'shop': [], 'page': []}", .pointer = "/history"},
        {.history = "[{'item': 'i0', 'dwell': 1, 'shop': 1}]", .pointer = "/history"},
        {.candidates = "{'item': ['i0'], 'price': [1]}", .pointer = "/candidates"},
        {.candidates = "{'price': [1], 'category': [1], 'position': [[1, 2]]}", .pointer = "/candidates"},
    };
    assert_all_refused(bad, sizeof bad / sizeof *bad);
    decode_text(json_decode_request, "{'context': " CONTEXT ", 'history': " HISTORY ", 'candidates': " CANDIDATES "}");
    assert_refused(PROBLEM_INVALID_REQUEST, ""); /* there is no /user to point to */
}

static void rows_that_lack_a_value(void **state) {
    (void)state;
    static const struct bad bad[] = {
        {.history = "[{'item': 'i0', 'dwell': 1, 'shop': 1, 'page': 1}, {'item': 'i0', 'dwell': 1, 'shop': 1}]",
         .pointer = "/history/1/page"},
        {.history = "[{'item': 'i0', 'dwell': 1, 'shop': 1, 'page': 1},"
                    " {'category': 1, 'dwell': 1, 'shop': 1, 'page': 1}]",
         .pointer = "/history/1/item"},
        {.candidates = "[{'item': 'i0', 'position': [1, 2]}, {'item': 'i0', 'price': 1, 'position': [1, 2]}]",
         .pointer = "/candidates/0/price"},
    };
    assert_all_refused(bad, sizeof bad / sizeof *bad);
}

/* The attribute is in another interest's history than its parent, and null where the parent's column has ended. */
static void attributes_beyond_their_parent(void **state) {
    (void)state;
    static const struct bad bad[] = {
        {.history = "{'item': ['i0'], 'dwell': [1], 'shop': [], 'page': [], 'tag': [0, null]}",
         .pointer = "/history/tag/1"},
        {.history = "{'item': [], 'dwell': [], 'shop': [], 'page': [], 'tag': [null, 0]}", .pointer = "/history/tag/0"},
    };
    assert_all_refused(bad, sizeof bad / sizeof *bad);
    decode(NULL, NULL, "{'item': ['i0'], 'dwell': [1], 'shop': [], 'page': [], 'tag': [null, 0, 1]}", NULL);
    assert_resolved();
    assert_rows(DIEN_BEHAVIOUR, "item", 1);
    assert_rows(DIEN_BEHAVIOUR, "tag", 1, 1, 0);
}

static void fields_that_the_model_does_not_have(void **state) {
    (void)state;
    static const struct bad bad[] = {
        {.user = "{'country': 1, 'age': 1, 'item': 'i0'}", .pointer = "/user/item"},
        {.context = "{'month': 1, 'weather': [1, 2, 3], 'x': 1}", .pointer = "/context/x"},
        {.history = "{'item': [], 'dwell': [], 'shop': [], 'page': [], 'ite': []}", .pointer = "/history/ite"},
        {.history = "{'item': [], 'dwell': [], 'shop': [], 'page': [], 'items': []}", .pointer = "/history/items"},
        {.history = "{'price': [1]}", .pointer = "/history/price"},
        {.history = "[{'item': 'i0', 'dwell': 1, 'shop': 1, 'page': 1},"
                    " {'item': 'i0', 'dwell': 1, 'shop': 1, 'page': 1, 'a/b': 2}]",
         .pointer = "/history/1/a~1b"},
        {.candidates = "{'item': ['i0'], 'price': [1], 'position': [[1, 2]], 'shop': [1]}",
         .pointer = "/candidates/shop"},
        {.candidates = "[{'item': 'i0', 'price': 1, 'position': [1, 2], 'dwell': 1}]",
         .pointer = "/candidates/0/dwell"},
    };
    assert_all_refused(bad, sizeof bad / sizeof *bad);
}

static void values_of_the_wrong_kind(void **state) {
    (void)state;
    static const struct bad bad[] = {
        {.user = "{'country': '1 ', 'age': 1}", .pointer = "/user/country"},
        {.user = "{'country': '-1', 'age': 1}", .pointer = "/user/country"},
        {.user = "{'country': 1.5, 'age': 1}", .pointer = "/user/country"},
        {.user = "{'country': -1.0, 'age': 1}", .pointer = "/user/country"},
        {.user = "{'country': 18446744073709551616, 'age': 1}", .pointer = "/user/country"},
        {.user = "{'country': null, 'age': 1}", .pointer = "/user"},
        {.user = "{'country': true, 'age': 1}", .pointer = "/user/country"},
        {.user = "{'country': -1, 'age': 1}", .pointer = "/user/country"},
        {.user = "{'country': 1, 'age': '1'}", .pointer = "/user/age"},
        {.user = "{'country': 1, 'age': [1]}", .pointer = "/user/age"},
        {.user = "{'country': 1, 'age': null}", .pointer = "/user"},
        {.context = "{'month': '', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': '-', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': '-0', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': '01', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': '+1', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': '1.0', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': '18446744073709551616', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': '-9223372036854775809', 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': 18446744073709551616, 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': -9223372036854775809, 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': 1e300, 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': 1e999, 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': 9007199254740993.5, 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.history = "{'item': ['a\\u0000'], 'dwell': [1], 'shop': [], 'page': []}", .pointer = "/history/item/0"},
        {.context = "{'month': 1.5, 'weather': [1, 2, 3]}", .pointer = "/context/month"},
        {.context = "{'month': 1, 'weather': 1}", .pointer = "/context/weather"},
        {.context = "{'month': 1, 'weather': 'abc'}", .pointer = "/context/weather"},
        {.context = "{'month': 1, 'weather': [1, 2]}", .pointer = "/context/weather"},
        {.context = "{'month': 1, 'weather': [1, 2, 3, 4]}", .pointer = "/context/weather"},
        {.context = "{'month': 1, 'weather': [1, '2', 3]}", .pointer = "/context/weather"},
        {.history = "{'item': ['i0', 1], 'dwell': [1, 2], 'shop': [], 'page': []}", .pointer = "/history/item/1"},
        {.history = "{'item': ['i0'], 'category': [-1], 'dwell': [1], 'shop': [], 'page': []}",
         .pointer = "/history/category/0"},
        {.history = "{'item': ['i0', 'i1'], 'features': [[1, 2], [3]], 'dwell': [1, 2], 'shop': [], 'page': []}",
         .pointer = "/history/features/1"},
        {.history = "{'item': [], 'dwell': [], 'shop': [1, 2, 'x'], 'page': [1, 2, 3]}", .pointer = "/history/shop/2"},
        {.history = "[{'item': 'i0', 'dwell': 1, 'shop': 1, 'page': 1}, {'item': 'i0', 'dwell': 1, 'shop': -1,"
                    " 'page': 1}]",
         .pointer = "/history/1/shop"},
        {.candidates = "{'item': ['i0', null], 'price': [1, 2], 'position': [[1, 2], [3, 4]]}",
         .pointer = "/candidates/item/1"},
        {.candidates = "{'item': ['i0', 'i1'], 'price': [1, 2], 'position': [[1, 2], 3]}",
         .pointer = "/candidates/position/1"},
        {.candidates = "[{'item': 'i0', 'price': 1, 'position': [1, 2]}, {'item': 'i0', 'price': {},"
                       " 'position': [1, 2]}]",
         .pointer = "/candidates/1/price"},
    };
    assert_all_refused(bad, sizeof bad / sizeof *bad);
}

/* Each form of an integer that JSON and its clients have. 2000000000000 has row 2, -7 row 1, others row 0. */
static void integers_in_every_form(void **state) {
    (void)state;
    static const struct {
        const char *month;
        int32_t row;
    } months[] = {{"-7", 1},
                  {"-7.0", 1},
                  {"-0.7e1", 1},
                  {"'-7'", 1},
                  {"2000000000000", 2},
                  {"2e12", 2},
                  {"'2000000000000'", 2},
                  {"7", 0},
                  {"-0.0", 0},
                  {"'0'", 0},
                  {"18446744073709551609", 0}, /* the bits of -7 */
                  {"'18446744073709551609'", 0},
                  {"18446744073709551615", 0},
                  {"'9223372036854775808'", 0},
                  {"-9223372036854775808", 0},
                  {"'-9223372036854775808'", 0},
                  {"1e19", 0}};
    for (size_t i = 0; i < sizeof months / sizeof *months; i++) {
        char context[128];
        snprintf(context, sizeof context, "{'month': %s, 'weather': [1, 1e3, 18446744073709551615]}", months[i].month);
        decode(NULL, context, NULL, NULL);
        assert_resolved();
        assert_rows(DIEN_CONTEXT, "month", months[i].row);
        assert_int_equal(unknown_of("month"), months[i].row == 0);
        assert_values(DIEN_CONTEXT, "weather", 3, 1, 1000, 18446744073709551616.0F);
    }
    static const char *const countries[] = {"1", "1.0", "1e0", "'1'"};
    for (size_t i = 0; i < sizeof countries / sizeof *countries; i++) {
        char user[64];
        snprintf(user, sizeof user, "{'country': %s, 'age': 9223372036854775808}", countries[i]);
        decode(user, NULL, NULL, NULL);
        assert_resolved();
        assert_rows(DIEN_USER, "country", 2);
        assert_values(DIEN_USER, "age", 1, 9223372036854775808.0F);
    }
    decode("{'country': 18446744073709551615, 'age': 1}", NULL, NULL, NULL);
    assert_resolved();
    assert_rows(DIEN_USER, "country", 0);
}

/* A vocabulary with unsigned keys: the months 7 and 2^64 - 7. */
static void unsigned_ids_are_found(void **state) {
    (void)state;
    static const struct {
        const char *month;
        int32_t row;
    } months[] = {{"7", 1}, {"18446744073709551609", 2}, {"'18446744073709551609'", 2}, {"-7", 0}, {"'-7'", 0},
                  {"8", 0}};
    char unsigned_directory[64];
    struct dien_error error = {""};
    struct dien_model *before = model;
    small_unsigned = true;
    small_make(unsigned_directory);
    small_unsigned = false;
    model = dien_open(unsigned_directory, &error);
    if (model == NULL)
        fail_msg("%s", error.message);
    for (size_t i = 0; i < sizeof months / sizeof *months; i++) {
        char context[128];
        snprintf(context, sizeof context, "{'month': %s, 'weather': [1, 2, 3]}", months[i].month);
        decode(NULL, context, NULL, NULL);
        assert_resolved();
        assert_rows(DIEN_CONTEXT, "month", months[i].row);
    }
    dien_close(model);
    small_remove(unsigned_directory);
    model = before;
}

/* A null is as a value that was not sent: an attribute comes from its parent, any other field is missing. */
static void null_values_are_left_out(void **state) {
    (void)state;
    decode(NULL, NULL,
           "{'item': ['i0', 'i3'], 'category': [null, 2], 'features': null, 'dwell': [1, 2], 'shop': [],"
           " 'page': []}",
           "[{'item': 'i4', 'category': null, 'price': 1, 'position': [1, 2]}]");
    assert_resolved();
    assert_rows(DIEN_BEHAVIOUR, "category", 1, 3);
    assert_values(DIEN_BEHAVIOUR, "features", 2, 1, -1, 4, -4);
    assert_rows(DIEN_CANDIDATE, "category", 1);
}

static void numbers_that_no_float_holds(void **state) {
    (void)state;
    static const struct bad bad[] = {
        {.user = "{'country': 1, 'age': 1e39}", .pointer = "/user/age"},
        {.user = "{'country': 1, 'age': -3.5e38}", .pointer = "/user/age"},
        {.context = "{'month': 1, 'weather': [1, 2, 1e39]}", .pointer = "/context/weather"},
        {.history = "{'item': ['i0', 'i1'], 'dwell': [1, -1e300], 'shop': [], 'page': []}",
         .pointer = "/history/dwell/1"},
        {.candidates = "{'item': ['i0', 'i1'], 'price': [1, 2], 'position': [[1, 2], [1e39, 4]]}",
         .pointer = "/candidates/position/1"},
    };
    assert_all_refused(bad, sizeof bad / sizeof *bad);
}

/* JSON has neither; a protobuf message may. */
static void nan_and_infinity(void **state) {
    (void)state;
    const double numbers[] = {(double)NAN, (double)INFINITY, -(double)INFINITY};
    for (size_t i = 0; i < 3; i++) {
        decode("{'country': 1, 'age': 0.5}", NULL, NULL, NULL);
        ((struct proto_value *)(uintptr_t)request.user.column[1].values)->real = numbers[i];
        assert_refused(PROBLEM_INVALID_REQUEST, "/user/age");
        decode(NULL, NULL, NULL, NULL);
        ((double *)(uintptr_t)request.candidates.column[2].values[1].vector)[1] = numbers[i];
        assert_refused(PROBLEM_INVALID_REQUEST, "/candidates/position/1");
    }
}

/* A string with the length of a vector, at an address where the numbers of one are. */
static void a_string_is_no_vector(void **state) {
    (void)state;
    decode(NULL, NULL, NULL, NULL);
    ((struct proto_value *)(uintptr_t)request.context.column[1].values)->kind = PROTO_STRING;
    assert_refused(PROBLEM_INVALID_REQUEST, "/context/weather");
}

/* ---- limits */

static void limits_of_candidates_and_history(void **state) {
    (void)state;
    decode(NULL, NULL, NULL, NULL);
    limits = (struct request_limits){.max_candidates = 2, .max_history = 3};
    assert_resolved();
    limits.max_candidates = 1;
    assert_refused(PROBLEM_TOO_MANY_CANDIDATES, "/candidates");
    limits = (struct request_limits){.max_candidates = 2, .max_history = 2}; /* the shops are three */
    assert_refused(PROBLEM_HISTORY_TOO_LONG, "/history");
    decode_text(json_decode_history, "{'history_append': " HISTORY "}");
    assert_refused(PROBLEM_HISTORY_TOO_LONG, "/history_append");
    limits.max_history = 3;
    assert_resolved();
}

/* Whatever the limit, the request is resolved or refused for lack of memory. */
static void any_limit_of_memory(void **state) {
    (void)state;
    size_t refused = 0;
    bool good = false;
    decode(NULL, NULL, NULL, NULL);
    for (size_t limit = 1; !good; limit += 32) {
        arena_free(&arena);
        arena_init(&arena, limit, 0);
        good = resolve_request();
        if (good)
            break;
        assert_int_equal(problem.kind, PROBLEM_OUT_OF_MEMORY);
        assert_string_equal(problem.pointer, "");
        refused++;
    }
    assert_true(refused > 20); /* one for each array, at least */
}

/* ---- history and history_append */

static void appended_behaviours_are_resolved_alike(void **state) {
    (void)state;
    decode_text(json_decode_request,
                "{'user': " USER ", 'context': " CONTEXT ", 'candidates': " CANDIDATES
                ", 'user_id': 'u', 'history_token': '0123456789abcdef0123456789abcdef', 'history_append': " HISTORY
                "}");
    assert_resolved();
    assert_int_equal(resolved.candidate_count, 2);
    assert_rows(DIEN_BEHAVIOUR, "item", 1, 4);
    assert_rows(DIEN_BEHAVIOUR, "shop", 1, 2, 3);
    decode_text(json_decode_request, "{'user': " USER ", 'context': " CONTEXT ", 'candidates': " CANDIDATES
                                     ", 'user_id': 'u', 'history_token': '0123456789abcdef0123456789abcdef'}");
    assert_resolved();
    assert_int_equal(column_of(DIEN_BEHAVIOUR, "item")->count, 0);
}

static void problems_of_appended_behaviours_point_there(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{'item': ['i0'], 'dwell': [1], 'shop': [1], 'page': []}", "/history_append/page"},
        {"{'item': [0], 'dwell': [1], 'shop': [], 'page': []}", "/history_append/item/0"},
        {"[{'item': 'i0', 'dwell': 1, 'shop': 1, 'page': 'x'}]", "/history_append/0/page"},
        {"{'item': ['i0'], 'dwell': [1], 'shop': []}", "/history_append"},
        {"{'item': [], 'dwell': [], 'shop': [], 'page': [], 'x': []}", "/history_append/x"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        snprintf(text, sizeof text, "{'history_append': %s}", bad[i][0]);
        decode_text(json_decode_history, text);
        assert_refused(PROBLEM_INVALID_REQUEST, bad[i][1]);
    }
}

/* POST /users/{id}/history has neither candidates nor what is shared by them. */
static void behaviours_alone(void **state) {
    (void)state;
    decode_text(json_decode_history, "{'history': " HISTORY "}");
    assert_resolved();
    assert_int_equal(resolved.candidate_count, 0);
    assert_rows(DIEN_BEHAVIOUR, "item", 1, 4);
    assert_null(resolved.columns[DIEN_USER].column);
    assert_null(resolved.columns[DIEN_CONTEXT].column);
    assert_null(resolved.columns[DIEN_CANDIDATE].column);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_kind_of_field_is_resolved, start, stop),
        cmocka_unit_test_setup_teardown(attributes_that_are_left_out_come_from_the_parent, start, stop),
        cmocka_unit_test_setup_teardown(attributes_that_are_sent_are_taken, start, stop),
        cmocka_unit_test_setup_teardown(rows_give_what_columns_give, start, stop),
        cmocka_unit_test_setup_teardown(integers_are_numbers, start, stop),
        cmocka_unit_test_setup_teardown(unknown_ids_take_row_0_and_are_counted, start, stop),
        cmocka_unit_test_setup_teardown(each_categorical_field_has_one_count, start, stop),
        cmocka_unit_test_setup_teardown(columns_of_different_lengths, start, stop),
        cmocka_unit_test_setup_teardown(single_values_of_different_counts, start, stop),
        cmocka_unit_test_setup_teardown(interests_may_have_histories_of_different_lengths, start, stop),
        cmocka_unit_test_setup_teardown(an_empty_history_needs_no_fields, start, stop),
        cmocka_unit_test_setup_teardown(fields_that_are_missing, start, stop),
        cmocka_unit_test_setup_teardown(rows_that_lack_a_value, start, stop),
        cmocka_unit_test_setup_teardown(attributes_beyond_their_parent, start, stop),
        cmocka_unit_test_setup_teardown(fields_that_the_model_does_not_have, start, stop),
        cmocka_unit_test_setup_teardown(values_of_the_wrong_kind, start, stop),
        cmocka_unit_test_setup_teardown(integers_in_every_form, start, stop),
        cmocka_unit_test_setup_teardown(unsigned_ids_are_found, start, stop),
        cmocka_unit_test_setup_teardown(null_values_are_left_out, start, stop),
        cmocka_unit_test_setup_teardown(numbers_that_no_float_holds, start, stop),
        cmocka_unit_test_setup_teardown(nan_and_infinity, start, stop),
        cmocka_unit_test_setup_teardown(a_string_is_no_vector, start, stop),
        cmocka_unit_test_setup_teardown(limits_of_candidates_and_history, start, stop),
        cmocka_unit_test_setup_teardown(any_limit_of_memory, start, stop),
        cmocka_unit_test_setup_teardown(appended_behaviours_are_resolved_alike, start, stop),
        cmocka_unit_test_setup_teardown(problems_of_appended_behaviours_point_there, start, stop),
        cmocka_unit_test_setup_teardown(behaviours_alone, start, stop),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
