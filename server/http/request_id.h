/* request_id.h: the name that a request goes by in answers, problems and the log. */
#ifndef SERVER_HTTP_REQUEST_ID_H
#define SERVER_HTTP_REQUEST_ID_H

enum { REQUEST_ID_MAX = 128 };

/* The client's own id, from its X-Request-Id, where it is 1 to REQUEST_ID_MAX letters, digits and -._~:/=+@,;|#; else
 * 128 random bits in hexadecimal. `given` may be NULL. */
void request_id_choose(const char *given, char id[REQUEST_ID_MAX + 1]);

#endif
