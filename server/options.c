/* options.c: the table of options, and its readers. */
#include "server/options.h"

#include "server/base/version.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum kind {
    TEXT,
    HEADER,
    COUNT,
    BYTES,
    BYTES_OR_AUTO,
    SECONDS,
    NUMBER,
    SWITCH,
    FLAG,
    MODE,
    LEVEL,
    PRECISION,
    MEMORY,
    COMMAND
};

/* Who meets the limit: nobody (no limit at all), the operator, or clients too. */
enum audience { NO_LIMIT, LIMIT, CLIENT_LIMIT };

struct row {
    const char *name;
    enum kind kind;
    enum audience audience;
    size_t offset;
    const char *initial; /* the default; NULL: none */
    double least, most;
    const char *help;
};

#define FIELD(name) offsetof(struct options, name)

#define SIZE_MOST (64 * 1024.0 * 1024 * 1024)
#define DAY       86400.0

static const struct row rows[] = {
    {"model", TEXT, NO_LIMIT, FIELD(model), NULL, 0, 0,
     "model directory to serve, or a symbolic link to it; SIGHUP loads what it names then; required"},
    {"listen", TEXT, NO_LIMIT, FIELD(listen), "127.0.0.1:8080", 0, 0,
     "HOST:PORT; [::]:8080 for IPv6; port 0: any; or unix:PATH, a socket's file"},
    {"listen-mode", MODE, NO_LIMIT, FIELD(listen_mode), "660", 0, 0, "permissions of that file, in octal"},
    {"listen-when-ready", SWITCH, NO_LIMIT, FIELD(listen_when_ready), "off", 0, 0,
     "accept no connection before the model is proved, not for health either; --reuse-port on does so, too"},
    {"admin-listen", TEXT, NO_LIMIT, FIELD(admin_listen), NULL, 0, 0,
     "HOST:PORT or unix:PATH (mode 600) for operators: models, log level, drain, users, metrics; without it nowhere"},
    {"admin-token-file", TEXT, NO_LIMIT, FIELD(admin_token_file), NULL, 0, 0,
     "the bearer token that its requests must bring; needed where other machines reach it; read again on SIGHUP"},
    {"admin-host", TEXT, NO_LIMIT, FIELD(admin_host), NULL, 0, 0,
     "HOST:PORT that its requests may name in Host, beside its address"},
    {"admin-connections", COUNT, LIMIT, FIELD(admin_connections), "64", 1, 1e5,
     "open connections to it; more: the longest idle is closed"},
    {"admin-max-body", BYTES, LIMIT, FIELD(admin_max_body), "4K", 64, 65536,
     "the body of one of its own calls; more: 413"},
    {"admin-max-buffered", BYTES, LIMIT, FIELD(admin_max_buffered), "16M", 65536, SIZE_MOST,
     "bodies of all requests to it; more: 503"},
    {"public-users", SWITCH, NO_LIMIT, FIELD(public_users), "on", 0, 0,
     "off: /users, /events, and history_append in /score, are not on the public port, but on the admin plane alone"},
    {"public-metrics", SWITCH, NO_LIMIT, FIELD(public_metrics), "on", 0, 0,
     "off: /metrics is not on the public port, but on the admin plane alone"},
    {"address-file", TEXT, NO_LIMIT, FIELD(address_file), NULL, 0, 0, "write the address in use to this file"},
    {"reuse-port", SWITCH, NO_LIMIT, FIELD(reuse_port), "off", 0, 0, "let several servers share the port"},
    {"backlog", COUNT, LIMIT, FIELD(backlog), "1024", 1, 65535, "connections that wait to be accepted"},
    {"threads", COUNT, LIMIT, FIELD(threads), "0", 0, 1024, "scoring threads; 0: as the CPU quota allows"},
    {"queue", COUNT, LIMIT, FIELD(queue), "1024", 1, 1e6, "requests that may wait for a thread; more: 503"},
    {"max-body", BYTES, CLIENT_LIMIT, FIELD(max_body), "4M", 1, SIZE_MOST,
     "a request's body, decoded as well; more: 413"},
    {"max-buffered", BYTES, LIMIT, FIELD(max_buffered), "256M", 1, SIZE_MOST, "bodies of all requests; more: 503"},
    {"buffer-reserve", BYTES, LIMIT, FIELD(buffer_reserve), "32M", 0, SIZE_MOST,
     "of that, for bodies of at most --small-body; at most half of it"},
    {"small-body", BYTES, LIMIT, FIELD(small_body), "64K", 0, SIZE_MOST,
     "larger bodies get no reserve and must keep up --body-rate"},
    {"body-rate", BYTES, LIMIT, FIELD(body_rate), "16K", 0, SIZE_MOST,
     "what a large body must bring each second, over two; less: 408; 0: any"},
    {"max-candidates", COUNT, CLIENT_LIMIT, FIELD(max_candidates), "4096", 1, 1e6, "a request's candidates; more: 422"},
    {"max-history", COUNT, CLIENT_LIMIT, FIELD(max_history), "65536", 1, 1e7, "a request's behaviours; more: 422"},
    {"max-events", COUNT, CLIENT_LIMIT, FIELD(max_events), "10000", 1, 1e6, "events of one POST /events; more: 422"},
    {"max-reply-buffered", BYTES, LIMIT, FIELD(max_reply_buffered), "256M", 1, SIZE_MOST,
     "replies that clients have not taken; more: the longest waiting are dropped"},
    {"max-connections", COUNT, LIMIT, FIELD(max_connections), "10000", 1, 1e6,
     "open connections; more: the longest idle is closed"},
    {"reserved-connections", COUNT, LIMIT, FIELD(reserved_connections), "64", 32, 1e5,
     "beside them, for health and metrics while none of them is idle"},
    {"connection-memory", BYTES, LIMIT, FIELD(connection_memory), "24K", 8192, 1048576,
     "a request's head, 64 bytes more for each header, and 2K; half of it, less 2K, bounds their number; more: 431"},
    {"strict-protobuf", SWITCH, NO_LIMIT, FIELD(strict_protobuf), "off", 0, 0,
     "refuse messages with fields that score.proto does not have, in place of ignoring the fields"},
    {"explain-held", SWITCH, NO_LIMIT, FIELD(explain_held), "off", 0, 0,
     "explain also over a history that the server holds: it shows that history to whoever has a token"},
    {"request-memory", BYTES, LIMIT, FIELD(request_memory), "256M", 65536, SIZE_MOST,
     "memory of a request while it is scored; more: 503"},
    {"cache-bytes", BYTES, LIMIT, FIELD(cache_bytes), "256M", 0, 2047 * 1024.0 * 1024 * 1024,
     "user states that are kept; more: the least useful go; 0: none is kept"},
    {"cache-ttl", SECONDS, LIMIT, FIELD(cache_ttl), "0", 0, 3650 * DAY,
     "a kept state's age, since it was last computed or extended; more: forgotten; 0: no limit"},
    {"histories", TEXT, NO_LIMIT, FIELD(histories), NULL, 0, 0,
     "where users' histories are kept: lmdb:PATH, redis://[USER:PASSWORD@]HOST:PORT[/DB] or unix:PATH"},
    {"histories-password-file", TEXT, NO_LIMIT, FIELD(histories_password_file), NULL, 0, 0, "the password of Redis"},
    {"histories-export", TEXT, NO_LIMIT, FIELD(histories_export), NULL, 0, 0,
     "write all histories of --histories to this file, or - for standard output, as lines of JSON, and exit"},
    {"histories-import", TEXT, NO_LIMIT, FIELD(histories_import), NULL, 0, 0,
     "store the histories of such a file, or - for standard input, in --histories, and exit"},
    {"histories-prefix", TEXT, NO_LIMIT, FIELD(histories_prefix), NULL, 0, 0,
     "of each key, to part services that share a store"},
    {"histories-sync", TEXT, NO_LIMIT, FIELD(histories_sync), "commit", 0, 0,
     "LMDB: commit: an answer waits until its change is synced; SECONDS: the last commit may wait so long"},
    {"histories-timeout", SECONDS, LIMIT, FIELD(histories_timeout), "0", 0, DAY,
     "an answer of the store; more: 503, or a state in memory; 0: 1 for LMDB, 0.005 for Redis"},
    {"histories-freshness", SECONDS, LIMIT, FIELD(histories_freshness), "0", 0, DAY,
     "for which a state in memory is used without asking the store; other servers' changes may be unseen so long"},
    {"histories-ttl", SECONDS, LIMIT, FIELD(histories_ttl), "0", 0, 36500 * DAY,
     "Redis: a history that nothing is appended to; more: forgotten; 0: no limit"},
    {"histories-redis-wait", COUNT, LIMIT, FIELD(histories_redis_wait), "0", 0, 100,
     "Redis: replicas that must have a change before its answer (WAIT); fewer in time: 503"},
    {"histories-keep", COUNT, LIMIT, FIELD(histories_keep), "1000", 1, 1e6,
     "behaviours of a list that are kept; more: the oldest go"},
    {"histories-dedupe", COUNT, LIMIT, FIELD(histories_dedupe), "1024", 1, 1e6,
     "event ids of a user that are remembered; more: the oldest go"},
    {"histories-user-bytes", BYTES, LIMIT, FIELD(histories_user_bytes), "256K", 1024, 64 * 1024 * 1024.0,
     "a user's history; more: 422"},
    {"histories-behaviour-bytes", BYTES, CLIENT_LIMIT, FIELD(histories_behaviour_bytes), "1K", 8, 1024 * 1024.0,
     "a behaviour that is stored; more: 422"},
    {"histories-map", BYTES, LIMIT, FIELD(histories_map), "16G", 1048576, 1024 * SIZE_MOST,
     "LMDB: the file's largest size; more: 507"},
    {"user-write", TEXT, NO_LIMIT, FIELD(user_write), NULL, 0, 0,
     "who may change stored histories: public, token or off; without it token, and public on loopback"},
    {"user-write-token-file", TEXT, NO_LIMIT, FIELD(user_write_token_file), NULL, 0, 0,
     "the bearer token of --user-write token"},
    {"request-log", TEXT, NO_LIMIT, FIELD(request_log), NULL, 0, 0,
     "write requests with their replies into files of this directory, for learning and replay"},
    {"request-log-share", NUMBER, LIMIT, FIELD(request_log_share), "1", 0, 1,
     "of users, all of whose requests are written; slow and failed requests are in any case"},
    {"slow-request", SECONDS, LIMIT, FIELD(slow_request), "0.2", 0.0001, DAY,
     "a request that takes so long, from its head to its reply, counts as slow"},
    {"request-log-users", TEXT, NO_LIMIT, FIELD(request_log_users), "hash", 0, 0,
     "user ids in it: hash (keyed, see --hash-key-file), plain or none"},
    {"request-log-history", SWITCH, NO_LIMIT, FIELD(request_log_history), "on", 0, 0,
     "write the behaviours that were used, too, where the request did not bring them"},
    {"request-log-buffer", BYTES, LIMIT, FIELD(request_log_buffer), "64M", 65536, SIZE_MOST,
     "records that wait to be written; more: dropped and counted"},
    {"request-log-file", BYTES, LIMIT, FIELD(request_log_file), "64M", 4096, SIZE_MOST,
     "a file of so many compressed bytes is followed by another, as is"},
    {"request-log-age", SECONDS, LIMIT, FIELD(request_log_age), "3600", 0.1, 30 * DAY, "one of this age"},
    {"request-log-disk", BYTES, LIMIT, FIELD(request_log_disk), "10G", 65536, 1024 * SIZE_MOST,
     "all of its files; more: the oldest go"},
    {"header-timeout", SECONDS, LIMIT, FIELD(header_timeout), "10", 0.1, DAY,
     "first byte to last of a request's headers; more: 408"},
    {"body-timeout", SECONDS, LIMIT, FIELD(body_timeout), "15", 0.1, DAY,
     "headers to last byte of the body; more: 408"},
    {"reply-timeout", SECONDS, LIMIT, FIELD(reply_timeout), "30", 0.1, DAY,
     "for the client to take its reply; more: closed"},
    {"idle-timeout", SECONDS, LIMIT, FIELD(idle_timeout), "75", 0.1, DAY,
     "a connection without a request; more: closed"},
    {"linger-timeout", SECONDS, LIMIT, FIELD(linger_timeout), "5", 0, DAY,
     "reading on after a body was refused, so that the client sees why"},
    {"deadline", SECONDS, LIMIT, FIELD(deadline), "1", 0.001, DAY,
     "a request in the queue; more: 504, or 503 at once where it is to be expected"},
    {"client-key", HEADER, NO_LIMIT, FIELD(client_key), NULL, 0, 0,
     "header that tells clients apart, to be fair among them; without it their addresses do"},
    {"drain-delay", SECONDS, LIMIT, FIELD(drain_delay), "5", 0, DAY, "after SIGTERM: not ready, but still accepting"},
    {"drain-timeout", SECONDS, LIMIT, FIELD(drain_timeout), "20", 0, DAY, "after that: for requests in flight"},
    {"watchdog", SECONDS, LIMIT, FIELD(watchdog), "30", 0, DAY,
     "an event loop that stands still; more: the process ends with a stack trace; 0: never"},
    {"samples-tolerance", NUMBER, LIMIT, FIELD(samples_tolerance), "1e-5", 0, 1,
     "a score of samples.json off by more: the model is refused"},
    {"precision", PRECISION, NO_LIMIT, FIELD(precision), "float32", 0, 0,
     "float32, or reduced: faster, scores off by up to 1e-3, where this CPU and the model gain by it"},
    {"prefault", BYTES_OR_AUTO, NO_LIMIT, FIELD(prefault), "auto", 0, SIZE_MOST,
     "read so much of the model into memory before it is ready; auto: up to half of memory"},
    {"model-memory", MEMORY, NO_LIMIT, FIELD(model_copy), "map", 0, 0,
     "map the model's file, or copy it into memory, where nobody can truncate it"},
    {"model-memory-limit", BYTES, LIMIT, FIELD(model_memory_limit), "0", 0, SIZE_MOST,
     "the live model and one that is loaded beside it; more: it is refused; 0: any"},
    {"model-poll", SECONDS, LIMIT, FIELD(model_poll), "0", 0, DAY,
     "look so often whether --model, a symbolic link, has another target, and load that; 0: never"},
    {"keep-previous", SWITCH, NO_LIMIT, FIELD(keep_previous), "on", 0, 0,
     "keep the model before the live one in memory, for an instant way back"},
    {"model-root", TEXT, NO_LIMIT, FIELD(model_root), NULL, 0, 0,
     "candidates are loaded from directories below this one, and no link is followed; without it there are none"},
    {"hash-key-file", TEXT, NO_LIMIT, FIELD(hash_key_file), NULL, 0, 0,
     "the key of the hash that decides which users a candidate serves; on all replicas alike"},
    {"shadow-buffer", BYTES, LIMIT, FIELD(shadow_buffer), "8M", 0, SIZE_MOST,
     "requests that wait to be scored by the candidate, too; more: not scored by it, and counted"},
    {"candidate-guard", SWITCH, NO_LIMIT, FIELD(candidate_guard), "on", 0, 0,
     "drop a candidate with a score that is no number, or beyond the next two limits"},
    {"candidate-p99-factor", NUMBER, LIMIT, FIELD(candidate_p99_factor), "2", 0, 1e6,
     "its 99th percentile of scoring, as a multiple of the live model's; more: dropped; 0: any"},
    {"candidate-difference", NUMBER, LIMIT, FIELD(candidate_difference), "0.1", 0, 1,
     "the mean difference of its scores in shadow; more: dropped; 0: any"},
    {"candidate-guard-after", COUNT, LIMIT, FIELD(candidate_guard_after), "1000", 1, 1e9,
     "requests of each model before these two limits apply"},
    {"log-level", LEVEL, NO_LIMIT, FIELD(log_level), "info", 0, 0, "debug, info, warning or error"},
    {"log-buffer", BYTES, LIMIT, FIELD(log_buffer), "1M", 16384, 1024 * 1024 * 1024.0,
     "log lines that wait to be written; more: dropped and counted"},
    {"access-log", SWITCH, NO_LIMIT, FIELD(access_log), "on", 0, 0, "a log line for each request"},
    {"old-names", SWITCH, NO_LIMIT, FIELD(old_names), "on", 0, 0,
     "renamed metrics and members of the log keep their old names, too, for one version"},
    {"check", FLAG, NO_LIMIT, FIELD(check), "off", 0, 0, "load the model, prove its samples, say how well, and exit"},
    {"probe", TEXT, NO_LIMIT, FIELD(probe), NULL, 0, 0,
     "ask the server at HOST:PORT or unix:PATH, or at --listen with \"self\", whether it is ready, and exit"},
    {"admin", TEXT, NO_LIMIT, FIELD(admin), NULL, 0, 0,
     "call the admin plane at HOST:PORT or unix:PATH, or at --admin-listen with \"self\": models, reload, rollback, "
     "candidate DIRECTORY, canary SHARE, shadow SHARE, promote, drop, log-level LEVEL or drain; with "
     "--admin-token-file; "
     "and exit"},
    {"admin-timeout", SECONDS, LIMIT, FIELD(admin_timeout), "600", 0.1, DAY, "what --admin waits for its answer"},
    {"version", COMMAND, NO_LIMIT, 0, NULL, 0, 0, "print the version and exit"},
    {"help", COMMAND, NO_LIMIT, 0, NULL, 0, 0, "print this and exit"},
};

enum { ROWS = sizeof rows / sizeof rows[0] };

const char *const options_unit_names[OPTIONS_UNITS] = {
    [UNIT_COUNT] = "items", [UNIT_BYTES] = "bytes", [UNIT_SECONDS] = "seconds", [UNIT_RATIO] = "ratio"};

/* The place of an error message: the flag or variable at fault comes first, then the fault. */
struct complaint {
    const char *source;
    char *text;
    size_t size;
};

static bool complain(const struct complaint *complaint, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool complain(const struct complaint *complaint, const char *format, ...) {
    char fault[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(fault, sizeof fault, format, arguments);
    va_end(arguments);
    snprintf(complaint->text, complaint->size, "%s: %s", complaint->source, fault);
    return false;
}

/* K, M and G, with or without iB: powers of 1024. */
static double multiplier(const char *suffix) {
    static const char letters[] = "KMG";
    if (*suffix == '\0')
        return 1;
    const char *letter = strchr(letters, toupper((unsigned char)*suffix));
    if (letter == NULL || (suffix[1] != '\0' && strcmp(suffix + 1, "iB") != 0))
        return 0;
    return pow(1024, (double)(letter - letters) + 1);
}

static bool parse_number(const struct row *row, const char *text, double *value, const struct complaint *complaint) {
    char *end = NULL;
    errno = 0;
    *value = strtod(text, &end);
    bool number = end != text && errno == 0 && isfinite(*value) && !isspace((unsigned char)*text);
    bool bytes = row->kind == BYTES || row->kind == BYTES_OR_AUTO;
    if (number && bytes) {
        *value *= multiplier(end);
        number = multiplier(end) > 0;
    } else {
        number = number && *end == '\0';
    }
    bool whole = row->kind == COUNT || bytes;
    if (!number || (whole && *value != floor(*value))) {
        return complain(complaint, "\"%s\" is not %s", text,
                        bytes   ? "a number of bytes, such as 4194304, 4M or 4MiB"
                        : whole ? "a whole number"
                                : "a number");
    }
    if (*value < row->least || *value > row->most)
        return complain(complaint, "%s is not between %.15g and %.15g", text, row->least, row->most);
    return true;
}

/* RFC 9110, section 5.6.2: no other name can be in a request. */
static bool is_header_name(const char *text) {
    static const char others[] = "!#$%&'*+-.^_`|~";
    const char *at = text;
    while (*at != '\0' && (isalnum((unsigned char)*at) || strchr(others, *at) != NULL))
        at++;
    return at > text && *at == '\0';
}

/* Read `text` into the option's field. */
static bool assign(struct options *options, const struct row *row, const char *text,
                   const struct complaint *complaint) {
    void *field = (char *)options + row->offset;
    double number = 0;
    switch (row->kind) {
    case TEXT:
        *(const char **)field = text;
        return *text != '\0' || complain(complaint, "is empty");
    case HEADER:
        *(const char **)field = text;
        return is_header_name(text) || complain(complaint, "\"%s\" is not the name of a header", text);
    case SWITCH:
    case FLAG:
        *(bool *)field = strcmp(text, "on") == 0;
        return *(bool *)field || strcmp(text, "off") == 0 || complain(complaint, "\"%s\" is neither on nor off", text);
    case MODE:
        *(unsigned *)field = (unsigned)strtoul(text, NULL, 8);
        return (strlen(text) == 3 && strspn(text, "01234567") == 3) ||
               complain(complaint, "\"%s\" is not three octal digits", text);
    case LEVEL:
        return log_level_named(text, field) || complain(complaint, "\"%s\" is not debug, info, warning or error", text);
    case PRECISION:
        *(enum dien_precision *)field = strcmp(text, "reduced") == 0 ? DIEN_REDUCED : DIEN_FLOAT32;
        return strcmp(text, "reduced") == 0 || strcmp(text, "float32") == 0 ||
               complain(complaint, "\"%s\" is neither float32 nor reduced", text);
    case MEMORY:
        *(bool *)field = strcmp(text, "copy") == 0;
        return *(bool *)field || strcmp(text, "map") == 0 ||
               complain(complaint, "\"%s\" is neither map nor copy", text);
    case BYTES_OR_AUTO:
        *(size_t *)field = strcmp(text, "auto") == 0 ? OPTIONS_AUTO : 0;
        if (strcmp(text, "auto") == 0 || strcmp(text, "off") == 0)
            return true;
        __attribute__((fallthrough));
    case COUNT:
    case BYTES:
        if (!parse_number(row, text, &number, complaint))
            return false;
        *(size_t *)field = (size_t)number;
        return true;
    case SECONDS:
    case NUMBER:
        return parse_number(row, text, field, complaint);
    case COMMAND:
        break;
    }
    return true;
}

/* --max-body is DIEN_MAX_BODY. */
static void variable_name(const struct row *row, char name[64]) {
    size_t at = (size_t)snprintf(name, 64, "DIEN_%s", row->name);
    for (size_t i = 5; i < at; i++)
        name[i] = (char)(name[i] == '-' ? '_' : toupper((unsigned char)name[i]));
}

/* The row that an argument "--name" or "--name=value" names; *value is the text after the "=", or NULL. */
static const struct row *find_row(const char *argument, const char **value) {
    if (strncmp(argument, "--", 2) != 0)
        return NULL;
    size_t length = strcspn(argument + 2, "=");
    *value = argument[2 + length] == '=' ? argument + 2 + length + 1 : NULL;
    for (size_t i = 0; i < ROWS; i++) {
        if (strlen(rows[i].name) == length && strncmp(rows[i].name, argument + 2, length) == 0)
            return &rows[i];
    }
    return NULL;
}

static const char *kind_value(enum kind kind) {
    switch (kind) {
    case TEXT:
        return " VALUE";
    case HEADER:
        return " HEADER";
    case BYTES:
        return " BYTES";
    case BYTES_OR_AUTO:
        return " BYTES|auto|off";
    case SECONDS:
        return " SECONDS";
    case COUNT:
    case NUMBER:
        return " NUMBER";
    case MODE:
        return " MODE";
    case SWITCH:
        return " on|off";
    case LEVEL:
        return " LEVEL";
    case PRECISION:
        return " float32|reduced";
    case MEMORY:
        return " map|copy";
    case FLAG:
    case COMMAND:
        break;
    }
    return "";
}

static void print_help(FILE *out) {
    fprintf(out,
            "Usage: dien-server --model DIRECTORY [option...]\n\n"
            "Scores candidate items with a Deep Interest Evolution Network over HTTP. Each option can also be given\n"
            "as an environment variable; a flag wins. BYTES take K, M or G (powers of 1024).\n\n");
    for (size_t i = 0; i < ROWS; i++) {
        char left[64], variable[64];
        snprintf(left, sizeof left, "--%s%s", rows[i].name, kind_value(rows[i].kind));
        variable_name(&rows[i], variable);
        fprintf(out, "  %-28s %s", left, rows[i].help);
        if (rows[i].kind != COMMAND) {
            const char *initial = rows[i].initial != NULL ? rows[i].initial : "none";
            fprintf(out, "\n  %-28s [default %s; %s]", "", initial, variable);
        }
        fputc('\n', out);
    }
    fprintf(out, "\nDIEN_ISA names the kernels to use in place of the best that the CPU has.\n");
}

static enum options_result read_flags(struct options *options, int argc, char *const *argv, FILE *out, char *error,
                                      size_t error_size) {
    size_t words = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = NULL;
        const struct row *row = find_row(argv[i], &value);
        struct complaint complaint = {argv[i], error, error_size};
        if (row == NULL && argv[i][0] != '-' && words < OPTIONS_WORDS) {
            options->words[words++] = argv[i];
            continue;
        }
        if (row == NULL) {
            complain(&complaint, "is not an option; --help lists them");
            return OPTIONS_BAD;
        }
        if (row->kind == COMMAND) {
            if (strcmp(row->name, "help") == 0)
                print_help(out);
            else
                fprintf(out, "dien-server %s\n", SERVER_VERSION);
            return OPTIONS_DONE;
        }
        if (value == NULL && row->kind == FLAG) {
            value = "on";
        } else if (value == NULL && i + 1 < argc) {
            value = argv[++i];
        }
        char flag[64];
        snprintf(flag, sizeof flag, "--%s", row->name);
        complaint.source = flag;
        if (value == NULL) {
            complain(&complaint, "needs a value");
            return OPTIONS_BAD;
        }
        if (!assign(options, row, value, &complaint))
            return OPTIONS_BAD;
    }
    return OPTIONS_RUN;
}

enum options_result options_parse(struct options *options, int argc, char *const *argv, FILE *out, char *error,
                                  size_t error_size) {
    memset(options, 0, sizeof *options);
    for (size_t i = 0; i < ROWS; i++) {
        struct complaint complaint = {rows[i].name, error, error_size};
        if (rows[i].initial != NULL && !assign(options, &rows[i], rows[i].initial, &complaint))
            return OPTIONS_BAD;
    }
    /* Unknown variables are no error: Kubernetes sets DIEN_PORT and others of its own for a service "dien". */
    for (size_t i = 0; i < ROWS; i++) {
        char name[64];
        variable_name(&rows[i], name);
        const char *text = rows[i].kind == COMMAND ? NULL : getenv(name);
        struct complaint complaint = {name, error, error_size};
        if (text != NULL && !assign(options, &rows[i], text, &complaint))
            return OPTIONS_BAD;
    }
    enum options_result result = read_flags(options, argc, argv, out, error, error_size);
    if (result == OPTIONS_RUN && options->words[0] != NULL && options->admin == NULL) {
        struct complaint complaint = {options->words[0], error, error_size};
        complain(&complaint, "is not an option; --help lists them");
        return OPTIONS_BAD;
    }
    bool transfers = options->histories_export != NULL || options->histories_import != NULL;
    if (result == OPTIONS_RUN && transfers && options->histories == NULL) {
        snprintf(error, error_size, "--histories: is required: the store to export from or import to");
        return OPTIONS_BAD;
    }
    if (result == OPTIONS_RUN && options->model == NULL && options->probe == NULL && options->admin == NULL &&
        !transfers) {
        snprintf(error, error_size, "--model: is required: the directory of the model to serve");
        return OPTIONS_BAD;
    }
    return result;
}

void options_hide_secrets(struct options *options) {
    const char *at = options->histories != NULL ? strrchr(options->histories, '@') : NULL;
    const char *begin = options->histories != NULL ? strstr(options->histories, "://") : NULL;
    static char *copy; /* for as long as the process */
    bool has_login = at != NULL && begin != NULL && begin < at;
    if (!has_login || copy != NULL || (copy = strdup(options->histories)) == NULL)
        return;
    union {
        const char *shown;
        char *bytes;
    } cast = {begin + strlen("://")};
    memset(cast.bytes, '*', (size_t)(at - cast.shown));
    options->histories = copy;
}

size_t options_limits(const struct options *options, struct options_limit limits[OPTIONS_MAX_LIMITS]) {
    _Static_assert(sizeof rows / sizeof rows[0] <= (size_t)OPTIONS_MAX_LIMITS, "room for every row");
    size_t count = 0;
    for (size_t i = 0; i < ROWS; i++) {
        if (rows[i].audience == NO_LIMIT)
            continue;
        struct options_limit *limit = &limits[count++];
        const void *field = (const char *)options + rows[i].offset;
        limit->unit = rows[i].kind == BYTES     ? UNIT_BYTES
                      : rows[i].kind == SECONDS ? UNIT_SECONDS
                      : rows[i].kind == NUMBER  ? UNIT_RATIO
                                                : UNIT_COUNT;
        const char *suffix = limit->unit == UNIT_BYTES ? "_bytes" : limit->unit == UNIT_SECONDS ? "_seconds" : "";
        snprintf(limit->flag, sizeof limit->flag, "%s", rows[i].name);
        for (char *letter = limit->flag; *letter != '\0'; letter++)
            *letter = *letter == '-' ? '_' : *letter;
        snprintf(limit->name, sizeof limit->name, "%s%s", limit->flag, suffix);
        limit->value =
            rows[i].kind == COUNT || rows[i].kind == BYTES ? (double)*(const size_t *)field : *(const double *)field;
        limit->for_clients = rows[i].audience == CLIENT_LIMIT;
    }
    return count;
}
