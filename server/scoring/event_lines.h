/* event_lines.h: POST /events on a scoring thread: lines of JSON to changes of histories, outcomes to lines of JSON. */
#ifndef SERVER_SCORING_EVENT_LINES_H
#define SERVER_SCORING_EVENT_LINES_H

#include "server/scoring/request.h"

/* POST /events. The first run reads and checks each line, and ends with request->wants and request->events. A second
 * run, with the store's results in request->stored, has the reply. */
void request_events(struct scorer *scorer, struct request *request);

#endif
