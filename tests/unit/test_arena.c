/* test_arena.c: blocks, limits and resets of proto/arena.c, with an allocator that fails on request. */
#include "proto/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Replaces libc's allocator, the only one that the arena calls. Counts calls, and refuses one on request. */
static size_t blocks_asked;
static size_t refuse_at = SIZE_MAX;

void *aligned_alloc(size_t alignment, size_t size) {
    void *memory = NULL;
    if (blocks_asked++ == refuse_at || posix_memalign(&memory, alignment, size) != 0)
        return NULL;
    return memory;
}

static void count_anew(size_t refuse) {
    blocks_asked = 0;
    refuse_at = refuse;
}

/* valgrind replaces this allocator by its own; skip the test then. */
static void need_our_allocator(void) {
    struct arena arena;
    count_anew(SIZE_MAX);
    arena_init(&arena, 0, 0);
    assert_non_null(arena_alloc(&arena, 1));
    arena_free(&arena);
    if (blocks_asked == 0)
        skip();
    count_anew(SIZE_MAX);
}

static int never_refuse(void **state) {
    (void)state;
    count_anew(SIZE_MAX);
    return 0;
}

static void memory_is_aligned_and_apart(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 0, 0);
    unsigned char *taken[300];
    for (size_t i = 0; i < 300; i++) {
        taken[i] = arena_alloc(&arena, i * 7);
        assert_non_null(taken[i]);
        assert_int_equal((uintptr_t)taken[i] % 64, 0);
        memset(taken[i], (int)(i & 0xFF), i * 7);
    }
    for (size_t i = 0; i < 300; i++) {
        for (size_t j = 0; j < i * 7; j++)
            assert_int_equal(taken[i][j], i & 0xFF);
    }
    arena_free(&arena);
}

static void large_and_small_mix(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 0, 0);
    char *small = arena_alloc(&arena, 10);
    assert_non_null(small);
    small[9] = 's';
    char *large = arena_alloc(&arena, 10 << 20);
    assert_non_null(large);
    memset(large, 'l', 10 << 20);
    char *after = arena_alloc(&arena, 10);
    assert_non_null(after);
    after[0] = 'a';
    assert_int_equal(small[9], 's');
    assert_int_equal(large[0], 'l');
    assert_int_equal(large[(10 << 20) - 1], 'l');
    arena_free(&arena);
}

static void limit_counts_whole_units(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 640, 0);
    for (size_t i = 0; i < 10; i++)
        assert_non_null(arena_alloc(&arena, 1));
    assert_int_equal(arena.used, 640);
    assert_null(arena_alloc(&arena, 1));
    assert_null(arena_alloc(&arena, 0));
    arena_reset(&arena);
    assert_non_null(arena_alloc(&arena, 640));
    assert_null(arena_alloc(&arena, 1));
    arena_free(&arena);
}

static void a_refusal_leaves_the_rest_usable(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 1000, 0);
    assert_null(arena_alloc(&arena, 1001));
    assert_non_null(arena_alloc(&arena, 900));
    arena_free(&arena);
}

static void products_that_overflow_are_refused(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 0, 0);
    assert_null(arena_array(&arena, SIZE_MAX / 2, 3));
    assert_null(arena_array(&arena, 3, SIZE_MAX / 2));
    assert_null(arena_alloc(&arena, SIZE_MAX));
    assert_null(arena_alloc(&arena, SIZE_MAX - 64));
    assert_int_equal(arena.used, 0);
    assert_non_null(arena_array(&arena, 0, SIZE_MAX));
    arena_free(&arena);
}

/* Of old blocks and of new ones, so often as one likes. */
static void a_rewind_takes_back_what_came_after_the_mark(void **state) {
    (void)state;
    struct arena arena;
    arena_init(&arena, 1 << 20, 0);
    char *kept = arena_alloc(&arena, 1000);
    memset(kept, 'k', 1000);
    arena_mark(&arena);
    size_t before = arena.used;
    for (int i = 0; i < 100; i++) {
        char *small = arena_alloc(&arena, 100), *large = arena_alloc(&arena, 500000);
        assert_non_null(small);
        assert_non_null(large);
        memset(small, 's', 100);
        arena_rewind(&arena);
        assert_int_equal(arena.used, before);
    }
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(kept[i], 'k');
    arena_reset(&arena);
    assert_int_equal(arena.used, 0);
    arena_rewind(&arena);
    assert_int_equal(arena.used, 0);
    arena_free(&arena);
}

/* Whatever is allocated in between, the reserve is there afterwards, down to its last byte. */
static void a_reserve_is_not_given_away(void **state) {
    (void)state;
    struct arena arena;
    for (size_t size = 0; size < 200000; size = 3 * size + 1) {
        size_t rounded = size == 0 ? 64 : (size + 63) / 64 * 64;
        arena_init(&arena, 640 + rounded, 0);
        assert_true(arena_reserve(&arena, size));
        for (size_t i = 0; i < 10; i++)
            assert_non_null(arena_alloc(&arena, 1));
        assert_null(arena_alloc(&arena, 1));
        count_anew(0); /* nor is the allocator asked */
        arena_release(&arena);
        assert_non_null(arena_alloc(&arena, size));
        assert_null(arena_alloc(&arena, 1));
        count_anew(SIZE_MAX);
        arena_free(&arena);
    }
    arena_init(&arena, 640, 0);
    assert_false(arena_reserve(&arena, 641));
    assert_false(arena_reserve(&arena, SIZE_MAX));
    count_anew(0);
    assert_false(arena_reserve(&arena, 640));
    count_anew(SIZE_MAX);
    assert_int_equal(arena.used, 0);
    assert_true(arena_reserve(&arena, 640));
    arena_reset(&arena); /* ends the reserve as well */
    assert_non_null(arena_alloc(&arena, 640));
    arena_free(&arena);
}

static void use_much(struct arena *arena) {
    for (size_t i = 0; i < 1000; i++)
        assert_non_null(arena_alloc(arena, 1000));
}

static void a_warm_arena_asks_for_nothing(void **state) {
    (void)state;
    need_our_allocator();
    struct arena arena;
    arena_init(&arena, 0, 16 << 20);
    use_much(&arena);
    arena_reset(&arena);
    count_anew(SIZE_MAX);
    use_much(&arena);
    assert_int_equal(blocks_asked, 0);
    arena_free(&arena);
}

static void a_reset_keeps_no_more_than_it_may(void **state) {
    (void)state;
    need_our_allocator();
    struct arena arena;
    arena_init(&arena, 0, 0);
    use_much(&arena);
    arena_reset(&arena);
    assert_null(arena.blocks);
    assert_int_equal(arena.used, 0);
    count_anew(SIZE_MAX);
    use_much(&arena);
    assert_true(blocks_asked > 0);
    arena_free(&arena);
}

static void blocks_grow_so_that_they_are_few(void **state) {
    (void)state;
    need_our_allocator();
    struct arena arena;
    arena_init(&arena, 0, 0);
    for (size_t i = 0; i < 100000; i++)
        assert_non_null(arena_alloc(&arena, 64));
    assert_in_range(blocks_asked, 1, 12);
    arena_free(&arena);
}

static void blocks_stay_near_the_limit(void **state) {
    (void)state;
    need_our_allocator();
    struct arena arena;
    enum { LIMIT = 100 * 1024 };
    arena_init(&arena, LIMIT, 1 << 20);
    while (arena_alloc(&arena, 64) != NULL)
        continue;
    assert_int_equal(arena.used, LIMIT);
    assert_int_equal(blocks_asked, 2); /* 64 KiB, then the remaining 36 KiB */
    arena_free(&arena);
}

static void each_refused_block_is_survived(void **state) {
    (void)state;
    need_our_allocator();
    for (size_t refuse = 0;; refuse++) {
        struct arena arena;
        arena_init(&arena, 0, 1 << 20);
        count_anew(refuse);
        size_t got = 0;
        while (got < 1000 && arena_alloc(&arena, 1000) != NULL)
            got++;
        bool refused = blocks_asked > refuse;
        assert_int_equal(refused, got < 1000);
        assert_non_null(arena_alloc(&arena, 1000));
        arena_free(&arena);
        if (!refused)
            return;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(memory_is_aligned_and_apart, never_refuse),
        cmocka_unit_test_setup(large_and_small_mix, never_refuse),
        cmocka_unit_test_setup(limit_counts_whole_units, never_refuse),
        cmocka_unit_test_setup(a_refusal_leaves_the_rest_usable, never_refuse),
        cmocka_unit_test_setup(products_that_overflow_are_refused, never_refuse),
        cmocka_unit_test_setup(a_rewind_takes_back_what_came_after_the_mark, never_refuse),
        cmocka_unit_test_setup(a_reserve_is_not_given_away, never_refuse),
        cmocka_unit_test_setup(a_warm_arena_asks_for_nothing, never_refuse),
        cmocka_unit_test_setup(a_reset_keeps_no_more_than_it_may, never_refuse),
        cmocka_unit_test_setup(blocks_grow_so_that_they_are_few, never_refuse),
        cmocka_unit_test_setup(blocks_stay_near_the_limit, never_refuse),
        cmocka_unit_test_setup(each_refused_block_is_survived, never_refuse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
