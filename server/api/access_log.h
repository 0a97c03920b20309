/* access_log.h: what is counted and logged of a request when it is over. */
#ifndef SERVER_API_ACCESS_LOG_H
#define SERVER_API_ACCESS_LOG_H

#include "server/http/http.h"

/* Once for each exchange, at its end. Its answer's status is 0 when the client left before there was one. */
void account_exchange(const struct exchange *exchange, struct metrics *metrics, bool access_log);

#endif
