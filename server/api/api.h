/* api.h: what the routes answer from, and their answers. */
#ifndef SERVER_API_H
#define SERVER_API_H

#include "server/api/metrics_page.h"
#include "server/base/watchdog.h"
#include "server/http/http.h"
#include "server/options.h"
#include "server/scoring/worker_pool.h"

struct history_store;

enum api_state { API_LOADING, API_READY, API_DRAINING, API_CLOSING };

/* The service owns all of it and keeps it up to date. */
struct api {
    const struct options *options;
    enum api_state state;
    uint64_t started; /* clock_now() */
    size_t threads;
    struct metrics metrics;
    struct http *http;
    struct watchdog *watchdog; /* NULL before the loop turns */
    struct dien_model *model;  /* NULL while it is loaded, as the next */
    size_t prefaulted_bytes;   /* of the model's file, read before it was ready */
    double prefault_seconds;
    struct worker_pool *workers;
    struct user_cache *cache;        /* NULL: no user states are kept */
    struct history_store *histories; /* NULL: there is none */
    bool writes_are_free;            /* whoever can reach the server may change histories */
    const char *write_token;         /* else whoever has this; NULL: nobody */
    void (*wake)(void *context);     /* the loop, so that answers are sent that were given outside of its turn */
    void *wake_context;
    uint64_t version;  /* of the model, for the cache: the first is 1 */
    char *description; /* GET /model's body, malloc'ed */
    size_t description_size;
};

/* http's handler: fills in the answer and returns true, or returns false and answers by api_give_answers(). */
bool api_handle(void *context, struct exchange *exchange);
/* http's ended(). */
void api_ended(void *context, const struct exchange *exchange);
/* Hands over the replies of all jobs that are done. http_run() sends them. */
void api_give_answers(struct api *api);
/* Writes GET /model's body anew. False when memory is out. */
bool api_describe_model(struct api *api);

#endif
