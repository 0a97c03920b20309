/* eviction.c: S3-FIFO over entries that are linked by block numbers. */
#include "server/users/eviction.h"

enum { USES_MAX = 3, USES_TO_STAY = 2, SMALL_SHARE = 10 };

void eviction_init(struct eviction *eviction, const struct block_pool *pool, struct eviction_ghost *ghosts,
                   uint32_t ghost_count) {
    *eviction = (struct eviction){.pool = pool, .ghosts = ghosts, .ghost_count = ghost_count};
    for (int i = 0; i < EVICTION_QUEUES; i++)
        eviction->queues[i].oldest = eviction->queues[i].newest = BLOCK_NONE;
}

/* ---- queues */

static void enter(struct eviction *eviction, uint8_t queue, uint32_t number) {
    struct user_entry *entry = user_entry_at(eviction->pool, number);
    uint32_t before = eviction->queues[queue].newest;
    entry->queue = queue;
    entry->newer = BLOCK_NONE;
    entry->older = before;
    *(before != BLOCK_NONE ? &user_entry_at(eviction->pool, before)->newer : &eviction->queues[queue].oldest) = number;
    eviction->queues[queue].newest = number;
    eviction->queues[queue].entries++;
    eviction->queues[queue].blocks += entry->count;
}

static void leave(struct eviction *eviction, uint32_t number) {
    const struct user_entry *entry = user_entry_at(eviction->pool, number);
    uint8_t queue = entry->queue;
    *(entry->older != BLOCK_NONE ? &user_entry_at(eviction->pool, entry->older)->newer
                                 : &eviction->queues[queue].oldest) = entry->newer;
    *(entry->newer != BLOCK_NONE ? &user_entry_at(eviction->pool, entry->newer)->older
                                 : &eviction->queues[queue].newest) = entry->older;
    eviction->queues[queue].entries--;
    eviction->queues[queue].blocks -= entry->count;
}

/* ---- what is remembered */

static struct eviction_ghost *ghost_of(const struct eviction *eviction, uint64_t hash) {
    return &eviction->ghosts[hash % eviction->ghost_count];
}

static uint32_t fingerprint_of(uint64_t hash) {
    return (uint32_t)(hash >> 32) | 1; /* never 0, an empty slot's */
}

static void remember(struct eviction *eviction, uint64_t hash) {
    *ghost_of(eviction, hash) = (struct eviction_ghost){fingerprint_of(hash), eviction->clock++};
}

/* As many are remembered as `main` may hold entries. */
static bool is_remembered(const struct eviction *eviction, uint64_t hash) {
    const struct eviction_ghost *ghost = ghost_of(eviction, hash);
    uint32_t entries = eviction->queues[EVICTION_SMALL].entries + eviction->queues[EVICTION_MAIN].entries;
    return ghost->fingerprint == fingerprint_of(hash) &&
           eviction->clock - ghost->since <= entries - entries / SMALL_SHARE;
}

/* ---- the policy */

void eviction_insert(struct eviction *eviction, uint32_t entry) {
    struct user_entry *head = user_entry_at(eviction->pool, entry);
    head->uses = 0;
    enter(eviction, is_remembered(eviction, head->hash) ? EVICTION_MAIN : EVICTION_SMALL, entry);
}

void eviction_touch(struct user_entry *entry) {
    if (entry->uses < USES_MAX)
        entry->uses++;
}

void eviction_resize(struct eviction *eviction, const struct user_entry *entry, int64_t blocks) {
    eviction->queues[entry->queue].blocks += (uint64_t)blocks;
}

void eviction_remove(struct eviction *eviction, uint32_t entry) {
    leave(eviction, entry);
}

/* Its oldest entry either moves on to `main` or is the one to go. */
static uint32_t choose_small(struct eviction *eviction, uint32_t kept) {
    uint32_t oldest = eviction->queues[EVICTION_SMALL].oldest;
    struct user_entry *entry = user_entry_at(eviction->pool, oldest);
    leave(eviction, oldest);
    if (entry->uses >= USES_TO_STAY || oldest == kept) {
        entry->uses = 0;
        enter(eviction, EVICTION_MAIN, oldest);
        return BLOCK_NONE;
    }
    remember(eviction, entry->hash);
    return oldest;
}

static uint32_t choose_main(struct eviction *eviction, uint32_t kept) {
    uint32_t oldest = eviction->queues[EVICTION_MAIN].oldest;
    struct user_entry *entry = user_entry_at(eviction->pool, oldest);
    leave(eviction, oldest);
    if (entry->uses > 0 || oldest == kept) {
        entry->uses = (uint8_t)(entry->uses > 0 ? entry->uses - 1 : 0);
        enter(eviction, EVICTION_MAIN, oldest);
        return BLOCK_NONE;
    }
    return oldest;
}

uint32_t eviction_choose(struct eviction *eviction, uint32_t kept) {
    for (;;) {
        uint64_t small = eviction->queues[EVICTION_SMALL].blocks, main = eviction->queues[EVICTION_MAIN].blocks;
        uint32_t entries = eviction->queues[EVICTION_SMALL].entries + eviction->queues[EVICTION_MAIN].entries;
        if (entries == 0 || (entries == 1 && kept != BLOCK_NONE))
            return BLOCK_NONE;
        bool from_small = main == 0 || small * SMALL_SHARE > small + main;
        uint32_t chosen = from_small ? choose_small(eviction, kept) : choose_main(eviction, kept);
        if (chosen != BLOCK_NONE)
            return chosen;
    }
}
