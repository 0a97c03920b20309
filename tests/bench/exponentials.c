/* exponentials.c: the error of the vectorised exponential and of the functions that use it against double, over all
 * floats.
 *
 *   exponentials [--stride N] [--only FUNCTION] [--csv FILE]
 *
 * Every N-th bit pattern of a float32, by default every one: subnormals, zeros of both signs, infinities. What is not a
 * number must give that, and stops the program where it does not. tests/support/exponentials.h has the functions and
 * their bounds, which tests/unit/test_exponentials.c holds the kernels to. The error in proportion is what it is beyond
 * EXPONENT_SLOPE |x|.
 */
#include "tests/support/exponentials.h"
#include "tests/bench/bench.h"

enum { SETS_MAX = 8 };

/* The largest of something, and the x where it is. */
struct most {
    double value;
    float at;
};

static void take(struct most *most, double value, float at) {
    if (!(value <= most->value))
        *most = (struct most){value, at};
}

/* Of one function, of one set of kernels. */
struct found {
    struct most error, proportion, fall;
    double last; /* value at the x before */
};

static void look(const struct exponential *function, float x, double expected, double got, struct found *found) {
    double size = function->grows ? fmax(1, fabs((double)x)) : 1;
    require(!isnan(x) || isnan(got), "NaN gives NaN");
    require(isfinite(expected) == isfinite(got), "nothing else does");
    if (!isfinite(expected))
        return;
    take(&found->error, fabs(got - expected) / size, x);
    if (function->proportion < INFINITY && (double)x >= function->from)
        take(&found->proportion, fabs(got / expected - 1) - EXPONENT_SLOPE * fabs((double)x), x);
}

/* Positive patterns grow with x, negative ones fall. */
static void look_at_order(float x, double got, struct found *found) {
    if (!isnan(got) && !isnan(found->last))
        take(&found->fall, signbit(x) ? got - found->last : found->last - got, x);
    found->last = got;
}

static void measure(const struct exponential *function, const struct kernels **sets, size_t set_count, uint64_t stride,
                    struct found *found) {
    static float x[CHUNK];
    static double expected[CHUNK], got[CHUNK];
    for (size_t set = 0; set < set_count; set++)
        found[set] = (struct found){.last = NAN};
    for (uint64_t first = 0; first < 1ULL << 32; first += CHUNK * stride) {
        for (size_t i = 0; i < CHUNK; i++) {
            uint64_t wide = first + i * stride;
            uint32_t bits = wide < 1ULL << 32 ? (uint32_t)wide : UINT32_MAX; /* past the last: not a number */
            memcpy(&x[i], &bits, sizeof bits);
            expected[i] = function->exact((double)x[i], i);
        }
        for (size_t set = 0; set < set_count; set++) {
            function->compute(sets[set], x, got);
            for (size_t i = 0; i < CHUNK; i++) {
                look(function, x[i], expected[i], got[i], &found[set]);
                if (function->monotone)
                    look_at_order(x[i], got[i], &found[set]);
            }
        }
    }
}

static void print_found(const struct exponential *function, const struct kernels *kernels, const struct found *found,
                        FILE *csv) {
    printf("%-12s %-9s %10.3g at %-14.9g %10.3g at %-14.9g %10.3g at %-14.9g\n", function->name, kernels->name,
           found->error.value, (double)found->error.at, found->proportion.value, (double)found->proportion.at,
           found->fall.value, (double)found->fall.at);
    fflush(stdout);
    if (csv != NULL)
        fprintf(csv, "%s,%s,%.4g,%.9g,%.4g,%.9g,%.4g,%.9g\n", function->name, kernels->name, found->error.value,
                (double)found->error.at, found->proportion.value, (double)found->proportion.at, found->fall.value,
                (double)found->fall.at);
}

int main(int count, char **arguments) {
    (void)count;
    const struct kernels *sets[SETS_MAX];
    size_t set_count = 0;
    const char *path = text_option(arguments, "--csv", NULL);
    FILE *csv = path != NULL ? fopen(path, "w") : NULL;
    uint64_t stride = (uint64_t)number_option(arguments, "--stride", 1);
    require((path == NULL || csv != NULL) && stride > 0, "the CSV can be written and the stride is positive");
    for (size_t i = 0; set_count < SETS_MAX && (sets[set_count] = kernels_available(i)) != NULL; i++)
        set_count += strcmp(sets[set_count]->name, "openblas") != 0; /* its functions are the reference's */
    printf("%-12s %-9s %-28s %-28s %-28s\n", "", "kernels", "largest error", "in proportion", "largest fall");
    if (csv != NULL)
        fprintf(csv,
                "function,kernels,largest_error,at,largest_error_in_proportion,proportion_at,largest_fall,fall_at\n");
    for (size_t i = 0; i < EXPONENTIALS; i++) {
        struct found found[SETS_MAX];
        if (strcmp(text_option(arguments, "--only", exponentials[i].name), exponentials[i].name) != 0)
            continue;
        measure(&exponentials[i], sets, set_count, stride, found);
        for (size_t set = 0; set < set_count; set++)
            print_found(&exponentials[i], sets[set], &found[set], csv);
    }
    return csv != NULL && fclose(csv) != 0;
}
