/* policies.c: the hit ratios of the server's cache of user states, beside LRU and a plain S3-FIFO, by simulation.
 *
 *   policies [--requests N] [--seed N] [--workload NAME] [--csv FILE]
 *   policies --check      the simulator against traces worked by hand, the server's cache against the simulator
 *
 * Each workload's trace of requests is served by caches of 1, 5, 10 and 50 % of the users, in 64 shards. This repeats
 * the table of the server's own cache in eviction.md, which has the method and the figures of three more policies.
 * S3-FIFO: Yang et al., SOSP 2023.
 */
#include "server/users/user_cache.h"
#include "tests/bench/bench.h"

#include <math.h>

enum {
    USERS = 1000000,
    SHARDS = 64,
    SESSION_REQUESTS = 8,   /* mean of a session's requests */
    SCAN_PERIOD = 50000,    /* requests from the start of one scan to the next */
    SCAN_LENGTH = 10000,    /* of those, the last: 20 % */
    BATCH_PERIOD = 4000000, /* requests from the start of one batch job to the next */
    SERVER_STATE = 3400, /* bytes of a state in the server's cache: seven blocks, as at T = 20 of the reference shape */
    SERVER_ENTRY = 3584,
};
static const uint32_t NONE = UINT32_MAX;

static double random_unit(uint64_t *state) {
    return (double)(random_bits(state) >> 11) * 0x1p-53;
}

/* ---- workloads ---- */

/* The users of the requests, in order: those below `users` come again, those above once only. */
struct trace {
    size_t length, users;
    uint32_t *user; /* [length] */
};

enum disturbance { UNDISTURBED, SCANS, BATCH };

static const struct workload {
    const char *name;
    double skew;       /* exponent of the Zipf distribution that users are drawn from; 0: uniform */
    uint32_t sessions; /* at once; 0: each request draws its user anew */
    enum disturbance disturbance;
} workloads[] = {
    {"zipf-0.8", 0.8, 0, UNDISTURBED},       {"zipf-1.0", 1.0, 0, UNDISTURBED},
    {"zipf-1.2", 1.2, 0, UNDISTURBED},       {"zipf-0.8+scans", 0.8, 0, SCANS},
    {"zipf-1.0+scans", 1.0, 0, SCANS},       {"zipf-1.2+scans", 1.2, 0, SCANS},
    {"zipf-0.8+batch", 0.8, 0, BATCH},       {"zipf-1.0+batch", 1.0, 0, BATCH},
    {"zipf-1.2+batch", 1.2, 0, BATCH},       {"sessions-2k", 0, 2000, UNDISTURBED},
    {"sessions-20k", 0, 20000, UNDISTURBED}, {"sessions-20k-zipf-0.8", 0.8, 20000, UNDISTURBED},
};

/* A user by the cumulative distribution; the ranks are scattered over the ids. */
static uint32_t zipf_draw(const double *cumulative, uint64_t *random) {
    double x = random_unit(random) * cumulative[USERS - 1];
    uint32_t low = 0, high = USERS - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (cumulative[middle] > x)
            high = middle;
        else
            low = middle + 1;
    }
    return (uint32_t)((uint64_t)low * 7368787 % USERS);
}

/* Whether request i is the disturbance's: a run of users never seen again, or every other request of a batch job. */
static bool disturbs(enum disturbance disturbance, size_t i) {
    if (disturbance == SCANS)
        return i % SCAN_PERIOD >= SCAN_PERIOD - SCAN_LENGTH;
    return disturbance == BATCH && i % BATCH_PERIOD >= BATCH_PERIOD - 2 * USERS && i % 2 == 1;
}

static struct trace trace_new(const struct workload *workload, size_t length, uint64_t seed) {
    struct trace trace = {length, USERS, allocate(length, sizeof *trace.user)};
    uint32_t *session = allocate(workload->sessions, sizeof *session), batch = 0;
    double *cumulative = allocate(USERS, sizeof *cumulative), sum = 0;
    for (uint32_t rank = 0; rank < USERS; rank++)
        cumulative[rank] = sum += pow(rank + 1, -workload->skew);
    for (uint32_t i = 0; i < workload->sessions; i++)
        session[i] = zipf_draw(cumulative, &seed);
    for (size_t i = 0; i < length; i++) {
        if (disturbs(workload->disturbance, i)) {
            trace.user[i] = workload->disturbance == SCANS ? (uint32_t)trace.users++ : batch++ % USERS;
        } else if (workload->sessions == 0) {
            trace.user[i] = zipf_draw(cumulative, &seed);
        } else {
            uint32_t *member = &session[(size_t)(random_unit(&seed) * workload->sessions)];
            trace.user[i] = *member;
            if (random_unit(&seed) * SESSION_REQUESTS < 1)
                *member = zipf_draw(cumulative, &seed);
        }
    }
    free(cumulative);
    free(session);
    return trace;
}

/* ---- LRU and S3-FIFO: queues of users, in shards ---- */

/* Where a user is. A GHOST is not in the cache, only remembered. LRU has MAIN alone. */
enum queue { ABSENT, GHOST, MAIN, SMALL, QUEUES };

struct node {
    uint32_t newer, older;
    uint8_t queue, uses;
};

struct shard {
    uint64_t capacity;
    struct list {
        uint32_t newest, oldest;
        uint64_t length;
    } lists[QUEUES];
};

static void push(struct node *nodes, struct shard *shard, enum queue queue, uint32_t id) {
    struct list *list = &shard->lists[queue];
    nodes[id] = (struct node){NONE, list->newest, (uint8_t)queue, nodes[id].uses};
    *(list->newest == NONE ? &list->oldest : &nodes[list->newest].newer) = id;
    list->newest = id;
    list->length++;
}

static void take(struct node *nodes, struct shard *shard, uint32_t id) {
    struct node *node = &nodes[id];
    struct list *list = &shard->lists[node->queue];
    *(node->newer == NONE ? &list->newest : &nodes[node->newer].older) = node->older;
    *(node->older == NONE ? &list->oldest : &nodes[node->older].newer) = node->newer;
    list->length--;
    node->queue = ABSENT;
}

static void move(struct node *nodes, struct shard *shard, enum queue queue, uint32_t id) {
    take(nodes, shard, id);
    push(nodes, shard, queue, id);
}

static bool serve_lru(struct node *nodes, struct shard *shard, uint32_t id) {
    bool hit = nodes[id].queue == MAIN;
    if (hit)
        take(nodes, shard, id);
    else if (shard->lists[MAIN].length == shard->capacity)
        take(nodes, shard, shard->lists[MAIN].oldest);
    push(nodes, shard, MAIN, id);
    return hit;
}

/* One look at the oldest user of the small queue (a tenth: newcomers) or of the main queue (the proved). */
static void s3fifo_look(struct node *nodes, struct shard *shard) {
    const struct list *small = &shard->lists[SMALL], *main = &shard->lists[MAIN], *ghosts = &shard->lists[GHOST];
    bool newcomer = main->length == 0 || (small->length > 0 && small->length >= shard->capacity / 10);
    uint32_t victim = newcomer ? small->oldest : main->oldest;
    if (newcomer && nodes[victim].uses < 2) {
        move(nodes, shard, GHOST, victim);
        while (ghosts->length > shard->capacity * 9 / 10)
            take(nodes, shard, ghosts->oldest);
    } else if (newcomer || nodes[victim].uses > 0) {
        nodes[victim].uses = newcomer ? 0 : (uint8_t)(nodes[victim].uses - 1);
        move(nodes, shard, MAIN, victim);
    } else {
        take(nodes, shard, victim);
    }
}

static bool serve_s3fifo(struct node *nodes, struct shard *shard, uint32_t id) {
    if (nodes[id].queue > GHOST) {
        nodes[id].uses = nodes[id].uses < 3 ? (uint8_t)(nodes[id].uses + 1) : 3;
        return true;
    }
    bool known = nodes[id].queue == GHOST;
    if (known)
        take(nodes, shard, id);
    while (shard->lists[MAIN].length + shard->lists[SMALL].length == shard->capacity)
        s3fifo_look(nodes, shard);
    nodes[id].uses = 0;
    push(nodes, shard, known ? MAIN : SMALL, id);
    return false;
}

typedef bool policy(struct node *nodes, struct shard *shard, uint32_t id);

/* The hit ratio; `answers`, if any, gets 'h' or '.' for each request. */
static double simulate(const struct trace *trace, policy *serve, uint64_t capacity, size_t shard_count, char *answers) {
    struct node *nodes = allocate(trace->users, sizeof *nodes);
    struct shard shards[SHARDS];
    size_t hits = 0;
    for (size_t i = 0; i < shard_count; i++) {
        shards[i].capacity = capacity / shard_count;
        for (size_t j = 0; j < QUEUES; j++)
            shards[i].lists[j] = (struct list){NONE, NONE, 0};
    }
    for (size_t i = 0; i < trace->length; i++) {
        uint32_t id = trace->user[i];
        bool hit = serve(nodes, &shards[mix(id) % shard_count], id);
        hits += hit;
        if (answers != NULL)
            answers[i] = hit ? 'h' : '.';
    }
    free(nodes);
    return (double)hits / (double)trace->length;
}

/* ---- the server's own cache ---- */

/* As server/users/user_state.c uses it: read; on a miss compute, and store. */
static bool serve_from(struct user_cache *cache, const uint32_t *user, struct arena *arena) {
    static const char state[SERVER_STATE];
    struct user_key key = {(const char *)user, sizeof *user};
    struct user_copy copy = {0};
    struct single_flight flight;
    struct user_token token;
    arena_reset(arena);
    if (user_cache_read(cache, key, 1, arena, &copy) == USER_HELD)
        return true;
    require(single_flight_begin(cache, key, 1, &copy, &flight) &&
                user_cache_store(cache, &flight, 1, state, sizeof state, &token),
            "the cache takes a state");
    return false;
}

/* With a budget in bytes for `capacity` users, the index included. */
static double run_server(const struct trace *trace, uint64_t capacity) {
    struct arena arena;
    struct user_cache *cache = user_cache_new(capacity * SERVER_ENTRY / 512 * 514, 0);
    require(cache != NULL, "memory suffices");
    arena_init(&arena, 0, 1 << 16);
    size_t hits = 0;
    for (size_t i = 0; i < trace->length; i++)
        hits += serve_from(cache, &trace->user[i], &arena);
    user_cache_free(cache);
    arena_free(&arena);
    return (double)hits / (double)trace->length;
}

/* ---- checks ---- */

/* Users are the letters of `text`. */
static void check_by_hand(policy *serve, uint64_t capacity, const char *text, const char *expected) {
    char answers[64] = "";
    struct trace trace = {strlen(text), 26, allocate(strlen(text), sizeof *trace.user)};
    for (size_t i = 0; i < trace.length; i++)
        trace.user[i] = (uint32_t)(text[i] - 'a');
    simulate(&trace, serve, capacity, 1, answers);
    require(strcmp(answers, expected) == 0, text);
    free(trace.user);
}

static int check(uint64_t seed) {
    check_by_hand(serve_lru, 3, "abcadbea", "...h....");
    check_by_hand(serve_lru, 3, "aabcda", ".h....");
    check_by_hand(serve_lru, 10, "abcdefghijkalmnopqrstua", ".......................");
    /* a comes back from the ghosts into the main queue and outlives ten others; with two hits too, with one not. */
    check_by_hand(serve_s3fifo, 10, "abcdefghijkalmnopqrstua", "......................h");
    check_by_hand(serve_s3fifo, 10, "aaabcdefghijklmnopqrstua", ".hh....................h");
    check_by_hand(serve_s3fifo, 10, "aabcdefghijka", ".h...........");
    struct trace trace = trace_new(&workloads[1], 400000, seed);
    double own = run_server(&trace, 10000), simulated = simulate(&trace, serve_s3fifo, 10000, SHARDS, NULL);
    printf("the server's cache: %.2f %%; S3-FIFO in the simulator: %.2f %%\n", 100 * own, 100 * simulated);
    require(fabs(own - simulated) < 0.01, "the server's cache keeps the users that S3-FIFO keeps");
    free(trace.user);
    printf("policies: all checks passed\n");
    return 0;
}

static void run_workload(const struct workload *workload, size_t requests, uint64_t seed, FILE *csv) {
    static const unsigned percents[] = {1, 5, 10, 50};
    static const char *const names[] = {"lru", "s3-fifo", "server"};
    struct trace trace = trace_new(workload, requests, seed);
    for (size_t row = 0; row < sizeof percents / sizeof *percents; row++) {
        uint64_t capacity = (uint64_t)(USERS / 100) * percents[row];
        double ratios[] = {simulate(&trace, serve_lru, capacity, SHARDS, NULL),
                           simulate(&trace, serve_s3fifo, capacity, SHARDS, NULL), run_server(&trace, capacity)};
        printf("%-24s %3u%% %9.2f %9.2f %9.2f\n", workload->name, percents[row], 100 * ratios[0], 100 * ratios[1],
               100 * ratios[2]);
        for (size_t i = 0; csv != NULL && i < sizeof names / sizeof *names; i++)
            fprintf(csv, "%s,%u,%s,%zu,%.4f\n", workload->name, percents[row], names[i], requests, ratios[i]);
    }
    free(trace.user);
}

int main(int count, char **arguments) {
    uint64_t seed = (uint64_t)number_option(arguments, "--seed", 1);
    size_t requests = (size_t)number_option(arguments, "--requests", 8000000);
    const char *only = text_option(arguments, "--workload", NULL), *path = text_option(arguments, "--csv", NULL);
    if (count > 1 && strcmp(arguments[1], "--check") == 0)
        return check(seed);
    FILE *csv = path != NULL ? fopen(path, "w") : NULL;
    require(path == NULL || csv != NULL, "the CSV can be written");
    if (csv != NULL)
        fprintf(csv, "workload,percent_of_users,policy,requests,hit_ratio\n");
    printf("hit ratio, %%              size       lru   s3-fifo    server\n");
    for (size_t i = 0; i < sizeof workloads / sizeof *workloads; i++)
        if (only == NULL || strcmp(only, workloads[i].name) == 0)
            run_workload(&workloads[i], requests, seed, csv);
    return csv != NULL && fclose(csv) != 0;
}
