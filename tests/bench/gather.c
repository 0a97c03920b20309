/* gather.c: what the embeddings of rows cost that are in no cache: a request on one thread, its rows drawn anew for
 * each call, beside the same request again and again.
 *
 *   gather MODEL_DIRECTORY [--repeats N] [--history T] [--candidates C] [--csv FILE]
 *
 * The model should have a table much larger than the last cache (reference_shape.py --items 4000000 makes one of 288
 * MB). Both kinds of calls take turns; the figures are medians.
 */
#include "tests/bench/bench.h"

enum { REPEATS_MAX = 10001, KINDS = 2 };
static const char *const kinds[KINDS] = {"the same rows", "rows drawn anew"};

struct bench {
    struct dien_model *model;
    struct dien_scratch *scratch;
    struct dien_user *user;
    size_t history, candidates, repeats;
    struct dien_column *behaviours, *users, *targets;
    float *scores;
    double build[KINDS][REPEATS_MAX], score[KINDS][REPEATS_MAX];
};

static void draw(struct bench *bench, uint64_t seed) {
    columns_draw(bench->model, DIEN_BEHAVIOUR, 3 * seed, bench->history, bench->behaviours);
    columns_draw(bench->model, DIEN_USER, 3 * seed + 1, 1, bench->users);
    columns_draw(bench->model, DIEN_CANDIDATE, 3 * seed + 2, bench->candidates, bench->targets);
}

static void call(struct bench *bench, double *build, double *score) {
    struct dien_columns history = {bench->behaviours};
    struct dien_request request = {
        .user = {bench->users}, .candidates = {bench->targets}, .candidate_count = bench->candidates};
    double start = now();
    dien_user_build(bench->model, bench->scratch, &history, bench->user);
    double built = now();
    dien_score(bench->model, bench->scratch, bench->user, &request, bench->scores, NULL);
    *score = now() - built;
    *build = built - start;
}

/* Every page of the tables into this process's map: a page's first touch costs more than a miss, and comes but once. */
static void touch(struct bench *bench) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(bench->model, DIEN_CANDIDATE, &fields), most = 0;
    enum { APART = 32 }; /* rows; a page has more */
    double unused;
    for (size_t i = 0; i < width; i++)
        most = (size_t)fields[i]->rows > most ? (size_t)fields[i]->rows : most;
    draw(bench, 0);
    for (size_t i = 0; i < dien_fields(bench->model, DIEN_BEHAVIOUR, &fields); i++)
        bench->behaviours[i].count = 0; /* without a history a call is short */
    dien_fields(bench->model, DIEN_CANDIDATE, &fields);
    for (size_t row = 0; row < most; row += bench->candidates * APART) {
        for (size_t i = 0; i < width; i++)
            for (size_t j = 0; j < bench->candidates; j++)
                ((int32_t *)(uintptr_t)bench->targets[i].rows)[j] =
                    (int32_t)((row + j * APART) % (size_t)fields[i]->rows);
        call(bench, &unused, &unused);
    }
}

static void measure(struct bench *bench) {
    double unused;
    for (size_t i = 0; i < bench->repeats; i++) {
        draw(bench, 0);
        call(bench, &unused, &unused);
        call(bench, &bench->build[0][i], &bench->score[0][i]);
        draw(bench, i + 1);
        call(bench, &bench->build[1][i], &bench->score[1][i]);
    }
}

static void print(const char *what, const struct bench *bench, double times[KINDS][REPEATS_MAX], FILE *csv) {
    double same = 1e6 * median_of(times[0], bench->repeats);
    for (size_t kind = 0; kind < KINDS; kind++) {
        double median = 1e6 * median_of(times[kind], bench->repeats);
        printf("%-8s T=%zu C=%zu %-16s %10.2f us  %+8.2f us\n", what, bench->history, bench->candidates, kinds[kind],
               median, median - same);
        if (csv != NULL)
            fprintf(csv, "%s,%zu,%zu,%s,%.3f,%.3f\n", what, bench->history, bench->candidates, kinds[kind], median,
                    median - same);
    }
}

int main(int count, char **arguments) {
    static struct bench bench;
    require(count >= 2, "the first argument is a model directory");
    const char *path = text_option(arguments, "--csv", NULL);
    FILE *csv = path != NULL ? fopen(path, "w") : NULL;
    require(path == NULL || csv != NULL, "the CSV can be written");
    bench.repeats = (size_t)number_option(arguments, "--repeats", 301);
    bench.history = (size_t)number_option(arguments, "--history", 100);
    bench.candidates = (size_t)number_option(arguments, "--candidates", 1000);
    require(bench.repeats > 0 && bench.repeats <= REPEATS_MAX, "repeats are 1 to 10,001");
    bench.model = open_model(arguments[1]);
    bench.scratch = dien_scratch_new(bench.model);
    bench.behaviours = columns_new(bench.model, DIEN_BEHAVIOUR, bench.history);
    bench.users = columns_new(bench.model, DIEN_USER, 1);
    bench.targets = columns_new(bench.model, DIEN_CANDIDATE, bench.candidates);
    bench.user = allocate(1, dien_user_bytes(bench.model, &bench.history));
    bench.scores = allocate(bench.candidates, sizeof *bench.scores);
    touch(&bench);
    measure(&bench);
    if (csv != NULL)
        fprintf(csv, "what,T,C,rows,median_us,more_us\n");
    print("build", &bench, bench.build, csv);
    print("score", &bench, bench.score, csv);
    return csv != NULL && fclose(csv) != 0;
}
