/* model_file.h: model files in memory, and a small config with a bit of everything, for the tests of model/format. */
#ifndef TESTS_UNIT_MODEL_FILE_H
#define TESTS_UNIT_MODEL_FILE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* A file that exists as long as its descriptor. */
struct memory_file {
    int descriptor;
    char path[64];
};

static inline struct memory_file open_memory_file(const void *bytes, size_t size) {
    struct memory_file file = {.descriptor = memfd_create("model", MFD_CLOEXEC)};
    assert_true(file.descriptor >= 0);
    assert_int_equal(write(file.descriptor, bytes, size), (ssize_t)size);
    snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.descriptor);
    return file;
}

/* A message must hold a text; failing shows both. */
static inline void assert_message(const char *name, const char *message, const char *expected) {
    if (strstr(message, expected) == NULL)
        fail_msg("%s: \"%s\" lacks \"%s\"", name, message, expected);
}

/* Every kind of field, attention and evolution, and most activations. */
static inline const char *small_config(void) {
    return "{\"format\": \"dien/1\", \"name\": \"small.model\", \"version\": \"7\", \"metadata\": {\"any\": [1]},"
           " \"vocabularies\": {\"item\": {\"type\": \"string\", \"entries\": 3, \"probe\": 2},"
           "                    \"shop\": {\"type\": \"integer\", \"entries\": 2, \"probe\": 1}},"
           " \"tables\": {\"item\": {\"rows\": 4, \"width\": 2}, \"shop\": {\"rows\": 3, \"width\": 1},"
           "              \"country\": {\"rows\": 2, \"width\": 1}, \"bias\": {\"rows\": 4, \"width\": 1}},"
           " \"fields\": ["
           "  {\"name\": \"item\", \"kind\": \"categorical\", \"table\": \"item\", \"ids\": \"vocabulary\","
           "   \"vocabulary\": \"item\", \"first_row\": 1, \"unknown_row\": 0},"
           "  {\"name\": \"shop\", \"kind\": \"categorical\", \"table\": \"shop\", \"ids\": \"vocabulary\","
           "   \"vocabulary\": \"shop\", \"unknown_row\": 2, \"attribute_of\": \"item\"},"
           "  {\"name\": \"price\", \"kind\": \"dense\", \"width\": 2, \"units\": 3, \"attribute_of\": \"item\"},"
           "  {\"name\": \"country\", \"kind\": \"categorical\", \"table\": \"country\", \"ids\": \"index\","
           "   \"unknown_row\": 1}],"
           " \"groups\": {\"user\": [\"country\"], \"context\": [\"item\", \"price\"],"
           "              \"behaviour\": [\"item\", \"shop\"], \"candidate\": [\"shop\", \"item\"]},"
           " \"interests\": ["
           "  {\"name\": \"clicks\", \"history\": [\"shop\", \"item\"], \"target\": [\"item\", \"shop\"],"
           "   \"max_length\": 10, \"keep\": \"first\","
           "   \"extractor\": {\"cell\": \"gru\", \"units\": 4, \"reset\": \"after\"},"
           "   \"attention\": {\"kind\": \"mlp\", \"query\": {\"units\": 4, \"activation\": \"prelu\"},"
           "     \"inputs\": [\"k\", \"q\", \"q*k\", \"k-q\"], \"scale\": 0.5, \"normalise\": \"softmax\","
           "     \"layers\": [{\"units\": 5, \"activation\": \"dice\"}, {\"units\": 1, \"activation\": \"linear\"}]},"
           "   \"evolution\": {\"cell\": \"augru-and\", \"units\": 2, \"reset\": \"before\"}},"
           "  {\"name\": \"looks\", \"history\": [\"item\"], \"target\": [\"item\"], \"max_length\": 5, \"keep\": "
           "\"last\","
           "   \"extractor\": {\"cell\": \"gru\", \"units\": 3, \"reset\": \"before\"},"
           "   \"attention\": {\"kind\": \"bilinear\", \"normalise\": \"none\"},"
           "   \"evolution\": {\"cell\": \"aigru\", \"units\": 3, \"reset\": \"after\"}},"
           "  {\"name\": \"plain\", \"history\": [\"item\"], \"target\": [\"item\"], \"max_length\": 5, \"keep\": "
           "\"last\","
           "   \"extractor\": {\"cell\": \"gru\", \"units\": 2, \"reset\": \"after\"},"
           "   \"attention\": {\"kind\": \"none\"},"
           "   \"evolution\": {\"cell\": \"gru\", \"units\": 5, \"reset\": \"after\"}},"
           "  {\"name\": \"pool\", \"history\": [\"item\"], \"target\": [\"item\"], \"max_length\": 5, \"keep\": "
           "\"last\","
           "   \"extractor\": {\"cell\": \"gru\", \"units\": 6, \"reset\": \"after\"},"
           "   \"attention\": {\"kind\": \"dot\", \"normalise\": \"softmax\"},"
           "   \"evolution\": {\"cell\": \"gru+pooling\", \"units\": 2, \"reset\": \"after\"}}],"
           " \"mlp\": {\"inputs\": [\"candidate.item\", \"user.country\", \"interest.plain\", \"context.price\","
           "                      \"product.clicks\", \"history_sum.clicks\", \"interest.clicks\"],"
           "          \"layers\": [{\"units\": 3, \"activation\": \"dice-row\", \"epsilon\": 0.25},"
           "                     {\"units\": 2, \"activation\": \"linear\"}]},"
           " \"output\": {\"kind\": \"softmax\", \"positive\": 1, \"bias\": {\"field\": \"item\", \"table\": "
           "\"bias\"}}}";
}

#endif
