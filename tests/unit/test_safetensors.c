/* test_safetensors.c: headers right and wrong, truncated at every byte, with lengths and offsets that point anywhere.
 */
#include "model/format/safetensors.h"
#include "tests/unit/model_file.h"

#include <sys/stat.h>

enum { DATA_BYTES = 40, FILE_MAX = 4096 };

/* 16 bytes of I64 and 24 of F32. The entries are not in the order of their data. */
#define ENTRY_A "\"a\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [16, 40]}"
#define ENTRY_B "\"b\": {\"dtype\": \"I64\", \"shape\": [2], \"data_offsets\": [0, 16]}"
#define HEADER  "{\"__metadata__\": {\"by\": \"test\"}, " ENTRY_A ", " ENTRY_B "}"

struct bytes {
    size_t size;
    uint8_t data[FILE_MAX];
};

/* A file: the header's length, the header, padded so that the data is aligned, and `data_bytes` of data. */
static struct bytes make_bytes(const char *header, size_t data_bytes) {
    struct bytes bytes = {0};
    size_t length = (strlen(header) + 7) / 8 * 8;
    assert_true(8 + length + data_bytes <= FILE_MAX);
    memcpy(bytes.data, &(uint64_t){length}, 8);
    memset(bytes.data + 8, ' ', length);
    memcpy(bytes.data + 8, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++)
        bytes.data[8 + length + i] = (uint8_t)(i + 1);
    bytes.size = 8 + length + data_bytes;
    return bytes;
}

/* Open bytes that must be refused, for a reason that the message gives. */
static void assert_refused(const char *name, const struct bytes *bytes, const char *expected) {
    struct memory_file memory = open_memory_file(bytes->data, bytes->size);
    struct safetensors file;
    struct dien_error error = {""};
    if (safetensors_open(&file, memory.path, &error))
        fail_msg("%s: accepted", name);
    assert_message(name, error.message, expected);
    safetensors_close(&file);
    safetensors_close(&file); /* once more does nothing */
    close(memory.descriptor);
}

static void test_reads_tensors(void **state) {
    (void)state;
    struct bytes bytes = make_bytes(HEADER, DATA_BYTES);
    struct memory_file memory = open_memory_file(bytes.data, bytes.size);
    struct safetensors file;
    struct dien_error error = {""};
    if (!safetensors_open(&file, memory.path, &error))
        fail_msg("%s", error.message);
    assert_int_equal(file.count, 2);
    assert_int_equal(file.size, bytes.size);
    assert_null(safetensors_find(&file, "c"));
    assert_null(safetensors_find(&file, "__metadata__"));
    assert_string_equal(safetensors_unused(&file)->name, "b"); /* in the order of the data */
    const struct tensor *b = safetensors_find(&file, "b"), *a;
    assert_string_equal(safetensors_unused(&file)->name, "a");
    a = safetensors_find(&file, "a");
    assert_null(safetensors_unused(&file));
    assert_int_equal(a->type, TENSOR_F32);
    assert_int_equal(a->rank, 2);
    assert_int_equal(a->shape[0], 2);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->bytes, 24);
    assert_int_equal(*(const uint8_t *)a->data, 17);
    assert_int_equal(b->type, TENSOR_I64);
    assert_int_equal(b->rank, 1);
    assert_int_equal(b->bytes, 16);
    assert_int_equal(*(const uint8_t *)b->data, 1);
    safetensors_close(&file);
    close(memory.descriptor);
}

/* As much as is asked for, and no more than there is. */
static void test_prefault_reads_the_start(void **state) {
    (void)state;
    struct bytes bytes = make_bytes(HEADER, DATA_BYTES);
    struct memory_file memory = open_memory_file(bytes.data, bytes.size);
    struct safetensors file;
    struct dien_error error = {""};
    if (!safetensors_open(&file, memory.path, &error))
        fail_msg("%s", error.message);
    assert_int_equal(safetensors_prefault(&file, 0), 0);
    assert_int_equal(safetensors_prefault(&file, 10), 10);
    assert_int_equal(safetensors_prefault(&file, bytes.size), bytes.size);
    assert_int_equal(safetensors_prefault(&file, SIZE_MAX), bytes.size);
    assert_int_equal(ftruncate(memory.descriptor, 0), 0);
    assert_int_equal(safetensors_prefault(&file, SIZE_MAX), 0); /* and the process goes on */
    safetensors_close(&file);
    close(memory.descriptor);
}

static void test_reads_every_type(void **state) {
    (void)state;
    const struct {
        const char *name;
        enum tensor_type type;
        size_t size;
    } types[] = {{"F32", TENSOR_F32, 4}, {"F16", TENSOR_F16, 2}, {"BF16", TENSOR_BF16, 2}, {"I8", TENSOR_I8, 1},
                 {"U8", TENSOR_U8, 1},   {"I32", TENSOR_I32, 4}, {"I64", TENSOR_I64, 8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char header[128];
        snprintf(header, sizeof header,
                 "{\"t\": {\"dtype\": \"%s\", \"shape\": [1, 1, 1, 3], \"data_offsets\": [0, %zu]}}", types[i].name,
                 3 * types[i].size);
        struct bytes bytes = make_bytes(header, 3 * types[i].size);
        struct memory_file memory = open_memory_file(bytes.data, bytes.size);
        struct safetensors file;
        struct dien_error error = {""};
        assert_true(safetensors_open(&file, memory.path, &error));
        assert_int_equal(safetensors_find(&file, "t")->type, types[i].type);
        assert_int_equal(safetensors_find(&file, "t")->rank, 4);
        assert_string_equal(tensor_type_name(types[i].type), types[i].name);
        safetensors_close(&file);
        close(memory.descriptor);
    }
}

static void test_wrong_headers(void **state) {
    (void)state;
#define WITH_A(entry)    "{" ENTRY_B ", \"a\": " entry "}"
#define OFFSETS(offsets) WITH_A("{\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": " offsets "}")
#define SHAPE(shape)     WITH_A("{\"dtype\": \"F32\", \"shape\": " shape ", \"data_offsets\": [16, 40]}")
    const struct {
        const char *header, *expected;
    } cases[] = {
        {"", "model.safetensors: header: "},
        {"{\"a\": ", "model.safetensors: header: "},
        {"{" ENTRY_A ", " ENTRY_A "}", "duplicate"},
        {"[]", "model.safetensors: the header is not an object"},
        {"5", "model.safetensors: header: "},
        {WITH_A("5"), "model.safetensors: a: its header entry is not an object"},
        {WITH_A("{\"dtype\": \"F32\", \"shape\": [2, 3]}"), "a: its entry must have dtype, shape, data_offsets"},
        {WITH_A("{\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [16, 40], \"strides\": [1]}"),
         "a: its entry must have dtype, shape, data_offsets and no other key"},
        {WITH_A("{\"dtype\": \"F33\", \"shape\": [2, 3], \"data_offsets\": [16, 40]}"), "a: dtype is none of F32, "},
        {WITH_A("{\"dtype\": 5, \"shape\": [2, 3], \"data_offsets\": [16, 40]}"), "a: dtype is none of F32, "},
        {WITH_A("{\"type\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [16, 40]}"), "a: dtype is none of F32, "},
        {SHAPE("6"), "a: shape is not a list of at most 4 numbers"},
        {SHAPE("[1, 1, 1, 2, 3]"), "a: shape is not a list of at most 4 numbers"},
        {SHAPE("[2, -3]"), "a: shape[1] is not a count"},
        {SHAPE("[1.5, 4]"), "a: shape[0] is not a count"},
        {SHAPE("[\"2\", 3]"), "a: shape[0] is not a count"},
        {SHAPE("[4294967296, 4294967296]"), "a: shape is too large"},
        {SHAPE("[4611686018427387904, 1]"), "a: shape is too large"},
        {SHAPE("[3, 3]"), "a: data_offsets hold 24 bytes, its shape and dtype need 36"},
        {SHAPE("[]"), "a: data_offsets hold 24 bytes, its shape and dtype need 4"},
        {OFFSETS("[16]"), "a: data_offsets is not two counts"},
        {OFFSETS("[16, 40, 40]"), "a: data_offsets is not two counts"},
        {OFFSETS("[\"16\", 40]"), "a: data_offsets is not two counts"},
        {OFFSETS("[16, 40.0]"), "a: data_offsets is not two counts"},
        {OFFSETS("5"), "a: data_offsets is not two counts"},
        {OFFSETS("[-8, 16]"), "a: data_offsets is not two counts"},
        {OFFSETS("[40, 16]"), "a: data_offsets [40, 16] are outside the file's 40 bytes of data"},
        {OFFSETS("[17, 41]"), "a: data_offsets [17, 41] are outside"},
        {OFFSETS("[16, 9223372036854775807]"), "a: data_offsets [16, 9223372036854775807] are outside"},
        {OFFSETS("[9223372036854775804, 9223372036854775807]"), "are outside the file's 40 bytes"},
        {OFFSETS("[16, -9223372036854775808]"), "are outside the file's 40 bytes"},
        {OFFSETS("[16, 39]"), "a: data_offsets hold 23 bytes, its shape and dtype need 24"},
        {OFFSETS("[15, 39]"), "a: not aligned to its 4-byte elements"},
        {OFFSETS("[12, 36]"), "a: data starts at byte 12, expected 16 (a hole or an overlap)"},
        {"{\"a\": {\"dtype\": \"F32\", \"shape\": [2, 3], \"data_offsets\": [16, 40]}}",
         "a: data starts at byte 16, expected 0 (a hole or an overlap)"},
        {"{" ENTRY_B "}", "model.safetensors: 24 bytes at the end belong to no tensor"},
        {"{}", "model.safetensors: 40 bytes at the end belong to no tensor"},
        {"{\"\xff\": 1}", "model.safetensors: header: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bytes bytes = make_bytes(cases[i].header, DATA_BYTES);
        assert_refused(cases[i].header, &bytes, cases[i].expected);
    }
}

static void test_truncated_anywhere(void **state) {
    (void)state;
    struct bytes bytes = make_bytes(HEADER, DATA_BYTES);
    size_t whole = bytes.size, header = whole - DATA_BYTES;
    for (bytes.size = 0; bytes.size < whole; bytes.size++) {
        char name[32];
        snprintf(name, sizeof name, "%zu bytes", bytes.size);
        assert_refused(name, &bytes,
                       bytes.size < 8        ? "bytes are too few for a safetensors file"
                       : bytes.size < header ? "the header claims"
                                             : "are outside the file's");
    }
}

/* A header that is cut, with a length that fits. */
static void test_headers_truncated_anywhere(void **state) {
    (void)state;
    for (size_t length = 0; length < strlen(HEADER); length++) {
        struct bytes bytes = make_bytes(HEADER, DATA_BYTES);
        memcpy(bytes.data, &(uint64_t){length}, 8);
        assert_refused("a cut header", &bytes, "model.safetensors: header: ");
    }
}

static void test_hostile_lengths(void **state) {
    (void)state;
    struct bytes bytes = make_bytes(HEADER, DATA_BYTES);
    const uint64_t lengths[] = {bytes.size - 7, bytes.size, UINT32_MAX,     1ULL << 32,     1ULL << 62,
                                INT64_MAX,      1ULL << 63, UINT64_MAX - 8, UINT64_MAX - 7, UINT64_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        char expected[64];
        snprintf(expected, sizeof expected, "the header claims %llu bytes", (unsigned long long)lengths[i]);
        memcpy(bytes.data, &lengths[i], 8);
        assert_refused("a hostile length", &bytes, expected);
    }
}

/* The limit is on the claim: such a header is in the file, which is sparse. */
static void test_a_header_beyond_the_limit(void **state) {
    (void)state;
    struct bytes bytes = make_bytes(HEADER, DATA_BYTES);
    struct memory_file memory = open_memory_file(bytes.data, bytes.size);
    struct safetensors file;
    struct dien_error error = {""};
    uint64_t length = (64 << 20) + 1;
    assert_int_equal(pwrite(memory.descriptor, &length, 8, 0), 8);
    assert_int_equal(ftruncate(memory.descriptor, (64 << 20) + 4096), 0);
    assert_false(safetensors_open(&file, memory.path, &error));
    assert_message("a large header", error.message, "the header claims 67108865 bytes");
    safetensors_close(&file);
    close(memory.descriptor);
}

static void test_files_that_are_none(void **state) {
    (void)state;
    int ends[2];
    char path[64];
    struct safetensors file;
    struct dien_error error = {""};
    assert_int_equal(pipe(ends), 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
    assert_false(safetensors_open(&file, path, &error));
    assert_message("a pipe", error.message, "not a regular file");
    assert_message("a pipe", error.message, path);
    safetensors_close(&file);
    close(ends[0]), close(ends[1]);
    assert_false(safetensors_open(&file, "no/such/model.safetensors", &error));
    assert_message("nothing", error.message, "no/such/model.safetensors: cannot open: ");
    safetensors_close(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_tensors),       cmocka_unit_test(test_prefault_reads_the_start),
        cmocka_unit_test(test_reads_every_type),    cmocka_unit_test(test_wrong_headers),
        cmocka_unit_test(test_truncated_anywhere),  cmocka_unit_test(test_headers_truncated_anywhere),
        cmocka_unit_test(test_hostile_lengths),     cmocka_unit_test(test_a_header_beyond_the_limit),
        cmocka_unit_test(test_files_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
