/* request_headers.h: the headers by which a request says how it wants to be queued, and whose request it is.
 *
 * X-Request-Timeout-Ms: the milliseconds, from the end of the head, for which the client waits. X-Priority: high, which
 * is the default, or low. --client-key names the header that tells clients apart. Without it, and in a request where it
 * is absent or empty, their addresses do: of IPv6 the first 64 bits. Clients without an address are one.
 */
#ifndef SERVER_API_REQUEST_HEADERS_H
#define SERVER_API_REQUEST_HEADERS_H

#include "server/http/http.h"
#include "server/scoring/job_queue.h"

#include <stdbool.h>
#include <stdint.h>

/* Reads them into the job's deadline, priority and client_key. False: the exchange's answer is a problem that names the
 * header at fault. `client_key` may be NULL. */
bool request_headers_read(struct exchange *exchange, const char *client_key, struct job *job);

/* Of the text, under a seed that this process has drawn: nobody can choose keys that share an entry. */
uint64_t request_headers_hash(const void *bytes, size_t size);

/* The value of X-Request-Timeout-Ms, or 0 when it is not a whole number from 1 to REQUEST_TIMEOUT_MOST_MS. */
enum { REQUEST_TIMEOUT_MOST_MS = 86400000 };
uint64_t request_headers_timeout(const char *text);

#endif
