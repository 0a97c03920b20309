/* notify.h: tells systemd what the server does: units of Type=notify are started when it is ready. */
#ifndef SERVER_BASE_NOTIFY_H
#define SERVER_BASE_NOTIFY_H

/* One message of sd_notify(3), as "READY=1", to the socket that NOTIFY_SOCKET names. Best effort, and never blocks;
 * without the variable nothing happens. */
void notify(const char *message);
/* A reload begins; "READY=1" ends it, whether or not it succeeded. */
void notify_reloading(void);
/* The event loop turns. Call it a few times a second; it sends four datagrams in the period of WATCHDOG_USEC. */
void notify_alive(void);

#endif
