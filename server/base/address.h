/* address.h: parses an address: HOST:PORT, [IPV6]:PORT, :PORT for every address of this machine, or unix:PATH. */
#ifndef SERVER_BASE_ADDRESS_H
#define SERVER_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct addrinfo;
struct sockaddr_un;

enum { ADDRESS_TEXT = 128 };

/* Returns the socket addresses to listen on or to connect to; the caller frees them with freeaddrinfo(). NULL on error,
 * with the reason in `error`. */
struct addrinfo *address_find(const char *text, bool listening, char *error, size_t error_size);

/* The PATH of "unix:PATH", or NULL: the text has another form. */
const char *address_path(const char *text);
/* The socket address of a PATH. False where it is empty or too long, with the reason in `error`. */
bool address_of_path(const char *path, struct sockaddr_un *address, char *error, size_t error_size);
/* Whether it is listened to on the loopback alone, so that only this machine can connect to it. */
bool address_is_loopback(const char *text);

/* Whether a text "HOST:PORT" is the address of a connected socket's own end. HOST is an IP address, or "localhost"
 * where that end is on the loopback; without ":PORT" the port is 80. Asks no name server. */
bool address_names_socket(const char *text, int socket);

#endif
