/* client_table.h: the clients of the job queue: the scoring time that each has used lately, and its waiting jobs.
 *
 * A fixed number of entries in sets of CLIENT_WAYS. A client's key chooses the set. A new client takes the place of one
 * without waiting jobs, the one that has used least. When every entry of a set has waiting jobs, the client shares one
 * of them, so that a flood of addresses takes no memory. No lock: the worker pool's mutex guards it.
 */
#ifndef SERVER_SCORING_CLIENT_TABLE_H
#define SERVER_SCORING_CLIENT_TABLE_H

#include <stddef.h>
#include <stdint.h>

struct job;

enum job_priority { PRIORITY_HIGH, PRIORITY_LOW, JOB_PRIORITIES };
enum job_lane { LANE_LIGHT, LANE_HEAVY, JOB_LANES };

/* Jobs in order of arrival. */
struct job_chain {
    struct job *oldest, *newest;
    double units;
    size_t count;
};

struct client {
    uint64_t key; /* 0: an empty entry */
    double used;  /* seconds of scoring; halved every CLIENT_HALF_LIFE */
    uint64_t since;
    struct job_chain chains[JOB_PRIORITIES][JOB_LANES];
    size_t waiting; /* jobs */
};

#define CLIENT_HALF_LIFE_SECONDS 0.5
enum { CLIENT_WAYS = 8, CLIENT_SETS = 128, CLIENTS_MAX = CLIENT_WAYS * CLIENT_SETS };

/* Initialise with zeros. */
struct client_table {
    struct client clients[CLIENTS_MAX];
    uint64_t active[CLIENTS_MAX / 64]; /* a bit for each client with waiting jobs */
};

/* The entry for a key: a good hash of the client's identity, since its low bits choose the set. */
struct client *client_table_find(struct client_table *table, uint64_t key, uint64_t now);
/* Adds to the time that a client has used; negative takes back. */
void client_charge(struct client *client, double seconds, uint64_t now);
/* The power of two of a client's use including a job of `seconds`. All below a millisecond are one level, because such
 * clients are equally quiet. Lower levels go first. */
int client_level(const struct client *client, double seconds, uint64_t now);

/* A client's jobs begin or cease to wait. */
void client_table_activate(struct client_table *table, const struct client *client);
void client_table_rest(struct client_table *table, const struct client *client);
/* The next client with waiting jobs after `client`; NULL: the first. NULL when there is no other. */
const struct client *client_table_next(const struct client_table *table, const struct client *client);

#endif
