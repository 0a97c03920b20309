/* admin_calls.h: the answers of the admin plane's own routes. All calls are the loop's thread's. */
#ifndef SERVER_API_ADMIN_CALLS_H
#define SERVER_API_ADMIN_CALLS_H

#include "server/api/api.h"

/* As api_handle(), for a route of routes_is_admin_call(). */
bool admin_calls_handle(struct api *api, struct exchange *exchange);
/* A load has ended: answers the call that waits for it, if there is one. `refusal` is the reason why the model was
 * refused; NULL: it is live. */
void admin_calls_load_ended(struct api *api, const char *refusal);

#endif
