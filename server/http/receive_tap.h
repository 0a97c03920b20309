/* receive_tap.h: shows each piece of bytes that libmicrohttpd receives, before libmicrohttpd parses it.
 *
 * libmicrohttpd 0.9.75 hides the framing of a chunked body from its handler, and takes framing that RFC 9112 forbids,
 * such as lines that end in a bare LF. It receives by calling recv(). The server defines a function of this name, which
 * the dynamic linker prefers to libc's. Outside of receive_tap_begin() and receive_tap_end() that function is recv()
 * and nothing else. Where a later libmicrohttpd receives by other means, the tap is never called.
 */
#ifndef SERVER_HTTP_RECEIVE_TAP_H
#define SERVER_HTTP_RECEIVE_TAP_H

#include <stdbool.h>
#include <stddef.h>

/* `size` bytes have come, 1 or more, into a buffer of `capacity` bytes. False: the caller of recv() is told that the
 * stream has ended, and sees no byte of them. The tap may change them. */
typedef bool receive_tap(void *context, int socket, char *data, size_t size, size_t capacity);

/* For the calling thread. */
void receive_tap_begin(receive_tap *tap, void *context);
void receive_tap_end(void);

#endif
