/* vnni.c: the products of AVX-512 in reduced precision, by AVX512-VNNI: an instruction multiplies and adds two pairs of
 * 16-bit integers in each lane, twice as many as of float32, or four of 8-bit integers.
 */
#if defined(__x86_64__)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma"))),        \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512vnni,avx2,fma")
#endif

#include "model/kernels/avx512.h"
#include "model/kernels/lanes_gates.h"
#include "model/kernels/vnni_product.h"

#include <string.h>

/* Room for one block's words, and how far the next one's are behind them. */
#define WORDS_STRIDE ((size_t)QUANTISED_INPUTS_MAX / 2 * LANES)

/* x in words or bytes of the columns' own steps, and in words of the step of states. */
static __attribute__((noinline)) void multiply_scaled(const struct projection *projection, const int32_t *x, vector one,
                                                      float *y) {
    multiply_integers(1, false, projection, x, 0, &one, &(struct rows){.way = TO_ROWS, .y = y});
}

static __attribute__((noinline)) void multiply_scaled_bytes(const struct projection *projection, const int32_t *x,
                                                            vector one, float *y) {
    multiply_integers(1, true, projection, x, 0, &one, &(struct rows){.way = TO_ROWS, .y = y});
}

static __attribute__((noinline)) void multiply_states(size_t blocks, const struct projection *projection,
                                                      const int32_t *x, size_t stride, float *y) {
    multiply_some(blocks, false, projection, x, stride, NULL, &(struct rows){.way = TO_ROWS, .y = y});
}

static void vnni_linear(const struct projection *projection, size_t blocks, const float *x, float *y) {
    if (projection->int16.panels == NULL) {
        kernels_avx512.linear(projection, blocks, x, y);
        return;
    }
    int32_t words[QUANTISED_INPUTS_MAX / 2 * LANES] __attribute__((aligned(64)));
    for (; blocks > 0; blocks--, x += projection->inputs * LANES, y += projection->units * LANES) {
        bool bytes = projection->int8.panels != NULL;
        vector one = (bytes ? bytes_of : words_of)(projection->inputs, x, words);
        (bytes ? multiply_scaled_bytes : multiply_scaled)(projection, words, one, y);
    }
}

/* ---- attention ---- */

/* One step or two, x of each QUANTISED_INPUTS_MAX / 2 vectors behind the last. The parts are added as the rows leave
 * the registers: the same sums as after vnni_linear. */
static __attribute__((noinline)) void multiply_attended(size_t steps, const struct projection *product,
                                                        const int32_t *x, const vector *one, const float *lane_part,
                                                        const float *part, float *y) {
    struct rows rows = {.way = TO_SUMS, .lane_part = lane_part, .part = part, .y = y};
    multiply_some(steps, false, product, x, WORDS_STRIDE, one, &rows);
}

static __attribute__((noinline)) void multiply_attended_bytes(size_t steps, const struct projection *product,
                                                              const int32_t *x, const vector *one,
                                                              const float *lane_part, const float *part, float *y) {
    struct rows rows = {.way = TO_SUMS, .lane_part = lane_part, .part = part, .y = y};
    multiply_some(steps, true, product, x, WORDS_STRIDE, one, &rows);
}

static void vnni_attend(const struct kernels *kernels, const struct projection *product, size_t steps,
                        const float *query, const float *scale, const float *query_part, const float *keys,
                        const float *key_parts, float *y, float *work) {
    size_t units = product->units, inputs = product->inputs, some = 0, most = kernels->blocks_per_weight_load;
    if (product->int16.panels == NULL) {
        kernels_avx512.attend(kernels, product, steps, query, scale, query_part, keys, key_parts, y, work);
        return;
    }
    bool bytes = product->int8.panels != NULL;
    int32_t words[VECTORS_TOGETHER * WORDS_STRIDE] __attribute__((aligned(64)));
    for (size_t step = 0; step < steps; step += some) {
        vector one[VECTORS_TOGETHER];
        some = steps - step < most ? steps - step : most;
        for (size_t i = 0; i < some; i++, keys += inputs) {
            for (size_t j = 0; j < inputs; j++)
                store(work + j * LANES, multiply(load(query + j * LANES), broadcast(keys[j])));
            one[i] = (bytes ? bytes_of : words_of)(inputs, work, words + i * WORDS_STRIDE);
        }
        (bytes ? multiply_attended_bytes : multiply_attended)(some, product, words, one, query_part,
                                                              key_parts + step * units, y + step * units * LANES);
    }
}

/* Values before a squashing activation go on as a product's rows do. */
ALWAYS_INLINE void keep_rows(size_t blocks, const struct rows *rows, size_t units, const float *x) {
    for (size_t i = 0; i < blocks; i++, x += units * LANES)
        for (size_t unit = 0; unit < units; unit += PANEL_UNITS) {
            vector value[PANEL_UNITS];
            UNROLL for (size_t j = 0; j < PANEL_UNITS; j++) value[j] =
                unit + j < units ? load(x + (unit + j) * LANES) : broadcast(0);
            keep_group(rows, i, units, unit, value);
        }
}

/* One layer of one block or two: x is the first one's values before its activation, or words or bytes within 1, those
 * of each block WORDS_STRIDE behind the last one's. */
#define KEEP(name, way_, squash_)                                                                                      \
    static __attribute__((noinline)) void name(size_t blocks, const struct projection *projection, const float *x,     \
                                               const int32_t *words, int32_t *next, const float *weight,               \
                                               vector *dot) {                                                          \
        struct rows rows = {                                                                                           \
            .way = (way_), .squash = (squash_), .words = next, .stride = WORDS_STRIDE, .weight = weight, .dot = dot};  \
        if (words == NULL)                                                                                             \
            keep_rows(blocks, &rows, projection->units, x);                                                            \
        else if (projection->int8.panels != NULL)                                                                      \
            multiply_some(blocks, true, projection, words, WORDS_STRIDE, NULL, &rows);                                 \
        else                                                                                                           \
            multiply_some(blocks, false, projection, words, WORDS_STRIDE, NULL, &rows);                                \
    }
KEEP(sigmoids_to_words, TO_WORDS, KERNEL_SIGMOID)
KEEP(sigmoids_to_bytes, TO_BYTES, KERNEL_SIGMOID)
KEEP(sigmoids_to_dot, TO_DOT, KERNEL_SIGMOID)
KEEP(tangents_to_words, TO_WORDS, KERNEL_TANH)
KEEP(tangents_to_dot, TO_DOT, KERNEL_TANH)
#undef KEEP

/* All layers but the last of one block or two; what the last makes of them before its activation. */
static void finish_some(const struct layer *layers, size_t count, size_t blocks, const float *x, vector *dot) {
    int32_t words[2][VECTORS_TOGETHER * WORDS_STRIDE] __attribute__((aligned(64)));
    for (size_t i = 0; i + 1 < count; i++) {
        const int32_t *in = i > 0 ? words[(i - 1) % 2] : NULL;
        const struct projection *layer = &layers[i].projection;
        const float *weight = layers[count - 1].projection.weight;
        bool tanh = layers[i].activation.kind == KERNEL_TANH;
        if (i + 2 < count && layers[i + 1].projection.int8.panels != NULL)
            sigmoids_to_bytes(blocks, layer, x, in, words[i % 2], NULL, dot);
        else if (i + 2 < count)
            (tanh ? tangents_to_words : sigmoids_to_words)(blocks, layer, x, in, words[i % 2], NULL, dot);
        else
            (tanh ? tangents_to_dot : sigmoids_to_dot)(blocks, layer, x, in, NULL, weight, dot);
    }
}

/* The last layer has one unit, and its product is in float32. */
static const float *vnni_finish(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                                float *x, float *y) {
    if (!layers_keep_within_one(layers, count))
        return finish_by_layers(kernels, layers, count, blocks, x, y);
    const struct layer *last = &layers[count - 1];
    size_t units = layers[0].projection.units, some = 0, most = kernels->blocks_per_weight_load;
    for (size_t block = 0; block < blocks; block += some) {
        some = blocks - block < most ? blocks - block : most;
        vector dot[VECTORS_TOGETHER];
        UNROLL for (size_t i = 0; i < VECTORS_TOGETHER; i++) dot[i] = broadcast(last->projection.bias[0]);
        finish_some(layers, count, some, x + block * units * LANES, dot);
        for (size_t i = 0; i < some; i++)
            store(y + (block + i) * LANES, dot[i]);
    }
    kernels_avx512.activate(&last->activation, 1, blocks, y);
    return y;
}

/* ---- evolution ---- */

/* Units i .. i + count behind their reset gate, in words. */
ALWAYS_INLINE void reset_units(const struct step *step, size_t i, size_t count, int32_t *words) {
    vector z[TOGETHER], h[TOGETHER + 1];
    UNROLL for (size_t j = 0; j < count; j++) {
        z[j] = gate_of(step, 0, i + j);
        h[j] = load(step->h + (i + j) * LANES);
    }
    reset(count, z, h, h);
    h[count] = broadcast(0);
    UNROLL for (size_t j = 0; j < count; j += 2) store_words(words, (i + j) / 2, broadcast(INT16_ONE), h[j], h[j + 1]);
}

/* Their next states, and these in words. */
ALWAYS_INLINE void move_units(struct form form, const struct step *step, size_t i, size_t count, int32_t *words) {
    vector v[TOGETHER], c[TOGETHER], a[TOGETHER], h[TOGETHER + 1];
    UNROLL for (size_t j = 0; j < count; j++) c[j] = load(step->candidate + (i + j) * LANES);
    if (form.reset_after) {
        UNROLL for (size_t j = 0; j < count; j++) v[j] = gate_of(step, 0, i + j);
        reset(count, v, c, c);
    }
    UNROLL for (size_t j = 0; j < count; j++) {
        v[j] = gate_of(step, 1, i + j);
        c[j] = add(input_of(step, 2, i + j), c[j]);
        a[j] = load(step->attention);
        h[j] = load(step->h + (i + j) * LANES);
    }
    move(form.write, count, v, c, a, h);
    UNROLL for (size_t j = 0; j < count; j++) {
        store(step->next + (i + j) * LANES, h[j]);
    }
    h[count] = broadcast(0);
    UNROLL for (size_t j = 0; j < count; j += 2) store_words(words, (i + j) / 2, broadcast(INT16_ONE), h[j], h[j + 1]);
}

static void reset_all(const struct step *step, int32_t *words) {
    size_t i = 0;
    for (; i + TOGETHER <= step->units; i += TOGETHER)
        reset_units(step, i, TOGETHER, words);
    UNROLL for (size_t n = 1; n < TOGETHER; n++) if (n == step->units - i) reset_units(step, i, n, words);
}

ALWAYS_INLINE void move_all(struct form form, const struct step *step, int32_t *words) {
    size_t i = 0;
    for (; i + TOGETHER <= step->units; i += TOGETHER)
        move_units(form, step, i, TOGETHER, words);
    UNROLL for (size_t n = 1; n < TOGETHER; n++) if (n == step->units - i) move_units(form, step, i, n, words);
}

/* What vnni_evolve is called with, and its work: the gates' products of as many blocks as are taken together, the
 * candidates' (of a reset after the product they are the gates' third), and words [blocks, units / 2 rounded up,
 * LANES]. */
struct evolution {
    const struct cell *cell;
    size_t steps, blocks, blocks_per_weight_load;
    const float *inputs, *bias;
    float *const *attention;
    float *h, *gates, *candidate;
    int32_t *words;
};

/* One step of a block, the i-th of those together. */
ALWAYS_INLINE struct step step_of(struct form form, const struct evolution *e, size_t number, size_t block, size_t i) {
    size_t units = e->cell->units, size = units * LANES;
    float *gates = e->gates + i * e->cell->gates.units * LANES, *h = e->h + block * size;
    return (struct step){.units = units,
                         .input = e->inputs + number * 3 * units,
                         .bias = e->bias,
                         .attention = e->attention[block] + number * LANES,
                         .gates = gates,
                         .candidate = form.reset_after ? gates + 2 * size : e->candidate + i * size,
                         .h = h,
                         .next = h};
}

/* One step of one block or two; the words of h are read and then replaced. Those of a block's r * h come where its
 * reset gate was. */
ALWAYS_INLINE void evolve_step(struct form form, const struct evolution *e, size_t number, size_t block,
                               size_t together) {
    const struct cell *cell = e->cell;
    size_t stride = (cell->units + 1) / 2 * LANES, gates = cell->gates.units * LANES;
    int32_t *words = e->words + block * stride, *reset_words = (int32_t *)(void *)e->gates;
    multiply_states(together, &cell->gates, words, stride, e->gates);
    if (!form.reset_after) {
        for (size_t i = 0; i < together; i++) {
            struct step step = step_of(form, e, number, block + i, i);
            reset_all(&step, reset_words + i * gates);
        }
        multiply_states(together, &cell->candidate, reset_words, gates, e->candidate);
    }
    for (size_t i = 0; i < together; i++) {
        struct step step = step_of(form, e, number, block + i, i);
        move_all(form, &step, words + i * stride);
    }
}

ALWAYS_INLINE void evolve_all(struct form form, const struct evolution *e) {
    for (size_t number = 0; number < e->steps; number++)
        for (size_t block = 0; block < e->blocks; block += e->blocks_per_weight_load) {
            size_t left = e->blocks - block;
            evolve_step(form, e, number, block, left < e->blocks_per_weight_load ? left : e->blocks_per_weight_load);
        }
}

/* Each form a function of its own. */
#define EACH_FORM(FORM)                                                                                                \
    FORM(UPDATE, false)                                                                                                \
    FORM(UPDATE, true)                                                                                                 \
    FORM(ATTENTION, false)                                                                                             \
    FORM(ATTENTION, true)                                                                                              \
    FORM(AND, false)                                                                                                   \
    FORM(AND, true)                                                                                                    \
    FORM(OR, false)                                                                                                    \
    FORM(OR, true)
#define EVOLVE(write, after)                                                                                           \
    static void evolve_##write##_##after(const struct evolution *e) {                                                  \
        evolve_all((struct form){WRITE_##write, after}, e);                                                            \
    }
EACH_FORM(EVOLVE)
#undef EVOLVE
#define EVOLVE(write, after) [WRITE_##write][after] = evolve_##write##_##after,
static void (*const evolve_form[WRITE_OR + 1][2])(const struct evolution *e) = {EACH_FORM(EVOLVE)};
#undef EVOLVE

/* ---- evolution of few candidates: a vector is a few units of one ---- */

enum { VECTORS = 6, FEW = 5 }; /* of sums at a time; columns that take less time one by one than as a block */

static __mmask16 first_units(size_t count) {
    return (__mmask16)(0xffffU >> (VECTOR - count));
}

/* Units unit .. of a product with one column; x is its words. */
ALWAYS_INLINE void column_some(size_t vectors, const struct projection *projection, size_t unit, const int32_t *x,
                               float *y) {
    integers sum[VECTORS];
    size_t units = projection->units, left = units - unit - (vectors - 1) * VECTOR;
    size_t last = left < VECTOR ? left : VECTOR;
    const int32_t *row = projection->int16.columns + unit;
    UNROLL for (size_t i = 0; i < vectors; i++) sum[i] = _mm512_setzero_si512();
    for (size_t pair = 0; pair < (projection->inputs + 1) / 2; pair++, row += units)
        UNROLL for (size_t i = 0; i < vectors; i++) multiply_add_integers(
            false, &sum[i], _mm512_maskz_loadu_epi32(first_units(i + 1 < vectors ? VECTOR : last), row + i * VECTOR),
            x + pair);
    UNROLL for (size_t i = 0; i < vectors; i++) {
        size_t at = unit + i * VECTOR, count = i + 1 < vectors ? VECTOR : last;
        vector step = load_some(projection->int16.scale + at, count), bias = load_some(projection->bias + at, count);
        store_some(y + at, count, multiply_add(_mm512_cvtepi32_ps(sum[i]), step, bias));
    }
}

static void column_product(const struct projection *projection, const int32_t *x, float *y) {
    size_t unit = 0;
    for (; unit + (VECTORS - 1) * VECTOR < projection->units; unit += VECTORS * VECTOR)
        column_some(VECTORS, projection, unit, x, y);
    for (; unit + 2 * VECTOR < projection->units; unit += 3 * VECTOR)
        column_some(3, projection, unit, x, y);
    for (; unit < projection->units; unit += VECTOR)
        column_some(1, projection, unit, x, y);
}

/* One column of a block, in one piece: h, the products, and the words of h and of r * h. */
struct column {
    size_t units;
    const float *input, *bias; /* as in struct step */
    float attention;
    float *h, *gates, *candidate;
    int32_t *words, *reset_words;
};

/* Values that are multiples of 1 / INT16_ONE, to words; behind the last unit of an odd number is 0. */
ALWAYS_INLINE void keep_words(int32_t *words, size_t i, size_t some, vector x) {
    int16_t *at = (int16_t *)(void *)words + i;
    _mm512_mask_cvtepi32_storeu_epi16(at, first_units(some), _mm512_cvtps_epi32(x));
}

/* The input of units i .. of gate 0, 1 or 2; and the argument of gate 0 or 1. */
ALWAYS_INLINE vector column_input(const struct column *of, size_t gate, size_t i, size_t some) {
    vector input = load_some(of->input + gate * of->units + i, some);
    if (of->bias == NULL)
        return input;
    return multiply_add(broadcast(of->attention), input, load_some(of->bias + gate * of->units + i, some));
}

ALWAYS_INLINE vector column_gate(const struct column *of, size_t gate, size_t i, size_t some) {
    return add(column_input(of, gate, i, some), load_some(of->gates + gate * of->units + i, some));
}

ALWAYS_INLINE void column_reset(const struct column *of, size_t i, size_t some) {
    vector z = column_gate(of, 0, i, some), h = multiply(load_some(of->h + i, some), broadcast(INT16_ONE));
    reset(1, &z, &h, &h);
    keep_words(of->reset_words, i, some, h);
}

ALWAYS_INLINE void column_move(struct form form, const struct column *of, size_t i, size_t some) {
    vector v, c = load_some(of->candidate + i, some), a = broadcast(of->attention), h = load_some(of->h + i, some);
    if (form.reset_after) {
        v = column_gate(of, 0, i, some);
        reset(1, &v, &c, &c);
    }
    v = column_gate(of, 1, i, some);
    c = add(column_input(of, 2, i, some), c);
    move(form.write, 1, &v, &c, &a, &h);
    store_some(of->h + i, some, h);
    keep_words(of->words, i, some, multiply(h, broadcast(INT16_ONE)));
}

/* The same sums and functions as in lanes. */
ALWAYS_INLINE void column_step(struct form form, const struct cell *cell, const struct column *of) {
    size_t units = of->units;
    column_product(&cell->gates, of->words, of->gates);
    if (!form.reset_after) {
        for (size_t i = 0; i < units; i += VECTOR)
            column_reset(of, i, units - i < VECTOR ? units - i : VECTOR);
        column_product(&cell->candidate, of->reset_words, of->candidate);
    }
    for (size_t i = 0; i < units; i += VECTOR)
        column_move(form, of, i, units - i < VECTOR ? units - i : VECTOR);
}

/* All steps of one column of the block behind the full ones. */
ALWAYS_INLINE void evolve_column(struct form form, const struct evolution *e, size_t lane) {
    size_t units = e->cell->units, pairs = (units + 1) / 2;
    float *work = e->gates, *h = e->h + e->blocks * units * LANES + lane;
    struct column column = {.units = units,
                            .bias = e->bias,
                            .h = work,
                            .gates = work + units,
                            .candidate = work + (form.reset_after ? 3 : 4) * units,
                            .words = (int32_t *)(void *)(work + 5 * units)};
    column.reset_words = column.words + pairs;
    memset(column.words, 0, 2 * pairs * sizeof *column.words);
    for (size_t unit = 0; unit < units; unit++)
        column.h[unit] = h[unit * LANES];
    for (size_t i = 0; i < units; i += VECTOR) {
        size_t some = units - i < VECTOR ? units - i : VECTOR;
        keep_words(column.words, i, some, multiply(load_some(column.h + i, some), broadcast(INT16_ONE)));
    }
    for (size_t i = 0; i < e->steps; i++) {
        column.input = e->inputs + i * 3 * units;
        column.attention = e->attention[e->blocks][i * LANES + lane];
        column_step(form, e->cell, &column);
    }
    for (size_t unit = 0; unit < units; unit++)
        h[unit * LANES] = column.h[unit];
}

#define EVOLVE(write, after)                                                                                           \
    static void column_##write##_##after(const struct evolution *e, size_t lane) {                                     \
        evolve_column((struct form){WRITE_##write, after}, e, lane);                                                   \
    }
EACH_FORM(EVOLVE)
#undef EVOLVE
#define EVOLVE(write, after) [WRITE_##write][after] = column_##write##_##after,
static void (*const column_form[WRITE_OR + 1][2])(const struct evolution *e, size_t lane) = {EACH_FORM(EVOLVE)};
#undef EVOLVE

static void vnni_evolve(const struct kernels *kernels, const struct cell *cell, enum kernel_write write, size_t steps,
                        const float *inputs, const float *bias, size_t candidates, float *const *attention, float *h,
                        float *work) {
    size_t units = cell->units, few = candidates % LANES <= FEW ? candidates % LANES : 0;
    size_t blocks = (candidates - few + LANES - 1) / LANES;
    if (cell->gates.int16.panels == NULL || (!cell->reset_after && cell->candidate.int16.panels == NULL)) {
        kernels_avx512.evolve(kernels, cell, write, steps, inputs, bias, candidates, attention, h, work);
        return;
    }
    size_t together = blocks < kernels->blocks_per_weight_load ? blocks : kernels->blocks_per_weight_load,
           size = units * LANES;
    struct evolution e = {.cell = cell,
                          .steps = steps,
                          .blocks = blocks,
                          .blocks_per_weight_load = together,
                          .inputs = inputs,
                          .bias = bias,
                          .attention = attention,
                          .h = h,
                          .gates = work,
                          .candidate = work + 2 * together * size,
                          .words = (int32_t *)(void *)(work + 3 * together * size)};
    for (size_t block = 0; block < blocks; block++)
        for (size_t i = 0; i < units; i += 2) {
            const float *at = h + (block * units + i) * LANES;
            vector odd = i + 1 < units ? load(at + LANES) : broadcast(0);
            store_words(e.words + block * ((units + 1) / 2) * LANES, i / 2, broadcast(INT16_ONE), load(at), odd);
        }
    if (blocks > 0)
        evolve_form[write][cell->reset_after](&e);
    for (size_t lane = 0; lane < few; lane++)
        column_form[write][cell->reset_after](&e, lane);
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
