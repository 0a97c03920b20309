/* kernels.h: the hot loops as a table of functions, chosen once by dispatch.c.
 *
 * Layout. Candidates lie in SIMD lanes: a block of LANES candidates is a matrix [units, LANES], row by row, so that
 * every element-wise operation is a loop over lanes and a recurrent weight is one broadcast. Several blocks follow each
 * other: [blocks, units, LANES]. The steps of a history use this layout too where many are computed at a time. A block
 * always has all its columns; columns out of use may hold anything, and their results are dropped.
 *
 * Promise. The result of a column depends neither on the other columns, nor on its position, nor on the number of
 * blocks. Therefore a candidate's score has the same bits whichever candidates share its request.
 *
 * All matrices are float32 and row-major, and do not overlap unless their comment says so. Matrices in lanes are
 * aligned to 64 bytes.
 */
#ifndef MODEL_KERNELS_H
#define MODEL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LANES = 16,     /* candidates, or steps, side by side */
    BLOCKS = 2,     /* blocks of candidates that are scored together, so that one load of a weight serves all */
    STEPS = 8,      /* steps of attention that are computed together, each a block */
    PANEL_UNITS = 4 /* output units of a panel, whose weights lie side by side */
};

/* ---- weights ---- */

/* Quantised weights and inputs.
 *
 * int16: weights have one scale per output unit, inputs one scale per column. The largest input of a column becomes
 * INT16_ONE; inputs that are known to be within 1 have the fixed scale 1 / INT16_ONE. Sums are exact in 32 bits:
 * int16_pack() chooses scales that exclude an overflow, so the order of summing changes no bit.
 *
 * int8: as int16, but four weights share a word where int16 has two. The instruction multiplies unsigned by signed
 * bytes, so inputs are unsigned: inputs within 1 have the scale 1 / INT8_ONE and the zero point INT8_OFFSET, outputs of
 * a sigmoid the scale 1 / INT8_SIGMOID_ONE and no zero point. Sums start from a constant that removes the zero point.
 *
 * Panels are [units / PANEL_UNITS rounded up, words of the inputs, PANEL_UNITS]. */
enum {
    INT16_ONE = 8192,
    INT8_ONE = 127,
    INT8_OFFSET = 128,
    INT8_SIGMOID_ONE = 255,
    QUANTISED_INPUTS_MAX = 1024 /* projections with more inputs stay in float32 */
};

struct int16_weights {
    const int32_t *panels;  /* two weights per word, the first in the lower half; NULL: none */
    const float *scale;     /* [units rounded up to PANEL_UNITS]: the unit's scale / INT16_ONE */
    const int32_t *columns; /* the words of panels for gemv: [inputs / 2 rounded up, units] */
};

struct int8_weights {
    const int32_t *panels; /* four weights per word, the first in the lowest byte; NULL: none */
    const float *scale;    /* [units rounded up to PANEL_UNITS]: the unit's scale / INT8_ONE or INT8_SIGMOID_ONE */
    const int32_t *start;  /* [units rounded up to PANEL_UNITS]: the first summand of a unit's sum */
};

/* Winograd sums. Some CPUs can add beside their multiply-adds at no cost. On these, two of every three products share
 * one multiply-add (Winograd, "A New Algorithm for Inner Product", IEEE Transactions on Computers C-17, 1968):
 *
 *   w1 x1 + w2 x2 = (w1 + x2) (w2 + x1) - w1 w2 - x1 x2
 *
 * The sums of w1 w2 are constants and go into the biases. The sums of x1 x2 are computed once per column for all units.
 * The rounding error grows with (|w| + |x|)^2 in place of |w x|, so inputs must be within WINOGRAD_INPUT_MAX and
 * weights of a similar size. */
#define WINOGRAD_INPUT_MAX 2.0F

/* y = W x + b. */
struct projection {
    size_t units, inputs;
    const float *weight;   /* [units, inputs] */
    const float *bias;     /* [units] */
    const float *winograd; /* [units]: the biases of Winograd sums; NULL: plain sums */
    const float *panels;   /* projection_pack() */
    /* projection_transpose(), for narrow inputs: [1 + inputs, units rounded up to LANES]; NULL: none. */
    const float *transposed;
    /* Quantised weights, where the kernels can use them. int8 is used in preference to int16. */
    struct int16_weights int16;
    struct int8_weights int8;
};

/* y = W x + b for one column. The weight is transposed, so that the loop over units is the inner one. */
struct column_projection {
    size_t units, inputs;
    const float *weight;   /* [inputs, units rounded up to LANES], zeros behind the units */
    const float *bias;     /* [units] */
    const float *winograd; /* as in struct projection */
};

/* Whether the weights lose little precision in Winograd sums: the largest is between 1/16 and 4. */
bool projection_suits_winograd(const struct projection *projection);
/* The biases for Winograd sums, [units]. They must be in projection->winograd before it is packed or transposed. */
void projection_winograd(const struct projection *projection, float *winograd);

/* Panels: [units / PANEL_UNITS rounded up, 1 + inputs, PANEL_UNITS]. The first row of a panel holds the biases (those
 * for Winograd sums where there are any), row 1 + i the weights of input i. Zeros fill the last panel. */
size_t projection_panel_floats(size_t units, size_t inputs);
void projection_pack(const struct projection *projection, float *panels);

/* Floats in a row of a transposed projection; zeros follow the units. */
static inline size_t projection_transposed_units(size_t units) {
    return (units + LANES - 1) / LANES * LANES;
}

void projection_transpose(const struct projection *projection, float *transposed);
/* matrix [rows, columns] to [columns, stride], zeros behind the rows. */
void matrix_transpose(const float *matrix, size_t rows, size_t columns, size_t stride, float *transposed);

/* int16 panels of int16_panels_count() words, and a scale for each unit, rounded up to PANEL_UNITS. Returns false if a
 * weight is not finite. */
size_t int16_panels_count(size_t units, size_t inputs);
bool int16_pack(const struct projection *projection, int32_t *panels, float *scale);
/* int16.columns out of int16.panels. */
void int16_pack_columns(const struct projection *projection, int32_t *columns);

/* int8 panels, for inputs within 1 or for outputs of sigmoids. Weights must be finite. */
size_t int8_panels_count(size_t units, size_t inputs);
void int8_pack(const struct projection *projection, bool sigmoids, int32_t *panels, float *scale, int32_t *start);

/* ---- layers and cells ---- */

enum kernel_activation {
    KERNEL_LINEAR,
    KERNEL_RELU,
    KERNEL_SIGMOID,
    KERNEL_TANH,
    KERNEL_SILU,
    KERNEL_PRELU,
    KERNEL_DICE,
    KERNEL_DICE_ROW /* statistics over the units of a column */
};

/* The expected root mean square error that int8 weights add to a score. `gain` [units] is the slope of the score with
 * respect to the activated units; inputs are taken as uniform within 1 or, for sigmoids, between 0 and 1, and every
 * activation's slope as its largest. int8 is used where the error is at most QUANTISED_NOISE_MAX. */
#define QUANTISED_NOISE_MAX 5e-3
double int8_noise(const struct projection *projection, bool sigmoids, enum kernel_activation kind, const float *gain);
/* The slopes of the score with respect to the inputs, [inputs]. */
void int8_slopes(const struct projection *projection, enum kernel_activation kind, const float *gain, float *slopes);

struct activation_parameters {
    enum kernel_activation kind;
    const float *alpha;  /* [units]: prelu, dice, dice-row */
    const float *gain;   /* [units]: dice */
    const float *offset; /* [units]: dice */
    float epsilon;       /* dice-row */
};

/* A dense layer: y = activation(W x + b). */
struct layer {
    struct projection projection;
    struct activation_parameters activation;
};

/* Whether one fixed scale serves every value between the layers: all hidden activations are within 1, all layers but
 * the first have int16 weights, and the last layer has one unit. */
bool layers_keep_within_one(const struct layer *layers, size_t count);

/* A recurrent cell: h' = h + w * (c - h), gates in the order reset, update, candidate (FORMAT.md has the equations).
 * The products with the inputs are computed beforehand for all steps: a step's `input` [3 * units] is W x + b. */
struct cell {
    size_t units;
    bool reset_after; /* c = tanh(input_c + r * (Uc h + bh)), else c = tanh(input_c + Uc (r * h)) */
    /* Reset after: gates is U [3 * units, units] with bias (0, 0, bh), and candidate is unused. Reset before: gates is
     * [2 * units, units] and candidate is Uc. int16 weights are there only if states are within 1. */
    struct projection gates, candidate;                      /* for lanes */
    struct column_projection gates_column, candidate_column; /* for one column */
};

/* The write gate w of h' = h + w * (c - h); v is the update gate, a the attention score. */
enum kernel_write {
    WRITE_UPDATE,    /* w = v */
    WRITE_ATTENTION, /* w = a */
    WRITE_AND,       /* w = a v */
    WRITE_OR,        /* w = v + a - a v */
    WRITE_KEEP       /* w = 1 - a (1 - v) */
};

/* ---- arguments of kernels ---- */

/* Pairs of a step and a candidate, those of one step side by side. The LANES pairs from number `first` on go into a
 * block; pairs from `end` on are padding. */
struct pairs {
    size_t width, candidates, first, end;
    const float *keys;    /* [steps, width] */
    const float *queries; /* [candidates, width] */
    const float *scale;   /* [candidates]: factor of the matrix that add_pairs() adds to; NULL: 1 */
};

/* The first layer of the attention network for some steps, each a block. */
struct attention_steps {
    const struct projection *product; /* of q * k */
    size_t steps;
    const float *query;      /* q: [inputs, LANES] */
    const float *scale;      /* [LANES]: factor of the product; NULL: 1. Not NULL only with Winograd sums. */
    const float *query_part; /* [units, LANES] */
    const float *keys;       /* k_t: [steps, inputs] */
    const float *key_parts;  /* [steps, units] */
};

/* All steps of the interest evolution of 1 to BLOCKS * LANES candidates, in as few blocks as possible. */
struct evolution_steps {
    const struct cell *cell;
    enum kernel_write write;
    size_t steps, candidates;
    const float *inputs; /* [steps, 3 * units] */
    const float *bias;   /* [3 * units]: the input of a step is a * inputs + bias, W (a x) + b; NULL: inputs alone */
    float *const *attention; /* of each block: [steps, LANES] */
};

/* ---- the table ---- */

struct kernels {
    const char *name;
    /* Winograd sums pay, and every function but linear_narrow has them. Tables without must not be given any. */
    bool winograd;
    /* Blocks that share one load of a weight in evolve() and, in reduced precision, in attend() and finish(): 1 or 2.
     * The load then is an instruction of its own, which pays where the CPU multiplies as often as it loads. 0: unused.
     */
    size_t blocks_per_weight_load;
    /* y [blocks, units, LANES] = W x [blocks, inputs, LANES] + b. */
    void (*linear)(const struct projection *projection, size_t blocks, const float *x, float *y);
    /* linear for 1 to BLOCKS * LANES `columns`, in as few blocks as possible. Other columns of y are undefined. */
    void (*linear_narrow)(const struct kernels *kernels, const struct projection *projection, size_t columns,
                          const float *x, float *y);
    /* y [units] = W x [inputs] + b. */
    void (*gemv)(const struct column_projection *projection, const float *x, float *y);
    /* gemv for each row of x [rows, inputs]: y [rows, units]. */
    void (*gemv_rows)(const struct column_projection *projection, size_t rows, const float *x, float *y);
    /* x [blocks, units, LANES], in place. For every finite x a sigmoid is within 1.2e-7 of its value in double, tanh
     * within 1.8e-7, silu within 1.8e-7 max(1, |x|). Infinities give the limit, NaN gives NaN. */
    void (*activate)(const struct activation_parameters *parameters, size_t units, size_t blocks, float *x);
    /* One step of the interest extractor: next [units] of h [units]; work [4 * units]. next may be h. */
    void (*extract)(const struct kernels *kernels, const struct cell *cell, const float *input, const float *h,
                    float *next, float *work);
    /* The first layer of the attention network before its activation: y [steps, units, LANES] =
     * product (q * k_t) * scale + query_part + key_part_t; work [steps, inputs, LANES]. With Winograd sums q * k must
     * be within WINOGRAD_INPUT_MAX. */
    void (*attend)(const struct kernels *kernels, const struct attention_steps *attention, float *y, float *work);
    /* The rest of the attention network: from the output of attend(), x [blocks, units of layers[0], LANES], to scores
     * [blocks, LANES]. The scores are in x or y, whichever is returned; both have room for the widest layer. Of
     * layers[0] only units and activation are used. */
    const float *(*finish)(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                           float *x, float *y);
    /* x [width, LANES]: each pair's key * query. */
    void (*multiply_pairs)(const struct pairs *pairs, float *x);
    /* y [width, LANES] = y * the candidate's scale + the pair's key + its query. */
    void (*add_pairs)(const struct pairs *pairs, float *y);
    /* scores [steps, LANES]: the dot product of each of rows [steps, inputs] with the query [inputs, LANES]. */
    void (*dot)(const struct kernels *kernels, size_t inputs, const float *query, size_t steps, const float *rows,
                float *scores);
    /* scores [steps, LANES] to softmax over steps of scale * scores, in place, for steps >= 1. The exponentials, which
     * are at most 1, are within 1.8e-7. */
    void (*softmax)(size_t steps, float scale, float *scores);
    /* h [blocks, units, LANES] is the initial state and becomes the final one; unused lanes of it are undefined.
     * work [blocks, 4 * units, LANES]. */
    void (*evolve)(const struct kernels *kernels, const struct evolution_steps *evolution, float *h, float *work);
    /* Attention pooling: pooled [units, LANES] = sum over steps of attention [steps, LANES] * states [steps, units]. */
    void (*pool)(size_t steps, size_t units, const float *states, const float *attention, float *pooled);
};

/* The meaning of every kernel: plain C, complete. */
extern const struct kernels kernels_ref;
/* kernels_ref with products by OpenBLAS. Call openblas_start() (openblas.h) first. */
extern const struct kernels kernels_openblas;
#if defined(__x86_64__)
/* Complete tables, each for a CPU that has the instructions. */
extern const struct kernels kernels_zen5, kernels_zen4, kernels_avx512, kernels_avx2;
/* Replace the products of kernels_avx512 by integer ones, for a CPU that has AVX512-VNNI. */
void kernels_use_vnni(struct kernels *kernels);
#endif
#if defined(__aarch64__)
/* A complete table; every such CPU has the instructions. */
extern const struct kernels kernels_neon;
#endif

/* finish() layer by layer, with the other functions of the table. */
const float *finish_by_layers(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                              float *x, float *y);

/* The variant of `kernels` for reduced precision, in which projections with quantised weights multiply integers.
 * Returns false if this CPU has no instructions that make it faster. */
bool kernels_reduce(const struct kernels *kernels, struct kernels *reduced);

/* The best table that runs here, or the one that DIEN_ISA names; NULL if there is no such table. */
const struct kernels *kernels_choose(void);
/* The table of that name, or NULL if this build or this CPU lacks it. */
const struct kernels *kernels_named(const char *name);
/* Table number i of those that run here, best first; NULL past the last. */
const struct kernels *kernels_available(size_t i);

#endif
