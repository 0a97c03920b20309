/* test_kernels.c: every kernel of every set that this machine has, at every edge length, against the equations in
 * double. */
#include "model/kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The argument of the child processes of test_every_core_keeps_bits. */
#define ONLY_BITS "--only-bits"

static const char *const known[] = {"ref", "openblas", "zen5", "zen4", "avx512", "avx2", "neon"};
static const char *sets[sizeof known / sizeof *known]; /* those that run here */
static size_t set_count;
static const size_t lengths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 36, 63, 64, 65, 108, 127, 128, 129};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Every STRIDE-th case of the cells. ThreadSanitizer's build is here for races, of which one thread has none, and takes
 * ten times as long: its turns still come to every length and every kind of cell. */
#ifdef __SANITIZE_THREAD__
enum { STRIDE = 5 };
#else
enum { STRIDE = 1 };
#endif

static const struct kernels *named(const char *name) {
    const struct kernels *kernels = kernels_named(name);
    assert_non_null(kernels);
    return kernels;
}

/* Memory for `count` floats, aligned as kernels.h asks, that ASan guards at its end. */
static float *floats(size_t count) {
    float *memory = NULL;
    assert_int_equal(posix_memalign((void **)&memory, 64, (count > 0 ? count : 1) * sizeof *memory), 0);
    return memory;
}

/* Uniform in [0, 1), the same numbers in every run (Knuth's linear congruential generator, upper bits). */
static float uniform(void) {
    static uint64_t state = 1;
    state = state * 6364136223846793005U + 1442695040888963407U;
    return (float)(state >> 40) * 0x1p-24F;
}

static float *random_floats(size_t count, float range) {
    float *memory = floats(count);
    for (size_t i = 0; i < count; i++)
        memory[i] = range * (2 * uniform() - 1);
    return memory;
}

/* The largest difference of a kernel, printed even when it is small enough. */
static double largest;

static void check_close(float got, double expected, double tolerance) {
    double difference = fabs((double)got - expected);
    if (!(difference <= tolerance))
        fail_msg("got %.9g, expected %.9g, which is off by %.3g", (double)got, expected, difference);
    largest = fmax(largest, difference);
}

static void report(const struct kernels *kernels, const char *kernel) {
    print_message("%s %s: largest difference %.3g\n", kernels->name, kernel, largest);
    largest = 0;
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

static double product(const float *weight, size_t inputs, const float *x, size_t stride) {
    double sum = 0;
    for (size_t i = 0; i < inputs; i++)
        sum += (double)weight[i] * (double)x[i * stride];
    return sum;
}

/* ---- project ---- */

/* A packed projection of these weights, with Winograd sums or without. free_projection frees the packed memory. */
static struct projection packed(bool winograd, size_t units, size_t inputs, const float *weight, const float *bias) {
    struct projection projection = {.units = units, .inputs = inputs, .weight = weight, .bias = bias};
    float *memory = floats(projection_panel_floats(units, inputs)), *winograd_bias = floats(units);
    if (winograd) {
        projection_winograd(&projection, winograd_bias);
        projection.winograd = winograd_bias;
    } else {
        free(winograd_bias);
    }
    projection_pack(&projection, memory);
    projection.panels = memory;
    return projection;
}

static void free_projection(struct projection *projection) {
    float *packed, *winograd;
    memcpy(&packed, &projection->panels, sizeof packed);
    memcpy(&winograd, &projection->winograd, sizeof winograd);
    free(packed), free(winograd);
}

static void check_linear(const struct kernels *kernels, bool winograd, size_t units, size_t inputs, size_t blocks) {
    float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
    float *x = random_floats(blocks * inputs * LANES, 1), *y = floats(blocks * units * LANES);
    struct projection projection = packed(winograd, units, inputs, weight, bias);
    kernels->linear(&projection, blocks, x, y);
    for (size_t i = 0; i < blocks * units; i++)
        for (size_t lane = 0; lane < LANES; lane++) {
            const float *in = x + i / units * inputs * LANES + lane;
            check_close(y[i * LANES + lane],
                        (double)bias[i % units] + product(weight + i % units * inputs, inputs, in, LANES),
                        1e-6 * sqrt((double)inputs) + 1e-6);
        }
    free_projection(&projection);
    free(weight), free(bias), free(x), free(y);
}

static void test_linear(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (int winograd = 0; winograd <= named(sets[set])->winograd; winograd++) {
            for (size_t i = 0; i < COUNT(lengths); i++)
                for (size_t j = 0; j < COUNT(lengths); j++)
                    check_linear(named(sets[set]), winograd, lengths[i], lengths[j], 1 + (i + j) % STEPS);
            report(named(sets[set]), winograd ? "linear, winograd" : "linear");
        }
}

/* A column's bits depend neither on its neighbours, nor on its position, nor on the number of blocks. Equal scores
 * in any company depend on this. */
static void check_columns(const struct kernels *kernels, bool winograd, size_t units, size_t inputs) {
    float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
    float *x = random_floats(inputs * LANES, 1), *y = floats(units * LANES), *z = floats(STEPS * units * LANES);
    struct projection projection = packed(winograd, units, inputs, weight, bias);
    kernels->linear(&projection, 1, x, y);
    for (size_t place = 1; place < (size_t)STEPS * LANES; place += 9) {
        size_t block = place / LANES, lane = place % LANES;
        float *moved = random_floats(STEPS * inputs * LANES, 100);
        for (size_t input = 0; input < inputs; input++)
            moved[(block * inputs + input) * LANES + lane] = x[input * LANES];
        kernels->linear(&projection, block + 1 + place % (STEPS - block), moved, z);
        for (size_t unit = 0; unit < units; unit++)
            assert_memory_equal(&z[(block * units + unit) * LANES + lane], &y[unit * LANES], sizeof *y);
        free(moved);
    }
    free_projection(&projection);
    free(weight), free(bias), free(x), free(y), free(z);
}

static void test_linear_keeps_bits(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t j = 0; j < COUNT(lengths); j += 2)
                for (int winograd = 0; winograd <= named(sets[set])->winograd; winograd++)
                    check_columns(named(sets[set]), winograd, lengths[i], lengths[j]);
}

/* Narrow products have the bits of whole blocks, for any contents of the unused lanes. */
static void check_few_columns(const struct kernels *kernels, size_t units, size_t inputs, size_t columns) {
    size_t blocks = (columns + LANES - 1) / LANES;
    float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
    float *x = random_floats(blocks * inputs * LANES, 1), *y = random_floats(blocks * units * LANES, 1);
    float *z = floats(blocks * units * LANES), *turned = floats((1 + inputs) * projection_transposed_units(units));
    struct projection projection = packed(false, units, inputs, weight, bias);
    projection_transpose(&projection, turned);
    projection.transposed = turned;
    kernels->linear(&projection, blocks, x, z);
    kernels->linear_narrow(kernels, &projection, columns, x, y);
    for (size_t column = 0; column < columns; column++)
        for (size_t unit = 0; unit < units; unit++) {
            size_t at = (column / LANES * units + unit) * LANES + column % LANES;
            assert_memory_equal(&y[at], &z[at], sizeof *y);
        }
    free_projection(&projection);
    free(weight), free(bias), free(x), free(y), free(z), free(turned);
}

static void test_linear_narrow_keeps_bits(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t columns = 1; columns <= (size_t)BLOCKS * LANES; columns++)
                check_few_columns(named(sets[set]), lengths[i], lengths[(i * 5 + columns) % COUNT(lengths)], columns);
}

/* test_linear_keeps_bits on every core type of OpenBLAS that this CPU can run. OpenBLAS chooses its kernels when it is
 * loaded, so each core type needs a process of its own. */
static void test_every_core_keeps_bits(void **state) {
    (void)state;
#if defined(__x86_64__)
    const struct {
        const char *name;
        bool runs;
    } cores[] = {
        {"PRESCOTT", true},
        {"NEHALEM", true},
        {"SANDYBRIDGE", __builtin_cpu_supports("avx")},
        {"HASWELL", __builtin_cpu_supports("avx2")},
        {"ZEN", __builtin_cpu_supports("avx2")},
        {"SKYLAKEX", __builtin_cpu_supports("avx512vl")},
        {"COOPERLAKE", __builtin_cpu_supports("avx512bf16")},
    };
    for (size_t i = 0; i < COUNT(cores); i++) {
        if (!cores[i].runs) {
            print_message("%s: skipped, this CPU cannot run it\n", cores[i].name);
            continue;
        }
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            setenv("OPENBLAS_CORETYPE", cores[i].name, 1);
            execl("/proc/self/exe", "test_kernels", ONLY_BITS, (char *)NULL);
            _exit(127);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        print_message("%s: exit status %d\n", cores[i].name, status);
        assert_int_equal(status, 0);
    }
#else
    skip();
#endif
}

/* [units, inputs] as the weight of a column_projection. */
static float *transposed(const float *weight, size_t units, size_t inputs) {
    size_t stride = projection_transposed_units(units);
    float *result = random_floats(stride * inputs, 0);
    for (size_t unit = 0; unit < units; unit++)
        for (size_t input = 0; input < inputs; input++)
            result[input * stride + unit] = weight[unit * inputs + input];
    return result;
}

/* A column and its product as it is in lanes: where both are computed, their bits are the same. */
static void check_column(const struct kernels *kernels, bool winograd, size_t units, size_t inputs) {
    float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
    float *x = random_floats(inputs, 1), *y = floats(units), *turned = transposed(weight, units, inputs);
    struct projection projection = packed(winograd, units, inputs, weight, bias);
    kernels->gemv(&(struct column_projection){units, inputs, turned, bias, projection.winograd}, x, y);
    for (size_t unit = 0; unit < units; unit++)
        check_close(y[unit], (double)bias[unit] + product(weight + unit * inputs, inputs, x, 1),
                    1e-6 * sqrt((double)inputs) + 1e-6);
    if (winograd) {
        float *lanes = random_floats(inputs * LANES, 1), *z = floats(units * LANES);
        for (size_t i = 0; i < inputs; i++)
            lanes[i * LANES + 3] = x[i];
        kernels->linear(&projection, 1, lanes, z);
        for (size_t unit = 0; unit < units; unit++)
            assert_memory_equal(&y[unit], &z[unit * LANES + 3], sizeof *y);
        free(lanes), free(z);
    }
    free_projection(&projection);
    free(weight), free(bias), free(x), free(y), free(turned);
}

static void test_gemv(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (int winograd = 0; winograd <= named(sets[set])->winograd; winograd++) {
            for (size_t i = 0; i < COUNT(lengths); i++)
                for (size_t j = 0; j < COUNT(lengths); j++)
                    check_column(named(sets[set]), winograd, lengths[i], lengths[j]);
            report(named(sets[set]), winograd ? "gemv, winograd" : "gemv");
        }
}

/* Each of several rows has the bits that it has alone. */
static void check_rows(const struct kernels *kernels, bool winograd, size_t units, size_t inputs, size_t rows) {
    float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
    float *turned = transposed(weight, units, inputs), *x = random_floats(rows * inputs, 1);
    float *y = floats(rows * units), *alone = floats(units);
    struct projection whole = packed(winograd, units, inputs, weight, bias);
    struct column_projection projection = {units, inputs, turned, bias, whole.winograd};
    kernels->gemv_rows(&projection, rows, x, y);
    for (size_t row = 0; row < rows; row++) {
        kernels->gemv(&projection, x + row * inputs, alone);
        assert_memory_equal(y + row * units, alone, units * sizeof *y);
    }
    free_projection(&whole);
    free(weight), free(bias), free(turned), free(x), free(y), free(alone);
}

static void test_gemv_rows_keeps_bits(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t rows = 1; rows < 12; rows++)
                check_rows(named(sets[set]), named(sets[set])->winograd && rows % 2 == 0, lengths[i],
                           lengths[(i * 5 + rows) % COUNT(lengths)], rows);
}

/* ---- activate ---- */

static double activated(enum kernel_activation kind, double x, double alpha, double gain, double offset) {
    double p = sigmoid(gain * x + offset);
    switch (kind) {
    case KERNEL_LINEAR:
        return x;
    case KERNEL_RELU:
        return fmax(x, 0);
    case KERNEL_SIGMOID:
        return sigmoid(x);
    case KERNEL_TANH:
        return tanh(x);
    case KERNEL_SILU:
        return x * sigmoid(x);
    case KERNEL_PRELU:
        return fmax(x, 0) + alpha * fmin(x, 0);
    case KERNEL_DICE:
    case KERNEL_DICE_ROW:
        return x * (p + alpha * (1 - p));
    }
    return NAN;
}

/* Dice-row is dice with a gain and an offset that come from the column. */
static void column_statistics(const float *x, size_t units, double epsilon, double *gain, double *offset) {
    double mean = 0, sum = 0;
    for (size_t unit = 0; unit < units; unit++)
        mean += (double)x[unit * LANES] / (double)units;
    for (size_t unit = 0; unit < units; unit++)
        sum += pow((double)x[unit * LANES] - mean, 2) + epsilon;
    *gain = 1 / sqrt(sum);
    *offset = -mean * *gain;
}

static void check_activate(const struct kernels *kernels, enum kernel_activation kind, size_t units, size_t blocks) {
    float *alpha = random_floats(units, 1), *gain = random_floats(units, 2), *offset = random_floats(units, 2);
    float *x = random_floats(blocks * units * LANES, 12), *y = floats(blocks * units * LANES);
    x[0] = 100, x[1] = -100, x[2] = 0, x[3] = -1e-30F, x[4] = 88.8F, x[5] = -88.8F, x[6] = 1e-4F;
    memcpy(y, x, blocks * units * LANES * sizeof *y);
    struct activation_parameters parameters = {kind, alpha, gain, offset, .epsilon = 1e-3F};
    kernels->activate(&parameters, units, blocks, y);
    for (size_t i = 0; i < blocks * units * LANES; i++) {
        size_t block = i / (units * LANES), unit = i / LANES % units;
        double unit_gain = (double)gain[unit], unit_offset = (double)offset[unit];
        if (kind == KERNEL_DICE_ROW)
            column_statistics(x + block * units * LANES + i % LANES, units, (double)parameters.epsilon, &unit_gain,
                              &unit_offset);
        double expected = activated(kind, (double)x[i], (double)alpha[unit], unit_gain, unit_offset);
        /* Taking the mean off loses bits, which the gain then makes larger. */
        double condition = kind == KERNEL_DICE_ROW ? 1 + 12 * unit_gain : 1;
        check_close(y[i], expected, 6e-7 * fmax(1, fabs((double)x[i])) * condition);
    }
    free(alpha), free(gain), free(offset), free(x), free(y);
}

static void test_activate(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++) {
        for (int kind = KERNEL_LINEAR; kind <= KERNEL_DICE_ROW; kind++)
            for (size_t i = 0; i < COUNT(lengths); i++) {
                check_activate(named(sets[set]), (enum kernel_activation)kind, lengths[i], 1 + i % STEPS);
            }
        report(named(sets[set]), "activate");
    }
}

/* ---- cells ---- */

struct test_cell {
    struct cell cell;
    float *weight;      /* [3 * units, units] */
    float *bias;        /* [3 * units], zero but for bh */
    float *bias_hidden; /* [units] */
    float *gates_column, *candidate_column;
};

static struct test_cell new_cell(bool winograd, size_t units, bool reset_after) {
    float range = 2 / sqrtf((float)units); /* as in a trained cell; larger ones make chaos of rounding */
    struct test_cell test = {.weight = random_floats(3 * units * units, range), .bias = random_floats(3 * units, 0)};
    test.bias_hidden = random_floats(units, 1);
    size_t gates = reset_after ? 3 * units : 2 * units;
    if (reset_after)
        memcpy(test.bias + 2 * units, test.bias_hidden, units * sizeof *test.bias);
    const float *candidate = test.weight + 2 * units * units;
    test.gates_column = transposed(test.weight, gates, units);
    test.candidate_column = transposed(candidate, units, units);
    test.cell = (struct cell){
        .units = units,
        .reset_after = reset_after,
        .gates = packed(winograd, gates, units, test.weight, test.bias),
        .candidate = packed(winograd, units, units, candidate, test.bias),
        .gates_column = {gates, units, test.gates_column, test.bias, NULL},
        .candidate_column = {units, units, test.candidate_column, test.bias, NULL},
    };
    test.cell.gates_column.winograd = test.cell.gates.winograd;
    test.cell.candidate_column.winograd = test.cell.candidate.winograd;
    return test;
}

static void free_cell(struct test_cell *test) {
    free(test->weight), free(test->bias), free(test->bias_hidden);
    free(test->gates_column), free(test->candidate_column);
    free_projection(&test->cell.gates), free_projection(&test->cell.candidate);
}

static double write_gate(enum kernel_write write, double v, double a) {
    const double gates[] = {[WRITE_UPDATE] = v,
                            [WRITE_ATTENTION] = a,
                            [WRITE_AND] = a * v,
                            [WRITE_OR] = 1 - (1 - a) * (1 - v),
                            [WRITE_KEEP] = 1 - a * (1 - v)};
    return gates[write];
}

/* One step in double, FORMAT.md's equations. input [3 * units] is W x + b. */
static void step_in_double(const struct test_cell *test, const double *input, double a, enum kernel_write write_with,
                           double *h) {
    size_t units = test->cell.units;
    double *reset = calloc(3 * units, sizeof *reset), *write = reset + units, *candidate = write + units;
    for (size_t i = 0; i < units; i++) {
        double r = input[i], v = input[units + i];
        for (size_t j = 0; j < units; j++) {
            r += (double)test->weight[i * units + j] * h[j];
            v += (double)test->weight[(units + i) * units + j] * h[j];
        }
        reset[i] = sigmoid(r), write[i] = sigmoid(v);
    }
    for (size_t i = 0; i < units; i++) {
        double sum = test->cell.reset_after ? (double)test->bias_hidden[i] : 0;
        for (size_t j = 0; j < units; j++)
            sum +=
                (double)test->weight[(2 * units + i) * units + j] * (test->cell.reset_after ? h[j] : reset[j] * h[j]);
        candidate[i] = tanh(input[2 * units + i] + (test->cell.reset_after ? reset[i] * sum : sum));
    }
    for (size_t i = 0; i < units; i++) {
        h[i] += write_gate(write_with, write[i], a) * (candidate[i] - h[i]);
    }
    free(reset);
}

static void test_extract(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++) {
        const struct kernels *kernels = named(sets[set]);
        for (size_t i = 0; i < 2 * COUNT(lengths); i++) {
            size_t units = lengths[i / 2];
            struct test_cell test = new_cell(kernels->winograd && i % 3 > 0, units, i % 2 == 0);
            float *h = random_floats(units, 0), *work = floats(4 * units);
            double *expected = calloc(units, sizeof *expected);
            for (int step = 0; step < 5; step++) {
                float *input = random_floats(3 * units, 2);
                kernels->extract(kernels, &test.cell, input, h, h, work);
                double exact[3 * 129] = {0};
                for (size_t j = 0; j < 3 * units; j++)
                    exact[j] = (double)input[j];
                step_in_double(&test, exact, 0, WRITE_UPDATE, expected);
                for (size_t j = 0; j < units; j++)
                    check_close(h[j], expected[j], 1e-5);
                free(input);
            }
            free(h), free(work), free(expected);
            free_cell(&test);
        }
        report(kernels, "extract");
    }
}

static void check_evolve(const struct kernels *kernels, size_t units, bool reset_after, enum kernel_write write,
                         bool scaled, size_t steps, size_t blocks) {
    bool winograd = kernels->winograd && (units + write) % 3 > 0;
    struct test_cell test = new_cell(winograd, units, reset_after);
    float *inputs = random_floats(steps * 3 * units, 2), *attention[BLOCKS], *bias = random_floats(3 * units, 1);
    float *h = random_floats(blocks * units * LANES, 0), *work = floats(blocks * 4 * units * LANES);
    double *expected = calloc(units, sizeof *expected), exact[3 * 129] = {0};
    for (size_t i = 0; i < blocks; i++) {
        attention[i] = floats(steps * LANES);
        for (size_t j = 0; j < steps * LANES; j++)
            attention[i][j] = uniform();
    }
    struct evolution_steps evolution = {&test.cell,           write,    steps, blocks * LANES, inputs,
                                        scaled ? bias : NULL, attention};
    kernels->evolve(kernels, &evolution, h, work);
    for (size_t place = 0; place < blocks * LANES; place += 5) {
        size_t block = place / LANES, lane = place % LANES;
        memset(expected, 0, units * sizeof *expected);
        for (size_t step = 0; step < steps; step++) {
            double a = (double)attention[block][step * LANES + lane];
            for (size_t i = 0; i < 3 * units; i++) {
                double input = (double)inputs[step * 3 * units + i];
                exact[i] = scaled ? a * input + (double)bias[i] : input;
            }
            step_in_double(&test, exact, a, write, expected);
        }
        for (size_t unit = 0; unit < units; unit++)
            check_close(h[(block * units + unit) * LANES + lane], expected[unit], 1e-5);
    }
    for (size_t i = 0; i < blocks; i++)
        free(attention[i]);
    free(inputs), free(h), free(work), free(bias), free(expected);
    free_cell(&test);
}

static void test_evolve(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++) {
        for (size_t i = 0; i < 20 * COUNT(lengths); i += STRIDE) {
            check_evolve(named(sets[set]), lengths[i / 20], i % 2 == 0, (enum kernel_write)(i / 2 % 5), i / 10 % 2 == 0,
                         1 + i % 9, 1 + (i + i / 16) % BLOCKS);
        }
        report(named(sets[set]), "evolve");
    }
}

static bool same_bits(const float *a, const float *b) {
    uint32_t bits[2];
    memcpy(&bits[0], a, sizeof bits[0]);
    memcpy(&bits[1], b, sizeof bits[1]);
    return bits[0] == bits[1];
}

/* Candidates first, first + 1, ... of `all`, modulo their number, get the bits that each gets among all of them: for
 * each eighth count, from `turn` on. */
static void check_evolve_bits(const struct kernels *kernels, size_t units, bool reset_after, enum kernel_write write,
                              bool scaled, size_t turn) {
    enum { STEPS_HERE = 5, ALL = BLOCKS * LANES };
    bool winograd = kernels->winograd && (units + write) % 3 > 0;
    struct test_cell test = new_cell(winograd, units, reset_after);
    float *inputs = random_floats((size_t)STEPS_HERE * 3 * units, 2), *bias = random_floats(3 * units, 1);
    float *all = random_floats((size_t)STEPS_HERE * ALL, 1), *some = floats((size_t)STEPS_HERE * ALL);
    float *attention[BLOCKS], *some_attention[BLOCKS];
    float *h = floats(ALL * units), *got = floats(ALL * units), *work = floats((size_t)ALL * 4 * units);
    for (size_t i = 0; i < BLOCKS; i++) {
        attention[i] = all + i * STEPS_HERE * LANES;
        some_attention[i] = some + i * STEPS_HERE * LANES;
    }
    memset(h, 0, ALL * units * sizeof *h);
    struct evolution_steps evolution = {&test.cell, write, STEPS_HERE, ALL, inputs, scaled ? bias : NULL, attention};
    kernels->evolve(kernels, &evolution, h, work);
    evolution.attention = some_attention;
    bool same = true;
    for (size_t count = 1 + turn % 8; count <= ALL; count += 8) {
        size_t first = count * 7 % ALL;
        for (size_t i = 0; i < (size_t)STEPS_HERE * ALL; i++)
            some[i] = 2 * uniform() - 1;
        for (size_t i = 0; i < count; i++)
            for (size_t step = 0; step < STEPS_HERE; step++)
                some_attention[i / LANES][step * LANES + i % LANES] =
                    attention[(first + i) % ALL / LANES][step * LANES + (first + i) % LANES];
        memset(got, 0, ALL * units * sizeof *got);
        free(work), work = floats((count + LANES - 1) / LANES * LANES * 4 * units); /* no more than is promised */
        evolution.candidates = count;
        kernels->evolve(kernels, &evolution, got, work);
        for (size_t i = 0; i < count * units; i++) {
            size_t place = i / units, from = (first + place) % ALL, unit = i % units;
            same = same && same_bits(&got[(place / LANES * units + unit) * LANES + place % LANES],
                                     &h[(from / LANES * units + unit) * LANES + from % LANES]);
        }
    }
    assert_true(same);
    free(inputs), free(bias), free(all), free(some), free(h), free(got), free(work);
    free_cell(&test);
}

static void test_evolve_keeps_bits(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (size_t i = 0; i < 20 * COUNT(lengths); i += STRIDE)
            check_evolve_bits(named(sets[set]), lengths[i / 20], i % 2 == 0, (enum kernel_write)(i / 2 % 5),
                              i / 10 % 2 == 0, i / 16 + i / 4);
}

/* Pairs from each multiple of LANES on, in lanes: exactly the product and the sum, rounded once and twice. */
static void check_pairs(const struct kernels *kernels, size_t width, size_t steps, size_t candidates) {
    struct pairs pairs = {.width = width, .candidates = candidates, .end = steps * candidates};
    float *keys = random_floats(steps * width, 1), *queries = random_floats(candidates * width, 1);
    float *x = floats(width * LANES), *y = floats(width * LANES), *before = random_floats(width * LANES, 1);
    pairs.keys = keys, pairs.queries = queries;
    for (; pairs.first < pairs.end; pairs.first += LANES) {
        kernels->multiply_pairs(&pairs, x);
        memcpy(y, before, width * LANES * sizeof *y);
        kernels->add_pairs(&pairs, y);
        for (size_t lane = 0; lane < LANES && pairs.first + lane < pairs.end; lane++)
            for (size_t i = 0; i < width; i++) {
                float key = keys[(pairs.first + lane) / candidates * width + i], sum;
                float query = queries[(pairs.first + lane) % candidates * width + i];
                sum = query + key;
                assert_true(x[i * LANES + lane] == query * key);
                assert_true(y[i * LANES + lane] == before[i * LANES + lane] + sum);
            }
    }
    free(keys), free(queries), free(x), free(y), free(before);
}

static void test_pairs(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++)
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t candidates = 1; candidates < LANES; candidates++)
                check_pairs(named(sets[set]), lengths[i], 1 + (i + candidates) % 19, candidates);
}

static void check_pool(const struct kernels *kernels, size_t steps, size_t units) {
    float *states = random_floats(steps * units, 1), *attention = random_floats(steps * LANES, 1);
    float *pooled = random_floats(units * LANES, 1);
    kernels->pool(steps, units, states, attention, pooled);
    for (size_t unit = 0; unit < units; unit++)
        for (size_t lane = 0; lane < LANES; lane++) {
            double sum = 0;
            for (size_t step = 0; step < steps; step++)
                sum += (double)attention[step * LANES + lane] * (double)states[step * units + unit];
            check_close(pooled[unit * LANES + lane], sum, 1e-6 * sqrt((double)steps) + 1e-6);
        }
    free(states), free(attention), free(pooled);
}

static void test_pool(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++) {
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t j = 0; j < COUNT(lengths); j += 3)
                check_pool(named(sets[set]), lengths[i], lengths[j]);
        report(named(sets[set]), "pool");
    }
}

/* ---- attention ---- */

/* Columns [width, LANES], each in one piece. */
static float *in_pieces(const float *lanes, size_t width) {
    float *result = floats(width * LANES);
    for (size_t i = 0; i < width * LANES; i++)
        result[i % LANES * width + i / LANES] = lanes[i];
    return result;
}

/* Pairs of a step and one of few candidates have the bits of whole blocks, y. */
static void check_attend_by_pairs(const struct kernels *kernels, const struct attention_steps *attention,
                                  const float *y) {
    size_t inputs = attention->product->inputs, units = attention->product->units, end = attention->steps * LANES;
    float *queries = in_pieces(attention->query, inputs), *parts = in_pieces(attention->query_part, units);
    float *x = floats(inputs * end), *z = floats(units * end);
    struct pairs products = {inputs, LANES, 0, end, attention->keys, queries, NULL};
    struct pairs sums = {units, LANES, 0, end, attention->key_parts, parts, attention->scale};
    for (; products.first < end; products.first += LANES)
        kernels->multiply_pairs(&products, x + products.first * inputs);
    kernels->linear(attention->product, attention->steps, x, z);
    for (; sums.first < end; sums.first += LANES)
        kernels->add_pairs(&sums, z + sums.first * units);
    assert_memory_equal(z, y, units * end * sizeof *y);
    free(queries), free(parts), free(x), free(z);
}

static void check_attend(const struct kernels *kernels, bool winograd, size_t units, size_t inputs, size_t steps) {
    float *weight = random_floats(units * inputs, 1), *zero = random_floats(units, 0);
    float *query = random_floats(inputs * LANES, 1), *query_part = random_floats(units * LANES, 1);
    float *keys = random_floats(steps * inputs, 1), *key_parts = random_floats(steps * units, 1);
    float *y = floats(steps * units * LANES), *work = floats(steps * inputs * LANES);
    struct projection product_part = packed(winograd, units, inputs, weight, zero);
    float scale[LANES];
    for (size_t i = 0; i < LANES; i++)
        scale[i] = winograd ? ldexpf(1, (int)i - 8) : 1;
    struct attention_steps attention = {&product_part, steps, query,    winograd ? scale : NULL,
                                        query_part,    keys,  key_parts};
    kernels->attend(kernels, &attention, y, work);
    for (size_t i = 0; i < steps * units * LANES; i++) {
        size_t step = i / (units * LANES), unit = i / LANES % units, lane = i % LANES;
        double expected = (double)query_part[unit * LANES + lane] + (double)key_parts[step * units + unit];
        for (size_t j = 0; j < inputs; j++)
            expected += (double)scale[lane] * (double)weight[unit * inputs + j] * (double)query[j * LANES + lane] *
                        (double)keys[step * inputs + j];
        check_close(y[i] / fmaxf(1, scale[lane]), expected / fmax(1, (double)scale[lane]),
                    1e-6 * sqrt((double)inputs) + 1e-6);
    }
    check_attend_by_pairs(kernels, &attention, y);
    free_projection(&product_part);
    free(weight), free(zero), free(query), free(query_part), free(keys), free(key_parts), free(y), free(work);
}

static void test_attend(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++) {
        for (size_t i = 0; i < COUNT(lengths); i++)
            check_attend(named(sets[set]), named(sets[set])->winograd && i % 3 > 0, lengths[i],
                         lengths[(i * 7 + 3) % COUNT(lengths)], 1 + i % STEPS);
        report(named(sets[set]), "attend");
    }
}

static void check_dot(const struct kernels *kernels, size_t steps, size_t inputs) {
    float *query = random_floats(inputs * LANES, 1), *rows = random_floats(steps * inputs, 1);
    float *scores = floats(steps * LANES);
    kernels->dot(kernels, inputs, query, steps, rows, scores);
    for (size_t step = 0; step < steps; step++)
        for (size_t lane = 0; lane < LANES; lane++)
            check_close(scores[step * LANES + lane], product(rows + step * inputs, inputs, query + lane, LANES),
                        1e-6 * sqrt((double)inputs) + 1e-6);
    free(query), free(rows), free(scores);
}

static void test_dot(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++) {
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t j = 0; j < COUNT(lengths); j++)
                check_dot(named(sets[set]), lengths[i], lengths[j]);
        report(named(sets[set]), "dot");
    }
}

static void check_softmax(const struct kernels *kernels, size_t steps, float range) {
    float *scores = random_floats(steps * LANES, range), *got = floats(steps * LANES), scale = 0.5F;
    memcpy(got, scores, steps * LANES * sizeof *got);
    kernels->softmax(steps, scale, got);
    for (size_t lane = 0; lane < LANES; lane++) {
        double peak = -INFINITY, sum = 0;
        for (size_t step = 0; step < steps; step++)
            peak = fmax(peak, (double)(scores[step * LANES + lane] * scale));
        for (size_t step = 0; step < steps; step++)
            sum += exp((double)(scores[step * LANES + lane] * scale) - peak);
        for (size_t step = 0; step < steps; step++)
            check_close(got[step * LANES + lane], exp((double)(scores[step * LANES + lane] * scale) - peak) / sum,
                        1e-6);
    }
    free(scores), free(got);
}

static void test_softmax(void **state) {
    (void)state;
    for (size_t set = 0; set < set_count; set++) {
        for (size_t i = 0; i < COUNT(lengths); i++) {
            check_softmax(named(sets[set]), lengths[i], 5);
            check_softmax(named(sets[set]), lengths[i], 1000); /* exponentials that would overflow */
        }
        report(named(sets[set]), "softmax");
    }
}

/* Every set that this CPU's flags promise exists, is complete and has its name; missing ones are reported. */
static void test_sets(void **state) {
    (void)state;
    assert_non_null(kernels_named("ref"));
    assert_non_null(kernels_named("openblas"));
#if defined(__x86_64__)
    assert_int_equal(kernels_named("zen4") != NULL, __builtin_cpu_supports("avx512vl") != 0);
    assert_int_equal(kernels_named("zen5") != NULL, __builtin_cpu_supports("avx512vl") != 0);
    assert_int_equal(kernels_named("avx512") != NULL, __builtin_cpu_supports("avx512vl") != 0);
    assert_int_equal(kernels_named("avx2") != NULL, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
#elif defined(__aarch64__)
    assert_ptr_equal(kernels_available(0), kernels_named("neon"));
    assert_non_null(kernels_named("neon"));
#endif
    for (size_t i = 0; i < COUNT(known); i++) {
        const struct kernels *kernels = kernels_named(known[i]);
        if (kernels == NULL) {
            print_message("%s: skipped, not in this build or not on this CPU\n", known[i]);
            continue;
        }
        assert_string_equal(kernels->name, known[i]);
        const void *entries[(sizeof *kernels - offsetof(struct kernels, linear)) / sizeof(void *)];
        memcpy(entries, (const char *)kernels + offsetof(struct kernels, linear), sizeof entries);
        for (size_t j = 0; j < COUNT(entries); j++)
            assert_non_null(entries[j]);
    }
    assert_null(kernels_named("avx1024"));
    const struct kernels *chosen = kernels_choose();
    const char *wanted = getenv("DIEN_ISA");
    assert_ptr_equal(chosen, wanted != NULL ? kernels_named(wanted) : kernels_available(0));
}

/* The sets that run here; of the children's tests only OpenBLAS' is another one in each. */
static void find_sets(bool only_openblas) {
    for (size_t i = 0; i < COUNT(known); i++)
        if (kernels_named(known[i]) != NULL && (!only_openblas || strcmp(known[i], "openblas") == 0))
            sets[set_count++] = known[i];
}

/* In the child of test_every_core_keeps_bits: plain exit status, no report of its own. */
static int run_bits_only(void) {
    find_sets(true);
    if (freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL)
        return 126;
    const struct CMUnitTest tests[] = {{"keeps bits", test_linear_keeps_bits, NULL, NULL, NULL}};
    return _cmocka_run_group_tests("bits", tests, COUNT(tests), NULL, NULL);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], ONLY_BITS) == 0)
        return run_bits_only();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_linear_keeps_bits),
        cmocka_unit_test(test_every_core_keeps_bits),
        cmocka_unit_test(test_linear_narrow_keeps_bits),
        cmocka_unit_test(test_gemv),
        cmocka_unit_test(test_gemv_rows_keeps_bits),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_activate),
        cmocka_unit_test(test_extract),
        cmocka_unit_test(test_evolve),
        cmocka_unit_test(test_evolve_keeps_bits),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_attend),
        cmocka_unit_test(test_dot),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_sets),
    };
    find_sets(false);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
