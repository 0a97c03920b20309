/* comparison.c: differences, overlaps and rank correlations, and the guard's verdict. */
#include "server/scoring/comparison.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const compared_names[COMPARED] = {[COMPARED_LIVE] = "live", [COMPARED_CANDIDATE] = "candidate"};

const char *const shadow_end_names[SHADOW_ENDS] = {[SHADOW_COMPARED] = "compared",
                                                   [SHADOW_BUSY] = "busy",
                                                   [SHADOW_INTERRUPTED] = "interrupted",
                                                   [SHADOW_NO_HISTORY] = "no-history",
                                                   [SHADOW_REFUSED] = "refused"};

const double comparison_difference_bounds[COMPARISON_DIFFERENCES] = {
    0, 1e-7, 1e-6, 1e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1};
const double comparison_score_bounds[COMPARISON_SCORES] = {0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15,
                                                           0.2,   0.25,  0.3,   0.4,  0.5,  0.6,  0.7,  0.8,  0.9, 1};
const size_t comparison_tops[COMPARISON_TOPS] = {1, 5, 10};

#define TIME_STEP  1.05 /* the ratio of two neighbouring bounds */
#define TIME_FIRST 1e-6 /* seconds */
#define QUANTILE   0.99

void comparison_init(struct comparison *comparison) {
    memset(comparison, 0, sizeof *comparison);
    pthread_mutex_init(&comparison->mutex, NULL);
}

void comparison_free(struct comparison *comparison) {
    pthread_mutex_destroy(&comparison->mutex);
}

uint64_t comparison_begin(struct comparison *comparison) {
    pthread_mutex_lock(&comparison->mutex);
    memset(&comparison->counts, 0, sizeof comparison->counts);
    uint64_t round = ++comparison->round;
    pthread_mutex_unlock(&comparison->mutex);
    return round;
}

/* The counts of a round, locked; NULL and unlocked when the round is over. */
static struct comparison_counts *open_round(struct comparison *comparison, uint64_t round) {
    pthread_mutex_lock(&comparison->mutex);
    if (comparison->round == round)
        return &comparison->counts;
    pthread_mutex_unlock(&comparison->mutex);
    return NULL;
}

static size_t bucket_of(double value, const double *bounds, size_t count) {
    size_t bucket = 0;
    while (bucket < count && value > bounds[bucket])
        bucket++;
    return bucket;
}

/* ---- scores and orders */

/* As replies are ranked: highest first, ties by position. */
static int by_rank(const void *left, const void *right) {
    const struct comparison_place *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->index < b->index ? -1 : 1;
}

/* room[r].index is the item of rank r, and room[i].rank the rank of item i. */
static void rank_scores(const float *scores, size_t count, struct comparison_place *room) {
    for (size_t i = 0; i < count; i++)
        room[i] = (struct comparison_place){.score = scores[i], .index = (uint32_t)i};
    qsort(room, count, sizeof *room, by_rank);
    for (size_t rank = 0; rank < count; rank++)
        room[room[rank].index].rank = (uint32_t)rank;
}

/* Of the first items of one order, the part that is among the first of the other one. */
static double overlap_of(const struct comparison_place *live, const struct comparison_place *candidate, size_t count,
                         size_t top) {
    size_t common = 0;
    top = top < count ? top : count;
    for (size_t rank = 0; rank < top; rank++)
        common += candidate[live[rank].index].rank < top;
    return (double)common / (double)top;
}

/* Spearman's rank correlation. Ranks have no ties, since equal scores are in the request's order. */
static double correlation_of(const struct comparison_place *live, const struct comparison_place *candidate,
                             size_t count) {
    double squares = 0, n = (double)count;
    for (size_t i = 0; i < count; i++) {
        double distance = (double)live[i].rank - (double)candidate[i].rank;
        squares += distance * distance;
    }
    return 1 - 6 * squares / (n * (n * n - 1));
}

void comparison_add_scores(struct comparison *comparison, uint64_t round, const float *live, const float *candidate,
                           size_t count, struct comparison_place *room) {
    uint64_t differences[COMPARISON_DIFFERENCES + 1] = {0}, scores[COMPARED][COMPARISON_SCORES + 1] = {{0}};
    double difference_sum = 0, score_sum[COMPARED] = {0};
    if (count == 0)
        return;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)live[i] - (double)candidate[i]);
        differences[bucket_of(difference, comparison_difference_bounds, COMPARISON_DIFFERENCES)]++;
        scores[COMPARED_LIVE][bucket_of(live[i], comparison_score_bounds, COMPARISON_SCORES)]++;
        scores[COMPARED_CANDIDATE][bucket_of(candidate[i], comparison_score_bounds, COMPARISON_SCORES)]++;
        difference_sum += difference;
        score_sum[COMPARED_LIVE] += live[i];
        score_sum[COMPARED_CANDIDATE] += candidate[i];
    }
    rank_scores(live, count, room);
    rank_scores(candidate, count, room + count);
    double correlation = count > 1 ? correlation_of(room, room + count, count) : 0;

    struct comparison_counts *counts = open_round(comparison, round);
    if (counts == NULL)
        return;
    for (size_t i = 0; i <= COMPARISON_DIFFERENCES; i++)
        counts->differences[i] += differences[i];
    counts->difference_sum += difference_sum;
    for (size_t m = 0; m < COMPARED; m++) {
        for (size_t i = 0; i <= COMPARISON_SCORES; i++)
            counts->scores[m][i] += scores[m][i];
        counts->score_sum[m] += score_sum[m];
    }
    for (size_t t = 0; t < COMPARISON_TOPS; t++)
        counts->overlap_sum[t] += overlap_of(room, room + count, count, comparison_tops[t]);
    counts->requests++;
    counts->correlation_sum += correlation;
    counts->correlations += count > 1;
    pthread_mutex_unlock(&comparison->mutex);
}

/* ---- time */

static size_t step_of(double seconds) {
    if (!(seconds > TIME_FIRST))
        return 0;
    double step = ceil(log(seconds / TIME_FIRST) / log(TIME_STEP));
    return step < COMPARISON_TIME_STEPS - 1 ? (size_t)step : COMPARISON_TIME_STEPS - 1;
}

void comparison_add_seconds(struct comparison *comparison, uint64_t round, enum compared of, double seconds) {
    size_t step = step_of(seconds), bucket = bucket_of(seconds, histogram_bounds, HISTOGRAM_BUCKETS);
    struct comparison_counts *counts = open_round(comparison, round);
    if (counts == NULL)
        return;
    counts->time_steps[of][step]++;
    counts->seconds[of][bucket]++;
    counts->seconds_sum[of] += seconds;
    pthread_mutex_unlock(&comparison->mutex);
}

static uint64_t times_of(const struct comparison_counts *counts, enum compared of) {
    uint64_t all = 0;
    for (size_t i = 0; i < COMPARISON_TIME_STEPS; i++)
        all += counts->time_steps[of][i];
    return all;
}

double comparison_p99(const struct comparison_counts *counts, enum compared of) {
    uint64_t all = times_of(counts, of), below = 0;
    size_t step = 0;
    if (all == 0)
        return 0;
    while (step < COMPARISON_TIME_STEPS - 1 && (double)(below += counts->time_steps[of][step]) < QUANTILE * (double)all)
        step++;
    return TIME_FIRST * pow(TIME_STEP, (double)step);
}

/* ---- requests */

void comparison_add_shadow(struct comparison *comparison, uint64_t round, enum shadow_end end) {
    struct comparison_counts *counts = open_round(comparison, round);
    if (counts == NULL)
        return;
    counts->shadows[end]++;
    pthread_mutex_unlock(&comparison->mutex);
}

void comparison_add_canary(struct comparison *comparison, uint64_t round, bool rescued) {
    struct comparison_counts *counts = open_round(comparison, round);
    if (counts == NULL)
        return;
    counts->canary_requests += !rescued;
    counts->canary_rescued += rescued;
    counts->no_numbers += rescued;
    pthread_mutex_unlock(&comparison->mutex);
}

void comparison_add_no_number(struct comparison *comparison, uint64_t round) {
    struct comparison_counts *counts = open_round(comparison, round);
    if (counts == NULL)
        return;
    counts->no_numbers++;
    pthread_mutex_unlock(&comparison->mutex);
}

void comparison_read(struct comparison *comparison, struct comparison_counts *counts) {
    pthread_mutex_lock(&comparison->mutex);
    *counts = comparison->counts;
    pthread_mutex_unlock(&comparison->mutex);
}

/* ---- the guard */

bool comparison_condemns(const struct comparison_counts *counts, const struct candidate_guard *guard,
                         enum candidate_drop *reason, char *text, size_t size) {
    uint64_t items = 0;
    if (!guard->on)
        return false;
    if (counts->no_numbers > 0) {
        *reason = DROP_NO_NUMBER;
        snprintf(text, size, "The candidate's scores of %llu requests are not all numbers.",
                 (unsigned long long)counts->no_numbers);
        return true;
    }
    for (size_t i = 0; i <= COMPARISON_DIFFERENCES; i++)
        items += counts->differences[i];
    double mean = items > 0 ? counts->difference_sum / (double)items : 0;
    if (guard->difference > 0 && counts->requests >= guard->after_requests && mean > guard->difference) {
        *reason = DROP_DIFFERENT;
        snprintf(text, size, "The candidate's scores differ by %.3g on average over %llu requests; the bound is %.3g.",
                 mean, (unsigned long long)counts->requests, guard->difference);
        return true;
    }
    if (guard->p99_factor == 0 || times_of(counts, COMPARED_LIVE) < guard->after_requests ||
        times_of(counts, COMPARED_CANDIDATE) < guard->after_requests)
        return false;
    double live = comparison_p99(counts, COMPARED_LIVE), candidate = comparison_p99(counts, COMPARED_CANDIDATE);
    if (candidate <= guard->p99_factor * live)
        return false;
    *reason = DROP_SLOW;
    snprintf(text, size,
             "The candidate's 99th percentile of scoring is %.3g ms, the live model's %.3g ms; the factor is %.3g.",
             1e3 * candidate, 1e3 * live, guard->p99_factor);
    return true;
}
