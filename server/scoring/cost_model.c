/* cost_model.c: counting values in a body, and the rate. */
#include "server/scoring/cost_model.h"

#include "proto/protobuf_count.h"

#include <stdbool.h>
#include <string.h>

/* UNIT_SECONDS: one pair at the paper's shape on a core of 2024 with AVX-512. DECAY: the weight that older measurements
 * lose with each new one. OUTLIER: a measurement counts as at most this many times its estimate, because a thread that
 * was not given the processor measures its own wait; and as at least that part of it. */
#define UNIT_SECONDS 1e-7
#define DECAY        (1.0 / 64)
enum { START_UNITS = 100, OUTLIER = 8 };
/* Added to the pairs: for each request, for its bytes (parsing, embedding, the extractor GRU), and for the MLP of each
 * candidate. */
enum { REQUEST_UNITS = 256, BYTES_PER_UNIT = 2, MLP_UNITS = 8 };
/* Bytes that are parsed and no more, because their values are cut off or not scored. */
enum { IDLE_BYTES_PER_UNIT = 16 };
/* Assumed length of a history that the request does not send, because the server holds the user's state. */
enum { USUAL_HISTORY = 50 };
/* Assumed of a compressed body. A value is an id, its quotes and comma, and a share of the names. */
enum { BYTES_PER_VALUE = 8, MOST_CANDIDATES = 4096 };

/* Values in a JSON list: one more than its commas. */
static double values_in(const char *text, const char *end) {
    size_t commas = 0;
    for (; text < end; text++)
        commas += *text == ',';
    return (double)(commas + 1);
}

static double cost_of_values(size_t size, double behaviours, double candidates) {
    return REQUEST_UNITS + (double)size / BYTES_PER_UNIT + (behaviours + MLP_UNITS) * candidates;
}

/* Half of the values are behaviours, up to the usual number; the others are candidates, up to a number that limits
 * usually allow. */
double cost_guess_compressed(size_t decoded_size) {
    double values = (double)decoded_size / BYTES_PER_VALUE;
    double behaviours = values / 2 < USUAL_HISTORY ? values / 2 : USUAL_HISTORY;
    double candidates = values - behaviours < MOST_CANDIDATES ? values - behaviours : MOST_CANDIDATES;
    return cost_of_values(decoded_size, behaviours, candidates);
}

double cost_guess_update(size_t decoded_size) {
    return cost_of_values(decoded_size, 0, 0);
}

/* A letter that is written as an escape, such as "c\\u0061ndidates": no encoder does so, and a name may hide in it. */
static bool has_escaped_letter(const char *body, size_t size) {
    const char *end = body + size, *next = body;
    while (next < end && (next = memchr(next, '\\', (size_t)(end - next))) != NULL) {
        if (end - next >= 5 && memcmp(next + 1, "u00", 3) == 0 && next[4] >= '4' && next[4] <= '7')
            return true;
        next += 2;
    }
    return false;
}

static bool stands_twice(const char *first, const char *end, const char *name, size_t length) {
    return first != NULL && memmem(first + length, (size_t)(end - first) - length, name, length) != NULL;
}

double cost_guess(enum proto_format format, const char *body, size_t size) {
    double behaviours = USUAL_HISTORY, candidates = 0; /* values of all fields */
    if (format == PROTO_PROTOBUF) {
        struct protobuf_counts counts = protobuf_count_values(body, size);
        if (counts.has_history)
            behaviours =
                (double)(counts.history + 1); /* as JSON counts, so that a unit is equal work in both formats */
        candidates = (double)counts.candidates;
    } else {
        /* In columns or in rows, the values of a group stand between its name and the other's name, or the end. */
        const char *end = body + size;
        const char *history_name = memmem(body, size, "\"history\"", 9);
        const char *candidates_name = memmem(body, size, "\"candidates\"", 12);
        if (has_escaped_letter(body, size) || stands_twice(candidates_name, end, "\"candidates\"", 12) ||
            stands_twice(history_name, end, "\"history\"", 9)) {
            double most = values_in(body, end) / 2; /* of a product of two groups */
            return cost_of_values(size, most > USUAL_HISTORY ? most : USUAL_HISTORY, most);
        }
        if (candidates_name != NULL && history_name != NULL)
            behaviours = values_in(history_name, history_name < candidates_name ? candidates_name : end);
        if (candidates_name != NULL)
            candidates =
                values_in(candidates_name, history_name != NULL && candidates_name < history_name ? history_name : end);
    }
    return cost_of_values(size, behaviours, candidates);
}

/* Values of a table whose columns count with at most `most` values each. */
static double values_of(const struct proto_table *table, size_t most) {
    size_t count = 0;
    for (size_t i = 0; i < table->columns; i++)
        count += table->column[i].count < most ? table->column[i].count : most;
    return (double)count;
}

struct cost_work cost_work_expected(const struct dien_model *model, const struct proto_request *request,
                                    size_t held_length) {
    struct cost_work work = {.scored = 1};
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests);
    for (size_t i = 0; i < count; i++)
        work.length = interests[i].max_length > work.length ? interests[i].max_length : work.length;
    if (held_length > work.length)
        held_length = work.length;
    bool is_held = !request->history.present && (request->has_user_id || request->has_history_token);
    if (is_held)
        work.held = held_length > 0 ? (double)(held_length * request->candidates.columns) : USUAL_HISTORY;
    return work;
}

double cost_of_work(const struct proto_request *request, size_t size, const struct cost_work *work) {
    const struct proto_table *history = &request->history, *append = &request->history_append;
    double behaviours = history->present ? values_of(history, work->length) + 1 : work->held;
    double candidates = values_of(&request->candidates, SIZE_MAX) * work->scored;
    double sent =
        values_of(history, SIZE_MAX) + values_of(append, SIZE_MAX) + values_of(&request->candidates, SIZE_MAX);
    double used = values_of(history, work->length) + values_of(append, work->length) + candidates;
    double idle = sent > 0 ? (double)size * (1 - used / sent) : 0;
    double units = cost_of_values(size, behaviours, candidates);
    return units - idle / BYTES_PER_UNIT + idle / IDLE_BYTES_PER_UNIT;
}

double cost_of_candidate(const struct dien_model *model, const struct dien_user *user) {
    const struct dien_interest *interests;
    size_t count = dien_interests(model, &interests), length = MLP_UNITS;
    for (size_t i = 0; i < count; i++)
        length += dien_user_length(user, i);
    return (double)length;
}

struct cost_rate cost_rate_start(void) {
    return (struct cost_rate){START_UNITS * UNIT_SECONDS, START_UNITS};
}

void cost_learn(struct cost_rate *rate, double units, double seconds) {
    double expected = cost_seconds(rate, units), most = OUTLIER * expected, least = expected / OUTLIER;
    seconds = seconds > most ? most : seconds < least ? least : seconds;
    rate->seconds += seconds - DECAY * rate->seconds;
    rate->units += units - DECAY * rate->units;
}
