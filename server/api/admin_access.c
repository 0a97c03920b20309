/* admin_access.c: the rules of the admin plane's door.
 *
 * On loopback the danger is a web page: its browser runs on this machine, and may be led here by a name that the page's
 * owner points at 127.0.0.1. Such a request names that owner's host, and has the page's Origin.
 */
#include "server/api/admin_access.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

bool admin_access_renew(struct admin_access *access, char *error, size_t error_size) {
    char reason[300];
    if (access->token_file == NULL || secret_read(&access->token, access->token_file, reason, sizeof reason))
        return true;
    snprintf(error, error_size, "--admin-token-file: %s", reason);
    return false;
}

bool admin_access_start(struct admin_access *access, const struct listen_socket *listening, const char *listen,
                        const char *host, const char *token_file, char *error, size_t error_size) {
    *access = (struct admin_access){
        .token_file = token_file, .listen = listen, .host = host, .is_file = listening->path != NULL};
    if (token_file == NULL && !address_is_loopback(listening->address)) {
        snprintf(error, error_size,
                 "--admin-token-file: a token is needed, because other machines can reach --admin-listen %s", listen);
        return false;
    }
    return admin_access_renew(access, error, error_size);
}

/* Whether a text HOST:PORT names this admin plane. */
static bool is_own_host(const struct admin_access *access, const struct exchange *exchange, const char *text) {
    return !access->is_file &&
           (strcasecmp(text, access->listen) == 0 || (access->host != NULL && strcasecmp(text, access->host) == 0) ||
            address_names_socket(text, exchange->socket));
}

/* "http://HOST:PORT/path" names its host in place of Host (RFC 9112, section 3.2.2), and nobody needs that here. */
static bool has_own_host(const struct admin_access *access, const struct exchange *exchange, const char *target) {
    const char *host = http_header(exchange, "Host");
    return access->is_file || (*target == '/' && host != NULL && is_own_host(access, exchange, host));
}

static bool has_foreign_origin(const struct admin_access *access, const struct exchange *exchange) {
    static const char *const schemes[] = {"http://", "https://"}; /* a proxy may have taken off the TLS */
    const char *origin = http_header(exchange, "Origin");
    for (size_t i = 0; origin != NULL && i < sizeof schemes / sizeof *schemes; i++) {
        size_t length = strlen(schemes[i]);
        if (strncasecmp(origin, schemes[i], length) == 0 && is_own_host(access, exchange, origin + length))
            return false;
    }
    return origin != NULL;
}

void admin_access_check(const struct admin_access *access, const struct exchange *exchange, const char *target,
                        struct problem *problem) {
    bool needs_host = access->token_file == NULL || routes_changes_state(exchange->method);
    if (access->token_file != NULL && !secret_is_borne(&access->token, http_header(exchange, "Authorization")))
        problem_set(problem, PROBLEM_UNAUTHORIZED, "", "The admin plane takes requests with the token of its file.");
    else if (needs_host && !has_own_host(access, exchange, target))
        problem_set(problem, PROBLEM_FOREIGN_CALL, "", "Host must be the address of the admin plane.");
    else if (has_foreign_origin(access, exchange))
        problem_set(problem, PROBLEM_FOREIGN_CALL, "", "Origin names another site.");
}
