/* address.c: from a text such as "[::1]:8080" to socket addresses. */
#include "server/base/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

/* Splits "[::1]:80" into "::1" and "80". */
static bool split(const char *address, char host[ADDRESS_TEXT], const char **port) {
    const char *colon = strrchr(address, ':');
    if (colon == NULL || strlen(address) >= ADDRESS_TEXT)
        return false;

    /* The port is checked here because getaddrinfo() takes 70000 modulo 65536. */
    char *end = NULL;
    bool is_port = isdigit((unsigned char)colon[1]) && strtoul(colon + 1, &end, 10) <= UINT16_MAX && *end == '\0';
    size_t length = (size_t)(colon - address);
    bool brackets = length >= 2 && address[0] == '[' && address[length - 1] == ']';
    if (!is_port || (!brackets && memchr(address, ':', length) != NULL))
        return false;

    const char *from = brackets ? address + 1 : address;
    length -= brackets ? 2 : 0;
    memcpy(host, from, length);
    host[length] = '\0';
    *port = colon + 1;
    return true;
}

struct addrinfo *address_find(const char *text, bool listening, char *error, size_t error_size) {
    char host[ADDRESS_TEXT];
    const char *port = NULL;
    if (!split(text, host, &port)) {
        snprintf(error, error_size, "\"%s\" is not HOST:PORT, nor [IPV6]:PORT, nor unix:PATH", text);
        return NULL;
    }
    const struct addrinfo hints = {.ai_flags = AI_NUMERICSERV | (listening ? AI_PASSIVE : 0),
                                   .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int status = getaddrinfo(*host == '\0' ? NULL : host, port, &hints, &found);
    if (status == 0)
        return found;
    snprintf(error, error_size, "\"%s\": %s", text, gai_strerror(status));
    return NULL;
}

const char *address_path(const char *text) {
    static const char scheme[] = "unix:";
    return strncmp(text, scheme, sizeof scheme - 1) == 0 ? text + sizeof scheme - 1 : NULL;
}

bool address_of_path(const char *path, struct sockaddr_un *address, char *error, size_t error_size) {
    size_t length = strlen(path);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (length == 0 || length >= sizeof address->sun_path) {
        snprintf(error, error_size, "\"unix:%s\": a path has 1 to %zu bytes", path, sizeof address->sun_path - 1);
        return false;
    }
    memcpy(address->sun_path, path, length);
    return true;
}

bool address_is_loopback(const char *text) {
    char error[256];
    if (address_path(text) != NULL)
        return true;
    struct addrinfo *addresses = address_find(text, true, error, sizeof error);
    bool loopback = addresses != NULL;
    for (const struct addrinfo *each = addresses; each != NULL; each = each->ai_next) {
        const struct sockaddr_in *four = (const void *)each->ai_addr;
        const struct sockaddr_in6 *six = (const void *)each->ai_addr;
        loopback = loopback && (each->ai_family == AF_INET ? ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET
                                                           : IN6_IS_ADDR_LOOPBACK(&six->sin6_addr));
    }
    if (addresses != NULL)
        freeaddrinfo(addresses);
    return loopback;
}

/* An IPv4 address that a socket of IPv6 has is written as such ("::ffff:127.0.0.1"). */
static bool is_mapped(const struct sockaddr_in6 *six, struct in_addr *four) {
    if (!IN6_IS_ADDR_V4MAPPED(&six->sin6_addr))
        return false;
    memcpy(four, (const unsigned char *)&six->sin6_addr + sizeof six->sin6_addr - sizeof *four, sizeof *four);
    return true;
}

static bool is_address_of(const char *host, const struct sockaddr_storage *own) {
    const struct sockaddr_in6 *six = (const void *)own;
    struct in_addr four = ((const struct sockaddr_in *)(const void *)own)->sin_addr, host_four;
    struct in6_addr host_six;
    bool is_four = own->ss_family == AF_INET || is_mapped(six, &four);
    if (strcasecmp(host, "localhost") == 0)
        return is_four ? ntohl(four.s_addr) >> 24 == IN_LOOPBACKNET : IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
    if (is_four)
        return inet_pton(AF_INET, host, &host_four) == 1 && host_four.s_addr == four.s_addr;
    return inet_pton(AF_INET6, host, &host_six) == 1 && memcmp(&host_six, &six->sin6_addr, sizeof host_six) == 0;
}

bool address_names_socket(const char *text, int socket) {
    static const char port_of_http[] = "80";
    struct sockaddr_storage own = {.ss_family = AF_UNSPEC};
    socklen_t size = sizeof own;
    char host[ADDRESS_TEXT], whole[ADDRESS_TEXT];
    const char *port = NULL, *bracket = strrchr(text, ']');
    bool has_port = strchr(bracket != NULL ? bracket : text, ':') != NULL;
    int length = snprintf(whole, sizeof whole, "%s%s%s", text, has_port ? "" : ":", has_port ? "" : port_of_http);
    if (getsockname(socket, (struct sockaddr *)&own, &size) != 0 || length >= (int)sizeof whole ||
        (own.ss_family != AF_INET && own.ss_family != AF_INET6) || !split(whole, host, &port))
        return false;
    uint16_t own_port = own.ss_family == AF_INET ? ((const struct sockaddr_in *)(const void *)&own)->sin_port
                                                 : ((const struct sockaddr_in6 *)(const void *)&own)->sin6_port;
    return strtoul(port, NULL, 10) == ntohs(own_port) && is_address_of(host, &own);
}
