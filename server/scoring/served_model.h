/* served_model.h: a model that requests are scored with: its identity, each scoring thread's scratch, and a count of
 * those who use it.
 *
 * A request holds a reference from its beginning to its reply, so that a model may be replaced meanwhile. All fields
 * but the count are constant once other threads know the model.
 */
#ifndef SERVER_SCORING_SERVED_MODEL_H
#define SERVER_SCORING_SERVED_MODEL_H

#include "model/dien.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum { SHA256_TEXT = 65, MODEL_TAG_TEXT = 34 };

struct served_model {
    struct dien_model *model;
    char config_sha256[SHA256_TEXT];  /* of config.json, in hexadecimal digits */
    char weights_sha256[SHA256_TEXT]; /* of model.safetensors */
    char tag[MODEL_TAG_TEXT];         /* the first 16 digits of each: the identity in a reply's header */
    struct timespec file_times[2];    /* last status change of config.json and model.safetensors, */
    uint64_t file_numbers[4];         /* and their devices and inodes: unchanged, the files are the same */
    char loaded_at[32];               /* RFC 3339 */
    const char *loaded_by;            /* a literal */
    uint64_t version;                 /* of its user states: equal for equal files */
    size_t prefaulted_bytes;          /* of its file, read before it was ready */
    double prefault_seconds, load_seconds;
    size_t threads;
    struct dien_scratch **scratches; /* [threads] */
    _Atomic size_t references;
    /* Called by whoever gives the last reference back, on any thread, in place of served_model_close(). May be NULL. */
    void (*unused)(void *context, struct served_model *served);
    void *context;
    struct served_model *next; /* for lists of unused models */
};

/* A model with one reference, and a scratch for each of `threads` threads. Takes the model over. NULL when memory is
 * out: then the model is closed. */
struct served_model *served_model_new(struct dien_model *model, size_t threads);

/* One more user of it. Returns it. */
struct served_model *served_model_hold(struct served_model *served);
/* One user less. NULL is allowed. */
void served_model_release(struct served_model *served);

/* Frees it, which takes some milliseconds for a large one. Nobody may use it any more. */
void served_model_close(struct served_model *served);

#endif
