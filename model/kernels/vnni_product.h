/* vnni_product.h: products of 16-bit and 8-bit integers with columns in lanes, by AVX512-VNNI, and what is done with
 * their rows; for a file that is compiled for it.
 *
 * x lies in words: a word is the integers of two inputs of a column, [inputs / 2 rounded up, LANES]. Its step is the
 * column's own (kernels.h), or fixed where the values are known to be within 1, as states are. Or it has four bytes of
 * four inputs, [inputs / 4 rounded up, LANES].
 */
#ifndef MODEL_KERNELS_VNNI_PRODUCT_H
#define MODEL_KERNELS_VNNI_PRODUCT_H

#include "model/kernels/avx512.h"
#include "model/kernels/lanes_functions.h"

typedef __m512i integers;

/* Groups of rows whose sums grow in registers, of one vector of columns; of two, half as many. */
enum { GROUPS = 6, VECTORS_TOGETHER = 2 };

/* x times the factor as an integer in the low 16 bits, for what is within 2^15 then: after adding 1.5 * 2^23 the last
 * bit of a float32 is worth 1. What is not a number, or not finite, leaves 0 there: where the step is the column's own
 * it is not a number then; where it is fixed, somebody else must keep the NaN. */
ALWAYS_INLINE vector in_low_bits(vector x, vector factor) {
    return multiply_add(x, factor, broadcast(0x1.8p23F));
}

/* Two columns' integers, both in the low bits, to words. */
ALWAYS_INLINE integers word_of(vector even, vector odd) {
    return _mm512_mask_mov_epi16(_mm512_slli_epi32(_mm512_castps_si512(odd), 16), 0x55555555,
                                 _mm512_castps_si512(even));
}

/* x times the factor, in words. */
ALWAYS_INLINE void store_words(int32_t *words, size_t pair, vector factor, vector even, vector odd) {
    _mm512_storeu_si512(words + pair * LANES, word_of(in_low_bits(even, factor), in_low_bits(odd, factor)));
}

/* The low bytes of four columns' integers, to words. */
ALWAYS_INLINE integers word_of_bytes(const vector *x) {
    const __mmask64 lowest = 0x1111111111111111;
    integers low =
        _mm512_mask_mov_epi8(_mm512_slli_epi32(_mm512_castps_si512(x[1]), 8), lowest, _mm512_castps_si512(x[0]));
    integers high =
        _mm512_mask_mov_epi8(_mm512_slli_epi32(_mm512_castps_si512(x[3]), 8), lowest, _mm512_castps_si512(x[2]));
    return _mm512_mask_mov_epi16(_mm512_slli_epi32(high, 16), 0x55555555, low);
}

/* The largest of |x| in each column, as integers, for what is not a number is then the largest of all. */
ALWAYS_INLINE vector largest_of(size_t inputs, const float *x) {
    integers largest = _mm512_setzero_si512();
    for (size_t i = 0; i < inputs; i++)
        largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(load(x + i * LANES))));
    return _mm512_castsi512_ps(largest);
}

/* x [inputs, LANES] to words of the columns' own steps; the result is what INT16_ONE is worth. The words may take the
 * place of x. */
ALWAYS_INLINE vector words_of(size_t inputs, const float *x, int32_t *words) {
    vector most = largest_of(inputs, x), factor = divide(broadcast(INT16_ONE), most);
    for (size_t i = 0; i < inputs; i += 2) {
        vector odd = i + 1 < inputs ? load(x + (i + 1) * LANES) : broadcast(0);
        store_words(words, i / 2, factor, load(x + i * LANES), odd);
    }
    return most;
}

/* The same in bytes; the result is what INT8_ONE is worth. An infinity leaves nothing of the others, and no number. */
ALWAYS_INLINE vector bytes_of(size_t inputs, const float *x, int32_t *words) {
    vector most = largest_of(inputs, x), factor = divide(broadcast(INT8_ONE), most);
    vector magic = broadcast(0x1.8p23F + INT8_OFFSET), part[4];
    for (size_t i = 0; i < inputs; i += 4) {
        UNROLL for (size_t j = 0; j < 4; j++) part[j] =
            i + j < inputs ? multiply_add(load(x + (i + j) * LANES), factor, magic) : magic;
        _mm512_storeu_si512(words + i / 4 * LANES, word_of_bytes(part));
    }
    return multiply_add(most, broadcast(0), most);
}

/* sum += x times the word in every lane. In assembly, for gcc 12 keeps the sums of the intrinsic on the stack. Of bytes
 * those of x have no sign, those of the word have one. */
ALWAYS_INLINE void multiply_add_integers(bool bytes, integers *sum, integers x, const int32_t *word) {
    if (bytes)
        __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(x), "m"(*word));
    else
        __asm__("vpdpwssd %2%{1to16%}, %1, %0" : "+v"(*sum) : "v"(x), "m"(*word));
}

/* The same, the word being in all lanes of a register already. */
ALWAYS_INLINE void multiply_add_spread(bool bytes, integers *sum, integers x, integers word) {
    if (bytes)
        __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(x), "v"(word));
    else
        __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(x), "v"(word));
}

/* One word more of a row's sums. A CPU that multiplies twice a cycle loads twice a cycle at most: with two vectors of
 * columns one load serves two products. */
ALWAYS_INLINE void sums_add_word(size_t vectors, bool bytes, const int32_t *weights, const integers *in,
                                 integers *sum) {
    if (vectors == 1) {
        multiply_add_integers(bytes, &sum[0], in[0], weights);
    } else {
        integers spread = _mm512_set1_epi32(*weights);
        multiply_add_spread(bytes, &sum[0], in[0], spread);
        multiply_add_spread(bytes, &sum[1], in[1], spread);
    }
}

/* The integer sums of `groups` groups of rows, for `vectors` vectors of columns; x of one is `stride` behind that of
 * the last. */
ALWAYS_INLINE void sum_groups(size_t groups, size_t vectors, bool bytes, const struct projection *projection,
                              size_t first, const int32_t *x, size_t stride, integers (*sum)[VECTORS_TOGETHER]) {
    const int32_t *group[GROUPS];
    size_t words = bytes ? (projection->inputs + 3) / 4 : (projection->inputs + 1) / 2;
    UNROLL for (size_t i = 0; i < groups; i++) {
        group[i] = (bytes ? projection->int8.panels : projection->int16.panels) + (first + i) * words * PANEL_UNITS;
        KEEP_IN_REGISTER(group[i]);
    }
    UNROLL for (size_t row = 0; row < groups * PANEL_UNITS; row++) {
        integers start =
            bytes ? _mm512_set1_epi32(projection->int8.start[first * PANEL_UNITS + row]) : _mm512_setzero_si512();
        sum[row][0] = sum[row][vectors - 1] = start; /* one or two; of a loop clang makes a memset, and complains */
    }
    for (size_t word = 0; word < words; word++, x += LANES) {
        integers in[VECTORS_TOGETHER];
        UNROLL for (size_t i = 0; i < vectors; i++) in[i] = _mm512_loadu_si512(x + i * stride);
        UNROLL for (size_t i = 0; i < groups; i++) UNROLL for (size_t j = 0; j < PANEL_UNITS; j++)
            sums_add_word(vectors, bytes, group[i] + word * PANEL_UNITS + j, in, sum[i * PANEL_UNITS + j]);
    }
}

/* What becomes of the rows of y = W x + b, one way being constant where it is compiled: they are stored; or two parts
 * are added first, one for each lane and one for all; or a squashing activation leaves them within 1, and they go on as
 * words, as bytes (sigmoids), or into the dot product with the weights of one unit. */
enum way { TO_ROWS, TO_SUMS, TO_WORDS, TO_BYTES, TO_DOT };
struct rows {
    enum way way;
    enum kernel_activation squash; /* words, bytes, dot: KERNEL_SIGMOID or KERNEL_TANH */
    float *y;                      /* rows, sums: [vectors, units, LANES] */
    const float *lane_part, *part; /* sums: [units, LANES] and [vectors, units] */
    int32_t *words;                /* words: [vectors, units / 2 rounded up, LANES]; bytes: a quarter of units */
    size_t stride;                 /* words: of vectors */
    const float *weight;           /* dot: [units] */
    vector *dot;                   /* [vectors] */
};

/* A group's rows of vector i, of which those up to `units` are of the projection. */
ALWAYS_INLINE void keep_group(const struct rows *rows, size_t i, size_t units, size_t unit, vector *value) {
    size_t left = units - unit;
    bool packs = rows->way == TO_WORDS || rows->way == TO_BYTES;
    int32_t *words = packs ? rows->words + i * rows->stride : NULL;
    if (packs || rows->way == TO_DOT) {
        if (rows->squash == KERNEL_SIGMOID)
            sigmoids(PANEL_UNITS, value, value);
        else
            hyperbolic_tangents(PANEL_UNITS, value, value);
    }
    UNROLL for (size_t j = 0; j < PANEL_UNITS; j++) {
        if (j >= left)
            value[j] = broadcast(0);
        else if (rows->way == TO_DOT)
            rows->dot[i] = multiply_add(value[j], broadcast(rows->weight[unit + j]), rows->dot[i]);
        else if (!packs)
            store(rows->y + (i * units + unit + j) * LANES, value[j]);
    }
    if (packs) {
        vector sum = add(add(value[0], value[1]), add(value[2], value[3])); /* within 4; or the NaN that words lose */
        rows->dot[i] = multiply_add(sum, broadcast(0), rows->dot[i]);
    }
    if (rows->way == TO_BYTES) {
        UNROLL for (size_t j = 0; j < PANEL_UNITS; j++) value[j] = in_low_bits(value[j], broadcast(INT8_SIGMOID_ONE));
        _mm512_storeu_si512(words + unit / 4 * LANES, word_of_bytes(value));
    }
    if (rows->way == TO_WORDS) {
        store_words(words, unit / 2, broadcast(INT16_ONE), value[0], value[1]);
        if (left > 2)
            store_words(words, unit / 2 + 1, broadcast(INT16_ONE), value[2], value[3]);
    }
}

/* Row `unit`, the j-th of its group: what its sums are worth, the bias, the parts; what pads the last group is of no
 * use. */
ALWAYS_INLINE void finish_row(size_t vectors, bool bytes, const struct projection *projection, size_t unit,
                              const vector *one, const struct rows *rows, const integers *sum,
                              vector (*value)[PANEL_UNITS], size_t j) {
    vector step = broadcast((bytes ? projection->int8.scale : projection->int16.scale)[unit]), zero = broadcast(0);
    bool there = unit < projection->units, adds = rows->way == TO_SUMS && there;
    vector bias = there ? broadcast(projection->bias[unit]) : zero;
    vector lane_part = adds ? load(rows->lane_part + unit * LANES) : zero;
    UNROLL for (size_t i = 0; i < vectors; i++) {
        vector y = multiply_add(_mm512_cvtepi32_ps(sum[i]), one != NULL ? multiply(step, one[i]) : step, bias);
        if (adds)
            y = add(y, add(lane_part, broadcast(rows->part[i * projection->units + unit])));
        value[i][j] = y;
    }
}

/* `groups` groups of rows of y = W x + b, for `vectors` vectors of columns; x is in words or bytes, of which INT16_ONE
 * or INT8_ONE is worth one[vectors], or 1 where one is NULL. */
ALWAYS_INLINE void multiply_groups(size_t groups, size_t vectors, bool bytes, const struct projection *projection,
                                   size_t first, const int32_t *x, size_t stride, const vector *one,
                                   const struct rows *rows) {
    integers sum[GROUPS * PANEL_UNITS][VECTORS_TOGETHER];
    sum_groups(groups, vectors, bytes, projection, first, x, stride, sum);
    UNROLL for (size_t i = 0; i < groups; i++) {
        size_t unit = (first + i) * PANEL_UNITS;
        vector value[VECTORS_TOGETHER][PANEL_UNITS];
        UNROLL for (size_t j = 0; j < PANEL_UNITS; j++)
            finish_row(vectors, bytes, projection, unit + j, one, rows, sum[i * PANEL_UNITS + j], value, j);
        UNROLL for (size_t k = 0; k < vectors; k++) keep_group(rows, k, projection->units, unit, value[k]);
    }
}

/* The groups are spread evenly: a small last share would wait for its own sums. */
ALWAYS_INLINE void multiply_integers(size_t vectors, bool bytes, const struct projection *projection, const int32_t *x,
                                     size_t stride, const vector *one, const struct rows *rows) {
    size_t groups = (projection->units + PANEL_UNITS - 1) / PANEL_UNITS, first = 0, most = GROUPS / vectors;
    for (size_t left = (groups + most - 1) / most; left > 0; left--) {
        size_t count = (groups - first) / left;
        UNROLL for (size_t n = 1; n <= most; n++) if (n == count)
            multiply_groups(n, vectors, bytes, projection, first, x, stride, one, rows);
        first += count;
    }
}

/* One vector of columns, or two. */
ALWAYS_INLINE void multiply_some(size_t vectors, bool bytes, const struct projection *projection, const int32_t *x,
                                 size_t stride, const vector *one, const struct rows *rows) {
    if (vectors == VECTORS_TOGETHER)
        multiply_integers(VECTORS_TOGETHER, bytes, projection, x, stride, one, rows);
    else
        multiply_integers(1, bytes, projection, x, stride, one, rows);
}

#endif
