/* scoring_counts.c: a finished request into its counters. */
#include "server/scoring/scoring_counts.h"

#include <string.h>

/* The index of a name among the counted fields, or their number. */
static size_t find_field(const struct scoring_counts *counts, const char *name) {
    size_t i = 0, fields = counts->fields;
    while (i < fields && strcmp(counts->unknown_names[i], name) != 0)
        i++;
    return i;
}

void scoring_counts_model(struct scoring_counts *counts, const struct dien_model *model) {
    for (enum dien_group group = DIEN_USER; group < DIEN_GROUPS; group++) {
        const struct dien_field *const *fields = NULL;
        size_t count = dien_fields(model, group, &fields);
        for (size_t i = 0; i < count; i++) { /* a field of several groups is one series */
            size_t counted = counts->fields, size = strlen(fields[i]->name) + 1;
            if (fields[i]->kind == DIEN_DENSE || counted == COUNTED_FIELDS_MAX ||
                size > COUNTED_NAMES_BYTES - counts->name_bytes || find_field(counts, fields[i]->name) < counted)
                continue;
            counts->unknown_names[counted] = memcpy(counts->name_text + counts->name_bytes, fields[i]->name, size);
            counts->name_bytes += size;
            counts->fields = counted + 1;
        }
    }
}

/* Decoding is timed for refused requests too; the later phases only for those that were answered. */
void scoring_counts_request(struct scoring_counts *counts, const struct request *request) {
    const struct request_summary *summary = &request->summary;
    bool good = request->problem.kind == PROBLEM_NONE && !request->departed, scores = request->path_user.id == NULL;
    if (request->format == PROTO_LINES) {
        for (size_t i = 0; i < HISTORY_OUTCOMES; i++)
            counter_add(&counts->events[i], summary->events[i]);
        return;
    }
    counter_add(&counts->dropped_states[request->drop], 1);
    if (scores)
        histogram_add(&counts->phases[PHASE_DECODE], summary->seconds[PHASE_DECODE]);
    if (!good)
        return;
    for (unsigned phase = PHASE_DECODE + 1; scores && phase < SCORING_PHASES; phase++)
        histogram_add(&counts->phases[phase], summary->seconds[phase]);
    counter_add(&counts->candidates, summary->candidates);
    counter_add(&counts->behaviours, summary->behaviours);
    histogram_add(&counts->states[request->state.origin], summary->seconds[PHASE_STATE]);
    if (request->has_miss)
        counter_add(&counts->misses[request->state.miss], 1);
    for (size_t i = 0; i < request->resolved.unknown_count; i++) {
        const struct proto_unknown *unknown = &request->resolved.unknown[i];
        size_t field = unknown->count > 0 ? find_field(counts, unknown->field) : COUNTED_FIELDS_MAX;
        if (field < counts->fields)
            counter_add(&counts->unknown_ids[field], unknown->count);
    }
}
