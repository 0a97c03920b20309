/* library.c: one request through the model library, for tests/bench/peers.py to compare with other engines.
 *
 *   library MODEL_DIRECTORY REQUEST [reduced]
 *
 * REQUEST is text, one line for each column of rows, "COUNT ROW ROW ...": the user's fields, then the behaviour's, then
 * the candidate's, in the order of dien_fields(). A line "time cached CALLS" on standard input is answered with the
 * seconds of CALLS calls, one after another, as a JSON list; "scores cached" with the scores. `cached` scores with a
 * user state built before; `restored` with one of which only the core was kept, as the server's cache does; `uncached`
 * builds the state in each call. The first line of output says the kernels and the precision.
 */
#include "model/dien.h"
#include "tests/bench/timing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum form { CACHED, RESTORED, UNCACHED };

struct bench {
    struct dien_model *model;
    struct dien_scratch *scratch;
    struct dien_user *state;
    void *memory; /* where a call builds or restores its state */
    struct dien_columns history;
    struct dien_request request;
    float *scores; /* [C] */
};

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "library: %s\n", what);
    exit(1);
}

static void *checked(void *memory) {
    if (memory == NULL)
        fail("out of memory");
    return memory;
}

/* The number at *text, which moves behind it. */
static size_t next_number(char **text, size_t limit) {
    char *start = *text;
    unsigned long number = strtoul(start, text, 10);
    if (*text == start || number >= limit)
        fail("the request does not fit the model");
    return number;
}

/* The columns of one group, a line each; *count is the length of the last. */
static struct dien_columns read_columns(FILE *file, const struct dien_model *model, enum dien_group group,
                                        size_t *count) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields), room = 0;
    struct dien_column *columns = checked(calloc(width + 1, sizeof *columns));
    char *line = NULL;
    for (size_t i = 0; i < width; i++) {
        if (getline(&line, &room, file) < 0)
            fail("the request ends early");
        char *text = line;
        *count = next_number(&text, 1 << 20);
        int32_t *rows = checked(calloc(*count + 1, sizeof *rows));
        for (size_t j = 0; j < *count; j++)
            rows[j] = (int32_t)next_number(&text, (size_t)fields[i]->rows);
        columns[i] = (struct dien_column){.count = *count, .rows = rows};
    }
    free(line);
    return (struct dien_columns){columns};
}

static void *aligned(size_t bytes) {
    return checked(aligned_alloc(DIEN_ALIGNMENT, (bytes + DIEN_ALIGNMENT - 1) / DIEN_ALIGNMENT * DIEN_ALIGNMENT));
}

static void open_bench(struct bench *bench, const char *directory, const char *request, enum dien_precision precision) {
    struct dien_error error = {""};
    bench->model = dien_open_as(directory, precision, &error);
    if (bench->model == NULL)
        fail(error.message);
    FILE *file = fopen(request, "r");
    if (file == NULL)
        fail("the request cannot be read");
    size_t one = 1, steps = 0, candidates = 0;
    bench->request.user = read_columns(file, bench->model, DIEN_USER, &one);
    bench->history = read_columns(file, bench->model, DIEN_BEHAVIOUR, &steps);
    bench->request.candidates = read_columns(file, bench->model, DIEN_CANDIDATE, &candidates);
    bench->request.candidate_count = candidates;
    fclose(file);
    bench->scores = checked(calloc(candidates + 1, sizeof *bench->scores));
    bench->scratch = checked(dien_scratch_new(bench->model));
    size_t bytes = dien_user_bytes(bench->model, &steps);
    bench->memory = aligned(bytes);
    bench->state = dien_user_build(bench->model, bench->scratch, &bench->history, aligned(bytes));
}

static void score(struct bench *bench, enum form form) {
    const struct dien_user *user = bench->state;
    if (form == RESTORED)
        user = dien_user_restore(bench->model, user, bench->memory);
    if (form == UNCACHED)
        user = dien_user_build(bench->model, bench->scratch, &bench->history, bench->memory);
    dien_score(bench->model, bench->scratch, user, &bench->request, bench->scores, NULL);
}

static void answer_times(struct bench *bench, enum form form, unsigned long calls) {
    for (unsigned long i = 0; i < calls; i++) {
        double start = now();
        score(bench, form);
        printf("%s%.9f", i == 0 ? "[" : ", ", now() - start);
    }
    printf("]\n");
}

static void answer_scores(struct bench *bench, enum form form) {
    score(bench, form);
    for (size_t i = 0; i < bench->request.candidate_count; i++)
        printf("%s%.9g", i == 0 ? "[" : ", ", (double)bench->scores[i]);
    printf("]\n");
}

static enum form form_named(const char *name) {
    static const char *const names[] = {[CACHED] = "cached", [RESTORED] = "restored", [UNCACHED] = "uncached"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (name != NULL && strcmp(name, names[i]) == 0)
            return (enum form)i;
    fail("cached, restored or uncached");
}

static void answer(struct bench *bench, char *line) {
    char *place = NULL;
    const char *what = strtok_r(line, " \n", &place);
    enum form form = form_named(strtok_r(NULL, " \n", &place));
    const char *calls = strtok_r(NULL, " \n", &place);
    if (what != NULL && strcmp(what, "time") == 0)
        answer_times(bench, form, calls != NULL ? strtoul(calls, NULL, 10) : 1);
    else
        answer_scores(bench, form);
    fflush(stdout);
}

int main(int count, char **arguments) {
    struct bench bench = {0};
    char line[128];
    bool reduced = count == 4 && strcmp(arguments[3], "reduced") == 0;
    if (count != 3 && !reduced)
        fail("MODEL_DIRECTORY REQUEST [reduced]");
    open_bench(&bench, arguments[1], arguments[2], reduced ? DIEN_REDUCED : DIEN_FLOAT32);
    printf("\"%s kernels, %s\"\n", dien_kernels_name(NULL), dien_precision_name(bench.model));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL)
        answer(&bench, line);
    return 0;
}
