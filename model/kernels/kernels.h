/* kernels.h: the hot loops as a table of functions, chosen once by dispatch.c.
 *
 * Layout. What differs from candidate to candidate lies in lanes: a block of LANES candidates is a matrix [units,
 * LANES], unit by unit, so that every element-wise operation is a plain loop over lanes and a recurrent weight is one
 * broadcast. Several blocks lie one behind the other: [blocks, units, LANES]. A history's steps use the same layout
 * where they are computed many at a time. A block always has all its columns; unused ones hold anything and their
 * results are dropped. A kernel's promise: a column's result does not depend on the other columns, nor on its place
 * among them, nor on the number of blocks. That is what keeps a score the same bits in any company (DESIGN.md, promise
 * 2).
 *
 * All matrices are float32, row-major, aligned to 64 bytes where they are columns in lanes; none overlap unless said
 * so.
 */
#ifndef MODEL_KERNELS_H
#define MODEL_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LANES = 16,     /* candidates, or steps, side by side */
    BLOCKS = 2,     /* blocks of candidates scored together: a weight that is read once serves them all */
    STEPS = 8,      /* steps of attention computed together, each a block */
    PANEL_UNITS = 4 /* units packed side by side */
};

/* Weights in reduced precision: 16-bit integers, each unit's of a step of its own, and x as integers too, each column's
 * of a step of its own, so that its largest is INT16_ONE, or of 1 / INT16_ONE where x is sure to be within 1. Sums are
 * exact in 32 bits: they cannot overflow, and no order changes them. Packed, they are [units / PANEL_UNITS rounded up,
 * inputs / 2 rounded up, PANEL_UNITS].
 *
 * Or 8-bit integers, four in each word where there were two. Those of x have no sign: what is within 1 is added to 128,
 * its largest being worth INT8_ONE, and the sums start from what takes that off again; sigmoids have steps of 1 /
 * INT8_SIGMOID_ONE. */
enum {
    INT16_ONE = 8192,
    INT8_ONE = 127,
    INT8_OFFSET = 128,
    INT8_SIGMOID_ONE = 255,
    QUANTISED_INPUTS_MAX = 1024 /* wider projections stay in float32 */
};
struct int16_weights {
    const int32_t *panels;  /* two integers in each, the first in the lower half; NULL: float32 */
    const float *scale;     /* [units rounded up to PANEL_UNITS]: a unit's step / INT16_ONE */
    const int32_t *columns; /* the weights of panels for one column: [inputs / 2 rounded up, units] */
};
struct int8_weights {
    const int32_t *panels; /* NULL: 16-bit integers or float32 */
    const float *scale;    /* [units rounded up to PANEL_UNITS]: a unit's step / INT8_ONE or INT8_SIGMOID_ONE */
    const int32_t *start;  /* [units rounded up to PANEL_UNITS]: what the sums start from */
};

/* Crossed sums. Some CPUs add beside their multiply-adds at no cost. There, inputs are taken three at a time, and two
 * of the three with their weights crosswise, by one multiply-add in place of two (Winograd, "A New Algorithm for Inner
 * Product", IEEE Transactions on Computers C-17, 1968):
 *
 *   w1 x1 + w2 x2 = (w1 + x2) (w2 + x1) - w1 w2 - x1 x2
 *
 * Of what is taken off, the sums of w1 w2 are constants, and go into the biases; those of x1 x2 are computed once for
 * all units of a column. Errors are in proportion to (|w| + |x|)^2 in place of |w x|, so inputs must be sure to be
 * within WINOGRAD_INPUT_MAX, and the weights of about that size. */
#define WINOGRAD_INPUT_MAX 2.0F

/* y = W x + b. */
struct projection {
    size_t units, inputs;
    const float *weight;   /* [units, inputs] */
    const float *bias;     /* [units] */
    const float *winograd; /* [units]: the biases of Winograd sums; NULL: sums are plain */
    const float *panels;   /* as projection_pack has them */
    /* Both once more, for few columns: [1 + inputs, units rounded up to LANES], the biases first; NULL: not there. */
    const float *transposed;
    /* The weights in reduced precision, where the kernels have it; int8 is used where both are there. */
    struct int16_weights int16;
    struct int8_weights int8;
};

/* Whether its weights are such that crossed sums lose little: the largest is between 1/16 and 4. */
bool projection_suits_winograd(const struct projection *projection);
/* Its biases for crossed sums, [units], by which it becomes crossed before it is packed or transposed. */
void projection_winograd(const struct projection *projection, float *crossed);

/* Packed, a projection is [units / PANEL_UNITS rounded up, 1 + inputs, PANEL_UNITS]: for each group of units the
 * biases, crossed ones where it has them, then input by input the weights; zeros fill the last group. */
size_t projection_panel_floats(size_t units, size_t inputs);
void projection_pack(const struct projection *projection, float *packed);

/* Transposed, a row has so many floats, zeros behind the units. */
static inline size_t projection_transposed_units(size_t units) {
    return (units + LANES - 1) / LANES * LANES;
}

void projection_transpose(const struct projection *projection, float *transposed);
/* matrix [rows, columns] as [columns, stride], zeros behind the rows. */
void matrix_transpose(const float *matrix, size_t rows, size_t columns, size_t stride, float *transposed);

/* Its words: room for int16_panels_count(), and a step for each unit, rounded up to PANEL_UNITS. False: some weight is
 * not finite, and has no such form. */
size_t int16_panels_count(size_t units, size_t inputs);
bool int16_pack(const struct projection *projection, int32_t *packed, float *step);
/* int16.panels as int16.columns, of [inputs / 2 rounded up, units]. */
void int16_pack_columns(const struct projection *projection, int32_t *column);

/* The same in bytes, of x within 1 or of sigmoids; start and step as in struct words. Weights must be finite. */
size_t int8_panels_count(size_t units, size_t inputs);
void int8_pack(const struct projection *projection, bool sigmoids, int32_t *packed, float *step, int32_t *start);

/* The same, for one column: the weight is transposed, so that the loop over units is the inner one. */
struct column_projection {
    size_t units, inputs;
    const float *weight;   /* [inputs, units rounded up to LANES], zeros behind the units */
    const float *bias;     /* [units] */
    const float *winograd; /* as in struct projection */
};

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

/* What bytes cost: with `gain` [units] the slope of a score by what an activation makes of each unit, the expected
 * (root mean square) error of the score, for inputs spread evenly within 1 or, of sigmoids, between 0 and 1. It is held
 * to QUANTISED_NOISE_MAX. And the slopes by the inputs, [inputs]. An activation's slope is taken for its largest. */
#define QUANTISED_NOISE_MAX 5e-3
double int8_noise(const struct projection *projection, bool sigmoids, enum kernel_activation kind, const float *gain);
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

/* Pairs of a step and a candidate, the candidates of one step side by side: LANES of them from number `first` on, those
 * from `end` on being of no use. */
struct pairs {
    size_t width, candidates, first, end;
    const float *keys;    /* [steps, width] */
    const float *queries; /* [candidates, width] */
    const float *scale;   /* [candidates]: of what add_pairs() adds to; NULL: 1 */
};

/* A recurrent cell: h' = h + w * (c - h), gates in the order reset, update, candidate (FORMAT.md has the equations).
 * The products with the input are done beforehand, for all steps: `input` [3 * units] of a step is W x + b. */
struct cell {
    size_t units;
    bool reset_after; /* c = tanh(input_c + r * (Uc h + bh)), else c = tanh(input_c + Uc (r * h)) */
    /* Reset after: gates is U [3 * units, units] with bias (0, 0, bh), and candidate is not read. Before: gates is
     * [2 * units, units]; candidate is Uc. */
    struct projection gates, candidate; /* for lanes; with words only where states are sure to be within 1 */
    struct column_projection gates_column, candidate_column; /* for one column */
};

/* What an evolution step writes with: w of h' = h + w * (c - h), v being the update gate, a the attention score. */
enum kernel_write {
    WRITE_UPDATE,    /* w = v */
    WRITE_ATTENTION, /* w = a */
    WRITE_AND,       /* w = a v */
    WRITE_OR         /* w = v + a - a v */
};

struct kernels {
    const char *name;
    bool winograd; /* gains by crossed sums, and has them in all functions but project_few; others must not be given any
                    */
    /* Blocks that evolve() takes together, and in reduced precision attend() and finish() as well, 1 or 2: a weight is
     * read once for both, but by an instruction of its own, which pays where the CPU multiplies as often as it loads.
     * 0 where it is of no use. */
    size_t blocks_per_weight_load;
    /* y [blocks, units, LANES] = W x [blocks, inputs, LANES] + b. */
    void (*linear)(const struct projection *projection, size_t blocks, const float *x, float *y);
    /* The same for `columns` of them, 1 to BLOCKS * LANES, in as many blocks as they take; what the others of the last
     * block become is of no use. */
    void (*linear_narrow)(const struct kernels *kernels, const struct projection *projection, size_t columns,
                          const float *x, float *y);
    /* y [units] = W x [inputs] + b. */
    void (*gemv)(const struct column_projection *projection, const float *x, float *y);
    /* The same for each of x [rows, inputs]: y [rows, units]. */
    void (*gemv_rows)(const struct column_projection *projection, size_t rows, const float *x, float *y);
    /* x [blocks, units, LANES], in place. For any x but infinities and what is not a number, which give the limit and
     * that, a sigmoid is within 1.2e-7 of its value in double, tanh within 1.8e-7, silu within 1.8e-7 max(1, |x|). */
    void (*activate)(const struct activation_parameters *parameters, size_t units, size_t blocks, float *x);
    /* One step of the interest extractor: next [units] of h [units]; work [4 * units]. next may be h. */
    void (*extract)(const struct kernels *kernels, const struct cell *cell, const float *input, const float *h,
                    float *next, float *work);
    /* The first layer of the attention network before its activation, for some steps, each a block: y [steps, units,
     * LANES] = product . (q * k_t) * scale [LANES] + query_part [units, LANES] + key_t [units]. keys [steps, inputs]
     * are k_t, key_parts [steps, units] the key_t; work [steps, inputs, LANES]. The scale is NULL, which is 1, but for
     * a crossed product, whose q * k must be within WINOGRAD_INPUT_MAX. */
    void (*attend)(const struct kernels *kernels, const struct projection *product, size_t steps, const float *query,
                   const float *scale, const float *query_part, const float *keys, const float *key_parts, float *y,
                   float *work);
    /* The rest of the attention network, for some steps or parts of steps, each a block: from what attend() left of its
     * first layer, x [blocks, units of layers[0], LANES], to scores [blocks, LANES]; these are in x or y, whichever is
     * returned, and both have room for the widest layer. Of the first layer only units and activation are used. */
    const float *(*finish)(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                           float *x, float *y);
    /* x [width, LANES]: the product of a pair's key and query. */
    void (*multiply_pairs)(const struct pairs *pairs, float *x);
    /* y [width, LANES] = y * its candidate's scale + the pair's key + its query. */
    void (*add_pairs)(const struct pairs *pairs, float *y);
    /* scores [steps, LANES]: the dot product of each of rows [steps, inputs] with the query [inputs, LANES]. */
    void (*dot)(const struct kernels *kernels, size_t inputs, const float *query, size_t steps, const float *rows,
                float *scores);
    /* scores [steps, LANES] to softmax over steps, in place, for steps >= 1; each is multiplied by scale first. The
     * exponentials are within 1.8e-7 of their values, which are 1 at most. */
    void (*softmax)(size_t steps, float scale, float *scores);
    /* All steps of the interest evolution for `candidates` of them, 1 to BLOCKS * LANES, in as many blocks as they
     * take. inputs [steps, 3 * units]; each block's attention [steps, LANES]; h [blocks, units, LANES] starts as the
     * initial state and ends as the final one, of unused lanes as anything; work [blocks, 4 * units, LANES]. With a
     * bias [3 * units] the input of a step is a * inputs + bias, which is W (a x) + b. */
    void (*evolve)(const struct kernels *kernels, const struct cell *cell, enum kernel_write write, size_t steps,
                   const float *inputs, const float *bias, size_t candidates, float *const *attention, float *h,
                   float *work);
    /* Attention pooling: pooled [units, LANES] = sum over steps of attention [steps, LANES] * states [steps, units]. */
    void (*pool)(size_t steps, size_t units, const float *states, const float *attention, float *pooled);
};

/* The meaning of every kernel: plain C, complete. */
extern const struct kernels kernels_ref;
/* The same, with products by OpenBLAS (call gemm_start first). */
extern const struct kernels kernels_openblas;
#if defined(__x86_64__)
/* Complete as well; only for a CPU that has the instructions. */
extern const struct kernels kernels_zen5, kernels_zen4, kernels_avx512, kernels_avx2;
/* Replace products of kernels_avx512 by those of integers, for a CPU that has AVX512-VNNI. */
void kernels_use_vnni(struct kernels *kernels);
#endif
#if defined(__aarch64__)
/* Complete as well; every such CPU has the instructions. */
extern const struct kernels kernels_neon;
#endif

/* finish(), layer by layer, by the other functions of the table. */
const float *finish_by_layers(const struct kernels *kernels, const struct layer *layers, size_t count, size_t blocks,
                              float *x, float *y);

/* Whether all that goes from layer to layer is within 1, so that one fixed step serves it, and all but the first layer
 * have words; the last has one unit. */
bool layers_keep_within_one(const struct layer *layers, size_t count);

/* The kernels of `of` in reduced precision into *reduced, where this CPU has instructions that make them faster:
 * products of projections that have words are in integers of 16 or 8 bits. False: it has none. */
bool kernels_reduce(const struct kernels *of, struct kernels *reduced);

/* The best table that runs here, or the one that DIEN_ISA names; NULL when it names none. */
const struct kernels *kernels_choose(void);
/* The table of that name, or NULL when this build or this CPU lacks it. */
const struct kernels *kernels_named(const char *name);
/* Table number i of those that run here, best first; NULL past the last. */
const struct kernels *kernels_available(size_t i);

#endif
