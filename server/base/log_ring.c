/* log_ring.c: bytes between `head` and `tail` wait; the writer owns them until it moves `head`, so that it needs no
 * lock while it writes. Positions count from the start of the ring's life: they only grow.
 *
 * The writer may block in write(2) for ever, because O_NONBLOCK would change the descriptor for every process that
 * shares it. Nothing else in the process waits for the writer, and a stop waits for a bounded time.
 */
#include "server/base/log_ring.h"

#include "server/base/clock.h"
#include "server/base/thread.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum {
    FILE_BATCH = 65536,
    GATHER_NANOSECONDS = 5000000,  /* for other lines to join a write */
    PAUSE_NANOSECONDS = 100000000, /* after a write that failed */
    NEVER = 0,
};

struct log_ring {
    pthread_mutex_t mutex; /* of all below, except where the writer is named */
    pthread_cond_t filled; /* the writer waits */
    pthread_cond_t over;   /* log_ring_stop() waits */
    pthread_t thread;
    bool joined; /* the stopping thread's */
    int descriptor;
    size_t batch; /* bytes of one write, unless a single line is longer */
    log_notice *make_notice;

    size_t size;
    uint64_t head; /* the writer moves it */
    uint64_t tail;
    size_t wake_at; /* the writer sleeps until so many bytes wait; SIZE_MAX: it is not to be woken */
    bool stopping, ended;

    uint64_t dropped;
    uint64_t untold; /* dropped lines that no notice has told */
    uint64_t gap;    /* untold > 0: the place of their notice, never before head */

    bool torn;    /* the writer's: the last write ended within a line, the rest of which comes first */
    bool failing; /* the last write failed */
    /* The writer's: a notice on its way. It tells of `told` lines. */
    char notice[LOG_NOTICE_MOST];
    size_t notice_length, notice_written;
    uint64_t told;

    /* [2 * size]. A line is written in one piece: one that begins near the end of the ring reaches into the second
     * half, from where it is copied to the start. Memory that no line reached is never touched. */
    char bytes[];
};

static size_t waiting(const struct log_ring *ring) {
    return (size_t)(ring->tail - ring->head);
}

/* ---- Any thread. Under the lock a line is made or copied, and no more. */

static void count_dropped(struct log_ring *ring, uint64_t lines, uint64_t place) {
    if (lines > 0 && (ring->untold == 0 || place < ring->gap))
        ring->gap = place;
    ring->dropped += lines;
    ring->untold += lines;
}

char *log_ring_reserve(struct log_ring *ring, size_t most) {
    pthread_mutex_lock(&ring->mutex);
    bool fits = !ring->stopping && most <= ring->size - waiting(ring);
    if (fits)
        return ring->bytes + ring->tail % ring->size; /* with the lock */
    count_dropped(ring, 1, ring->tail);
    pthread_mutex_unlock(&ring->mutex);
    return NULL;
}

void log_ring_commit(struct log_ring *ring, size_t length) {
    size_t end = (size_t)(ring->tail % ring->size) + length;
    if (end > ring->size)
        memcpy(ring->bytes, ring->bytes + ring->size, end - ring->size);
    ring->tail += length;
    bool wake = waiting(ring) >= ring->wake_at;
    if (wake)
        ring->wake_at = SIZE_MAX; /* one wake-up, whoever comes before the writer is awake */
    pthread_mutex_unlock(&ring->mutex);
    if (wake)
        pthread_cond_signal(&ring->filled);
}

bool log_ring_put(struct log_ring *ring, const char *line, size_t length) {
    char *room = log_ring_reserve(ring, length);
    if (room == NULL)
        return false;
    memcpy(room, line, length);
    log_ring_commit(ring, length);
    return true;
}

uint64_t log_ring_dropped(struct log_ring *ring) {
    pthread_mutex_lock(&ring->mutex);
    uint64_t dropped = ring->dropped;
    pthread_mutex_unlock(&ring->mutex);
    return dropped;
}

/* ---- The writer. */

/* One write: the notice, then whole lines from head to end. */
struct batch {
    uint64_t head, end;
    struct iovec parts[3];
    int count;
};

static char byte_at(const struct log_ring *ring, uint64_t position) {
    return ring->bytes[position % ring->size];
}

/* The end of the last line that ends within `most` bytes of head, or else of the first line. */
static uint64_t end_of_lines(const struct log_ring *ring, uint64_t head, uint64_t tail, size_t most) {
    if (tail - head <= most)
        return tail;
    uint64_t end = head + most;
    while (end > head && byte_at(ring, end - 1) != '\n')
        end--;
    if (end > head)
        return end;
    for (end = head + most; end < tail && byte_at(ring, end - 1) != '\n';)
        end++;
    return end;
}

static uint64_t count_lines(const struct log_ring *ring, uint64_t head, uint64_t end) {
    uint64_t lines = 0;
    for (uint64_t at = head; at < end; at++)
        lines += byte_at(ring, at) == '\n';
    return lines;
}

static void add_part(struct batch *batch, char *data, size_t length) {
    if (length > 0)
        batch->parts[batch->count++] = (struct iovec){.iov_base = data, .iov_len = length};
}

/* Without the lock: of the ring it reads only bytes that are the writer's. */
static void fill_batch(struct log_ring *ring, struct batch *batch, uint64_t tail, uint64_t lost) {
    if (lost > 0 && ring->notice_length == 0) {
        ring->notice_length = ring->make_notice(lost, ring->notice);
        ring->told = lost;
    }
    size_t notice = ring->notice_length - ring->notice_written;
    add_part(batch, ring->notice + ring->notice_written, notice);
    batch->end = end_of_lines(ring, batch->head, tail, ring->batch - notice);
    size_t place = (size_t)(batch->head % ring->size), length = (size_t)(batch->end - batch->head);
    size_t first = length < ring->size - place ? length : ring->size - place;
    add_part(batch, ring->bytes + place, first);
    add_part(batch, ring->bytes, length - first);
}

/* One write(2), again when a signal came between. A descriptor that its other owners made non-blocking is waited for.
 * 0 or less: it failed. */
static ssize_t write_batch(const struct log_ring *ring, const struct batch *batch) {
    ssize_t written = 0;
    do {
        written = writev(ring->descriptor, batch->parts, batch->count);
        if (written < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = ring->descriptor, .events = POLLOUT}, 1, -1);
    } while (written < 0 && (errno == EINTR || errno == EAGAIN));
    return written;
}

/* What was written leaves the ring; the next batch goes on behind it. */
static void settle(struct log_ring *ring, size_t written) {
    size_t notice = ring->notice_length - ring->notice_written;
    notice = written < notice ? written : notice;
    ring->notice_written += notice;
    if (ring->notice_length > 0 && ring->notice_written == ring->notice_length) {
        ring->untold -= ring->told;
        ring->gap = ring->tail; /* of lines dropped since the notice was made */
        ring->notice_length = ring->notice_written = 0;
    }
    uint64_t lines = written - notice;
    if (lines > 0)
        ring->torn = byte_at(ring, ring->head + lines - 1) != '\n';
    ring->head += lines;
    if (ring->gap < ring->head)
        ring->gap = ring->head; /* make_notice() gave no text: the notice is tried again behind these lines */
}

/* Lines that the descriptor refuses are dropped. But one that is half written must be ended before anything else, or
 * the next would be glued to it: then all wait. */
static void drop_batch(struct log_ring *ring, const struct batch *batch, uint64_t lines) {
    if (ring->torn || ring->notice_written > 0)
        return;
    ring->notice_length = 0;
    ring->head = batch->end;
    count_dropped(ring, lines, ring->head);
    if (ring->gap < ring->head) /* a second batch is lost behind one that has not been told */
        ring->gap = ring->head;
}

/* Takes the lock for the state before and after a write, not for the write. */
static bool write_some(struct log_ring *ring) {
    bool at_gap = ring->untold > 0 && ring->gap == ring->head;
    struct batch batch = {.head = ring->head};
    uint64_t tail = ring->untold > 0 && !at_gap ? ring->gap : ring->tail;
    uint64_t lost = at_gap ? ring->untold : 0;
    pthread_mutex_unlock(&ring->mutex);

    fill_batch(ring, &batch, tail, lost);
    ssize_t written = write_batch(ring, &batch);
    uint64_t lines = written > 0 ? 0 : count_lines(ring, batch.head, batch.end);

    pthread_mutex_lock(&ring->mutex);
    ring->failing = written <= 0;
    if (ring->failing)
        drop_batch(ring, &batch, lines);
    else
        settle(ring, (size_t)written);
    return !ring->failing;
}

/* Until so many bytes wait, or the time is up, or the ring is stopped; it may also return for no reason. */
static void sleep_until(struct log_ring *ring, size_t bytes, uint64_t nanoseconds) {
    ring->wake_at = bytes;
    if (nanoseconds == NEVER) {
        pthread_cond_wait(&ring->filled, &ring->mutex);
    } else {
        struct timespec limit = clock_timespec(clock_now() + nanoseconds);
        pthread_cond_timedwait(&ring->filled, &ring->mutex, &limit);
    }
    ring->wake_at = SIZE_MAX;
}

/* While writes fail a notice alone is not tried: it goes with the next lines. */
static bool has_work(const struct log_ring *ring) {
    return waiting(ring) > 0 || (ring->untold > 0 && !ring->failing);
}

/* False: the ring is stopped and nothing is left. Lines are gathered under load, too: a write for each few lines would
 * take its time from those who make them. */
static bool wait_for_work(struct log_ring *ring) {
    while (!has_work(ring) && !ring->stopping)
        sleep_until(ring, 1, NEVER);
    if (!ring->stopping && waiting(ring) < ring->batch)
        sleep_until(ring, ring->size / 2, GATHER_NANOSECONDS);
    return has_work(ring);
}

static void *run(void *argument) {
    struct log_ring *ring = argument;
    pthread_mutex_lock(&ring->mutex);
    while (wait_for_work(ring)) {
        bool good = write_some(ring);
        if (!good && ring->stopping)
            break;
        if (!good)
            sleep_until(ring, SIZE_MAX, PAUSE_NANOSECONDS);
    }
    ring->ended = true;
    pthread_cond_signal(&ring->over);
    pthread_mutex_unlock(&ring->mutex);
    return NULL;
}

/* ---- Start and stop. */

/* Only to a file may writes be long: processes that share a pipe do not mix writes of up to PIPE_BUF bytes. */
static size_t batch_size(int descriptor) {
    struct stat status;
    return fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) ? FILE_BATCH : PIPE_BUF;
}

struct log_ring *log_ring_start(int descriptor, size_t bytes, log_notice *notice) {
    struct log_ring *ring = malloc(sizeof *ring + 2 * bytes); /* of which pages are used as lines come */
    if (ring == NULL)
        return NULL;
    *ring = (struct log_ring){.descriptor = descriptor,
                              .batch = batch_size(descriptor),
                              .make_notice = notice,
                              .size = bytes,
                              .wake_at = SIZE_MAX};
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&ring->mutex, NULL);
    pthread_cond_init(&ring->filled, &monotonic);
    pthread_cond_init(&ring->over, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!thread_start(&ring->thread, "log", run, ring)) {
        free(ring);
        return NULL;
    }
    return ring;
}

void log_ring_stop(struct log_ring *ring, double seconds) {
    struct timespec limit = clock_timespec(clock_now() + clock_from_seconds(seconds));
    int status = 0;
    pthread_mutex_lock(&ring->mutex);
    ring->stopping = true;
    pthread_cond_signal(&ring->filled);
    while (!ring->ended && status == 0)
        status = pthread_cond_timedwait(&ring->over, &ring->mutex, &limit);
    bool ended = ring->ended;
    pthread_mutex_unlock(&ring->mutex);
    if (ended && !ring->joined) {
        pthread_join(ring->thread, NULL);
        ring->joined = true;
    }
}

void log_ring_free(struct log_ring *ring) {
    if (!ring->joined)
        pthread_join(ring->thread, NULL);
    pthread_cond_destroy(&ring->filled);
    pthread_cond_destroy(&ring->over);
    pthread_mutex_destroy(&ring->mutex);
    free(ring);
}
