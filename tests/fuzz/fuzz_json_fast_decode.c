/* fuzz_json_fast_decode.c: any bytes as a request, to the fast decoder and to jansson.
 *
 * If the fast decoder takes a body, jansson takes it too, and the requests are equal. With little memory the fast
 * decoder leaves the body or decodes it to an equal request. libFuzzer starts from the seeds in
 * tests/fuzz/json_fast_decode.
 */
#include "proto/json_decode.h"
#include "proto/json_fast_decode.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/same_request.h"

static struct arena scanned_arena, tree_arena;

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count;
    (void)arguments;
    json_decode_init();
    arena_init(&scanned_arena, (size_t)64 << 20, 1 << 20);
    arena_init(&tree_arena, (size_t)64 << 20, 1 << 20);
    return 0;
}

static void scan_with_little(const char *body, size_t size, const struct proto_request *expected) {
    struct arena tight;
    struct proto_request request;
    arena_init(&tight, little_memory(body, size, 64 + 8 * size), 0);
    if (json_fast_decode_request(body, size, &tight, &request))
        require(same_request(&request, expected));
    arena_free(&tight);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct proto_request scanned, tree;
    struct problem problem;
    arena_reset(&scanned_arena);
    arena_reset(&tree_arena);
    char *body = malloc(size > 0 ? size : 1); /* freed before the comparison, because nothing may point into it */
    require(body != NULL);
    memcpy(body, data, size);
    bool taken = json_fast_decode_request(body, size, &scanned_arena, &scanned);
    require(taken || size == 0 || memcmp(body, data, size) == 0);
    free(body);
    if (!taken)
        return 0;
    require(json_decode_request_tree((const char *)data, size, &tree_arena, &tree, &problem));
    require(same_request(&scanned, &tree));
    scan_with_little((const char *)data, size, &tree);
    return 0;
}
