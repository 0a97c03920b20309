/* history_lines.c: one record at a time, in an arena that is reset for each. */
#include "server/histories/history_lines.h"

#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "server/histories/history_engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ARENA_KEEP = 1 << 20 };

struct transfer {
    FILE *file;
    struct arena arena;
    uint64_t users, line;
    size_t user_bytes;
    char *text; /* getline()'s */
    size_t room;
    bool failed;
    char *error;
    size_t error_size;
};

static bool fail(struct transfer *transfer, const char *reason, const char *more) {
    snprintf(transfer->error, transfer->error_size, "%s%s", reason, more);
    transfer->failed = true;
    return false;
}

/* ---- out */

/* A record that this version would write with other bytes has parts that it does not know. */
static bool is_known(struct transfer *transfer, const struct history *history, struct proto_string record) {
    struct proto_string again;
    return history_record_encode(history, history->revision, &transfer->arena, &again) &&
           again.length == record.length && memcmp(again.data, record.data, record.length) == 0;
}

static bool write_line(void *context, struct proto_string user, struct proto_string record) {
    struct transfer *transfer = context;
    struct history history;
    char name[80];
    arena_reset(&transfer->arena);
    snprintf(name, sizeof name, " The user is \"%.*s\".", (int)(user.length < 40 ? user.length : 40), user.data);
    if (!history_record_read(record, &transfer->arena, &history))
        return fail(transfer, "A record cannot be read: another encoding, or damaged.", name);
    bool known = is_known(transfer, &history, record);
    struct proto_string line = json_encode_history(user, &history, known ? NULL : &record, &transfer->arena);
    if (line.data == NULL)
        return fail(transfer, "There is no memory for a line.", name);
    if (fwrite(line.data, 1, line.length, transfer->file) != line.length)
        return fail(transfer, "The file cannot be written: ", strerror(errno));
    transfer->users++;
    return true;
}

bool history_lines_export(struct history_store *store, FILE *out, uint64_t *users, char *error, size_t error_size) {
    struct transfer transfer = {.file = out, .error = error, .error_size = error_size};
    arena_init(&transfer.arena, 0, ARENA_KEEP);
    bool good = history_store_export(store, write_line, &transfer, error, error_size) && !transfer.failed;
    if (good && fflush(out) != 0)
        good = fail(&transfer, "The file cannot be written: ", strerror(errno));
    arena_free(&transfer.arena);
    *users = transfer.users;
    return good;
}

/* ---- in */

static bool fail_at(struct transfer *transfer, const char *pointer, const char *reason) {
    snprintf(transfer->error, transfer->error_size, "Line %llu%s%s: %s", (unsigned long long)transfer->line,
             *pointer != '\0' ? ", " : "", pointer, reason);
    transfer->failed = true;
    return false;
}

static bool read_record(struct transfer *transfer, size_t length, struct proto_string *user,
                        struct proto_string *record) {
    struct problem problem;
    struct history history, check;
    struct proto_string whole;
    struct arena *arena = &transfer->arena;
    if (!json_decode_record(transfer->text, length, arena, user, &history, &whole, &problem))
        return fail_at(transfer, problem.pointer, problem.detail);
    if (whole.data == NULL) {
        if (!history_record_encode(&history, history_new_revision(), arena, record))
            return fail_at(transfer, "", "The record's parts do not agree: names, counts or values.");
    } else {
        if (whole.length < HISTORY_REVISION_BYTES || !history_record_read(whole, arena, &check))
            return fail_at(transfer, "/record", "The record cannot be read: another encoding, or damaged.");
        char *stamped = arena_alloc(arena, whole.length);
        if (stamped == NULL)
            return fail_at(transfer, "", "There is no memory for the record.");
        memcpy(stamped, whole.data, whole.length);
        history_record_stamp(history_new_revision(), stamped);
        *record = (struct proto_string){stamped, whole.length};
    }
    return record->length <= transfer->user_bytes ||
           fail_at(transfer, "", "The record has more bytes than --histories-user-bytes.");
}

static bool next_record(void *context, struct proto_string *user, struct proto_string *record) {
    struct transfer *transfer = context;
    for (;;) {
        ssize_t length = getline(&transfer->text, &transfer->room, transfer->file);
        if (length < 0)
            return ferror(transfer->file) ? fail(transfer, "The file cannot be read: ", strerror(errno)) : false;
        transfer->line++;
        if (strspn(transfer->text, " \t\r\n") == (size_t)length)
            continue;
        arena_reset(&transfer->arena);
        bool good = read_record(transfer, (size_t)length, user, record);
        transfer->users += good;
        return good;
    }
}

bool history_lines_import(struct history_store *store, FILE *in, size_t user_bytes, uint64_t *users, char *error,
                          size_t error_size) {
    struct transfer transfer = {.file = in, .user_bytes = user_bytes, .error = error, .error_size = error_size};
    arena_init(&transfer.arena, 0, ARENA_KEEP);
    bool good = history_store_import(store, next_record, &transfer, error, error_size) && !transfer.failed;
    arena_free(&transfer.arena);
    free(transfer.text);
    *users = transfer.users;
    return good;
}
