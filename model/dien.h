/* dien.h: the one door to the model library: open a model directory, build a user's interest states, score candidates.
 *
 * The network is the Deep Interest Evolution Network of Zhou et al., AAAI 2019 (arXiv 1809.03672), with the variants
 * that model/FORMAT.md describes. Equation numbers are the paper's. Dimensions: T history length, C candidates, E width
 * of an embedded behaviour, H extractor units.
 *
 * Threads: a model is immutable once open and shared by all threads. A scratch belongs to one thread at a time. A user
 * state is immutable once built, position independent (memcpy moves it) and may be read by many threads.
 *
 * Promise: a candidate's score has the same bits whatever other candidates are scored with it, and whether the user
 * state was built at once or extended step by step.
 */
#ifndef DIEN_H
#define DIEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dien_model;   /* shape and weights, read-only */
struct dien_scratch; /* one thread's working memory */
struct dien_user;    /* what one history yields under one model */

/* Alignment that user memory must have, and the unit that sizes are rounded to. */
enum { DIEN_ALIGNMENT = 64 };

/* An error as a value: what is wrong, and in which file, key or tensor. */
struct dien_error {
    char message[512];
};

enum dien_group { DIEN_USER, DIEN_CONTEXT, DIEN_BEHAVIOUR, DIEN_CANDIDATE, DIEN_GROUPS };

enum dien_field_kind {
    DIEN_INDEX,              /* categorical, ids are integers from 0 */
    DIEN_INTEGER_VOCABULARY, /* categorical, ids are integers, looked up */
    DIEN_STRING_VOCABULARY,  /* categorical, ids are strings, looked up */
    DIEN_DENSE               /* width numbers */
};

/* A field as a client sees it. Owned by the model. */
struct dien_field {
    const char *name;
    enum dien_field_kind kind;
    uint32_t width;                  /* dense: numbers a value; categorical: width of its embedding */
    int32_t rows;                    /* categorical: rows of its table */
    const struct dien_field *parent; /* the field that this one is an attribute of, or NULL */
    size_t index;                    /* its place in the model's list of fields */
};

/* One field's values: for a categorical field its table rows, for a dense one count * width numbers. The other is NULL.
 * Rows come from dien_row_of_integer() and its siblings; any other value must be in [0, field->rows). */
struct dien_column {
    size_t count;
    const int32_t *rows;
    const float *values;
};

/* One group's columns, in the order of dien_fields(). The columns that one interest reads have one count; user and
 * context columns have count 1; candidate columns have count C. */
struct dien_columns {
    const struct dien_column *column;
};

/* An interest as a client sees it. Owned by the model. */
struct dien_interest {
    const char *name;
    size_t max_length;
    const size_t *history; /* places of the fields it reads within the behaviour group */
    size_t history_count;
    bool attends; /* it has attention scores to explain */
};

/* Open a model directory: map, validate and pack it. NULL on error, and then *error says why. The caller closes it when
 * no scratch or user state of it is in use. */
struct dien_model *dien_open(const char *directory, struct dien_error *error);

enum dien_precision { DIEN_FLOAT32, DIEN_REDUCED };

/* What a model that was opened as DIEN_REDUCED leaves out, on this CPU (tests/bench/precision.md has what it is worth).
 */
struct dien_reduction {
    bool products; /* products of the attention network and of the evolution are of 16-bit integers */
    bool int8;     /* some of the attention network's of 8-bit integers, where their noise is small */
};

/* The same, with the arithmetic reduced where that makes scoring faster. The promises hold but for the differences of
 * scores: they are within DIEN_REDUCED_TOLERANCE of the training code's for the models that the tests have, which
 * samples.json proves for the model at hand. A model, or a CPU, for which nothing pays is opened as DIEN_FLOAT32. */
#define DIEN_REDUCED_TOLERANCE 1e-3
struct dien_model *dien_open_as(const char *directory, enum dien_precision precision, struct dien_error *error);
struct dien_reduction dien_reduced(const struct dien_model *model);
/* "float32", "int16 products", or "int16 and int8 products". */
const char *dien_precision_name(const struct dien_model *model);
void dien_close(struct dien_model *model);

const char *dien_name(const struct dien_model *model);
const char *dien_version(const struct dien_model *model);
/* Bytes mapped from the file, and bytes packed for the kernels. */
size_t dien_mapped_bytes(const struct dien_model *model);
size_t dien_packed_bytes(const struct dien_model *model);

/* The fields of one group, in the order that columns are given in. */
size_t dien_fields(const struct dien_model *model, enum dien_group group, const struct dien_field *const **fields);
/* All fields of the model, each once; dien_field.index is below it. */
size_t dien_field_count(const struct dien_model *model);
size_t dien_interests(const struct dien_model *model, const struct dien_interest **interests);

/* The row of an id; *known is false where it took the unknown row. The id's type must fit field->kind; an index is >=
 * 0. */
int32_t dien_row_of_integer(const struct dien_model *model, const struct dien_field *field, int64_t id, bool *known);
int32_t dien_row_of_string(const struct dien_model *model, const struct dien_field *field, const char *id,
                           size_t length, bool *known);
/* An attribute's row, or its width numbers, given its parent's row. */
int32_t dien_attribute_row(const struct dien_model *model, const struct dien_field *field, int32_t parent_row);
const float *dien_attribute_values(const struct dien_model *model, const struct dien_field *field, int32_t parent_row);

/* Working memory for one thread, enough for any history and any number of candidates. NULL when memory is out. */
struct dien_scratch *dien_scratch_new(const struct dien_model *model);
void dien_scratch_free(struct dien_scratch *scratch);
size_t dien_scratch_bytes(const struct dien_scratch *scratch);

/* Bytes of the user state of a history with counts[i] behaviours in interest i (before the cut to max_length). */
size_t dien_user_bytes(const struct dien_model *model, const size_t *counts);

/* Build the state of a history (paper section 4.3: embed, then the interest extractor GRU) in memory of
 * dien_user_bytes() aligned to DIEN_ALIGNMENT. Returns memory, as a user state. */
struct dien_user *dien_user_build(const struct dien_model *model, struct dien_scratch *scratch,
                                  const struct dien_columns *history, void *memory);

/* What a cache needs to keep of a state is its core, the first dien_user_core_bytes() bytes: the behaviours and their
 * h_t. Wherever `core` is asked for, a whole state will do. */
size_t dien_user_core_bytes(const struct dien_user *user);
/* The whole state again, in memory of dien_user_size(core): the same bits that it was built with. */
struct dien_user *dien_user_restore(const struct dien_model *model, const struct dien_user *core, void *memory);

/* What a state knows of a history: the behaviours that it keeps, compared one by one with those that the history would
 * keep. Where interests differ, the last that applies. */
enum dien_match {
    DIEN_SAME,    /* all: the state is the history's */
    DIEN_PREFIX,  /* its first ones, and none was cut off: dien_user_continue() */
    DIEN_SHORTER, /* the state has more */
    DIEN_SLID,    /* the window has moved on */
    DIEN_OTHER
};
enum dien_match dien_user_compare(const struct dien_model *model, const struct dien_user *core,
                                  const struct dien_columns *history);

/* dien_user_build() for a history of which `core` knows a DIEN_PREFIX: only the new behaviours are computed. The same
 * bits. */
struct dien_user *dien_user_continue(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *history, void *memory);

enum dien_extension {
    DIEN_EXTENDED,  /* only the new behaviours were computed */
    DIEN_RECOMPUTED /* the window slid: the kept end was computed from its start, as training saw it */
};

/* The state of the history of `core` with `more` appended to it, in memory sized by dien_user_extended_bytes(); `core`
 * stays as it is. */
size_t dien_user_extended_bytes(const struct dien_model *model, const struct dien_user *core,
                                const struct dien_columns *more);
enum dien_extension dien_user_extend(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *more, void *memory);

/* Behaviours of interest i that the state holds (at most max_length). */
size_t dien_user_length(const struct dien_user *user, size_t interest);
/* Behaviours of the whole history, those that were cut off included. */
size_t dien_user_received(const struct dien_user *user, size_t interest);
size_t dien_user_size(const struct dien_user *user); /* its bytes */

/* What one scoring call reads besides the user state. */
struct dien_request {
    struct dien_columns user;
    struct dien_columns context;
    struct dien_columns candidates;
    size_t candidate_count; /* C */
};

/* Score C candidates: attention (eq. 8), AUGRU (eq. 9-10), MLP. scores is [C], each in (0, 1).
 * attention is NULL, or one array [C, T_i] per interest that attends, for the attention scores a_t of each candidate
 * over the kept behaviours, oldest first. Allocates nothing. */
void dien_score(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                const struct dien_request *request, float *scores, float *const *attention);

/* The same for candidates first .. first + count alone: the request, scores and attention are whole, and only what
 * belongs to the range is written. Threads may score different ranges of one request at once, each with a scratch of
 * its own; a score has the same bits however the candidates are divided. A range that starts at a multiple of
 * DIEN_BATCH and has as many costs least. */
enum { DIEN_BATCH = 32 };
void dien_score_range(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                      const struct dien_request *request, size_t first, size_t count, float *scores,
                      float *const *attention);

/* Kernels: chosen once, at the first call, by what the CPU has, or by name through the environment variable DIEN_ISA.
 * NULL when DIEN_ISA names a set that this build or CPU lacks; *error lists what there is. */
const char *dien_kernels_name(struct dien_error *error);

/* The value that OPENBLAS_CORETYPE should have on this CPU, or NULL when OpenBLAS chose well by itself or is not used.
 * OpenBLAS reads it when it is loaded, so a program that wants it sets the variable and runs itself anew before
 * anything else. */
const char *dien_blas_better_core(void);
const char *dien_blas_core(void); /* the core type in use */

#endif
