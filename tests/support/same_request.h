/* same_request.h: compares two decoded requests field by field and bit by bit. */
#ifndef TESTS_SUPPORT_SAME_REQUEST_H
#define TESTS_SUPPORT_SAME_REQUEST_H

#include "proto/score.h"

#include <math.h>
#include <string.h>

static inline bool same_string(const struct proto_string *a, const struct proto_string *b) {
    return a->length == b->length && memcmp(a->data, b->data, a->length) == 0;
}

/* Compares bits, because zeros have a sign. No number here is NaN. */
static inline bool same_real(double a, double b) {
    return a == b && !signbit(a) == !signbit(b);
}

static inline bool same_vector(const struct proto_value *a, const struct proto_value *b) {
    bool same = a->length == b->length;
    for (size_t i = 0; same && i < a->length; i++)
        same = same_real(a->vector[i], b->vector[i]);
    return same;
}

static inline bool same_value(const struct proto_value *a, const struct proto_value *b) {
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case PROTO_INTEGER:
        return a->integer == b->integer;
    case PROTO_UNSIGNED:
        return a->unsigned_integer == b->unsigned_integer;
    case PROTO_REAL:
        return same_real(a->real, b->real);
    case PROTO_STRING:
        return a->length == b->length && memcmp(a->string, b->string, a->length) == 0;
    case PROTO_VECTOR:
        return same_vector(a, b);
    case PROTO_STRINGS:
        for (size_t i = 0; i < a->length && i < b->length; i++)
            if (!same_string(&a->strings[i], &b->strings[i]))
                return false;
        return a->length == b->length;
    case PROTO_ABSENT:
    case PROTO_OTHER:
        break;
    }
    return true;
}

static inline bool same_table(const struct proto_table *a, const struct proto_table *b) {
    bool same = a->form == b->form && a->present == b->present && a->rows == b->rows && a->columns == b->columns;
    for (size_t i = 0; same && i < a->columns; i++) {
        const struct proto_column *x = &a->column[i], *y = &b->column[i];
        same = same_string(&x->name, &y->name) && x->count == y->count;
        for (size_t j = 0; same && j < x->count; j++)
            same = same_value(&x->values[j], &y->values[j]);
    }
    return same;
}

static inline bool same_request(const struct proto_request *a, const struct proto_request *b) {
    return a->has_user_id == b->has_user_id && (!a->has_user_id || same_string(&a->user_id, &b->user_id)) &&
           same_table(&a->user, &b->user) && same_table(&a->context, &b->context) &&
           same_table(&a->history, &b->history) && a->has_history_token == b->has_history_token &&
           (!a->has_history_token || same_string(&a->history_token, &b->history_token)) &&
           same_table(&a->history_append, &b->history_append) && same_table(&a->candidates, &b->candidates) &&
           a->top_k == b->top_k && a->explain == b->explain;
}

#endif
