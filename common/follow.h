/*
 * A thread that serves one other at a time, question and answer by turns, runs on the CPU of the one it serves: it is idle
 * while the other one runs, and a wake-up across CPUs costs several times what a small request does. Whom that is, and
 * whether there is such a one, is judged by windows of FOLLOW_WINDOW requests.
 *
 * Belongs to the thread.
 */
#ifndef STRAKE_COMMON_FOLLOW_H
#define STRAKE_COMMON_FOLLOW_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#define FOLLOW_WINDOW    64
#define FOLLOW_WINDOW_MS 250 /* or what came in this time: who starves on another's CPU does not stay there for long */

struct follow {
	cpu_set_t cpus; /* where the thread may run */
	int cpu;        /* where it does; -1: on any of them */

	/* The window. */
	uint64_t began_ns, cpu_ns;               /* CLOCK_MONOTONIC; what the thread had used of its CPU */
	uint64_t whom;                           /* the first one; 0: none yet */
	uint64_t bytes, at_ns;                   /* at_ns: of the last request */
	unsigned int requests, others, together; /* others: not whom's; together: with another, in one iteration */
};

struct follow_verdict {
	uint64_t whom; /* is served alone, small requests, one after the other; 0: there is no such one */
	bool busy;     /* the thread ran most of the time: it may be what the others wait for */
};

void follow_begin(struct follow *follow); /* on the thread */

/*
 * A request that moves so many bytes has come from `whom` (0: does not matter) in the loop's iteration of now_ns. True:
 * the window is full, judge it and then call follow_to().
 */
bool follow_note(struct follow *follow, uint64_t whom, uint64_t bytes, uint64_t now_ns);

/* Times are those of now. */
struct follow_verdict follow_judge(const struct follow *follow, uint64_t now_ns, uint64_t cpu_ns);

/* CLOCK_THREAD_CPUTIME_ID */
uint64_t follow_cpu_ns(void);

/* Run on that CPU only (-1, or none of ours: on any), and begin a new window. */
void follow_to(struct follow *follow, int cpu);

#endif
