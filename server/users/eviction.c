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

static uint32_t count_entries(const struct eviction *eviction) {
    return eviction->queues[EVICTION_SMALL].entries + eviction->queues[EVICTION_MAIN].entries;
}

/* ---- ghosts */

static struct eviction_ghost *ghost_for(const struct eviction *eviction, uint64_t hash) {
    return &eviction->ghosts[hash % eviction->ghost_count];
}

static uint32_t fingerprint(uint64_t hash) {
    return (uint32_t)(hash >> 32) | 1; /* never 0, the mark of an empty ghost */
}

/* ---- the policy */

void eviction_insert(struct eviction *eviction, uint32_t entry) {
    struct user_entry *head = user_entry_at(eviction->pool, entry);
    const struct eviction_ghost *ghost = ghost_for(eviction, head->hash);
    uint32_t entries = count_entries(eviction);
    /* As many evictions are remembered as `main` may hold entries. */
    bool is_remembered = ghost->fingerprint == fingerprint(head->hash) &&
                         eviction->clock - ghost->since <= entries - entries / SMALL_SHARE;
    head->uses = 0;
    enter(eviction, is_remembered ? EVICTION_MAIN : EVICTION_SMALL, entry);
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

uint32_t eviction_choose(struct eviction *eviction, uint32_t kept) {
    for (;;) {
        uint64_t small = eviction->queues[EVICTION_SMALL].blocks, main = eviction->queues[EVICTION_MAIN].blocks;
        uint32_t entries = count_entries(eviction);
        if (entries == 0 || (entries == 1 && kept != BLOCK_NONE))
            return BLOCK_NONE;
        bool from_small = main == 0 || small * SMALL_SHARE > small + main;
        uint32_t oldest = eviction->queues[from_small ? EVICTION_SMALL : EVICTION_MAIN].oldest;
        struct user_entry *entry = user_entry_at(eviction->pool, oldest);
        leave(eviction, oldest);
        if (oldest != kept && entry->uses < (from_small ? USES_TO_STAY : 1)) {
            if (from_small)
                *ghost_for(eviction, entry->hash) =
                    (struct eviction_ghost){fingerprint(entry->hash), eviction->clock++};
            return oldest;
        }
        /* Used entries of `small` move on with no uses, those of `main` get another round for one of theirs. */
        entry->uses = (uint8_t)(from_small || entry->uses == 0 ? 0 : entry->uses - 1);
        enter(eviction, EVICTION_MAIN, oldest);
    }
}
