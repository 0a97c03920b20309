/* test_reduced.c: reduced precision: its kernels against the reference, within bounds that follow from the integers'
 * steps; the same bits in any company; models near the training code's scores.
 */
#include "model/network/stages.h"
#include "proto/json_decode.h"
#include "server/scoring/sample_check.h"
#include "tests/unit/columns.h"

#include <math.h>

/* The promise to users. */
#define TOLERANCE DIEN_REDUCED_TOLERANCE

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { CANDIDATES = 300, ALL = BLOCKS * LANES };

static const size_t lengths[] = {1, 2, 3, 4, 7, 8, 15, 16, 17, 24, 25, 36, 63, 64, 65, 80, 108, 128};
static struct kernels reduced;

/* The kernels in reduced precision, or a skip that is seen. */
static void need_kernels(void) {
    const struct kernels *chosen = kernels_choose();
    if (!kernels_reduce(chosen, &reduced)) {
        print_message("%s on this CPU: no kernels in reduced precision\n", chosen->name);
        skip();
    }
}

/* For test_every_isa.py to see that these kernels were tested, and not others. */
static void test_kernels_in_use(void **state) {
    (void)state;
    need_kernels();
    assert_true(reduced.blocks_per_weight_load == 1 || reduced.blocks_per_weight_load == 2);
    print_message("beside %s: %s, %zu blocks together\n", kernels_choose()->name, reduced.name,
                  reduced.blocks_per_weight_load);
}

static float uniform(float least, float most) {
    return least + (most - least) * (float)rand() / (float)RAND_MAX;
}

static float *floats(size_t count, float least, float most) {
    float *memory = aligned_alloc(64, (count * sizeof *memory + 64) / 64 * 64);
    assert_non_null(memory);
    for (size_t i = 0; i < count; i++)
        memory[i] = uniform(least, most);
    return memory;
}

/* ---- products ---- */

struct product {
    struct projection projection;
    float *weight, *bias, *panels, *step;
    int32_t *words, *column, *start;
    double one; /* the largest input, quantised */
};

static struct product new_product(size_t units, size_t inputs) {
    struct product p = {.weight = floats(units * inputs, -1, 1), .bias = floats(units, -1, 1)};
    p.projection = (struct projection){.units = units, .inputs = inputs, .weight = p.weight, .bias = p.bias};
    p.panels = floats(projection_panel_floats(units, inputs), 0, 0);
    p.words = array(int16_panels_count(units, inputs), sizeof *p.words);
    p.column = array(units * inputs + units, sizeof *p.column);
    p.step = array(units + PANEL_UNITS, sizeof *p.step);
    p.start = array(units + PANEL_UNITS, sizeof *p.start);
    return p;
}

static void pack_product(struct product *p) {
    projection_pack(&p->projection, p->panels);
    p->projection.panels = p->panels;
    assert_true(int16_pack(&p->projection, p->words, p->step));
    p->projection.int16 = (struct int16_weights){p->words, p->step, NULL};
    int16_pack_columns(&p->projection, p->column);
    p->projection.int16.columns = p->column;
    p->one = INT16_ONE;
}

/* Bytes in place of 16-bit integers. */
static void pack_product_bytes(struct product *p, bool sigmoids) {
    int8_pack(&p->projection, sigmoids, p->words, p->step, p->start);
    p->projection.int8 = (struct int8_weights){p->words, p->step, p->start};
    p->one = sigmoids ? INT8_SIGMOID_ONE : INT8_ONE;
}

static void free_product(struct product *p) {
    free(p->weight), free(p->bias), free(p->panels), free(p->words), free(p->column), free(p->step);
    free(p->start);
}

/* Half a step of x for each weight, half a step of the weights for each x, and float32's own rounding. */
static double bound_of(const struct product *p, size_t unit, const float *x) {
    double weights = 0, sum = 0, most = 0;
    for (size_t i = 0; i < p->projection.inputs; i++) {
        weights += fabs((double)p->weight[unit * p->projection.inputs + i]);
        sum += fabs((double)x[i * LANES]);
        most = fmax(most, fabs((double)x[i * LANES]));
    }
    return 1.01 * (weights * most / p->one + sum * (double)p->step[unit] * p->one) / 2 + 1e-5 * (1 + weights * most);
}

static void check_product(const struct product *p, const float *x, size_t blocks, double *largest) {
    size_t units = p->projection.units, inputs = p->projection.inputs;
    float *y = floats(blocks * units * LANES, 0, 0);
    reduced.linear(&p->projection, blocks, x, y);
    for (size_t i = 0; i < blocks * units * LANES; i++) {
        size_t block = i / (units * LANES), unit = i / LANES % units;
        const float *column = x + block * inputs * LANES + i % LANES;
        double exact = (double)p->bias[unit];
        for (size_t j = 0; j < inputs; j++)
            exact += (double)p->weight[unit * inputs + j] * (double)column[j * LANES];
        double difference = fabs((double)y[i] - exact), bound = bound_of(p, unit, column);
        *largest = fmax(*largest, difference / bound);
        if (!(difference <= bound))
            fail_msg("%zu x %zu: off by %.3g, more than %.3g", units, inputs, difference, bound);
    }
    free(y);
}

static void test_linear(void **state) {
    (void)state;
    need_kernels();
    double largest = 0;
    for (size_t i = 0; i < COUNT(lengths); i++)
        for (size_t j = 0; j < COUNT(lengths); j++) {
            size_t blocks = 1 + (i + j) % STEPS;
            struct product p = new_product(lengths[i], lengths[j]);
            pack_product(&p);
            float *x = floats(blocks * lengths[j] * LANES, -3, 3);
            for (size_t lane = 0; lane < 8; lane++) /* columns of other sizes, and one of zeros */
                for (size_t k = 0; k < lengths[j]; k++)
                    x[k * LANES + lane] *= lane == 0 ? 0 : powf(10, (float)lane - 6);
            check_product(&p, x, blocks, &largest);
            pack_product_bytes(&p, false);
            check_product(&p, x, blocks, &largest);
            free(x);
            free_product(&p);
        }
    print_message("%s linear: largest share of the bound %.3g\n", reduced.name, largest);
}

/* The largest sums there are: nothing overflows 32 bits. */
static void test_largest_sums(void **state) {
    (void)state;
    need_kernels();
    double largest = 0;
    for (size_t inputs = 1; inputs <= QUANTISED_INPUTS_MAX; inputs = inputs * 3 + 1) {
        struct product p = new_product(8, inputs);
        float *x = floats(inputs * LANES, 5, 5);
        for (size_t i = 0; i < 8 * inputs; i++)
            p.weight[i] = i / inputs % 2 == 0 ? 1 : uniform(0.99F, 1);
        for (size_t i = 0; i < inputs; i++)
            x[i * LANES + 1] = -5;
        pack_product(&p);
        check_product(&p, x, 1, &largest);
        pack_product_bytes(&p, false);
        check_product(&p, x, 1, &largest);
        free(x);
        free_product(&p);
    }
}

static void test_what_is_not_finite(void **state) {
    (void)state;
    need_kernels();
    enum { UNITS = 5, INPUTS = 7 };
    struct product p = new_product(UNITS, INPUTS);
    pack_product(&p);
    float *x = floats((size_t)INPUTS * LANES, -1, 1), *y = floats((size_t)UNITS * LANES, 0, 0);
    x[2 * LANES + 3] = NAN, x[4] = NAN, x[6 * LANES + 5] = INFINITY;
    for (size_t form = 0; form < 2; form++) {
        if (form > 0)
            pack_product_bytes(&p, false);
        reduced.linear(&p.projection, 1, x, y);
        for (size_t i = 0; i < (size_t)UNITS * LANES; i++)
            assert_int_equal(isfinite(y[i]), i % LANES < 3 || i % LANES > 5);
    }
    p.weight[9] = INFINITY;
    assert_false(int16_pack(&p.projection, p.words, p.step));
    free(x), free(y);
    free_product(&p);
}

/* A column alone, in any place, of any number of blocks; and through attend() of some steps as through project(). */
static void check_product_keeps_bits(bool bytes, size_t steps) {
    enum { UNITS = 27, INPUTS = 19 };
    struct product p = new_product(UNITS, INPUTS);
    pack_product(&p);
    if (bytes)
        pack_product_bytes(&p, false);
    float *query = floats((size_t)INPUTS * LANES, -2, 2), *parts = floats((size_t)UNITS * LANES, -1, 1);
    float *keys = floats((size_t)STEPS * INPUTS, -1, 1), *key_parts = floats((size_t)STEPS * UNITS, -1, 1);
    float *y = floats((size_t)STEPS * UNITS * LANES, 0, 0), *work = floats((size_t)STEPS * INPUTS * LANES, 0, 0);
    float *x = floats((size_t)STEPS * INPUTS * LANES, -9, 9), *z = floats((size_t)STEPS * UNITS * LANES, 0, 0);
    struct attention_steps attention = {&p.projection, steps, query, NULL, parts, keys, key_parts};
    reduced.attend(&reduced, &attention, y, work);
    for (size_t place = 0; place < steps * LANES; place++) {
        size_t step = place / LANES, lane = place % LANES, other = (place * 37 + 5) % ((size_t)STEPS * LANES);
        float *column = x + other / LANES * INPUTS * LANES + other % LANES;
        for (size_t i = 0; i < INPUTS; i++)
            column[i * LANES] = query[i * LANES + lane] * keys[step * INPUTS + i];
        reduced.linear(&p.projection, other / LANES + 1, x, z);
        for (size_t unit = 0; unit < UNITS; unit++) {
            float sum = z[(other / LANES * UNITS + unit) * LANES + other % LANES] +
                        (parts[unit * LANES + lane] + key_parts[step * UNITS + unit]);
            assert_memory_equal(&sum, &y[(step * UNITS + unit) * LANES + lane], sizeof sum);
        }
    }
    free(query), free(parts), free(keys), free(key_parts), free(y), free(work), free(x), free(z);
    free_product(&p);
}

static void test_product_keeps_bits(void **state) {
    (void)state;
    need_kernels();
    static const size_t steps[] = {1, 2, 3, STEPS};
    for (size_t i = 0; i < 2 * COUNT(steps); i++)
        check_product_keeps_bits(i % 2 > 0, steps[i / 2]);
}

/* ---- the attention network behind its first product ---- */

enum { NETWORK_MAX = 4, WIDE = 80, FINISHED = 3 /* blocks */ };

struct network {
    size_t count;
    struct layer layers[NETWORK_MAX];
    struct product products[NETWORK_MAX];
};

static struct network new_network(const size_t *units, size_t count, const enum kernel_activation *kinds, bool bytes) {
    struct network network = {.count = count};
    for (size_t i = 0; i < count; i++) {
        network.products[i] = new_product(units[i], i == 0 ? 1 : units[i - 1]);
        pack_product(&network.products[i]);
        network.layers[i] = (struct layer){network.products[i].projection, {.kind = kinds[i]}};
    }
    bool within_one = layers_keep_within_one(network.layers, count);
    for (size_t i = 1; i + 1 < count && bytes && within_one; i++)
        if (kinds[i - 1] == KERNEL_SIGMOID) {
            pack_product_bytes(&network.products[i], true);
            network.layers[i].projection = network.products[i].projection;
        }
    return network;
}

static void free_network(struct network *network) {
    for (size_t i = 0; i < network->count; i++)
        free_product(&network->products[i]);
}

static double activated(enum kernel_activation kind, double x) {
    if (kind == KERNEL_SIGMOID)
        return 1 / (1 + exp(-x));
    if (kind == KERNEL_TANH)
        return tanh(x);
    return kind == KERNEL_RELU ? fmax(x, 0) : x;
}

/* A column's score in double, and the bound on its quantisation error: half a step of a layer's inputs and half
 * a step of its weights for each input, behind activations that make no difference larger. */
static double score_of(const struct network *network, const float *x, double *bound) {
    double in[WIDE] = {0}, out[WIDE] = {0}, off = 1e-5;
    for (size_t i = 0; i < network->products[0].projection.units; i++)
        in[i] = activated(network->layers[0].activation.kind, (double)x[i * LANES]);
    for (size_t layer = 1; layer < network->count; layer++) {
        const struct product *p = &network->products[layer];
        double next = 0, most = 1;
        for (size_t i = 0; i < p->projection.inputs; i++)
            most = fmax(most, fabs(in[i]));
        for (size_t unit = 0; unit < p->projection.units; unit++) {
            double weights = 0, sum = (double)p->bias[unit];
            for (size_t i = 0; i < p->projection.inputs; i++) {
                double weight = (double)p->weight[unit * p->projection.inputs + i];
                weights += fabs(weight);
                sum += weight * in[i];
            }
            out[unit] = activated(network->layers[layer].activation.kind, sum);
            next = fmax(next, weights * (off + most / p->one) +
                                  (double)p->projection.inputs * most * (double)p->step[unit] * p->one);
        }
        memcpy(in, out, sizeof in);
        off = next + 1e-5;
    }
    *bound = off;
    return in[0];
}

static void check_network(const size_t *units, size_t count, const enum kernel_activation *kinds, bool bytes,
                          double *largest) {
    struct network network = new_network(units, count, kinds, bytes);
    size_t size = (size_t)FINISHED * WIDE * LANES;
    float *x = floats(size, -4, 4), *one = floats(size, 0, 0), *y = floats(size, 0, 0), *z = floats(size, 0, 0);
    float *column = floats((size_t)WIDE * LANES, 0, 0);
    float *copy = array(size, sizeof *copy);
    memcpy(copy, x, size * sizeof *copy);
    const float *scores = reduced.finish(&reduced, network.layers, count, FINISHED, x, y);
    for (size_t place = 0; place < (size_t)FINISHED * LANES; place++) {
        for (size_t i = 0; i < units[0]; i++)
            column[i * LANES] = copy[(place / LANES * units[0] + i) * LANES + place % LANES];
        double bound = 0, difference = fabs((double)scores[place] - score_of(&network, column, &bound));
        *largest = fmax(*largest, difference / bound);
        if (!(difference <= bound))
            fail_msg("%zu layers: off by %.3g, more than %.3g", count, difference, bound);
        /* alone, in another lane */
        for (size_t i = 0; i < units[0]; i++)
            one[i * LANES + (place + 5) % LANES] = column[i * LANES];
        const float *alone = reduced.finish(&reduced, network.layers, count, 1, one, z);
        assert_memory_equal(&alone[(place + 5) % LANES], &scores[place], sizeof *scores);
    }
    free(x), free(one), free(y), free(z), free(column), free(copy);
    free_network(&network);
}

/* Networks whose values are within 1, which are done in one, and others, layer by layer. */
static void test_finish(void **state) {
    (void)state;
    need_kernels();
    static const size_t units[][NETWORK_MAX] = {{WIDE, 40, 1}, {5, 1}, {33, 18, 9, 1}, {7, 2, 3, 1}};
    static const size_t counts[] = {3, 2, 4, 4};
    static const enum kernel_activation kinds[][NETWORK_MAX] = {
        {KERNEL_SIGMOID, KERNEL_SIGMOID, KERNEL_LINEAR, KERNEL_LINEAR},
        {KERNEL_TANH, KERNEL_SIGMOID, KERNEL_TANH, KERNEL_SIGMOID},
        {KERNEL_SIGMOID, KERNEL_TANH, KERNEL_SIGMOID, KERNEL_LINEAR},
        {KERNEL_RELU, KERNEL_SIGMOID, KERNEL_RELU, KERNEL_LINEAR},
    };
    double largest = 0;
    for (size_t i = 0; i < COUNT(units); i++)
        for (size_t j = 0; j < COUNT(kinds); j++)
            for (size_t bytes = 0; bytes < 2; bytes++)
                check_network(units[i], counts[i], kinds[j], bytes > 0, &largest);
    print_message("%s finish: largest share of the bound %.3g\n", reduced.name, largest);
    assert_true(largest < 0.1); /* the bound adds errors that mostly cancel */
}

/* Words hold no NaN, yet a score keeps it, in its own place: in a value of each block, in the biases of a layer. */
static void check_nan(const size_t *units, const enum kernel_activation *kinds, bool bytes, size_t bad, size_t block) {
    struct network network = new_network(units, NETWORK_MAX, kinds, bytes);
    size_t room = (size_t)FINISHED * WIDE * LANES;
    float *x = floats(room, -1, 1), *y = floats(room, 0, 0);
    if (bad == 0)
        x[(block * units[0] + 6) * LANES + 3] = NAN;
    else
        network.products[bad].bias[1] = NAN;
    const float *scores = reduced.finish(&reduced, network.layers, NETWORK_MAX, FINISHED, x, y);
    for (size_t place = 0; place < (size_t)FINISHED * LANES; place++)
        assert_int_equal(isnan(scores[place]) != 0, bad > 0 || place == block * LANES + 3);
    free(x), free(y);
    free_network(&network);
}

static void test_finish_keeps_nan(void **state) {
    (void)state;
    need_kernels();
    static const size_t units[NETWORK_MAX] = {8, 5, 3, 1};
    static const enum kernel_activation kinds[NETWORK_MAX] = {KERNEL_SIGMOID, KERNEL_TANH, KERNEL_SIGMOID,
                                                              KERNEL_LINEAR};
    for (size_t i = 0; i < 6; i++)
        for (size_t block = 0; block < FINISHED; block++)
            check_nan(units, kinds, i >= 3, i % 3, block);
}

/* The error of a score with random sigmoids is that of int8_noise(), as closely as a mean of so many can tell. */
static void test_noise_of_bytes(void **state) {
    (void)state;
    need_kernels();
    enum { NETWORKS = 40 };
    static const size_t units[] = {WIDE, 40, 1};
    static const enum kernel_activation kinds[] = {KERNEL_SIGMOID, KERNEL_SIGMOID, KERNEL_LINEAR};
    double squares = 0, expected = 0;
    for (size_t n = 0; n < NETWORKS; n++) {
        struct network network = new_network(units, 3, kinds, true);
        const struct projection *layer = &network.products[1].projection;
        for (size_t i = 0; i < units[0] * units[1]; i++) /* so small that the sigmoid's slope is a quarter */
            network.products[1].weight[i] *= 0.05F;
        memset(network.products[1].bias, 0, units[1] * sizeof(float));
        pack_product_bytes(&network.products[1], true);
        float *x = floats((size_t)WIDE * LANES, -4, 4), *y = floats((size_t)WIDE * LANES, 0, 0), gain[WIDE], one = 1;
        float *copy = array((size_t)WIDE * LANES, sizeof *copy);
        memcpy(copy, x, (size_t)WIDE * LANES * sizeof *x);
        const float *scores = reduced.finish(&reduced, network.layers, 3, 1, x, y);
        for (size_t lane = 0; lane < LANES; lane++) {
            double bound = 0, difference = (double)scores[lane] - score_of(&network, copy + lane, &bound);
            squares += difference * difference / LANES;
        }
        int8_slopes(&network.products[2].projection, KERNEL_LINEAR, &one, gain);
        double noise = int8_noise(layer, true, KERNEL_SIGMOID, gain);
        expected += noise * noise;
        free(x), free(y), free(copy);
        free_network(&network);
    }
    double ratio = sqrt(squares / expected);
    print_message("int8 noise: %.3g of its expectation\n", ratio);
    assert_true(ratio > 0.7 && ratio < 1.4);
}

/* ---- evolution ---- */

struct test_cell {
    struct cell cell;
    struct product gates, candidate;
};

static struct test_cell new_cell(size_t units, bool reset_after) {
    struct test_cell test = {.gates = new_product((reset_after ? 3 : 2) * units, units),
                             .candidate = new_product(units, units)};
    float scale = 2 / sqrtf((float)units); /* as in a trained cell */
    for (size_t i = 0; i < test.gates.projection.units * units; i++)
        test.gates.weight[i] *= scale;
    for (size_t i = 0; i < units * units; i++)
        test.candidate.weight[i] *= scale;
    for (size_t i = 0; i < 2 * units; i++)
        test.gates.bias[i] = 0;
    memset(test.candidate.bias, 0, units * sizeof(float));
    pack_product(&test.gates);
    pack_product(&test.candidate);
    test.cell = (struct cell){.units = units,
                              .reset_after = reset_after,
                              .gates = test.gates.projection,
                              .candidate = test.candidate.projection};
    return test;
}

/* From a state of zeros, with no more memory than is promised. */
static void evolve_with(const struct kernels *kernels, struct evolution_steps evolution, size_t candidates, float *h) {
    size_t blocks = (candidates + LANES - 1) / LANES, units = evolution.cell->units;
    float *work = floats(blocks * 4 * units * LANES, 0, 0);
    memset(h, 0, ALL * units * sizeof *h);
    evolution.candidates = candidates;
    kernels->evolve(kernels, &evolution, h, work);
    free(work);
}

static void check_evolve(size_t units, bool reset_after, enum kernel_write write, bool scaled, double *largest) {
    enum { STEPS_HERE = 7 };
    struct test_cell test = new_cell(units, reset_after);
    float *inputs = floats((size_t)STEPS_HERE * 3 * units, -2, 2), *bias = scaled ? floats(3 * units, -1, 1) : NULL;
    float *attention = floats((size_t)STEPS_HERE * ALL, 0, 1);
    float *exact = floats(ALL * units, 0, 0), *h = floats(ALL * units, 0, 0), *some = floats(ALL * units, 0, 0);
    float *const scores[BLOCKS] = {attention, attention + (size_t)STEPS_HERE * LANES};
    struct evolution_steps evolution = {&test.cell, write, STEPS_HERE, ALL, inputs, bias, scores};
    evolve_with(&kernels_ref, evolution, ALL, exact);
    evolve_with(&reduced, evolution, ALL, h);
    for (size_t i = 0; i < ALL * units; i++) {
        *largest = fmax(*largest, fabs((double)h[i] - (double)exact[i]));
        assert_true(fabs((double)h[i] - (double)exact[i]) <= 1e-3);
    }
    for (size_t candidates = 1; candidates < ALL; candidates += 3) {
        evolve_with(&reduced, evolution, candidates, some);
        for (size_t i = 0; i < candidates * units; i++) {
            size_t at = (i / units / LANES * units + i % units) * LANES + i / units % LANES;
            assert_memory_equal(&some[at], &h[at], sizeof *h);
        }
    }
    free(inputs), free(bias), free(attention), free(exact), free(h), free(some);
    free_product(&test.gates), free_product(&test.candidate);
}

static void test_evolve(void **state) {
    (void)state;
    need_kernels();
    double largest = 0;
    for (size_t i = 0; i < 20 * COUNT(lengths); i++)
        check_evolve(lengths[i / 20], i % 2 == 0, (enum kernel_write)(i / 2 % 5), i / 10 % 2 == 0, &largest);
    print_message("%s evolve: largest difference from the reference %.3g\n", reduced.name, largest);
}

/* ---- models ---- */

static void test_scores_of_the_training_code(void **state) {
    (void)state;
    const struct request_limits limits = {.max_candidates = 4096, .max_history = 65536, .memory = 256 << 20};
    double largest = 0;
    size_t reduced_count = 0, bytes_count = 0;
    for (size_t i = 0; i < model_count; i++) {
        struct scorer scorer;
        struct samples_report report;
        bool is_reduced = strcmp(dien_precision_name(models[i]), "float32") != 0;
        assert_true(scorer_init(&scorer, models[i], &limits));
        bool good = samples_prove(&scorer, paths[i], is_reduced ? TOLERANCE : 1e-5, &report);
        scorer_free(&scorer);
        if (!good)
            fail_msg("%s, %s: %s", paths[i], dien_precision_name(models[i]), report.message);
        reduced_count += is_reduced;
        bytes_count += dien_reduced(models[i]).int8;
        largest = fmax(largest, report.largest);
    }
    print_message("%zu of %zu models reduced, %zu with bytes: largest difference from PyTorch in float64 %.3g\n",
                  reduced_count, model_count, bytes_count, largest);
    bool has_integers = kernels_reduce(kernels_choose(), &reduced);
    assert_true(has_integers ? reduced_count > 5 && bytes_count > 1 : reduced_count == 0);
}

static struct dien_user *build(const struct dien_model *model, struct dien_scratch *scratch,
                               const struct dien_columns *history, size_t length) {
    const struct dien_interest *interests;
    size_t counts[64];
    for (size_t i = 0; i < dien_interests(model, &interests); i++)
        counts[i] = length;
    size_t bytes = dien_user_bytes(model, counts);
    void *memory = aligned_alloc(DIEN_ALIGNMENT, (bytes + DIEN_ALIGNMENT - 1) / DIEN_ALIGNMENT * DIEN_ALIGNMENT);
    assert_non_null(memory);
    return dien_user_build(model, scratch, history, memory);
}

/* All candidates at once, then each run of `count` of them alone. */
static void check_company(const struct dien_model *model, size_t length) {
    struct dien_scratch *scratch = dien_scratch_new(model);
    struct dien_columns history = random_columns(model, DIEN_BEHAVIOUR, length);
    struct dien_request request = {.user = random_columns(model, DIEN_USER, 1),
                                   .context = random_columns(model, DIEN_CONTEXT, 1),
                                   .candidates = random_columns(model, DIEN_CANDIDATE, CANDIDATES),
                                   .candidate_count = CANDIDATES};
    struct dien_user *user = build(model, scratch, &history, length);
    float all[CANDIDATES], some[CANDIDATES];
    dien_score(model, scratch, user, &request, all, NULL);
    struct dien_columns candidates = request.candidates;
    for (size_t first = 0, count = 1; first + count <= CANDIDATES; first += count, count = count % 41 + 2) {
        size_t order[64];
        for (size_t i = 0; i < count; i++)
            order[i] = first + count - 1 - i;
        request.candidates = pick(model, DIEN_CANDIDATE, &candidates, order, count);
        request.candidate_count = count;
        dien_score(model, scratch, user, &request, some, NULL);
        for (size_t i = 0; i < count; i++)
            assert_memory_equal(&some[i], &all[order[i]], sizeof *some);
        free_columns(model, DIEN_CANDIDATE, &request.candidates);
    }
    free_columns(model, DIEN_BEHAVIOUR, &history);
    free_columns(model, DIEN_USER, &request.user);
    free_columns(model, DIEN_CONTEXT, &request.context);
    free_columns(model, DIEN_CANDIDATE, &candidates);
    free(user);
    dien_scratch_free(scratch);
}

static void test_same_bits_in_any_company(void **state) {
    (void)state;
    for (size_t i = 0; i < model_count; i++)
        check_company(models[i], 1 + (size_t)rand() % (1 + longest_window(models[i])));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_in_use),
        cmocka_unit_test(test_linear),
        cmocka_unit_test(test_largest_sums),
        cmocka_unit_test(test_what_is_not_finite),
        cmocka_unit_test(test_product_keeps_bits),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_finish_keeps_nan),
        cmocka_unit_test(test_noise_of_bytes),
        cmocka_unit_test(test_evolve),
        cmocka_unit_test(test_scores_of_the_training_code),
        cmocka_unit_test(test_same_bits_in_any_company),
    };
    srand(1);
    json_decode_init();
    models_precision = DIEN_REDUCED;
    return cmocka_run_group_tests(tests, open_models, close_models);
}
