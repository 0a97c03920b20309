/* user.c: build, extend and restore user states: embed the behaviours, run the interest extractor, derive what scoring
 * needs.
 *
 * Steps are computed in tiles of LANES, but a step's result does not depend on its place in a tile (kernels.h), so a
 * state built at once and one extended step by step have the same bits.
 */
#include "model/network/user.h"

#include "model/network/embed.h"
#include "model/network/scratch.h"

#include <string.h>

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t aligned(size_t bytes) {
    return (bytes + DIEN_ALIGNMENT - 1) / DIEN_ALIGNMENT * DIEN_ALIGNMENT;
}

static float *floats(struct dien_user *user, size_t offset) {
    return (float *)(void *)((char *)user + offset);
}

static size_t history_field(const struct dien_model *model, const struct interest *interest, size_t i) {
    return model->config.groups[DIEN_BEHAVIOUR].at[interest->config->history.at[i]];
}

/* Bytes that one behaviour of a field takes. */
static size_t behaviour_size(const struct dien_model *model, size_t field) {
    const struct field_config *config = &model->config.fields[field];
    return config->dense ? config->width * sizeof(float) : sizeof(int32_t);
}

/* ---- layout
 * ---------------------------------------------------------------------------------------------------------- */

/* Floats that each step keeps (user.h). */
struct widths {
    size_t states, evolved, keys, inputs;
};

static struct widths widths_of(const struct interest *interest) {
    size_t evolution = interest->evolution.units;
    bool alone = config_evolves_alone(interest->config);
    return (struct widths){.states = interest->extractor.units,
                           .evolved = alone ? evolution : 0,
                           .keys = interest->attention.key.units,
                           .inputs = alone ? 0 : 3 * evolution};
}

/* Place the core of one interest of length T from `offset` on; returns the offset behind it. */
static size_t lay_out_core(const struct dien_model *model, const struct interest *interest, size_t length,
                           size_t offset, struct user_interest *placed) {
    placed->length = length;
    placed->behaviours = offset;
    for (size_t i = 0; i < interest->config->history.count; i++)
        offset += length * behaviour_size(model, history_field(model, interest, i));
    struct widths widths = widths_of(interest);
    placed->states = aligned(offset);
    placed->evolved = placed->states + aligned(length * widths.states * sizeof(float));
    placed->sum = placed->evolved + aligned(length * widths.evolved * sizeof(float));
    return placed->sum + aligned(interest->behaviour_width * sizeof(float));
}

/* The same for what is derived. */
static size_t lay_out_derived(const struct interest *interest, size_t offset, struct user_interest *placed) {
    struct widths widths = widths_of(interest);
    placed->keys = offset;
    placed->inputs = placed->keys + aligned(placed->length * widths.keys * sizeof(float));
    return placed->inputs + aligned(placed->length * widths.inputs * sizeof(float));
}

static size_t header_bytes(const struct dien_model *model) {
    return aligned(sizeof(struct dien_user) + model->config.interest_count * sizeof(struct user_interest));
}

static size_t kept(const struct dien_model *model, size_t interest, size_t count) {
    return smaller(count, model->interests[interest].config->max_length);
}

/* Lay out a state's header; lengths[i] are already cut. */
static void lay_out_header(const struct dien_model *model, const size_t *lengths, struct dien_user *user) {
    user->interest_count = model->config.interest_count;
    user->bytes = header_bytes(model);
    for (size_t i = 0; i < user->interest_count; i++)
        user->bytes = lay_out_core(model, &model->interests[i], lengths[i], user->bytes, &user->interests[i]);
    user->core_bytes = user->bytes;
    for (size_t i = 0; i < user->interest_count; i++)
        user->bytes = lay_out_derived(&model->interests[i], user->bytes, &user->interests[i]);
}

static struct dien_user *lay_out(const struct dien_model *model, const size_t *lengths, void *memory) {
    lay_out_header(model, lengths, memory);
    return memory;
}

size_t dien_user_bytes(const struct dien_model *model, const size_t *counts) {
    _Alignas(
        struct dien_user) char header[sizeof(struct dien_user) + CONFIG_MAX_INTERESTS * sizeof(struct user_interest)];
    size_t lengths[CONFIG_MAX_INTERESTS] = {0};
    for (size_t i = 0; i < model->config.interest_count; i++)
        lengths[i] = kept(model, i, counts[i]);
    return lay_out(model, lengths, header)->bytes;
}

size_t dien_user_length(const struct dien_user *user, size_t interest) {
    return user->interests[interest].length;
}

size_t dien_user_received(const struct dien_user *user, size_t interest) {
    return user->interests[interest].received;
}

size_t dien_user_size(const struct dien_user *user) {
    return user->bytes;
}

size_t dien_user_core_bytes(const struct dien_user *user) {
    return user->core_bytes;
}

/* ---- behaviours
 * ------------------------------------------------------------------------------------------------------ */

/* Behaviours of the history that an interest reads, counted in the columns given. */
static size_t history_count(const struct interest *interest, const struct dien_columns *history) {
    return history->column[interest->config->history.at[0]].count;
}

/* Copy `count` behaviours that start at `first` of the columns to place `to` of the state. */
static void keep_behaviours(const struct dien_model *model, const struct interest *interest,
                            const struct dien_columns *columns, size_t first, size_t count, struct dien_user *user,
                            const struct user_interest *placed, size_t to) {
    char *place = (char *)user + placed->behaviours;
    for (size_t i = 0; i < interest->config->history.count && count > 0; i++) {
        const struct dien_column *column = &columns->column[interest->config->history.at[i]];
        size_t size = behaviour_size(model, history_field(model, interest, i));
        const char *from = column->rows != NULL ? (const char *)column->rows : (const char *)column->values;
        memcpy(place + to * size, from + first * size, count * size);
        place += placed->length * size;
    }
}

/* Copy behaviours from one state to another. */
static void move_behaviours(const struct dien_model *model, const struct interest *interest,
                            const struct dien_user *from, size_t interest_index, size_t first, size_t count,
                            struct dien_user *user) {
    const struct user_interest *source = &from->interests[interest_index], *placed = &user->interests[interest_index];
    const char *old = (const char *)from + source->behaviours;
    char *place = (char *)user + placed->behaviours;
    for (size_t i = 0; i < interest->config->history.count; i++) {
        size_t size = behaviour_size(model, history_field(model, interest, i));
        memcpy(place, old + first * size, count * size);
        old += source->length * size;
        place += placed->length * size;
    }
}

/* The column of a field that a state keeps at `place`. */
static struct dien_column kept_column(const struct dien_model *model, const struct user_interest *placed, size_t field,
                                      const char *place) {
    bool dense = model->config.fields[field].dense;
    return (struct dien_column){.count = placed->length,
                                .rows = dense ? NULL : (const int32_t *)(const void *)place,
                                .values = dense ? (const float *)(const void *)place : NULL};
}

/* The rows of a tile of behaviours, from `first` on, before they are embedded. */
static void fetch_behaviours(const struct dien_model *model, const struct interest *interest,
                             const struct dien_user *user, const struct user_interest *placed, size_t first) {
    const char *place = (const char *)user + placed->behaviours;
    size_t count = first < placed->length ? smaller(LANES, placed->length - first) : 0;
    for (size_t i = 0; i < interest->config->history.count; i++) {
        size_t field = history_field(model, interest, i);
        struct dien_column column = kept_column(model, placed, field, place);
        embed_fetch(model, field, &column, first, count);
        place += placed->length * behaviour_size(model, field);
    }
}

/* Embed behaviours first .. first + count of a state, in lanes. */
static void embed_behaviours(const struct dien_model *model, const struct interest *interest,
                             const struct dien_user *user, const struct user_interest *placed, size_t first,
                             size_t count, float *lanes) {
    const char *place = (const char *)user + placed->behaviours;
    for (size_t i = 0; i < interest->config->history.count; i++) {
        size_t field = history_field(model, interest, i);
        struct dien_column column = kept_column(model, placed, field, place);
        embed_lanes(model, 1, &field, &column, first, count, lanes);
        lanes += config_field_width(&model->config, field) * LANES;
        place += placed->length * behaviour_size(model, field);
    }
}

/* ---- the extractor
 * --------------------------------------------------------------------------------------------------- */

/* Lane `lane` of a matrix in lanes, as a vector, and back. */
static void take_lane(const float *lanes, size_t units, size_t lane, float *vector) {
    for (size_t unit = 0; unit < units; unit++)
        vector[unit] = lanes[unit * LANES + lane];
}

static void put_lane(const float *vector, size_t units, size_t lane, float *lanes) {
    for (size_t unit = 0; unit < units; unit++)
        lanes[unit * LANES + lane] = vector[unit];
}

/* Add the tile's embedded behaviours to the sum, one by one: the order that makes an extended sum the same bits. */
static void add_to_sum(const struct interest *interest, const float *behaviours, size_t count, float *sum) {
    for (size_t unit = 0; unit < interest->behaviour_width; unit++)
        for (size_t step = 0; step < count; step++)
            sum[unit] += behaviours[unit * LANES + step];
}

/* Run a cell over a tile: steps first .. first + count of rows [T, units], of which those before `first` are there. The
 * inputs of the cell are projected from x; the new states also go into `states`, in lanes. */
static void run_cell(const struct dien_model *model, const struct projection *input, const struct cell *cell,
                     const float *x, struct dien_scratch *scratch, size_t first, size_t count, float *rows,
                     float *states) {
    size_t units = cell->units;
    model->kernels->linear(input, 1, x, scratch->cell_input);
    memset(scratch->step_state, 0, units * sizeof(float));
    if (first > 0)
        memcpy(scratch->step_state, rows + (first - 1) * units, units * sizeof(float));
    memset(states, 0, units * LANES * sizeof(float));
    for (size_t step = 0; step < count; step++) {
        take_lane(scratch->cell_input, 3 * units, step, scratch->step_input);
        model->kernels->extract(model->kernels, cell, scratch->step_input, scratch->step_state, scratch->step_state,
                                scratch->step_work);
        memcpy(rows + (first + step) * units, scratch->step_state, units * sizeof(float));
        put_lane(scratch->step_state, units, step, states);
    }
}

/* Steps first .. first + count of a history, count <= LANES (paper eq. 2-5). */
static void extract_tile(const struct dien_model *model, const struct interest *interest, struct dien_scratch *scratch,
                         struct dien_user *user, const struct user_interest *placed, size_t first, size_t count) {
    embed_behaviours(model, interest, user, placed, first, count, scratch->behaviours);
    add_to_sum(interest, scratch->behaviours, count, floats(user, placed->sum));
    run_cell(model, &interest->extractor_input, &interest->extractor, scratch->behaviours, scratch, first, count,
             floats(user, placed->states), scratch->states);
    if (config_evolves_alone(interest->config))
        run_cell(model, &interest->evolution_input, &interest->evolution, scratch->states, scratch, first, count,
                 floats(user, placed->evolved), scratch->evolved);
}

/* All steps from `first` on; the steps before it are there. */
static void extract(const struct dien_model *model, const struct interest *interest, struct dien_scratch *scratch,
                    struct dien_user *user, const struct user_interest *placed, size_t first) {
    if (first == 0)
        memset(floats(user, placed->sum), 0, interest->behaviour_width * sizeof(float));
    fetch_behaviours(model, interest, user, placed, first);
    for (; first < placed->length; first += LANES) {
        fetch_behaviours(model, interest, user, placed, first + LANES);
        extract_tile(model, interest, scratch, user, placed, first, smaller(LANES, placed->length - first));
    }
}

/* ---- what is derived
 * ------------------------------------------------------------------------------------------------ */

/* Complete a state whose core is there. */
static void complete(const struct dien_model *model, struct dien_user *user) {
    for (size_t i = 0; i < user->interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        const struct user_interest *placed = &user->interests[i];
        if (!config_evolves_alone(interest->config))
            model->kernels->gemv_rows(&interest->evolution_rows, placed->length, user_floats(user, placed->states),
                                      floats(user, placed->inputs));
        if (interest->attention.key.units > 0)
            model->kernels->gemv_rows(&interest->attention.key_rows, placed->length, user_keys(interest, user, placed),
                                      floats(user, placed->keys));
    }
}

struct dien_user *dien_user_restore(const struct dien_model *model, const struct dien_user *core, void *memory) {
    memcpy(memory, core, core->core_bytes);
    complete(model, memory);
    return memory;
}

/* ---- build and extend
 * ------------------------------------------------------------------------------------------------ */

/* Copy what was computed of the first steps. */
static void move_states(const struct interest *interest, const struct dien_user *from,
                        const struct user_interest *source, struct dien_user *user,
                        const struct user_interest *placed) {
    struct widths widths = widths_of(interest);
    size_t length = source->length * sizeof(float);
    memcpy(floats(user, placed->states), user_floats(from, source->states), length * widths.states);
    memcpy(floats(user, placed->evolved), user_floats(from, source->evolved), length * widths.evolved);
    memcpy(floats(user, placed->sum), user_floats(from, source->sum), interest->behaviour_width * sizeof(float));
}

/* One interest of a history; `from` is NULL, or holds its first steps. */
static void build_interest(const struct dien_model *model, struct dien_scratch *scratch, size_t index,
                           const struct dien_columns *history, const struct dien_user *from, struct dien_user *user) {
    const struct interest *interest = &model->interests[index];
    const struct user_interest *placed = &user->interests[index];
    size_t known = from != NULL ? from->interests[index].length : 0;
    size_t first = interest->config->keep_first ? 0 : history_count(interest, history) - placed->length;
    keep_behaviours(model, interest, history, first, placed->length, user, placed, 0);
    if (known > 0)
        move_states(interest, from, &from->interests[index], user, placed);
    extract(model, interest, scratch, user, placed, known);
}

struct dien_user *dien_user_continue(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *history, void *memory) {
    size_t lengths[CONFIG_MAX_INTERESTS] = {0};
    for (size_t i = 0; i < model->config.interest_count; i++)
        lengths[i] = kept(model, i, history_count(&model->interests[i], history));
    struct dien_user *user = lay_out(model, lengths, memory);
    for (size_t i = 0; i < user->interest_count; i++) {
        user->interests[i].received = history_count(&model->interests[i], history);
        build_interest(model, scratch, i, history, core, user);
    }
    complete(model, user);
    return user;
}

struct dien_user *dien_user_build(const struct dien_model *model, struct dien_scratch *scratch,
                                  const struct dien_columns *history, void *memory) {
    return dien_user_continue(model, scratch, NULL, history, memory);
}

size_t dien_user_extended_bytes(const struct dien_model *model, const struct dien_user *core,
                                const struct dien_columns *more) {
    size_t counts[CONFIG_MAX_INTERESTS] = {0};
    for (size_t i = 0; i < model->config.interest_count; i++)
        counts[i] = core->interests[i].length + history_count(&model->interests[i], more);
    return dien_user_bytes(model, counts);
}

static enum dien_extension extend_interest(const struct dien_model *model, struct dien_scratch *scratch, size_t index,
                                           const struct dien_user *from, const struct dien_columns *more,
                                           struct dien_user *user) {
    const struct interest *interest = &model->interests[index];
    const struct user_interest *source = &from->interests[index], *placed = &user->interests[index];
    size_t count = history_count(interest, more), total = source->length + count;
    size_t dropped = interest->config->keep_first ? 0 : total - placed->length;
    size_t old = source->length - smaller(dropped, source->length); /* behaviours of `from` that stay */
    move_behaviours(model, interest, from, index, source->length - old, old, user);
    keep_behaviours(model, interest, more, interest->config->keep_first ? 0 : count - (placed->length - old),
                    placed->length - old, user, placed, old);
    if (dropped == 0)
        move_states(interest, from, source, user, placed);
    extract(model, interest, scratch, user, placed, dropped == 0 ? source->length : 0);
    return dropped == 0 ? DIEN_EXTENDED : DIEN_RECOMPUTED;
}

enum dien_extension dien_user_extend(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *more, void *memory) {
    size_t lengths[CONFIG_MAX_INTERESTS] = {0};
    for (size_t i = 0; i < model->config.interest_count; i++)
        lengths[i] = kept(model, i, core->interests[i].length + history_count(&model->interests[i], more));
    struct dien_user *user = lay_out(model, lengths, memory);
    enum dien_extension result = DIEN_EXTENDED;
    for (size_t i = 0; i < user->interest_count; i++) {
        user->interests[i].received = core->interests[i].received + history_count(&model->interests[i], more);
        if (extend_interest(model, scratch, i, core, more, user) == DIEN_RECOMPUTED)
            result = DIEN_RECOMPUTED;
    }
    complete(model, user);
    return result;
}

/* ---- compare
 * ------------------------------------------------------------------------------------------------------ */

/* Are `count` behaviours of a state from `from` on those of the history from `to` on? */
static bool same_behaviours(const struct dien_model *model, const struct interest *interest,
                            const struct dien_user *user, const struct user_interest *placed, size_t from,
                            const struct dien_columns *history, size_t to, size_t count) {
    const char *place = (const char *)user + placed->behaviours;
    for (size_t i = 0; i < interest->config->history.count && count > 0; i++) {
        const struct dien_column *column = &history->column[interest->config->history.at[i]];
        size_t size = behaviour_size(model, history_field(model, interest, i));
        const char *values = column->rows != NULL ? (const char *)column->rows : (const char *)column->values;
        if (memcmp(place + from * size, values + to * size, count * size) != 0)
            return false;
        place += placed->length * size;
    }
    return true;
}

/* How far a window may have moved on and still be recognised: for a label's sake no request pays T^2. */
enum { SHIFTS_MOST = 256 };

/* Is the kept end of the history the state's window, moved on by some behaviours? */
static bool has_slid(const struct dien_model *model, const struct interest *interest, const struct dien_user *user,
                     const struct user_interest *placed, const struct dien_columns *history, size_t first,
                     size_t count) {
    for (size_t shift = 1; shift < placed->length && shift <= SHIFTS_MOST; shift++)
        if (same_behaviours(model, interest, user, placed, shift, history, first,
                            smaller(placed->length - shift, count)))
            return true;
    return false;
}

static enum dien_match compare_interest(const struct dien_model *model, size_t index, const struct dien_user *user,
                                        const struct dien_columns *history) {
    const struct interest *interest = &model->interests[index];
    const struct user_interest *placed = &user->interests[index];
    size_t received = history_count(interest, history), count = kept(model, index, received);
    size_t first = interest->config->keep_first ? 0 : received - count;
    if (same_behaviours(model, interest, user, placed, 0, history, first, smaller(placed->length, count))) {
        if (placed->length == count)
            return DIEN_SAME;
        if (placed->length > count)
            return DIEN_SHORTER;
        if (first == 0)
            return DIEN_PREFIX;
    }
    return has_slid(model, interest, user, placed, history, first, count) ? DIEN_SLID : DIEN_OTHER;
}

enum dien_match dien_user_compare(const struct dien_model *model, const struct dien_user *core,
                                  const struct dien_columns *history) {
    enum dien_match match = DIEN_SAME;
    for (size_t i = 0; i < model->config.interest_count; i++) {
        enum dien_match one = compare_interest(model, i, core, history);
        match = one > match ? one : match;
    }
    return match;
}
