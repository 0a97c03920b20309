/* policies.c: which users a cache of user states should keep, by simulation: the hit ratios of eviction policies.
 *
 *   policies [--requests N] [--seed N] [--threads N] [--workload NAME] [--csv FILE]
 *   policies --check      the simulator against itself: hand-made traces, exhaustive search, invariants
 *
 * Traces of requests are made for each workload, then each policy serves each trace with a cache of 1, 5, 10 and 50 %
 * of the users, whole and as 64 caches of a 64th each; where entries have one size the server's own cache does, too.
 * The method and what follows are in eviction.md. Sources: LRU and CLOCK, textbooks; SIEVE, Zhang et al., NSDI 2024;
 * S3-FIFO, Yang et al., SOSP 2023; W-TinyLFU, Einziger et al., ACM TOS 2017; the optimum, Belady 1966.
 */
#include "server/users/user_cache.h"
#include "tests/support/random_bits.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    USERS = 1000000,
    SHARDS = 64,
    SESSION_REQUESTS = 8,   /* mean of a session's requests */
    SCAN_PERIOD = 50000,    /* requests from the start of one scan to the next */
    SCAN_LENGTH = 10000,    /* of those, the last: 20 % */
    BATCH_PERIOD = 4000000, /* requests from the start of one batch job to the next */
    SMALLEST = 1000,        /* bytes of an entry where sizes vary, log-uniform between the two */
    LARGEST = 150000,
    SERVER_STATE = 3400, /* bytes of a state in the server's cache: seven blocks, as at T = 20 of the reference shape */
    SERVER_ENTRY = 3584,
    SKETCH_SAMPLE = 10, /* W-TinyLFU's counters are halved after so many requests for each entry */
};
static const uint32_t NONE = UINT32_MAX;

/* ---- random numbers ---- */

static double random_unit(uint64_t *state) {
    return (double)(random_bits(state) >> 11) * 0x1p-53;
}

static uint32_t random_below(uint64_t *state, uint32_t bound) {
    return (uint32_t)(random_unit(state) * bound);
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count + (count == 0), size);
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

/* ---- workloads ---- */

/* The requests in order, by user: users below `users` come again, those above once only. */
struct trace {
    size_t length, users, ids;
    uint32_t *user; /* (length) */
    uint32_t *next; /* (length) the index of the same user's next request, NONE for none */
    uint32_t *size; /* (ids) bytes of each user's entry; 1 where sizes are equal */
};

enum disturbance { UNDISTURBED, SCANS, BATCH };

struct workload {
    const char *name;
    double skew;       /* exponent of the Zipf distribution that users are drawn from; 0: uniform */
    uint32_t sessions; /* at once; 0: each request draws its user anew */
    enum disturbance disturbance;
    bool sized; /* also with entries of different sizes */
};

static const struct workload workloads[] = {
    {"zipf-0.8", 0.8, 0, UNDISTURBED, false},       {"zipf-1.0", 1.0, 0, UNDISTURBED, true},
    {"zipf-1.2", 1.2, 0, UNDISTURBED, false},       {"zipf-0.8+scans", 0.8, 0, SCANS, false},
    {"zipf-1.0+scans", 1.0, 0, SCANS, true},        {"zipf-1.2+scans", 1.2, 0, SCANS, false},
    {"zipf-0.8+batch", 0.8, 0, BATCH, false},       {"zipf-1.0+batch", 1.0, 0, BATCH, false},
    {"zipf-1.2+batch", 1.2, 0, BATCH, false},       {"sessions-2k", 0, 2000, UNDISTURBED, false},
    {"sessions-20k", 0, 20000, UNDISTURBED, false}, {"sessions-20k-zipf-0.8", 0.8, 20000, UNDISTURBED, true},
};
enum { WORKLOADS = sizeof workloads / sizeof *workloads };

static double *zipf_new(double skew) {
    double *cumulative = allocate(USERS, sizeof *cumulative), sum = 0;
    for (uint32_t rank = 0; rank < USERS; rank++)
        cumulative[rank] = sum += pow(rank + 1, -skew);
    return cumulative;
}

/* A user by the distribution; the ranks are scattered over the ids. */
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

/* The ordinary request of a workload: of a user by popularity, or of one of the users in a session now. */
static uint32_t ordinary(const struct workload *workload, const double *cumulative, uint32_t *session,
                         uint64_t *random) {
    if (workload->sessions == 0)
        return zipf_draw(cumulative, random);
    uint32_t i = random_below(random, workload->sessions), user = session[i];
    if (random_below(random, SESSION_REQUESTS) == 0)
        session[i] = zipf_draw(cumulative, random);
    return user;
}

/* Whether request i is the disturbance's: a run of users never seen again, or every other request of a batch job. */
static bool disturbs(enum disturbance disturbance, size_t i) {
    if (disturbance == SCANS)
        return i % SCAN_PERIOD >= SCAN_PERIOD - SCAN_LENGTH;
    return disturbance == BATCH && i % BATCH_PERIOD >= BATCH_PERIOD - 2 * USERS && i % 2 == 1;
}

static void find_next(struct trace *trace) {
    uint32_t *last = allocate(trace->ids, sizeof *last);
    memset(last, 0xff, trace->ids * sizeof *last);
    trace->next = allocate(trace->length, sizeof *trace->next);
    for (size_t i = trace->length; i-- > 0;) {
        trace->next[i] = last[trace->user[i]];
        last[trace->user[i]] = (uint32_t)i;
    }
    free(last);
}

static struct trace trace_new(const struct workload *workload, size_t length, uint64_t seed) {
    struct trace trace = {.length = length, .users = USERS};
    uint32_t once = USERS, batch = 0;
    uint32_t *session = allocate(workload->sessions, sizeof *session);
    double *cumulative = zipf_new(workload->skew);
    trace.user = allocate(length, sizeof *trace.user);
    for (uint32_t i = 0; i < workload->sessions; i++)
        session[i] = zipf_draw(cumulative, &seed);
    for (size_t i = 0; i < length; i++)
        if (!disturbs(workload->disturbance, i))
            trace.user[i] = ordinary(workload, cumulative, session, &seed);
        else if (workload->disturbance == SCANS)
            trace.user[i] = once++;
        else
            trace.user[i] = batch++ % USERS;
    free(cumulative);
    free(session);
    trace.ids = once;
    find_next(&trace);
    return trace;
}

static void set_sizes(struct trace *trace, bool equal) {
    if (trace->size == NULL)
        trace->size = allocate(trace->ids, sizeof *trace->size);
    for (size_t i = 0; i < trace->ids; i++) {
        uint64_t random = i;
        double size = SMALLEST * pow((double)LARGEST / SMALLEST, random_unit(&random));
        trace->size[i] = equal ? 1 : (uint32_t)size;
    }
}

static void trace_free(struct trace *trace) {
    free(trace->user);
    free(trace->next);
    free(trace->size);
}

/* ---- a cache: lists of entries, in shards ---- */

/* Where an entry is. Each policy uses what it needs; an entry of GHOST is not in the cache, only remembered. */
enum queue { ABSENT, GHOST, MAIN, SMALL, PROTECTED, QUEUES };

struct node {
    uint32_t newer, older;
    uint8_t queue, uses;
};

struct list {
    uint32_t newest, oldest;
    uint64_t bytes;
};

struct sketch {
    uint64_t *words; /* one for each entry, rounded up to a power of two; each of 16 counters of 4 bits */
    size_t mask, additions, sample;
};

struct shard {
    uint64_t capacity;
    struct list lists[QUEUES];
    uint32_t hand;
    struct sketch sketch;
};

struct counts {
    uint64_t hits, hit_bytes, bytes, evictions;
    uint64_t writes;      /* of a hit, to other places than the hit entry */
    uint64_t visits;      /* of an eviction, to entries */
    uint64_t most_visits; /* by one insertion */
};

struct run {
    const struct trace *trace;
    const struct policy *policy;
    struct node *nodes; /* (ids) */
    struct shard *shards;
    size_t shard_count;
    struct counts counts;
    char *answers; /* NULL, or (length): 'h' or '.' for each request */
};

struct policy {
    const char *name;
    const char *bytes; /* of metadata an entry, in a cache whose entries are linked by pointers */
    void (*hit)(struct run *run, struct shard *shard, uint32_t id);
    void (*insert)(struct run *run, struct shard *shard, uint32_t id);
};

static uint64_t held(const struct shard *shard) {
    return shard->lists[MAIN].bytes + shard->lists[SMALL].bytes + shard->lists[PROTECTED].bytes;
}

static void push(struct run *run, struct shard *shard, enum queue queue, uint32_t id) {
    struct list *list = &shard->lists[queue];
    struct node *node = &run->nodes[id];
    node->queue = (uint8_t)queue;
    node->newer = NONE;
    node->older = list->newest;
    *(list->newest == NONE ? &list->oldest : &run->nodes[list->newest].newer) = id;
    list->newest = id;
    list->bytes += run->trace->size[id];
    run->counts.writes += 2;
}

static void take(struct run *run, struct shard *shard, uint32_t id) {
    struct node *node = &run->nodes[id];
    struct list *list = &shard->lists[node->queue];
    *(node->newer == NONE ? &list->newest : &run->nodes[node->newer].older) = node->older;
    *(node->older == NONE ? &list->oldest : &run->nodes[node->older].newer) = node->newer;
    list->bytes -= run->trace->size[id];
    node->queue = ABSENT;
    run->counts.writes += 2;
}

static void refresh(struct run *run, struct shard *shard, enum queue queue, uint32_t id) {
    if (shard->lists[queue].newest == id && run->nodes[id].queue == queue)
        return;
    take(run, shard, id);
    push(run, shard, queue, id);
}

static void drop(struct run *run, struct shard *shard, uint32_t id) {
    take(run, shard, id);
    run->counts.evictions++;
}

/* The oldest entry of a queue, looked at. */
static uint32_t oldest(struct run *run, const struct shard *shard, enum queue queue) {
    run->counts.visits++;
    return shard->lists[queue].oldest;
}

/* ---- LRU: a hit moves the entry to the front ---- */

static void lru_hit(struct run *run, struct shard *shard, uint32_t id) {
    refresh(run, shard, MAIN, id);
}

static void lru_insert(struct run *run, struct shard *shard, uint32_t id) {
    while (held(shard) + run->trace->size[id] > shard->capacity)
        drop(run, shard, oldest(run, shard, MAIN));
    push(run, shard, MAIN, id);
}

/* ---- CLOCK: a hit sets a bit; the oldest entry goes round again when its bit is set ---- */

static void mark_hit(struct run *run, struct shard *shard, uint32_t id) {
    (void)shard;
    run->nodes[id].uses = 1;
}

static void clock_insert(struct run *run, struct shard *shard, uint32_t id) {
    while (held(shard) + run->trace->size[id] > shard->capacity) {
        uint32_t victim = oldest(run, shard, MAIN);
        if (run->nodes[victim].uses == 0) {
            drop(run, shard, victim);
        } else {
            run->nodes[victim].uses = 0;
            refresh(run, shard, MAIN, victim);
        }
    }
    run->nodes[id].uses = 0;
    push(run, shard, MAIN, id);
}

/* ---- SIEVE: a hit sets a bit; a hand goes from the oldest to the newest, and entries keep their places ---- */

static void sieve_evict(struct run *run, struct shard *shard) {
    uint32_t victim = shard->hand == NONE ? shard->lists[MAIN].oldest : shard->hand;
    for (run->counts.visits++; run->nodes[victim].uses != 0; run->counts.visits++) {
        run->nodes[victim].uses = 0;
        victim = run->nodes[victim].newer;
        if (victim == NONE)
            victim = shard->lists[MAIN].oldest;
    }
    shard->hand = run->nodes[victim].newer;
    drop(run, shard, victim);
}

static void sieve_insert(struct run *run, struct shard *shard, uint32_t id) {
    while (held(shard) + run->trace->size[id] > shard->capacity)
        sieve_evict(run, shard);
    run->nodes[id].uses = 0;
    push(run, shard, MAIN, id);
}

/* ---- S3-FIFO: a small queue for newcomers, a main queue for the proved, a ghost queue of those sent away ---- */

static void s3fifo_hit(struct run *run, struct shard *shard, uint32_t id) {
    (void)shard;
    if (run->nodes[id].uses < 3)
        run->nodes[id].uses++;
}

/* Ghosts for as many bytes as the main queue has. */
static void s3fifo_remember(struct run *run, struct shard *shard, uint32_t id) {
    push(run, shard, GHOST, id);
    while (shard->lists[GHOST].bytes > shard->capacity * 9 / 10)
        take(run, shard, shard->lists[GHOST].oldest);
}

static void s3fifo_evict_small(struct run *run, struct shard *shard) {
    while (shard->lists[SMALL].oldest != NONE) {
        uint32_t victim = oldest(run, shard, SMALL);
        if (run->nodes[victim].uses < 2) {
            drop(run, shard, victim);
            s3fifo_remember(run, shard, victim);
            return;
        }
        run->nodes[victim].uses = 0;
        refresh(run, shard, MAIN, victim);
    }
}

static void s3fifo_evict_main(struct run *run, struct shard *shard) {
    for (;;) {
        uint32_t victim = oldest(run, shard, MAIN);
        if (run->nodes[victim].uses == 0) {
            drop(run, shard, victim);
            return;
        }
        run->nodes[victim].uses--;
        refresh(run, shard, MAIN, victim);
    }
}

static void s3fifo_insert(struct run *run, struct shard *shard, uint32_t id) {
    bool known = run->nodes[id].queue == GHOST;
    if (known)
        take(run, shard, id);
    while (held(shard) + run->trace->size[id] > shard->capacity)
        if (shard->lists[MAIN].oldest == NONE ||
            (shard->lists[SMALL].oldest != NONE && shard->lists[SMALL].bytes >= shard->capacity / 10))
            s3fifo_evict_small(run, shard);
        else
            s3fifo_evict_main(run, shard);
    run->nodes[id].uses = 0;
    push(run, shard, known ? MAIN : SMALL, id);
}

/* ---- W-TinyLFU: a window (SMALL, 1 %) before a segmented LRU (MAIN its probation; PROTECTED, 80 %) that lets in only
 * what a sketch of past requests says is asked for more often than what would go ---- */

/* Row i of the four: its word and the shift of its counter there. */
static uint64_t *sketch_at(const struct sketch *sketch, uint32_t id, unsigned row, unsigned *shift) {
    uint64_t hash = mix(id + (row + 1) * 0x9e3779b97f4a7c15ULL);
    *shift = 4 * (4 * row + (unsigned)(hash >> 62));
    return &sketch->words[hash & sketch->mask];
}

static unsigned sketch_count(const struct sketch *sketch, uint32_t id) {
    unsigned least = 15, shift;
    for (unsigned row = 0; row < 4; row++) {
        const uint64_t *word = sketch_at(sketch, id, row, &shift);
        unsigned count = (unsigned)(*word >> shift) & 15;
        least = count < least ? count : least;
    }
    return least;
}

static void sketch_add(struct run *run, struct sketch *sketch, uint32_t id) {
    bool added = false;
    for (unsigned row = 0, shift; row < 4; row++) {
        uint64_t *word = sketch_at(sketch, id, row, &shift);
        if (((*word >> shift) & 15) == 15)
            continue;
        *word += 1ULL << shift;
        run->counts.writes++;
        added = true;
    }
    if (!added || ++sketch->additions < sketch->sample)
        return;
    sketch->additions /= 2;
    for (size_t i = 0; i <= sketch->mask; i++)
        sketch->words[i] = (sketch->words[i] >> 1) & 0x7777777777777777ULL;
}

static uint64_t window_limit(const struct shard *shard) {
    return shard->capacity / 100 > 0 ? shard->capacity / 100 : 1;
}

static void wtinylfu_hit(struct run *run, struct shard *shard, uint32_t id) {
    sketch_add(run, &shard->sketch, id);
    if (run->nodes[id].queue == SMALL) {
        refresh(run, shard, SMALL, id);
        return;
    }
    refresh(run, shard, PROTECTED, id);
    while (shard->lists[PROTECTED].bytes > (shard->capacity - window_limit(shard)) * 8 / 10 &&
           shard->lists[PROTECTED].oldest != id)
        refresh(run, shard, MAIN, shard->lists[PROTECTED].oldest);
}

/* From the window to probation, against the entries that must go for it; the loser goes. */
static void wtinylfu_admit(struct run *run, struct shard *shard, uint32_t candidate) {
    uint64_t limit = shard->capacity - window_limit(shard);
    while (shard->lists[MAIN].bytes + shard->lists[PROTECTED].bytes + run->trace->size[candidate] > limit) {
        uint32_t victim = oldest(run, shard, shard->lists[MAIN].oldest != NONE ? MAIN : PROTECTED);
        if (victim == NONE || sketch_count(&shard->sketch, candidate) <= sketch_count(&shard->sketch, victim)) {
            drop(run, shard, candidate);
            return;
        }
        drop(run, shard, victim);
    }
    refresh(run, shard, MAIN, candidate);
}

static void wtinylfu_insert(struct run *run, struct shard *shard, uint32_t id) {
    sketch_add(run, &shard->sketch, id);
    push(run, shard, SMALL, id);
    while (shard->lists[SMALL].bytes > window_limit(shard))
        wtinylfu_admit(run, shard, oldest(run, shard, SMALL));
}

static const struct policy policies[] = {
    {"lru", "16", lru_hit, lru_insert},
    {"clock", "16 + 1 bit", mark_hit, clock_insert},
    {"sieve", "16 + 1 bit", mark_hit, sieve_insert},
    {"s3-fifo", "16 + 3 bits, and 8 a ghost", s3fifo_hit, s3fifo_insert},
    {"w-tinylfu", "16 + 2 bits, and 8 of sketch", wtinylfu_hit, wtinylfu_insert},
};
enum { POLICIES = sizeof policies / sizeof *policies };

/* ---- one policy, one trace ---- */

static void shard_init(struct shard *shard, uint64_t capacity, uint64_t mean_size) {
    *shard = (struct shard){.capacity = capacity, .hand = NONE};
    for (size_t i = 0; i < QUEUES; i++)
        shard->lists[i] = (struct list){NONE, NONE, 0};
    size_t entries = capacity / mean_size + 1, words = 1;
    while (words < entries)
        words *= 2;
    shard->sketch = (struct sketch){allocate(words, sizeof(uint64_t)), words - 1, 0, SKETCH_SAMPLE * entries};
}

static void serve(struct run *run, size_t i) {
    uint32_t id = run->trace->user[i];
    struct shard *shard = &run->shards[run->shard_count > 1 ? mix(id) % run->shard_count : 0];
    struct counts *counts = &run->counts, before = *counts;
    bool hit = run->nodes[id].queue > GHOST;
    counts->bytes += run->trace->size[id];
    if (run->answers != NULL)
        run->answers[i] = hit ? 'h' : '.';
    if (hit) {
        counts->hits++;
        counts->hit_bytes += run->trace->size[id];
        run->policy->hit(run, shard, id);
        return;
    }
    if (run->trace->size[id] <= shard->capacity)
        run->policy->insert(run, shard, id);
    counts->writes = before.writes;
    uint64_t visits = counts->visits - before.visits;
    counts->most_visits = visits > counts->most_visits ? visits : counts->most_visits;
}

static uint64_t mean_size(const struct trace *trace) {
    uint64_t sum = 0;
    for (size_t i = 0; i < trace->users; i++)
        sum += trace->size[i];
    return trace->users == 0 ? 1 : sum / trace->users;
}

/* Whether each shard keeps to its capacity and its lists say what its entries say. */
static bool consistent(const struct run *run) {
    for (size_t s = 0; s < run->shard_count; s++) {
        const struct shard *shard = &run->shards[s];
        for (int queue = GHOST; queue < QUEUES; queue++) {
            uint64_t bytes = 0;
            for (uint32_t id = shard->lists[queue].oldest; id != NONE; id = run->nodes[id].newer) {
                bytes += run->trace->size[id];
                if (run->nodes[id].queue != queue)
                    return false;
            }
            if (bytes != shard->lists[queue].bytes)
                return false;
        }
        if (held(shard) > shard->capacity)
            return false;
    }
    return true;
}

static struct counts simulate(const struct trace *trace, const struct policy *policy, uint64_t capacity, size_t shards,
                              char *answers) {
    struct run run = {.trace = trace, .policy = policy, .shard_count = shards, .answers = answers};
    run.nodes = allocate(trace->ids, sizeof *run.nodes);
    run.shards = allocate(shards, sizeof *run.shards);
    for (size_t i = 0; i < shards; i++)
        shard_init(&run.shards[i], capacity / shards, mean_size(trace));
    for (size_t i = 0; i < trace->length; i++)
        serve(&run, i);
    if (!consistent(&run)) {
        fprintf(stderr, "%s: a cache that is over its capacity or whose lists are broken\n", policy->name);
        exit(1);
    }
    for (size_t i = 0; i < shards; i++)
        free(run.shards[i].sketch.words);
    free(run.shards);
    free(run.nodes);
    return run.counts;
}

/* ---- the server's own cache ---- */

static struct user_key key_of(const uint32_t *user) {
    return (struct user_key){(const char *)user, sizeof *user};
}

/* As server/users/user_state.c goes about it: read; on a miss compute, and store. */
static bool serve_from(struct user_cache *cache, const uint32_t *user, struct arena *arena) {
    static const char state[SERVER_STATE];
    struct user_copy copy = {0};
    struct single_flight flight;
    struct user_token token;
    arena_reset(arena);
    if (user_cache_read(cache, key_of(user), 1, arena, &copy) == USER_HELD)
        return true;
    if (!single_flight_begin(cache, key_of(user), 1, &copy, &flight) ||
        !user_cache_store(cache, &flight, 1, state, sizeof state, &token)) {
        fprintf(stderr, "the server's cache did not take a state\n");
        exit(1);
    }
    return false;
}

/* server/users/user_cache.c with a budget for `capacity` users; what an entry takes of its index is counted. */
static struct counts run_server(const struct trace *trace, uint64_t capacity) {
    struct counts counts = {.bytes = trace->length};
    struct user_cache_counts said;
    struct arena arena;
    struct user_cache *cache = user_cache_new(capacity * SERVER_ENTRY / 512 * 514, 0);
    if (cache == NULL)
        exit(1);
    arena_init(&arena, 0, 1 << 16);
    for (size_t i = 0; i < trace->length; i++)
        counts.hits += serve_from(cache, &trace->user[i], &arena);
    user_cache_count(cache, &said);
    counts.evictions = said.evictions;
    counts.hit_bytes = counts.hits;
    user_cache_free(cache);
    arena_free(&arena);
    return counts;
}

/* ---- the clairvoyant optimum ---- */

/* A set of integers with its largest member: a bit each, and a bit above for each word that is not empty. */
enum { LEVELS = 6 };
struct set {
    uint64_t *level[LEVELS];
};

static struct set set_new(size_t bound) {
    struct set set;
    for (size_t i = 0; i < LEVELS; i++)
        set.level[i] = allocate(bound = bound / 64 + 1, sizeof(uint64_t));
    return set;
}

static void set_free(struct set *set) {
    for (size_t i = 0; i < LEVELS; i++)
        free(set->level[i]);
}

static void set_add(struct set *set, size_t x) {
    for (size_t i = 0; i < LEVELS; i++, x /= 64)
        set->level[i][x / 64] |= 1ULL << (x % 64);
}

static void set_remove(struct set *set, size_t x) {
    for (size_t i = 0; i < LEVELS; i++, x /= 64)
        if ((set->level[i][x / 64] &= ~(1ULL << (x % 64))) != 0)
            return;
}

/* Of a set that is not empty. */
static size_t set_largest(const struct set *set) {
    size_t x = 0;
    for (size_t i = LEVELS; i-- > 0;)
        x = 64 * x + 63 - (size_t)__builtin_clzll(set->level[i][x]);
    return x;
}

/* Keeps what is asked for soonest, and may refuse a newcomer. It may keep part of an entry: with equal sizes it never
 * gains by that, and its hits are the most that any policy can have; with others its hit bytes are at least the most.
 */
static struct counts optimum(const struct trace *trace, uint64_t capacity) {
    struct counts counts = {0};
    struct set uses = set_new(trace->length); /* the next uses of all entries held */
    uint32_t *kept = allocate(trace->ids, sizeof *kept);
    uint64_t used = 0;
    for (size_t i = 0; i < trace->length; i++) {
        uint32_t id = trace->user[i], size = trace->size[id];
        counts.bytes += size;
        counts.hit_bytes += kept[id];
        counts.hits += kept[id] == size;
        if (kept[id] > 0)
            set_remove(&uses, i);
        used -= kept[id];
        kept[id] = trace->next[i] == NONE ? 0 : size;
        used += kept[id];
        if (kept[id] > 0)
            set_add(&uses, trace->next[i]);
        while (used > capacity) {
            size_t last = set_largest(&uses);
            uint32_t *victim = &kept[trace->user[last]];
            uint32_t cut = *victim < used - capacity ? *victim : (uint32_t)(used - capacity);
            *victim -= cut;
            used -= cut;
            if (*victim == 0)
                set_remove(&uses, last);
        }
    }
    free(kept);
    set_free(&uses);
    return counts;
}

/* ---- the runs ---- */

static const unsigned percents[] = {1, 5, 10, 50};
enum { PERCENTS = sizeof percents / sizeof *percents, OPTIMUM = 2 * POLICIES, SERVER, COLUMNS, THREADS_MAX = 64 };

/* All runs over one trace: the policies in one cache, then in shards, then the optimum; threads take them in turn. */
struct job {
    const struct trace *trace;
    size_t columns; /* the server's cache, the last, only where entries have one size */
    struct counts counts[PERCENTS][COLUMNS];
    pthread_mutex_t lock;
    size_t taken;
};

static uint64_t capacity_of(const struct trace *trace, unsigned percent) {
    return mean_size(trace) * trace->users / 100 * percent;
}

static void *work(void *argument) {
    struct job *job = argument;
    for (;;) {
        pthread_mutex_lock(&job->lock);
        size_t i = job->taken++;
        pthread_mutex_unlock(&job->lock);
        if (i >= PERCENTS * job->columns)
            return NULL;
        size_t row = i % PERCENTS, column = i / PERCENTS;
        uint64_t capacity = capacity_of(job->trace, percents[row]);
        job->counts[row][column] = column == OPTIMUM  ? optimum(job->trace, capacity)
                                   : column == SERVER ? run_server(job->trace, capacity)
                                                      : simulate(job->trace, &policies[column % POLICIES], capacity,
                                                                 column < POLICIES ? 1 : SHARDS, NULL);
    }
}

static void run_job(struct job *job, size_t threads) {
    pthread_t thread[THREADS_MAX];
    pthread_mutex_init(&job->lock, NULL);
    for (size_t i = 0; i < threads; i++)
        if (pthread_create(&thread[i], NULL, work, job) != 0)
            exit(1);
    for (size_t i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&job->lock);
}

static double ratio(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : (double)part / (double)whole;
}

static const char *column_name(size_t column) {
    return column == OPTIMUM ? "optimum" : column == SERVER ? "server" : policies[column % POLICIES].name;
}

static void print_header(void) {
    printf("%-24s %4s %-7s", "hit ratio, %", "size", "of");
    for (size_t column = 0; column < COLUMNS; column++)
        printf("%s %9s", column == POLICIES ? " |" : "", column_name(column));
    printf("   (five in one cache | five in %d shards; server: its own code)\n", SHARDS);
}

static void print_job(const char *name, const struct job *job, bool by_bytes) {
    for (size_t row = 0; row < PERCENTS; row++) {
        printf("%-24s %3u%% %-7s", name, percents[row], by_bytes ? "bytes" : "users");
        for (size_t column = 0; column < job->columns; column++) {
            const struct counts *counts = &job->counts[row][column];
            double hits = by_bytes ? ratio(counts->hit_bytes, counts->bytes) : ratio(counts->hits, job->trace->length);
            printf("%s %9.2f", column == POLICIES ? " |" : "", 100 * hits);
        }
        printf("\n");
    }
    fflush(stdout);
}

static void write_job(FILE *csv, const char *name, const struct job *job, bool equal) {
    for (size_t row = 0; row < PERCENTS; row++)
        for (size_t column = 0; column < job->columns; column++) {
            const struct counts *counts = &job->counts[row][column];
            bool best = column == OPTIMUM;
            fprintf(csv, "%s,%s,%u,%d,%s,%zu,%.4f,%.4f,%.2f,%.3f,%" PRIu64 "\n", name, equal ? "equal" : "1-150 kB",
                    percents[row], column < POLICIES || best ? 1 : SHARDS, column_name(column), job->trace->length,
                    ratio(counts->hits, job->trace->length), ratio(counts->hit_bytes, counts->bytes),
                    ratio(counts->writes, counts->hits), ratio(counts->visits, counts->evictions), counts->most_visits);
        }
    fflush(csv);
}

/* What a hit and an eviction do, over all sizes of one trace in shards. */
static void print_costs(const char *name, const struct job *job) {
    printf("\n%s, %d shards: %-12s %-30s %22s %20s %12s\n", name, SHARDS, "policy", "metadata bytes an entry",
           "writes elsewhere a hit", "visits an eviction", "the most");
    for (size_t i = 0; i < POLICIES; i++) {
        uint64_t writes = 0, hits = 0, visits = 0, evictions = 0, most = 0;
        for (size_t row = 0; row < PERCENTS; row++) {
            const struct counts *counts = &job->counts[row][POLICIES + i];
            writes += counts->writes;
            hits += counts->hits;
            visits += counts->visits;
            evictions += counts->evictions;
            most = counts->most_visits > most ? counts->most_visits : most;
        }
        printf("%*s %-12s %-30s %22.2f %20.2f %12" PRIu64 "\n", (int)strlen(name) + 12, "", policies[i].name,
               policies[i].bytes, ratio(writes, hits), ratio(visits, evictions), most);
    }
    printf("\n");
}

static void run_workload(const struct workload *workload, size_t requests, uint64_t seed, size_t threads, FILE *csv) {
    struct trace trace = trace_new(workload, requests, seed);
    struct job job = {.trace = &trace};
    for (int equal = 1; equal >= (workload->sized ? 0 : 1); equal--) {
        set_sizes(&trace, equal);
        job.taken = 0;
        job.columns = equal ? COLUMNS : SERVER;
        run_job(&job, threads);
        print_job(workload->name, &job, false);
        if (!equal)
            print_job(workload->name, &job, true);
        if (csv != NULL)
            write_job(csv, workload->name, &job, equal);
    }
    if (workload->sized)
        print_costs(workload->name, &job);
    trace_free(&trace);
}

/* ---- checks ---- */

static void require(bool truth, const char *what) {
    if (truth)
        return;
    fprintf(stderr, "check failed: %s\n", what);
    exit(1);
}

/* Users are the letters of `text`. */
static struct trace trace_of(const char *text) {
    struct trace trace = {.length = strlen(text), .users = 26, .ids = 26};
    trace.user = allocate(trace.length, sizeof *trace.user);
    for (size_t i = 0; i < trace.length; i++)
        trace.user[i] = (uint32_t)(text[i] - 'a');
    find_next(&trace);
    set_sizes(&trace, true);
    return trace;
}

static void check_by_hand(const char *name, uint64_t capacity, const char *text, const char *expected) {
    char answers[64] = "";
    struct trace trace = trace_of(text);
    for (size_t i = 0; i < POLICIES; i++)
        if (strcmp(policies[i].name, name) == 0)
            simulate(&trace, &policies[i], capacity, 1, answers);
    if (strcmp(answers, expected) != 0)
        fprintf(stderr, "%s on %s: %s, not %s\n", name, text, answers, expected);
    require(strcmp(answers, expected) == 0, "a trace worked by hand");
    trace_free(&trace);
}

static void check_traces(void) {
    check_by_hand("lru", 3, "abcadbea", "...h....");
    check_by_hand("lru", 3, "aabcda", ".h....");
    check_by_hand("clock", 3, "aabcda", ".h...h");
    check_by_hand("lru", 3, "abcadefa", "...h....");
    check_by_hand("clock", 3, "abcadefa", "...h....");
    check_by_hand("sieve", 3, "abcadefa", "...h...h");
    /* a comes back from the ghosts into the main queue and outlives ten others; so it does with two hits, not with one
     */
    check_by_hand("s3-fifo", 10, "abcdefghijkalmnopqrstua", "......................h");
    check_by_hand("lru", 10, "abcdefghijkalmnopqrstua", ".......................");
    check_by_hand("s3-fifo", 10, "aaabcdefghijklmnopqrstua", ".hh....................h");
    check_by_hand("s3-fifo", 10, "aabcdefghijka", ".h...........");
    /* two users of two requests each stay, whoever comes once */
    check_by_hand("w-tinylfu", 3, "aabbcdefgab", ".h.h.....hh");
    check_by_hand("lru", 3, "aabbcdefgab", ".h.h.......");
}

enum { FEW = 6, SUBSETS = 1 << FEW };

static uint64_t bytes_of(const struct trace *trace, unsigned subset) {
    uint64_t sum = 0;
    for (unsigned id = 0; id < FEW; id++)
        sum += (subset >> id & 1) != 0 ? trace->size[id] : 0;
    return sum;
}

/* The most hit bytes that any policy can have, whatever it keeps after each request, by trying all. */
static uint64_t most_by_search(const struct trace *trace, uint64_t capacity) {
    int64_t best[SUBSETS], after[SUBSETS], most = 0;
    for (unsigned i = 0; i < SUBSETS; i++)
        best[i] = i == 0 ? 0 : INT64_MIN;
    for (size_t i = 0; i < trace->length; i++) {
        unsigned asked = 1U << trace->user[i];
        for (unsigned j = 0; j < SUBSETS; j++)
            after[j] = INT64_MIN;
        for (unsigned from = 0; from < SUBSETS; from++)
            for (unsigned to = 0; best[from] >= 0 && to < SUBSETS; to++) {
                int64_t bytes = best[from] + (from & asked ? (int64_t)trace->size[trace->user[i]] : 0);
                if ((to & ~(from | asked)) == 0 && bytes_of(trace, to) <= capacity && bytes > after[to])
                    after[to] = bytes;
            }
        memcpy(best, after, sizeof best);
    }
    for (unsigned i = 0; i < SUBSETS; i++)
        most = best[i] > most ? best[i] : most;
    return (uint64_t)most;
}

/* LRU by its definition: a hit when fewer than `capacity` other users were asked for since this one. */
static uint64_t lru_hits_by_definition(const struct trace *trace, uint64_t capacity) {
    uint64_t hits = 0;
    for (size_t i = 0; i < trace->length; i++) {
        uint64_t seen = 0;
        for (size_t j = i; j-- > 0;) {
            if (trace->user[j] == trace->user[i]) {
                hits += (unsigned)__builtin_popcountll(seen) < capacity;
                break;
            }
            seen |= 1ULL << trace->user[j];
        }
    }
    return hits;
}

/* Random requests of `ids` users, low ids more often; entries of 1 to `largest` bytes. */
static struct trace random_trace(size_t length, uint32_t ids, uint32_t largest, uint64_t *random) {
    struct trace trace = {.length = length, .users = ids, .ids = ids};
    trace.user = allocate(length, sizeof *trace.user);
    trace.size = allocate(ids, sizeof *trace.size);
    for (size_t i = 0; i < length; i++)
        trace.user[i] = random_below(random, 1 + random_below(random, ids));
    for (size_t i = 0; i < ids; i++)
        trace.size[i] = 1 + random_below(random, largest);
    find_next(&trace);
    return trace;
}

static void check_optimum(uint64_t *random) {
    for (size_t round = 0; round < 200; round++) {
        uint32_t largest = round % 2 == 0 ? 1 : 3;
        struct trace trace = random_trace(30, FEW, largest, random);
        uint64_t capacity = 1 + random_below(random, 5), most = most_by_search(&trace, capacity);
        struct counts found = optimum(&trace, capacity);
        require(largest > 1 || found.hit_bytes == most, "the optimum is what a search finds, with equal sizes");
        require(found.hit_bytes >= most, "the optimum is no less than what a search finds");
        for (size_t i = 0; i < POLICIES; i++)
            require(simulate(&trace, &policies[i], capacity, 1, NULL).hit_bytes <= most, "no policy beats a search");
        trace_free(&trace);
    }
}

static void check_policies(uint64_t *random) {
    for (size_t round = 0; round < 60; round++) {
        uint32_t largest = round % 2 == 0 ? 1 : 20;
        struct trace trace = random_trace(3000, 60, largest, random);
        uint64_t capacity = (uint64_t)largest * (1 + random_below(random, 40)), distinct = 0;
        uint64_t best = optimum(&trace, capacity).hit_bytes;
        for (size_t i = 0; i < trace.length; i++)
            distinct += trace.next[i] == NONE;
        for (size_t i = 0; i < POLICIES; i++) {
            require(simulate(&trace, &policies[i], capacity, 1, NULL).hit_bytes <= best, "no policy beats the optimum");
            require(simulate(&trace, &policies[i], capacity, 4, NULL).hit_bytes <= best, "nor do shards");
            require(simulate(&trace, &policies[i], 100000, 1, NULL).hits == trace.length - distinct,
                    "with room for all, each user misses once");
        }
        require(largest > 1 ||
                    simulate(&trace, &policies[0], capacity, 1, NULL).hits == lru_hits_by_definition(&trace, capacity),
                "LRU is LRU by its definition");
        trace_free(&trace);
    }
}

static void check_workloads(uint64_t seed) {
    const struct workload *scans = &workloads[3], *batch = &workloads[6];
    struct trace trace = trace_new(scans, (size_t)10 * SCAN_PERIOD, seed);
    require(trace.ids == USERS + 10 * SCAN_LENGTH, "a fifth of the requests are of users seen once");
    trace_free(&trace);
    trace = trace_new(batch, BATCH_PERIOD, seed);
    uint8_t *touched = allocate(USERS, 1);
    for (size_t i = 0; i < trace.length; i++)
        touched[trace.user[i]] = 1;
    for (size_t i = 0; i < USERS; i++)
        require(touched[i], "a batch job touches every user");
    free(touched);
    trace_free(&trace);
}

/* The server's cache gives the hit ratio of the policy that it says it has. */
static void check_server(uint64_t seed) {
    struct trace trace = trace_new(&workloads[1], 400000, seed);
    set_sizes(&trace, true);
    uint64_t capacity = 10000;
    struct counts simulated = simulate(&trace, &policies[3], capacity, SHARDS, NULL);
    double own = ratio(run_server(&trace, capacity).hits, trace.length), said = ratio(simulated.hits, trace.length);
    printf("the server's cache: %.2f %%; S3-FIFO in the simulator: %.2f %%\n", 100 * own, 100 * said);
    require(fabs(own - said) < 0.01, "the server's cache keeps what S3-FIFO keeps");
    trace_free(&trace);
}

static int check(uint64_t seed) {
    uint64_t random = seed;
    check_traces();
    check_optimum(&random);
    check_policies(&random);
    check_workloads(seed);
    check_server(seed);
    printf("policies: all checks passed\n");
    return 0;
}

struct options {
    size_t requests, threads;
    uint64_t seed;
    const char *workload, *csv;
    bool check;
};

static bool parse(int count, char **arguments, struct options *options) {
    for (int i = 1; i < count; i++) {
        const char *name = arguments[i], *value = i + 1 < count ? arguments[i + 1] : NULL;
        if (strcmp(name, "--check") == 0) {
            options->check = true;
            continue;
        }
        if (value == NULL)
            return false;
        if (strcmp(name, "--requests") == 0)
            options->requests = strtoull(value, NULL, 10);
        else if (strcmp(name, "--threads") == 0)
            options->threads = strtoull(value, NULL, 10);
        else if (strcmp(name, "--seed") == 0)
            options->seed = strtoull(value, NULL, 10);
        else if (strcmp(name, "--workload") == 0)
            options->workload = value;
        else if (strcmp(name, "--csv") == 0)
            options->csv = value;
        else
            return false;
        i++;
    }
    return options->requests > 0 && options->requests < NONE && options->threads > 0 && options->threads <= THREADS_MAX;
}

int main(int count, char **arguments) {
    struct options options = {.requests = 8000000, .threads = 2, .seed = 1};
    if (!parse(count, arguments, &options)) {
        fprintf(stderr,
                "policies [--requests N] [--seed N] [--threads 1..%d] [--workload NAME] [--csv FILE] | --check\n",
                THREADS_MAX);
        return 2;
    }
    if (options.check)
        return check(options.seed);
    FILE *csv = options.csv == NULL ? NULL : fopen(options.csv, "w");
    if (options.csv != NULL && csv == NULL) {
        perror(options.csv);
        return 1;
    }
    if (csv != NULL)
        fprintf(csv, "workload,entries,percent_of_users,shards,policy,requests,object_hit_ratio,byte_hit_ratio,"
                     "writes_elsewhere_per_hit,visits_per_eviction,most_visits\n");
    print_header();
    for (size_t i = 0; i < WORKLOADS; i++)
        if (options.workload == NULL || strcmp(options.workload, workloads[i].name) == 0)
            run_workload(&workloads[i], options.requests, options.seed, options.threads, csv);
    return csv != NULL && fclose(csv) != 0;
}
