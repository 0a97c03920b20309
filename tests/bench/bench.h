/* bench.h: what measurements share: options, a model, random histories.
 */
#ifndef TESTS_BENCH_BENCH_H
#define TESTS_BENCH_BENCH_H

#include "model/dien.h"
#include "tests/bench/timing.h"
#include "tests/support/random_bits.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A measurement that finds its own ground untrue says so and ends. */
static inline void require(bool truth, const char *what) {
    if (truth)
        return;
    fprintf(stderr, "not so: %s\n", what);
    exit(1);
}

static inline void *allocate(size_t count, size_t size) {
    size_t bytes = (count * size + DIEN_ALIGNMENT) / DIEN_ALIGNMENT * DIEN_ALIGNMENT;
    void *memory = aligned_alloc(DIEN_ALIGNMENT, bytes);
    require(memory != NULL, "memory suffices");
    return memset(memory, 0, bytes);
}

static inline size_t random_below(uint64_t *state, size_t bound) {
    return (size_t)(((random_bits(state) >> 32) * bound) >> 32);
}

/* `--name value` of a program's arguments, or `otherwise`. */
static inline const char *text_option(char **arguments, const char *name, const char *otherwise) {
    for (; arguments[0] != NULL && arguments[1] != NULL; arguments++)
        if (strcmp(arguments[0], name) == 0)
            return arguments[1];
    return otherwise;
}

static inline double number_option(char **arguments, const char *name, double otherwise) {
    const char *text = text_option(arguments, name, NULL);
    return text != NULL ? strtod(text, NULL) : otherwise;
}

static inline struct dien_model *open_model(const char *directory) {
    struct dien_error error = {""};
    struct dien_model *model = dien_open(directory, &error);
    if (model == NULL)
        fprintf(stderr, "%s: %s\n", directory, error.message);
    require(model != NULL, "the model opens");
    return model;
}

/* Columns of a group whose fields are all categorical, with room for `count` rows each. */
static inline struct dien_column *columns_new(const struct dien_model *model, enum dien_group group, size_t count) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields);
    struct dien_column *columns = allocate(width, sizeof *columns);
    for (size_t i = 0; i < width; i++) {
        require(fields[i]->kind != DIEN_DENSE, "all fields are categorical");
        columns[i] = (struct dien_column){.count = count, .rows = allocate(count, sizeof(int32_t))};
    }
    return columns;
}

/* Rows 0 to count of series number `seed`: a longer draw of a series begins with the shorter one. */
static inline void columns_draw(const struct dien_model *model, enum dien_group group, uint64_t seed, size_t count,
                                struct dien_column *columns) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields);
    for (size_t i = 0; i < width; i++) {
        int32_t *rows = (int32_t *)(uintptr_t)columns[i].rows;
        uint64_t random = mix(seed * 64 + i);
        for (size_t j = 0; j < count; j++)
            rows[j] = (int32_t)random_below(&random, (size_t)fields[i]->rows);
        columns[i].count = count;
    }
}

#endif
