/* json_decode.c: JSON to the structs of score.h, by way of jansson's tree.
 *
 * This file defines which requests are valid. json_fast_decode.c reads most of them without a tree and must yield equal
 * structs. The tree and the structs both live in the request's arena (parse_memory.h), so one limit counts them all.
 *
 * Only the types of the wire are checked here: which members exist, and which are objects, arrays or numbers. Whether a
 * value suits its field depends on the model, so server/scoring/resolve.c checks it.
 */
#include "proto/json_decode.h"

#include "proto/json_fast_decode.h"
#include "proto/parse_memory.h"

#include <jansson.h>
#include <limits.h>
#include <string.h>

enum { DEPTH_MAX = 16 }; /* levels of nesting; a request has 4, samples.json 6 */

struct decoder {
    struct arena *arena;
    struct problem *problem;
    char *text;      /* room for the next string */
    char prefix[32]; /* JSON pointer to the request within the body */
};

void json_decode_init(void) {
    json_set_alloc_funcs(parse_memory_malloc, parse_memory_free);
    json_object_seed(0);
}

/* ---- errors and memory ---- */

/* Reports a mistake in a member, or in the whole request if `member` is NULL. Returns false for `return fail(...)`. */
static bool fail(struct decoder *decoder, const char *member, const char *reason) {
    problem_set(decoder->problem, PROBLEM_INVALID_REQUEST, decoder->prefix, "%s", reason);
    if (member != NULL)
        problem_pointer_name(decoder->problem->pointer, sizeof decoder->problem->pointer, member, strlen(member));
    return false;
}

static bool fail_fields(struct decoder *decoder, const char *group) {
    char reason[64];
    snprintf(reason, sizeof reason, "A group may have at most %d fields.", PROTO_FIELDS_MAX);
    return fail(decoder, group, reason);
}

static void *allocate(struct decoder *decoder, size_t count, size_t size) {
    void *memory = arena_array(decoder->arena, count, size);
    if (memory == NULL)
        problem_out_of_memory(decoder->problem);
    return memory;
}

/* Copies a string out of the tree. parse() took as much room as the body has bytes. That is enough for all strings,
 * because no string is longer than its JSON text. */
static const char *copy_text(struct decoder *decoder, const char *data, size_t length) {
    char *copy = decoder->text;
    memcpy(copy, data, length);
    decoder->text += length;
    return copy;
}

/* ---- values ---- */

static bool all_numbers(const json_t *array) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!json_is_number(json_array_get(array, i)))
            return false;
    }
    return true;
}

static const double *copy_numbers(struct decoder *decoder, const json_t *array) {
    size_t count = json_array_size(array);
    double *numbers = allocate(decoder, count, sizeof *numbers);
    for (size_t i = 0; i < count && numbers != NULL; i++)
        numbers[i] = json_number_value(json_array_get(array, i));
    return numbers;
}

static bool decode_value(struct decoder *decoder, const json_t *node, struct proto_value *value) {
    *value = (struct proto_value){.kind = PROTO_OTHER};
    switch (json_typeof(node)) {
    case JSON_INTEGER:
        value->kind = PROTO_INTEGER;
        value->integer = json_integer_value(node);
        return true;
    case JSON_REAL:
        value->kind = PROTO_REAL;
        value->real = json_real_value(node);
        return true;
    case JSON_STRING:
        value->kind = PROTO_STRING;
        value->length = (uint32_t)json_string_length(node);
        value->string = copy_text(decoder, json_string_value(node), value->length);
        return true;
    case JSON_ARRAY:
        if (!all_numbers(node))
            return true;
        value->kind = PROTO_VECTOR;
        value->length = (uint32_t)json_array_size(node);
        value->vector = copy_numbers(decoder, node);
        return value->vector != NULL;
    default:
        return true;
    }
}

/* ---- groups ---- */

/* {"country": 29}, into columns of one value. */
static bool decode_singles(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    if (!json_is_object(node))
        return fail(decoder, group, "This must be an object of fields, each with one value.");
    size_t count = json_object_size(node);
    if (count > PROTO_FIELDS_MAX)
        return fail_fields(decoder, group);
    struct proto_column *column = allocate(decoder, count, sizeof *column);
    struct proto_value *value = allocate(decoder, count, sizeof *value);
    if (column == NULL || value == NULL)
        return false;
    *table = (struct proto_table){PROTO_COLUMNS, true, count > 0, count, column};

    const char *key;
    size_t length;
    json_t *single;
    json_object_keylen_foreach(node, key, length, single) {
        *column++ = (struct proto_column){{copy_text(decoder, key, length), length}, 1, value};
        if (!decode_value(decoder, single, value++))
            return false;
    }
    return true;
}

/* {"item": ["A13", "A16"]} */
static bool decode_columns(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    size_t count = json_object_size(node);
    if (count > PROTO_FIELDS_MAX)
        return fail_fields(decoder, group);
    struct proto_column *column = allocate(decoder, count, sizeof *column);
    if (column == NULL)
        return false;
    *table = (struct proto_table){PROTO_COLUMNS, true, 0, count, column};

    const char *key;
    size_t length;
    json_t *array;
    json_object_keylen_foreach(node, key, length, array) {
        if (!json_is_array(array)) {
            fail(decoder, group, "A column must be an array.");
            problem_pointer_name(decoder->problem->pointer, sizeof decoder->problem->pointer, key, length);
            return false;
        }
        column->name = (struct proto_string){copy_text(decoder, key, length), length};
        column->count = json_array_size(array);
        struct proto_value *values = allocate(decoder, column->count, sizeof *values);
        if (values == NULL)
            return false;
        column->values = values;
        for (size_t i = 0; i < column->count; i++) {
            if (!decode_value(decoder, json_array_get(array, i), &values[i]))
                return false;
        }
        if (column->count > table->rows)
            table->rows = column->count;
        column++;
    }
    return true;
}

/* The index of a name among the columns, or `count`. Rows mostly have their keys in one order, so callers pass the
 * column after the last one found as `guess`. */
static size_t find_column(const struct proto_column *columns, size_t count, size_t guess, const char *name,
                          size_t length) {
    for (size_t tried = 0; tried < count; tried++) {
        size_t index = guess + tried < count ? guess + tried : guess + tried - count;
        if (proto_string_is(&columns[index].name, name, length))
            return index;
    }
    return count;
}

/* Makes a column of each name that a row has. */
static bool collect_columns(struct decoder *decoder, const char *group, const json_t *rows,
                            struct proto_column *columns, size_t *count) {
    *count = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        json_t *row = json_array_get(rows, i);
        if (!json_is_object(row)) {
            fail(decoder, group, "A row must be an object.");
            problem_pointer_index(decoder->problem->pointer, sizeof decoder->problem->pointer, i);
            return false;
        }
        const char *key;
        size_t length, guess = 0;
        json_t *value;
        json_object_keylen_foreach(row, key, length, value) {
            size_t index = find_column(columns, *count, guess, key, length);
            if (index == PROTO_FIELDS_MAX)
                return fail_fields(decoder, group);
            if (index == *count)
                columns[(*count)++].name = (struct proto_string){copy_text(decoder, key, length), length};
            guess = index + 1 < *count ? index + 1 : 0;
        }
    }
    return true;
}

/* [{"item": "A13"}, {"item": "A16"}] */
static bool decode_rows(struct decoder *decoder, const char *group, const json_t *node, struct proto_table *table) {
    size_t rows = json_array_size(node), count;
    struct proto_column *columns = allocate(decoder, PROTO_FIELDS_MAX, sizeof *columns);
    if (columns == NULL || !collect_columns(decoder, group, node, columns, &count))
        return false;

    struct proto_value *values = allocate(decoder, rows, count * sizeof *values); /* [columns, rows] */
    if (values == NULL)
        return false;
    for (size_t i = 0; i < rows * count; i++)
        values[i] = (struct proto_value){.kind = PROTO_ABSENT};
    for (size_t i = 0; i < count; i++) {
        columns[i].count = rows;
        columns[i].values = values + i * rows;
    }
    *table = (struct proto_table){PROTO_ROWS, true, rows, count, columns};

    for (size_t i = 0; i < rows; i++) {
        const char *key;
        size_t length, guess = 0;
        json_t *value;
        json_object_keylen_foreach(json_array_get(node, i), key, length, value) {
            size_t index = find_column(columns, count, guess, key, length);
            if (!decode_value(decoder, value, &values[index * rows + i]))
                return false;
            guess = index + 1 < count ? index + 1 : 0;
        }
    }
    return true;
}

static bool decode_table(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    if (json_is_object(node))
        return decode_columns(decoder, group, node, table);
    if (json_is_array(node))
        return decode_rows(decoder, group, node, table);
    return fail(decoder, group, "This must be an object of columns or an array of row objects.");
}

/* ---- requests ---- */

/* A member that is a string of 1 to `max` bytes. */
static bool decode_text(struct decoder *decoder, const char *name, const json_t *node, int max, bool *present,
                        struct proto_string *text) {
    size_t length = json_string_length(node); /* 0 if this is no string */
    if (length == 0 || length > (size_t)max) {
        char reason[80];
        snprintf(reason, sizeof reason, "The %s must be a string of 1 to %d bytes.", name, max);
        return fail(decoder, name, reason);
    }
    *present = true;
    *text = (struct proto_string){copy_text(decoder, json_string_value(node), length), length};
    return true;
}

/* A member that both kinds of request can have. */
static bool decode_history_member(struct decoder *decoder, const char *name, json_t *node,
                                  struct proto_request *request) {
    if (strcmp(name, "history") == 0)
        return decode_table(decoder, name, node, &request->history);
    if (strcmp(name, "history_token") == 0)
        return decode_text(decoder, name, node, PROTO_HISTORY_TOKEN_MAX, &request->has_history_token,
                           &request->history_token);
    if (strcmp(name, "history_append") == 0)
        return decode_table(decoder, name, node, &request->history_append);
    return fail(decoder, name, "A request has no such member.");
}

static bool decode_score_member(struct decoder *decoder, const char *name, json_t *node,
                                struct proto_request *request) {
    if (strcmp(name, "user_id") == 0)
        return decode_text(decoder, name, node, PROTO_USER_ID_MAX, &request->has_user_id, &request->user_id);
    if (strcmp(name, "user") == 0)
        return decode_singles(decoder, name, node, &request->user);
    if (strcmp(name, "context") == 0)
        return decode_singles(decoder, name, node, &request->context);
    if (strcmp(name, "candidates") == 0) {
        if (!decode_table(decoder, name, node, &request->candidates))
            return false;
        if (request->candidates.rows == 0 || request->candidates.columns == 0)
            return fail(decoder, name, "A request needs at least one candidate.");
        return true;
    }
    if (strcmp(name, "top_k") == 0) {
        if (json_integer_value(node) < 1) /* 0 if this is no integer */
            return fail(decoder, name, "This must be an integer of at least 1.");
        request->top_k = (size_t)json_integer_value(node);
        return true;
    }
    if (strcmp(name, "explain") == 0) {
        if (!json_is_boolean(node))
            return fail(decoder, name, "This must be true or false.");
        request->explain = json_is_true(node);
        return true;
    }
    return decode_history_member(decoder, name, node, request);
}

typedef bool member_decoder(struct decoder *decoder, const char *name, json_t *node, struct proto_request *request);

/* Decodes each member in the order of the text. `skipped` names a member that belongs to the caller, or is NULL. */
static bool decode_members(struct decoder *decoder, json_t *node, member_decoder *decode_member, const char *skipped,
                           struct proto_request *request) {
    *request = (struct proto_request){0};
    if (!json_is_object(node))
        return fail(decoder, NULL, "A request must be an object.");
    const char *name;
    json_t *value;
    json_object_foreach(node, name, value) {
        if (skipped != NULL && strcmp(name, skipped) == 0)
            continue;
        if (!decode_member(decoder, name, value, request))
            return false;
    }
    return true;
}

/* ---- text to tree ---- */

/* The byte at which the text first nests deeper than DEPTH_MAX, or `size`. It is enough to count brackets outside
 * strings, because the parser refuses text that is not JSON. */
static size_t find_too_deep(const char *text, size_t size) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];
        if (byte == '"') {
            in_string = !in_string;
        } else if (in_string) {
            i += byte == '\\'; /* the escaped byte may be a quote */
        } else if (byte == '[' || byte == '{') {
            if (++depth > DEPTH_MAX)
                return i;
        } else if (byte == ']' || byte == '}') {
            depth -= depth > 0;
        }
    }
    return size;
}

static void set_parse_problem(const json_error_t *error, struct problem *problem) {
    static const char *const reasons[] = {
        [json_error_invalid_utf8] = "The text is not valid UTF-8",
        [json_error_premature_end_of_input] = "The text ends too soon",
        [json_error_end_of_input_expected] = "There is more text after the value",
        [json_error_null_character] = "U+0000 is not allowed in a string",
        [json_error_null_byte_in_key] = "U+0000 is not allowed in a string",
        [json_error_duplicate_key] = "An object has the same name twice",
        [json_error_numeric_overflow] = "A number is too large",
    };
    size_t code = json_error_code(error);
    const char *reason = code < sizeof reasons / sizeof *reasons ? reasons[code] : NULL;
    char syntax[JSON_ERROR_TEXT_LENGTH + 16];
    if (reason == NULL) {
        /* jansson's own words, without the piece of the client's text that they end with. */
        const char *end = strstr(error->text, " near ");
        int length = end != NULL ? (int)(end - error->text) : (int)strlen(error->text);
        snprintf(syntax, sizeof syntax, "Bad syntax: %.*s", length, error->text);
        reason = syntax;
    }
    problem_set(problem, PROBLEM_INVALID_JSON, "", "%s, at byte %d (line %d, column %d).", reason, error->position,
                error->line, error->column);
}

struct parse_job {
    const char *text;
    size_t size;
    json_t *root;
    json_error_t error;
};

static void run_parser(void *context) {
    struct parse_job *job = context;
    const char *text = job->size > 0 ? job->text : "";
    job->root = json_loadb(text, job->size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &job->error);
}

/* Parses a document into a tree in the arena, and takes room for its strings. Returns NULL on error. */
static json_t *parse(struct decoder *decoder, const char *text, size_t size) {
    struct problem *problem = decoder->problem;
    if (size > INT_MAX) { /* jansson counts bytes in an int */
        problem_set(problem, PROBLEM_BODY_TOO_LARGE, "", "The text has %zu bytes; at most %d can be read.", size,
                    INT_MAX);
        return NULL;
    }
    size_t too_deep = find_too_deep(text, size); /* jansson's parser is recursive */
    if (too_deep < size) {
        problem_set(problem, PROBLEM_INVALID_JSON, "", "Arrays and objects nest deeper than %d levels, at byte %zu.",
                    DEPTH_MAX, too_deep);
        return NULL;
    }
    struct parse_job job = {.text = text, .size = size};
    if (!parse_memory_run(decoder->arena, run_parser, &job)) {
        problem_out_of_memory(problem);
        return NULL;
    }
    if (job.root == NULL) {
        set_parse_problem(&job.error, problem);
        return NULL;
    }
    decoder->text = allocate(decoder, size, 1);
    return decoder->text != NULL ? job.root : NULL;
}

/* ---- documents ---- */

bool json_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem) {
    bool unused = arena->used == 0;
    if (json_fast_decode_request(body, size, arena, request))
        return true;
    if (unused)
        arena_reset(arena); /* so that the failed attempt takes nothing from the parser's limit */
    return json_decode_request_tree(body, size, arena, request, problem);
}

bool json_decode_request_tree(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                              struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse(&decoder, body, size);
    return root != NULL && decode_members(&decoder, root, decode_score_member, NULL, request) &&
           proto_check_request(request, "", problem);
}

bool json_decode_history(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse(&decoder, body, size);
    return root != NULL && decode_members(&decoder, root, decode_history_member, NULL, request) &&
           proto_check_history(request, "", problem);
}

/* {"samples": [{..., "scores": [0.5, 0.25]}]}: each sample is a request with one more member. */
bool json_decode_samples(const char *text, size_t size, struct arena *arena, const struct proto_sample **samples,
                         size_t *count, struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    const json_t *root = parse(&decoder, text, size);
    if (root == NULL)
        return false;
    const json_t *array = json_object_get(root, "samples");
    if (json_object_size(root) != 1 || json_array_size(array) == 0)
        return fail(&decoder, NULL, "This must be an object with one member, samples, an array of at least one.");
    struct proto_sample *sample = allocate(&decoder, json_array_size(array), sizeof *sample);
    if (sample == NULL)
        return false;
    *samples = sample;
    *count = json_array_size(array);

    for (size_t i = 0; i < *count; i++, sample++) {
        json_t *node = json_array_get(array, i);
        snprintf(decoder.prefix, sizeof decoder.prefix, "/samples/%zu", i);
        if (!decode_members(&decoder, node, decode_score_member, "scores", &sample->request) ||
            !proto_check_request(&sample->request, decoder.prefix, problem))
            return false;
        const json_t *scores = json_object_get(node, "scores");
        if (!json_is_array(scores) || !all_numbers(scores))
            return fail(&decoder, "scores", "The scores must be an array of numbers.");
        if (json_array_size(scores) != sample->request.candidates.rows)
            return fail(&decoder, "scores", "There must be one score for each candidate.");
        sample->score_count = json_array_size(scores);
        sample->scores = copy_numbers(&decoder, scores);
        if (sample->scores == NULL)
            return false;
    }
    return true;
}
