/* version.h: the server's own version, as --version and the metrics show it. */
#ifndef SERVER_BASE_VERSION_H
#define SERVER_BASE_VERSION_H

#define SERVER_VERSION "0.1.0"

#endif
