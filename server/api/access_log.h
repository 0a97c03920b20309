/* access_log.h: the log line of a request, and its total time, when it is over. */
#ifndef SERVER_API_ACCESS_LOG_H
#define SERVER_API_ACCESS_LOG_H

#include "server/http/http.h"
#include "server/scoring/scoring_counts.h"

/* Once for each exchange, at its end. `summary` is that of a request that a scoring thread has done, else zeros.
 * `lines`: write the line, too. */
void access_log_exchange(const struct exchange *exchange, const struct request_summary *summary,
                         struct scoring_counts *counts, bool lines);

#endif
