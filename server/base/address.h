/* address.h: parses an address: HOST:PORT, [IPV6]:PORT, or :PORT for every address of this machine. */
#ifndef SERVER_BASE_ADDRESS_H
#define SERVER_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct addrinfo;

enum { ADDRESS_TEXT = 128 };

/* Returns the socket addresses to listen on or to connect to; the caller frees them with freeaddrinfo(). NULL on error,
 * with the reason in `error`. */
struct addrinfo *address_find(const char *text, bool listening, char *error, size_t error_size);

#endif
