/* fuzz_request.c: two ways to a request. libFuzzer starts from the seeds in tests/fuzz/request.
 *
 * An input that does not start with MADE is the body of POST /score to the demo model, from decoding to encoding. The
 * outcome is a reply or a problem with a place, both in JSON. Scores are probabilities in rank order, and a second
 * request with an equal body has an equal reply.
 *
 * Random bytes are rarely a body that decodes. So an input that starts with MADE makes a decoded request, of columns of
 * any lengths and values of any kind, for a model that has every kind of field, interests of different lengths and
 * attributes (tests/unit/small_model.h). Resolving and scoring must read no value that is not there.
 *
 * Runs in the repository's top directory.
 */
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "server/scoring/request.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/small_model.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

enum { MADE = 1, LENGTH_MAX = 6, COLUMNS_MAX = 8 };

static struct scorer scorer, small_scorer;
static struct arena made; /* the values of a request that was made */

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    struct dien_error error = {""};
    struct request_limits limits = {.max_candidates = 64, .max_history = 64, .memory = (size_t)16 << 20};
    json_decode_init();
    struct dien_model *model = dien_open("model/demo", &error);
    if (model == NULL) {
        fprintf(stderr, "%s\n", error.message);
        abort();
    }
    require(scorer_init(&scorer, model, &limits));

    char directory[64];
    small_make(directory);
    struct dien_model *small = dien_open(directory, &error);
    small_remove(directory);
    require(small != NULL && scorer_init(&small_scorer, small, &limits));
    arena_init(&made, 0, 1 << 20);
    return 0;
}

static json_t *parse(struct proto_string text) {
    require(text.data != NULL);
    json_t *root = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, NULL);
    require(json_is_object(root));
    return root;
}

static void check_reply(struct proto_string body, size_t candidates) {
    json_t *root = parse(body);
    const json_t *results = json_object_get(root, "results");
    require(json_array_size(results) >= 1 && json_array_size(results) <= candidates);
    double before = 1;
    for (size_t i = 0; i < json_array_size(results); i++) {
        double score = json_number_value(json_object_get(json_array_get(results, i), "score"));
        require(score >= 0 && score <= before);
        before = score;
    }
    json_decref(root);
}

static void check_problem(const struct problem *problem, struct arena *arena) {
    require(problem->detail[0] != '\0' && problem_status(problem->kind) >= 400);
    require(problem->pointer[0] == '\0' || problem->pointer[0] == '/');
    json_decref(parse(json_encode_problem(problem, "fuzz", arena)));
}

/* ---- requests that are made */

struct input {
    const uint8_t *next, *end;
};

/* The input's next byte, or 0 at its end. */
static unsigned next_byte(struct input *input) {
    return input->next < input->end ? *input->next++ : 0;
}

/* Copies into an allocation of its own, so that a read beyond its end is seen. */
static void *keep(const void *data, size_t size) {
    void *copy = arena_alloc(&made, size);
    if (copy == NULL)
        abort();
    memcpy(copy, data, size);
    return copy;
}

static struct proto_value vector_of(size_t length) {
    static const double numbers[LENGTH_MAX] = {0.5, -1, 2, 1e30, -0.0, 3};
    return (struct proto_value){
        .kind = PROTO_VECTOR, .length = (uint32_t)length, .vector = keep(numbers, length * sizeof *numbers)};
}

static struct proto_value string_of(const char *text) {
    size_t length = strlen(text);
    return (struct proto_value){.kind = PROTO_STRING, .length = (uint32_t)length, .string = keep(text, length)};
}

/* A value that suits the field. */
static struct proto_value good_value(const struct dien_field *field, unsigned byte) {
    static const char *const items[] = {"i0", "i1", "i2", "i3", "i4", "i5", "", "i00"};
    static const int64_t months[] = {-7, 2000000000000, 0, INT64_MIN};
    switch (field->kind) {
    case DIEN_STRING_VOCABULARY:
        return string_of(items[byte % 8]);
    case DIEN_INTEGER_VOCABULARY:
        return (struct proto_value){.kind = PROTO_INTEGER, .integer = months[byte % 4]};
    case DIEN_INDEX:
        return (struct proto_value){.kind = PROTO_INTEGER, .integer = byte % 8};
    case DIEN_DENSE:
        break;
    }
    return field->width > 1 ? vector_of(field->width) : (struct proto_value){.kind = PROTO_REAL, .real = byte / 7.0};
}

/* Mostly a value that suits the field. */
static struct proto_value make_value(struct input *input, const struct dien_field *field) {
    static const double reals[] = {2.5, 3.0, 1e300, -1.0};
    static const char *const decimals[] = {"3", "-7", "18446744073709551615", "1x"};
    unsigned byte = next_byte(input);
    switch (byte) {
    case 1:
        return (struct proto_value){.kind = PROTO_ABSENT};
    case 2:
        return (struct proto_value){.kind = PROTO_OTHER};
    case 3:
        return (struct proto_value){.kind = PROTO_UNSIGNED, .unsigned_integer = UINT64_MAX};
    case 4:
        return (struct proto_value){.kind = PROTO_INTEGER, .integer = -1};
    case 5:
        return (struct proto_value){.kind = PROTO_REAL, .real = (double)NAN};
    case 6:
        return (struct proto_value){.kind = PROTO_REAL, .real = reals[next_byte(input) % 4]};
    case 7:
        return string_of(decimals[next_byte(input) % 4]);
    case 8:
        return vector_of(next_byte(input) % LENGTH_MAX);
    default:
        return good_value(field, byte);
    }
}

/* A table of the group's fields. A byte for each field leaves it out, renames it, or changes its length. */
static struct proto_table make_table(struct input *input, enum dien_group group) {
    const struct dien_field *const *fields;
    size_t count = dien_fields(small_scorer.model, group, &fields), columns = 0, longest = 0;
    struct proto_column made_columns[COLUMNS_MAX];
    unsigned shape = next_byte(input);
    bool single = group == DIEN_USER || group == DIEN_CONTEXT, rows = !single && shape >= 128;
    size_t length = single ? 1 : shape % LENGTH_MAX;
    require(count <= COLUMNS_MAX);
    for (size_t i = 0; i < count; i++) {
        unsigned change = next_byte(input) % 8;
        if (change == 1)
            continue;
        size_t own = rows ? length : change == 2 ? length + 1 : change == 3 && length > 0 ? length - 1 : length;
        struct proto_value *values = arena_array(&made, own, sizeof *values);
        require(values != NULL);
        for (size_t j = 0; j < own; j++)
            values[j] = make_value(input, fields[i]);
        const char *name = change == 4 ? "nosuch" : fields[i]->name;
        made_columns[columns++] = (struct proto_column){{name, strlen(name)}, own, values};
        longest = own > longest ? own : longest;
    }
    return (struct proto_table){rows ? PROTO_ROWS : PROTO_COLUMNS, true, rows ? length : longest, columns,
                                keep(made_columns, columns * sizeof *made_columns)};
}

/* Everything that was resolved has the length that the model reads. */
static void check_resolved(const struct request *request) {
    const struct resolved *resolved = &request->resolved;
    for (int group = 0; group < DIEN_GROUPS; group++) {
        const struct dien_field *const *fields;
        size_t count = dien_fields(small_scorer.model, (enum dien_group)group, &fields);
        for (size_t i = 0; i < count && group != DIEN_BEHAVIOUR; i++)
            require(resolved->columns[group].column[i].count ==
                    (group == DIEN_CANDIDATE ? resolved->candidate_count : 1));
    }
    for (size_t i = 0; i < resolved->candidate_count; i++)
        require(request->scores[i] >= 0 && request->scores[i] <= 1);
}

static void run_made(struct input *input) {
    arena_reset(&made);
    arena_reset(&small_scorer.arena);
    struct request request = {.format = PROTO_JSON};
    struct proto_request *decoded = &request.decoded;
    decoded->explain = next_byte(input) % 2 == 1;
    decoded->user = make_table(input, DIEN_USER);
    decoded->context = make_table(input, DIEN_CONTEXT);
    decoded->history = make_table(input, DIEN_BEHAVIOUR);
    decoded->candidates = make_table(input, DIEN_CANDIDATE);
    struct problem problem;
    if (!proto_check_request(decoded, "", &problem)) /* no decoder would yield it */
        return;
    if (request_run(&small_scorer, &request)) {
        check_resolved(&request);
    } else {
        struct arena arena;
        arena_init(&arena, 0, 0);
        check_problem(&request.problem, &arena);
        arena_free(&arena);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size > 0 && data[0] == MADE) {
        run_made(&(struct input){data + 1, data + size});
        return 0;
    }
    struct request request = {.format = PROTO_JSON, .body = (const char *)data, .size = size};
    request_score(&scorer, &request);
    if (request.problem.kind != PROBLEM_NONE) {
        struct arena arena;
        arena_init(&arena, 0, 0);
        check_problem(&request.problem, &arena);
        arena_free(&arena);
        return 0;
    }
    check_reply(request.reply, request.resolved.candidate_count);
    char *first = malloc(request.reply.length);
    size_t length = request.reply.length;
    require(first != NULL);
    memcpy(first, request.reply.data, length);
    request_score(&scorer, &request);
    require(request.reply.length == length && memcmp(first, request.reply.data, length) == 0);
    free(first);
    return 0;
}
