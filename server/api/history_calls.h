/* history_calls.h: requests' calls to the history store: on the loop's thread, outside of the scoring threads.
 *
 * A scoring thread puts a request aside that needs the store. The store is asked here, and the request runs again when
 * the answer has come; or it is answered with a problem.
 */
#ifndef SERVER_API_HISTORY_CALLS_H
#define SERVER_API_HISTORY_CALLS_H

#include "server/api/api.h"

/* Asks for what job->stored wants. The job comes back by the worker pool, or its exchange is answered. */
void history_calls_ask(struct api *api, struct job *job);

/* GET /users/{id}, with the store's record. True: it is answered, with a problem; else the answer comes later. */
bool history_calls_describe(struct api *api, struct exchange *exchange);

/* DELETE /users/{id}, in the store and in memory. True: it is answered, with a problem; else the answer comes later. */
bool history_calls_delete(struct api *api, struct exchange *exchange);

/* Whether the request has the token of --user-write, if that asks for one. */
bool history_calls_may_write(const struct api *api, const struct exchange *exchange);

/* Whether this server takes events, and from this client. False: the exchange's answer says why not. */
bool history_calls_may_send_events(const struct api *api, struct exchange *exchange);

/* The event's id in the header Idempotency-Key, without its quotes, into job->event_id. False: it is none, and the
 * exchange's answer says so. */
bool history_calls_read_event_id(struct exchange *exchange, struct job *job);

#endif
