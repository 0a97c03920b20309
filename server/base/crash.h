/* crash.h: a fault of memory says in the log why the process ends. */
#ifndef SERVER_BASE_CRASH_H
#define SERVER_BASE_CRASH_H

/* Seconds for the log line and the stack trace. If nobody reads a full standard error, SIGALRM then ends the process.
 */
enum { CRASH_SECONDS = 2 };
/* The exit status after SIGBUS at the mapping of a file: it was truncated, or cannot be read any more. */
enum { CRASH_FILE_STATUS = 3 };

/* From here on SIGBUS and SIGSEGV leave a line in the log. SIGBUS at a file's mapping has the event "file-lost" with
 * the file's name, and ends the process with CRASH_FILE_STATUS. Any other has the event "crash" and a stack trace, and
 * then ends the process as it would have without this. Once a process. */
void crash_install(void);

#endif
