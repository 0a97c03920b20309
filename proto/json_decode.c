/* json_decode.c: JSON in. jansson parses the text into a tree; a walk over the tree makes the plain structs of score.h.
 * What that yields is the definition; most requests are read by the scanner of scan.c, which yields the same sooner.
 *
 * The tree and the structs both live in the request's arena (parse_memory.h), so one limit counts them all. Types are
 * judged here as far as the wire goes: which members there are, and which are objects, arrays or numbers. What a
 * field's values must be is the model's to say, and server/scoring/request.c judges it.
 */
#include "proto/json_decode.h"

#include "proto/json_fast_decode.h"
#include "proto/parse_memory.h"

#include <jansson.h>
#include <limits.h>
#include <string.h>

enum {
    DEPTH_MAX = 16, /* a request nests 4 levels, samples.json 6 */
    PLACE_MAX = sizeof(((struct problem *)NULL)->pointer)
};

struct decoder {
    struct arena *arena;
    struct problem *problem;
    char *text;      /* where the next string goes */
    char prefix[32]; /* JSON pointer to the request within the body */
};

void json_decode_init(void) {
    json_set_alloc_funcs(parse_memory_malloc, parse_memory_free);
    json_object_seed(0);
}

/* Errors. All return false, for `return fail(...)`. */

static bool fail_at(struct decoder *decoder, const char *pointer, const char *reason) {
    problem_set(decoder->problem, PROBLEM_INVALID_REQUEST, pointer, "%s", reason);
    return false;
}

static bool fail(struct decoder *decoder, const char *member, const char *reason) {
    char pointer[PLACE_MAX];
    snprintf(pointer, sizeof pointer, "%s", decoder->prefix);
    if (member != NULL)
        problem_pointer_name(pointer, sizeof pointer, member, strlen(member));
    return fail_at(decoder, pointer, reason);
}

static bool fail_column(struct decoder *decoder, const char *group, const char *name, size_t length) {
    char pointer[PLACE_MAX];
    snprintf(pointer, sizeof pointer, "%s", decoder->prefix);
    problem_pointer_name(pointer, sizeof pointer, group, strlen(group));
    problem_pointer_name(pointer, sizeof pointer, name, length);
    return fail_at(decoder, pointer, "A column must be an array.");
}

static bool fail_row(struct decoder *decoder, const char *group, size_t row) {
    char pointer[PLACE_MAX];
    snprintf(pointer, sizeof pointer, "%s", decoder->prefix);
    problem_pointer_name(pointer, sizeof pointer, group, strlen(group));
    problem_pointer_index(pointer, sizeof pointer, row);
    return fail_at(decoder, pointer, "A row must be an object.");
}

static bool fail_fields(struct decoder *decoder, const char *group) {
    char reason[64];
    snprintf(reason, sizeof reason, "A group may have at most %d fields.", PROTO_FIELDS_MAX);
    return fail(decoder, group, reason);
}

/* Values. */

/* A copy that outlives the tree. Decoded strings are never longer than their text, so all that a body holds fit in as
 * many bytes as the body has: room for them was taken at once. */
static const char *copy_text(struct decoder *decoder, const char *data, size_t length) {
    char *copy = decoder->text;
    memcpy(copy, data, length);
    decoder->text += length;
    return copy;
}

static bool all_numbers(const json_t *array) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        if (!json_is_number(json_array_get(array, i)))
            return false;
    }
    return true;
}

static const double *copy_numbers(struct decoder *decoder, const json_t *array) {
    size_t count = json_array_size(array);
    double *numbers = arena_array(decoder->arena, count, sizeof *numbers);
    if (numbers == NULL) {
        problem_out_of_memory(decoder->problem);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        numbers[i] = json_number_value(json_array_get(array, i));
    return numbers;
}

static void decode_string(struct decoder *decoder, const json_t *node, struct proto_value *value) {
    size_t length = json_string_length(node);
    const char *copy = copy_text(decoder, json_string_value(node), length);
    *value = (struct proto_value){.kind = PROTO_STRING, .length = (uint32_t)length, .string = copy};
}

static bool decode_vector(struct decoder *decoder, const json_t *node, struct proto_value *value) {
    if (!all_numbers(node)) {
        *value = (struct proto_value){.kind = PROTO_OTHER};
        return true;
    }
    const double *numbers = copy_numbers(decoder, node);
    *value = (struct proto_value){.kind = PROTO_VECTOR, .length = (uint32_t)json_array_size(node), .vector = numbers};
    return numbers != NULL;
}

static bool decode_value(struct decoder *decoder, const json_t *node, struct proto_value *value) {
    switch (json_typeof(node)) {
    case JSON_INTEGER:
        *value = (struct proto_value){.kind = PROTO_INTEGER, .integer = json_integer_value(node)};
        return true;
    case JSON_REAL:
        *value = (struct proto_value){.kind = PROTO_REAL, .real = json_real_value(node)};
        return true;
    case JSON_STRING:
        decode_string(decoder, node, value);
        return true;
    case JSON_ARRAY:
        return decode_vector(decoder, node, value);
    default:
        *value = (struct proto_value){.kind = PROTO_OTHER};
        return true;
    }
}

/* Groups. */

static struct proto_value *new_values(struct decoder *decoder, size_t rows, size_t columns) {
    struct proto_value *values = arena_array(decoder->arena, rows, columns * sizeof *values);
    if (values == NULL)
        problem_out_of_memory(decoder->problem);
    return values;
}

static struct proto_column *new_columns(struct decoder *decoder, size_t count) {
    struct proto_column *columns = arena_array(decoder->arena, count, sizeof *columns);
    if (columns == NULL)
        problem_out_of_memory(decoder->problem);
    return columns;
}

/* One column: an array's values. */
static bool decode_column(struct decoder *decoder, const json_t *array, struct proto_column *column) {
    column->count = json_array_size(array);
    struct proto_value *values = new_values(decoder, column->count, 1);
    if (values == NULL)
        return false;
    column->values = values;
    for (size_t i = 0; i < column->count; i++) {
        if (!decode_value(decoder, json_array_get(array, i), &values[i]))
            return false;
    }
    return true;
}

/* {"country": 29}: columns of one value. */
static bool decode_singles(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    if (!json_is_object(node))
        return fail(decoder, group, "This must be an object of fields, each with one value.");
    size_t count = json_object_size(node);
    if (count > PROTO_FIELDS_MAX)
        return fail_fields(decoder, group);
    struct proto_column *columns = new_columns(decoder, count);
    struct proto_value *values = new_values(decoder, count, 1);
    if (columns == NULL || values == NULL)
        return false;
    *table = (struct proto_table){PROTO_COLUMNS, true, count > 0, count, columns};

    const char *key;
    size_t length;
    json_t *value;
    json_object_keylen_foreach(node, key, length, value) {
        *columns++ = (struct proto_column){{copy_text(decoder, key, length), length}, 1, values};
        if (!decode_value(decoder, value, values++))
            return false;
    }
    return true;
}

/* {"item": ["A13", "A16"]} */
static bool decode_columns(struct decoder *decoder, const char *group, json_t *node, struct proto_table *table) {
    size_t count = json_object_size(node);
    if (count > PROTO_FIELDS_MAX)
        return fail_fields(decoder, group);
    struct proto_column *column = new_columns(decoder, count);
    if (column == NULL)
        return false;
    *table = (struct proto_table){PROTO_COLUMNS, true, 0, count, column};

    const char *key;
    size_t length;
    json_t *array;
    json_object_keylen_foreach(node, key, length, array) {
        if (!json_is_array(array))
            return fail_column(decoder, group, key, length);
        column->name = (struct proto_string){copy_text(decoder, key, length), length};
        if (!decode_column(decoder, array, column))
            return false;
        if (column->count > table->rows)
            table->rows = column->count;
        column++;
    }
    return true;
}

/* The place of a name among the columns, or `count`. Rows mostly share their order of keys, so the column after the
 * last one found is the first guess. */
static size_t find_column(const struct proto_column *columns, size_t count, size_t guess, const char *name,
                          size_t length) {
    for (size_t tried = 0; tried < count; tried++) {
        size_t place = guess + tried < count ? guess + tried : guess + tried - count;
        if (columns[place].name.length == length && memcmp(columns[place].name.data, name, length) == 0)
            return place;
    }
    return count;
}

/* The names of one row that no row before it had become columns. */
static bool add_names(struct decoder *decoder, const char *group, json_t *row, struct proto_column *columns,
                      size_t *count) {
    const char *key;
    size_t length;
    json_t *value;
    size_t guess = 0;
    json_object_keylen_foreach(row, key, length, value) {
        size_t place = find_column(columns, *count, guess, key, length);
        if (place == PROTO_FIELDS_MAX)
            return fail_fields(decoder, group);
        if (place == *count)
            columns[(*count)++].name = (struct proto_string){copy_text(decoder, key, length), length};
        guess = place + 1 < *count ? place + 1 : 0;
    }
    return true;
}

/* Row `index` of every column; what the row lacks stays absent. `values` is [columns, rows]. */
static bool decode_row(struct decoder *decoder, json_t *row, size_t index, const struct proto_table *table,
                       struct proto_value *values) {
    const char *key;
    size_t length;
    json_t *node;
    size_t guess = 0;
    json_object_keylen_foreach(row, key, length, node) {
        size_t place = find_column(table->column, table->columns, guess, key, length);
        if (!decode_value(decoder, node, &values[place * table->rows + index]))
            return false;
        guess = place + 1 < table->columns ? place + 1 : 0;
    }
    return true;
}

/* [{"item": "A13"}, {"item": "A16"}] */
static bool decode_rows(struct decoder *decoder, const char *group, const json_t *node, struct proto_table *table) {
    size_t rows = json_array_size(node);
    struct proto_column *columns = new_columns(decoder, PROTO_FIELDS_MAX);
    if (columns == NULL)
        return false;
    size_t count = 0;
    for (size_t i = 0; i < rows; i++) {
        json_t *row = json_array_get(node, i);
        if (!json_is_object(row))
            return fail_row(decoder, group, i);
        if (!add_names(decoder, group, row, columns, &count))
            return false;
    }

    struct proto_value *values = new_values(decoder, rows, count);
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
        if (!decode_row(decoder, json_array_get(node, i), i, table, values))
            return false;
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

/* Members. */

static bool check_candidates(struct decoder *decoder, const struct proto_request *request) {
    if (request->candidates.rows == 0 || request->candidates.columns == 0)
        return fail(decoder, "candidates", "A request needs at least one candidate.");
    return true;
}

static bool decode_candidates(struct decoder *decoder, json_t *node, struct proto_request *request) {
    return decode_table(decoder, "candidates", node, &request->candidates) && check_candidates(decoder, request);
}

/* A member that is a string of 1 to `most` bytes. */
static bool decode_text(struct decoder *decoder, const char *name, const json_t *node, int most, bool *has,
                        struct proto_string *text) {
    size_t length = json_string_length(node); /* 0 when it is no string */
    if (length == 0 || length > (size_t)most) {
        char reason[80];
        snprintf(reason, sizeof reason, "The %s must be a string of 1 to %d bytes.", name, most);
        return fail(decoder, name, reason);
    }
    *has = true;
    *text = (struct proto_string){copy_text(decoder, json_string_value(node), length), length};
    return true;
}

static bool decode_top_k(struct decoder *decoder, const json_t *node, struct proto_request *request) {
    if (json_integer_value(node) < 1) /* 0 when it is no integer */
        return fail(decoder, "top_k", "This must be an integer of at least 1.");
    request->top_k = (size_t)json_integer_value(node);
    return true;
}

static bool decode_explain(struct decoder *decoder, const json_t *node, struct proto_request *request) {
    if (!json_is_boolean(node))
        return fail(decoder, "explain", "This must be true or false.");
    request->explain = json_is_true(node);
    return true;
}

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

static bool decode_member(struct decoder *decoder, const char *name, json_t *node, struct proto_request *request) {
    if (strcmp(name, "user_id") == 0)
        return decode_text(decoder, name, node, PROTO_USER_ID_MAX, &request->has_user_id, &request->user_id);
    if (strcmp(name, "user") == 0)
        return decode_singles(decoder, name, node, &request->user);
    if (strcmp(name, "context") == 0)
        return decode_singles(decoder, name, node, &request->context);
    if (strcmp(name, "candidates") == 0)
        return decode_candidates(decoder, node, request);
    if (strcmp(name, "top_k") == 0)
        return decode_top_k(decoder, node, request);
    if (strcmp(name, "explain") == 0)
        return decode_explain(decoder, node, request);
    return decode_history_member(decoder, name, node, request);
}

/* Which members go together. */

/* A token stands for a history. */
static bool check_token(struct decoder *decoder, const struct proto_request *request) {
    if (request->history.present && request->has_history_token)
        return fail(decoder, "history_token", "A request has a history or a history_token, not both.");
    if (request->history.present && request->history_append.present)
        return fail(decoder, "history_append", "What is appended is part of the history, where that is sent.");
    return true;
}

static bool check_score(struct decoder *decoder, const struct proto_request *request) {
    if (!request->candidates.present)
        return fail(decoder, "candidates", "A request must have candidates.");
    if (request->has_history_token && !request->has_user_id)
        return fail(decoder, "history_token", "A history_token needs the user_id that it was given for.");
    if (request->history_append.present && !request->has_history_token)
        return fail(decoder, "history_append", "A history_append needs the history_token of what it is appended to.");
    return check_token(decoder, request);
}

bool proto_check_request(const struct proto_request *request, struct problem *problem) {
    struct decoder decoder = {.problem = problem};
    return check_score(&decoder, request) && check_candidates(&decoder, request);
}

static bool check_history(struct decoder *decoder, const struct proto_request *request) {
    if (!request->history.present && !request->history_append.present)
        return fail(decoder, NULL, "A request must have a history or a history_append.");
    return check_token(decoder, request);
}

bool proto_check_history(const struct proto_request *request, struct problem *problem) {
    struct decoder decoder = {.problem = problem};
    return check_history(&decoder, request);
}

/* `beside` names a member that is not the request's own, or is NULL. */
static bool decode_request(struct decoder *decoder, json_t *node, const char *beside, struct proto_request *request) {
    *request = (struct proto_request){0};
    if (!json_is_object(node))
        return fail(decoder, NULL, "A request must be an object.");
    const char *name;
    json_t *value;
    json_object_foreach(node, name, value) {
        if (beside != NULL && strcmp(name, beside) == 0)
            continue;
        if (!decode_member(decoder, name, value, request))
            return false;
    }
    return check_score(decoder, request);
}

static bool decode_history(struct decoder *decoder, json_t *node, struct proto_request *request) {
    *request = (struct proto_request){0};
    if (!json_is_object(node))
        return fail(decoder, NULL, "A request must be an object.");
    const char *name;
    json_t *value;
    json_object_foreach(node, name, value) {
        if (!decode_history_member(decoder, name, value, request))
            return false;
    }
    return check_history(decoder, request);
}

/* The text. */

/* The byte at which brackets first nest deeper than DEPTH_MAX, or `size`. A look at brackets outside strings is enough:
 * a text that is not JSON is refused by the parser. */
static size_t too_deep_at(const char *text, size_t size) {
    size_t depth = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];
        if (byte == '"') {
            in_string = !in_string;
        } else if (in_string) {
            i += byte == '\\'; /* what it escapes may be a quote */
        } else if (byte == '[' || byte == '{') {
            if (++depth > DEPTH_MAX)
                return i;
        } else if (byte == ']' || byte == '}') {
            depth -= depth > 0;
        }
    }
    return size;
}

/* jansson's own words for bad syntax, without the piece of the client's text that it ends with. */
static void syntax_reason(const json_error_t *error, char *reason, size_t size) {
    const char *end = strstr(error->text, " near ");
    int length = end != NULL ? (int)(end - error->text) : (int)strlen(error->text);
    snprintf(reason, size, "Bad syntax: %.*s", length, error->text);
}

static void parse_reason(const json_error_t *error, char *reason, size_t size) {
    switch (json_error_code(error)) {
    case json_error_invalid_utf8:
        snprintf(reason, size, "The text is not valid UTF-8");
        return;
    case json_error_premature_end_of_input:
        snprintf(reason, size, "The text ends too soon");
        return;
    case json_error_end_of_input_expected:
        snprintf(reason, size, "There is more text after the value");
        return;
    case json_error_null_character:
    case json_error_null_byte_in_key:
        snprintf(reason, size, "U+0000 is not allowed in a string");
        return;
    case json_error_duplicate_key:
        snprintf(reason, size, "An object has the same name twice");
        return;
    case json_error_numeric_overflow:
        snprintf(reason, size, "A number is too large");
        return;
    default:
        syntax_reason(error, reason, size);
        return;
    }
}

static void set_parse_problem(const json_error_t *error, struct problem *problem) {
    char reason[JSON_ERROR_TEXT_LENGTH + 16];
    parse_reason(error, reason, sizeof reason);
    problem_set(problem, PROBLEM_INVALID_JSON, "", "%s, at byte %d (line %d, column %d).", reason, error->position,
                error->line, error->column);
}

/* What could make the parser overflow its counts or the stack. */
static bool check_bounds(const char *text, size_t size, struct problem *problem) {
    if (size > INT_MAX) { /* jansson counts bytes in an int */
        problem_set(problem, PROBLEM_BODY_TOO_LARGE, "", "The text has %zu bytes; at most %d can be read.", size,
                    INT_MAX);
        return false;
    }
    size_t deep = too_deep_at(text, size);
    if (deep < size) {
        problem_set(problem, PROBLEM_INVALID_JSON, "", "Arrays and objects nest deeper than %d levels, at byte %zu.",
                    DEPTH_MAX, deep);
        return false;
    }
    return true;
}

struct parsing {
    const char *text;
    size_t size;
    json_t *root;
    json_error_t error;
};

static void load(void *context) {
    struct parsing *parsing = context;
    const char *text = parsing->size > 0 ? parsing->text : "";
    parsing->root = json_loadb(text, parsing->size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &parsing->error);
}

/* A tree in the arena. NULL on error, and then *problem says why. */
static json_t *parse(const char *text, size_t size, struct arena *arena, struct problem *problem) {
    struct parsing parsing = {.text = text, .size = size};
    if (!check_bounds(text, size, problem))
        return NULL;
    if (!parse_memory_run(arena, load, &parsing))
        problem_out_of_memory(problem);
    else if (parsing.root == NULL)
        set_parse_problem(&parsing.error, problem);
    return parsing.root;
}

/* What either document starts with: the tree, and room for its strings. */
static json_t *parse_for(struct decoder *decoder, const char *text, size_t size) {
    json_t *root = parse(text, size, decoder->arena, decoder->problem);
    if (root == NULL)
        return NULL;
    decoder->text = arena_alloc(decoder->arena, size);
    if (decoder->text == NULL) {
        problem_out_of_memory(decoder->problem);
        return NULL;
    }
    return root;
}

bool json_decode_request(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem) {
    bool fresh = arena->used == 0;
    if (json_fast_decode_request(body, size, arena, request))
        return true;
    if (fresh)
        arena_reset(arena); /* the attempt must not cost the parser its memory */
    return json_decode_request_tree(body, size, arena, request, problem);
}

bool json_decode_request_tree(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                              struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse_for(&decoder, body, size);
    return root != NULL && decode_request(&decoder, root, NULL, request);
}

bool json_decode_history(const char *body, size_t size, struct arena *arena, struct proto_request *request,
                         struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    json_t *root = parse_for(&decoder, body, size);
    return root != NULL && decode_history(&decoder, root, request);
}

/* samples.json. */

static bool decode_scores(struct decoder *decoder, const json_t *node, struct proto_sample *sample) {
    if (!json_is_array(node) || !all_numbers(node))
        return fail(decoder, "scores", "The scores must be an array of numbers.");
    if (json_array_size(node) != sample->request.candidates.rows)
        return fail(decoder, "scores", "There must be one score for each candidate.");
    sample->score_count = json_array_size(node);
    sample->scores = copy_numbers(decoder, node);
    return sample->scores != NULL;
}

static bool decode_sample(struct decoder *decoder, json_t *node, struct proto_sample *sample) {
    return decode_request(decoder, node, "scores", &sample->request) &&
           decode_scores(decoder, json_object_get(node, "scores"), sample);
}

static bool decode_each_sample(struct decoder *decoder, const json_t *array, struct proto_sample *samples) {
    for (size_t i = 0; i < json_array_size(array); i++) {
        snprintf(decoder->prefix, sizeof decoder->prefix, "/samples/%zu", i);
        if (!decode_sample(decoder, json_array_get(array, i), &samples[i]))
            return false;
    }
    return true;
}

bool json_decode_samples(const char *text, size_t size, struct arena *arena, const struct proto_sample **samples,
                         size_t *count, struct problem *problem) {
    struct decoder decoder = {.arena = arena, .problem = problem};
    const json_t *root = parse_for(&decoder, text, size);
    if (root == NULL)
        return false;
    const json_t *array = json_object_get(root, "samples");
    if (json_object_size(root) != 1 || json_array_size(array) == 0)
        return fail(&decoder, NULL, "This must be an object with one member, samples, an array of at least one.");
    struct proto_sample *decoded = arena_array(arena, json_array_size(array), sizeof *decoded);
    if (decoded == NULL)
        return problem_out_of_memory(problem);
    *samples = decoded;
    *count = json_array_size(array);
    return decode_each_sample(&decoder, array, decoded);
}
