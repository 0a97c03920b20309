/* kernels.c: how fast each set of kernels is, against the machine's measured peak, and the cost of a request with each.
 *
 *   kernels MODEL_DIRECTORY [--repeats N] [--csv FILE]
 *
 * The model has the fields of tests/bench/reference_shape.py. The sets take turns within each repetition, so that a
 * slow moment of the machine hits them all; the figures are medians and minima over the repetitions. Only
 * multiply-adds of products count as floating-point operations (two each).
 */
#include "model/dien.h"
#include "model/format/bind.h"
#include "tests/bench/timing.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include "model/kernels/unroll.h"

#include <arm_neon.h>
#endif

enum { SETS_MAX = 8, REPEATS_MAX = 1001, CHAINS = 12 };

static const struct kernels *sets[SETS_MAX];
static size_t set_count;
static size_t repeats = 61;
static FILE *csv;
static double peak; /* multiply-add operations a second, of the widest vectors that this CPU has */

/* ---- time ---- */

/* One thing to measure: run(context, set) once; `flop` multiply-add operations. */
struct task {
    const char *name;
    void (*run)(void *context, size_t set);
    void *context;
    double flop;
};

static double time_of(const struct task *task, size_t set, size_t times) {
    double start = now();
    for (size_t i = 0; i < times; i++)
        task->run(task->context, set);
    return (now() - start) / (double)times;
}

/* So many calls that the clock's own cost does not matter, 100 us. */
static size_t calls_for(const struct task *task, size_t set) {
    double one = time_of(task, set, 1);
    one = fmin(one, time_of(task, set, 2));
    return one > 1e-4 ? 1 : (size_t)(1e-4 / one) + 1;
}

static void print_row(const struct task *task, size_t set, const double *sorted) {
    double median = sorted[repeats / 2], least = sorted[0];
    printf("%-34s %-9s %10.2f %10.2f %9.1f %7.1f\n", task->name, sets[set]->name, 1e6 * median, 1e6 * least,
           1e-9 * task->flop / median, 100 * task->flop / median / peak);
    if (csv != NULL)
        fprintf(csv, "%s,%s,%.3f,%.3f,%.2f,%.2f\n", task->name, sets[set]->name, 1e6 * median, 1e6 * least,
                1e-9 * task->flop / median, 100 * task->flop / median / peak);
}

static void measure(const struct task *task) {
    static double seconds[SETS_MAX][REPEATS_MAX];
    size_t calls[SETS_MAX] = {0};
    for (size_t set = 0; set < set_count; set++)
        calls[set] = calls_for(task, set);
    for (size_t i = 0; i < repeats; i++)
        for (size_t set = 0; set < set_count; set++)
            seconds[set][i] = time_of(task, set, calls[set]);
    for (size_t set = 0; set < set_count; set++) {
        qsort(seconds[set], repeats, sizeof seconds[set][0], ascending);
        print_row(task, set, seconds[set]);
    }
}

/* ---- the peak: independent chains of multiply-adds in registers ---- */

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double chains_avx512(size_t rounds) {
    __m512 sum[CHAINS], factor = _mm512_set1_ps(0.999F);
    for (size_t i = 0; i < CHAINS; i++)
        sum[i] = _mm512_set1_ps((float)i);
    double start = now();
    for (size_t round = 0; round < rounds; round++) /* in assembly: no compiler may shorten or spill it */
        __asm__ volatile("vfmadd213ps %12, %12, %0\n\tvfmadd213ps %12, %12, %1\n\tvfmadd213ps %12, %12, %2\n\t"
                         "vfmadd213ps %12, %12, %3\n\tvfmadd213ps %12, %12, %4\n\tvfmadd213ps %12, %12, %5\n\t"
                         "vfmadd213ps %12, %12, %6\n\tvfmadd213ps %12, %12, %7\n\tvfmadd213ps %12, %12, %8\n\t"
                         "vfmadd213ps %12, %12, %9\n\tvfmadd213ps %12, %12, %10\n\tvfmadd213ps %12, %12, %11"
                         : "+v"(sum[0]), "+v"(sum[1]), "+v"(sum[2]), "+v"(sum[3]), "+v"(sum[4]), "+v"(sum[5]),
                           "+v"(sum[6]), "+v"(sum[7]), "+v"(sum[8]), "+v"(sum[9]), "+v"(sum[10]), "+v"(sum[11])
                         : "v"(factor));
    return (double)rounds * CHAINS * 16 * 2 / (now() - start);
}

__attribute__((target("avx2,fma"))) static double chains_avx2(size_t rounds) {
    __m256 sum[CHAINS], factor = _mm256_set1_ps(0.999F);
    for (size_t i = 0; i < CHAINS; i++)
        sum[i] = _mm256_set1_ps((float)i);
    double start = now();
    for (size_t round = 0; round < rounds; round++)
        __asm__ volatile("vfmadd213ps %12, %12, %0\n\tvfmadd213ps %12, %12, %1\n\tvfmadd213ps %12, %12, %2\n\t"
                         "vfmadd213ps %12, %12, %3\n\tvfmadd213ps %12, %12, %4\n\tvfmadd213ps %12, %12, %5\n\t"
                         "vfmadd213ps %12, %12, %6\n\tvfmadd213ps %12, %12, %7\n\tvfmadd213ps %12, %12, %8\n\t"
                         "vfmadd213ps %12, %12, %9\n\tvfmadd213ps %12, %12, %10\n\tvfmadd213ps %12, %12, %11"
                         : "+x"(sum[0]), "+x"(sum[1]), "+x"(sum[2]), "+x"(sum[3]), "+x"(sum[4]), "+x"(sum[5]),
                           "+x"(sum[6]), "+x"(sum[7]), "+x"(sum[8]), "+x"(sum[9]), "+x"(sum[10]), "+x"(sum[11])
                         : "x"(factor));
    return (double)rounds * CHAINS * 8 * 2 / (now() - start);
}
#elif defined(__aarch64__)
static double chains_neon(size_t rounds) {
    enum { SUMS = 16 }; /* four pipes, four cycles each */
    float32x4_t sum[SUMS], factor = vdupq_n_f32(0.999F);
    for (size_t i = 0; i < SUMS; i++)
        sum[i] = vdupq_n_f32((float)i);
    double start = now();
    for (size_t round = 0; round < rounds; round++) {
        UNROLL for (size_t i = 0; i < SUMS;
                    i++) __asm__ volatile("fmla %0.4s, %1.4s, %1.4s" : "+w"(sum[i]) : "w"(factor));
    }
    return (double)rounds * SUMS * 4 * 2 / (now() - start);
}
#endif

static double best_of(double (*chains)(size_t rounds)) {
    double best = 0;
    for (size_t i = 0; i < 100; i++)
        best = fmax(best, chains(20000));
    return best;
}

static void measure_peak(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("fma"))
        peak = best_of(chains_avx2);
    printf("peak of multiply-adds, 256 bits: %.1f GFLOP/s\n", 1e-9 * peak);
    if (__builtin_cpu_supports("avx512f")) {
        peak = best_of(chains_avx512);
        printf("peak of multiply-adds, 512 bits: %.1f GFLOP/s\n", 1e-9 * peak);
    }
#elif defined(__aarch64__)
    peak = best_of(chains_neon);
    printf("peak of multiply-adds, 128 bits: %.1f GFLOP/s\n", 1e-9 * peak);
#endif
}

/* ---- kernels, with the model's own weights ---- */

struct buffers {
    const struct dien_model *const *models; /* of each set, packed for it */
    size_t steps, blocks;
    size_t candidates; /* few */
    bool mlp;          /* the layer is the MLP's, else the attention's */
    size_t layer;
    float *x, *y, *work, *inputs, *attention;
};

static const struct interest *interest_of(const struct buffers *b, size_t set) {
    return &b->models[set]->interests[0];
}

static const struct layer *layer_of(const struct buffers *b, size_t set) {
    return (b->mlp ? b->models[set]->mlp.layers : interest_of(b, set)->attention.layers) + b->layer;
}

static float *random_floats(size_t count) {
    float *memory = aligned_alloc(64, (count * sizeof *memory + 63) / 64 * 64);
    if (memory == NULL)
        exit(1);
    for (size_t i = 0; i < count; i++)
        memory[i] = 2 * (float)drand48() - 1;
    return memory;
}

static void run_evolve(void *context, size_t set) {
    struct buffers *b = context;
    const struct interest *interest = interest_of(b, set);
    float *attention[BLOCKS];
    for (size_t i = 0; i < b->blocks; i++)
        attention[i] = b->attention;
    memset(b->x, 0, b->blocks * interest->evolution.units * LANES * sizeof(float));
    struct evolution_steps steps = {
        &interest->evolution, interest->write, b->steps, b->blocks * LANES, b->inputs, NULL, attention};
    sets[set]->evolve(sets[set], &steps, b->x, b->work);
}

static void run_extract(void *context, size_t set) {
    struct buffers *b = context;
    const struct cell *extractor = &interest_of(b, set)->extractor;
    size_t units = extractor->units;
    for (size_t i = 0; i < b->steps; i++)
        sets[set]->extract(sets[set], extractor, b->inputs + 3 * units * i, b->x, b->x, b->work);
}

static void run_linear(void *context, size_t set) {
    struct buffers *b = context;
    sets[set]->linear(&layer_of(b, set)->projection, b->blocks, b->work, b->y);
}

static void run_linear_narrow(void *context, size_t set) {
    struct buffers *b = context;
    sets[set]->linear_narrow(sets[set], &layer_of(b, set)->projection, b->candidates, b->work, b->y);
}

/* The derived part of a user state: per step the key part of the attention and the input of the evolution. */
static void run_keys(void *context, size_t set) {
    struct buffers *b = context;
    sets[set]->gemv_rows(&interest_of(b, set)->attention.key_rows, b->steps, b->inputs, b->y);
}

static void run_evolution_inputs(void *context, size_t set) {
    struct buffers *b = context;
    sets[set]->gemv_rows(&interest_of(b, set)->evolution_rows, b->steps, b->inputs, b->y);
}

/* All pairs of a step and one of few candidates, block by block. */
static void run_multiply_pairs(void *context, size_t set) {
    struct buffers *b = context;
    size_t count = b->steps * b->candidates;
    struct pairs pairs = {
        interest_of(b, set)->attention.product.inputs, b->candidates, 0, count, b->inputs, b->work, NULL};
    for (; pairs.first < count; pairs.first += LANES)
        sets[set]->multiply_pairs(&pairs, b->y);
}

static void run_add_pairs(void *context, size_t set) {
    struct buffers *b = context;
    const struct projection *product = &interest_of(b, set)->attention.product;
    const float *scale = product->winograd != NULL ? b->attention : NULL;
    size_t count = b->steps * b->candidates;
    struct pairs pairs = {product->units, b->candidates, 0, count, b->inputs, b->work, scale};
    memset(b->y, 0, product->units * LANES * sizeof(float)); /* it is added to */
    for (; pairs.first < count; pairs.first += LANES)
        sets[set]->add_pairs(&pairs, b->y);
}

static void run_finish(void *context, size_t set) {
    struct buffers *b = context;
    const struct attention *attention = &interest_of(b, set)->attention;
    memcpy(b->x, b->work, attention->product.units * STEPS * LANES * sizeof(float));
    sets[set]->finish(sets[set], attention->layers, attention->layer_count, STEPS, b->x, b->y);
}

static void run_activate(void *context, size_t set) {
    struct buffers *b = context;
    const struct layer *layer = layer_of(b, set);
    memcpy(b->y, b->work, layer->projection.units * b->blocks * LANES * sizeof(float));
    sets[set]->activate(&layer->activation, layer->projection.units, b->blocks, b->y);
}

static void run_attend(void *context, size_t set) {
    struct buffers *b = context;
    const struct projection *product = &interest_of(b, set)->attention.product;
    const float *scale = product->winograd != NULL ? b->inputs : NULL;
    struct attention_steps attention = {product, STEPS, b->inputs, scale, b->inputs, b->inputs, b->inputs};
    sets[set]->attend(sets[set], &attention, b->y, b->work);
}

static void run_dot(void *context, size_t set) {
    struct buffers *b = context;
    sets[set]->dot(sets[set], interest_of(b, set)->attention.query_units, b->work, b->steps, b->inputs, b->y);
}

static void run_softmax(void *context, size_t set) {
    struct buffers *b = context;
    memcpy(b->y, b->work, b->steps * LANES * sizeof(float));
    sets[set]->softmax(b->steps, 1, b->y);
}

static void measure_layer(struct buffers *b, bool mlp, size_t number, size_t blocks) {
    char name[64];
    b->mlp = mlp;
    b->layer = number;
    const struct layer *layer = layer_of(b, 0);
    const char *where = mlp ? "mlp" : "attention";
    double products = 2 * (double)(layer->projection.units * layer->projection.inputs * blocks * LANES);
    b->blocks = blocks;
    snprintf(name, sizeof name, "%s linear %zux%zu blocks %zu", where, layer->projection.units,
             layer->projection.inputs, blocks);
    measure(&(struct task){name, run_linear, b, products});
    if (layer->activation.kind == KERNEL_LINEAR)
        return;
    snprintf(name, sizeof name, "%s activate %zu blocks %zu", where, layer->projection.units, blocks);
    measure(&(struct task){name, run_activate, b, 0});
}

static void measure_few(struct buffers *b, size_t number) {
    static const size_t counts[] = {1, 4, 10};
    b->mlp = true;
    b->layer = number;
    const struct projection *projection = &layer_of(b, 0)->projection;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        char name[64];
        b->candidates = counts[i];
        snprintf(name, sizeof name, "mlp linear_narrow %zux%zu columns %zu", projection->units, projection->inputs,
                 counts[i]);
        measure(&(struct task){name, run_linear_narrow, b,
                               2 * (double)(projection->units * projection->inputs * counts[i])});
    }
}

static void measure_pairs(struct buffers *b) {
    char name[64];
    b->candidates = 4;
    snprintf(name, sizeof name, "multiply_pairs (%zu)", b->steps * b->candidates);
    measure(&(struct task){name, run_multiply_pairs, b, 0});
    snprintf(name, sizeof name, "add_pairs (%zu)", b->steps * b->candidates);
    measure(&(struct task){name, run_add_pairs, b, 0});
}

static void measure_finish(struct buffers *b) {
    const struct attention *attention = &interest_of(b, 0)->attention;
    double products = 0;
    for (size_t i = 1; i < attention->layer_count; i++) {
        const struct projection *projection = &attention->layers[i].projection;
        products += 2 * (double)(projection->units * projection->inputs * STEPS * LANES);
    }
    measure(&(struct task){"finish (8 steps)", run_finish, b, products});
}

/* Rows [rows, inputs] by columns. */
static void measure_rows(struct buffers *b, const char *name, void (*run)(void *context, size_t set),
                         const struct column_projection *projection) {
    char whole[64];
    snprintf(whole, sizeof whole, "%s gemv_rows %zux%zu", name, projection->units, projection->inputs);
    if (projection->units > 0)
        measure(&(struct task){whole, run, b, 2 * (double)(projection->units * projection->inputs * b->steps)});
}

static void measure_kernels(const struct dien_model *const *models, size_t steps) {
    const struct dien_model *model = models[0];
    const struct interest *interest = &model->interests[0];
    const struct attention *attention = &interest->attention;
    size_t units = interest->evolution.units, large = (1 << 19) + steps * 3 * units;
    struct buffers b = {.models = models,
                        .steps = steps,
                        .x = random_floats(large),
                        .y = random_floats(large),
                        .work = random_floats(large),
                        .inputs = random_floats(large),
                        .attention = random_floats(large)};
    double products = 2.0 * (double)(steps * 3 * units * units);
    for (b.blocks = 1; b.blocks <= BLOCKS; b.blocks++) {
        char name[64];
        snprintf(name, sizeof name, "evolve blocks %zu", b.blocks);
        measure(&(struct task){name, run_evolve, &b, products * LANES * (double)b.blocks});
    }
    measure(&(struct task){"extract", run_extract, &b, products});
    if (attention->layer_count > 0)
        measure(&(struct task){"attend (8 steps)", run_attend, &b,
                               2.0 * (double)(attention->product.units * attention->product.inputs * STEPS * LANES)});
    else
        measure(&(struct task){"dot", run_dot, &b, 2.0 * (double)(steps * attention->query_units * LANES)});
    if (attention->layer_count > 0) {
        measure_pairs(&b);
        measure_finish(&b);
    }
    for (size_t i = 1; i < attention->layer_count; i++)
        measure_layer(&b, false, i, STEPS);
    measure(&(struct task){"softmax", run_softmax, &b, 0});
    measure_rows(&b, "keys", run_keys, &attention->key_rows);
    measure_rows(&b, "evolution", run_evolution_inputs, &interest->evolution_rows);
    for (size_t i = 0; i < model->mlp.layer_count; i++) {
        measure_layer(&b, true, i, BLOCKS);
        measure_few(&b, i);
    }
    free(b.x), free(b.y), free(b.work), free(b.inputs), free(b.attention);
}

/* ---- a request ---- */

struct request {
    const struct dien_model *models[SETS_MAX];
    struct dien_scratch *scratch[SETS_MAX];
    struct dien_user *users[SETS_MAX];
    struct dien_columns history;
    struct dien_request request;
    float *scores;
};

static void run_score(void *context, size_t set) {
    struct request *r = context;
    dien_score(r->models[set], r->scratch[set], r->users[set], &r->request, r->scores, NULL);
}

static void run_build(void *context, size_t set) {
    struct request *r = context;
    dien_user_build(r->models[set], r->scratch[set], &r->history, r->users[set]);
}

/* Two categorical columns, items and categories. */
static struct dien_columns random_columns(const struct dien_model *model, enum dien_group group, size_t count) {
    const struct dien_field *const *fields;
    size_t width = dien_fields(model, group, &fields);
    struct dien_column *columns = calloc(width + 1, sizeof *columns);
    for (size_t i = 0; i < width && columns != NULL; i++) {
        int32_t *rows = calloc(count, sizeof *rows);
        for (size_t j = 0; j < count && rows != NULL; j++)
            rows[j] = (int32_t)(drand48() * fields[i]->rows);
        columns[i] = (struct dien_column){.count = count, .rows = rows};
    }
    return (struct dien_columns){columns};
}

/* Products of scoring: attention, evolution, MLP; work that is done once per request is left out. */
static double score_flop(const struct dien_model *model, size_t steps, size_t candidates) {
    const struct interest *interest = &model->interests[0];
    const struct attention *attention = &interest->attention;
    size_t units = interest->evolution.units, each = 3 * units * units;
    each += attention->layer_count > 0 ? attention->product.units * attention->product.inputs : attention->query_units;
    for (size_t i = 1; i < attention->layer_count; i++)
        each += attention->layers[i].projection.units * attention->layers[i].projection.inputs;
    double sum = (double)(steps * each);
    for (size_t i = 0; i < model->mlp.layer_count; i++)
        sum += (double)(model->mlp.layers[i].projection.units * model->mlp.layers[i].projection.inputs);
    return 2 * sum * (double)candidates;
}

static void measure_request(struct request *r, size_t steps, size_t candidates) {
    char name[64];
    const struct dien_model *model = r->models[0];
    size_t bytes = dien_user_bytes(model, &steps);
    r->history = random_columns(model, DIEN_BEHAVIOUR, steps);
    r->request = (struct dien_request){.user = random_columns(model, DIEN_USER, 1),
                                       .context = random_columns(model, DIEN_CONTEXT, 1),
                                       .candidates = random_columns(model, DIEN_CANDIDATE, candidates),
                                       .candidate_count = candidates};
    r->scores = calloc(candidates, sizeof *r->scores);
    for (size_t set = 0; set < set_count; set++) {
        r->users[set] = aligned_alloc(DIEN_ALIGNMENT, (bytes + DIEN_ALIGNMENT - 1) / DIEN_ALIGNMENT * DIEN_ALIGNMENT);
        run_build(r, set);
    }
    snprintf(name, sizeof name, "score T=%zu C=%zu", steps, candidates);
    measure(&(struct task){name, run_score, r, score_flop(model, steps, candidates)});
    snprintf(name, sizeof name, "build T=%zu", steps);
    if (candidates == 100)
        measure(&(struct task){name, run_build, r, 0});
}

/* The model once for each set of kernels that this machine can run. */
static bool open_models(const char *directory, struct request *request) {
    for (; set_count < SETS_MAX && (sets[set_count] = kernels_available(set_count)) != NULL; set_count++) {
        struct dien_error error = {""};
        setenv("DIEN_ISA", sets[set_count]->name, 1);
        request->models[set_count] = dien_open(directory, &error);
        if (request->models[set_count] == NULL) {
            fprintf(stderr, "%s: %s\n", directory, error.message);
            return false;
        }
        request->scratch[set_count] = dien_scratch_new(request->models[set_count]);
    }
    return set_count > 0;
}

int main(int count, char **arguments) {
    struct request request = {0};
    for (int i = 2; i + 1 < count; i += 2)
        if (strcmp(arguments[i], "--repeats") == 0)
            repeats = strtoul(arguments[i + 1], NULL, 10);
        else if (strcmp(arguments[i], "--csv") == 0)
            csv = fopen(arguments[i + 1], "w");
    if (count < 2 || arguments[1] == NULL || repeats < 1 || repeats > REPEATS_MAX) {
        fprintf(stderr, "kernels MODEL_DIRECTORY [--repeats 1..%d] [--csv FILE]\n", REPEATS_MAX);
        return 2;
    }
    if (!open_models(arguments[1], &request))
        return 1;
    assert(request.models[0] != NULL); /* ref always runs */
    measure_peak();
    printf("%-34s %-9s %10s %10s %9s %7s\n", "", "kernels", "median us", "least us", "GFLOP/s", "% peak");
    if (csv != NULL)
        fprintf(csv, "task,kernels,median_us,least_us,gflops,percent_of_peak\n");
    measure_kernels(request.models, 100);
    static const size_t shapes[][2] = {{100, 1},  {100, 4},  {100, 8},   {100, 10},
                                       {100, 16}, {100, 17}, {100, 100}, {50, 100}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        measure_request(&request, shapes[i][0], shapes[i][1]);
    return csv != NULL && fclose(csv) != 0;
}
