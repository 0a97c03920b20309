/* test_options.c: defaults, the environment, flags, and errors that name the flag. */
#include "server/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_ARGUMENTS = 8 };

static struct options options;
static char error[512];
static char *printed;

static enum options_result parse(const char *const *arguments) {
    char *argv[MOST_ARGUMENTS + 2] = {(char[]){"dien-server"}};
    static char copies[MOST_ARGUMENTS][128];
    int argc = 1;
    for (; argc <= MOST_ARGUMENTS && arguments[argc - 1] != NULL; argc++) {
        snprintf(copies[argc - 1], sizeof copies[0], "%s", arguments[argc - 1]);
        argv[argc] = copies[argc - 1];
    }
    size_t size = 0;
    free(printed);
    FILE *out = open_memstream(&printed, &size);
    assert_non_null(out);
    memset(error, 0, sizeof error);
    memset(&options, 0xA5, sizeof options);
    enum options_result result = options_parse(&options, argc, argv, out, error, sizeof error);
    fclose(out);
    return result;
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

static int forget(void **state) {
    (void)state;
    free(printed);
    printed = NULL;
    unsetenv("DIEN_MODEL");
    unsetenv("DIEN_MAX_BODY");
    unsetenv("DIEN_ACCESS_LOG");
    unsetenv("DIEN_PORT");
    return 0;
}

static void defaults_hold(void **state) {
    (void)state;
    assert_int_equal(PARSE("--model", "m"), OPTIONS_RUN);
    assert_string_equal(options.model, "m");
    assert_string_equal(options.listen, "127.0.0.1:8080");
    assert_null(options.address_file);
    assert_int_equal(options.threads, 0);
    assert_int_equal(options.queue, 1024);
    assert_int_equal(options.precision, DIEN_FLOAT32);
    assert_int_equal(options.max_body, 4 << 20);
    assert_int_equal(options.max_candidates, 4096);
    assert_int_equal(options.max_connections, 10000);
    assert_int_equal(options.log_buffer, 1 << 20);
    assert_true(options.idle_timeout == 75);
    assert_true(options.samples_tolerance == 1e-5);
    assert_int_equal(options.log_level, LEVEL_INFO);
    assert_true(options.access_log);
    assert_false(options.check);
}

static void a_flag_beats_the_environment(void **state) {
    (void)state;
    setenv("DIEN_MODEL", "from-environment", 1);
    setenv("DIEN_MAX_BODY", "64K", 1);
    setenv("DIEN_ACCESS_LOG", "off", 1);
    assert_int_equal(PARSE("--max-body=1MiB"), OPTIONS_RUN);
    assert_string_equal(options.model, "from-environment");
    assert_int_equal(options.max_body, 1 << 20);
    assert_false(options.access_log);
}

static void both_forms_of_a_flag(void **state) {
    (void)state;
    assert_int_equal(PARSE("--model=a=b", "--deadline", "0.25", "--log-level=debug", "--check"), OPTIONS_RUN);
    assert_string_equal(options.model, "a=b");
    assert_true(options.deadline == 0.25);
    assert_int_equal(options.log_level, LEVEL_DEBUG);
    assert_true(options.check);
}

static void variables_of_others_are_left_alone(void **state) {
    (void)state;
    setenv("DIEN_PORT", "tcp://10.0.0.1:8080", 1); /* Kubernetes, for a service named "dien" */
    assert_int_equal(PARSE("--model", "m"), OPTIONS_RUN);
}

/* Each is refused with an error that starts with the flag or variable. */
static void errors_name_the_flag(void **state) {
    (void)state;
    static const struct {
        const char *argument, *start;
    } cases[] = {
        {"--max-body=", "--max-body: "},
        {"--max-body=x", "--max-body: "},
        {"--max-body=4x", "--max-body: "},
        {"--max-body=4Ki", "--max-body: "},
        {"--max-body=-1", "--max-body: "},
        {"--max-body=0", "--max-body: "},
        {"--max-body=nan", "--max-body: "},
        {"--max-body=1e999", "--max-body: "},
        {"--queue=1.5", "--queue: "},
        {"--queue=10K", "--queue: "},
        {"--queue= 10", "--queue: "},
        {"--threads=9999", "--threads: "},
        {"--deadline=1s", "--deadline: "},
        {"--deadline=inf", "--deadline: "},
        {"--access-log=yes", "--access-log: "},
        {"--log-level=loud", "--log-level: "},
        {"--listen=", "--listen: "},
        {"--client-key=", "--client-key: "},
        {"--client-key=X Key", "--client-key: "},
        {"--client-key=X-Key:", "--client-key: "},
        {"--no-such", "--no-such: "},
        {"model", "model: "},
        {"--queue", "--queue: "},
        {"-h", "-h: "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(PARSE("--model=m", cases[i].argument), OPTIONS_BAD);
        if (strncmp(error, cases[i].start, strlen(cases[i].start)) != 0)
            fail_msg("%s: %s", cases[i].argument, error);
    }
    assert_int_equal(PARSE("--queue=5"), OPTIONS_BAD);
    assert_memory_equal(error, "--model: ", 9);
    setenv("DIEN_MAX_BODY", "huge", 1);
    assert_int_equal(PARSE("--model=m"), OPTIONS_BAD);
    assert_memory_equal(error, "DIEN_MAX_BODY: ", 15);
}

/* Bytes, or one of two words. */
static void prefault_is_bytes_or_a_word(void **state) {
    (void)state;
    assert_int_equal(PARSE("--model", "m"), OPTIONS_RUN);
    assert_true(options.prefault == OPTIONS_AUTO);
    assert_int_equal(PARSE("--model", "m", "--prefault", "3M"), OPTIONS_RUN);
    assert_int_equal(options.prefault, 3 << 20);
    assert_int_equal(PARSE("--model", "m", "--prefault", "off"), OPTIONS_RUN);
    assert_int_equal(options.prefault, 0);
    assert_int_equal(PARSE("--model", "m", "--prefault", "on"), OPTIONS_BAD);
    assert_non_null(strstr(error, "--prefault"));
    assert_int_equal(PARSE("--model", "m", "--prefault", "1.5"), OPTIONS_BAD);
}

/* The flag whose limit is called "max_body_bytes" or "idle_timeout_seconds". */
static void flag_of(const char *limit, char flag[64]) {
    snprintf(flag, 64, "--%s", limit);
    for (char *letter = flag; *letter != '\0'; letter++)
        *letter = *letter == '_' ? '-' : *letter;
    static const char *const units[] = {"-bytes", "-seconds"};
    for (size_t i = 0; i < 2; i++) {
        char *unit = strstr(flag, units[i]);
        if (unit != NULL)
            *unit = '\0';
    }
}

static void help_names_every_limit(void **state) {
    (void)state;
    struct options_limit limits[OPTIONS_MAX_LIMITS];
    assert_int_equal(PARSE("--help"), OPTIONS_DONE);
    assert_int_equal(PARSE("--model", "m", "--help"), OPTIONS_DONE);
    size_t count = options_limits(&options, limits);
    assert_in_range(count, 15, OPTIONS_MAX_LIMITS);
    for (size_t i = 0; i < count; i++) {
        char flag[64];
        flag_of(limits[i].name, flag);
        if (strstr(printed, flag) == NULL)
            fail_msg("--help lacks %s", flag);
    }
    assert_non_null(strstr(printed, "[default 4M; DIEN_MAX_BODY]"));
}

static void limits_have_their_values(void **state) {
    (void)state;
    struct options_limit limits[OPTIONS_MAX_LIMITS];
    assert_int_equal(PARSE("--model=m", "--max-candidates=7", "--body-timeout=2.5"), OPTIONS_RUN);
    size_t count = options_limits(&options, limits);
    unsigned seen = 0;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(limits[i].name, "max_candidates") == 0) {
            assert_true(limits[i].value == 7 && limits[i].for_clients);
            seen++;
        }
        if (strcmp(limits[i].name, "body_timeout_seconds") == 0) {
            assert_true(limits[i].value == 2.5 && !limits[i].for_clients);
            seen++;
        }
    }
    assert_int_equal(seen, 2);
}

static void version_is_printed(void **state) {
    (void)state;
    assert_int_equal(PARSE("--version"), OPTIONS_DONE);
    assert_memory_equal(printed, "dien-server ", 12);
}

/* Words are those of a call, and of nothing else. */
static void words_belong_to_a_call(void **state) {
    (void)state;
    assert_int_equal(PARSE("--admin", "unix:x", "log-level", "debug"), OPTIONS_RUN);
    assert_string_equal(options.admin, "unix:x");
    assert_string_equal(options.words[0], "log-level");
    assert_string_equal(options.words[1], "debug");
    assert_int_equal(PARSE("models", "--admin=self"), OPTIONS_RUN);
    assert_string_equal(options.words[0], "models");
    assert_null(options.words[1]);
    assert_int_equal(PARSE("--model", "m"), OPTIONS_RUN);
    assert_null(options.words[0]);
    assert_int_equal(PARSE("--model", "m", "models"), OPTIONS_BAD);
    assert_string_equal(error, "models: is not an option; --help lists them");
    assert_int_equal(PARSE("--admin", "self", "a", "b", "c"), OPTIONS_BAD);
    assert_string_equal(error, "c: is not an option; --help lists them");
    assert_int_equal(PARSE("--admin", "self", "-v"), OPTIONS_BAD);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(words_belong_to_a_call, forget),
        cmocka_unit_test_teardown(defaults_hold, forget),
        cmocka_unit_test_teardown(a_flag_beats_the_environment, forget),
        cmocka_unit_test_teardown(both_forms_of_a_flag, forget),
        cmocka_unit_test_teardown(variables_of_others_are_left_alone, forget),
        cmocka_unit_test_teardown(errors_name_the_flag, forget),
        cmocka_unit_test_teardown(prefault_is_bytes_or_a_word, forget),
        cmocka_unit_test_teardown(help_names_every_limit, forget),
        cmocka_unit_test_teardown(limits_have_their_values, forget),
        cmocka_unit_test_teardown(version_is_printed, forget),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
