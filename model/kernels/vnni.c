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

/* x in words of the columns' own steps, and of the step of states. */
static __attribute__((noinline)) void multiply_scaled(const struct projection *projection, const int32_t *x, vector one,
                                                      float *y) {
    multiply_words(projection, x, &one, &(struct rows){.way = TO_ROWS, .y = y});
}

static __attribute__((noinline)) void multiply_scaled_bytes(const struct projection *projection, const int32_t *x,
                                                            vector one, float *y) {
    multiply_bytes(projection, x, &one, &(struct rows){.way = TO_ROWS, .y = y});
}

static __attribute__((noinline)) void multiply_states(const struct projection *projection, const int32_t *x, float *y) {
    multiply_words(projection, x, NULL, &(struct rows){.way = TO_ROWS, .y = y});
}

static void vnni_project(const struct projection *projection, size_t blocks, const float *x, float *y) {
    if (projection->words.packed == NULL) {
        kernels_avx512.project(projection, blocks, x, y);
        return;
    }
    int32_t words[WORDS_INPUTS_MAX / 2 * LANES] __attribute__((aligned(64)));
    for (; blocks > 0; blocks--, x += projection->inputs * LANES, y += projection->units * LANES) {
        bool bytes = projection->words.start != NULL;
        vector one = (bytes ? bytes_of : words_of)(projection->inputs, x, words);
        (bytes ? multiply_scaled_bytes : multiply_scaled)(projection, words, one, y);
    }
}

/* ---- attention ---- */

/* The parts are added as the rows leave the registers: the same sums as after vnni_project. */
static __attribute__((noinline)) void multiply_attended(const struct projection *product, const int32_t *x, vector one,
                                                        const float *lane_part, const float *part, float *y) {
    multiply_words(product, x, &one, &(struct rows){.way = TO_SUMS, .lane_part = lane_part, .part = part, .y = y});
}

static __attribute__((noinline)) void multiply_attended_bytes(const struct projection *product, const int32_t *x,
                                                              vector one, const float *lane_part, const float *part,
                                                              float *y) {
    multiply_bytes(product, x, &one, &(struct rows){.way = TO_SUMS, .lane_part = lane_part, .part = part, .y = y});
}

static void vnni_attend(const struct kernels *kernels, const struct projection *product, size_t steps,
                        const float *query, const float *scale, const float *query_part, const float *keys,
                        const float *key_parts, float *y, float *work) {
    size_t units = product->units, inputs = product->inputs;
    if (product->words.packed == NULL) {
        kernels_avx512.attend(kernels, product, steps, query, scale, query_part, keys, key_parts, y, work);
        return;
    }
    int32_t words[WORDS_INPUTS_MAX / 2 * LANES] __attribute__((aligned(64)));
    for (size_t step = 0; step < steps; step++, keys += inputs, key_parts += units, y += units * LANES) {
        for (size_t i = 0; i < inputs; i++)
            store(work + i * LANES, multiply(load(query + i * LANES), broadcast(keys[i])));
        if (product->words.start != NULL)
            multiply_attended_bytes(product, words, bytes_of(inputs, work, words), query_part, key_parts, y);
        else
            multiply_attended(product, words, words_of(inputs, work, words), query_part, key_parts, y);
    }
}

/* Values before a squashing activation go on as a product's rows do. */
ALWAYS_INLINE void keep_rows(const struct rows *rows, size_t units, const float *x) {
    for (size_t unit = 0; unit < units; unit += GROUP) {
        vector value[GROUP];
        UNROLL for (size_t i = 0; i < GROUP; i++) value[i] =
            unit + i < units ? load(x + (unit + i) * LANES) : broadcast(0);
        keep_group(rows, unit, units - unit, value);
    }
}

/* One layer of a block: x is the first one's values before its activation, or words or bytes within 1. */
#define KEEP(name, way_, squash_)                                                                                      \
    static __attribute__((noinline)) void name(const struct projection *projection, const float *x,                    \
                                               const int32_t *words, int32_t *next, const float *weight,               \
                                               vector *dot) {                                                          \
        struct rows rows = {.way = (way_), .squash = (squash_), .words = next, .weight = weight, .dot = dot};          \
        if (words == NULL)                                                                                             \
            keep_rows(&rows, projection->units, x);                                                                    \
        else if (projection->words.start != NULL)                                                                      \
            multiply_bytes(projection, words, NULL, &rows);                                                            \
        else                                                                                                           \
            multiply_words(projection, words, NULL, &rows);                                                            \
    }
KEEP(sigmoids_to_words, TO_WORDS, KERNEL_SIGMOID)
KEEP(sigmoids_to_bytes, TO_BYTES, KERNEL_SIGMOID)
KEEP(sigmoids_to_dot, TO_DOT, KERNEL_SIGMOID)
KEEP(tangents_to_words, TO_WORDS, KERNEL_TANH)
KEEP(tangents_to_dot, TO_DOT, KERNEL_TANH)
#undef KEEP

/* The last layer has one unit, and its product is in float32. */
static const float *vnni_finish(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                                float *x, float *y) {
    if (!layers_keep_within_one(layers, count))
        return finish_by_layers(kernels, layers, count, blocks, x, y);
    int32_t words[2][WORDS_INPUTS_MAX / 2 * LANES] __attribute__((aligned(64)));
    const struct layer *last = &layers[count - 1];
    for (size_t block = 0; block < blocks; block++, x += layers[0].projection.units * LANES) {
        vector dot = broadcast(last->projection.bias[0]);
        for (size_t i = 0; i + 1 < count; i++) {
            const int32_t *in = i > 0 ? words[(i - 1) % 2] : NULL;
            const float *weight = last->projection.weight;
            bool tanh = layers[i].activation.kind == KERNEL_TANH;
            if (i + 2 < count && layers[i + 1].projection.words.start != NULL)
                sigmoids_to_bytes(&layers[i].projection, x, in, words[i % 2], NULL, &dot);
            else if (i + 2 < count)
                (tanh ? tangents_to_words : sigmoids_to_words)(&layers[i].projection, x, in, words[i % 2], NULL, &dot);
            else
                (tanh ? tangents_to_dot : sigmoids_to_dot)(&layers[i].projection, x, in, NULL, weight, &dot);
        }
        store(y + block * LANES, dot);
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
    UNROLL for (size_t j = 0; j < count; j += 2) store_words(words, (i + j) / 2, broadcast(WORDS_ONE), h[j], h[j + 1]);
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
    UNROLL for (size_t j = 0; j < count; j += 2) store_words(words, (i + j) / 2, broadcast(WORDS_ONE), h[j], h[j + 1]);
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

/* One step of one block; the words of h are read and then replaced. The candidate's come where the reset gate was. */
ALWAYS_INLINE void evolve_step(struct form form, const struct cell *cell, const struct step *step, float *gates,
                               float *candidate, int32_t *words) {
    multiply_states(&cell->gates, words, gates);
    if (!form.reset_after) {
        int32_t *reset_h = (int32_t *)(void *)gates;
        reset_all(step, reset_h);
        multiply_states(&cell->candidate, reset_h, candidate);
    }
    move_all(form, step, words);
}

/* What vnni_evolve is called with, and its work: gates [3 * units, LANES], words [blocks, units / 2 rounded up, LANES].
 */
struct evolution {
    const struct cell *cell;
    size_t steps, blocks;
    const float *inputs, *bias;
    float *const *attention;
    float *h, *gates;
    int32_t *words;
};

ALWAYS_INLINE void evolve_all(struct form form, const struct evolution *e) {
    size_t units = e->cell->units, size = units * LANES, pairs = (units + 1) / 2;
    for (size_t i = 0; i < e->steps; i++)
        for (size_t block = 0; block < e->blocks; block++) {
            float *h = e->h + block * size;
            struct step step = {.units = units,
                                .input = e->inputs + i * 3 * units,
                                .bias = e->bias,
                                .attention = e->attention[block] + i * LANES,
                                .gates = e->gates,
                                .candidate = e->gates + 2 * size,
                                .h = h,
                                .next = h};
            evolve_step(form, e->cell, &step, e->gates, e->gates + 2 * size, e->words + block * pairs * LANES);
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
    const int32_t *row = projection->words.column + unit;
    UNROLL for (size_t i = 0; i < vectors; i++) sum[i] = _mm512_setzero_si512();
    for (size_t pair = 0; pair < (projection->inputs + 1) / 2; pair++, row += units)
        UNROLL for (size_t i = 0; i < vectors; i++) multiply_add_words(
            &sum[i], _mm512_maskz_loadu_epi32(first_units(i + 1 < vectors ? VECTOR : last), row + i * VECTOR),
            x + pair);
    UNROLL for (size_t i = 0; i < vectors; i++) {
        size_t at = unit + i * VECTOR, count = i + 1 < vectors ? VECTOR : last;
        vector step = load_some(projection->words.step + at, count), bias = load_some(projection->bias + at, count);
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

/* Values that are multiples of 1 / WORDS_ONE, to words; behind the last unit of an odd number is 0. */
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
    vector z = column_gate(of, 0, i, some), h = multiply(load_some(of->h + i, some), broadcast(WORDS_ONE));
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
    keep_words(of->words, i, some, multiply(h, broadcast(WORDS_ONE)));
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
        keep_words(column.words, i, some, multiply(load_some(column.h + i, some), broadcast(WORDS_ONE)));
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
    if (cell->gates.words.packed == NULL || (!cell->reset_after && cell->candidate.words.packed == NULL)) {
        kernels_avx512.evolve(kernels, cell, write, steps, inputs, bias, candidates, attention, h, work);
        return;
    }
    struct evolution e = {
        cell, steps, blocks, inputs, bias, attention, h, work, (int32_t *)(void *)(work + 3 * units * LANES)};
    for (size_t block = 0; block < blocks; block++)
        for (size_t i = 0; i < units; i += 2) {
            const float *at = h + (block * units + i) * LANES;
            vector odd = i + 1 < units ? load(at + LANES) : broadcast(0);
            store_words(e.words + block * ((units + 1) / 2) * LANES, i / 2, broadcast(WORDS_ONE), load(at), odd);
        }
    if (blocks > 0)
        evolve_form[write][cell->reset_after](&e);
    for (size_t lane = 0; lane < few; lane++)
        column_form[write][cell->reset_after](&e, lane);
}

void kernels_use_vnni(struct kernels *kernels) {
    kernels->name = "avx512vnni";
    kernels->project = vnni_project;
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
