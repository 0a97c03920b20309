/* model_page.h: the body of GET /model: the fields and limits that a client must keep to. */
#ifndef SERVER_API_MODEL_PAGE_H
#define SERVER_API_MODEL_PAGE_H

#include "proto/arena.h"
#include "proto/score.h"
#include "server/models/registry.h"
#include "server/options.h"

/* In the arena; data NULL when memory is out. */
struct proto_string model_page_describe(const struct served_model *served, const struct registry_counts *counts,
                                        const struct options *options, struct arena *arena);

#endif
