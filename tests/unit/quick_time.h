/*
 * Deadlines without the waiting: while a loop has nothing to do until its next timer, the clock goes QUICK_TIMES as fast. So a test
 * of what happens after seconds lasts a part of them, and its bounds are still compared with the clock that the code goes by.
 * (Check's seconds of a test are that clock's, too.)
 *
 *   - While anything runs the clock is the machine's: a busy machine takes no more of a bound than it would otherwise.
 *   - A wait takes no more of it than its timer was set to, and what is ready counts before what is due, as always.
 *   - For one loop whose peers are all on it. Who waits for other threads, a device or a disk, or measures the machine, calls
 *     quick_time_off() first. A thread that only connects (common/rdma/connect.c) is slower by that clock, by what it takes to run.
 *
 * It stands in the place of two of the C library's calls; where the kernel has no epoll_pwait2() all lasts as long as it says.
 */
#ifndef STRAKE_TESTS_QUICK_TIME_H
#define STRAKE_TESTS_QUICK_TIME_H

#include "common/loop.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define QUICK_TIMES 10

static bool quick_is_off;
static _Atomic uint64_t quick_ahead_ns; /* of the machine's clock; who connects in a thread reads it, too */

static inline void quick_time_off(void)
{
	quick_is_off = true;
}

static inline uint64_t quick_ns_of(const struct timespec *time)
{
	return (uint64_t)time->tv_sec * NSEC_PER_SEC + (uint64_t)time->tv_nsec;
}

static inline struct timespec quick_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_nsec = (long)(ns % NSEC_PER_SEC) };
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int n = (int)syscall(SYS_clock_gettime, clock, time);

	if (n == 0 && clock == CLOCK_MONOTONIC)
		*time = quick_timespec(quick_ns_of(time) + quick_ahead_ns);
	return n;
}

int epoll_pwait2(int fd, struct epoll_event *events, int max, const struct timespec *timeout, const sigset_t *mask)
{
	uint64_t asked_ns, began_ns, waited_ns, passed_ns;
	struct timespec shorter;
	int n;

	assert(mask == NULL);
	if (timeout == NULL || quick_is_off)
		return (int)syscall(SYS_epoll_pwait2, fd, events, max, timeout, NULL, 0);
	asked_ns = quick_ns_of(timeout);
	shorter = quick_timespec(asked_ns / QUICK_TIMES);
	began_ns = clock_ns();
	n = (int)syscall(SYS_epoll_pwait2, fd, events, max, &shorter, NULL, 0);
	if (n < 0)
		return n;
	waited_ns = clock_ns() - began_ns;
	passed_ns = waited_ns * QUICK_TIMES;
	if (n == 0 || passed_ns > asked_ns)
		passed_ns = asked_ns;
	if (passed_ns > waited_ns)
		quick_ahead_ns += passed_ns - waited_ns;
	return n;
}

#endif
