/* lanes_product.h: products of weights with columns in lanes, and with one column (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_PRODUCT_H
#define MODEL_KERNELS_LANES_PRODUCT_H

#include "model/kernels/lanes_functions.h"

/* The offset of vector i in several blocks of lanes. */
ALWAYS_INLINE size_t vector_offset(size_t i, size_t stride) {
    return i / LANE_VECTORS * stride + i % LANE_VECTORS * VECTOR;
}

/* The sums of `count` panels of a product for some vectors of columns, [count * PANEL_UNITS][vectors]. They stay in
 * registers. */
struct sums {
    const float *panel[SUM_ROWS_MAX / PANEL_UNITS];
    vector of[SUM_ROWS_MAX][SUM_VECTORS_MAX];
};

/* The sums start from the biases. */
ALWAYS_INLINE void sums_start(struct sums *sums, size_t count, size_t vectors, const struct projection *projection,
                              size_t first) {
    UNROLL for (size_t i = 0; i < count; i++) {
        sums->panel[i] = projection->panels + (first + i) * (projection->inputs + 1) * PANEL_UNITS;
        KEEP_IN_REGISTER(sums->panel[i]);
    }
    UNROLL for (size_t row = 0; row < count * PANEL_UNITS; row++) {
        vector bias = broadcast(sums->panel[row / PANEL_UNITS][row % PANEL_UNITS]);
        UNROLL for (size_t i = 0; i < vectors; i++) sums->of[row][i] = bias;
    }
}

/* Add the products of one input, whose columns are at x. */
ALWAYS_INLINE void sums_add(struct sums *sums, size_t count, size_t vectors, size_t input, const float *x,
                            size_t stride) {
    vector in[SUM_VECTORS_MAX];
    UNROLL for (size_t i = 0; i < vectors; i++) in[i] = load(x + vector_offset(i, stride));
    UNROLL for (size_t row = 0; row < count * PANEL_UNITS; row++) {
        vector weight = broadcast(sums->panel[row / PANEL_UNITS][(input + 1) * PANEL_UNITS + row % PANEL_UNITS]);
        UNROLL for (size_t i = 0; i < vectors; i++) sums->of[row][i] = multiply_add(weight, in[i], sums->of[row][i]);
    }
}

#if WINOGRAD
/* Three weights of a row, each in every lane. For one vector of columns they are memory operands; for more they are
 * loaded once. */
ALWAYS_INLINE void weights_of_three(const float *panel, size_t vectors, vector weight[3]) {
    UNROLL for (size_t j = 0; j < 3; j++) {
        weight[j] = broadcast(panel[j * PANEL_UNITS]);
        if (vectors > 1)
            KEEP_VECTOR(weight[j]);
    }
}

/* Add three inputs as Winograd sums (kernels.h). Row by row, so that additions and multiply-adds alternate. */
ALWAYS_INLINE void sums_add_winograd(struct sums *sums, size_t count, size_t vectors, size_t input, const float *x,
                                     size_t stride) {
    vector in[3][SUM_VECTORS_MAX], weight[3];
    UNROLL for (size_t i = 0; i < vectors; i++) {
        UNROLL for (size_t j = 0; j < 3; j++) in[j][i] = load(x + j * LANES + vector_offset(i, stride));
    }
    UNROLL for (size_t row = 0; row < count * PANEL_UNITS; row++) {
        weights_of_three(sums->panel[row / PANEL_UNITS] + (input + 1) * PANEL_UNITS + row % PANEL_UNITS, vectors,
                         weight);
        UNROLL for (size_t i = 0; i < vectors; i++) {
            vector *sum = &sums->of[row][i], one = add(in[1][i], weight[0]), other = add(in[0][i], weight[1]);
            if (vectors > 1) {
                multiply_add_to(sum, one, other);
                multiply_add_to(sum, weight[2], in[2][i]);
            } else {
                *sum = multiply_add(weight[2], in[2][i], multiply_add(one, other, *sum));
            }
        }
    }
}

/* The correction of Winograd sums: the sum of - x1 x2 over panels of three inputs. */
ALWAYS_INLINE vector winograd_excess(size_t inputs, const float *x) {
    vector sum = broadcast(0);
    for (size_t input = 0; input + 3 <= inputs; input += 3)
        sum = negative_multiply_add(load(x + input * LANES), load(x + (input + 1) * LANES), sum);
    return sum;
}
#endif

/* All inputs. An excess that is not NULL makes them Winograd sums and is added to these. */
ALWAYS_INLINE void sums_add_all(struct sums *sums, size_t count, size_t vectors, const struct projection *projection,
                                const float *x, const vector *excess) {
    size_t inputs = projection->inputs, stride = inputs * LANES, input = 0;
#if WINOGRAD
    if (excess != NULL)
        for (; input + 3 <= inputs; input += 3)
            sums_add_winograd(sums, count, vectors, input, x + input * LANES, stride);
#endif
    for (; input < inputs; input++)
        sums_add(sums, count, vectors, input, x + input * LANES, stride);
    if (excess != NULL)
        UNROLL for (size_t row = 0; row < count * PANEL_UNITS; row++) UNROLL for (size_t i = 0; i < vectors; i++)
            sums->of[row][i] = add(sums->of[row][i], excess[i]);
}

/* Summands of the rows of y: lane_part [units, LANES] for every block, part [blocks, units] for all lanes of a block.
 * Before, y is multiplied by scale [LANES]; NULL: 1. */
struct parts {
    const float *scale, *lane_part, *part;
};

ALWAYS_INLINE void sums_add_parts(struct sums *sums, size_t count, size_t vectors, const struct projection *projection,
                                  size_t first, struct parts parts) {
    size_t units = projection->units, unit = first * PANEL_UNITS;
    UNROLL for (size_t row = 0; row < count * PANEL_UNITS; row++, unit++) {
        if (unit < units) {
            UNROLL for (size_t i = 0; i < vectors; i++) {
                vector lane_part = load(parts.lane_part + unit * LANES + i % LANE_VECTORS * VECTOR);
                vector both = add(lane_part, broadcast(parts.part[i / LANE_VECTORS * units + unit]));
                sums->of[row][i] =
                    parts.scale == NULL
                        ? add(sums->of[row][i], both)
                        : multiply_add(sums->of[row][i], load(parts.scale + i % LANE_VECTORS * VECTOR), both);
            }
        }
    }
}

/* Store the sums; padding of the last panel is dropped. */
ALWAYS_INLINE void sums_store(const struct sums *sums, size_t count, size_t vectors,
                              const struct projection *projection, size_t first, float *y) {
    size_t rows = projection->units - first * PANEL_UNITS, stride = projection->units * LANES;
    y += first * PANEL_UNITS * LANES;
    UNROLL for (size_t row = 0; row < count * PANEL_UNITS; row++) {
        if (row < rows) {
            UNROLL for (size_t i = 0; i < vectors; i++)
                store(y + row * LANES + vector_offset(i, stride), sums->of[row][i]);
        }
    }
}

/* y = W x + b and the parts, if any, for panels first .. first + panels and `vectors` vectors of columns. */
ALWAYS_INLINE void multiply_block(size_t panels, size_t vectors, const struct projection *projection, size_t first,
                                  const float *x, const vector *excess, const struct parts *parts, float *y) {
    struct sums sums;
    sums_start(&sums, panels, vectors, projection, first);
    sums_add_all(&sums, panels, vectors, projection, x, excess);
    if (parts != NULL)
        sums_add_parts(&sums, panels, vectors, projection, first, *parts);
    sums_store(&sums, panels, vectors, projection, first, y);
}

#if TWO_BLOCKS
/* Two blocks of lanes: two panels have enough sums to keep the multipliers busy. An odd last panel joins the two before
 * it. */
ALWAYS_INLINE void multiply_pair_panels(const struct projection *projection, const float *x, const vector *excess,
                                        const struct parts *parts, float *y) {
    size_t panels = (projection->units + PANEL_UNITS - 1) / PANEL_UNITS, first = 0;
    for (; panels - first > 3 || panels - first == 2; first += 2)
        multiply_block(2, 2 * LANE_VECTORS, projection, first, x, excess, parts, y);
    if (panels - first == 3)
        multiply_block(3, 2 * LANE_VECTORS, projection, first, x, excess, parts, y);
    else if (panels - first == 1)
        multiply_block(1, 2 * LANE_VECTORS, projection, first, x, excess, parts, y);
}

ALWAYS_INLINE void multiply_pair(const struct projection *projection, const float *x, const struct parts *parts,
                                 float *y) {
#if WINOGRAD
    if (projection->winograd != NULL) {
        vector excess[2 * LANE_VECTORS];
        UNROLL for (size_t i = 0; i < 2 * LANE_VECTORS; i++) excess[i] =
            winograd_excess(projection->inputs, x + vector_offset(i, projection->inputs * LANES));
        multiply_pair_panels(projection, x, excess, parts, y);
        return;
    }
#endif
    multiply_pair_panels(projection, x, NULL, parts, y);
}
#endif

/* One block has few columns, so many rows are needed to keep the multipliers busy. Panels are spread evenly over the
 * passes: a small last pass would wait for its own sums. */
ALWAYS_INLINE void multiply_alone_panels(const struct projection *projection, const float *x, const vector *excess,
                                         const struct parts *parts, float *y) {
    size_t panels = (projection->units + PANEL_UNITS - 1) / PANEL_UNITS, first = 0;
    for (size_t left = (panels + PANELS_PER_BLOCK - 1) / PANELS_PER_BLOCK; left > 0; left--) {
        size_t count = (panels - first) / left;
        UNROLL for (size_t n = 1; n <= PANELS_PER_BLOCK; n++) if (n == count)
            multiply_block(n, LANE_VECTORS, projection, first, x, excess, parts, y);
        first += count;
    }
}

ALWAYS_INLINE void multiply_alone(const struct projection *projection, const float *x, const struct parts *parts,
                                  float *y) {
#if WINOGRAD
    if (projection->winograd != NULL) {
        vector excess[LANE_VECTORS];
        UNROLL for (size_t i = 0; i < LANE_VECTORS; i++) excess[i] =
            winograd_excess(projection->inputs, x + vector_offset(i, 0));
        multiply_alone_panels(projection, x, excess, parts, y);
        return;
    }
#endif
    multiply_alone_panels(projection, x, NULL, parts, y);
}

/* One block, without parts and with. */
static __attribute__((noinline)) void project_block(const struct projection *projection, const float *x, float *y) {
    multiply_alone(projection, x, NULL, y);
}

static __attribute__((noinline)) void attend_block(const struct projection *projection, const float *x,
                                                   const struct parts *parts, float *y) {
    multiply_alone(projection, x, parts, y);
}

static void lanes_linear(const struct projection *projection, size_t blocks, const float *x, float *y) {
    size_t x_stride = projection->inputs * LANES, y_stride = projection->units * LANES, block = 0;
#if TWO_BLOCKS
    for (; block + 2 <= blocks; block += 2)
        multiply_pair(projection, x + block * x_stride, NULL, y + block * y_stride);
#endif
    for (; block < blocks; block++)
        project_block(projection, x + block * x_stride, y + block * y_stride);
}

/* Blocks with parts. */
static void attend_blocks(const struct projection *projection, size_t blocks, const float *x, struct parts parts,
                          float *y) {
    size_t x_stride = projection->inputs * LANES, y_stride = projection->units * LANES, block = 0;
#if TWO_BLOCKS
    for (; block + 2 <= blocks; block += 2, parts.part += 2 * projection->units)
        multiply_pair(projection, x + block * x_stride, &parts, y + block * y_stride);
#endif
    for (; block < blocks; block++, parts.part += projection->units)
        attend_block(projection, x + block * x_stride, &parts, y + block * y_stride);
}

/* ---- columns in one piece: a vector is several units of one column ---- */
struct column_sums {
    vector of[COLUMN_SUMS][COLUMNS_MAX];
};

/* Add one input of each column. Its weights are at row, its values x_stride apart. */
ALWAYS_INLINE void columns_add(struct column_sums *sums, size_t columns, size_t vectors, const float *row,
                               const float *x, size_t x_stride) {
    vector weight[COLUMN_SUMS];
    UNROLL for (size_t i = 0; i < vectors; i++) weight[i] = load(row + i * VECTOR);
    UNROLL for (size_t j = 0; j < columns; j++) {
        vector in = broadcast(x[j * x_stride]);
        UNROLL for (size_t i = 0; i < vectors; i++) sums->of[i][j] = multiply_add(weight[i], in, sums->of[i][j]);
    }
}

#if WINOGRAD
/* Add three inputs as Winograd sums (kernels.h). */
ALWAYS_INLINE void columns_add_winograd(struct column_sums *sums, size_t columns, size_t vectors, const float *row,
                                        size_t stride, const float *x, size_t x_stride) {
    vector weight[3][COLUMN_SUMS];
    UNROLL for (size_t i = 0; i < vectors; i++) {
        UNROLL for (size_t k = 0; k < 3; k++) {
            weight[k][i] = load(row + k * stride + i * VECTOR);
            if (columns > 1)
                KEEP_VECTOR(weight[k][i]);
        }
    }
    UNROLL for (size_t j = 0; j < columns; j++) {
        vector in[3];
        UNROLL for (size_t k = 0; k < 3; k++) {
            in[k] = broadcast(x[j * x_stride + k]);
            if (vectors > 1)
                KEEP_VECTOR(in[k]);
        }
        UNROLL for (size_t i = 0; i < vectors; i++) {
            vector both = multiply_add(add(weight[0][i], in[1]), add(weight[1][i], in[0]), sums->of[i][j]);
            sums->of[i][j] = multiply_add(weight[2][i], in[2], both);
        }
    }
}

/* The correction of each column's Winograd sums, as in lanes. */
ALWAYS_INLINE void columns_excess(size_t columns, size_t inputs, const float *x, size_t x_stride, vector *excess) {
    UNROLL for (size_t j = 0; j < columns; j++) excess[j] = broadcast(0);
    for (size_t input = 0; input + 3 <= inputs; input += 3, x += 3) {
        UNROLL for (size_t j = 0; j < columns; j++) excess[j] =
            negative_multiply_add(broadcast(x[j * x_stride]), broadcast(x[j * x_stride + 1]), excess[j]);
    }
}
#endif

/* All inputs. An excess that is not NULL makes them Winograd sums and is added to these. */
ALWAYS_INLINE void columns_add_all(struct column_sums *sums, size_t columns, size_t vectors,
                                   const struct column_projection *projection, size_t unit, const float *x,
                                   size_t x_stride, const vector *excess) {
    const float *row = projection->weight + unit;
    size_t inputs = projection->inputs, stride = projection_transposed_units(projection->units), input = 0;
#if WINOGRAD
    if (excess != NULL)
        for (; input + 3 <= inputs; input += 3, row += 3 * stride)
            columns_add_winograd(sums, columns, vectors, row, stride, x + input, x_stride);
#endif
    for (; input < inputs; input++, row += stride)
        columns_add(sums, columns, vectors, row, x + input, x_stride);
    if (excess != NULL)
        UNROLL for (size_t j = 0; j < columns; j++) UNROLL for (size_t i = 0; i < vectors; i++) sums->of[i][j] =
            add(sums->of[i][j], excess[j]);
}

/* `vectors` vectors of units from `unit` on, for `columns` columns that are `x_stride` and `y_stride` apart. */
ALWAYS_INLINE void columns_block(size_t columns, size_t vectors, const struct column_projection *projection,
                                 size_t unit, const float *x, size_t x_stride, const vector *excess, float *y,
                                 size_t y_stride) {
    struct column_sums sums;
    size_t left = projection->units - unit - (vectors - 1) * VECTOR, last = left < VECTOR ? left : VECTOR;
    const float *start = excess != NULL ? projection->winograd : projection->bias;
    UNROLL for (size_t i = 0; i < vectors; i++) {
        vector bias = load_some(start + unit + i * VECTOR, i + 1 < vectors ? VECTOR : last);
        UNROLL for (size_t j = 0; j < columns; j++) sums.of[i][j] = bias;
    }
    columns_add_all(&sums, columns, vectors, projection, unit, x, x_stride, excess);
    UNROLL for (size_t j = 0; j < columns; j++) {
        UNROLL for (size_t i = 0; i < vectors; i++)
            store_some(y + j * y_stride + unit + i * VECTOR, i + 1 < vectors ? VECTOR : last, sums.of[i][j]);
    }
}

/* At most COLUMN_SUMS sums at a time, spread evenly. */
ALWAYS_INLINE void columns_spread(size_t columns, const struct column_projection *projection, const float *x,
                                  size_t x_stride, const vector *excess, float *y, size_t y_stride) {
    size_t vectors = (projection->units + VECTOR - 1) / VECTOR, first = 0, most = COLUMN_SUMS / columns;
    for (size_t left = (vectors + most - 1) / most; left > 0; left--) {
        size_t count = (vectors - first) / left;
        UNROLL for (size_t n = 1; n <= most; n++) if (n == count)
            columns_block(columns, n, projection, first * VECTOR, x, x_stride, excess, y, y_stride);
        first += count;
    }
}

ALWAYS_INLINE void gemv_columns(size_t columns, const struct column_projection *projection, const float *x,
                                size_t x_stride, float *y, size_t y_stride) {
#if WINOGRAD
    if (projection->winograd != NULL) {
        vector excess[COLUMNS_MAX];
        columns_excess(columns, projection->inputs, x, x_stride, excess);
        columns_spread(columns, projection, x, x_stride, excess, y, y_stride);
        return;
    }
#endif
    columns_spread(columns, projection, x, x_stride, NULL, y, y_stride);
}

/* gemv_columns() for the counts in use, each compiled once. */
static __attribute__((noinline)) void gemv_one(const struct column_projection *projection, const float *x,
                                               size_t x_stride, float *y, size_t y_stride) {
    gemv_columns(1, projection, x, x_stride, y, y_stride);
}

static __attribute__((noinline)) void gemv_two(const struct column_projection *projection, const float *x,
                                               size_t x_stride, float *y, size_t y_stride) {
    gemv_columns(2, projection, x, x_stride, y, y_stride);
}

static __attribute__((noinline)) void gemv_four(const struct column_projection *projection, const float *x,
                                                size_t x_stride, float *y, size_t y_stride) {
    gemv_columns(COLUMNS_MAX, projection, x, x_stride, y, y_stride);
}

static void lanes_gemv(const struct column_projection *projection, const float *x, float *y) {
    gemv_one(projection, x, 0, y, 0);
}

static void lanes_gemv_rows(const struct column_projection *projection, size_t rows, const float *x, float *y) {
    size_t inputs = projection->inputs, units = projection->units, row = 0;
    for (; row + COLUMNS_MAX <= rows; row += COLUMNS_MAX)
        gemv_four(projection, x + row * inputs, inputs, y + row * units, units);
    for (; row < rows; row++)
        gemv_one(projection, x + row * inputs, inputs, y + row * units, units);
}

#endif
