/* request_log.c: records wait in a list; one thread makes lines of them and writes frames of some hundred kilobytes.
 *
 * A frame is written once FRAME_BYTES of lines are there, or FRAME_SECONDS after its first line, so that a crash loses
 * little and compression still pays.
 */
#include "server/api/request_log.h"

#include "proto/content_coding.h"
#include "proto/json_decode.h"
#include "proto/protobuf.h"
#include "proto/utf8.h"
#include "server/api/request_record.h"
#include "server/base/clock.h"
#include "server/base/counter.h"
#include "server/base/log.h"
#include "server/base/record_files.h"
#include "server/base/thread.h"
#include "server/scoring/rollout.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    FRAME_BYTES = 512 * 1024,
    GATHER_NANOSECONDS = 10000000, /* for other records to join */
    IDLE_NANOSECONDS = 1000000000,
    ARENA_BYTES = 1024 * 1024 * 1024,
    ARENA_KEEP = 4 * 1024 * 1024,
    USER_HASH_BYTES = 16,
    DRAWN_KEY_BYTES = 32,
    TIME_TEXT = 40,
    /* The share is drawn with a key of its own, so that it is not the share of a candidate's users. */
    SHARE_SALT = 0x5e1f
};
#define FRAME_SECONDS    1.0
#define COMPLAIN_SECONDS 60.0

struct request_log {
    struct request_log_options options;
    struct record_files *files;
    char key[REQUEST_LOG_KEY_MAX];
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t filled, over;
    /* Guarded by the mutex. */
    struct request_record *first, *last;
    bool idle; /* the thread waits for a first record */
    bool stopping, ended;
    /* The loop's thread's: records whose answers are on their way. */
    struct request_record *pending;
    /* The thread's. */
    struct arena arena;
    char *lines; /* of the next frame */
    size_t used, capacity;
    uint64_t line_count;
    uint64_t frame_began, complained;
};

/* ---- which requests */

static bool is_sampled(const struct request_log *log, struct user_key user, const char *request_id) {
    if (log->options.share >= 1 || log->options.share <= 0)
        return log->options.share >= 1;
    uint64_t key = log->options.share_key ^ SHARE_SALT;
    double place =
        user.id != NULL ? rollout_place(key, user.id, user.length) : rollout_place(key, request_id, strlen(request_id));
    return place < log->options.share;
}

void request_log_scored(struct request_log *log, struct job *job, const struct request *request) {
    bool sampled = is_sampled(log, request_user(request), job->request_id);
    bool slow = clock_seconds(clock_now() - request->arrived) >= log->options.slow;
    if (!sampled && !slow && request->problem.kind == PROBLEM_NONE && !request->departed)
        return;
    job->record =
        request_record_new(request, job->served, log->options.users != RECORD_USERS_NONE, log->options.with_history);
    if (job->record == NULL) {
        counter_add(&log->options.counts->dropped, 1);
        return;
    }
    job->record->sampled = sampled;
}

void request_log_answered(struct request_log *log, struct exchange *exchange, struct job *job) {
    if (exchange->route != ROUTE_SCORE && exchange->route != ROUTE_HISTORY)
        return;
    bool failed = exchange->answer.problem != PROBLEM_NONE || exchange->answer.status == 0;
    if (job->record == NULL && failed) {
        job->record = request_record_unscored();
        if (job->record != NULL)
            job->record->sampled = log->options.share >= 1 || (job->user.id != NULL && is_sampled(log, job->user, ""));
    }
    struct request_record *record = job->record;
    if (record == NULL)
        return;
    record->bytes += exchange->body.size;
    if (atomic_fetch_add(&log->options.counts->buffered, record->bytes) + record->bytes > log->options.buffer_bytes) {
        atomic_fetch_sub(&log->options.counts->buffered, record->bytes);
        counter_add(&log->options.counts->dropped, 1);
        request_record_free(record);
        job->record = NULL;
        return;
    }
    record->format = exchange->format;
    record->coding = exchange->coding;
    record->body = http_take_body(exchange, &record->body_size);
    record->job = job;
    record->next = log->pending;
    if (log->pending != NULL)
        log->pending->previous = record;
    log->pending = record;
}

/* Takes a record off the pending ones. */
static void leave(struct request_log *log, struct request_record *record) {
    *(record->previous != NULL ? &record->previous->next : &log->pending) = record->next;
    if (record->next != NULL)
        record->next->previous = record->previous;
    record->next = record->previous = NULL;
    record->job->record = NULL;
}

void request_log_ended(struct request_log *log, const struct exchange *exchange, const struct job *job) {
    bool is_ours = exchange->route == ROUTE_SCORE || exchange->route == ROUTE_HISTORY;
    struct request_record *record = is_ours ? job->record : NULL;
    if (record == NULL)
        return;
    leave(log, record);
    record->began = exchange->began;
    record->is_update = exchange->route == ROUTE_HISTORY;
    memcpy(record->request_id, exchange->request_id, sizeof record->request_id);
    record->trace = exchange->trace;
    record->summary = job->summary;
    record->waited = job->waited;
    record->total = clock_seconds(clock_now() - exchange->began);
    record->status = exchange->answer.status;
    record->outcome = exchange->outcome;
    pthread_mutex_lock(&log->mutex);
    *(log->last != NULL ? &log->last->next : &log->first) = record;
    log->last = record;
    bool wake = log->idle;
    log->idle = false;
    pthread_mutex_unlock(&log->mutex);
    if (wake)
        pthread_cond_signal(&log->filled);
}

/* ---- a line */

/* RFC 3339 in UTC with microseconds, of a time by clock_now(). */
static void write_time(uint64_t then, char text[TIME_TEXT]) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t nanoseconds = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec - (int64_t)(clock_now() - then);
    time_t seconds = (time_t)(nanoseconds / 1000000000);
    gmtime_r(&seconds, &parts);
    size_t length = strftime(text, TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + length, TIME_TEXT - length, ".%06dZ", (int)(nanoseconds % 1000000000 / 1000));
}

static struct proto_string base64(struct proto_string bytes, struct arena *arena) {
    if (bytes.data == NULL)
        return bytes;
    unsigned char *text = arena_alloc(arena, (bytes.length + 2) / 3 * 4 + 1);
    if (text == NULL)
        return (struct proto_string){NULL, 0};
    int length = EVP_EncodeBlock(text, (const unsigned char *)bytes.data, (int)bytes.length);
    return (struct proto_string){(const char *)text, (size_t)length};
}

/* A keyed hash that nobody without the key can try ids against. */
static void hash_user(const struct request_log *log, const struct request_record *record,
                      char text[2 * USER_HASH_BYTES + 1]) {
    unsigned char hash[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    HMAC(EVP_sha256(), log->key, (int)log->options.key_size, (const unsigned char *)record->user, record->user_length,
         hash, &length);
    for (size_t i = 0; i < USER_HASH_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
}

/* Whether a body that no scoring thread has decoded is a request all the same: then its user can be told apart. */
static bool is_request(const struct request_record *record, struct proto_string body, struct arena *arena) {
    struct proto_request request;
    struct problem problem;
    if (record->format == PROTO_PROTOBUF)
        return record->is_update ? protobuf_decode_history(body.data, body.length, true, arena, &request, &problem)
                                 : protobuf_decode_request(body.data, body.length, true, arena, &request, &problem);
    return record->is_update ? json_decode_history(body.data, body.length, arena, &request, &problem)
                             : json_decode_request_tree(body.data, body.length, arena, &request, &problem);
}

/* A JSON body goes into the line as it is; other bytes go as base64. A body that is no request, and may name its user
 * in any place, is written in plain form alone. */
static void put_body(struct request_log *log, const struct request_record *record, struct proto_record *line) {
    struct arena *arena = &log->arena;
    struct proto_string body = {record->body, record->body_size};
    struct problem problem;
    bool plain = log->options.users == RECORD_USERS_PLAIN;
    if (body.data == NULL || (record->coding != PROTO_IDENTITY &&
                              !content_decode(record->coding, log->options.max_body, arena, &body, &problem)))
        return;
    bool decoded = record->decoded || is_request(record, body, arena);
    if (record->format == PROTO_JSON && decoded) {
        size_t mark = utf8_mark_size(body.data, body.length);
        line->body = record_json_body((struct proto_string){body.data + mark, body.length - mark}, plain, arena);
    } else if (plain) {
        line->body_base64 = base64(body, arena);
    } else if (decoded) {
        line->body_base64 = base64(record_protobuf_body(body, arena), arena);
    }
}

static struct proto_string make_line(struct request_log *log, const struct request_record *record) {
    char time[TIME_TEXT], hash[2 * USER_HASH_BYTES + 1] = "";
    const struct request_summary *summary = &record->summary;
    write_time(record->began, time);
    struct proto_record line = {
        .time = time,
        .request_id = record->request_id,
        .trace_id = record->trace.trace_id,
        .span_id = record->trace.span_id,
        .sampled = record->sampled,
        .method = "POST",
        .route = record->is_update ? "/users/{id}/history" : "/score",
        .content_type = proto_media_types[record->format],
        .history = base64(request_record_history(record, &log->arena), &log->arena),
        .score_count = record->scored,
        .scores = record->scores,
        .order_count = record->results,
        .order = record->order,
        .user_state = summary->user_state,
        .history_origin = summary->history_origin,
        .history_count = record->received,
        .phase_count = REQUEST_PHASES,
        .status = record->status,
        .outcome = record->outcome == PROBLEM_NONE ? "ok" : http_outcome_name(record->outcome),
    };
    if (record->user != NULL && log->options.users == RECORD_USERS_PLAIN) {
        line.user_id = (struct proto_string){record->user, record->user_length};
    } else if (record->user != NULL) {
        hash_user(log, record, hash);
        line.user_hash = hash;
    }
    if (record->served != NULL) {
        line.model = dien_name(record->served->model);
        line.version = dien_version(record->served->model);
        line.digest = record->served->tag;
    }
    for (size_t i = 0; i < REQUEST_PHASES; i++) {
        double seconds = i < SCORING_PHASES ? summary->seconds[i] : i == PHASE_QUEUE ? record->waited : record->total;
        line.phase_names[i] = request_phase_names[i];
        line.phase_seconds[i] = seconds > 0 ? seconds : -1;
    }
    put_body(log, record, &line);
    return json_encode_record(&line, &log->arena);
}
_Static_assert((int)REQUEST_PHASES <= (int)PROTO_RECORD_PHASES, "a record has room for each phase");

/* ---- the thread */

static void lose(struct request_log *log, uint64_t records) {
    counter_add(&log->options.counts->dropped, records);
}

static void write_frame(struct request_log *log) {
    struct request_log_counts *counts = log->options.counts;
    if (log->used == 0)
        return;
    if (record_files_write(log->files, log->lines, log->used)) {
        counter_add(&counts->written, log->line_count);
    } else {
        int reason = errno;
        lose(log, log->line_count);
        if (log->complained == 0 || clock_seconds(clock_now() - log->complained) > COMPLAIN_SECONDS) {
            log_message(LEVEL_WARNING, "request-log", "%s cannot be written, and records are lost: %s",
                        log->options.directory, strerror(reason));
            log->complained = clock_now();
        }
    }
    atomic_store(&counts->bytes, record_files_bytes(log->files));
    atomic_store(&counts->removed, record_files_removed(log->files));
    log->used = 0;
    log->line_count = 0;
}

static bool make_room(struct request_log *log, size_t size) {
    if (size <= log->capacity - log->used)
        return true;
    char *larger = realloc(log->lines, 2 * log->capacity + size);
    if (larger == NULL)
        return false;
    log->lines = larger;
    log->capacity = 2 * log->capacity + size;
    return true;
}

static void put_line(struct request_log *log, const struct request_record *record) {
    arena_reset(&log->arena);
    struct proto_string line = make_line(log, record);
    if (line.data == NULL || !make_room(log, line.length + 1)) {
        lose(log, 1);
        return;
    }
    if (log->used == 0)
        log->frame_began = clock_now();
    memcpy(log->lines + log->used, line.data, line.length);
    log->lines[log->used + line.length] = '\n';
    log->used += line.length + 1;
    log->line_count++;
    if (log->used >= FRAME_BYTES)
        write_frame(log);
}

static void sleep_for(struct request_log *log, uint64_t nanoseconds) {
    struct timespec limit = clock_timespec(clock_now() + nanoseconds);
    pthread_cond_timedwait(&log->filled, &log->mutex, &limit);
}

/* Records that came while one batch was written, or NULL after a second without any. */
static struct request_record *take_records(struct request_log *log) {
    pthread_mutex_lock(&log->mutex);
    if (log->first == NULL && !log->stopping) {
        log->idle = true;
        sleep_for(log, IDLE_NANOSECONDS);
        log->idle = false;
    }
    if (log->first != NULL && !log->stopping)
        sleep_for(log, GATHER_NANOSECONDS);
    struct request_record *first = log->first;
    log->first = log->last = NULL;
    pthread_mutex_unlock(&log->mutex);
    return first;
}

static bool is_stopping(struct request_log *log) {
    pthread_mutex_lock(&log->mutex);
    bool stopping = log->stopping && log->first == NULL;
    pthread_mutex_unlock(&log->mutex);
    return stopping;
}

static void *run(void *argument) {
    struct request_log *log = argument;
    while (!is_stopping(log)) {
        struct request_record *next = NULL;
        for (struct request_record *record = take_records(log); record != NULL; record = next) {
            next = record->next;
            put_line(log, record);
            atomic_fetch_sub(&log->options.counts->buffered, record->bytes);
            request_record_free(record);
        }
        if (log->used > 0 && clock_seconds(clock_now() - log->frame_began) >= FRAME_SECONDS)
            write_frame(log);
        record_files_turn(log->files);
    }
    write_frame(log);
    pthread_mutex_lock(&log->mutex);
    log->ended = true;
    pthread_cond_signal(&log->over);
    pthread_mutex_unlock(&log->mutex);
    return NULL;
}

/* ---- start and stop */

static void free_log(struct request_log *log) {
    record_files_close(log->files);
    arena_free(&log->arena);
    free(log->lines);
    pthread_cond_destroy(&log->filled);
    pthread_cond_destroy(&log->over);
    pthread_mutex_destroy(&log->mutex);
    free(log);
}

struct request_log *request_log_start(const struct request_log_options *options, char *error, size_t error_size) {
    struct request_log *log = calloc(1, sizeof *log);
    if (log == NULL) {
        snprintf(error, error_size, "there is no memory");
        return NULL;
    }
    log->options = *options;
    if (options->key != NULL)
        memcpy(log->key, options->key, options->key_size);
    else if (getrandom(log->key, DRAWN_KEY_BYTES, 0) == DRAWN_KEY_BYTES)
        log->options.key_size = DRAWN_KEY_BYTES;
    if (log->options.key_size == 0) {
        snprintf(error, error_size, "no key can be drawn");
        free(log);
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&log->mutex, NULL);
    pthread_cond_init(&log->filled, &monotonic);
    pthread_cond_init(&log->over, &monotonic);
    pthread_condattr_destroy(&monotonic);
    arena_init(&log->arena, ARENA_BYTES, ARENA_KEEP);
    const struct record_files_options files = {.directory = options->directory,
                                               .file_bytes = options->file_bytes,
                                               .file_seconds = options->file_seconds,
                                               .total_bytes = options->total_bytes};
    log->files = record_files_open(&files, error, error_size);
    if (log->files != NULL && thread_start(&log->thread, "request-log", run, log))
        return log;
    if (log->files != NULL)
        snprintf(error, error_size, "its thread cannot start: %s", strerror(errno));
    free_log(log);
    return NULL;
}

bool request_log_stop(struct request_log *log, double seconds) {
    if (log == NULL)
        return true;
    while (log->pending != NULL) {
        struct request_record *record = log->pending;
        leave(log, record);
        request_record_free(record);
        lose(log, 1);
    }
    struct timespec limit = clock_timespec(clock_now() + clock_from_seconds(seconds));
    int status = 0;
    pthread_mutex_lock(&log->mutex);
    log->stopping = true;
    pthread_cond_signal(&log->filled);
    while (!log->ended && status == 0)
        status = pthread_cond_timedwait(&log->over, &log->mutex, &limit);
    bool ended = log->ended;
    pthread_mutex_unlock(&log->mutex);
    if (!ended)
        return false;
    pthread_join(log->thread, NULL);
    free_log(log);
    return true;
}
