/* client.h: one HTTP request to a running server, on the calling thread, for the commands --probe and --admin. */
#ifndef SERVER_HTTP_CLIENT_H
#define SERVER_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

struct client_request {
    const char *address; /* HOST:PORT or unix:PATH */
    const char *method, *path;
    const char *accept; /* NULL: anything */
    const char *token;  /* NULL: none */
    const char *body;   /* JSON; NULL: none */
    double seconds;     /* for the connection, and for each wait for bytes */
};

struct client_reply {
    int status;
    const char *body; /* within `text` */
    char *text;       /* malloc'ed, the caller's, with a NUL at its end */
};

/* False without a whole reply: `error` has the reason. A reply has at most a megabyte. */
bool client_ask(const struct client_request *request, struct client_reply *reply, char *error, size_t error_size);

#endif
