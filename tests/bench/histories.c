/* histories.c: a history store of many users: bytes of a user, opening, reads in and out of memory, appends a second.
 *
 *   histories fill|measure WHERE [--users N] [--length T] [--seconds S] [--events 0|1] [--csv FILE]
 *
 * WHERE is lmdb:PATH or the address of a Redis; to be filled it must be empty. Every user has T behaviours of one
 * field, whose ids are integers below a million. With --events 1 each came by an event, whose id of 16 characters is
 * kept.
 *
 * Reads and appends are of users drawn at random, 1 or OUTSTANDING calls at a time, for --seconds each. Cold:
 * the file's pages are dropped before the store is opened, and each user is read once.
 */
#include "proto/history_record.h"
#include "server/base/loop.h"
#include "server/histories/history_store.h"
#include "tests/bench/bench.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OUTSTANDING = 64, SAMPLES_MOST = 1 << 20, COLD_MOST = 20000, EVENT_ID_SIZE = 17, NAME_SIZE = 24 };

struct bench {
    struct history_store_options options;
    struct history_counts counts;
    struct loop_turns turns;
    struct loop *loop;
    struct history_store *store;
    struct arena arena;
    const char *file; /* of LMDB, else NULL */
    size_t users, length;
    double seconds;
    bool with_events;
    size_t imported;
    struct proto_value *values; /* of one change */
    char name[NAME_SIZE];
    uint64_t random;
    FILE *csv;
};

/* Calls of one kind: as many at a time as `outstanding`, until the time is up or `most` were begun. */
struct run {
    struct bench *bench;
    bool appends;
    size_t outstanding, most, begun, done;
    double until;
    double *took; /* seconds of each, the first SAMPLES_MOST */
};

struct ask {
    struct run *run;
    double began;
};

/* ---- the loop, whose handlers have nothing to do here */

static void nothing(void *context) {
    (void)context;
}

static int tick(void *context) {
    (void)context;
    return LOOP_TICK_MILLISECONDS;
}

static void no_signal(void *context, int signal) {
    (void)context;
    (void)signal;
}

/* ---- users */

static struct proto_string text_of(const char *text) {
    return (struct proto_string){text, strlen(text)};
}

/* The numbers come in no order, as the ids of real users do, so that pages of the file are split as there. */
static struct proto_string name_of(struct bench *bench, size_t user) {
    snprintf(bench->name, sizeof bench->name, "user-%016llx", (unsigned long long)mix(user));
    return text_of(bench->name);
}

static void change_of(struct bench *bench, size_t length, struct history_change *change) {
    char id[EVENT_ID_SIZE];
    for (size_t i = 0; i < length; i++)
        bench->values[i] =
            (struct proto_value){.kind = PROTO_INTEGER, .integer = (int64_t)random_below(&bench->random, 1000000)};
    snprintf(id, sizeof id, "%016llx", (unsigned long long)random_bits(&bench->random));
    const struct proto_column column = {text_of("item"), length, bench->values};
    const struct history_list list = {.name = text_of("clicks"), .length = length, .columns = 1, .column = &column};
    const struct history_addition addition = {bench->with_events ? text_of(id) : text_of(""), 1, &list};
    struct history_place place;
    *change = (struct history_change){.replaces = false};
    require(history_addition_encode(&addition, 1024, &bench->arena, &change->encoded, &place) == HISTORY_FAULT_NONE,
            "a change is encoded");
}

static bool next_user(void *context, struct proto_string *user, struct proto_string *record) {
    struct bench *bench = context;
    if (bench->imported == bench->users)
        return false;
    arena_reset(&bench->arena);
    size_t count = bench->with_events ? bench->length : 1;
    struct history_change *changes = arena_array(&bench->arena, count, sizeof *changes);
    require(changes != NULL, "memory suffices");
    for (size_t i = 0; i < count; i++)
        change_of(bench, bench->length / count, &changes[i]);
    enum history_merge merged =
        history_record_merge((struct proto_string){NULL, 0}, changes, count, &bench->options.limits,
                             random_bits(&bench->random) | 1, 1700000000000, &bench->arena, record);
    require(merged == HISTORY_MERGED, "a record is made");
    *user = name_of(bench, bench->imported++);
    return true;
}

/* ---- calls */

static void begin_call(struct ask *ask);

static void on_result(void *context, struct history_result *result) {
    struct ask *ask = context;
    struct run *run = ask->run;
    require(result->status == HISTORY_DONE, result->detail);
    require(run->appends || result->record != NULL, "the user is known");
    free(result->record);
    if (run->done < SAMPLES_MOST)
        run->took[run->done] = now() - ask->began;
    run->done++;
    if (now() < run->until && run->begun < run->most)
        begin_call(ask);
    else if (run->done == run->begun)
        loop_stop(run->bench->loop);
}

static void begin_call(struct ask *ask) {
    struct run *run = ask->run;
    struct bench *bench = run->bench;
    struct proto_string user = name_of(bench, random_below(&bench->random, bench->users));
    run->begun++;
    ask->began = now();
    if (run->appends) {
        struct history_change change;
        arena_reset(&bench->arena);
        change_of(bench, 1, &change);
        history_store_append(bench->store, user, &change, 1, 0, false, on_result, ask);
    } else {
        history_store_get(bench->store, user, 0, on_result, ask);
    }
}

/* Seconds until the store is open and has answered a first read. */
static double open_store(struct bench *bench, double sync_seconds) {
    char error[512] = "";
    const struct loop_handlers handlers = {.context = bench,
                                           .timer = nothing,
                                           .wake = nothing,
                                           .tick = tick,
                                           .signal = no_signal,
                                           .timer_name = "bench",
                                           .turns = &bench->turns};
    double first;
    struct run run = {.bench = bench, .outstanding = 1, .most = 1, .took = &first};
    struct ask ask = {.run = &run};
    bench->options.sync_seconds = sync_seconds;
    bench->loop = loop_new(&handlers);
    require(bench->loop != NULL, "a loop is made");
    double began = now();
    bench->store = history_store_open(&bench->options, bench->loop, error, sizeof error);
    require(bench->store != NULL, error);
    begin_call(&ask);
    loop_run(bench->loop);
    return now() - began;
}

static void close_store(struct bench *bench) {
    history_store_close(bench->store);
    loop_free(bench->loop);
}

static void report(const struct bench *bench, const char *what, const char *sync, size_t outstanding, size_t count,
                   double seconds, double median, double late, double bytes) {
    printf("%-22s %-9s %3zu at a time %10.0f a second   p50 %9.1f us   p99 %9.1f us\n", what, sync, outstanding,
           seconds > 0 ? (double)count / seconds : 0, 1e6 * median, 1e6 * late);
    fflush(stdout);
    if (bench->csv != NULL)
        fprintf(bench->csv, "%s,%s,%zu,%zu,%d,%zu,%zu,%.3f,%.1f,%.1f,%.0f\n", what, sync, bench->users, bench->length,
                bench->with_events, outstanding, count, seconds, 1e6 * median, 1e6 * late, bytes);
}

static void measure(struct bench *bench, const char *what, const char *sync, bool appends, size_t outstanding,
                    size_t most) {
    double *took = allocate(SAMPLES_MOST, sizeof *took);
    struct ask asks[OUTSTANDING];
    struct run run = {.bench = bench, .appends = appends, .outstanding = outstanding, .most = most, .took = took};
    double began = now();
    run.until = began + bench->seconds;
    for (size_t i = 0; i < outstanding && i < most; i++) {
        asks[i] = (struct ask){.run = &run};
        begin_call(&asks[i]);
    }
    loop_run(bench->loop);
    double seconds = now() - began;
    size_t count = run.done < SAMPLES_MOST ? run.done : SAMPLES_MOST;
    double median = median_of(took, count);
    report(bench, what, sync, outstanding, run.done, seconds, median, took[count * 99 / 100], 0);
    free(took);
}

/* ---- the file */

static double file_bytes(const char *path) {
    struct stat state;
    require(stat(path, &state) == 0, "the file is there");
    return 512.0 * (double)state.st_blocks;
}

/* Only pages that no process maps and that are on the disk can be dropped. */
static void drop_pages(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    require(file >= 0 && fdatasync(file) == 0 && posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0,
            "the file's pages are dropped");
    close(file);
}

static void fill(struct bench *bench) {
    char error[512] = "";
    struct history_store *store = history_store_open(&bench->options, NULL, error, sizeof error);
    require(store != NULL, error);
    double began = now();
    if (!history_store_import(store, next_user, bench, error, sizeof error))
        require(false, error);
    double seconds = now() - began;
    history_store_close(store);
    double bytes = bench->file != NULL ? file_bytes(bench->file) : 0;
    if (bench->file != NULL)
        printf("%zu users of %zu behaviours: %.0f bytes a user\n", bench->users, bench->length,
               bytes / (double)bench->users);
    report(bench, "import", "-", 1, bench->users, seconds, 0, 0, bytes);
}

static void measure_all(struct bench *bench) {
    static const struct {
        const char *name;
        double seconds;
    } syncs[] = {{"commit", 0}, {"1s", 1}};
    double opening = open_store(bench, 0);
    report(bench, "open and first read", "-", 1, 1, opening, opening, opening, 0);
    measure(bench, "read", "-", false, 1, SIZE_MAX);
    measure(bench, "read", "-", false, OUTSTANDING, SIZE_MAX);
    close_store(bench);
    for (size_t i = 0; i < (bench->file != NULL ? 2 : 1); i++) {
        const char *name = bench->file != NULL ? syncs[i].name : "-";
        open_store(bench, syncs[i].seconds);
        measure(bench, "append", name, true, 1, SIZE_MAX);
        measure(bench, "append", name, true, OUTSTANDING, SIZE_MAX);
        close_store(bench);
    }
    if (bench->file == NULL)
        return;
    drop_pages(bench->file);
    opening = open_store(bench, 0);
    report(bench, "open cold", "-", 1, 1, opening, opening, opening, 0);
    measure(bench, "read cold", "-", false, 1, COLD_MOST);
    close_store(bench);
}

int main(int count, char **arguments) {
    static struct bench bench;
    bool fills = count > 2 && strcmp(arguments[1], "fill") == 0;
    if (count < 3 || (!fills && strcmp(arguments[1], "measure") != 0)) {
        fprintf(stderr, "histories fill|measure WHERE [--users N] [--length T] [--seconds S] [--events 0|1] "
                        "[--csv FILE]\n");
        return 2;
    }
    const char *csv = text_option(arguments, "--csv", NULL), *where = arguments[2];
    static const char lmdb[] = "lmdb:";
    bench.file = strncmp(where, lmdb, sizeof lmdb - 1) == 0 ? where + sizeof lmdb - 1 : NULL;
    bench.users = (size_t)number_option(arguments, "--users", 1e6);
    bench.length = (size_t)number_option(arguments, "--length", 50);
    bench.seconds = number_option(arguments, "--seconds", 5);
    bench.with_events = number_option(arguments, "--events", 1) != 0;
    bench.random = fills ? 1 : 2; /* so that no event of a measurement has an id of the first ones */
    bench.options = (struct history_store_options){
        .where = where,
        .prefix = "",
        .timeout = 60,
        .map_bytes = (size_t)64 << 30,
        .limits = {.keep = 1000, .dedupe = 1024, .user_bytes = 1 << 20},
        .counts = &bench.counts,
    };
    require(bench.users > 0 && bench.length > 0, "the options make sense");
    if (csv != NULL && (bench.csv = fopen(csv, "w")) == NULL)
        require(false, "the CSV can be written");
    if (bench.csv != NULL)
        fprintf(bench.csv, "what,sync,users,length,events,outstanding,count,seconds,p50_us,p99_us,file_bytes\n");
    bench.values = allocate(bench.length, sizeof *bench.values);
    arena_init(&bench.arena, 0, 4 << 20);
    if (fills)
        fill(&bench);
    else
        measure_all(&bench);
    if (bench.csv != NULL)
        fclose(bench.csv);
    arena_free(&bench.arena);
    free(bench.values);
    return 0;
}
