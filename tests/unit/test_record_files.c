/* test_record_files.c: frames in files that are turned over, cut back after a failed write, and removed by age. */
#include "server/base/record_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

enum { NAMES_MAX = 64, LINE_BYTES = 4096, PATH_BYTES = NAME_MAX + 80 };

static char directory[64];
static char line[LINE_BYTES + 1]; /* bytes that no compressor makes shorter, and a line end */

struct names {
    char name[NAMES_MAX][NAME_MAX + 1];
    size_t count;
};

static int by_name(const void *a, const void *b) {
    return strcmp(a, b);
}

static struct names list(void) {
    struct names names = {.count = 0};
    DIR *entries = opendir(directory);
    assert_non_null(entries);
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries))
        if (entry->d_name[0] != '.' && names.count < NAMES_MAX)
            snprintf(names.name[names.count++], sizeof names.name[0], "%s", entry->d_name);
    closedir(entries);
    qsort(names.name, names.count, sizeof names.name[0], by_name);
    return names;
}

static void path_of(const char *name, char path[PATH_BYTES]) {
    snprintf(path, PATH_BYTES, "%s/%s", directory, name);
}

static void remove_all(void) {
    struct names names = list();
    char path[PATH_BYTES];
    for (size_t i = 0; i < names.count; i++) {
        path_of(names.name[i], path);
        unlink(path);
    }
}

/* Lines of a file, all of whose frames must be whole. */
static size_t lines_in(const char *name) {
    static char packed[1 << 20], plain[1 << 21];
    char path[PATH_BYTES];
    path_of(name, path);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(packed, 1, sizeof packed, file), length = 0, lines = 0;
    fclose(file);
    for (size_t at = 0; at < size;) {
        size_t frame = ZSTD_findFrameCompressedSize(packed + at, size - at);
        assert_false(ZSTD_isError(frame));
        size_t got = ZSTD_decompress(plain, sizeof plain, packed + at, frame);
        assert_false(ZSTD_isError(got));
        length = got;
        assert_true(length > 0 && plain[length - 1] == '\n');
        for (size_t i = 0; i < length; i++)
            lines += plain[i] == '\n';
        at += frame;
    }
    return lines;
}

static int start(void **state) {
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/dien-records-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    srand(1);
    for (size_t i = 0; i < LINE_BYTES; i++) {
        char byte = (char)(rand() % 255 + 1);
        line[i] = byte == '\n' ? 'x' : byte;
    }
    line[LINE_BYTES] = '\n';
    return 0;
}

static int stop(void **state) {
    (void)state;
    remove_all();
    return rmdir(directory);
}

static struct record_files *open_files(size_t file_bytes, double seconds, size_t total) {
    char error[256] = "";
    const struct record_files_options options = {
        .directory = directory, .file_bytes = file_bytes, .file_seconds = seconds, .total_bytes = total};
    struct record_files *files = record_files_open(&options, error, sizeof error);
    assert_string_equal(error, "");
    assert_non_null(files);
    return files;
}

static bool write_line(struct record_files *files) {
    return record_files_write(files, line, sizeof line);
}

static void a_full_file_is_turned_over(void **state) {
    (void)state;
    remove_all();
    struct record_files *files = open_files((size_t)3 * LINE_BYTES, 3600, 1 << 30);
    for (int i = 0; i < 7; i++)
        assert_true(write_line(files));
    struct names names = list();
    assert_int_equal(names.count, 3);
    assert_non_null(strstr(names.name[2], ".jsonl.zst.open"));
    struct stat status;
    char path[PATH_BYTES];
    path_of(names.name[2], path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    record_files_close(files);
    names = list();
    assert_int_equal(names.count, 3);
    size_t lines = 0;
    for (size_t i = 0; i < names.count; i++) {
        assert_null(strstr(names.name[i], ".open"));
        lines += lines_in(names.name[i]);
    }
    assert_int_equal(lines, 7);
}

static void an_old_file_is_turned_over(void **state) {
    (void)state;
    remove_all();
    struct record_files *files = open_files(1 << 20, 1e-9, 1 << 30);
    assert_true(write_line(files));
    record_files_turn(files);
    struct names names = list();
    assert_int_equal(names.count, 1);
    assert_null(strstr(names.name[0], ".open"));
    record_files_close(files);
    assert_int_equal(list().count, 1);
}

static void the_oldest_go(void **state) {
    (void)state;
    remove_all();
    struct record_files *files = open_files(LINE_BYTES, 3600, (size_t)5 * LINE_BYTES);
    for (int i = 0; i < 20; i++) {
        assert_true(write_line(files));
        struct names names = list();
        assert_true(names.count <= 5);
    }
    assert_true(record_files_removed(files) >= 15);
    assert_true(record_files_bytes(files) >= (uint64_t)20 * LINE_BYTES);
    struct names before = list();
    record_files_close(files);
    struct names names = list();
    assert_int_equal(names.count, before.count);
    assert_non_null(strstr(names.name[names.count - 1], "-000019"));
}

/* A file that a killed process left open has its name afterwards; one whose writer lives stays as it is. */
static void a_file_that_was_left_is_turned_over(void **state) {
    (void)state;
    remove_all();
    char path[PATH_BYTES];
    path_of("requests-20200101T000000Z-000000.jsonl.zst.open", path);
    int file = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(file >= 0);
    close(file);
    path_of("requests-other.open", path);
    file = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(file >= 0);
    close(file);
    struct record_files *first = open_files(1 << 20, 3600, 1 << 30);
    assert_true(write_line(first));
    struct record_files *second = open_files(1 << 20, 3600, 1 << 30);
    struct names names = list();
    assert_int_equal(names.count, 3);
    assert_string_equal(names.name[0], "requests-20200101T000000Z-000000.jsonl.zst");
    assert_non_null(strstr(names.name[1], ".jsonl.zst.open"));
    assert_string_equal(names.name[2], "requests-other.open");
    assert_true(write_line(second)); /* in a file of its own */
    assert_int_equal(list().count, 4);
    record_files_close(first);
    record_files_close(second);
}

/* A write that fails leaves whole frames alone behind, and later ones go on. */
static void a_failed_write_is_cut_back(void **state) {
    (void)state;
    remove_all();
    signal(SIGXFSZ, SIG_IGN);
    struct record_files *files = open_files(1 << 20, 3600, 1 << 30);
    assert_true(write_line(files));
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit little = {.rlim_cur = LINE_BYTES + LINE_BYTES / 2, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
    bool written = write_line(files);
    int reason = errno;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(written);
    assert_int_equal(reason, EFBIG);
    assert_int_equal(lines_in(list().name[0]), 1);
    assert_true(write_line(files));
    record_files_close(files);
    assert_int_equal(lines_in(list().name[0]), 2);
}

static void a_directory_that_cannot_be(void **state) {
    (void)state;
    char error[256] = "";
    const struct record_files_options options = {.directory = "/proc/no/such", .file_bytes = 1, .total_bytes = 1};
    assert_null(record_files_open(&options, error, sizeof error));
    assert_non_null(strstr(error, "/proc/no/such"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_full_file_is_turned_over),
        cmocka_unit_test(an_old_file_is_turned_over),
        cmocka_unit_test(the_oldest_go),
        cmocka_unit_test(a_file_that_was_left_is_turned_over),
        cmocka_unit_test(a_failed_write_is_cut_back),
        cmocka_unit_test(a_directory_that_cannot_be),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
