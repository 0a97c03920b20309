/* columns.h: random models, random columns for them, and parts of columns; for the tests of what uses models.
 */
#ifndef TESTS_UNIT_COLUMNS_H
#define TESTS_UNIT_COLUMNS_H

#include "model/dien.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MODELS_MAX = 64 };

/* The models of tests/export/random_model.py (`make models`), or of DIEN_TEST_MODELS, a directory of them. */
static struct dien_model *models[MODELS_MAX];
static char paths[MODELS_MAX][512];
static size_t model_count;
static enum dien_precision models_precision = DIEN_FLOAT32; /* that they are opened with */

static int open_models(void **state) {
    (void)state;
    const char *directory = getenv("DIEN_TEST_MODELS");
    if (directory == NULL)
        directory = "build/models";
    struct dirent **entries;
    int count = scandir(directory, &entries, NULL, alphasort);
    if (count < 0) {
        print_error("%s: not there; `make models` makes it\n", directory);
        return -1;
    }
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.' && model_count < MODELS_MAX) {
            struct dien_error error = {""};
            snprintf(paths[model_count], sizeof paths[0], "%s/%s", directory, entries[i]->d_name);
            models[model_count] = dien_open_as(paths[model_count], models_precision, &error);
            if (models[model_count++] == NULL) {
                print_error("%s: %s\n", paths[model_count - 1], error.message);
                return -1;
            }
        }
        free(entries[i]);
    }
    free(entries);
    return model_count >= 10 ? 0 : -1;
}

static int close_models(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i++)
        dien_close(models[i]);
    return 0;
}

/* ---- random inputs */

static void *array(size_t count, size_t size) {
    void *memory = calloc(count > 0 ? count : 1, size);
    assert_non_null(memory);
    return memory;
}

/* Rows, or numbers, in one value of a field. */
static size_t value_size(const struct dien_field *field) {
    return field->kind == DIEN_DENSE ? field->width : field->values > 0 ? field->values : 1;
}

static struct dien_column random_column(const struct dien_field *field, size_t count) {
    struct dien_column column = {.count = count};
    if (field->kind == DIEN_DENSE) {
        float *values = array(count * field->width, sizeof *values);
        for (size_t i = 0; i < count * field->width; i++)
            values[i] = (float)rand() / (float)RAND_MAX - 0.5F;
        column.values = values;
    } else {
        int32_t *rows = array(count * value_size(field), sizeof *rows);
        for (size_t i = 0; i < count * value_size(field); i++)
            rows[i] = field->values > 0 && rand() % 3 == 0 ? -1 : rand() % field->rows;
        column.rows = rows;
    }
    return column;
}

static struct dien_columns random_columns(const struct dien_model *model, enum dien_group group, size_t count) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields);
    struct dien_column *columns = array(width, sizeof *columns);
    for (size_t i = 0; i < width; i++)
        columns[i] = random_column(fields[i], count);
    return (struct dien_columns){columns};
}

/* Columns that hold the values order[0], order[1], ... of others. */
static struct dien_columns pick(const struct dien_model *model, enum dien_group group, const struct dien_columns *from,
                                const size_t *order, size_t count) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields);
    struct dien_column *columns = array(width, sizeof *columns);
    for (size_t i = 0; i < width; i++) {
        size_t size = value_size(fields[i]);
        const void *values = from->column[i].rows != NULL ? (const void *)from->column[i].rows : from->column[i].values;
        char *copy = array(count * size, 4);
        for (size_t j = 0; j < count; j++)
            memcpy(copy + j * size * 4, (const char *)values + order[j] * size * 4, size * 4);
        columns[i] = (struct dien_column){.count = count};
        if (fields[i]->kind == DIEN_DENSE)
            columns[i].values = (const float *)(const void *)copy;
        else
            columns[i].rows = (const int32_t *)(const void *)copy;
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

static size_t longest_window(const struct dien_model *model) {
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests), longest = 0;
    for (size_t i = 0; i < count; i++)
        longest = interests[i].max_length > longest ? interests[i].max_length : longest;
    return longest;
}

#endif
