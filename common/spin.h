/*
 * Whether a thread that has nothing to do should look for more for a while before it sleeps. To fall asleep, to be woken
 * and to wake a CPU that has been halted takes 50 to 200 us, more than a small request does; but looking is worth it only
 * where what is waited for comes that soon. So it is learned from the waits before, as in a kernel's halt polling
 * (Linux, Documentation/virt/guest-halt-polling.rst).
 *
 * Belongs to the thread. Zero-initialise it.
 */
#ifndef STRAKE_COMMON_SPIN_H
#define STRAKE_COMMON_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#define SPIN_NS UINT64_C(100000) /* so long one looks */

struct spin {
	unsigned int quick; /* how many waits were short lately: up one by one, down several at a time */
};

bool spin_wanted(const struct spin *spin);

/* A wait is over; came: what was waited for, and not just a time. spun: it began with looking. */
void spin_learn(struct spin *spin, bool spun, bool came, uint64_t waited_ns);

#endif
