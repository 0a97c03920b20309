/* version.h: the server's version, shown by --version and in the metrics. */
#ifndef SERVER_BASE_VERSION_H
#define SERVER_BASE_VERSION_H

#define SERVER_VERSION "0.1.0"

#endif
