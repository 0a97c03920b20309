/* test_address.c: HOST:PORT in its forms, texts that are none, and whether a text names a socket's end. */
#include "server/base/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static char error[256];

/* The first address found is of this family, host and port. */
static void assert_found(const char *text, bool listening, int family, const char *host, unsigned port) {
    char found_host[INET6_ADDRSTRLEN] = "";
    struct addrinfo *found = address_find(text, listening, error, sizeof error);
    if (found == NULL) {
        fail_msg("%s: %s", text, error);
        return;
    }
    assert_int_equal(found->ai_family, family);
    assert_int_equal(found->ai_socktype, SOCK_STREAM);
    if (family == AF_INET) {
        const struct sockaddr_in *address = (const void *)found->ai_addr;
        inet_ntop(family, &address->sin_addr, found_host, sizeof found_host);
        assert_int_equal(ntohs(address->sin_port), port);
    } else {
        const struct sockaddr_in6 *address = (const void *)found->ai_addr;
        inet_ntop(family, &address->sin6_addr, found_host, sizeof found_host);
        assert_int_equal(ntohs(address->sin6_port), port);
    }
    assert_string_equal(found_host, host);
    freeaddrinfo(found);
}

static void numeric_addresses(void **state) {
    (void)state;
    for (int listening = 0; listening < 2; listening++) {
        assert_found("127.0.0.1:80", listening, AF_INET, "127.0.0.1", 80);
        assert_found("10.1.2.3:65535", listening, AF_INET, "10.1.2.3", 65535);
        assert_found("0.0.0.0:0", listening, AF_INET, "0.0.0.0", 0);
        assert_found("[::1]:8080", listening, AF_INET6, "::1", 8080);
        assert_found("[2001:db8::7]:1", listening, AF_INET6, "2001:db8::7", 1);
        assert_found("[127.0.0.1]:80", listening, AF_INET, "127.0.0.1", 80);
    }
}

/* Whether an address of this family and host is among those found. */
static bool has(const struct addrinfo *found, int family, const void *host, size_t size) {
    for (; found != NULL; found = found->ai_next) {
        const void *address = family == AF_INET
                                  ? (const void *)&((const struct sockaddr_in *)(const void *)found->ai_addr)->sin_addr
                                  : &((const struct sockaddr_in6 *)(const void *)found->ai_addr)->sin6_addr;
        if (found->ai_family == family && memcmp(address, host, size) == 0)
            return true;
    }
    return false;
}

/* All addresses of this machine to listen on, its loopback to connect to. */
static void no_host(void **state) {
    (void)state;
    const struct in_addr any = {htonl(INADDR_ANY)}, loopback = {htonl(INADDR_LOOPBACK)};
    struct addrinfo *all = address_find(":8080", true, error, sizeof error);
    struct addrinfo *local = address_find(":8080", false, error, sizeof error);
    assert_non_null(all);
    assert_non_null(local);
    assert_true(has(all, AF_INET, &any, sizeof any) || has(all, AF_INET6, &in6addr_any, sizeof in6addr_any));
    assert_false(has(all, AF_INET, &loopback, sizeof loopback));
    assert_true(has(local, AF_INET, &loopback, sizeof loopback) ||
                has(local, AF_INET6, &in6addr_loopback, sizeof in6addr_loopback));
    assert_false(has(local, AF_INET, &any, sizeof any));
    freeaddrinfo(all);
    freeaddrinfo(local);
}

static void texts_that_are_no_address(void **state) {
    (void)state;
    static const char *const bad[] = {"",       "x",          "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
                                      ":70000", ":-1",        ":+1",       ": 80",       ":80 ",
                                      ":80x",   ":x80",       ":0x50",     "::1",        "::1:80",
                                      "[::1]",  "[::1]:",     "[::1]80",   "[::1",       ":99999999999999999999",
                                      "a:b:80", "http://x:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct addrinfo *found = address_find(bad[i], true, error, sizeof error);
        if (found != NULL)
            fail_msg("\"%s\" is taken", bad[i]);
        assert_non_null(strstr(error, "is not HOST:PORT"));
        assert_non_null(strstr(error, bad[i]));
    }
}

static void hosts_that_are_not_found(void **state) {
    (void)state;
    static const char *const bad[] = {"1.2.3.4.5:80", "[:::1]:80", "no.such.host.invalid:80", "[x]:80", "a b:80"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct addrinfo *found = address_find(bad[i], false, error, sizeof error);
        if (found != NULL)
            fail_msg("\"%s\" is found", bad[i]);
        assert_null(strstr(error, "is not HOST:PORT"));
        assert_non_null(strstr(error, bad[i]));
    }
}

/* A host and a port that together have ADDRESS_TEXT bytes with the NUL are looked up; one more byte is refused. */
static void long_texts(void **state) {
    (void)state;
    char text[ADDRESS_TEXT + 1];
    memset(text, 'x', sizeof text);
    memcpy(text + ADDRESS_TEXT - 4, ":80", 4);
    assert_null(address_find(text, false, error, sizeof error));
    assert_null(strstr(error, "is not HOST:PORT"));
    memcpy(text + ADDRESS_TEXT - 4, "x:80", 5);
    assert_null(address_find(text, false, error, sizeof error));
    assert_non_null(strstr(error, "is not HOST:PORT"));
}

/* Both ends of a connection to this machine, over TCP to an address. */
static bool connect_to(const char *text, int ends[2], unsigned *port) {
    struct addrinfo *found = address_find(text, true, error, sizeof error);
    struct sockaddr_storage name;
    socklen_t size = sizeof name;
    if (found == NULL)
        return false;
    int listening = socket(found->ai_family, SOCK_STREAM, 0);
    ends[0] = socket(found->ai_family, SOCK_STREAM, 0);
    bool good = bind(listening, found->ai_addr, found->ai_addrlen) == 0 && listen(listening, 1) == 0 &&
                getsockname(listening, (struct sockaddr *)&name, &size) == 0 &&
                connect(ends[0], (const struct sockaddr *)&name, size) == 0;
    ends[1] = good ? accept(listening, NULL, NULL) : -1;
    *port = ntohs(found->ai_family == AF_INET ? ((const struct sockaddr_in *)(const void *)&name)->sin_port
                                              : ((const struct sockaddr_in6 *)(const void *)&name)->sin6_port);
    close(listening);
    freeaddrinfo(found);
    return good;
}

static void assert_names(const char *format, unsigned port, int socket, bool expected) {
    char text[64];
    snprintf(text, sizeof text, format, port);
    if (address_names_socket(text, socket) != expected)
        fail_msg("%s: %d", text, !expected);
}

static void a_socket_has_names(void **state) {
    (void)state;
    static const char *const good[] = {"127.0.0.2:%u", "localhost:%u", "LOCALHOST:%u", "[127.0.0.2]:%u"};
    static const char *const bad[] = {
        "127.0.0.1:%u", "127.2:%u",      "2130706434:%u", "0.0.0.0:%u", "[::1]:%u", "127.0.0.2",     "localhost",
        ":%u",          "127.0.0.2:%u0", "example:%u",    "",           ":",        "localhost.:%u", "127.0.0.2:%u:%u0",
        "127.0.0.2:+%u"};
    int ends[2];
    unsigned port;
    assert_true(connect_to("127.0.0.2:0", ends, &port));
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_names(good[i], port, ends[1], true);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_names(bad[i], port, ends[1], false);
    assert_names("127.0.0.2:%u", port + 1, ends[1], false);
    close(ends[0]);
    close(ends[1]);
    if (connect_to("[::1]:0", ends, &port)) {
        assert_names("[::1]:%u", port, ends[1], true);
        assert_names("[0:0::1]:%u", port, ends[1], true);
        assert_names("localhost:%u", port, ends[1], true);
        assert_names("127.0.0.1:%u", port, ends[1], false);
        close(ends[1]);
    }
    close(ends[0]);
    assert_names("127.0.0.1:%u", 80, -1, false);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_has_names),
        cmocka_unit_test(numeric_addresses),
        cmocka_unit_test(no_host),
        cmocka_unit_test(texts_that_are_no_address),
        cmocka_unit_test(hosts_that_are_not_found),
        cmocka_unit_test(long_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
