/* fuzz_model.c: any bytes as a model directory. Opening ends in an error with a message, or in a model that scores
 * without reading or writing beyond its memory, whatever its weights and tables hold.
 *
 * An input is config.json, a NUL byte, then model.safetensors. tests/fuzz/model holds small valid
 * models (seed_models.py makes them) and a named file for each fault once found.
 */
#include "model/dien.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size); /* libFuzzer's own */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

enum { BEHAVIOURS = 5, CANDIDATES = 3, LARGE = 4 << 20 };

static char directory[64], config_path[80], tensors_path[80];

static void remove_files(void) {
    unlink(config_path);
    unlink(tensors_path);
    rmdir(directory);
}

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    snprintf(directory, sizeof directory, "/dev/shm/fuzz-model-XXXXXX");
    require(mkdtemp(directory) != NULL);
    snprintf(config_path, sizeof config_path, "%s/config.json", directory);
    snprintf(tensors_path, sizeof tensors_path, "%s/model.safetensors", directory);
    atexit(remove_files);
    return 0;
}

static void write_file(const char *path, const uint8_t *data, size_t size) {
    FILE *file = fopen(path, "wb");
    require(file != NULL && fwrite(data, 1, size, file) == size && fclose(file) == 0);
}

/* A column of values that a client may send: the last row, the first, and ids from within and beyond the tables. */
static struct dien_column make_column(const struct dien_model *model, const struct dien_field *field, size_t count) {
    struct dien_column column = {.count = count};
    if (field->kind == DIEN_DENSE) {
        float *values = calloc(count * field->width, sizeof *values);
        require(values != NULL);
        values[0] = 1;
        column.values = values;
        return column;
    }
    size_t several = field->values > 0 ? field->values : 1;
    int32_t *rows = calloc(count * several, sizeof *rows);
    require(rows != NULL);
    for (size_t i = 0; i < count * several; i++) {
        bool known;
        if (field->values > 0 && i % 3 == 1) {
            rows[i] = -1; /* no value */
            continue;
        }
        if (i == 0)
            rows[i] = field->rows - 1;
        else if (field->kind == DIEN_STRING_VOCABULARY)
            rows[i] = dien_row_of_string(model, field, "item7", 4 + i % 2, &known);
        else
            rows[i] = dien_row_of_integer(model, field, (int64_t)i * 3, &known);
        require(rows[i] >= 0 && rows[i] < field->rows);
    }
    column.rows = rows;
    return column;
}

/* An attribute's rows are in range too. */
static void check_attribute(const struct dien_model *model, const struct dien_field *field) {
    for (int32_t row = 0; field->parent != NULL && row < field->parent->rows; row++) {
        if (field->kind == DIEN_DENSE) {
            require(dien_attribute_values(model, field, row) != NULL);
            continue;
        }
        for (size_t i = 0; i < field->values; i++) {
            int32_t one = dien_attribute_rows(model, field, row)[i];
            require(one >= -1 && one < field->rows);
        }
        if (field->values > 0)
            continue;
        int32_t own = dien_attribute_row(model, field, row);
        require(own >= 0 && own < field->rows);
    }
}

static struct dien_columns make_columns(const struct dien_model *model, enum dien_group group, size_t count) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields);
    struct dien_column *columns = calloc(width + 1, sizeof *columns);
    require(columns != NULL);
    for (size_t i = 0; i < width; i++) {
        columns[i] = make_column(model, fields[i], count);
        check_attribute(model, fields[i]);
    }
    return (struct dien_columns){columns};
}

static void free_columns(const struct dien_model *model, enum dien_group group, const struct dien_columns *columns) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields);
    for (size_t i = 0; i < width; i++) {
        free((void *)(uintptr_t)columns->column[i].rows);
        free((void *)(uintptr_t)columns->column[i].values);
    }
    free((void *)(uintptr_t)columns->column);
}

static void score(const struct dien_model *model) {
    struct dien_scratch *scratch = dien_scratch_new(model);
    if (scratch == NULL)
        return; /* more memory than there is: an answer, too */
    struct dien_columns history = make_columns(model, DIEN_BEHAVIOUR, BEHAVIOURS);
    struct dien_request request = {.user = make_columns(model, DIEN_USER, 1),
                                   .context = make_columns(model, DIEN_CONTEXT, 1),
                                   .candidates = make_columns(model, DIEN_CANDIDATE, CANDIDATES),
                                   .candidate_count = CANDIDATES};
    size_t counts[64];
    const struct dien_interest *interests;
    for (size_t i = 0; i < dien_interests(model, &interests); i++)
        counts[i] = BEHAVIOURS;
    size_t bytes = dien_user_bytes(model, counts);
    void *memory = aligned_alloc(DIEN_ALIGNMENT, (bytes + DIEN_ALIGNMENT - 1) / DIEN_ALIGNMENT * DIEN_ALIGNMENT);
    if (memory != NULL) {
        float scores[CANDIDATES];
        struct dien_user *user = dien_user_build(model, scratch, &history, memory);
        dien_score(model, scratch, user, &request, scores, NULL);
    }
    free(memory);
    free_columns(model, DIEN_BEHAVIOUR, &history);
    free_columns(model, DIEN_USER, &request.user);
    free_columns(model, DIEN_CONTEXT, &request.context);
    free_columns(model, DIEN_CANDIDATE, &request.candidates);
    dien_scratch_free(scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const uint8_t *end = memchr(data, '\0', size);
    size_t config = end != NULL ? (size_t)(end - data) : size;
    struct dien_error error = {""};
    write_file(config_path, data, config);
    write_file(tensors_path, data + config + (end != NULL), size - config - (end != NULL));
    struct dien_model *model = dien_open(directory, &error);
    if (model == NULL) {
        require(error.message[0] != '\0');
        return 0;
    }
    if (dien_packed_bytes(model) < LARGE)
        score(model);
    dien_close(model);
    return 0;
}

/* ---- Mutation. Blind changes end at the first comma that jansson misses; so most change one word of the JSON instead,
 * for another word of the same text or for a number worth trying, and the length before a tensor header is kept true.
 */

struct span {
    size_t start, length;
};

/* A part of the input that is JSON: config.json, or the header of model.safetensors. */
static struct span json_part(const uint8_t *data, size_t size, bool header) {
    const uint8_t *end = memchr(data, '\0', size);
    size_t config = end != NULL ? (size_t)(end - data) : size;
    if (!header)
        return (struct span){0, config};
    uint64_t length = 0;
    if (size < config + 9)
        return (struct span){0, 0};
    memcpy(&length, data + config + 1, sizeof length);
    return length <= size - config - 9 ? (struct span){config + 9, (size_t)length} : (struct span){0, 0};
}

static bool in_word(uint8_t byte) {
    return byte != '\0' && strchr("{}[]:, \n", byte) == NULL;
}

/* A random word of a text: a string, a number, a literal. */
static struct span random_word(const uint8_t *data, struct span text) {
    size_t at = text.start + (size_t)rand() % text.length, end = text.start + text.length;
    while (at < end && !in_word(data[at]))
        at++;
    size_t first = at;
    while (first > text.start && in_word(data[first - 1]))
        first--;
    while (at < end && in_word(data[at]))
        at++;
    return (struct span){first, at - first};
}

/* Put `size` bytes in the place of a span; the new size of all, or 0 when there is no room. */
static size_t replace(uint8_t *data, size_t size, size_t max_size, struct span span, const char *bytes, size_t length) {
    if (size - span.length + length > max_size)
        return 0;
    size_t after = span.start + span.length;
    memmove(data + span.start + length, data + after, size - after);
    memcpy(data + span.start, bytes, length);
    return size - span.length + length;
}

static size_t mutate_word(uint8_t *data, size_t size, size_t max_size, bool header) {
    static const char *const tries[] = {"0",
                                        "1",
                                        "-1",
                                        "2",
                                        "3",
                                        "7",
                                        "16",
                                        "17",
                                        "65536",
                                        "65537",
                                        "2147483647",
                                        "2147483648",
                                        "9223372036854775807",
                                        "1e9",
                                        "0.5",
                                        "null",
                                        "true",
                                        "[]",
                                        "{}",
                                        "\"\"",
                                        "\"gru\"",
                                        "\"none\"",
                                        "\"I8\"",
                                        "\"F16\"",
                                        "\"I32\"",
                                        "\"index\"",
                                        "\"dice-row\""};
    struct span text = json_part(data, size, header);
    if (text.length < 2)
        return 0;
    struct span word = random_word(data, text), other = random_word(data, text);
    const char *chosen = tries[(size_t)rand() % (sizeof tries / sizeof *tries)];
    char copy[128];
    if (rand() % 2 == 0 && other.length > 0 && other.length < sizeof copy) {
        memcpy(copy, data + other.start, other.length);
        copy[other.length] = '\0';
        chosen = copy;
    }
    size_t length = strlen(chosen), result = replace(data, size, max_size, word, chosen, length);
    if (result > 0 && header) {
        uint64_t truth = text.length - word.length + length;
        memcpy(data + text.start - 8, &truth, sizeof truth);
    }
    return result;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
    srand(seed);
    size_t result = rand() % 8 == 0 ? 0 : mutate_word(data, size, max_size, rand() % 2 == 0);
    return result > 0 ? result : LLVMFuzzerMutate(data, size, max_size);
}
