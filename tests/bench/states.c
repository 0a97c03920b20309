/* states.c: what is worth keeping of a user state: its core, from which the rest is derived anew, or all of it?
 *
 *   states MODEL_DIRECTORY [--repeats N] [--csv FILE]
 *
 * For histories of 50, 100 and 1,000 behaviours: the time to build a state from the history, to restore it from its
 * core and to copy it whole; the bytes of each; then the time until C candidates are scored, with a state that was
 * built, restored or copied. What is copied or restored comes from memory that is in cache ("near") or from so many
 * states in turn that no cache holds them ("far"): that is what a hit of a cache with many users reads.
 *
 * The ways take turns within each repetition, so that a slow moment of the machine hits them all. Times are medians;
 * ratios are medians of each repetition's ratio to the same with a built state.
 */
#include "tests/bench/bench.h"

enum { REPEATS_MOST = 1001, FAR_BYTES = 96 << 20, WAYS = 6, SIZES = 3 };

static const size_t lengths[SIZES] = {50, 100, 1000}, candidate_counts[SIZES] = {1, 10, 100};

/* Where a state comes from. */
enum origin { BUILT, RESTORED, COPIED };
static const struct way {
    const char *name;
    enum origin origin;
    bool far;
} ways[WAYS] = {
    {"built", BUILT, false},
    {"restored near", RESTORED, false},
    {"restored far", RESTORED, true},
    {"whole copied near", COPIED, false},
    {"whole copied far", COPIED, true},
    {"there already", BUILT, false},
};
enum { THERE = WAYS - 1 }; /* nothing to do for the state: what scoring alone takes */

struct bench {
    const struct dien_model *model;
    struct dien_scratch *scratch;
    size_t repeats;
    FILE *csv;
    struct dien_columns history;
    struct dien_request request;
    float *scores;
    size_t bytes, core_bytes;
    struct dien_user *kept;     /* one whole state */
    char *far_core, *far_whole; /* many, one behind the other */
    size_t core_count, whole_count, core_turn, whole_turn;
    void *memory; /* where the request's state is made */
};

/* ---- one turn ---- */

static const void *next_core(struct bench *b) {
    return b->far_core + b->core_turn++ % b->core_count * b->core_bytes;
}

static const void *next_whole(struct bench *b) {
    return b->far_whole + b->whole_turn++ % b->whole_count * b->bytes;
}

/* `near` is in the caches as a request's core would be that was copied out just now. */
static const struct dien_user *state_of(struct bench *b, const struct way *way) {
    switch (way->origin) {
    case BUILT:
        return way == &ways[THERE] ? b->kept : dien_user_build(b->model, b->scratch, &b->history, b->memory);
    case RESTORED:
        return dien_user_restore(b->model, way->far ? next_core(b) : b->kept, b->memory);
    case COPIED:
        break;
    }
    return memcpy(b->memory, way->far ? next_whole(b) : b->kept, b->bytes);
}

static double time_of(struct bench *b, const struct way *way, bool scores) {
    double start = now();
    const struct dien_user *user = state_of(b, way);
    if (scores)
        dien_score(b->model, b->scratch, user, &b->request, b->scores, NULL);
    else
        __asm__ volatile("" : : "r"(user) : "memory");
    return now() - start;
}

/* Median seconds, and median ratio to the first way, of each. */
static void measure(struct bench *b, bool scores, double *seconds, double *ratios) {
    static double times[WAYS][REPEATS_MOST], shares[REPEATS_MOST];
    for (size_t way = 0; way < WAYS; way++)
        time_of(b, &ways[way], scores);
    for (size_t i = 0; i < b->repeats; i++)
        for (size_t way = 0; way < WAYS; way++)
            times[way][i] = time_of(b, &ways[way], scores);
    for (size_t way = WAYS; way-- > 0;) {
        for (size_t i = 0; i < b->repeats; i++)
            shares[i] = times[way][i] / times[0][i];
        ratios[way] = median_of(shares, b->repeats);
    }
    for (size_t way = 0; way < WAYS; way++)
        seconds[way] = median_of(times[way], b->repeats);
}

/* ---- the tables ---- */

static size_t bytes_of(const struct bench *b, const struct way *way) {
    return way->origin == BUILT ? 0 : way->origin == RESTORED ? b->core_bytes : b->bytes;
}

static void report(struct bench *b, size_t length, size_t candidates) {
    double seconds[WAYS], ratios[WAYS];
    measure(b, candidates > 0, seconds, ratios);
    for (size_t way = 0; way < WAYS; way++) {
        if (candidates == 0 && way == THERE)
            continue;
        printf("%6zu %6zu  %-18s %9zu %10.2f %8.3f\n", length, candidates, ways[way].name, bytes_of(b, &ways[way]),
               1e6 * seconds[way], ratios[way]);
        if (b->csv != NULL)
            fprintf(b->csv, "%zu,%zu,%s,%zu,%.3f,%.4f\n", length, candidates, ways[way].name, bytes_of(b, &ways[way]),
                    1e6 * seconds[way], ratios[way]);
    }
}

static char *many(const void *state, size_t bytes, size_t *count) {
    *count = FAR_BYTES / bytes + 1;
    char *memory = allocate(*count, bytes);
    for (size_t i = 0; i < *count; i++)
        memcpy(memory + i * bytes, state, bytes);
    return memory;
}

static void prepare(struct bench *b, size_t length) {
    b->history = (struct dien_columns){columns_new(b->model, DIEN_BEHAVIOUR, length)};
    columns_draw(b->model, DIEN_BEHAVIOUR, length, length, (struct dien_column *)(uintptr_t)b->history.column);
    b->bytes = dien_user_bytes(b->model, &length);
    b->kept = allocate(1, b->bytes);
    b->memory = allocate(1, b->bytes);
    dien_user_build(b->model, b->scratch, &b->history, b->kept);
    b->core_bytes = dien_user_core_bytes(b->kept);
    b->far_core = many(b->kept, b->core_bytes, &b->core_count);
    b->far_whole = many(b->kept, b->bytes, &b->whole_count);
    dien_user_restore(b->model, (const struct dien_user *)(const void *)b->far_core, b->memory);
    require(memcmp(b->memory, b->kept, b->bytes) == 0, "a restored state is the one that was built");
}

static void measure_length(struct bench *b, size_t length) {
    prepare(b, length);
    report(b, length, 0);
    for (size_t i = 0; i < SIZES; i++) {
        size_t count = candidate_counts[i];
        struct dien_column *user = columns_new(b->model, DIEN_USER, 1);
        struct dien_column *candidates = columns_new(b->model, DIEN_CANDIDATE, count);
        columns_draw(b->model, DIEN_USER, 1, 1, user);
        columns_draw(b->model, DIEN_CANDIDATE, 2, count, candidates);
        b->request = (struct dien_request){.user = {user}, .candidates = {candidates}, .candidate_count = count};
        b->scores = allocate(count, sizeof *b->scores);
        report(b, length, count);
        free(user);
        free(candidates);
        free(b->scores);
    }
    free(b->kept);
    free(b->memory);
    free(b->far_core);
    free(b->far_whole);
}

int main(int count, char **arguments) {
    struct bench b = {0};
    if (count < 2) {
        fprintf(stderr, "states MODEL_DIRECTORY [--repeats 1..%d] [--csv FILE]\n", REPEATS_MOST);
        return 2;
    }
    struct dien_model *model = open_model(arguments[1]);
    const char *csv = text_option(arguments, "--csv", NULL);
    b.model = model;
    b.scratch = dien_scratch_new(model);
    b.repeats = (size_t)number_option(arguments, "--repeats", 301);
    b.csv = csv != NULL ? fopen(csv, "w") : NULL;
    require(b.scratch != NULL && b.repeats >= 1 && b.repeats <= REPEATS_MOST, "the options make sense");
    require(csv == NULL || b.csv != NULL, "the CSV can be written");
    printf("%6s %6s  %-18s %9s %10s %8s\n", "T", "C", "state", "bytes", "us", "ratio");
    if (b.csv != NULL)
        fprintf(b.csv, "behaviours,candidates,state,bytes_kept,median_us,ratio_to_built\n");
    for (size_t i = 0; i < SIZES; i++)
        measure_length(&b, lengths[i]);
    dien_scratch_free(b.scratch);
    dien_close(model);
    return b.csv != NULL && fclose(b.csv) != 0;
}
