/* client.c: a blocking client that closes its connection after one reply. */
#include "server/http/client.h"

#include "server/base/address.h"
#include "server/base/connect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REPLY_MOST = 1048576, FIRST_ROOM = 8192 };

static bool send_all(int descriptor, const char *text, size_t size) {
    while (size > 0) {
        ssize_t sent = send(descriptor, text, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        text += sent;
        size -= (size_t)sent;
    }
    return true;
}

static bool send_request(int descriptor, const struct client_request *request) {
    enum { HEAD_MOST = 2048 };
    const char *body = request->body != NULL ? request->body : "";
    bool bears = request->token != NULL, accepts = request->accept != NULL;
    char head[HEAD_MOST];
    int length = snprintf(head, sizeof head,
                          "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
                          "Content-Length: %zu\r\n%s%s%s%s%s%s\r\n",
                          request->method, request->path,
                          address_path(request->address) != NULL ? "localhost" : request->address, strlen(body),
                          accepts ? "Accept: " : "", accepts ? request->accept : "", accepts ? "\r\n" : "",
                          bears ? "Authorization: Bearer " : "", bears ? request->token : "", bears ? "\r\n" : "");
    errno = EMSGSIZE;
    return length < HEAD_MOST && send_all(descriptor, head, (size_t)length) && send_all(descriptor, body, strlen(body));
}

/* Reads to the connection's end. NULL with errno. */
static char *read_reply(int descriptor) {
    size_t size = 0, room = FIRST_ROOM;
    char *text = malloc(room + 1);
    while (text != NULL) {
        ssize_t got = recv(descriptor, text + size, room - size, 0);
        if (got <= 0) {
            errno = got == 0 ? ECONNRESET : errno;
            if (got == 0 && size > 0) {
                text[size] = '\0';
                return text;
            }
            break;
        }
        size += (size_t)got;
        if (size < room)
            continue;
        room *= 2;
        char *larger = room <= REPLY_MOST ? realloc(text, room + 1) : NULL;
        if (larger == NULL) {
            errno = EMSGSIZE;
            break;
        }
        text = larger;
    }
    int why = errno;
    free(text);
    errno = why;
    return NULL;
}

/* Whether the text is a reply, whole. */
static bool parse(struct client_reply *reply) {
    static const char version[] = "HTTP/1.", length_name[] = "\r\nContent-Length: ", end[] = "\r\n\r\n";
    char *head_end = strstr(reply->text, end);
    if (strncmp(reply->text, version, sizeof version - 1) != 0 || head_end == NULL)
        return false;
    const char *length = strcasestr(reply->text, length_name);
    reply->status = (int)strtol(reply->text + sizeof version, NULL, 10);
    reply->body = head_end + sizeof end - 1;
    size_t expected = length != NULL && length < head_end ? strtoul(length + sizeof length_name - 1, NULL, 10) : 0;
    return strlen(reply->body) >= expected;
}

bool client_ask(const struct client_request *request, struct client_reply *reply, char *error, size_t error_size) {
    *reply = (struct client_reply){.text = NULL};
    int descriptor = connect_to(request->address, request->seconds, error, error_size);
    if (descriptor < 0)
        return false;
    if (send_request(descriptor, request))
        reply->text = read_reply(descriptor);
    int why = errno;
    close(descriptor);
    if (reply->text != NULL && parse(reply))
        return true;
    snprintf(error, error_size, "%s: %s%s", request->address,
             reply->text != NULL ? "no HTTP answer" : "no answer: ", reply->text != NULL ? "" : strerror(why));
    free(reply->text);
    reply->text = NULL;
    return false;
}
