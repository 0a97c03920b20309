/* address.h: an address as text: HOST:PORT, [IPV6]:PORT, or :PORT for every address of this machine. */
#ifndef SERVER_BASE_ADDRESS_H
#define SERVER_BASE_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct addrinfo;

enum { ADDRESS_TEXT = 128 };

/* The addresses that a text stands for, to listen on or to connect to; the caller gives them to freeaddrinfo(). NULL on
 * error, and then `error` says why. */
struct addrinfo *address_find(const char *text, bool listening, char *error, size_t error_size);

#endif
