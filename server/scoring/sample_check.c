/* sample_check.c: score a model's samples before it goes live. */
#include "server/scoring/sample_check.h"

#include "proto/json_decode.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAMPLES_MAX_BYTES = 256 << 20 };

static bool fail(struct samples_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool fail(struct samples_report *report, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->message, sizeof report->message, format, arguments);
    va_end(arguments);
    return false;
}

/* The whole file, malloc'ed. NULL on error. */
static char *read_file(const char *path, size_t *size, struct samples_report *report) {
    struct stat status;
    char *text = NULL;
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer would block */
    if (descriptor < 0) {
        fail(report, "%s: cannot open: %s", path, strerror(errno));
        return NULL;
    }
    if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size > SAMPLES_MAX_BYTES) {
        fail(report, "%s: not a regular file of at most %d bytes", path, SAMPLES_MAX_BYTES);
    } else {
        *size = (size_t)status.st_size;
        text = malloc(*size + 1);
        ssize_t got = text != NULL ? read(descriptor, text, *size) : -1;
        if (got < 0 || (size_t)got != *size) {
            free(text);
            text = NULL;
            fail(report, "%s: cannot read its %zu bytes", path, *size);
        }
    }
    close(descriptor);
    return text;
}

/* Scores one sample and compares. The decoder has made sure that there are as many scores as candidates. */
static bool prove(struct scorer *scorer, const struct proto_sample *sample, size_t place, double tolerance,
                  struct samples_report *report) {
    struct request request = {.decoded = sample->request};
    if (!request_run(scorer, &request))
        return fail(report, "samples.json: /samples/%zu%s: %s", place, request.problem.pointer, request.problem.detail);
    size_t count = request.resolved.candidate_count;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)request.scores[i] - sample->scores[i]);
        report->largest = fmax(report->largest, difference);
        report->scores++;
        if (!(difference <= tolerance))
            return fail(report,
                        "samples.json: sample %zu, candidate %zu: this server scores %.9g, the training code %.9g; "
                        "they differ by %.3g, "
                        "more than %.3g",
                        place, i, (double)request.scores[i], sample->scores[i], difference, tolerance);
    }
    report->samples++;
    return true;
}

/* The decoded samples live in `memory`; the scorer's own arena starts afresh with each. */
static bool prove_all(struct scorer *scorer, const char *text, size_t size, double tolerance, struct arena *memory,
                      struct samples_report *report) {
    const struct proto_sample *samples;
    size_t count;
    struct problem problem = {0};
    if (!json_decode_samples(text, size, memory, &samples, &count, &problem))
        return fail(report, "samples.json: %s%s%s", problem.pointer, *problem.pointer != '\0' ? ": " : "",
                    problem.detail);
    for (size_t i = 0; i < count; i++) {
        arena_reset(&scorer->arena);
        if (!prove(scorer, &samples[i], i, tolerance, report))
            return false;
    }
    return true;
}

bool samples_prove_text(struct scorer *scorer, const char *text, size_t size, double tolerance,
                        struct samples_report *report) {
    struct arena memory;
    *report = (struct samples_report){0};
    arena_init(&memory, 0, 0);
    bool good = prove_all(scorer, text, size, tolerance, &memory, report);
    arena_free(&memory);
    return good;
}

bool samples_prove(struct scorer *scorer, const char *directory, double tolerance, struct samples_report *report) {
    char path[PATH_MAX];
    size_t size;
    *report = (struct samples_report){0};
    int length = snprintf(path, sizeof path, "%s/samples.json", directory);
    if (length < 0 || (size_t)length >= sizeof path)
        return fail(report, "%.100s...: the path is too long", directory);
    char *text = read_file(path, &size, report);
    if (text == NULL)
        return false;
    bool good = samples_prove_text(scorer, text, size, tolerance, report);
    free(text);
    return good;
}
