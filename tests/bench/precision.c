/* precision.c: what the reduced precision changes of a model's scores, and what it saves.
 *
 *   precision MODEL_DIRECTORY REQUESTS
 *
 * REQUESTS is a file in the form of samples.json; its scores are not looked at. Every request is scored in float32 and
 * in reduced precision, in turns, on one thread, without a cache. One line of CSV: precision, requests, scores, largest
 * difference, share of the ten best that agree (- where no request has more than ten), share of attention scores below
 * the threshold of skipping, share of steps that no candidate of a batch attends to, seconds of scoring in float32 and
 * in reduced precision.
 */
#include "model/kernels/kernels.h"
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
    size_t small, attended;  /* attention scores */
    size_t skipped, steps;   /* of a batch of candidates */
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

/* Whether all of a batch pay less attention to a step than counts; adds up those who do. */
static bool is_skipped(const float *attention, size_t candidates, size_t length, struct tally *tally) {
    size_t small = 0;
    for (size_t i = 0; i < candidates; i++)
        small += fabsf(attention[i * length]) < DIEN_SKIPPED_ATTENTION / (float)length;
    tally->small += small;
    tally->attended += candidates;
    return small == candidates;
}

static void count_skipped(const struct request_scored *scored, struct tally *tally) {
    size_t batch = (size_t)BLOCKS * LANES;
    for (size_t i = 0; i < scored->interest_count; i++) {
        const struct proto_interest *interest = &scored->interests[i];
        for (size_t first = 0; interest->attention != NULL && first < scored->candidate_count; first += batch) {
            size_t left = scored->candidate_count - first, candidates = left < batch ? left : batch;
            for (size_t step = 0; step < interest->length; step++, tally->steps++)
                tally->skipped += is_skipped(interest->attention + first * interest->length + step, candidates,
                                             interest->length, tally);
        }
    }
}

static bool score_both(struct scorer *scorers, const struct proto_request *request, struct tally *tally) {
    struct request_scored scored[PRECISIONS];
    for (size_t i = 0; i < PRECISIONS; i++) {
        struct problem problem = {0};
        arena_reset(&scorers[i].arena);
        if (!request_run(&scorers[i], request, &scored[i], &problem)) {
            fprintf(stderr, "request %zu%s: %s\n", tally->requests, problem.pointer, problem.detail);
            return false;
        }
        tally->seconds[i] += scored[i].seconds[PHASE_SCORE];
    }
    compare(scored[0].scores, scored[1].scores, scored[0].candidate_count, tally);
    if (!dien_reduced(scorers[1].model).skips)
        return true;
    struct proto_request explained = *request;
    struct problem problem = {0};
    explained.explain = true;
    if (!request_run(&scorers[0], &explained, &scored[0], &problem))
        return false;
    count_skipped(&scored[0], tally);
    return true;
}

static double share(size_t part, size_t whole) {
    return whole > 0 ? (double)part / (double)whole : 0;
}

static void print_row(const char *precision, const struct tally *tally) {
    printf("%s,%zu,%zu,%.2e,", precision, tally->requests, tally->scores, tally->largest);
    if (tally->compared > 0)
        printf("%.5f", share(tally->agreed, tally->compared));
    else
        printf("-");
    printf(",%.4f,%.4f,%.3f,%.3f\n", share(tally->small, tally->attended), share(tally->skipped, tally->steps),
           tally->seconds[0], tally->seconds[1]);
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
