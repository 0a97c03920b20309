/* notify.h: tells systemd what the server does: units of Type=notify are started when it is ready. */
#ifndef SERVER_BASE_NOTIFY_H
#define SERVER_BASE_NOTIFY_H

/* One message of sd_notify(3), as "READY=1", to the socket that NOTIFY_SOCKET names. Best effort, and never blocks;
 * without the variable nothing happens. */
void notify(const char *message);

#endif
