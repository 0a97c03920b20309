/* redis_address.c: the text of an address to its parts, and CRC16 (XMODEM) for hash slots. */
#include "server/histories/redis_address.h"

#include "proto/digits.h"
#include "server/base/file.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool bad(char *error, size_t size, const char *reason) {
    snprintf(error, size, "%s; an address is redis://[USER:PASSWORD@]HOST:PORT[/DB] or unix:PATH.", reason);
    return false;
}

/* Undoes %XX. False if the text does not fit or an escape is broken. */
static bool copy_decoded(const char *text, size_t length, char *out, size_t size) {
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        char letter = text[i];
        if (letter == '%') {
            int high = i + 2 < length ? digits_hex_value(text[i + 1]) : -1;
            int low = i + 2 < length ? digits_hex_value(text[i + 2]) : -1;
            if (high < 0 || low < 0 || high + low == 0)
                return false;
            letter = (char)(high * 16 + low);
            i += 2;
        }
        if (at + 1 >= size)
            return false;
        out[at++] = letter;
    }
    out[at] = '\0';
    return true;
}

static bool read_number(const char *text, long least, long most, int *number) {
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || value < least || value > most)
        return false;
    *number = (int)value;
    return true;
}

static bool read_login(const char *text, size_t length, struct redis_address *address) {
    const char *colon = memchr(text, ':', length);
    size_t user = colon != NULL ? (size_t)(colon - text) : 0;
    if (colon == NULL)
        return false;
    return copy_decoded(text, user, address->user, sizeof address->user) &&
           copy_decoded(colon + 1, length - user - 1, address->password, sizeof address->password);
}

/* HOST:PORT[/DB], where an IPv6 address stands in brackets. */
static bool read_place(const char *text, struct redis_address *address) {
    char copy[REDIS_HOST_MOST + 32];
    if (strlen(text) >= sizeof copy)
        return false;
    memcpy(copy, text, strlen(text) + 1);
    char *slash = strchr(copy, '/'), *colon = NULL, *host = copy;
    if (slash != NULL)
        *slash = '\0';
    if (slash != NULL && slash[1] != '\0' && !read_number(slash + 1, 0, 1 << 20, &address->database))
        return false;
    colon = strrchr(copy, ':');
    if (colon == NULL || !read_number(colon + 1, 1, 65535, &address->port))
        return false;
    *colon = '\0';
    if (*host == '[' && colon[-1] == ']') {
        colon[-1] = '\0';
        host++;
    }
    if (*host == '\0' || strlen(host) >= sizeof address->host)
        return false;
    memcpy(address->host, host, strlen(host) + 1);
    return true;
}

static bool read_password_file(const char *path, struct redis_address *address, char *error, size_t size) {
    char text[REDIS_SECRET_MOST];
    size_t length = file_read(path, text, sizeof text);
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r'))
        length--;
    if (length == 0) {
        snprintf(error, size, "The password file %s cannot be read, or is empty.", path);
        return false;
    }
    memcpy(address->password, text, length);
    address->password[length] = '\0';
    return true;
}

bool redis_address_read(const char *text, const char *password_file, struct redis_address *address, char *error,
                        size_t error_size) {
    static const char tcp[] = "redis://", unix_socket[] = "unix:";
    *address = (struct redis_address){.port = 0};
    if (strncmp(text, unix_socket, sizeof unix_socket - 1) == 0) {
        const char *path = text + sizeof unix_socket - 1;
        if (*path == '\0' || strlen(path) >= sizeof address->host)
            return bad(error, error_size, "The path of the socket is empty or too long");
        memcpy(address->host, path, strlen(path) + 1);
    } else if (strncmp(text, tcp, sizeof tcp - 1) == 0) {
        const char *place = text + sizeof tcp - 1, *at = strrchr(place, '@');
        if (at != NULL && !read_login(place, (size_t)(at - place), address))
            return bad(error, error_size, "USER:PASSWORD@ cannot be read; other characters are written as %XX");
        if (!read_place(at != NULL ? at + 1 : place, address))
            return bad(error, error_size, "HOST:PORT or the database's number cannot be read");
    } else {
        return bad(error, error_size, "The address begins otherwise");
    }
    return password_file == NULL || read_password_file(password_file, address, error, error_size);
}

unsigned redis_slot(struct proto_string key) {
    const char *open = memchr(key.data, '{', key.length);
    if (open != NULL) {
        const char *inside = open + 1, *end = key.data + key.length;
        const char *close = memchr(inside, '}', (size_t)(end - inside));
        if (close != NULL && close != inside)
            key = (struct proto_string){inside, (size_t)(close - inside)};
    }
    unsigned crc = 0;
    for (size_t i = 0; i < key.length; i++) {
        crc ^= (unsigned)(unsigned char)key.data[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 0x8000) != 0 ? (crc << 1 ^ 0x1021) & 0xFFFF : crc << 1 & 0xFFFF;
    }
    return crc % REDIS_SLOTS;
}
