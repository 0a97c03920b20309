/* user_cache.c: what a hit costs in its parts: to find a state, to copy it, to compare it with a history, to restore
 * it.
 *
 *   user_cache MODEL_DIRECTORY [--calls N] [--bytes N] [--no-huge 1] [--csv FILE]
 *
 * Entries hold cores of states of 50, 100 and 1,000 behaviours, and of 8 bytes, where hardly anything is copied: hash,
 * lock, find, touch. "few" users fit in the second-level cache of a core; "many" fill --bytes, which is more than any
 * cache holds, and are asked for in random order. The threads of a run ask at the same time, each for users at random;
 * nanoseconds are the time of one thread's turn divided by its calls, the middle of three turns. With more threads than
 * processors it includes waiting for a processor, so calls a second of all threads are given too. Cycles are of the
 * time stamp counter, which runs at one pace whatever the clock of the core does; none where there is no such counter.
 */
#include "proto/arena.h"
#include "server/users/user_entry.h"
#include "tests/bench/bench.h"

#include <pthread.h>
#include <sys/prctl.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

enum { THREADS_MOST = 8, TURNS = 3, SIZES = 4, FEW = 4, KEYS = 4096 };

static const size_t lengths[SIZES] = {0, 50, 100, 1000}; /* 0: an entry of 8 bytes */

static uint64_t cycles(void) {
#if defined(__x86_64__)
    return __rdtsc();
#else
    return 0;
#endif
}

struct bench {
    const struct dien_model *model;
    struct dien_scratch *scratch;
    struct user_cache *cache;
    FILE *csv;
    size_t calls, bytes, users, length, size;
    const void *core;
    void *memory; /* [size of a whole state] */
    struct dien_columns history;
    pthread_barrier_t barrier;
};

struct reader {
    struct bench *bench;
    pthread_t thread;
    uint64_t random;
    double nanoseconds, cycles; /* a call */
};

/* ---- reading ---- */

/* The ids of one thread's calls, made before the clock runs. */
struct id {
    char text[16];
};

static struct user_key key_of(size_t user, struct id *id) {
    return (struct user_key){id->text, (size_t)snprintf(id->text, sizeof id->text, "u%zu", user)};
}

static void *read_all(void *argument) {
    struct reader *reader = argument;
    struct bench *b = reader->bench;
    struct arena arena;
    struct user_copy copy = {0};
    struct id *ids = allocate(KEYS, sizeof *ids);
    struct user_key *keys = allocate(KEYS, sizeof *keys);
    double seconds = 0, ticks = 0;
    size_t held = 0, done = 0;
    arena_init(&arena, 0, 4 << 20);
    pthread_barrier_wait(&b->barrier);
    while (done < b->calls) {
        for (size_t i = 0; i < KEYS; i++)
            keys[i] = key_of(random_below(&reader->random, b->users), &ids[i]);
        double start = now();
        uint64_t before = cycles();
        for (size_t i = 0; i < KEYS; i++)
            held += user_cache_read(b->cache, keys[i], 1, &arena, &copy) == USER_HELD;
        ticks += (double)(cycles() - before);
        seconds += now() - start;
        done += KEYS;
    }
    require(held == done && copy.size == b->size, "every call is a hit");
    reader->nanoseconds = 1e9 * seconds / (double)done;
    reader->cycles = ticks / (double)done;
    arena_free(&arena);
    free(ids);
    free(keys);
    return NULL;
}

/* ---- what is done with a copy: on one that is near, as user_cache_read() leaves it ---- */

static void compare(struct bench *b) {
    require(dien_user_compare(b->model, b->core, &b->history) == DIEN_SAME, "the history is the state's");
}

static void restore(struct bench *b) {
    dien_user_restore(b->model, b->core, b->memory);
}

/* ---- rows of the table ---- */

static void report(const struct bench *b, const char *what, const char *users, size_t threads, double nanoseconds,
                   double ticks) {
    double a_second = 1e9 / nanoseconds * (double)threads;
    printf("%5zu %8zu  %-8s %-5s %2zu %10.0f %10.0f %12.0f\n", b->length, b->size, what, users, threads, nanoseconds,
           ticks, a_second);
    if (b->csv != NULL)
        fprintf(b->csv, "%zu,%zu,%s,%s,%zu,%zu,%.1f,%.1f,%.0f\n", b->length, b->size, what, users, b->users, threads,
                nanoseconds, ticks, a_second);
}

static void measure_reads(struct bench *b, const char *users, size_t threads) {
    struct reader readers[THREADS_MOST];
    double nanoseconds[TURNS * THREADS_MOST], ticks[TURNS * THREADS_MOST];
    for (size_t turn = 0; turn < TURNS; turn++) {
        pthread_barrier_init(&b->barrier, NULL, (unsigned)threads);
        for (size_t i = 0; i < threads; i++) {
            readers[i] = (struct reader){.bench = b, .random = mix(turn * THREADS_MOST + i)};
            require(pthread_create(&readers[i].thread, NULL, read_all, &readers[i]) == 0, "a thread starts");
        }
        for (size_t i = 0; i < threads; i++) {
            pthread_join(readers[i].thread, NULL);
            nanoseconds[turn * threads + i] = readers[i].nanoseconds;
            ticks[turn * threads + i] = readers[i].cycles;
        }
        pthread_barrier_destroy(&b->barrier);
    }
    report(b, "read", users, threads, median_of(nanoseconds, TURNS * threads), median_of(ticks, TURNS * threads));
}

static void measure_part(struct bench *b, const char *what, void (*part)(struct bench *)) {
    double nanoseconds[TURNS], ticks[TURNS];
    for (size_t turn = 0; turn < TURNS; turn++) {
        size_t count = b->calls / 16 + 1;
        double start = now();
        uint64_t before = cycles();
        for (size_t i = 0; i < count; i++)
            part(b);
        ticks[turn] = (double)(cycles() - before) / (double)count;
        nanoseconds[turn] = 1e9 * (now() - start) / (double)count;
    }
    report(b, what, "-", 1, median_of(nanoseconds, TURNS), median_of(ticks, TURNS));
}

/* ---- what is read ---- */

static void fill(struct bench *b, bool many) {
    size_t blocks = (sizeof(struct user_entry) + sizeof(struct id) + b->size) / BLOCK_ROOM + 1;
    b->users = many ? b->bytes / (blocks * BLOCK_BYTES) : FEW;
    b->cache = user_cache_new(b->bytes + b->bytes / 64 + USER_CACHE_MIN_BYTES, 0);
    require(b->cache != NULL && b->users > 0, "memory suffices");
    for (size_t user = 0; user < b->users; user++) {
        struct id id;
        struct single_flight flight;
        struct user_token token;
        struct user_key key = key_of(user, &id);
        require(single_flight_begin(b->cache, key, 1, NULL, &flight) &&
                    user_cache_store(b->cache, &flight, 1, b->core, b->size, &token),
                "a state is stored");
    }
    struct user_cache_counts counts;
    user_cache_count(b->cache, &counts);
    require(counts.evictions == 0, "all are held");
}

static void make_core(struct bench *b) {
    static const uint64_t tiny = 1;
    b->size = sizeof tiny;
    b->core = &tiny;
    if (b->length == 0)
        return;
    struct dien_column *columns = columns_new(b->model, DIEN_BEHAVIOUR, b->length);
    columns_draw(b->model, DIEN_BEHAVIOUR, 1, b->length, columns);
    b->history = (struct dien_columns){columns};
    void *whole = allocate(1, dien_user_bytes(b->model, &b->length));
    b->memory = allocate(1, dien_user_bytes(b->model, &b->length));
    b->core = dien_user_build(b->model, b->scratch, &b->history, whole);
    b->size = dien_user_core_bytes(b->core);
}

static void measure_length(struct bench *b) {
    static const char *const names[] = {"few", "many"};
    make_core(b);
    for (int many = 0; many < 2; many++) {
        fill(b, many);
        measure_reads(b, names[many], 1);
        measure_reads(b, names[many], THREADS_MOST);
        user_cache_free(b->cache);
    }
    if (b->length == 0)
        return;
    measure_part(b, "compare", compare);
    measure_part(b, "restore", restore);
}

int main(int count, char **arguments) {
    static struct bench b;
    if (count < 2) {
        fprintf(stderr, "user_cache MODEL_DIRECTORY [--calls N] [--bytes N] [--no-huge 1] [--csv FILE]\n");
        return 2;
    }
    if (number_option(arguments, "--no-huge", 0) > 0)
        prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    struct dien_model *model = open_model(arguments[1]);
    const char *csv = text_option(arguments, "--csv", NULL);
    b.model = model;
    b.scratch = dien_scratch_new(model);
    b.calls = (size_t)number_option(arguments, "--calls", 1 << 15);
    b.bytes = (size_t)number_option(arguments, "--bytes", 512 << 20);
    b.csv = csv != NULL ? fopen(csv, "w") : NULL;
    require(b.scratch != NULL && (csv == NULL || b.csv != NULL), "memory suffices, and the CSV can be written");
    printf("%5s %8s  %-8s %-5s %2s %10s %10s %12s\n", "T", "bytes", "part", "users", "n", "ns", "cycles", "calls/s");
    if (b.csv != NULL)
        fprintf(b.csv, "behaviours,bytes,part,users,user_count,threads,nanoseconds,tsc_cycles,calls_a_second\n");
    for (size_t i = 0; i < SIZES; i++) {
        b.length = lengths[i];
        measure_length(&b);
    }
    dien_scratch_free(b.scratch);
    dien_close(model);
    return b.csv != NULL && fclose(b.csv) != 0;
}
