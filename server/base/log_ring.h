/* log_ring.h: lines on their way to a descriptor. Any thread puts them in, one thread of the ring's own writes them.
 *
 * A put never waits for the descriptor: when the ring is full the line is dropped and counted. Once there is room
 * again, a notice in the place of the lost lines says how many they were.
 */
#ifndef SERVER_BASE_LOG_RING_H
#define SERVER_BASE_LOG_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct log_ring;

/* Writes a line about `lost` lines, with its line end, and returns its length; 0: no line. Called by the writer. */
enum { LOG_NOTICE_MOST = 256 };
typedef size_t log_notice(uint64_t lost, char text[LOG_NOTICE_MOST]);

/* Starts the writer. The descriptor stays the caller's. NULL with errno set: no memory, or no thread. */
struct log_ring *log_ring_start(int descriptor, size_t bytes, log_notice *notice);

/* Room for a line of up to `most` bytes, to be written by the caller and then committed with its length, at once: other
 * threads that have a line wait meanwhile. A line's only line end is its last byte. NULL: there is no room, the line is
 * counted as dropped, and there is nothing to commit. */
char *log_ring_reserve(struct log_ring *ring, size_t most);
void log_ring_commit(struct log_ring *ring, size_t length);

/* Copies one line. False: it was dropped and counted. */
bool log_ring_put(struct log_ring *ring, const char *line, size_t length);

/* The lines that were dropped for lack of room, and those that the descriptor refused. */
uint64_t log_ring_dropped(struct log_ring *ring);

/* Writes what is left, for at most `seconds`, and ends the writer. One that is still in its write(2) then is left
 * behind. Other threads may go on putting lines: these are dropped. One thread at a time may stop a ring. */
void log_ring_stop(struct log_ring *ring, double seconds);

/* After log_ring_stop(). Waits for a writer that was left behind: its descriptor must be read, or closed by its reader.
 */
void log_ring_free(struct log_ring *ring);

#endif
