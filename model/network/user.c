/* user.c: lay out, build, extend, restore and compare user states. */
#include "model/network/user.h"

#include "model/network/extractor.h"
#include "model/network/scratch.h"
#include "model/sizes.h"

#include <assert.h>
#include <string.h>

/* ---- layout ---- */

static size_t float_bytes(size_t count) {
    return size_round_up(count * sizeof(float), DIEN_ALIGNMENT);
}

/* Write the header of a state whose interests keep so many behaviours: first all cores, then all derived parts. */
static struct dien_user *lay_out(const struct dien_model *model, const size_t *lengths, void *memory) {
    struct dien_user *user = memory;
    user->interest_count = model->config.interest_count;
    size_t end = size_round_up(sizeof *user + user->interest_count * sizeof *user->interests, DIEN_ALIGNMENT);
    for (size_t i = 0; i < user->interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        struct interest_layout *layout = &user->interests[i];
        layout->length = lengths[i];
        layout->behaviours = end;
        layout->states = size_round_up(end + lengths[i] * interest->history.value_bytes, DIEN_ALIGNMENT);
        layout->evolved = layout->states + float_bytes(lengths[i] * interest->step.states);
        layout->sum = layout->evolved + float_bytes(lengths[i] * interest->step.evolved);
        end = layout->sum + float_bytes(interest->history.width);
    }
    user->core_bytes = end;
    for (size_t i = 0; i < user->interest_count; i++) {
        const struct step_widths *step = &model->interests[i].step;
        struct interest_layout *layout = &user->interests[i];
        layout->keys = end;
        layout->inputs = layout->keys + float_bytes(lengths[i] * step->keys);
        end = layout->inputs + float_bytes(lengths[i] * step->inputs);
    }
    user->bytes = end;
    return user;
}

/* Behaviours that interest i keeps of `count`. */
static size_t kept(const struct dien_model *model, size_t i, size_t count) {
    return size_min(count, model->config.interests[i].max_length);
}

size_t dien_user_bytes(const struct dien_model *model, const size_t *counts) {
    _Alignas(
        struct dien_user) char header[sizeof(struct dien_user) + CONFIG_INTERESTS_MAX * sizeof(struct interest_layout)];
    size_t lengths[CONFIG_INTERESTS_MAX] = {0};
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

void dien_user_set_received(struct dien_user *user, size_t interest, size_t received) {
    user->interests[interest].received = received;
}

size_t dien_user_size(const struct dien_user *user) {
    return user->bytes;
}

size_t dien_user_core_bytes(const struct dien_user *user) {
    return user->core_bytes;
}

/* ---- behaviours and states ---- */

/* Behaviours in the columns that an interest reads. */
static size_t history_count(const struct interest *interest, const struct dien_columns *history) {
    return history->column[interest->history.parts[0].column].count;
}

/* Value number `i` of a field in a state, and in the columns of a request. */
static size_t state_value(const struct interest_layout *layout, const struct vector_part *part, size_t i) {
    return layout->behaviours + layout->length * part->value_offset + i * part->embedding->value_bytes;
}

struct dien_column user_column(const struct vector_part *part, const struct dien_user *user,
                               const struct interest_layout *layout) {
    const void *values = (const char *)user + state_value(layout, part, 0);
    bool dense = part->embedding->table == NULL;
    return (struct dien_column){
        .count = layout->length, .rows = dense ? NULL : values, .values = dense ? values : NULL};
}

struct dien_column dien_user_values(const struct dien_model *model, const struct dien_user *core, size_t interest,
                                    size_t field) {
    return user_column(&model->interests[interest].history.parts[field], core, &core->interests[interest]);
}

/* `count` values of the columns from number `i` on, at least one. */
static const char *column_values(const struct dien_columns *columns, const struct vector_part *part, size_t i,
                                 size_t count) {
    const struct dien_column *column = &columns->column[part->column];
    assert(i + count <= column->count); /* so many the request has checked */
    const char *values = column->rows != NULL ? (const char *)column->rows : (const char *)column->values;
    return values + i * part->embedding->value_bytes;
}

/* Copy behaviours first .. first + count of the columns into a state, from its behaviour `index` on. */
static void copy_behaviours(const struct interest *interest, const struct dien_columns *columns, size_t first,
                            size_t count, struct dien_user *user, const struct interest_layout *layout, size_t index) {
    for (size_t i = 0; i < interest->history.count && count > 0; i++) {
        const struct vector_part *part = &interest->history.parts[i];
        memcpy((char *)user + state_value(layout, part, index), column_values(columns, part, first, count),
               count * part->embedding->value_bytes);
    }
}

/* Whether the state's behaviours from `index` on equal the columns' from `first` on, `count` of them. */
static bool same_behaviours(const struct interest *interest, const struct dien_user *user,
                            const struct interest_layout *layout, size_t index, const struct dien_columns *columns,
                            size_t first, size_t count) {
    for (size_t i = 0; i < interest->history.count && count > 0; i++) {
        const struct vector_part *part = &interest->history.parts[i];
        if (memcmp((const char *)user + state_value(layout, part, index), column_values(columns, part, first, count),
                   count * part->embedding->value_bytes) != 0)
            return false;
    }
    return true;
}

/* Copy the states and the sum of a shorter state of the same history. */
static void copy_states(const struct interest *interest, const struct dien_user *from,
                        const struct interest_layout *source, struct dien_user *user,
                        const struct interest_layout *layout) {
    size_t length = source->length * sizeof(float);
    memcpy(user_array(user, layout->states), user_floats(from, source->states), length * interest->step.states);
    memcpy(user_array(user, layout->evolved), user_floats(from, source->evolved), length * interest->step.evolved);
    memcpy(user_array(user, layout->sum), user_floats(from, source->sum), interest->history.width * sizeof(float));
}

/* Compute the derived part of a state whose core is complete. */
static struct dien_user *derive(const struct dien_model *model, struct dien_user *user) {
    for (size_t i = 0; i < user->interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        const struct interest_layout *layout = &user->interests[i];
        if (interest->step.inputs > 0)
            model->kernels->gemv_rows(&interest->evolution_rows, layout->length, user_floats(user, layout->states),
                                      user_array(user, layout->inputs));
        if (interest->step.keys > 0)
            model->kernels->gemv_rows(&interest->attention.key_rows, layout->length, user_keys(interest, user, layout),
                                      user_array(user, layout->keys));
    }
    return user;
}

/* ---- build, restore, extend ---- */

struct dien_user *dien_user_build(const struct dien_model *model, struct dien_scratch *scratch,
                                  const struct dien_columns *history, void *memory) {
    return dien_user_continue(model, scratch, NULL, history, memory);
}

struct dien_user *dien_user_restore(const struct dien_model *model, const struct dien_user *core, void *memory) {
    memcpy(memory, core, core->core_bytes);
    return derive(model, memory);
}

struct dien_user *dien_user_continue(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *history, void *memory) {
    size_t lengths[CONFIG_INTERESTS_MAX] = {0};
    for (size_t i = 0; i < model->config.interest_count; i++)
        lengths[i] = kept(model, i, history_count(&model->interests[i], history));
    struct dien_user *user = lay_out(model, lengths, memory);
    for (size_t i = 0; i < user->interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        struct interest_layout *layout = &user->interests[i];
        size_t known = core != NULL ? core->interests[i].length : 0;
        layout->received = history_count(interest, history);
        size_t first = interest->config->keep_first ? 0 : layout->received - layout->length;
        copy_behaviours(interest, history, first, layout->length, user, layout, 0);
        if (known > 0)
            copy_states(interest, core, &core->interests[i], user, layout);
        extract(model, scratch, interest, user, layout, known);
    }
    return derive(model, user);
}

size_t dien_user_extended_bytes(const struct dien_model *model, const struct dien_user *core,
                                const struct dien_columns *more) {
    size_t counts[CONFIG_INTERESTS_MAX] = {0};
    for (size_t i = 0; i < model->config.interest_count; i++)
        counts[i] = core->interests[i].length + history_count(&model->interests[i], more);
    return dien_user_bytes(model, counts);
}

enum dien_extension dien_user_extend(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *more, void *memory) {
    size_t lengths[CONFIG_INTERESTS_MAX] = {0};
    for (size_t i = 0; i < model->config.interest_count; i++)
        lengths[i] = kept(model, i, core->interests[i].length + history_count(&model->interests[i], more));
    struct dien_user *user = lay_out(model, lengths, memory);
    enum dien_extension result = DIEN_EXTENDED;
    for (size_t i = 0; i < user->interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        const struct interest_layout *source = &core->interests[i];
        struct interest_layout *layout = &user->interests[i];
        bool keep_first = interest->config->keep_first;
        size_t added = history_count(interest, more);
        size_t dropped = keep_first ? 0 : source->length + added - layout->length;
        size_t old = source->length - size_min(dropped, source->length); /* behaviours of the core that stay */
        size_t appended = layout->length - old;
        layout->received = source->received + added;
        for (size_t j = 0; j < interest->history.count; j++) {
            const struct vector_part *part = &interest->history.parts[j];
            memcpy((char *)user + state_value(layout, part, 0),
                   (const char *)core + state_value(source, part, source->length - old),
                   old * part->embedding->value_bytes);
        }
        copy_behaviours(interest, more, keep_first ? 0 : added - appended, appended, user, layout, old);
        if (dropped == 0)
            copy_states(interest, core, source, user, layout);
        else
            result = DIEN_RECOMPUTED;
        extract(model, scratch, interest, user, layout, dropped == 0 ? source->length : 0);
    }
    derive(model, user);
    return result;
}

/* ---- compare ---- */

enum { SHIFTS_MAX = 256 }; /* behaviours by which a moved window is recognised; a bound on T^2 comparisons */

/* Whether the kept end of the history is the state's window, moved on by some behaviours. */
static bool has_slid(const struct interest *interest, const struct dien_user *user,
                     const struct interest_layout *layout, const struct dien_columns *history, size_t first,
                     size_t count) {
    for (size_t shift = 1; shift < layout->length && shift <= SHIFTS_MAX; shift++)
        if (same_behaviours(interest, user, layout, shift, history, first, size_min(layout->length - shift, count)))
            return true;
    return false;
}

enum dien_match dien_user_compare(const struct dien_model *model, const struct dien_user *core,
                                  const struct dien_columns *history) {
    enum dien_match result = DIEN_SAME;
    for (size_t i = 0; i < model->config.interest_count; i++) {
        const struct interest *interest = &model->interests[i];
        const struct interest_layout *layout = &core->interests[i];
        size_t received = history_count(interest, history), count = kept(model, i, received);
        size_t first = interest->config->keep_first ? 0 : received - count;
        bool same = same_behaviours(interest, core, layout, 0, history, first, size_min(layout->length, count));
        enum dien_match match;
        if (same && layout->length == count)
            match = DIEN_SAME;
        else if (same && layout->length > count)
            match = DIEN_SHORTER;
        else if (same && first == 0)
            match = DIEN_PREFIX;
        else
            match = has_slid(interest, core, layout, history, first, count) ? DIEN_SLID : DIEN_OTHER;
        result = match > result ? match : result;
    }
    return result;
}
