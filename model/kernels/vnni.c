/* vnni.c: the products of AVX-512 in reduced precision, by AVX512-VNNI: one instruction multiplies and adds two pairs
 * of int16 in each lane, twice as many as of float32, or four pairs of int8.
 */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma"))),        \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")
#endif

#include "model/kernels/avx512.h"
#include "model/kernels/vnni_product.h"

#include <string.h>

/* Words of the widest quantised input of one block, and so the distance from one block's words to the next. */
#define WORDS_STRIDE ((size_t)QUANTISED_INPUTS_MAX / 2 * LANES)

static __attribute__((noinline)) void linear_block(const struct projection *projection, bool int8, const int32_t *x,
                                                   vector scale, float *y) {
    struct epilogue rows = {.kind = STORE_ROWS, .y = y};
    if (int8)
        multiply_quantised(1, true, projection, x, 0, &scale, &rows);
    else
        multiply_quantised(1, false, projection, x, 0, &scale, &rows);
}

static void vnni_linear(const struct projection *projection, size_t blocks, const float *x, float *y) {
    if (projection->int16.panels == NULL) {
        kernels_avx512.linear(projection, blocks, x, y);
        return;
    }
    bool int8 = projection->int8.panels != NULL;
    int32_t words[QUANTISED_INPUTS_MAX / 2 * LANES] __attribute__((aligned(64)));
    for (; blocks > 0; blocks--, x += projection->inputs * LANES, y += projection->units * LANES) {
        vector scale = (int8 ? quantise_int8 : quantise_int16)(projection->inputs, x, words);
        linear_block(projection, int8, words, scale, y);
    }
}

/* ---- attention ---- */

/* One step or two. The parts are added before the rows leave the registers, with the bits of a separate pass. */
static __attribute__((noinline)) void attend_block(size_t steps, const struct projection *product, bool int8,
                                                   const int32_t *x, const vector *scale, const float *lane_part,
                                                   const float *part, float *y) {
    struct epilogue parts = {.kind = ADD_PARTS, .lane_part = lane_part, .part = part, .y = y};
    if (int8)
        multiply_quantised(steps, true, product, x, WORDS_STRIDE, scale, &parts);
    else
        multiply_quantised(steps, false, product, x, WORDS_STRIDE, scale, &parts);
}

static void vnni_attend(const struct kernels *kernels, const struct attention_steps *attention, float *y, float *work) {
    const struct projection *product = attention->product;
    if (product->int16.panels == NULL) {
        kernels_avx512.attend(kernels, attention, y, work);
        return;
    }
    bool int8 = product->int8.panels != NULL;
    size_t units = product->units, inputs = product->inputs, count = 0;
    const float *keys = attention->keys;
    int32_t words[VECTORS_PER_LOAD * WORDS_STRIDE] __attribute__((aligned(64)));
    for (size_t step = 0; step < attention->steps; step += count) {
        vector scale[VECTORS_PER_LOAD];
        count = attention->steps - step;
        count = count < kernels->blocks_per_weight_load ? count : kernels->blocks_per_weight_load;
        for (size_t i = 0; i < count; i++, keys += inputs) {
            for (size_t j = 0; j < inputs; j++)
                store(work + j * LANES, multiply(load(attention->query + j * LANES), broadcast(keys[j])));
            scale[i] = (int8 ? quantise_int8 : quantise_int16)(inputs, work, words + i * WORDS_STRIDE);
        }
        attend_block(count, product, int8, words, scale, attention->query_part, attention->key_parts + step * units,
                     y + step * units * LANES);
    }
}

/* The epilogue of values that are before a squashing activation, as if a product had just made them. */
ALWAYS_INLINE void finish_rows(size_t blocks, const struct epilogue *epilogue, size_t units, const float *x) {
    for (size_t i = 0; i < blocks; i++, x += units * LANES)
        for (size_t unit = 0; unit < units; unit += PANEL_UNITS) {
            vector value[PANEL_UNITS];
            UNROLL for (size_t j = 0; j < PANEL_UNITS; j++) value[j] =
                unit + j < units ? load(x + (unit + j) * LANES) : broadcast(0);
            finish_panel(epilogue, i, units, unit, value);
        }
}

/* One layer of one block or two, a function for each kind of epilogue. Its input is x, values of the first layer before
 * its activation, or else `words`, quantised with a fixed scale, those of a block WORDS_STRIDE behind the last one's.
 */
#define FINISH_LAYER(name, kind_, squash_)                                                                             \
    static __attribute__((noinline)) void name(size_t blocks, const struct projection *projection, const float *x,     \
                                               const int32_t *words, int32_t *next, const float *weight,               \
                                               vector *dot) {                                                          \
        struct epilogue epilogue = {.kind = (kind_),                                                                   \
                                    .squash = (squash_),                                                               \
                                    .words = next,                                                                     \
                                    .stride = WORDS_STRIDE,                                                            \
                                    .weight = weight,                                                                  \
                                    .dot = dot};                                                                       \
        if (words == NULL)                                                                                             \
            finish_rows(blocks, &epilogue, projection->units, x);                                                      \
        else if (projection->int8.panels != NULL)                                                                      \
            multiply_quantised(blocks, true, projection, words, WORDS_STRIDE, NULL, &epilogue);                        \
        else                                                                                                           \
            multiply_quantised(blocks, false, projection, words, WORDS_STRIDE, NULL, &epilogue);                       \
    }
FINISH_LAYER(sigmoids_to_int16, TO_INT16, KERNEL_SIGMOID)
FINISH_LAYER(sigmoids_to_int8, TO_INT8, KERNEL_SIGMOID)
FINISH_LAYER(sigmoids_to_dot, TO_DOT, KERNEL_SIGMOID)
FINISH_LAYER(tangents_to_int16, TO_INT16, KERNEL_TANH)
FINISH_LAYER(tangents_to_dot, TO_DOT, KERNEL_TANH)
#undef FINISH_LAYER

/* The last layer has one unit. Its product is a dot product in float32, which the layer before accumulates. */
static const float *vnni_finish(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                                float *x, float *y) {
    if (!layers_keep_within_one(layers, count))
        return finish_by_layers(kernels, layers, count, blocks, x, y);
    int32_t words[2][VECTORS_PER_LOAD * WORDS_STRIDE] __attribute__((aligned(64)));
    const struct layer *last = &layers[count - 1];
    size_t units = layers[0].projection.units, some = 0;
    for (size_t block = 0; block < blocks; block += some) {
        some = blocks - block < kernels->blocks_per_weight_load ? blocks - block : kernels->blocks_per_weight_load;
        vector dot[VECTORS_PER_LOAD];
        UNROLL for (size_t i = 0; i < VECTORS_PER_LOAD; i++) dot[i] = broadcast(last->projection.bias[0]);
        for (size_t i = 0; i + 1 < count; i++) {
            const int32_t *in = i > 0 ? words[(i - 1) % 2] : NULL;
            const struct projection *layer = &layers[i].projection;
            const float *first = x + block * units * LANES, *weight = last->projection.weight;
            bool tanh = layers[i].activation.kind == KERNEL_TANH;
            if (i + 2 < count && layers[i + 1].projection.int8.panels != NULL)
                sigmoids_to_int8(some, layer, first, in, words[i % 2], NULL, dot);
            else if (i + 2 < count)
                (tanh ? tangents_to_int16 : sigmoids_to_int16)(some, layer, first, in, words[i % 2], NULL, dot);
            else
                (tanh ? tangents_to_dot : sigmoids_to_dot)(some, layer, first, in, NULL, weight, dot);
        }
        for (size_t i = 0; i < some; i++)
            store(y + (block + i) * LANES, dot[i]);
    }
    kernels_avx512.activate(&last->activation, 1, blocks, y);
    return y;
}

/* ---- evolution: products read int16 copies of the states (lanes_evolve.h) ---- */

#define STATE_IS_COPIED 1
#define COLUMN_FLOATS(units)                                                                                           \
    (5 * (units) + ((units) + 1) / 2) /* words of r * h from 4 * units on, of h behind them                            \
                                       */

enum {
    COLUMN_VECTORS = 6, /* vectors of sums at a time */
    NARROW_MAX = 5      /* columns of the last block that take less time one by one than as a block */
};

typedef int32_t recurrent;
struct columns;

/* `first` is even; an odd last unit is paired with zero. */
ALWAYS_INLINE void keep_recurrent(size_t count, const vector *h, size_t first, int32_t *words) {
    UNROLL for (size_t i = 0; i < count; i += 2)
        store_int16(words, (first + i) / 2, broadcast(INT16_ONE), h[i], i + 1 < count ? h[i + 1] : broadcast(0));
}

static __attribute__((noinline)) void recurrent_product(const struct projection *projection, size_t blocks,
                                                        const int32_t *x, size_t stride, float *y) {
    multiply_quantised(blocks, false, projection, x, stride, NULL, &(struct epilogue){.kind = STORE_ROWS, .y = y});
}

static __mmask16 first_units(size_t count) {
    return (__mmask16)(0xffffU >> (VECTOR - count));
}

static int32_t *column_words(float *column, size_t units, bool is_reset) {
    return (int32_t *)(void *)(column + (is_reset ? 4 : 5) * units);
}

ALWAYS_INLINE void keep_column(float *column, size_t units, bool is_reset, size_t i, size_t some, vector h) {
    int16_t *words = (int16_t *)(void *)column_words(column, units, is_reset) + i;
    _mm512_mask_cvtepi32_storeu_epi16(words, first_units(some), _mm512_cvtps_epi32(multiply(h, broadcast(INT16_ONE))));
}

ALWAYS_INLINE void column_product(size_t count, const struct cell *cell, bool candidate, const struct columns *columns);

#include "model/kernels/lanes_evolve.h"

/* `vectors` vectors of units from `unit` on. */
ALWAYS_INLINE void gemv_vectors(size_t vectors, const struct projection *projection, size_t unit, const int32_t *x,
                                float *y) {
    integers sum[COLUMN_VECTORS];
    size_t units = projection->units, left = units - unit - (vectors - 1) * VECTOR;
    size_t last = left < VECTOR ? left : VECTOR;
    const int32_t *row = projection->int16.columns + unit;
    UNROLL for (size_t i = 0; i < vectors; i++) sum[i] = _mm512_setzero_si512();
    for (size_t word = 0; word < (projection->inputs + 1) / 2; word++, row += units)
        UNROLL for (size_t i = 0; i < vectors; i++) multiply_add_word(
            false, &sum[i], _mm512_maskz_loadu_epi32(first_units(i + 1 < vectors ? VECTOR : last), row + i * VECTOR),
            x + word);
    UNROLL for (size_t i = 0; i < vectors; i++) {
        size_t index = unit + i * VECTOR, count = i + 1 < vectors ? VECTOR : last;
        vector scale = load_some(projection->int16.scale + index, count);
        vector bias = load_some(projection->bias + index, count);
        store_some(y + index, count, multiply_add(_mm512_cvtepi32_ps(sum[i]), scale, bias));
    }
}

ALWAYS_INLINE void column_product(size_t count, const struct cell *cell, bool candidate,
                                  const struct columns *columns) {
    (void)count; /* columns evolve one by one here */
    const struct projection *projection = candidate ? &cell->candidate : &cell->gates;
    const int32_t *x = column_words(columns->h, columns->units, candidate);
    float *y = columns->h + (candidate ? 3 : 1) * columns->units;
    size_t unit = 0;
    for (; unit + (COLUMN_VECTORS - 1) * VECTOR < projection->units; unit += COLUMN_VECTORS * VECTOR)
        gemv_vectors(COLUMN_VECTORS, projection, unit, x, y);
    for (; unit + 2 * VECTOR < projection->units; unit += 3 * VECTOR)
        gemv_vectors(3, projection, unit, x, y);
    for (; unit < projection->units; unit += VECTOR)
        gemv_vectors(1, projection, unit, x, y);
}

static void vnni_evolve(const struct kernels *kernels, const struct evolution_steps *evolution, float *h, float *work) {
    const struct cell *cell = evolution->cell;
    if (cell->gates.int16.panels == NULL || (!cell->reset_after && cell->candidate.int16.panels == NULL)) {
        kernels_avx512.evolve(kernels, evolution, h, work);
        return;
    }
    size_t units = cell->units, size = units * LANES, rest = evolution->candidates % LANES;
    size_t narrow = rest <= NARROW_MAX ? rest : 0, blocks = (evolution->candidates - narrow + LANES - 1) / LANES;
    size_t group = blocks < kernels->blocks_per_weight_load ? blocks : kernels->blocks_per_weight_load;
    struct evolution e = {.of = evolution,
                          .blocks = blocks,
                          .group = group,
                          .h = h,
                          .gates = work,
                          .candidate = work + 2 * group * size,
                          .product_h = (int32_t *)(void *)(work + 3 * group * size),
                          .product_rh = (int32_t *)(void *)work, /* in place of the reset gates, which it is made of */
                          .h_stride = (units + 1) / 2 * LANES,
                          .rh_stride = cell->gates.units * LANES};
    for (size_t block = 0; block < blocks; block++)
        for (size_t i = 0; i < units; i += 2) {
            const float *pair = h + (block * units + i) * LANES;
            vector state[2] = {load(pair), i + 1 < units ? load(pair + LANES) : broadcast(0)};
            keep_recurrent(2, state, i, e.product_h + block * e.h_stride);
        }
    if (blocks > 0)
        evolve_blocks(&e);
    for (size_t lane = 0; lane < narrow; lane++)
        evolve_columns(1, &e, lane);
}

void kernels_use_vnni(struct kernels *kernels) {
    kernels->name = "avx512vnni";
    kernels->linear = vnni_linear;
    kernels->attend = vnni_attend;
    kernels->finish = vnni_finish;
    kernels->evolve = vnni_evolve;
}

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int no_vnni; /* ISO C wants a declaration in every file */
#endif
