/* million.c: does the cache of user states take the memory that it says, and no more, for as long as it runs?
 *
 *   million MODEL_DIRECTORY [--users N] [--length T] [--seconds S] [--threads N] [--rate N] [--csv FILE]
 *
 * First as many users as asked for come once each, with histories of one length, under a budget that holds half of
 * them. Then, for --seconds, users come and go: new ones, known ones with longer and shorter histories of 1 to LONGEST
 * behaviours, and users that are deleted; --rate a second at most (0: as fast as it goes). States are the model's own,
 * made by user_state_get().
 *
 * Required, else the exit status is 1: before the budget is reached no state is lost, and from an eighth of it on bytes
 * counted and growth of the process (resident set, above what it was before the cache was made) differ by at most 5 %;
 * behind it growth has ended; while users come and go the process stays within baseline and 110 % of the budget.
 */
#include "proto/arena.h"
#include "server/users/user_state.h"
#include "tests/bench/bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { THREADS_MOST = 64, LONGEST = 200, SLICES = 100, SAMPLES = 200, WARM = 50, NEWS = 30, DELETES = 10 };

struct world {
    const struct dien_model *model;
    struct user_cache *cache;
    size_t threads, users, length;
    double rate;               /* of all threads */
    atomic_size_t next, until; /* users that come */
    atomic_size_t calls, unkept;
    atomic_bool ends;
    size_t baseline;
    double start;
    FILE *csv;
};

struct worker {
    struct world *world;
    struct dien_scratch *scratch;
    struct arena arena;
    struct dien_column *columns;
    uint64_t random;
    pthread_t thread;
};

/* /proc/self/statm: pages in all, pages resident, and more. */
static size_t resident_bytes(void) {
    char text[128] = "", *end = text;
    FILE *file = fopen("/proc/self/statm", "r");
    require(file != NULL && fgets(text, sizeof text, file) != NULL, "/proc/self/statm can be read");
    fclose(file);
    strtoull(text, &end, 10);
    return strtoull(end, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

/* ---- a user comes ---- */

static struct user_key key_of(size_t user, char text[24]) {
    return (struct user_key){text, (size_t)snprintf(text, 24, "user-%zu", user)};
}

/* Is the state kept? Not when the user is deleted while it is made. */
static bool come(struct worker *worker, struct user_cache *cache, size_t user, size_t length) {
    char text[24];
    arena_reset(&worker->arena);
    columns_draw(worker->world->model, DIEN_BEHAVIOUR, user, length, worker->columns);
    struct dien_columns history = {worker->columns};
    struct state_builder builder = {worker->world->model, worker->scratch, &worker->arena, cache, 1};
    struct state_query query = {.key = key_of(user, text), .behaviours = &history};
    struct user_state state;
    require(user_state_get(&builder, &query, &state) == USER_READY, "a state is made");
    return state.kept;
}

static void *fill(void *argument) {
    struct worker *worker = argument;
    struct world *world = worker->world;
    for (size_t user; (user = atomic_fetch_add(&world->next, 1)) < atomic_load(&world->until);)
        require(come(worker, world->cache, user, world->length), "a state is kept");
    return NULL;
}

/* One of the users that came last. */
static size_t recent(struct worker *worker) {
    size_t came = atomic_load(&worker->world->next);
    return came - 1 - random_below(&worker->random, worker->world->users / 8 + 1);
}

static void *churn(void *argument) {
    struct worker *worker = argument;
    struct world *world = worker->world;
    char text[24];
    double due = now(), pause = world->rate > 0 ? (double)world->threads / world->rate : 0;
    while (!atomic_load(&world->ends)) {
        size_t draw = random_below(&worker->random, 100), length = 1 + random_below(&worker->random, LONGEST);
        if (draw < DELETES)
            user_cache_delete(world->cache, key_of(recent(worker), text));
        else if (!come(worker, world->cache, draw < DELETES + NEWS ? atomic_fetch_add(&world->next, 1) : recent(worker),
                       length))
            atomic_fetch_add(&world->unkept, 1);
        atomic_fetch_add(&world->calls, 1);
        due += pause;
        double wait = due - now();
        if (wait > 0)
            usleep((useconds_t)(1e6 * wait));
    }
    return NULL;
}

static void start(struct worker *workers, void *(*work)(void *)) {
    for (size_t i = 0; i < workers->world->threads; i++)
        require(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0, "a thread starts");
}

static void wait_for(struct worker *workers) {
    for (size_t i = 0; i < workers->world->threads; i++)
        pthread_join(workers[i].thread, NULL);
}

/* ---- what is seen ---- */

struct sample {
    struct user_cache_counts counts;
    size_t grown;
};

static struct sample sample(const struct world *world, const char *phase) {
    struct sample seen;
    user_cache_count(world->cache, &seen.counts);
    size_t resident = resident_bytes();
    seen.grown = resident > world->baseline ? resident - world->baseline : 0;
    const struct user_cache_counts *counts = &seen.counts;
    if (world->csv != NULL) {
        fprintf(world->csv, "%s,%.1f,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%zu,%zu\n", phase, now() - world->start,
                (size_t)world->next, (size_t)world->calls, (size_t)counts->entries, (size_t)counts->evictions,
                (size_t)counts->deleted, (size_t)counts->bytes, (size_t)counts->capacity, world->baseline, resident);
        fflush(world->csv);
    }
    return seen;
}

static void say(const char *what, const struct sample *seen) {
    const double mib = 1 << 20;
    printf("%-24s %9zu states, %8.1f MiB counted, %8.1f MiB grown, growth / counted %.3f\n", what,
           (size_t)seen->counts.entries, (double)seen->counts.bytes / mib, (double)seen->grown / mib,
           (double)seen->grown / (double)seen->counts.bytes);
}

/* All users that came are held. */
static void look_for_all(struct worker *worker) {
    struct world *world = worker->world;
    char text[24];
    arena_reset(&worker->arena);
    struct user_copy copy = {0};
    size_t held = 0, users = world->until;
    for (size_t user = 0; user < users; user++)
        held += user_cache_peek(world->cache, key_of(user, text), 1, &worker->arena, &copy) == USER_HELD;
    require(held == users, "every user is held before the budget is reached");
}

static void check_filling(const struct sample *seen, size_t came) {
    const struct user_cache_counts *counts = &seen->counts;
    double ratio = (double)seen->grown / (double)counts->bytes;
    require(counts->entries + counts->evictions == came, "each user is held or was evicted");
    if (counts->bytes > counts->capacity / 8)
        require(ratio > 0.95 && ratio < 1.05, "growth and bytes counted differ by at most 5 %");
}

/* ---- the two parts ---- */

static struct sample fill_all(struct worker *workers) {
    struct world *world = workers->world;
    struct sample seen = {0};
    bool quarter = false, full = false;
    for (size_t slice = 1; slice <= SLICES; slice++) {
        world->next = world->until;
        world->until = world->users * slice / SLICES;
        start(workers, fill);
        wait_for(workers);
        world->next = world->until;
        bool before = seen.counts.evictions > 0;
        struct sample last = seen;
        seen = sample(world, "fill");
        check_filling(&seen, world->until);
        if (!quarter && seen.counts.bytes > seen.counts.capacity / 4) {
            quarter = true;
            look_for_all(workers);
            say("a quarter full", &seen);
        }
        if (!before && seen.counts.evictions > 0) {
            full = true;
            say("last before it is full", &last);
            say("full", &seen);
            require(seen.counts.bytes > seen.counts.capacity / 1000 * 999, "no state goes while there is room");
        }
    }
    require(quarter && full, "the budget was reached");
    say("all users came", &seen);
    require(seen.grown < seen.counts.capacity + seen.counts.capacity / 50, "growth ends at the budget");
    return seen;
}

static void churn_for(struct worker *workers, double seconds) {
    struct world *world = workers->world;
    struct sample seen = {0};
    double begin = now();
    start(workers, churn);
    while (now() - begin < seconds) {
        usleep((useconds_t)(1e6 * seconds / SAMPLES) + 1000);
        seen = sample(world, "churn");
        require((double)seen.grown < 1.10 * (double)seen.counts.capacity, "the process stays within 110 % of budget");
    }
    world->ends = true;
    wait_for(workers);
    seen = sample(world, "end");
    say("after coming and going", &seen);
    printf("%zu calls in %.0f s, %zu evictions, %zu deleted\n", (size_t)world->calls, now() - begin,
           (size_t)seen.counts.evictions, (size_t)seen.counts.deleted);
    require(seen.counts.bytes > seen.counts.capacity / 10 * 9, "the budget is used");
    require(world->unkept <= seen.counts.deleted, "states are kept but of users that were deleted meanwhile");
    require(seen.counts.deleted > 0 && seen.counts.evictions > world->users / 2, "users came and went");
}

/* Bytes that one state of the length asked for takes. */
static size_t bytes_of_one(struct worker *worker) {
    char text[24];
    struct user_cache *cache = user_cache_new(USER_CACHE_MIN_BYTES, 0);
    require(cache != NULL, "memory suffices");
    require(come(worker, cache, worker->world->users, worker->world->length), "a state is kept");
    struct user_copy copy = {0};
    enum user_answer answer = user_cache_peek(cache, key_of(worker->world->users, text), 1, &worker->arena, &copy);
    require(answer == USER_HELD, "one state is held");
    user_cache_free(cache);
    return copy.bytes;
}

/* Each thread's memory is there before the baseline is taken, and so are the model's tables. */
static void warm_up(struct worker *worker, struct world *world, uint64_t seed) {
    *worker = (struct worker){.world = world, .random = seed, .scratch = dien_scratch_new(world->model)};
    require(worker->scratch != NULL, "memory suffices");
    arena_init(&worker->arena, 0, 4 << 20);
    worker->columns = columns_new(world->model, DIEN_BEHAVIOUR, LONGEST > world->length ? LONGEST : world->length);
    for (size_t i = 0; i < WARM; i++)
        come(worker, NULL, i, LONGEST > world->length ? LONGEST : world->length);
}

int main(int count, char **arguments) {
    static struct worker workers[THREADS_MOST];
    static struct world world;
    if (count < 2) {
        fprintf(stderr,
                "million MODEL_DIRECTORY [--users N] [--length T] [--seconds S] [--threads 1..%d] [--rate N] "
                "[--csv FILE]\n",
                THREADS_MOST);
        return 2;
    }
    struct dien_model *model = open_model(arguments[1]);
    const char *csv = text_option(arguments, "--csv", NULL);
    world.model = model;
    world.users = (size_t)number_option(arguments, "--users", 1e6);
    world.length = (size_t)number_option(arguments, "--length", 20);
    world.threads = (size_t)number_option(arguments, "--threads", 8);
    world.rate = number_option(arguments, "--rate", 0);
    require(world.users > 0 && world.threads > 0 && world.threads <= THREADS_MOST, "the options make sense");
    if (csv != NULL && (world.csv = fopen(csv, "w")) == NULL)
        require(false, "the CSV can be written");
    if (world.csv != NULL)
        fprintf(world.csv, "phase,seconds,users,calls,states,evictions,deleted,bytes_counted,budget,resident_before,"
                           "resident\n");
    for (size_t i = 0; i < world.threads; i++)
        warm_up(&workers[i], &world, i);
    size_t each = bytes_of_one(workers);
    world.start = now();
    world.baseline = resident_bytes();
    world.cache = user_cache_new(world.users / 2 * each + USER_CACHE_MIN_BYTES, 0);
    require(world.cache != NULL, "memory suffices");
    printf("%zu users, %zu bytes a state of %zu behaviours, %zu threads\n", world.users, each, world.length,
           world.threads);
    fill_all(workers);
    churn_for(workers, number_option(arguments, "--seconds", 600));
    if (world.csv != NULL)
        fclose(world.csv);
    user_cache_free(world.cache);
    for (size_t i = 0; i < world.threads; i++) {
        dien_scratch_free(workers[i].scratch);
        arena_free(&workers[i].arena);
    }
    dien_close(model);
    return 0;
}
