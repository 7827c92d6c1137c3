#include "client/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

/* Fields of /proc/PID/stat: the name may hold spaces and brackets, so what counts begins behind the last bracket. */
static int stat_parse(const char *stat, bool *ret_ended, uint64_t *ret_starttime)
{
	const char *rest = strrchr(stat, ')');
	unsigned long long starttime;
	long threads;
	char state;

	/* state is field 3, num_threads field 20, starttime field 22 */
	if (!rest ||
	    sscanf(rest + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %ld %*s %llu", &state,
		   &threads, &starttime) != 3)
		return -EINVAL;
	/* A first thread that has ended before the others is a zombie too; the process still holds its files and ports. */
	*ret_ended = (state == 'Z' || state == 'X') && threads <= 1;
	*ret_starttime = starttime;
	return 0;
}

int process_identify(pid_t pid, struct process *ret_process)
{
	char path[64], stat[1024];
	uint64_t starttime;
	bool ended;
	size_t length;
	FILE *file;

	if (pid <= 0)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT ? -ESRCH : -errno;
	length = fread(stat, 1, sizeof(stat) - 1, file);
	fclose(file);
	stat[length] = '\0';
	if (stat_parse(stat, &ended, &starttime) < 0 || ended)
		return -ESRCH;
	*ret_process = (struct process){ .pid = pid, .starttime = starttime };
	return 0;
}

bool process_is_alive(const struct process *process)
{
	struct process now;

	int err = process_identify(process->pid, &now);

	return err == 0 ? now.starttime == process->starttime : err != -ESRCH; /* who cannot look says yes */
}

bool process_is_doomed(const struct process *process)
{
	unsigned long long pending = 0;
	char path[64], line[256];
	FILE *file;

	/* A signal for the whole process stays in that set until it is taken, and SIGKILL is never taken. */
	snprintf(path, sizeof(path), "/proc/%d/status", (int)process->pid);
	file = fopen(path, "re");
	if (!file)
		return false;
	while (fgets(line, sizeof(line), file) && sscanf(line, "ShdPnd: %llx", &pending) != 1)
		;
	fclose(file);
	return (pending >> (SIGKILL - 1) & 1) != 0 && process_is_alive(process);
}

/* The descriptor first, then the question who it is: in between the pid cannot change hands any more. */
static int process_open(const struct process *process, int *ret_pidfd)
{
	int pidfd;

	if (process->pid <= 0)
		return -ESRCH;
	pidfd = pidfd_open(process->pid, 0);
	if (pidfd < 0)
		return -errno;
	if (!process_is_alive(process)) {
		close(pidfd);
		return -ESRCH;
	}
	*ret_pidfd = pidfd;
	return 0;
}

int process_signal(const struct process *process, int signal)
{
	int pidfd, err = process_open(process, &pidfd);

	if (err)
		return err;
	if (pidfd_send_signal(pidfd, signal, NULL, 0) < 0)
		err = -errno;
	close(pidfd);
	return err;
}

int process_wait(const struct process *process, int timeout_ms)
{
	struct pollfd poller = { .events = POLLIN };
	int count, err = process_open(process, &poller.fd);

	if (err)
		return err == -ESRCH ? 0 : err;
	do {
		count = poll(&poller, 1, timeout_ms);
	} while (count < 0 && errno == EINTR);
	err = count > 0 ? 0 : count == 0 ? -ETIMEDOUT : -errno;
	close(poller.fd);
	return err;
}
