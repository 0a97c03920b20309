/* access_log.h: the log line of a request, and its total time, when it is over.
 *
 * Members that OpenTelemetry's semantic conventions have a name for bear it, because collectors know these.
 */
#ifndef SERVER_API_ACCESS_LOG_H
#define SERVER_API_ACCESS_LOG_H

#include "server/http/http.h"
#include "server/scoring/scoring_counts.h"

/* ACCESS_LINES_OLD: members whose name changed have the old one, too. */
enum access_lines { ACCESS_LINES_NONE, ACCESS_LINES, ACCESS_LINES_OLD };

/* Once for each exchange, at its end. `summary` is that of a request that a scoring thread has done, else zeros. */
void access_log_exchange(const struct exchange *exchange, const struct request_summary *summary,
                         struct scoring_counts *counts, enum access_lines lines);

#endif
