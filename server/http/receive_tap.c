/* receive_tap.c: recv() as a call of recvfrom(), which is the same system call, and the tap. */
#include "server/http/receive_tap.h"

#include <sys/socket.h>

static _Thread_local receive_tap *current_tap;
static _Thread_local void *current_context;

void receive_tap_begin(receive_tap *tap, void *context) {
    current_tap = tap;
    current_context = context;
}

void receive_tap_end(void) {
    current_tap = NULL;
}

/* The symbol is recv. Its own name here keeps clear of libc's inline recv(), which checks the size of buffers. */
ssize_t receive_with_tap(int socket, void *buffer, size_t size, int flags) __asm__("recv");

ssize_t receive_with_tap(int socket, void *buffer, size_t size, int flags) {
    ssize_t received = recvfrom(socket, buffer, size, flags, NULL, NULL);
    if (received > 0 && current_tap != NULL && !current_tap(current_context, socket, buffer, (size_t)received, size))
        return 0;
    return received;
}
