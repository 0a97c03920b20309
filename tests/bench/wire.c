/* wire.c: what a request costs around the scoring call: decode, resolve, rank and encode beside the user state and the
 * scores, in one run on one thread.
 *
 *   wire MODEL_DIRECTORY [--repeats N] [--history T] [--candidates C] [--csv FILE]
 *
 * The model has the fields of tests/bench/reference_shape.py. Each kind of request is run N times, all kinds taking
 * turns, so that a slow moment of the machine hits them all; the figures are medians. Only one of the two decoders is
 * in the whole request; jansson's, alone, stands beside it, as do both on ids that are strings.
 */
#include "model/dien.h"
#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "proto/score.pb-c.h"
#include "server/scoring/request.h"
#include "server/users/user_cache.h"
#include "tests/bench/timing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { REPEATS_MAX = 10001, COLUMNS = 9 };
enum column { TOTAL = SCORING_PHASES, RANK, JANSSON, SHARE };
static const char *const column_names[COLUMNS] = {"decode", "resolve", "state",   "score", "encode",
                                                  "total",  "rank",    "jansson", "wire_%"};

static size_t repeats = 301, history = 100, candidates = 100;
static struct arena spare;

static void stop_if(bool wrong, const char *what) {
    if (!wrong)
        return;
    fprintf(stderr, "wire: %s\n", what);
    exit(1);
}

/* ---- bodies ---- */

struct kind {
    const char *name;
    bool rows, cached;
    enum proto_format format;
    char *body;
    size_t size;
    double (*seconds)[REPEATS_MAX]; /* [COLUMNS] */
};

static unsigned int item(size_t i) {
    return (unsigned int)(1 + i * 7919 % 9999);
}

static unsigned int category(size_t i) {
    return (unsigned int)(1 + i * 131 % 499);
}

static void put_columns(FILE *out, size_t count) {
    fputs("{\"item\": [", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s%u", i > 0 ? ", " : "", item(i));
    fputs("], \"category\": [", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s%u", i > 0 ? ", " : "", category(i));
    fputs("]}", out);
}

static void put_rows(FILE *out, size_t count) {
    fputs("[", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "%s{\"item\": %u, \"category\": %u}", i > 0 ? ", " : "", item(i), category(i));
    fputs("]", out);
}

static void set_integers(Dien__Column *column, const char *name, unsigned int (*id)(size_t i), size_t count) {
    union {
        const char *text;
        uint8_t *bytes;
    } same = {name};
    dien__column__init(column);
    column->name = (ProtobufCBinaryData){strlen(name), same.bytes};
    column->n_integers = count;
    column->integers = calloc(count + 1, sizeof *column->integers);
    if (column->integers == NULL) /* said here, where clang-tidy sees it */
        exit(1);
    for (size_t i = 0; i < count; i++)
        column->integers[i] = id(i);
}

static unsigned int user(size_t i) {
    return 17 + (unsigned int)i;
}

/* The same request as a message. */
static void make_message(struct kind *kind) {
    Dien__Column columns[5], *places[5] = {&columns[0], &columns[1], &columns[2], &columns[3], &columns[4]};
    Dien__Table tables[3];
    Dien__ScoreRequest message;
    dien__score_request__init(&message);
    for (size_t i = 0; i < 3; i++)
        dien__table__init(&tables[i]);
    set_integers(&columns[0], "user", user, 1);
    set_integers(&columns[1], "item", item, history);
    set_integers(&columns[2], "category", category, history);
    set_integers(&columns[3], "item", item, candidates);
    set_integers(&columns[4], "category", category, candidates);
    tables[0].columns = places;
    tables[0].n_columns = 1;
    tables[1].columns = places + 1;
    tables[2].columns = places + 3;
    tables[1].n_columns = tables[2].n_columns = 2;
    message.user = &tables[0];
    message.history = &tables[1];
    message.candidates = &tables[2];
    uint8_t id[] = {'u', '1', '7'};
    if (kind->cached) {
        message.user_id_there_case = DIEN__SCORE_REQUEST__USER_ID_THERE_USER_ID;
        message.user_id = (ProtobufCBinaryData){sizeof id, id};
    }
    kind->size = dien__score_request__get_packed_size(&message);
    kind->body = malloc(kind->size);
    stop_if(kind->body == NULL, "out of memory");
    dien__score_request__pack(&message, (uint8_t *)kind->body);
    for (size_t i = 0; i < 5; i++)
        free(columns[i].integers);
}

static void make_json(struct kind *kind) {
    FILE *out = open_memstream(&kind->body, &kind->size);
    stop_if(out == NULL, "out of memory");
    void (*put)(FILE *, size_t) = kind->rows ? put_rows : put_columns;
    fprintf(out, "{%s\"user\": {\"user\": 17}, \"history\": ", kind->cached ? "\"user_id\": \"u17\", " : "");
    put(out, history);
    fputs(", \"candidates\": ", out);
    put(out, candidates);
    fputs("}", out);
    fclose(out);
}

static void make_body(struct kind *kind) {
    if (kind->format == PROTO_PROTOBUF)
        make_message(kind);
    else
        make_json(kind);
    kind->seconds = calloc(COLUMNS, sizeof *kind->seconds);
    stop_if(kind->seconds == NULL, "out of memory");
}

/* ---- whole requests ---- */

static double time_of_tree(const struct kind *kind) {
    struct proto_request request;
    struct problem problem;
    arena_reset(&spare);
    double start = now();
    stop_if(!json_decode_request_tree(kind->body, kind->size, &spare, &request, &problem), "jansson refuses the body");
    return now() - start;
}

static void run_once(struct kind *kind, struct scorer *scorer, struct user_cache *cache, size_t repeat) {
    struct request request = {.format = kind->format, .body = kind->body, .size = kind->size};
    double(*seconds)[REPEATS_MAX] = kind->seconds, rest = 0;
    scorer->cache = cache;
    double start = now();
    request_score(scorer, &request);
    double total = now() - start;
    stop_if(request.problem.kind != PROBLEM_NONE, request.problem.detail);
    for (int phase = 0; phase < SCORING_PHASES; phase++) {
        seconds[phase][repeat] = request.summary.seconds[phase];
        rest += request.summary.seconds[phase];
    }
    seconds[TOTAL][repeat] = total;
    seconds[RANK][repeat] = total - rest; /* and what little else has no phase */
    seconds[JANSSON][repeat] = kind->format == PROTO_JSON ? time_of_tree(kind) : 0;
    seconds[SHARE][repeat] =
        1e-4 * (total - request.summary.seconds[PHASE_STATE] - request.summary.seconds[PHASE_SCORE]) / total;
}

static void print_kind(struct kind *kind, FILE *csv) {
    printf("%-22s", kind->name);
    for (int column = 0; column < COLUMNS; column++) {
        double value = 1e6 * median_of(kind->seconds[column], repeats);
        printf(" %9.2f", value);
        if (csv != NULL)
            fprintf(csv, "\"%s\",%zu,%zu,%zu,%s,%.3f\n", kind->name, history, candidates, kind->size,
                    column_names[column], value);
    }
    printf("\n");
}

/* ---- ids that are strings: decoding and encoding alone ---- */

static char *string_body(size_t *size) {
    char *body;
    FILE *out = open_memstream(&body, size);
    stop_if(out == NULL, "out of memory");
    for (size_t group = 0; group < 2; group++) {
        fputs(group == 0 ? "{\"history\": {\"item\": [" : "]}, \"candidates\": {\"item\": [", out);
        for (size_t i = 0; i < (group == 0 ? history : candidates); i++)
            fprintf(out, "%s\"B00%07u\"", i > 0 ? ", " : "", item(i));
    }
    fputs("]}}", out);
    fclose(out);
    return body;
}

static double time_of_encode(const struct proto_request *request, struct proto_result *results) {
    const struct proto_interest interest = {.name = "clicks", .received = history, .length = history};
    struct proto_reply reply = {.model = "bench",
                                .version = "1",
                                .user_state = "cached",
                                .candidates = &request->candidates,
                                .interest_count = 1,
                                .interests = &interest,
                                .result_count = candidates,
                                .results = results};
    double start = now();
    stop_if(json_encode_reply(&reply, &spare).data == NULL, "out of memory");
    return now() - start;
}

static void measure_strings(FILE *csv) {
    static double scanned[REPEATS_MAX], parsed[REPEATS_MAX], encoded[REPEATS_MAX];
    size_t size;
    char *body = string_body(&size);
    struct proto_result *results = calloc(candidates, sizeof *results);
    stop_if(results == NULL, "out of memory");
    for (size_t i = 0; i < candidates; i++)
        results[i] = (struct proto_result){i, 1.0F / (1.37F + (float)i)};
    for (size_t i = 0; i < repeats; i++) {
        struct proto_request request;
        struct problem problem;
        arena_reset(&spare);
        double start = now();
        stop_if(!json_decode_request_tree(body, size, &spare, &request, &problem), "jansson refuses the body");
        parsed[i] = now() - start;
        arena_reset(&spare);
        start = now();
        stop_if(!json_decode_request(body, size, &spare, &request, &problem), "the body is refused");
        scanned[i] = now() - start;
        encoded[i] = time_of_encode(&request, results);
    }
    double figures[] = {1e6 * median_of(scanned, repeats), 1e6 * median_of(parsed, repeats),
                        1e6 * median_of(encoded, repeats)};
    printf("%-22s decode %.2f, by jansson %.2f, encode %.2f\n", "string ids, columns", figures[0], figures[1],
           figures[2]);
    for (size_t i = 0; csv != NULL && i < 3; i++)
        fprintf(csv, "string ids columns,%zu,%zu,%zu,%s,%.3f\n", history, candidates, size,
                (const char *[]){"decode", "jansson", "encode"}[i], figures[i]);
    free(results);
    free(body);
}

/* ---- all ---- */

static void measure(struct scorer *scorer, struct user_cache *cache, FILE *csv) {
    struct kind kinds[] = {{.name = "columns, cached", .cached = true},
                           {.name = "rows, cached", .rows = true, .cached = true},
                           {.name = "message, cached", .format = PROTO_PROTOBUF, .cached = true},
                           {.name = "columns, not cached"},
                           {.name = "rows, not cached", .rows = true},
                           {.name = "message, not cached", .format = PROTO_PROTOBUF}};
    enum { KINDS = sizeof kinds / sizeof *kinds, WARM = 20 };
    for (size_t kind = 0; kind < KINDS; kind++)
        make_body(&kinds[kind]);
    for (size_t i = 0; i < WARM + repeats; i++)
        for (size_t kind = 0; kind < KINDS; kind++)
            run_once(&kinds[kind], scorer, kinds[kind].cached ? cache : NULL, i < WARM ? 0 : i - WARM);
    printf("microseconds, medians of %zu; T = %zu, C = %zu\n%-22s", repeats, history, candidates, "");
    for (int column = 0; column < COLUMNS; column++)
        printf(" %9s", column_names[column]);
    printf("\n");
    for (size_t kind = 0; kind < KINDS; kind++) {
        print_kind(&kinds[kind], csv);
        free(kinds[kind].body);
        free(kinds[kind].seconds);
    }
    measure_strings(csv);
}

static const char *read_arguments(int count, char **arguments) {
    const char *csv = NULL;
    for (int i = 2; i + 1 < count; i += 2) {
        size_t number = strtoul(arguments[i + 1], NULL, 10);
        if (strcmp(arguments[i], "--csv") == 0)
            csv = arguments[i + 1];
        else if (strcmp(arguments[i], "--repeats") == 0)
            repeats = number;
        else if (strcmp(arguments[i], "--history") == 0)
            history = number;
        else if (strcmp(arguments[i], "--candidates") == 0)
            candidates = number;
        else
            stop_if(true, "options are --repeats, --history, --candidates and --csv");
    }
    stop_if(repeats < 1 || repeats > REPEATS_MAX || candidates < 1, "a number is out of range");
    return csv;
}

int main(int count, char **arguments) {
    stop_if(count < 2, "usage: wire MODEL_DIRECTORY [--repeats N] [--history T] [--candidates C] [--csv FILE]");
    const char *path = read_arguments(count, arguments);
    struct request_limits limits = {.max_candidates = 4096, .max_history = 65536, .memory = (size_t)256 << 20};
    struct dien_error error = {""};
    struct scorer scorer;
    json_decode_init();
    arena_init(&spare, 0, 4 << 20);
    struct dien_model *model = dien_open(arguments[1], &error);
    stop_if(model == NULL, error.message);
    struct user_cache *cache = user_cache_new((size_t)64 << 20, 0);
    stop_if(cache == NULL || !scorer_init(&scorer, model, &limits), "out of memory");
    scorer.version = 1;
    FILE *csv = path != NULL ? fopen(path, "w") : NULL;
    stop_if(path != NULL && csv == NULL, "the CSV file cannot be written");
    if (csv != NULL)
        fprintf(csv, "request,history,candidates,body_bytes,part,median_us\n");
    measure(&scorer, cache, csv);
    if (csv != NULL)
        fclose(csv);
    scorer_free(&scorer);
    user_cache_free(cache);
    dien_close(model);
    arena_free(&spare);
    return 0;
}
