/* test_secret.c: tokens in files, and headers that bring them. */
#include "server/base/secret.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char error[512];

static bool read_text(struct secret *secret, const char *text, size_t size) {
    char path[] = "/tmp/dien-secret-XXXXXX";
    int file = mkstemp(path);
    assert_true(file >= 0 && write(file, text, size) == (ssize_t)size);
    close(file);
    bool good = secret_read(secret, path, error, sizeof error);
    unlink(path);
    return good;
}

static void one_line_is_a_token(void **state) {
    (void)state;
    static const char *const texts[] = {"token", "token\n", "token\r\n", "token  \n\n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct secret secret = {""};
        assert_true(read_text(&secret, texts[i], strlen(texts[i])));
        assert_string_equal(secret.text, "token");
    }
}

static void other_files_change_nothing(void **state) {
    (void)state;
    char longest[SECRET_MAX + 2];
    struct secret secret = {"before"};
    memset(longest, 'x', sizeof longest);
    static const struct {
        const char *text;
        size_t size;
    } texts[] = {{"", 0}, {"\n", 1}, {"two words", 9}, {" token", 6}, {"a\nb", 3}, {"\xC3\xA9", 2}, {"a\0b", 3}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (read_text(&secret, texts[i].text, texts[i].size))
            fail_msg("text %zu is a token", i);
        assert_non_null(strstr(error, "a token has 1 to 255 visible characters of ASCII"));
    }
    assert_false(read_text(&secret, longest, SECRET_MAX + 1));
    assert_false(secret_read(&secret, "/nowhere/token", error, sizeof error));
    assert_non_null(strstr(error, "\"/nowhere/token\": No such file"));
    assert_string_equal(secret.text, "before");
    assert_true(read_text(&secret, longest, SECRET_MAX));
    assert_int_equal(strlen(secret.text), SECRET_MAX);
}

static void the_header_brings_it_whole(void **state) {
    (void)state;
    const struct secret secret = {"to/k.en=="}, none = {""};
    static const char *const good[] = {"Bearer to/k.en==", "bearer to/k.en==", "BEARER  to/k.en=="};
    static const char *const bad[] = {"",
                                      "Bearer",
                                      "Bearer ",
                                      "to/k.en==",
                                      "Bearer to",
                                      "Bearer to/k.en=",
                                      "Bearer TO/k.en==",
                                      "Bearer to/k.en== ",
                                      "Basic to/k.en==",
                                      "Bearerto/k.en==",
                                      "Bearer to/k.en==="};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (!secret_is_borne(&secret, good[i]))
            fail_msg("%s", good[i]);
        assert_false(secret_is_borne(&none, good[i]));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (secret_is_borne(&secret, bad[i]) || secret_is_borne(&none, bad[i]))
            fail_msg("%s", bad[i]);
    }
    assert_false(secret_is_borne(&secret, NULL));
    char longest[SECRET_MAX + 64] = "Bearer ";
    memset(longest + 7, 'x', sizeof longest - 8);
    assert_false(secret_is_borne(&secret, longest));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_is_a_token),
        cmocka_unit_test(other_files_change_nothing),
        cmocka_unit_test(the_header_brings_it_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
