/* test_kernels.c: every kernel of every set that this machine has, at every edge length, against the equations in
 * double. */
#include "model/kernels/kernels.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* The argument of the child processes of test_every_core_keeps_bits. */
#define ONLY_BITS "--only-bits"

static const char *const sets[] = {"ref", "openblas"};
static const size_t lengths[] = {1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 36, 63, 64, 65, 108, 127, 128, 129};

#define COUNT(array) (sizeof(array) / sizeof *(array))

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

static float *random_floats(size_t count, float range) {
    float *memory = floats(count);
    for (size_t i = 0; i < count; i++)
        memory[i] = range * (2.0F * (float)rand() / (float)RAND_MAX - 1.0F);
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

static void check_project(const struct kernels *kernels, size_t units, size_t inputs, size_t columns) {
    float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
    float *x = random_floats(inputs * columns, 1), *y = floats(units * columns);
    kernels->project(&(struct projection){units, inputs, weight, bias}, x, columns, y);
    for (size_t unit = 0; unit < units; unit++)
        for (size_t column = 0; column < columns; column++)
            check_close(y[unit * columns + column],
                        (double)bias[unit] + product(weight + unit * inputs, inputs, x + column, columns),
                        1e-6 * sqrt((double)inputs) + 1e-6);
    free(weight), free(bias), free(x), free(y);
}

static void test_project(void **state) {
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++) {
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t j = 0; j < COUNT(lengths); j++) {
                check_project(named(sets[set]), lengths[i], lengths[j], LANES);
                check_project(named(sets[set]), lengths[i], lengths[j], WIDE);
            }
        report(named(sets[set]), "project");
    }
}

/* A column's bits depend neither on its neighbours nor on its place: what promise 2 rests on. */
static void check_columns(const struct kernels *kernels, size_t units, size_t inputs, size_t columns) {
    float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
    float *x = random_floats(inputs * columns, 1), *y = floats(units * columns), *z = floats(units * columns);
    struct projection projection = {units, inputs, weight, bias};
    kernels->project(&projection, x, columns, y);
    for (size_t shift = 1; shift < columns; shift += columns == LANES ? 1 : 13) {
        float *moved = random_floats(inputs * columns, 100);
        for (size_t input = 0; input < inputs; input++)
            moved[input * columns + shift] = x[input * columns];
        kernels->project(&projection, moved, columns, z);
        for (size_t unit = 0; unit < units; unit++)
            assert_memory_equal(&z[unit * columns + shift], &y[unit * columns], sizeof *y);
        free(moved);
    }
    free(weight), free(bias), free(x), free(y), free(z);
}

static void test_project_keeps_bits(void **state) {
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++)
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t j = 0; j < COUNT(lengths); j += 2) {
                check_columns(named(sets[set]), lengths[i], lengths[j], LANES);
                check_columns(named(sets[set]), lengths[i], lengths[j], WIDE);
            }
}

/* The same on every core type of OpenBLAS that this CPU can run: each is another set of kernels, chosen when the
 * library is loaded, so each is a process of its own. */
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

/* [units, inputs] as the [inputs, units] of a column_projection. */
static float *transposed(const float *weight, size_t units, size_t inputs) {
    float *result = floats(units * inputs);
    for (size_t unit = 0; unit < units; unit++)
        for (size_t input = 0; input < inputs; input++)
            result[input * units + unit] = weight[unit * inputs + input];
    return result;
}

static void test_project_column(void **state) {
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++) {
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t j = 0; j < COUNT(lengths); j++) {
                size_t units = lengths[i], inputs = lengths[j];
                float *weight = random_floats(units * inputs, 1), *bias = random_floats(units, 1);
                float *x = random_floats(inputs, 1), *y = floats(units), *packed = transposed(weight, units, inputs);
                named(sets[set])->project_column(&(struct column_projection){units, inputs, packed, bias}, x, y);
                for (size_t unit = 0; unit < units; unit++)
                    check_close(y[unit], (double)bias[unit] + product(weight + unit * inputs, inputs, x, 1),
                                1e-6 * sqrt((double)inputs) + 1e-6);
                free(weight), free(bias), free(x), free(y), free(packed);
            }
        report(named(sets[set]), "project_column");
    }
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
static void column_statistics(const float *x, size_t units, size_t columns, double epsilon, double *gain,
                              double *offset) {
    double mean = 0, sum = 0;
    for (size_t unit = 0; unit < units; unit++)
        mean += (double)x[unit * columns] / (double)units;
    for (size_t unit = 0; unit < units; unit++)
        sum += pow((double)x[unit * columns] - mean, 2) + epsilon;
    *gain = 1 / sqrt(sum);
    *offset = -mean * *gain;
}

static void check_activate(const struct kernels *kernels, enum kernel_activation kind, size_t units, size_t columns) {
    float *alpha = random_floats(units, 1), *gain = random_floats(units, 2), *offset = random_floats(units, 2);
    float *x = random_floats(units * columns, 12), *y = floats(units * columns);
    x[0] = 100, x[1] = -100, x[2] = 0, x[3] = -1e-30F, x[4] = 88.8F, x[5] = -88.8F, x[6] = 1e-4F;
    memcpy(y, x, units * columns * sizeof *y);
    struct activation_parameters parameters = {kind, alpha, gain, offset, .epsilon = 1e-3F};
    kernels->activate(&parameters, units, columns, y);
    for (size_t i = 0; i < units * columns; i++) {
        size_t unit = i / columns;
        double unit_gain = (double)gain[unit], unit_offset = (double)offset[unit];
        if (kind == KERNEL_DICE_ROW)
            column_statistics(x + i % columns, units, columns, (double)parameters.epsilon, &unit_gain, &unit_offset);
        double expected = activated(kind, (double)x[i], (double)alpha[unit], unit_gain, unit_offset);
        /* Taking the mean off loses bits, which the gain then makes larger. */
        double condition = kind == KERNEL_DICE_ROW ? 1 + 12 * unit_gain : 1;
        check_close(y[i], expected, 6e-7 * fmax(1, fabs((double)x[i])) * condition);
    }
    free(alpha), free(gain), free(offset), free(x), free(y);
}

static void test_activate(void **state) {
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++) {
        for (int kind = KERNEL_LINEAR; kind <= KERNEL_DICE_ROW; kind++)
            for (size_t i = 0; i < COUNT(lengths); i++) {
                check_activate(named(sets[set]), (enum kernel_activation)kind, lengths[i], LANES);
                check_activate(named(sets[set]), (enum kernel_activation)kind, lengths[i], WIDE);
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

static struct test_cell new_cell(size_t units, bool reset_after) {
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
        .gates = {gates, units, test.weight, test.bias},
        .candidate = {units, units, candidate, test.bias},
        .gates_column = {gates, units, test.gates_column, test.bias},
        .candidate_column = {units, units, test.candidate_column, test.bias},
    };
    return test;
}

static void free_cell(struct test_cell *test) {
    free(test->weight), free(test->bias), free(test->bias_hidden);
    free(test->gates_column), free(test->candidate_column);
}

static double write_gate(enum kernel_write write, double v, double a) {
    const double gates[] = {
        [WRITE_UPDATE] = v, [WRITE_ATTENTION] = a, [WRITE_AND] = a * v, [WRITE_OR] = 1 - (1 - a) * (1 - v)};
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
    for (size_t set = 0; set < COUNT(sets); set++) {
        const struct kernels *kernels = named(sets[set]);
        for (size_t i = 0; i < 2 * COUNT(lengths); i++) {
            size_t units = lengths[i / 2];
            struct test_cell test = new_cell(units, i % 2 == 0);
            float *h = random_floats(units, 0), *work = floats(4 * units);
            double *expected = calloc(units, sizeof *expected);
            for (int step = 0; step < 5; step++) {
                float *input = random_floats(3 * units, 2);
                kernels->extract(kernels, &test.cell, input, h, h, work);
                double exact[3 * 129];
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
                         bool scaled, size_t steps) {
    struct test_cell test = new_cell(units, reset_after);
    float *inputs = random_floats(steps * 3 * units, 2), *attention = floats(steps * LANES);
    float *h = random_floats(units * LANES, 0), *work = floats(4 * units * LANES), *bias = random_floats(3 * units, 1);
    double *expected = calloc(units, sizeof *expected), exact[3 * 129];
    for (size_t i = 0; i < steps * LANES; i++)
        attention[i] = (float)rand() / (float)RAND_MAX;
    kernels->evolve(kernels, &test.cell, write, steps, inputs, scaled ? bias : NULL, attention, h, work);
    for (size_t lane = 0; lane < LANES; lane += 5) {
        memset(expected, 0, units * sizeof *expected);
        for (size_t step = 0; step < steps; step++) {
            double a = (double)attention[step * LANES + lane];
            for (size_t i = 0; i < 3 * units; i++) {
                double input = (double)inputs[step * 3 * units + i];
                exact[i] = scaled ? a * input + (double)bias[i] : input;
            }
            step_in_double(&test, exact, a, write, expected);
        }
        for (size_t unit = 0; unit < units; unit++)
            check_close(h[unit * LANES + lane], expected[unit], 1e-5);
    }
    free(inputs), free(attention), free(h), free(work), free(bias), free(expected);
    free_cell(&test);
}

static void test_evolve(void **state) {
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++) {
        for (size_t i = 0; i < 16 * COUNT(lengths); i++)
            check_evolve(named(sets[set]), lengths[i / 16], i % 2 == 0, (enum kernel_write)(i / 2 % 4), i / 8 % 2 == 0,
                         1 + i % 9);
        report(named(sets[set]), "evolve");
    }
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
    for (size_t set = 0; set < COUNT(sets); set++) {
        for (size_t i = 0; i < COUNT(lengths); i++)
            for (size_t j = 0; j < COUNT(lengths); j += 3)
                check_pool(named(sets[set]), lengths[i], lengths[j]);
        report(named(sets[set]), "pool");
    }
}

/* ---- attention ---- */

static void check_attend(const struct kernels *kernels, size_t units, size_t inputs) {
    float *weight = random_floats(units * inputs, 1), *zero = random_floats(units, 0);
    float *query = random_floats(inputs * LANES, 1), *query_part = random_floats(units * LANES, 1);
    float *keys = random_floats(STEPS * inputs, 1), *key_parts = random_floats(STEPS * units, 1);
    float *y = floats(units * WIDE), *work = floats(inputs * WIDE);
    kernels->attend(kernels, &(struct projection){units, inputs, weight, zero}, query, query_part, keys, key_parts, y,
                    work);
    for (size_t unit = 0; unit < units; unit++)
        for (size_t column = 0; column < WIDE; column++) {
            size_t step = column / LANES, lane = column % LANES;
            double expected = (double)query_part[unit * LANES + lane] + (double)key_parts[step * units + unit];
            for (size_t i = 0; i < inputs; i++)
                expected += (double)weight[unit * inputs + i] * (double)query[i * LANES + lane] *
                            (double)keys[step * inputs + i];
            check_close(y[unit * WIDE + column], expected, 1e-6 * sqrt((double)inputs) + 1e-6);
        }
    free(weight), free(zero), free(query), free(query_part), free(keys), free(key_parts), free(y), free(work);
}

static void test_attend(void **state) {
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++) {
        for (size_t i = 0; i < COUNT(lengths); i++)
            check_attend(named(sets[set]), lengths[i], lengths[(i * 7 + 3) % COUNT(lengths)]);
        report(named(sets[set]), "attend");
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
    for (size_t set = 0; set < COUNT(sets); set++) {
        for (size_t i = 0; i < COUNT(lengths); i++) {
            check_softmax(named(sets[set]), lengths[i], 5);
            check_softmax(named(sets[set]), lengths[i], 1000); /* exponentials that would overflow */
        }
        report(named(sets[set]), "softmax");
    }
}

static void test_names(void **state) {
    (void)state;
    for (size_t set = 0; set < COUNT(sets); set++) {
        assert_string_equal(named(sets[set])->name, sets[set]);
        assert_non_null(strstr(kernels_available(), sets[set]));
    }
    assert_null(kernels_named("avx1024"));
}

/* In the child of test_every_core_keeps_bits: plain exit status, no report of its own. */
static int run_bits_only(void) {
    if (freopen("/dev/null", "w", stdout) == NULL || freopen("/dev/null", "w", stderr) == NULL)
        return 126;
    const struct CMUnitTest tests[] = {{"keeps bits", test_project_keeps_bits, NULL, NULL, NULL}};
    return _cmocka_run_group_tests("bits", tests, COUNT(tests), NULL, NULL);
}

int main(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], ONLY_BITS) == 0)
        return run_bits_only();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_project),
        cmocka_unit_test(test_project_keeps_bits),
        cmocka_unit_test(test_every_core_keeps_bits),
        cmocka_unit_test(test_project_column),
        cmocka_unit_test(test_activate),
        cmocka_unit_test(test_extract),
        cmocka_unit_test(test_evolve),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_attend),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_names),
    };
    srand(1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
