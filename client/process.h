/*
 * Processes by more than their number: a pid is used again, a pid with the time its process started is not. Whoever
 * keeps a process on file keeps both and asks here. A zombie whose threads have all ended counts
 * as gone.
 */
#ifndef STRAKE_CLIENT_PROCESS_H
#define STRAKE_CLIENT_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process {
	pid_t pid;
	uint64_t starttime; /* clock ticks since boot */
};

/* -ESRCH: there is none, or it has ended. */
int process_identify(pid_t pid, struct process *ret_process);
bool process_is_alive(const struct process *process);
/* Alive, but SIGKILL is on its way: it will not run again, though it may hold what it holds for a while. */
bool process_is_doomed(const struct process *process);

/* Signal this process and no other. -ESRCH, -EPERM. */
int process_signal(const struct process *process, int signal);
/* Wait for its end; timeout_ms < 0: for ever. 0, -ETIMEDOUT. */
int process_wait(const struct process *process, int timeout_ms);

#endif
