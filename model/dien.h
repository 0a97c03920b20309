/* dien.h: the one door to the model library: open a model directory, build a user's state, score candidates.
 *
 * The network is the Deep Interest Evolution Network of Zhou et al., AAAI 2019 (arXiv 1809.03672), with the variants
 * that model/FORMAT.md describes. Equation numbers are the paper's. Dimensions: T history length, C candidates, E width
 * of an embedded behaviour, H extractor units.
 *
 * Threads: a model is immutable once open and shared by all threads. A scratch belongs to one thread at a time. A user
 * state is immutable once built, may be read by many threads, and may be moved by memcpy.
 *
 * Promise: a candidate's score has the same bits whatever other candidates are scored with it, and whether the user
 * state was built at once, extended step by step, or restored.
 */
#ifndef DIEN_H
#define DIEN_H

#include "model/types.h"

struct dien_model;   /* shape and weights, read-only */
struct dien_scratch; /* one thread's working memory */
struct dien_user;    /* a history's state under one model */

enum dien_field_kind {
    DIEN_INDEX,              /* categorical, ids are integers from 0 */
    DIEN_INTEGER_VOCABULARY, /* categorical, ids are integers, looked up */
    DIEN_STRING_VOCABULARY,  /* categorical, ids are strings, looked up */
    DIEN_DENSE               /* width numbers */
};
enum { DIEN_FIELD_KINDS = DIEN_DENSE + 1 };

/* A field as a client sees it. Owned by the model. */
struct dien_field {
    const char *name;
    enum dien_field_kind kind;
    uint32_t width;                  /* dense: numbers a value; categorical: width of its embedding */
    int32_t rows;                    /* categorical: rows of its table */
    uint32_t values;                 /* of a multi-valued field at most; 0: it has a single value */
    const struct dien_field *parent; /* the field that this one is an attribute of, or NULL */
    size_t index;                    /* in the model's list of fields, below dien_field_count() */
};

/* One field's values: table rows of a categorical field, or count * width numbers of a dense one. The other pointer is
 * NULL. Rows are in [0, field->rows); dien_row_of_integer() and its siblings return such rows. A multi-valued field has
 * count * values rows, of which those that are -1 stand for no value. */
struct dien_column {
    size_t count;
    const int32_t *rows;
    const float *values;
};

/* One group's columns, in the order of dien_fields(). All columns that an interest reads have equal counts; user and
 * context columns have count 1; candidate columns have count C. */
struct dien_columns {
    const struct dien_column *column;
};

/* An interest as a client sees it. Owned by the model. */
struct dien_interest {
    const char *name;
    size_t max_length;
    const size_t *history; /* indices into the behaviour group: the fields that it reads */
    size_t history_count;
    bool attends;     /* it has attention scores to explain */
    bool keeps_first; /* of a longer history, the first max_length behaviours in place of the last */
};

/* Open a model directory: map, validate and pack it. NULL on error, and then *error says why. The caller closes the
 * model when none of its scratches and user states is in use. */
struct dien_model *dien_open(const char *directory, struct dien_error *error);

/* dien_open(), with arithmetic in reduced precision if that is faster for this model on this CPU. Scores then differ
 * from the training code's by up to DIEN_REDUCED_TOLERANCE for the models of the tests; samples.json proves it for the
 * model at hand. The promise of equal bits holds. */
#define DIEN_REDUCED_TOLERANCE 1e-3
struct dien_model *dien_open_as(const char *directory, enum dien_precision precision, struct dien_error *error);

/* The files of a model directory, opened by the caller, so that all of them are read through the descriptors that were
 * opened, whatever becomes of their names. All stay the caller's, and are not needed after the call. */
enum { DIEN_CONFIG_BYTES_MAX = 64 << 20 };
struct dien_source {
    const char *directory; /* names the files in errors */
    const char *config;    /* the text of config.json */
    size_t config_size;
    int weights; /* a descriptor of model.safetensors, a regular file */
    size_t weights_size;
    bool copy; /* read the weights into memory in place of mapping them */
};
struct dien_model *dien_open_source(const struct dien_source *source, enum dien_precision precision,
                                    struct dien_error *error);
struct dien_reduction dien_reduced(const struct dien_model *model);
/* "float32", "int16 products", or "int16 and int8 products". */
const char *dien_precision_name(const struct dien_model *model);
void dien_close(struct dien_model *model);

const char *dien_name(const struct dien_model *model);
const char *dien_version(const struct dien_model *model);
/* Bytes mapped from the file, and bytes packed for the kernels. */
size_t dien_mapped_bytes(const struct dien_model *model);
size_t dien_packed_bytes(const struct dien_model *model);

/* Reads at most so many bytes of the mapped file into memory, so that the first requests need not wait for the disk;
 * returns how many were read. Takes as long as the disk takes. */
size_t dien_prefault(const struct dien_model *model, size_t most);

/* The fields of one group, in the order that columns are given in. */
size_t dien_fields(const struct dien_model *model, enum dien_group group, const struct dien_field *const **fields);
/* The number of fields of all groups, each counted once. */
size_t dien_field_count(const struct dien_model *model);
size_t dien_interests(const struct dien_model *model, const struct dien_interest **interests);

/* The row of an id, whose type must fit field->kind. If the id has no row, *known is false and the row is the unknown
 * row. */
int32_t dien_row_of_integer(const struct dien_model *model, const struct dien_field *field, int64_t id, bool *known);
int32_t dien_row_of_unsigned(const struct dien_model *model, const struct dien_field *field, uint64_t id, bool *known);
int32_t dien_row_of_string(const struct dien_model *model, const struct dien_field *field, const char *id,
                           size_t length, bool *known);
int32_t dien_unknown_row(const struct dien_model *model, const struct dien_field *field);
/* An id that dien_row_of_integer() and its siblings find again in this row. False: the row is no id's, such as a row
 * for the unknown. A string belongs to the model and has no NUL at its end. */
enum dien_id_kind { DIEN_ID_INTEGER, DIEN_ID_UNSIGNED, DIEN_ID_STRING };
struct dien_id {
    enum dien_id_kind kind;
    int64_t integer; /* DIEN_ID_UNSIGNED: the bits of a uint64_t */
    const char *string;
    size_t length; /* bytes */
};
bool dien_id_of_row(const struct dien_model *model, const struct dien_field *field, int32_t row, struct dien_id *id);
/* An attribute's row, or its width numbers, given its parent's row. */
int32_t dien_attribute_row(const struct dien_model *model, const struct dien_field *field, int32_t parent_row);
/* The `values` rows of a multi-valued attribute. */
const int32_t *dien_attribute_rows(const struct dien_model *model, const struct dien_field *field, int32_t parent_row);
const float *dien_attribute_values(const struct dien_model *model, const struct dien_field *field, int32_t parent_row);

/* Working memory for one thread, enough for any history and any number of candidates. NULL when memory is out. */
struct dien_scratch *dien_scratch_new(const struct dien_model *model);
void dien_scratch_free(struct dien_scratch *scratch);

/* Bytes of the state of a history with counts[i] behaviours in interest i, before the cut to max_length. */
size_t dien_user_bytes(const struct dien_model *model, const size_t *counts);

/* Build the state of a history (paper section 4.3: embed, then the interest extractor GRU) in memory of
 * dien_user_bytes(), aligned to DIEN_ALIGNMENT. Returns the memory as a user state. */
struct dien_user *dien_user_build(const struct dien_model *model, struct dien_scratch *scratch,
                                  const struct dien_columns *history, void *memory);

/* A cache needs to keep only the core of a state, its first dien_user_core_bytes() bytes: the behaviours and their h_t.
 * A parameter `core` may be a core or a whole state. */
size_t dien_user_core_bytes(const struct dien_user *user);
/* Restore the whole state, bit for bit, in memory of dien_user_size(core). */
struct dien_user *dien_user_restore(const struct dien_model *model, const struct dien_user *core, void *memory);

/* The relation of a state to a history, by the behaviours that each keeps, compared one by one. If the
 * interests' results differ, the one furthest down this list counts. */
enum dien_match {
    DIEN_SAME,    /* the state is the history's */
    DIEN_PREFIX,  /* the state has the first behaviours and none was cut off: dien_user_continue() applies */
    DIEN_SHORTER, /* the history has the first behaviours of the state */
    DIEN_SLID,    /* the history's window has moved on */
    DIEN_OTHER
};
enum dien_match dien_user_compare(const struct dien_model *model, const struct dien_user *core,
                                  const struct dien_columns *history);

/* dien_user_build(), bit for bit, for a history of which `core` is a DIEN_PREFIX: only the new behaviours are computed.
 */
struct dien_user *dien_user_continue(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *history, void *memory);

enum dien_extension {
    DIEN_EXTENDED,  /* only the new behaviours were computed */
    DIEN_RECOMPUTED /* the window slid: the kept end was computed from its start, as training saw it */
};

/* Build the state of the history of `core` with `more` appended, in memory of dien_user_extended_bytes(). `core` does
 * not change. */
size_t dien_user_extended_bytes(const struct dien_model *model, const struct dien_user *core,
                                const struct dien_columns *more);
enum dien_extension dien_user_extend(const struct dien_model *model, struct dien_scratch *scratch,
                                     const struct dien_user *core, const struct dien_columns *more, void *memory);

/* Behaviours of interest i that the state holds (at most max_length). */
size_t dien_user_length(const struct dien_user *user, size_t interest);
/* Behaviours of the whole history, including those cut off. */
size_t dien_user_received(const struct dien_user *user, size_t interest);
/* The values of the behaviours that interest i holds, oldest first: of the field that stands at place `field` of its
 * `history`. They lie in the state's core. */
struct dien_column dien_user_values(const struct dien_model *model, const struct dien_user *core, size_t interest,
                                    size_t field);
/* For a history of which the model got the end only: its behaviours are so many. */
void dien_user_set_received(struct dien_user *user, size_t interest, size_t received);
/* Bytes of the whole state. */
size_t dien_user_size(const struct dien_user *user);

/* The input of one scoring call besides the user state. */
struct dien_request {
    struct dien_columns user;
    struct dien_columns context;
    struct dien_columns candidates;
    size_t candidate_count; /* C */
};

/* Score C candidates: attention (eq. 8), AUGRU (eq. 9-10), MLP. scores is [C], each in (0, 1). attention is NULL, or
 * has for each interest that attends an array [C, T_i] or NULL: the attention scores a_t of each candidate over the
 * kept behaviours, oldest first. Allocates nothing. */
void dien_score(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                const struct dien_request *request, float *scores, float *const *attention);

/* dien_score() for candidates first .. first + count alone. The request, scores and attention are whole; only the
 * elements of the range are written. Threads may score different ranges of one request at once, each with a scratch of
 * its own; a score has the same bits however the candidates are divided. Ranges of DIEN_BATCH candidates that start at
 * a multiple of it cost least. */
enum { DIEN_BATCH = 32 };
void dien_score_range(const struct dien_model *model, struct dien_scratch *scratch, const struct dien_user *user,
                      const struct dien_request *request, size_t first, size_t count, float *scores,
                      float *const *attention);

/* The name of the kernels in use: the best for this CPU, or those that the environment variable DIEN_ISA names. NULL if
 * this build or this CPU lacks those; *error then lists the names it has. */
const char *dien_kernels_name(struct dien_error *error);

/* The value that OPENBLAS_CORETYPE should have on this CPU; NULL if OpenBLAS chose well by itself or is not used.
 * OpenBLAS reads the variable when it is loaded, so a program sets it and executes itself again before anything else.
 */
const char *dien_blas_better_core(void);
const char *dien_blas_core(void); /* the core type in use */

#endif
