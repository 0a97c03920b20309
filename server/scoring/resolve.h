/* resolve.h: a decoded request against the model's fields: every id to its row, every attribute that was left out
 * filled in, every value that does not fit refused with its place.
 */
#ifndef SERVER_SCORING_RESOLVE_H
#define SERVER_SCORING_RESOLVE_H

#include "server/scoring/request.h"

/* The behaviours are the request's history, or what it appends to one: only one of the two is there. A request without
 * candidates (POST /users/{id}/history) has behaviours only. False on error, with *problem. */
bool resolve(const struct dien_model *model, const struct request_limits *limits, struct arena *arena,
             const struct proto_request *request, struct resolved *resolved, struct problem *problem);

#endif
