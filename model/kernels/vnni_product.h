/* vnni_product.h: products of int16 and int8 weights with columns in lanes, by AVX512-VNNI, and their epilogues. The
 * including file must be compiled for AVX512-VNNI.
 *
 * Quantised inputs are 32-bit words in lanes: two int16 inputs of a column in each, [inputs / 2 rounded up, LANES], or
 * four int8 inputs, [inputs / 4 rounded up, LANES]. kernels.h has the scales.
 */
#ifndef MODEL_KERNELS_VNNI_PRODUCT_H
#define MODEL_KERNELS_VNNI_PRODUCT_H

#include "model/kernels/avx512.h"
#include "model/kernels/lanes_functions.h"

typedef __m512i integers;

enum {
    PANELS_MAX = 6,      /* panels whose sums fit the registers, for one vector of columns; half as many for two */
    VECTORS_PER_LOAD = 2 /* vectors of columns that may share one load of a weight */
};

/* ---- quantising inputs ---- */

/* factor * x rounded to an integer in the low 16 bits, for |factor * x| < 2^15: after adding 1.5 * 2^23 the last bit of
 * a float32 is worth 1. Infinities and NaN leave 0 there. With a scale per column the scale is then NaN and keeps it;
 * with a fixed scale the caller must keep the NaN. */
ALWAYS_INLINE vector in_low_bits(vector x, vector factor) {
    return multiply_add(x, factor, broadcast(0x1.8p23F));
}

/* Two int16 to a word: factor * even in the lower half, factor * odd in the upper half. */
ALWAYS_INLINE void store_int16(int32_t *words, size_t word, vector factor, vector even, vector odd) {
    integers low = _mm512_castps_si512(in_low_bits(even, factor)), high = _mm512_castps_si512(in_low_bits(odd, factor));
    _mm512_storeu_si512(words + word * LANES, _mm512_mask_mov_epi16(_mm512_slli_epi32(high, 16), 0x55555555, low));
}

/* The low bytes of four values to a word. */
ALWAYS_INLINE void store_int8(int32_t *words, size_t word, const vector *x) {
    const __mmask64 lowest = 0x1111111111111111;
    integers low =
        _mm512_mask_mov_epi8(_mm512_slli_epi32(_mm512_castps_si512(x[1]), 8), lowest, _mm512_castps_si512(x[0]));
    integers high =
        _mm512_mask_mov_epi8(_mm512_slli_epi32(_mm512_castps_si512(x[3]), 8), lowest, _mm512_castps_si512(x[2]));
    _mm512_storeu_si512(words + word * LANES, _mm512_mask_mov_epi16(_mm512_slli_epi32(high, 16), 0x55555555, low));
}

/* The largest |x| of each column. Compared as integers, because NaN is then the largest of all. */
ALWAYS_INLINE vector largest_of(size_t inputs, const float *x) {
    integers largest = _mm512_setzero_si512();
    for (size_t i = 0; i < inputs; i++)
        largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(load(x + i * LANES))));
    return _mm512_castsi512_ps(largest);
}

/* x [inputs, LANES] to int16 with a scale per column. Returns the value of INT16_ONE. words may be x. */
ALWAYS_INLINE vector quantise_int16(size_t inputs, const float *x, int32_t *words) {
    vector largest = largest_of(inputs, x), factor = divide(broadcast(INT16_ONE), largest);
    for (size_t i = 0; i < inputs; i += 2) {
        vector odd = i + 1 < inputs ? load(x + (i + 1) * LANES) : broadcast(0);
        store_int16(words, i / 2, factor, load(x + i * LANES), odd);
    }
    return largest;
}

/* x [inputs, LANES] to int8 with a scale per column. Returns the value of INT8_ONE. An infinity would hide as a finite
 * number, so the value is NaN then: infinity * 0. */
ALWAYS_INLINE vector quantise_int8(size_t inputs, const float *x, int32_t *words) {
    vector largest = largest_of(inputs, x), factor = divide(broadcast(INT8_ONE), largest);
    vector magic = broadcast(0x1.8p23F + INT8_OFFSET), part[4];
    for (size_t i = 0; i < inputs; i += 4) {
        UNROLL for (size_t j = 0; j < 4; j++) part[j] =
            i + j < inputs ? multiply_add(load(x + (i + j) * LANES), factor, magic) : magic;
        store_int8(words, i / 4, part);
    }
    return multiply_add(largest, broadcast(0), largest);
}

/* ---- multiplying ---- */

/* sum += x * the word in every lane. In assembly, because gcc 12 keeps the sums of the intrinsic on the stack. int8: x
 * is unsigned, the word signed. */
ALWAYS_INLINE void multiply_add_word(bool int8, integers *sum, integers x, const int32_t *word) {
    if (int8)
        __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(x), "m"(*word));
    else
        __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(x), "m"(*word));
}

/* sum += x * word, of a word that a register already holds in all lanes. */
ALWAYS_INLINE void multiply_add_loaded(bool int8, integers *sum, integers x, integers word) {
    if (int8)
        __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(x), "v"(word));
    else
        __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(x), "v"(word));
}

/* One word more of a row's sums. A CPU that multiplies twice a cycle loads twice a cycle at most: with two vectors of
 * columns one load serves two products. */
ALWAYS_INLINE void multiply_add_weight(size_t vectors, bool int8, const int32_t *weight, const integers *in,
                                       integers *sum) {
    if (vectors == 1) {
        multiply_add_word(int8, &sum[0], in[0], weight);
    } else {
        integers loaded = _mm512_set1_epi32(*weight);
        multiply_add_loaded(int8, &sum[0], in[0], loaded);
        multiply_add_loaded(int8, &sum[1], in[1], loaded);
    }
}

/* The epilogue of a product y = W x + b. Its kind is constant wherever it is compiled. */
enum epilogue_kind {
    STORE_ROWS, /* store y */
    ADD_PARTS,  /* add lane_part and part, store the sums */
    TO_INT16,   /* squash, quantise to int16 with a fixed scale */
    TO_INT8,    /* squash (sigmoid only), quantise to int8 with a fixed scale */
    TO_DOT      /* squash, add to the dot product with the weights of one unit */
};
struct epilogue {
    enum epilogue_kind kind;
    enum kernel_activation squash; /* KERNEL_SIGMOID or KERNEL_TANH */
    float *y;                      /* [vectors, units, LANES] */
    const float *lane_part, *part; /* [units, LANES] and [vectors, units] */
    int32_t *words;                /* of each vector [words of the units, LANES] */
    size_t stride;                 /* from one vector's words to the next */
    const float *weight;           /* [units] */
    vector *dot;                   /* [vectors] */
};

/* The epilogue for a panel of vector i: units unit .. unit + PANEL_UNITS, of which those up to `units` exist. */
ALWAYS_INLINE void finish_panel(const struct epilogue *epilogue, size_t i, size_t units, size_t unit, vector *value) {
    size_t left = units - unit;
    bool quantises = epilogue->kind == TO_INT16 || epilogue->kind == TO_INT8;
    int32_t *words = quantises ? epilogue->words + i * epilogue->stride : NULL;
    if (quantises || epilogue->kind == TO_DOT) {
        if (epilogue->squash == KERNEL_SIGMOID)
            sigmoids(PANEL_UNITS, value, value);
        else
            hyperbolic_tangents(PANEL_UNITS, value, value);
    }
    UNROLL for (size_t j = 0; j < PANEL_UNITS; j++) {
        if (j >= left)
            value[j] = broadcast(0);
        else if (epilogue->kind == TO_DOT)
            epilogue->dot[i] = multiply_add(value[j], broadcast(epilogue->weight[unit + j]), epilogue->dot[i]);
        else if (!quantises)
            store(epilogue->y + (i * units + unit + j) * LANES, value[j]);
    }
    if (quantises) {
        vector sum = add(add(value[0], value[1]), add(value[2], value[3])); /* finite, or the NaN that integers lose */
        epilogue->dot[i] = multiply_add(sum, broadcast(0), epilogue->dot[i]);
    }
    if (epilogue->kind == TO_INT8) {
        UNROLL for (size_t j = 0; j < PANEL_UNITS; j++) value[j] = in_low_bits(value[j], broadcast(INT8_SIGMOID_ONE));
        store_int8(words, unit / 4, value);
    }
    if (epilogue->kind == TO_INT16) {
        store_int16(words, unit / 2, broadcast(INT16_ONE), value[0], value[1]);
        if (left > 2)
            store_int16(words, unit / 2 + 1, broadcast(INT16_ONE), value[2], value[3]);
    }
}

/* Panels first .. first + panels of y = W x + b, for `vectors` vectors of columns whose words are `stride` apart.
 * `scale` [vectors] is the value of INT16_ONE or INT8_ONE in x; NULL: 1. */
ALWAYS_INLINE void multiply_panels(size_t panels, size_t vectors, bool int8, const struct projection *projection,
                                   size_t first, const int32_t *x, size_t stride, const vector *scale,
                                   const struct epilogue *epilogue) {
    integers sum[PANELS_MAX * PANEL_UNITS][VECTORS_PER_LOAD];
    const int32_t *panel[PANELS_MAX];
    size_t words = int8 ? (projection->inputs + 3) / 4 : (projection->inputs + 1) / 2;
    UNROLL for (size_t i = 0; i < panels; i++) {
        panel[i] = (int8 ? projection->int8.panels : projection->int16.panels) + (first + i) * words * PANEL_UNITS;
        KEEP_IN_REGISTER(panel[i]);
    }
    UNROLL for (size_t row = 0; row < panels * PANEL_UNITS; row++) {
        integers start =
            int8 ? _mm512_set1_epi32(projection->int8.start[first * PANEL_UNITS + row]) : _mm512_setzero_si512();
        sum[row][0] = sum[row][vectors - 1] = start; /* not a loop: clang makes it a memset and warns */
    }
    for (size_t word = 0; word < words; word++, x += LANES) {
        integers in[VECTORS_PER_LOAD];
        UNROLL for (size_t i = 0; i < vectors; i++) in[i] = _mm512_loadu_si512(x + i * stride);
        UNROLL for (size_t i = 0; i < panels; i++) UNROLL for (size_t j = 0; j < PANEL_UNITS; j++)
            multiply_add_weight(vectors, int8, panel[i] + word * PANEL_UNITS + j, in, sum[i * PANEL_UNITS + j]);
    }
    UNROLL for (size_t i = 0; i < panels; i++) {
        vector value[VECTORS_PER_LOAD][PANEL_UNITS], zero = broadcast(0);
        UNROLL for (size_t j = 0; j < PANEL_UNITS; j++) {
            size_t row = i * PANEL_UNITS + j, unit = first * PANEL_UNITS + row;
            bool exists = unit < projection->units, adds = epilogue->kind == ADD_PARTS && exists;
            vector unit_scale = broadcast((int8 ? projection->int8.scale : projection->int16.scale)[unit]);
            vector bias = exists ? broadcast(projection->bias[unit]) : zero;
            vector lane_part = adds ? load(epilogue->lane_part + unit * LANES) : zero;
            UNROLL for (size_t k = 0; k < vectors; k++) {
                vector factor = scale != NULL ? multiply(unit_scale, scale[k]) : unit_scale;
                vector y = multiply_add(_mm512_cvtepi32_ps(sum[row][k]), factor, bias);
                if (adds)
                    y = add(y, add(lane_part, broadcast(epilogue->part[k * projection->units + unit])));
                value[k][j] = y;
            }
        }
        UNROLL for (size_t k = 0; k < vectors; k++)
            finish_panel(epilogue, k, projection->units, (first + i) * PANEL_UNITS, value[k]);
    }
}

/* All panels, spread evenly over as many passes as needed: a small last pass would wait for its own sums. */
ALWAYS_INLINE void multiply_all_panels(size_t vectors, bool int8, const struct projection *projection, const int32_t *x,
                                       size_t stride, const vector *scale, const struct epilogue *epilogue) {
    size_t panels = (projection->units + PANEL_UNITS - 1) / PANEL_UNITS, first = 0, most = PANELS_MAX / vectors;
    for (size_t left = (panels + most - 1) / most; left > 0; left--) {
        size_t count = (panels - first) / left;
        UNROLL for (size_t n = 1; n <= most; n++) if (n == count)
            multiply_panels(n, vectors, int8, projection, first, x, stride, scale, epilogue);
        first += count;
    }
}

/* One vector of columns, or two. */
ALWAYS_INLINE void multiply_quantised(size_t vectors, bool int8, const struct projection *projection, const int32_t *x,
                                      size_t stride, const vector *scale, const struct epilogue *epilogue) {
    if (vectors == VECTORS_PER_LOAD)
        multiply_all_panels(VECTORS_PER_LOAD, int8, projection, x, stride, scale, epilogue);
    else
        multiply_all_panels(1, int8, projection, x, stride, scale, epilogue);
}

#endif
