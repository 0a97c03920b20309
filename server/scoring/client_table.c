/* client_table.c: a set-associative table, and use that halves with time. */
#include "server/scoring/client_table.h"

#include "server/base/clock.h"

#include <math.h>

#define QUIET_SECONDS 1e-3
enum { WORD_BITS = 64, HALVINGS_MAX = 64 };
static const uint64_t half_life = (uint64_t)(1e9 * CLIENT_HALF_LIFE_SECONDS);

static uint64_t half_lives(const struct client *client, uint64_t now) {
    uint64_t past = now > client->since ? now - client->since : 0;
    uint64_t count = past / half_life;
    return count < HALVINGS_MAX ? count : HALVINGS_MAX;
}

static double used_by(const struct client *client, uint64_t now) {
    return ldexp(client->used, -(int)half_lives(client, now));
}

struct client *client_table_find(struct client_table *table, uint64_t key, uint64_t now) {
    key = key != 0 ? key : 1;
    struct client *set = &table->clients[key % CLIENT_SETS * CLIENT_WAYS], *free_entry = NULL;
    for (size_t i = 0; i < CLIENT_WAYS; i++) {
        if (set[i].key == key)
            return &set[i];
        if (set[i].waiting == 0 && (free_entry == NULL || used_by(&set[i], now) < used_by(free_entry, now)))
            free_entry = &set[i];
    }
    if (free_entry == NULL)
        return &set[key / CLIENT_SETS % CLIENT_WAYS];
    *free_entry = (struct client){.key = key, .since = now};
    return free_entry;
}

void client_charge(struct client *client, double seconds, uint64_t now) {
    client->used = used_by(client, now) + seconds;
    client->used = client->used > 0 ? client->used : 0;
    if (now > client->since)
        client->since = now - (now - client->since) % half_life;
}

int client_level(const struct client *client, double seconds, uint64_t now) {
    double used = used_by(client, now) + seconds;
    return ilogb(used > QUIET_SECONDS ? used : QUIET_SECONDS);
}

static size_t index_of(const struct client_table *table, const struct client *client) {
    return (size_t)(client - table->clients);
}

void client_table_activate(struct client_table *table, const struct client *client) {
    size_t i = index_of(table, client);
    table->active[i / WORD_BITS] |= UINT64_C(1) << i % WORD_BITS;
}

void client_table_rest(struct client_table *table, const struct client *client) {
    size_t i = index_of(table, client);
    table->active[i / WORD_BITS] &= ~(UINT64_C(1) << i % WORD_BITS);
}

const struct client *client_table_next(const struct client_table *table, const struct client *client) {
    size_t first = client != NULL ? index_of(table, client) + 1 : 0;
    for (size_t word = first / WORD_BITS; word < CLIENTS_MAX / WORD_BITS; word++) {
        uint64_t bits = table->active[word];
        if (word == first / WORD_BITS)
            bits &= ~UINT64_C(0) << first % WORD_BITS;
        if (bits != 0)
            return &table->clients[word * WORD_BITS + (size_t)__builtin_ctzll(bits)];
    }
    return NULL;
}
