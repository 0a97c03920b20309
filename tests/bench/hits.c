/* hits.c: what a held user state saves of a request, bytes in to bytes out.
 *
 *   hits MODEL_DIRECTORY [--repeats N] [--csv FILE]
 *
 * request_score() on the same user, history and candidates, in four ways that take turns within each repetition: by a
 * scorer without a cache; with one that holds the state; with its token in place of the history; and with the token and
 * one behaviour to append. Each way has a user of its own. JSON is in
 * columns; decode, resolve, rank and encode are included. Times are medians; ratios are medians of each repetition's
 * ratio to the first way.
 */
#include "server/scoring/request.h"
#include "tests/bench/bench.h"

#include <stdarg.h>

enum { REPEATS_MOST = 1001, SIZES = 3, BODY_MOST = 1 << 17 };

static const size_t lengths[SIZES] = {50, 100, 1000}, candidate_counts[SIZES] = {1, 10, 100};

enum way { UNCACHED, HELD, TOKEN, APPENDED, WAYS };
static const char *const names[WAYS] = {"uncached", "held", "held, by token", "one appended, by token"};
static const enum user_origin origins[WAYS] = {USER_COMPUTED, USER_CACHED, USER_CACHED, USER_EXTENDED};

struct bench {
    const struct dien_model *model;
    struct scorer with, without;
    size_t repeats, length, candidates;
    FILE *csv;
    struct dien_column *history, *targets;
    char *body;
    size_t size;
};

/* ---- the body of a request ---- */

static void __attribute__((format(printf, 2, 3))) write_text(struct bench *b, const char *format, ...) {
    va_list list;
    va_start(list, format);
    b->size += (size_t)vsnprintf(b->body + b->size, BODY_MOST - b->size, format, list);
    va_end(list);
    require(b->size < BODY_MOST, "a body has room");
}

static void write_columns(struct bench *b, const char *name, enum dien_group group, const struct dien_column *columns,
                          size_t first, size_t count) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(b->model, group, &fields);
    write_text(b, ", \"%s\": {", name);
    for (size_t i = 0; i < width; i++) {
        write_text(b, "%s\"%s\": [", i > 0 ? ", " : "", fields[i]->name);
        for (size_t j = first; j < first + count; j++)
            write_text(b, "%s%d", j > first ? ", " : "", (int)columns[i].rows[j]);
        write_text(b, "]");
    }
    write_text(b, "}");
}

/* `count` behaviours from `first` on, under that name; with a token, or without (NULL). */
static void write_body(struct bench *b, enum way user, const char *token, const char *name, size_t first,
                       size_t count) {
    b->size = 0;
    write_text(b, "{\"user_id\": \"%d-%zu\", \"user\": {\"user\": 1}", (int)user, b->length);
    if (token != NULL)
        write_text(b, ", \"history_token\": \"%.*s\"", USER_TOKEN_TEXT, token);
    if (count > 0)
        write_columns(b, name, DIEN_BEHAVIOUR, b->history, first, count);
    write_columns(b, "candidates", DIEN_CANDIDATE, b->targets, 0, b->candidates);
    write_text(b, "}");
}

/* ---- one turn ---- */

static void score(struct bench *b, struct scorer *scorer, enum user_origin origin, struct request *request) {
    *request = (struct request){.format = PROTO_JSON, .body = b->body, .size = b->size};
    request_score(scorer, request);
    if (request->problem.kind != PROBLEM_NONE)
        fprintf(stderr, "%s\n", request->problem.detail);
    require(request->problem.kind == PROBLEM_NONE && request->state.origin == origin,
            "a state has the origin expected");
}

static void take_token(const struct request *request, char *token) {
    static const char label[] = "\"token\":\"";
    const char *found = memmem(request->reply.data, request->reply.length, label, sizeof label - 1);
    require(found != NULL, "the reply has a token");
    if (found != NULL) /* clang-tidy does not know that require() ends */
        memcpy(token, found + sizeof label - 1, USER_TOKEN_TEXT);
}

/* The user's state is the history's, short of the last behaviour where one is to be appended; its token. */
static void hold(struct bench *b, enum way way, char *token) {
    struct request request;
    char id[48];
    struct user_key key = {id, (size_t)snprintf(id, sizeof id, "%d-%zu", (int)way, b->length)};
    user_cache_delete(b->with.cache, key);
    write_body(b, way, NULL, "history", 0, way == APPENDED ? b->length - 1 : b->length);
    score(b, &b->with, USER_COMPUTED, &request);
    take_token(&request, token);
}

static double time_of(struct bench *b, enum way way) {
    char token[USER_TOKEN_TEXT];
    struct request request;
    if (way != UNCACHED)
        hold(b, way, token);
    if (way == UNCACHED || way == HELD)
        write_body(b, way, NULL, "history", 0, b->length);
    else
        write_body(b, way, token, "history_append", b->length - 1, way == APPENDED ? 1 : 0);
    double start = now();
    score(b, way == UNCACHED ? &b->without : &b->with, origins[way], &request);
    return now() - start;
}

static void measure(struct bench *b) {
    static double times[WAYS][REPEATS_MOST], shares[REPEATS_MOST];
    for (int way = 0; way < WAYS; way++)
        time_of(b, (enum way)way);
    for (size_t i = 0; i < b->repeats; i++)
        for (int way = 0; way < WAYS; way++)
            times[way][i] = time_of(b, (enum way)way);
    for (int way = 0; way < WAYS; way++) {
        for (size_t i = 0; i < b->repeats; i++)
            shares[i] = times[way][i] / times[UNCACHED][i];
        double ratio = median_of(shares, b->repeats), seconds = 0;
        for (size_t i = 0; i < b->repeats; i++)
            shares[i] = times[way][i];
        seconds = median_of(shares, b->repeats);
        printf("%6zu %6zu  %-24s %10.1f %8.3f\n", b->length, b->candidates, names[way], 1e6 * seconds, ratio);
        if (b->csv != NULL)
            fprintf(b->csv, "%zu,%zu,\"%s\",%.2f,%.4f\n", b->length, b->candidates, names[way], 1e6 * seconds, ratio);
    }
}

static void open_scorer(const struct bench *b, struct scorer *scorer) {
    const struct request_limits limits = {.max_candidates = 4096, .max_history = 4096, .memory = 64 << 20};
    require(scorer_init(scorer, b->model, &limits), "memory suffices");
}

int main(int count, char **arguments) {
    static struct bench b;
    if (count < 2) {
        fprintf(stderr, "hits MODEL_DIRECTORY [--repeats 1..%d] [--csv FILE]\n", REPEATS_MOST);
        return 2;
    }
    struct dien_model *model = open_model(arguments[1]);
    const char *csv = text_option(arguments, "--csv", NULL);
    b.model = model;
    b.repeats = (size_t)number_option(arguments, "--repeats", 301);
    b.csv = csv != NULL ? fopen(csv, "w") : NULL;
    require(b.repeats >= 1 && b.repeats <= REPEATS_MOST, "the options make sense");
    require(csv == NULL || b.csv != NULL, "the CSV can be written");
    open_scorer(&b, &b.with);
    open_scorer(&b, &b.without);
    b.with.cache = user_cache_new(64 << 20, 0);
    b.with.version = 1;
    b.body = allocate(BODY_MOST, 1);
    b.history = columns_new(model, DIEN_BEHAVIOUR, lengths[SIZES - 1]);
    b.targets = columns_new(model, DIEN_CANDIDATE, candidate_counts[SIZES - 1]);
    columns_draw(model, DIEN_BEHAVIOUR, 1, lengths[SIZES - 1], b.history);
    columns_draw(model, DIEN_CANDIDATE, 2, candidate_counts[SIZES - 1], b.targets);
    require(b.with.cache != NULL, "memory suffices");
    printf("%6s %6s  %-24s %10s %8s\n", "T", "C", "state", "us", "ratio");
    if (b.csv != NULL)
        fprintf(b.csv, "behaviours,candidates,state,median_us,ratio_to_uncached\n");
    for (size_t i = 0; i < SIZES; i++)
        for (size_t j = 0; j < SIZES; j++) {
            b.length = lengths[i];
            b.candidates = candidate_counts[j];
            measure(&b);
        }
    user_cache_free(b.with.cache);
    scorer_free(&b.with);
    scorer_free(&b.without);
    dien_close(model);
    return b.csv != NULL && fclose(b.csv) != 0;
}
