/* lanes_attention.h: the attention network's first layer, dot products, softmax, pooling (lanes.h).
 */
#ifndef MODEL_KERNELS_LANES_ATTENTION_H
#define MODEL_KERNELS_LANES_ATTENTION_H

#include "model/kernels/lanes_product.h"

static void lanes_attend(const struct kernels *kernels, const struct attention_steps *attention, float *y,
                         float *work) {
    (void)kernels;
    size_t inputs = attention->product->inputs;
    for (size_t step = 0; step < attention->steps; step++)
        for (size_t i = 0; i < inputs * LANE_VECTORS; i++)
            store(work + step * inputs * LANES + i * VECTOR,
                  multiply(load(attention->query + i * VECTOR),
                           broadcast(attention->keys[step * inputs + i / LANE_VECTORS])));
    attend_blocks(attention->product, attention->steps, work,
                  (struct parts){attention->scale, attention->query_part, attention->key_parts}, y);
}

/* The largest score is subtracted first, so that no exponential overflows. */
static void lanes_softmax(size_t steps, float scale, float *scores) {
    for (size_t lane = 0; lane < LANES; lane += VECTOR) {
        float *column = scores + lane;
        vector largest = multiply(load(column), broadcast(scale)), sum = broadcast(0);
        for (size_t step = 0; step < steps; step++) {
            vector scaled = multiply(load(column + step * LANES), broadcast(scale));
            store(column + step * LANES, scaled);
            largest = larger(largest, scaled);
        }
        for (size_t step = 0; step < steps; step++) {
            vector e = larger(broadcast(-87), subtract(load(column + step * LANES), largest));
            powers(1, &e, LOG2_E, &e);
            store(column + step * LANES, e);
            sum = add(sum, e);
        }
        vector share = divide(broadcast(1), sum);
        for (size_t step = 0; step < steps; step++)
            store(column + step * LANES, multiply(load(column + step * LANES), share));
    }
}

/* Eight rows at a time, because their sums are independent. */
static void lanes_dot(const struct kernels *kernels, size_t inputs, const float *query, size_t steps, const float *rows,
                      float *scores) {
    (void)kernels;
    enum { ROWS = 8 };
    for (size_t step = 0; step < steps; step += ROWS) {
        const float *row[ROWS];
        vector sum[ROWS][LANE_VECTORS];
        UNROLL for (size_t i = 0; i < ROWS; i++) {
            row[i] = rows + (step + i < steps ? step + i : steps - 1) * inputs;
            UNROLL for (size_t j = 0; j < LANE_VECTORS; j++) sum[i][j] = broadcast(0);
        }
        for (size_t input = 0; input < inputs; input++)
            UNROLL for (size_t j = 0; j < LANE_VECTORS; j++) {
                vector in = load(query + input * LANES + j * VECTOR);
                UNROLL for (size_t i = 0; i < ROWS; i++) sum[i][j] =
                    multiply_add(broadcast(row[i][input]), in, sum[i][j]);
            }
        UNROLL for (size_t i = 0; i < ROWS; i++) if (step + i < steps) UNROLL for (size_t j = 0; j < LANE_VECTORS; j++)
            store(scores + (step + i) * LANES + j * VECTOR, sum[i][j]);
    }
}

static void lanes_pool(size_t steps, size_t units, const float *states, const float *attention, float *pooled) {
    memset(pooled, 0, units * LANES * sizeof *pooled);
    for (size_t step = 0; step < steps; step++)
        for (size_t unit = 0; unit < units; unit++)
            for (size_t lane = 0; lane < LANES; lane += VECTOR) {
                float *sum = pooled + unit * LANES + lane;
                vector a = load(attention + step * LANES + lane);
                store(sum, multiply_add(a, broadcast(states[step * units + unit]), load(sum)));
            }
}

#endif
