/* safetensors.h: a .safetensors file mapped read-only: header checked, tensors found by name.
 *
 * Opening reads the header alone. Every tensor is proved to lie in the file. Replace a model file by renaming a new one
 * over it, never by writing in place: a mapped file that shrinks kills the process that reads it.
 */
#ifndef MODEL_FORMAT_SAFETENSORS_H
#define MODEL_FORMAT_SAFETENSORS_H

#include "model/types.h"

enum tensor_type { TENSOR_F32, TENSOR_F16, TENSOR_BF16, TENSOR_I8, TENSOR_U8, TENSOR_I32, TENSOR_I64, TENSOR_U64 };
enum { TENSOR_RANK_MAX = 4 };

struct tensor {
    char *name;
    enum tensor_type type;
    size_t rank;
    size_t shape[TENSOR_RANK_MAX];
    const void *data; /* in the mapping, aligned to its element */
    size_t bytes;
    bool used; /* safetensors_find() returned it */
};

struct safetensors {
    void *map;
    size_t size;
    size_t count;
    struct tensor *tensors; /* in the order of their data */
};

/* Map and check the open file of `size` bytes; with `copy` its bytes are read into memory in place of being mapped, and
 * the file may then change. The descriptor stays the caller's, who may close it; `path` names the file in errors. False
 * on error; call safetensors_close() in either case. */
bool safetensors_take(struct safetensors *file, int descriptor, size_t size, bool copy, const char *path,
                      struct dien_error *error);
/* safetensors_take() of the file PATH, mapped. */
bool safetensors_open(struct safetensors *file, const char *path, struct dien_error *error);
void safetensors_close(struct safetensors *file);

/* Reads at most so many bytes of the file's start into memory and enters them in the process's page table, so that the
 * first use of a tensor does not wait for the disk. Takes as long as the disk takes. Returns the bytes; less when the
 * file cannot be read. */
size_t safetensors_prefault(const struct safetensors *file, size_t most);

/* The tensor of that name, marked as used, or NULL. */
const struct tensor *safetensors_find(struct safetensors *file, const char *name);
/* The first tensor that is not marked as used, or NULL. */
const struct tensor *safetensors_unused(const struct safetensors *file);

const char *tensor_type_name(enum tensor_type type);

#endif
