/* safetensors.c: map a .safetensors file and check its header against its size. */
#include "model/format/safetensors.h"

#include "model/error.h"
#include "model/format/file.h"

#include <endian.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

_Static_assert(BYTE_ORDER == LITTLE_ENDIAN, "tensors are used as they lie in the file");

enum {
    LENGTH_BYTES = 8,           /* the header's length, before the header */
    HEADER_BYTES_MAX = 64 << 20 /* a model's header is a few kB */
};

#define FAIL(error, ...) dien_fail(error, "model.safetensors: " __VA_ARGS__)

static const struct {
    const char *name;
    size_t size;
} types[] = {
    [TENSOR_F32] = {"F32", 4}, [TENSOR_F16] = {"F16", 2}, [TENSOR_BF16] = {"BF16", 2}, [TENSOR_I8] = {"I8", 1},
    [TENSOR_U8] = {"U8", 1},   [TENSOR_I32] = {"I32", 4}, [TENSOR_I64] = {"I64", 8},   [TENSOR_U64] = {"U64", 8},
};
enum { TYPES = sizeof types / sizeof *types };

const char *tensor_type_name(enum tensor_type type) {
    return types[type].name;
}

/* Read one tensor's header entry; the file has `size` bytes of data. */
static bool read_entry(struct tensor *tensor, const json_t *entry, const char *data, size_t size,
                       struct dien_error *error) {
    const char *name = tensor->name;
    if (!json_is_object(entry))
        return FAIL(error, "%.200s: its header entry is not an object", name);
    if (json_object_size(entry) != 3)
        return FAIL(error, "%.200s: its entry must have dtype, shape, data_offsets and no other key", name);

    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    size_t type = 0;
    while (dtype != NULL && type < TYPES && strcmp(types[type].name, dtype) != 0)
        type++;
    if (dtype == NULL || type == TYPES)
        return FAIL(error, "%.200s: dtype is none of F32, F16, BF16, I8, U8, I32, I64, U64", name);
    tensor->type = (enum tensor_type)type;

    const json_t *shape = json_object_get(entry, "shape");
    tensor->rank = json_array_size(shape);
    if (!json_is_array(shape) || tensor->rank > TENSOR_RANK_MAX)
        return FAIL(error, "%.200s: shape is not a list of at most %d numbers", name, TENSOR_RANK_MAX);
    tensor->bytes = types[type].size;
    for (size_t i = 0; i < tensor->rank; i++) {
        const json_t *dimension = json_array_get(shape, i);
        if (!json_is_integer(dimension) || json_integer_value(dimension) < 0)
            return FAIL(error, "%.200s: shape[%zu] is not a count", name, i);
        tensor->shape[i] = (size_t)json_integer_value(dimension);
        if (__builtin_mul_overflow(tensor->bytes, tensor->shape[i], &tensor->bytes))
            return FAIL(error, "%.200s: shape is too large", name);
    }

    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    long long first = json_integer_value(begin), last = json_integer_value(end);
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) || first < 0)
        return FAIL(error, "%.200s: data_offsets is not two counts", name);
    if (last < first || (size_t)last > size)
        return FAIL(error, "%.200s: data_offsets [%lld, %lld] are outside the file's %zu bytes of data", name, first,
                    last, size);
    if ((size_t)(last - first) != tensor->bytes)
        return FAIL(error, "%.200s: data_offsets hold %lld bytes, its shape and dtype need %zu", name, last - first,
                    tensor->bytes);
    tensor->data = data + first;
    if ((uintptr_t)tensor->data % types[type].size != 0)
        return FAIL(error, "%.200s: not aligned to its %zu-byte elements", name, types[type].size);
    return true;
}

static int compare_data(const void *left, const void *right) {
    const struct tensor *a = left, *b = right;
    if (a->data != b->data)
        return (uintptr_t)a->data < (uintptr_t)b->data ? -1 : 1;
    return a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

/* Read every entry. The tensors must cover the data without holes or overlaps, so that the file hides nothing. */
static bool read_header(struct safetensors *file, json_t *header, const char *data, size_t size,
                        struct dien_error *error) {
    file->tensors = calloc(json_object_size(header) + 1, sizeof *file->tensors);
    if (file->tensors == NULL)
        return dien_out_of_memory(error);
    const char *name;
    json_t *entry;
    json_object_foreach(header, name, entry) {
        struct tensor *tensor = &file->tensors[file->count];
        if (strcmp(name, "__metadata__") == 0)
            continue;
        tensor->name = strdup(name);
        if (tensor->name == NULL)
            return dien_out_of_memory(error);
        file->count++;
        if (!read_entry(tensor, entry, data, size, error))
            return false;
    }
    qsort(file->tensors, file->count, sizeof *file->tensors, compare_data);
    const char *expected = data;
    for (size_t i = 0; i < file->count; i++) {
        const struct tensor *tensor = &file->tensors[i];
        if ((const char *)tensor->data != expected)
            return FAIL(error, "%.200s: data starts at byte %td, expected %td (a hole or an overlap)", tensor->name,
                        (const char *)tensor->data - data, expected - data);
        expected += tensor->bytes;
    }
    if (expected != data + size)
        return FAIL(error, "%td bytes at the end belong to no tensor", data + size - expected);
    return true;
}

/* The file's bytes in memory of the process's own. MAP_FAILED with errno: there is no memory, or the file has fewer. */
static void *copy_file(int descriptor, size_t size) {
    char *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return MAP_FAILED;
    madvise(memory, size, MADV_HUGEPAGE);
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(descriptor, memory + done, size - done, (off_t)done);
        if (got <= 0) {
            int reason = got == 0 ? ENODATA : errno;
            munmap(memory, size);
            errno = reason;
            return MAP_FAILED;
        }
        done += (size_t)got;
    }
    mprotect(memory, size, PROT_READ);
    return memory;
}

bool safetensors_take(struct safetensors *file, int descriptor, size_t size, bool copy, const char *path,
                      struct dien_error *error) {
    *file = (struct safetensors){.size = size};
    if (size < LENGTH_BYTES)
        return dien_fail(error, "%s: %zu bytes are too few for a safetensors file", path, size);
    void *map = copy ? copy_file(descriptor, size) : mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map == MAP_FAILED)
        return dien_fail(error, "%s: cannot %s: %s", path, copy ? "read" : "map", strerror(errno));
    file->map = map;

    uint64_t length;
    memcpy(&length, map, sizeof length);
    if (length > file->size - LENGTH_BYTES || length > HEADER_BYTES_MAX)
        return FAIL(error, "the header claims %llu bytes, the file has %zu", (unsigned long long)length, file->size);
    const char *text = (const char *)map + LENGTH_BYTES;
    json_error_t where;
    json_t *header = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (header == NULL)
        return FAIL(error, "header: %s (byte %d)", where.text, where.position);
    bool good = json_is_object(header)
                    ? read_header(file, header, text + length, file->size - LENGTH_BYTES - length, error)
                    : FAIL(error, "the header is not an object");
    json_decref(header);
    return good;
}

bool safetensors_open(struct safetensors *file, const char *path, struct dien_error *error) {
    size_t size;
    *file = (struct safetensors){0};
    int descriptor = file_open(path, &size, error);
    if (descriptor < 0)
        return false;
    bool good = safetensors_take(file, descriptor, size, false, path, error);
    close(descriptor);
    return good;
}

/* Piece by piece: a thread that must change the process's mappings, as malloc() does, waits for one piece at most. */
void safetensors_close(struct safetensors *file) {
    enum { PIECE = 4 << 20 };
    for (size_t i = 0; i < file->count; i++)
        free(file->tensors[i].name);
    free(file->tensors);
    for (size_t done = 0; file->map != NULL && done < file->size; done += PIECE)
        munmap((char *)file->map + done, file->size - done < PIECE ? file->size - done : PIECE);
    *file = (struct safetensors){0};
}

/* Reads a byte of each page, for kernels before 5.14. */
static void touch_pages(const char *start, size_t size, size_t page) {
    for (size_t at = 0; at < size; at += page)
        (void)*(const volatile char *)(start + at);
}

/* Piece by piece, so that the kernel reads one from the disk while another is entered. */
size_t safetensors_prefault(const struct safetensors *file, size_t most) {
    enum { PIECE = 8 << 20 };
    size_t end = file->size < most ? file->size : most, page = (size_t)sysconf(_SC_PAGESIZE), done = 0;
    while (done < end) {
        char *start = (char *)file->map + done;
        size_t size = end - done < PIECE ? end - done : PIECE, ahead = file->size - done;
        madvise(start, ahead < (size_t)2 * PIECE ? ahead : (size_t)2 * PIECE, MADV_WILLNEED);
        if (madvise(start, size, MADV_POPULATE_READ) != 0) {
            if (errno != EINVAL)
                return done;
            touch_pages(start, size, page);
        }
        done += size;
    }
    return done;
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
