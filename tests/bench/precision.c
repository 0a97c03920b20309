/* precision.c: how much reduced precision changes a model's scores, and how much time it saves.
 *
 *   precision MODEL_DIRECTORY REQUESTS
 *
 * REQUESTS is a file in the form of samples.json; its scores are ignored. Every request is scored in float32 and in
 * reduced precision, in turns, on one thread, without a cache. The output is one line of CSV: precision, requests,
 * scores, largest difference, share of the ten best candidates that agree (- where no request has more than ten),
 * seconds of scoring in float32 and in reduced precision.
 */
#include "proto/json_decode.h"
#include "server/scoring/request.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 10, PRECISIONS = 2 };

struct tally {
    size_t requests, scores;
    double largest;
    size_t agreed, compared; /* of the ten best */
    double seconds[PRECISIONS];
};

/* How many candidates score better than this one; ties by position, as the server ranks. */
static size_t rank_of(const float *scores, size_t count, size_t i) {
    size_t rank = 0;
    for (size_t j = 0; j < count; j++)
        rank += scores[j] > scores[i] || (scores[j] == scores[i] && j < i);
    return rank;
}

static void compare(const float *exact, const float *reduced, size_t count, struct tally *tally) {
    for (size_t i = 0; i < count; i++) {
        tally->largest = fmax(tally->largest, fabs((double)exact[i] - (double)reduced[i]));
        bool best = count > TOP && rank_of(exact, count, i) < TOP;
        tally->compared += best;
        tally->agreed += best && rank_of(reduced, count, i) < TOP;
    }
    tally->scores += count;
    tally->requests++;
}

static bool score_both(struct scorer *scorers, const struct proto_request *request, struct tally *tally) {
    struct request scored[PRECISIONS];
    for (size_t i = 0; i < PRECISIONS; i++) {
        scored[i] = (struct request){.decoded = *request};
        arena_reset(&scorers[i].arena);
        if (!request_run(&scorers[i], &scored[i])) {
            fprintf(stderr, "request %zu%s: %s\n", tally->requests, scored[i].problem.pointer,
                    scored[i].problem.detail);
            return false;
        }
        tally->seconds[i] += scored[i].summary.seconds[PHASE_SCORE];
    }
    compare(scored[0].scores, scored[1].scores, scored[0].resolved.candidate_count, tally);
    return true;
}

static void print_row(const char *precision, const struct tally *tally) {
    printf("%s,%zu,%zu,%.2e,", precision, tally->requests, tally->scores, tally->largest);
    if (tally->compared > 0)
        printf("%.5f", (double)tally->agreed / (double)tally->compared);
    else
        printf("-");
    printf(",%.3f,%.3f\n", tally->seconds[0], tally->seconds[1]);
}

static char *read_file(const char *path, size_t *size) {
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    FILE *memory = open_memstream(&text, size);
    if (file == NULL || memory == NULL)
        return NULL;
    for (int byte; (byte = fgetc(file)) != EOF;)
        fputc(byte, memory);
    fclose(file);
    fclose(memory);
    return text;
}

static bool open_scorers(const char *directory, struct scorer *scorers) {
    static const enum dien_precision precisions[PRECISIONS] = {DIEN_FLOAT32, DIEN_REDUCED};
    const struct request_limits none = {.max_candidates = SIZE_MAX, .max_history = SIZE_MAX, .memory = 0};
    for (size_t i = 0; i < PRECISIONS; i++) {
        struct dien_error error = {""};
        struct dien_model *model = dien_open_as(directory, precisions[i], &error);
        if (model == NULL || !scorer_init(&scorers[i], model, &none)) {
            fprintf(stderr, "%s: %s\n", directory, error.message);
            return false;
        }
    }
    return true;
}

int main(int count, char **arguments) {
    struct scorer scorers[PRECISIONS];
    if (count != 3) {
        fprintf(stderr, "precision MODEL_DIRECTORY REQUESTS\n");
        return 2;
    }
    json_decode_init();
    size_t size = 0, samples_count = 0;
    char *text = read_file(arguments[2], &size);
    const struct proto_sample *samples = NULL;
    struct problem problem = {0};
    struct arena memory;
    arena_init(&memory, 0, 0);
    if (text == NULL || !open_scorers(arguments[1], scorers) ||
        !json_decode_samples(text, size, &memory, &samples, &samples_count, &problem)) {
        fprintf(stderr, "%s%s: %s\n", arguments[2], problem.pointer, problem.detail);
        return 1;
    }
    struct tally tally = {0};
    for (size_t i = 0; i < samples_count; i++)
        if (!score_both(scorers, &samples[i].request, &tally))
            return 1;
    print_row(dien_precision_name(scorers[1].model), &tally);
    return 0;
}
