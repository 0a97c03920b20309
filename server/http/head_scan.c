/* head_scan.c: lines are found with memchr(), so that a head costs a fraction of a microsecond. */
#include "server/http/head_scan.h"

#include <string.h>
#include <strings.h>

enum { LENGTH_DIGITS = 18 /* fit in 64 bits */ };
static const char length_name[] = "content-length:";
static const char white_space[] = " \t";

static bool refuse(struct problem *problem, enum problem_kind kind, const char *text) {
    problem_set(problem, kind, "", "%s", text);
    return false;
}

static bool is_digit(char byte) {
    return byte >= '0' && byte <= '9';
}

/* RFC 9112, section 2.3; the letters are those and no others. */
static bool is_version(const char *text, size_t length) {
    static const char form[] = "HTTP/d.d";
    bool is = length == sizeof form - 1;
    for (size_t i = 0; is && i < length; i++)
        is = form[i] == 'd' ? is_digit(text[i]) : text[i] == form[i];
    return is;
}

/* METHOD TARGET VERSION, with a space between them. */
static bool take_request_line(struct head_scan *scan, const char *line, size_t length, struct problem *problem) {
    static const char head[] = "HEAD ";
    scan->is_head = length >= sizeof head - 1 && strncmp(line, head, sizeof head - 1) == 0;
    const char *first = memchr(line, ' ', length), *last = memrchr(line, ' ', length);
    if (first == NULL || first == line || last < first + 2)
        return refuse(problem, PROBLEM_INVALID_HTTP, "The first line is not a method, a target and a version.");
    const char *version = last + 1;
    if (!is_version(version, length - (size_t)(version - line)))
        return refuse(problem, PROBLEM_INVALID_HTTP, "The first line does not end in a version, as HTTP/1.1.");
    if (version[sizeof "HTTP/" - 1] != '1')
        return refuse(problem, PROBLEM_HTTP_VERSION, "The version of HTTP must be 1.1 or 1.0.");
    return true;
}

/* The value of a Content-Length: digits with white space around. */
static bool take_content_length(char *value, size_t length, struct problem *problem) {
    size_t before = 0, digits = 0;
    while (before < length && strchr(white_space, value[before]) != NULL)
        before++;
    while (before + digits < length && is_digit(value[before + digits]))
        digits++;
    size_t after = before + digits;
    while (after < length && strchr(white_space, value[after]) != NULL)
        after++;
    if (digits == 0 || after < length)
        return refuse(problem, PROBLEM_INVALID_HTTP, "Content-Length is not a number.");
    if (digits > LENGTH_DIGITS)
        return refuse(problem, PROBLEM_BODY_TOO_LARGE, "The body is larger than any number we know.");
    memmove(value + length - digits, value + before, digits);
    memset(value, ' ', length - digits);
    return true;
}

static bool take_header(char *line, size_t length, struct problem *problem) {
    if (strchr(white_space, *line) != NULL)
        return refuse(problem, PROBLEM_INVALID_HTTP, "A header is folded onto a second line.");
    if (memchr(line, ':', length) == NULL)
        return refuse(problem, PROBLEM_INVALID_HTTP, "A header has no colon.");
    size_t name = sizeof length_name - 1;
    if (length >= name && strncasecmp(line, length_name, name) == 0)
        return take_content_length(line + name, length - name, problem);
    return true;
}

/* A line without its CR LF. */
static bool take_line(struct head_scan *scan, char *line, size_t length, struct problem *problem) {
    if (memchr(line, '\0', length) != NULL)
        return refuse(problem, PROBLEM_INVALID_HTTP, "The headers hold a NUL.");
    if (length == 0) {
        scan->complete = scan->lines > 0; /* empty lines before the first are skipped: RFC 9112, section 2.2 */
        return true;
    }
    scan->lines++;
    return scan->lines == 1 ? take_request_line(scan, line, length, problem) : take_header(line, length, problem);
}

/* `end` is the number of bytes of the head that have come. */
static bool is_within(const struct head_scan *scan, size_t end, const struct head_limits *limits,
                      struct problem *problem) {
    if (scan->lines > limits->lines)
        problem_set(problem, PROBLEM_HEADERS_TOO_LARGE, "", "The request has more than %u headers.",
                    limits->lines > 0 ? limits->lines - 1 : 0);
    else if (end + (size_t)scan->lines * HEAD_LINE_COST > limits->bytes)
        problem_set(problem, PROBLEM_HEADERS_TOO_LARGE, "",
                    "The request line and the headers take more than %zu bytes, %d more for each counted.",
                    limits->bytes, (int)HEAD_LINE_COST);
    else
        return true;
    return false;
}

bool head_scan_take(struct head_scan *scan, char *head, size_t size, const struct head_limits *limits,
                    struct problem *problem) {
    while (!scan->complete) {
        char *feed = memchr(head + scan->scanned, '\n', size - scan->scanned);
        scan->scanned = feed != NULL ? (size_t)(feed + 1 - head) : size;
        if (feed == NULL)
            return is_within(scan, size, limits, problem);
        char *line = head + scan->line;
        if (feed == line || feed[-1] != '\r')
            return refuse(problem, PROBLEM_INVALID_HTTP, "A line does not end in CR LF.");
        if (!take_line(scan, line, (size_t)(feed - 1 - line), problem) ||
            !is_within(scan, scan->scanned, limits, problem))
            return false;
        scan->line = scan->scanned;
    }
    return true;
}
