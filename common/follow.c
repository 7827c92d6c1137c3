#include "common/follow.h"

#include "common/loop.h"

#include <time.h>

#define BUSY_PERCENT   70
#define FEW_PERCENT    10
#define SMALL_BYTES    (32 * 1024)         /* on average */
#define PAUSE_MAX_NSEC (4 * NSEC_PER_MSEC) /* between two requests, on average */

uint64_t follow_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

static void window_begin(struct follow *follow)
{
	follow->began_ns = clock_ns();
	follow->cpu_ns = follow_cpu_ns();
	follow->whom = follow->bytes = follow->at_ns = 0;
	follow->requests = follow->others = follow->together = 0;
}

void follow_begin(struct follow *follow)
{
	if (sched_getaffinity(0, sizeof(follow->cpus), &follow->cpus) < 0)
		CPU_ZERO(&follow->cpus); /* more CPUs than a cpu_set_t has: it follows nobody */
	follow->cpu = -1;
	window_begin(follow);
}

bool follow_note(struct follow *follow, uint64_t whom, uint64_t bytes, uint64_t now_ns)
{
	if (whom != 0) {
		if (follow->whom == 0)
			follow->whom = whom;
		follow->others += whom != follow->whom;
		follow->together += now_ns == follow->at_ns;
		follow->at_ns = now_ns;
	}
	follow->bytes += bytes;
	return ++follow->requests >= FOLLOW_WINDOW || now_ns > follow->began_ns + FOLLOW_WINDOW_MS * NSEC_PER_MSEC;
}

struct follow_verdict follow_judge(const struct follow *follow, uint64_t now_ns, uint64_t cpu_ns)
{
	uint64_t took_ns = now_ns - follow->began_ns;
	bool busy = (cpu_ns - follow->cpu_ns) * 100 > took_ns * BUSY_PERCENT;
	bool alone = (follow->others + follow->together) * 100 <= follow->requests * FEW_PERCENT;
	bool small = follow->bytes <= (uint64_t)follow->requests * SMALL_BYTES;
	bool quick = took_ns <= follow->requests * PAUSE_MAX_NSEC;

	return (struct follow_verdict){
		.whom = alone && small && quick && !busy ? follow->whom : 0,
		.busy = busy,
	};
}

void follow_to(struct follow *follow, int cpu)
{
	cpu_set_t only;

	if (cpu >= CPU_SETSIZE || cpu < 0 || !CPU_ISSET((size_t)cpu, &follow->cpus))
		cpu = -1;
	if (cpu != follow->cpu) {
		CPU_ZERO(&only);
		if (cpu >= 0)
			CPU_SET((size_t)cpu, &only);
		if (sched_setaffinity(0, sizeof(only), cpu >= 0 ? &only : &follow->cpus) == 0)
			follow->cpu = cpu;
	}
	window_begin(follow);
}
