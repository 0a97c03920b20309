/* schedule.c: sched_setattr(2), for which the C library has no function yet.
 */
#include "server/schedule.h"

#include <sched.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's struct sched_attr in its first version. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime; /* nanoseconds; of an ordinary thread its slice, 0: as the kernel likes */
    uint64_t deadline, period;
};
_Static_assert(sizeof(struct attributes) == 48, "as the kernel has it");

static const uint64_t loop_slice = 10000000;

static void set(uint32_t policy, uint64_t slice) {
    struct attributes attributes = {.size = sizeof attributes};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0 || attributes.policy != SCHED_OTHER)
        return;
    attributes.policy = policy;
    attributes.runtime = slice;
    (void)!syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void schedule_loop(void) {
    set(SCHED_OTHER, loop_slice);
}

/* Without a slice of its own: it has inherited the loop's. */
void schedule_scorer(void) {
    set(SCHED_BATCH, 0);
}
