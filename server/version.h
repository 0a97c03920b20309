/* version.h: the server's own version, as --version and the metrics show it. */
#ifndef SERVER_VERSION_H
#define SERVER_VERSION_H

#define SERVER_VERSION "0.1.0"

#endif
