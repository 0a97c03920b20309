/* admin_client.c: words of the command line as calls, and answers as text. */
#include "server/api/admin_client.h"

#include "proto/json_decode.h"
#include "proto/json_encode.h"
#include "server/base/secret.h"
#include "server/http/client.h"

#include <stdlib.h>
#include <string.h>

/* The calls by their word. `member`: of the body, which has the second word; NULL: there is none. */
struct call {
    const char *word, *method, *path, *member;
    bool is_number;
};
static const struct call calls[] = {
    {"models", "GET", "/models", NULL, false},
    {"reload", "POST", "/models/reload", NULL, false},
    {"rollback", "POST", "/models/rollback", NULL, false},
    {"candidate", "POST", "/models/candidate", "directory", false},
    {"canary", "POST", "/models/candidate", "canary", true},
    {"shadow", "POST", "/models/candidate", "shadow", true},
    {"promote", "POST", "/models/promote", NULL, false},
    {"drop", "DELETE", "/models/candidate", NULL, false},
    {"log-level", "PUT", "/log-level", "level", false},
    {"drain", "POST", "/drain", NULL, false},
};
enum { CALLS = sizeof calls / sizeof calls[0], TEXT_MEMORY = 2 * 1048576 };

static const struct call *find_call(char *const words[OPTIONS_WORDS]) {
    for (size_t i = 0; words[0] != NULL && i < CALLS; i++) {
        if (strcmp(words[0], calls[i].word) == 0)
            return (words[1] != NULL) == (calls[i].member != NULL) ? &calls[i] : NULL;
    }
    return NULL;
}

static int explain_usage(FILE *errors) {
    fputs("--admin: needs one of the calls", errors);
    for (size_t i = 0; i < CALLS; i++)
        fprintf(errors, "%s %s%s%s", i > 0 ? "," : "", calls[i].word, calls[i].member != NULL ? " " : "",
                calls[i].member != NULL ? calls[i].member : "");
    fputs("\n", errors);
    return 2;
}

/* The server's own words, where it has any. */
static void write_refusal(const struct client_reply *reply, FILE *errors) {
    struct arena arena;
    struct proto_string detail = {NULL, 0};
    arena_init(&arena, TEXT_MEMORY, 0);
    if (json_decode_member(reply->body, strlen(reply->body), "detail", &arena, &detail))
        fprintf(errors, "%d: %s\n", reply->status, detail.data);
    else
        fprintf(errors, "%d\n", reply->status);
    arena_free(&arena);
}

int admin_client_run(const struct options *options, FILE *out, FILE *errors) {
    enum { BODY_MOST = 8192, ERROR_TEXT = 512, OK_FIRST = 200, OK_LAST = 299 };
    const struct call *call = find_call(options->words);
    char body[BODY_MOST] = "", error[ERROR_TEXT];
    struct secret token = {""};
    struct arena arena;
    if (call == NULL)
        return explain_usage(errors);
    if (options->admin_token_file != NULL && !secret_read(&token, options->admin_token_file, error, sizeof error)) {
        fprintf(errors, "--admin-token-file: %s\n", error);
        return 2;
    }
    bool is_self = strcmp(options->admin, "self") == 0;
    if (is_self && options->admin_listen == NULL) {
        fputs("--admin self: --admin-listen is not set\n", errors);
        return 2;
    }
    arena_init(&arena, TEXT_MEMORY, 0);
    if (call->is_number) { /* the server says what is wrong with one that is none */
        snprintf(body, sizeof body, "{\"%s\": %s}", call->member, options->words[1]);
    } else if (call->member != NULL) {
        struct proto_string json = json_encode_member(call->member, options->words[1], &arena);
        if (json.data != NULL && json.length < sizeof body)
            memcpy(body, json.data, json.length);
    }
    arena_free(&arena);
    const struct client_request request = {.address = is_self ? options->admin_listen : options->admin,
                                           .method = call->method,
                                           .path = call->path,
                                           .accept = "text/plain, application/problem+json",
                                           .token = *token.text != '\0' ? token.text : NULL,
                                           .body = body,
                                           .seconds = options->admin_timeout};
    struct client_reply reply;
    if (!client_ask(&request, &reply, error, sizeof error)) {
        fprintf(errors, "%s\n", error);
        return 1;
    }
    bool good = reply.status >= OK_FIRST && reply.status <= OK_LAST;
    if (good)
        fputs(reply.body, out);
    else
        write_refusal(&reply, errors);
    free(reply.text);
    return good ? 0 : 1;
}
