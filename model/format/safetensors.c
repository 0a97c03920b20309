/* safetensors.c: map a .safetensors file and check its header against its size. */
#include "model/format/safetensors.h"

#include "model/format/error.h"
#include "model/format/file.h"

#include <endian.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(BYTE_ORDER == LITTLE_ENDIAN, "tensors are used as they lie in the file");

enum { HEADER_LIMIT = 64 << 20 }; /* bytes; a header of a model is a few kB */

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [TENSOR_F32] = {"F32", 4}, [TENSOR_F16] = {"F16", 2}, [TENSOR_BF16] = {"BF16", 2}, [TENSOR_I8] = {"I8", 1},
    [TENSOR_U8] = {"U8", 1},   [TENSOR_I32] = {"I32", 4}, [TENSOR_I64] = {"I64", 8},
};

const char *tensor_type_name(enum tensor_type type) {
    return types[type].name;
}

static bool map_file(struct safetensors *file, const char *path, struct dien_error *error) {
    int descriptor = file_open(path, &file->size, error);
    if (descriptor < 0)
        return false;
    if (file->size >= 8) {
        void *map = mmap(NULL, file->size, PROT_READ, MAP_SHARED, descriptor, 0);
        file->map = map != MAP_FAILED ? map : NULL;
        if (map == MAP_FAILED)
            dien_fail(error, "%s: cannot map: %s", path, strerror(errno));
    } else
        dien_fail(error, "%s: %zu bytes are too few for a safetensors file", path, file->size);
    close(descriptor);
    return file->map != NULL;
}

static bool read_type(struct tensor *tensor, const json_t *entry, struct dien_error *error) {
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    for (size_t i = 0; name != NULL && i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, name) == 0) {
            tensor->type = (enum tensor_type)i;
            return true;
        }
    return dien_fail(error, "model.safetensors: %.200s: dtype is none of F32, F16, BF16, I8, U8, I32, I64",
                     tensor->name);
}

/* Shape, and from it the bytes that the tensor needs. */
static bool read_shape(struct tensor *tensor, const json_t *entry, struct dien_error *error) {
    const json_t *shape = json_object_get(entry, "shape");
    tensor->rank = json_array_size(shape);
    if (!json_is_array(shape) || tensor->rank > TENSOR_RANK)
        return dien_fail(error, "model.safetensors: %.200s: shape is not a list of at most %d numbers", tensor->name,
                         TENSOR_RANK);
    tensor->bytes = types[tensor->type].size;
    for (size_t i = 0; i < tensor->rank; i++) {
        const json_t *extent = json_array_get(shape, i);
        json_int_t value = json_integer_value(extent);
        if (!json_is_integer(extent) || value < 0)
            return dien_fail(error, "model.safetensors: %.200s: shape[%zu] is not a count", tensor->name, i);
        tensor->shape[i] = (size_t)value;
        if (__builtin_mul_overflow(tensor->bytes, tensor->shape[i], &tensor->bytes))
            return dien_fail(error, "model.safetensors: %.200s: shape is too large", tensor->name);
    }
    return true;
}

static bool read_offsets(struct tensor *tensor, const json_t *entry, const char *data, size_t size,
                         struct dien_error *error) {
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0)
        return dien_fail(error, "model.safetensors: %.200s: data_offsets is not two counts", tensor->name);
    json_int_t first = json_integer_value(begin), last = json_integer_value(end);
    if (last < first || (size_t)last > size)
        return dien_fail(
            error, "model.safetensors: %.200s: data_offsets [%lld, %lld] are outside the file's %zu bytes of data",
            tensor->name, (long long)first, (long long)last, size);
    if ((size_t)(last - first) != tensor->bytes)
        return dien_fail(error, "model.safetensors: %.200s: data_offsets hold %lld bytes, its shape and dtype need %zu",
                         tensor->name, (long long)(last - first), tensor->bytes);
    tensor->data = data + first;
    if ((uintptr_t)tensor->data % types[tensor->type].size != 0)
        return dien_fail(error, "model.safetensors: %.200s: not aligned to its %zu-byte elements", tensor->name,
                         types[tensor->type].size);
    return true;
}

static int by_data(const void *left, const void *right) {
    const struct tensor *a = left, *b = right;
    if (a->data != b->data)
        return (uintptr_t)a->data < (uintptr_t)b->data ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

/* The format allows neither holes nor overlaps: what the header does not name cannot hide in the file. */
static bool check_cover(struct safetensors *file, const char *data, size_t size, struct dien_error *error) {
    qsort(file->tensors, file->count, sizeof *file->tensors, by_data);
    const char *expected = data;
    for (size_t i = 0; i < file->count; i++) {
        const struct tensor *tensor = &file->tensors[i];
        if ((const char *)tensor->data != expected)
            return dien_fail(error,
                             "model.safetensors: %.200s: data starts at byte %td, expected %td (a hole or an overlap)",
                             tensor->name, (const char *)tensor->data - data, expected - data);
        expected += tensor->bytes;
    }
    if (expected != data + size)
        return dien_fail(error, "model.safetensors: %td bytes at the end belong to no tensor", data + size - expected);
    return true;
}

static bool read_header(struct safetensors *file, json_t *header, const char *data, size_t size,
                        struct dien_error *error) {
    file->tensors = calloc(json_object_size(header) + 1, sizeof *file->tensors);
    if (file->tensors == NULL)
        return dien_fail(error, "model.safetensors: out of memory");
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        struct tensor *tensor = &file->tensors[file->count];
        tensor->name = strdup(name);
        if (tensor->name == NULL)
            return dien_fail(error, "model.safetensors: out of memory");
        file->count++;
        if (!json_is_object(entry))
            return dien_fail(error, "model.safetensors: %.200s: its header entry is not an object", name);
        if (json_object_size(entry) != 3)
            return dien_fail(
                error, "model.safetensors: %.200s: its entry must have dtype, shape, data_offsets and no other key",
                name);
        if (!read_type(tensor, entry, error) || !read_shape(tensor, entry, error) ||
            !read_offsets(tensor, entry, data, size, error))
            return false;
    }
    return check_cover(file, data, size, error);
}

bool safetensors_open(struct safetensors *file, const char *path, struct dien_error *error) {
    *file = (struct safetensors){0};
    if (!map_file(file, path, error))
        return false;
    uint64_t length;
    memcpy(&length, file->map, sizeof length);
    if (length > file->size - 8 || length > HEADER_LIMIT)
        return dien_fail(error, "model.safetensors: the header claims %llu bytes, the file has %zu",
                         (unsigned long long)length, file->size);
    const char *text = (const char *)file->map + 8;
    json_error_t where;
    json_t *header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (header == NULL)
        return dien_fail(error, "model.safetensors: header: %s (byte %d)", where.text, where.position);
    bool good = json_is_object(header) ? read_header(file, header, text + length, file->size - 8 - length, error)
                                       : dien_fail(error, "model.safetensors: the header is not an object");
    json_decref(header);
    return good;
}

void safetensors_close(struct safetensors *file) {
    for (size_t i = 0; i < file->count; i++)
        free(file->tensors[i].name);
    free(file->tensors);
    if (file->map != NULL)
        munmap(file->map, file->size);
    *file = (struct safetensors){0};
}

const struct tensor *safetensors_find(struct safetensors *file, const char *name) {
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tensors[i].name, name) == 0) {
            file->tensors[i].used = true;
            return &file->tensors[i];
        }
    return NULL;
}

const struct tensor *safetensors_unused(const struct safetensors *file) {
    for (size_t i = 0; i < file->count; i++)
        if (!file->tensors[i].used)
            return &file->tensors[i];
    return NULL;
}
