/* request_headers.c: header values to numbers, and clients to keys. */
#include "server/api/request_headers.h"

#include "proto/digits.h"

#include <netinet/in.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/socket.h>

enum { TIMEOUT_DIGITS = 8, IPV6_NETWORK_BYTES = 8 };
static const uint64_t nanoseconds_a_millisecond = 1000000;

/* FNV-1a from a random start, then a mix by which each bit of the text reaches the low bits. */
uint64_t request_headers_hash(const void *bytes, size_t size) {
    static uint64_t seed;
    if (seed == 0) { /* the loop's thread is the only one that comes here */
        (void)!getrandom(&seed, sizeof seed, GRND_NONBLOCK);
        seed |= 1;
    }
    uint64_t hash = seed;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * UINT64_C(0x100000001b3);
    hash = (hash ^ hash >> 32) * UINT64_C(0x9fb21c651e98df25);
    return hash ^ hash >> 29;
}

/* A client of IPv6 has a whole network, so the address within it tells nothing. */
static uint64_t address_key(const struct sockaddr *address) {
    if (address != NULL && address->sa_family == AF_INET) {
        const struct sockaddr_in *four = (const void *)address;
        return request_headers_hash(&four->sin_addr, sizeof four->sin_addr);
    }
    if (address != NULL && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const void *)address;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&six->sin6_addr);
        const unsigned char *bytes = six->sin6_addr.s6_addr;
        return mapped ? request_headers_hash(bytes + 12, 4) : request_headers_hash(bytes, IPV6_NETWORK_BYTES);
    }
    return 1;
}

uint64_t request_headers_timeout(const char *text) {
    size_t length = strspn(text, "0123456789");
    uint64_t value = 0;
    if (length == 0 || length > TIMEOUT_DIGITS || text[length] != '\0')
        return 0;
    for (size_t i = 0; i < length; i++)
        value = 10 * value + (uint64_t)(text[i] - '0');
    return value <= REQUEST_TIMEOUT_MOST_MS ? value : 0;
}

bool request_headers_read(struct exchange *exchange, const char *client_key, struct job *job) {
    const char *timeout = http_header(exchange, "X-Request-Timeout-Ms");
    const char *priority = http_header(exchange, "X-Priority");
    const char *client = client_key != NULL ? http_header(exchange, client_key) : NULL;
    if (timeout != NULL) {
        uint64_t milliseconds = request_headers_timeout(timeout);
        if (milliseconds == 0) {
            http_problem(exchange, PROBLEM_INVALID_HTTP, "X-Request-Timeout-Ms must be a whole number from 1 to %d.",
                         REQUEST_TIMEOUT_MOST_MS);
            return false;
        }
        job->deadline = job->arrived + milliseconds * nanoseconds_a_millisecond;
    }
    if (priority != NULL && strcasecmp(priority, "high") != 0 && strcasecmp(priority, "low") != 0) {
        http_problem(exchange, PROBLEM_INVALID_HTTP, "X-Priority must be high or low.");
        return false;
    }
    job->priority = priority != NULL && strcasecmp(priority, "low") == 0 ? PRIORITY_LOW : PRIORITY_HIGH;
    job->client_key = client != NULL && *client != '\0' ? request_headers_hash(client, strlen(client))
                                                        : address_key(http_client_address(exchange));
    return true;
}
