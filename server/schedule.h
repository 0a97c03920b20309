/* schedule.h: how the kernel shares processors among our threads. Each function is for the thread that calls it,
 * changes nothing where whoever started the process chose another policy than the ordinary one, and fails without a
 * word: what is lost then is a little time.
 */
#ifndef SERVER_SCHEDULE_H
#define SERVER_SCHEDULE_H

/* The event loop: time slices of 10 ms, where the kernel lets a thread ask for one (Linux 6.12). It works for some tens
 * of microseconds at a time. Once it has used up a slice, little by little, another thread may take the processor from
 * it in the middle of that, and keeps it until a tick of the clock, 4 ms at 250 a second, while answers wait. Longer
 * slices would keep it waiting where it takes half of a processor. */
void schedule_loop(void);

/* A scoring thread: woken on the loop's own processor it lets the loop read on, which then finds several jobs at once,
 * and the two change places less often. */
void schedule_scorer(void);

#endif
