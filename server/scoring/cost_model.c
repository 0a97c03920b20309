/* cost_model.c: guess and learn. */
#include "server/scoring/cost_model.h"

#include "proto/protobuf_count.h"

#include <string.h>

/* UNIT_SECONDS: a core of 2024 with AVX-512 takes it for a pair at the authors' shape. OUTLIER: one measurement counts
 * at most as so many times what was expected of it, so that a thread that did not get the processor proves little. */
#define UNIT_SECONDS 1e-7
#define FORGET       (1.0 / 64)
enum { START_UNITS = 100, OUTLIER = 8 };
/* Besides pairs: each request, each byte of it (parsing, embedding, the extractor GRU), a candidate's MLP. */
enum { REQUEST_UNITS = 256, BYTES_A_UNIT = 2, MLP_UNITS = 8 };
/* USUAL_HISTORY: of a request that names a state in place of sending its history. */
enum { USUAL_HISTORY = 50 };

/* Values of all fields of a group. */
struct counts {
    double history, candidates;
};

/* Values in a list: what stands between commas. */
static double values_in(const char *text, const char *end) {
    size_t commas = 0;
    for (; text < end; text++)
        commas += *text == ',';
    return (double)(commas + 1);
}

static const char *find(const char *body, size_t size, const char *word) {
    return memmem(body, size, word, strlen(word));
}

/* Values of both kinds, in columns or in rows, stand between their own name and the other's, or the end. */
static struct counts count_json(const char *body, size_t size) {
    const char *end = body + size;
    const char *history = find(body, size, "\"history\""), *candidates = find(body, size, "\"candidates\"");
    struct counts counts = {.history = USUAL_HISTORY};
    if (candidates == NULL)
        return counts;
    if (history != NULL)
        counts.history = values_in(history, history < candidates ? candidates : end);
    counts.candidates = values_in(candidates, history != NULL && candidates < history ? history : end);
    return counts;
}

/* As many as of the same request in JSON: a unit is then the same work in both. */
static struct counts count_message(const char *body, size_t size) {
    struct proto_tally tally = proto_tally_protobuf(body, size);
    return (struct counts){tally.has_history ? (double)(tally.history + 1) : USUAL_HISTORY, (double)tally.candidates};
}

double cost_guess(enum proto_format format, const char *body, size_t size) {
    struct counts counts = format == PROTO_PROTOBUF ? count_message(body, size) : count_json(body, size);
    return REQUEST_UNITS + (double)size / BYTES_A_UNIT + counts.history * counts.candidates;
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
    double most = OUTLIER * cost_seconds(rate, units);
    rate->seconds += (seconds < most ? seconds : most) - FORGET * rate->seconds;
    rate->units += units - FORGET * rate->units;
}
