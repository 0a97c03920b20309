/* api.h: what the routes answer from, and their answers. */
#ifndef SERVER_API_H
#define SERVER_API_H

#include "server/api/metrics_page.h"
#include "server/base/secret.h"
#include "server/base/watchdog.h"
#include "server/http/http.h"
#include "server/models/registry.h"
#include "server/options.h"
#include "server/scoring/worker_pool.h"

struct history_store;
struct admin_access;

enum api_state { API_LOADING, API_READY, API_DRAINING, API_CLOSING };

/* What the admin plane asks the service for. Called within http_run(). */
struct api_operations {
    void *context;
    bool (*reload)(void *context);    /* false: another model is being loaded */
    bool (*roll_back)(void *context); /* false: there is no previous model */
    void (*drain)(void *context);     /* begins soon; it may have begun already */
};

/* The service owns all of it and keeps it up to date. */
struct api {
    const struct options *options;
    enum api_state state;
    uint64_t started; /* clock_now() */
    size_t threads;
    struct metrics metrics;
    struct http *http;                 /* NULL before it listens, with --listen-when-ready */
    struct http *admin;                /* NULL: there is no admin plane */
    const struct admin_access *access; /* its rules */
    struct api_operations operations;
    struct exchange *waits_for_load; /* a call to reload; NULL: none */
    struct watchdog *watchdog;       /* NULL before the loop turns */
    struct registry *models;
    struct rollout rollout;          /* of the candidate in the registry's slot */
    struct comparison comparison;    /* of the candidate with the live model */
    bool has_hash_key;               /* in rollout.key, for a share of users */
    struct worker_pool *workers;     /* NULL while the first model is loaded */
    struct user_cache *cache;        /* NULL: no user states are kept */
    struct history_store *histories; /* NULL: there is none */
    struct request_log *request_log; /* NULL: no requests are recorded */
    bool writes_are_free;            /* whoever can reach the server may change histories */
    struct secret write_token;       /* else whoever brings this */
    void (*wake)(void *context);     /* the loop, so that answers are sent that were given outside of its turn */
    void *wake_context;
    char *description; /* GET /model's body, malloc'ed */
    size_t description_size;
};

/* http's handler: fills in the answer and returns true, or returns false and answers by api_give_answers(). */
bool api_handle(void *context, struct exchange *exchange);
/* The admin plane's admit(). */
void api_admit(void *context, const struct exchange *exchange, const char *target, struct problem *problem);
/* http's ended(). */
void api_ended(void *context, const struct exchange *exchange);
/* Hands over the replies of all jobs that are done. http_run() sends them. */
void api_give_answers(struct api *api);
/* Fills in the answer to GET /users/{id}. The record is of the history store; data NULL: there is none. */
void api_answer_user(struct api *api, struct exchange *exchange, struct proto_string record);
/* The live model, or NULL before the first. */
struct served_model *api_live(const struct api *api);
/* Writes GET /model's body anew, after a change of the models. False when memory is out: then it is as before. */
bool api_describe_model(struct api *api);

#endif
