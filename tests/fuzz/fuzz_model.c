/* fuzz_model.c: any bytes as a model directory. It opens or says why not; what opens, scores.
 *
 * An input is the length of config.json in four bytes, little-endian, then config.json, then model.safetensors. The
 * files of tests/fuzz/model come from tests/fuzz/seed_models.py and from crashes that fuzzing found.
 */
#include "model/dien.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HISTORY = 3, CANDIDATES = 2, MOST_BYTES = 16 << 20 };

static char directory[64] = "/dev/shm/dien-fuzz-XXXXXX";

static void require(bool condition) {
    if (!condition)
        abort();
}

static void path_of(const char *name, char path[128]) {
    snprintf(path, 128, "%s/%s", directory, name);
}

static void remove_directory(void) {
    char path[128];
    path_of("config.json", path);
    unlink(path);
    path_of("model.safetensors", path);
    unlink(path);
    rmdir(directory);
}

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    require(mkdtemp(directory) != NULL);
    atexit(remove_directory);
    return 0;
}

static void write_file(const char *name, const uint8_t *data, size_t size) {
    char path[128];
    path_of(name, path);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(file >= 0);
    require(write(file, data, size) == (ssize_t)size);
    require(close(file) == 0);
}

/* Ids that no input can know: what a vocabulary does with them is what is looked at. */
static int32_t row_of(const struct dien_model *model, const struct dien_field *field, size_t i) {
    static const char *const strings[] = {"", "A1", "no such id"};
    static const int64_t integers[] = {0, 1, INT64_MAX};
    bool known = false;
    int32_t row = field->kind == DIEN_STRING_VOCABULARY
                      ? dien_row_of_string(model, field, strings[i % 3], strlen(strings[i % 3]), &known)
                      : dien_row_of_integer(model, field, integers[i % 3], &known);
    require(row >= 0 && row < field->rows);
    return row;
}

struct columns {
    struct dien_column *column;
    void **memory; /* what each column points to */
    size_t count;
};

static struct columns make_columns(const struct dien_model *model, enum dien_group group, size_t rows) {
    const struct dien_field *const *fields = NULL;
    struct columns made = {.count = dien_fields(model, group, &fields)};
    made.column = calloc(made.count + 1, sizeof *made.column);
    made.memory = calloc(made.count + 1, sizeof *made.memory);
    require(made.column != NULL && made.memory != NULL);
    for (size_t i = 0; i < made.count; i++) {
        bool dense = fields[i]->kind == DIEN_DENSE;
        void *memory = calloc(rows * (dense ? fields[i]->width : 1), sizeof(float));
        require(memory != NULL);
        made.memory[i] = memory;
        made.column[i] = (struct dien_column){rows, dense ? NULL : memory, dense ? memory : NULL};
        for (size_t row = 0; row < rows && !dense; row++)
            ((int32_t *)memory)[row] = row_of(model, fields[i], row);
    }
    return made;
}

static void free_columns(struct columns columns) {
    for (size_t i = 0; i < columns.count; i++)
        free(columns.memory[i]);
    free(columns.memory);
    free(columns.column);
}

/* What attributes say of their parents' rows is in range too. */
static void look_at_attributes(const struct dien_model *model) {
    for (enum dien_group group = DIEN_USER; group < DIEN_GROUPS; group++) {
        const struct dien_field *const *fields = NULL;
        size_t count = dien_fields(model, group, &fields);
        for (size_t i = 0; i < count; i++) {
            for (int32_t row = 0; fields[i]->parent != NULL && row < fields[i]->parent->rows; row++) {
                if (fields[i]->kind == DIEN_DENSE) {
                    require(dien_attribute_values(model, fields[i], row) != NULL);
                } else {
                    int32_t own = dien_attribute_row(model, fields[i], row);
                    require(own >= 0 && own < fields[i]->rows);
                }
            }
        }
    }
}

static void score(const struct dien_model *model) {
    const struct dien_interest *interests = NULL;
    size_t count = dien_interests(model, &interests);
    size_t *counts = calloc(count, sizeof *counts);
    require(counts != NULL);
    for (size_t i = 0; i < count; i++)
        counts[i] = HISTORY;
    struct columns columns[DIEN_GROUPS];
    for (enum dien_group group = DIEN_USER; group < DIEN_GROUPS; group++)
        columns[group] = make_columns(model, group,
                                      group == DIEN_BEHAVIOUR   ? HISTORY
                                      : group == DIEN_CANDIDATE ? CANDIDATES
                                                                : 1);
    struct dien_scratch *scratch = dien_scratch_new(model);
    size_t bytes = dien_user_bytes(model, counts);
    void *memory = bytes <= MOST_BYTES ? aligned_alloc(DIEN_ALIGNMENT, bytes) : NULL;
    if (scratch != NULL && memory != NULL) {
        struct dien_columns history = {columns[DIEN_BEHAVIOUR].column};
        struct dien_user *user = dien_user_build(model, scratch, &history, memory);
        struct dien_request request = {
            {columns[DIEN_USER].column}, {columns[DIEN_CONTEXT].column}, {columns[DIEN_CANDIDATE].column}, CANDIDATES};
        float scores[CANDIDATES];
        dien_score(model, scratch, user, &request, scores, NULL);
    }
    free(memory);
    dien_scratch_free(scratch);
    for (enum dien_group group = DIEN_USER; group < DIEN_GROUPS; group++)
        free_columns(columns[group]);
    free(counts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint32_t config = 0;
    if (size < sizeof config)
        return 0;
    memcpy(&config, data, sizeof config);
    if (config > size - sizeof config)
        return 0;
    write_file("config.json", data + sizeof config, config);
    write_file("model.safetensors", data + sizeof config + config, size - sizeof config - config);
    struct dien_error error = {""};
    struct dien_model *model = dien_open(directory, &error);
    if (model == NULL) {
        require(error.message[0] != '\0');
        return 0;
    }
    look_at_attributes(model);
    score(model);
    dien_close(model);
    return 0;
}
