/* test_utf8.c: proto/utf8.h at the edges of Unicode's table 3-7, and every sequence of two bytes. */
#include "proto/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Measures a text in an allocation of exactly its size, so that AddressSanitizer sees a read past its end. */
static size_t size_of(const char *text, size_t length) {
    char *exact = malloc(length);
    assert_non_null(exact);
    memcpy(exact, text, length);
    size_t size = utf8_size(exact, length);
    free(exact);
    return size;
}

static void first_and_last_characters_of_each_size(void **state) {
    (void)state;
    static const char *const characters[] = {
        "\x01",
        "\x7F", /* U+0001, U+007F */
        "\xC2\x80",
        "\xDF\xBF", /* U+0080, U+07FF */
        "\xE0\xA0\x80",
        "\xED\x9F\xBF",
        "\xEE\x80\x80",
        "\xEF\xBF\xBF", /* U+0800, U+D7FF, U+E000, U+FFFF */
        "\xF0\x90\x80\x80",
        "\xF4\x8F\xBF\xBF", /* U+10000, U+10FFFF */
    };
    for (size_t i = 0; i < sizeof characters / sizeof *characters; i++)
        assert_int_equal(size_of(characters[i], strlen(characters[i])), strlen(characters[i]));
    assert_int_equal(utf8_size("\0", 1), 1);
}

static void ill_formed_characters(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "\x80",
        "\xBF", /* a continuation byte first */
        "\xC0\xAF",
        "\xC1\xBF",
        "\xE0\x9F\xBF",
        "\xF0\x8F\xBF\xBF", /* longer than needed */
        "\xED\xA0\x80",
        "\xED\xBF\xBF", /* surrogates */
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xFF", /* beyond U+10FFFF */
        "\xC3\x28",
        "\xE2\x82\x28",
        "\xF0\x9F\x98\x28",
        "\xE2\x82\xC0", /* no continuation byte */
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(size_of(wrong[i], strlen(wrong[i])), 0);
}

static void a_cut_character_is_ill_formed(void **state) {
    (void)state;
    static const char *const cut[] = {"\xC3", "\xE2", "\xE2\x82", "\xF0", "\xF0\x9F", "\xF0\x9F\x98"};
    for (size_t i = 0; i < sizeof cut / sizeof *cut; i++)
        assert_int_equal(size_of(cut[i], strlen(cut[i])), 0);
}

static void every_two_bytes(void **state) {
    (void)state;
    for (unsigned int first = 0; first < 256; first++)
        for (unsigned int second = 0; second < 256; second++) {
            const char text[2] = {(char)first, (char)second};
            bool pair = first >= 0xC2 && first <= 0xDF && second >= 0x80 && second <= 0xBF;
            assert_int_equal(utf8_size(text, 2), first < 0x80 ? 1 : pair ? 2 : 0);
        }
}

static void text_has_no_nul(void **state) {
    (void)state;
    assert_true(utf8_is_text(NULL, 0));
    assert_true(utf8_is_text("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", 14));
    assert_false(utf8_is_text("\0", 1));
    assert_false(utf8_is_text("a\0b", 3));
    assert_false(utf8_is_text("ab\0", 3));
    assert_false(utf8_is_text("ab\x80", 3));
    assert_false(utf8_is_text("\xE2\x82\xAC", 2));
    assert_true(utf8_is_text("ab\x80", 2));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_and_last_characters_of_each_size),
        cmocka_unit_test(ill_formed_characters),
        cmocka_unit_test(a_cut_character_is_ill_formed),
        cmocka_unit_test(every_two_bytes),
        cmocka_unit_test(text_has_no_nul),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
