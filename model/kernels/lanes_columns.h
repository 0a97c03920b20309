/* lanes_columns.h: products of few columns, and blocks of pairs of a step and a candidate (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_COLUMNS_H
#define MODEL_KERNELS_LANES_COLUMNS_H

#include "model/kernels/lanes_product.h"

/* ---- products: a vector is several units of one column ---- */

/* `vectors` vectors of units from `unit` on, for the first `columns` columns of x. */
ALWAYS_INLINE void narrow_block(size_t columns, size_t vectors, const struct projection *projection, size_t unit,
                                const float *x, float *y) {
    vector sum[COLUMN_SUMS][COLUMNS_MAX];
    size_t stride = projection_transposed_units(projection->units);
    const float *row = projection->transposed + unit;
    UNROLL for (size_t i = 0; i < vectors; i++) {
        UNROLL for (size_t j = 0; j < columns; j++) sum[i][j] = load(row + i * VECTOR);
    }
    for (size_t input = 0; input < projection->inputs; input++, x += LANES) {
        row += stride;
        UNROLL for (size_t j = 0; j < columns; j++) {
            vector in = broadcast(x[j]);
            UNROLL for (size_t i = 0; i < vectors; i++) sum[i][j] = multiply_add(load(row + i * VECTOR), in, sum[i][j]);
        }
    }
    UNROLL for (size_t i = 0; i < vectors; i++) {
        size_t first = unit + i * VECTOR, left = projection->units - first, some = left < VECTOR ? left : VECTOR;
        UNROLL for (size_t j = 0; j < columns; j++) {
            float units[VECTOR];
            store(units, sum[i][j]);
            for (size_t k = 0; k < some; k++)
                y[(first + k) * LANES + j] = units[k];
        }
    }
}

/* At most COLUMN_SUMS sums at a time, spread evenly. */
ALWAYS_INLINE void narrow_columns(size_t columns, const struct projection *projection, const float *x, float *y) {
    size_t vectors = (projection->units + VECTOR - 1) / VECTOR, first = 0, most = COLUMN_SUMS / columns;
    for (size_t left = (vectors + most - 1) / most; left > 0; left--) {
        size_t count = (vectors - first) / left;
        UNROLL for (size_t n = 1; n <= most; n++) if (n == count)
            narrow_block(columns, n, projection, first * VECTOR, x, y);
        first += count;
    }
}

static __attribute__((noinline)) void linear_one(const struct projection *projection, const float *x, float *y) {
    narrow_columns(1, projection, x, y);
}

static __attribute__((noinline)) void linear_two(const struct projection *projection, const float *x, float *y) {
    narrow_columns(2, projection, x, y);
}

static __attribute__((noinline)) void linear_four(const struct projection *projection, const float *x, float *y) {
    narrow_columns(COLUMNS_MAX, projection, x, y);
}

/* The number of columns to compute where `columns` are wanted: a third costs less with a fourth beside it than alone.
 */
static size_t columns_taken(size_t columns) {
    return columns > 2 ? (columns + COLUMNS_MAX - 1) / COLUMNS_MAX * COLUMNS_MAX : columns;
}

/* Whether so many columns take less time one by one than as a block of lanes. The factors are measured: they stand for
 * the scatter of units into lanes. A vector's unused units count, too. */
static bool narrow_pays(const struct projection *projection, size_t columns) {
    size_t vectors = (projection->units + VECTOR - 1) / VECTOR;
    return projection->transposed != NULL && projection->int16.panels == NULL &&
           4 * columns_taken(columns) * vectors <= 3 * projection->units * LANE_VECTORS;
}

static void lanes_linear_narrow(const struct kernels *kernels, const struct projection *projection, size_t columns,
                                const float *x, float *y) {
    size_t blocks = columns / LANES, rest = columns % LANES, first = 0;
    if (rest == 0 || !narrow_pays(projection, rest)) {
        kernels->linear(projection, blocks + (rest > 0), x, y);
        return;
    }
    kernels->linear(projection, blocks, x, y);
    x += blocks * projection->inputs * LANES;
    y += blocks * projection->units * LANES;
    memset(y, 0, projection->units * LANES * sizeof *y);
    for (; first + 2 < rest; first += COLUMNS_MAX)
        linear_four(projection, x + first, y + first);
    if (first + 2 == rest)
        linear_two(projection, x + first, y + first);
    else if (first + 1 == rest)
        linear_one(projection, x + first, y + first);
}

/* ---- pairs of a step and a candidate in lanes ---- */

/* The rows of VECTOR pairs. */
struct pair_rows {
    const float *key[VECTOR], *query[VECTOR];
    float scale[VECTOR];
};

ALWAYS_INLINE struct pair_rows pair_rows(const struct pairs *pairs, size_t first) {
    struct pair_rows rows;
    size_t pair = first < pairs->end ? first : pairs->end - 1;
    size_t step = pair / pairs->candidates, candidate = pair % pairs->candidates;
    for (size_t i = 0; i < VECTOR; i++) {
        rows.key[i] = pairs->keys + step * pairs->width;
        rows.query[i] = pairs->queries + candidate * pairs->width;
        rows.scale[i] = pairs->scale != NULL ? pairs->scale[candidate] : 1;
        if (pair + 1 == pairs->end)
            continue;
        pair++;
        candidate++;
        if (candidate == pairs->candidates) {
            candidate = 0;
            step++;
        }
    }
    return rows;
}

/* All units of VECTOR lanes: the products, or y * scale + the sums. */
ALWAYS_INLINE void pairs_to_lanes(bool sums, const struct pairs *pairs, const struct pair_rows *rows, float *lanes) {
    size_t width = pairs->width;
    vector scale = load(rows->scale);
    for (size_t unit = 0; unit < width; unit += VECTOR) {
        size_t some = width - unit < VECTOR ? width - unit : VECTOR;
        vector value[VECTOR];
        UNROLL for (size_t i = 0; i < VECTOR; i++) {
            vector key = load_some(rows->key[i] + unit, some), query = load_some(rows->query[i] + unit, some);
            value[i] = sums ? add(query, key) : multiply(query, key);
        }
        transpose(value);
        UNROLL for (size_t i = 0; i < VECTOR; i++) {
            float *row = lanes + (unit + i) * LANES;
            if (i < some)
                store(row, sums ? multiply_add(load(row), scale, value[i]) : value[i]);
        }
    }
}

static void lanes_multiply_pairs(const struct pairs *pairs, float *x) {
    for (size_t lane = 0; lane < LANES; lane += VECTOR) {
        struct pair_rows rows = pair_rows(pairs, pairs->first + lane);
        pairs_to_lanes(false, pairs, &rows, x + lane);
    }
}

static void lanes_add_pairs(const struct pairs *pairs, float *y) {
    for (size_t lane = 0; lane < LANES; lane += VECTOR) {
        struct pair_rows rows = pair_rows(pairs, pairs->first + lane);
        pairs_to_lanes(true, pairs, &rows, y + lane);
    }
}

#endif
